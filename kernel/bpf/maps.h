/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The maps, counting and events. */
#ifndef _IST_BPF_MAPS_H
#define _IST_BPF_MAPS_H

#include <bpf/bpf_helpers.h>
#include <linux/if_ether.h>

#include "splice.h"

/* User space may set others before it loads the object. */
#define IST_MOST_SPLICES	524288
#define IST_MOST_CELLS		65536
#define IST_MOST_ALLOCS		65536
#define IST_MOST_LOCALS		4096
#define IST_MOST_SLOTS		65536
/* Datagrams whose fragments are on their way. */
#define IST_MOST_FRAGMENTED	4096
#define IST_EVENT_BYTES		(1 << 20)

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, IST_MOST_LOCALS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ist_addr);
	__type(value, __u32);
} ist_locals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * IST_MOST_CELLS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ist_bpf_port_key);
	__type(value, struct ist_bpf_port);
} ist_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 4 * IST_MOST_ALLOCS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ist_bpf_source);
	__type(value, __u32);
} ist_sources SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, IST_MOST_ALLOCS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct ist_bpf_alloc);
} ist_allocs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} ist_revision SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, IST_MOST_ALLOCS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct ist_bpf_usage);
} ist_usage SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, IST_MOST_CELLS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ist_bpf_cell_key);
	__type(value, struct ist_bpf_cell);
} ist_cells SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, IST_MOST_SLOTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ist_bpf_receiver_key);
	__type(value, __u64);
} ist_receivers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * IST_MOST_SPLICES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ist_tuple);
	__type(value, struct ist_bpf_flow);
} ist_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, IST_MOST_SPLICES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct ist_bpf_splice);
} ist_splices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, IST_MOST_FRAGMENTED);
	__type(key, struct ist_bpf_fragment_key);
	__type(value, struct ist_bpf_flow);
} ist_fragments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ist_bpf_totals);
} ist_totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ist_bpf_counters);
} ist_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, IST_EVENT_BYTES);
} ist_events SEC(".maps");

enum ist_fragment {
	IST_WHOLE,
	/* with the ports, and those that follow it without them */
	IST_FIRST_FRAGMENT,
	IST_LATER_FRAGMENT,
};

/* How far a frame was changed into what the other leg's end gets. */
enum ist_form {
	IST_AS_IT_CAME,
	IST_IN_BETWEEN,
	IST_AS_IT_GOES,
};

/**
 * struct ist_packet - a frame with TCP or UDP
 * @tuple: of its leg
 * @length: from the header behind IP's on
 * @id: of a fragment
 * @v6: IPv6
 * @fragment: enum ist_fragment
 * @form: enum ist_form
 * @hops: that it may still take
 * @copied: copies of it go out, and the frame is at hand again afterwards
 */
struct ist_packet {
	struct ist_tuple tuple;
	__u32 length;
	__u32 id;
	bool v6;
	__u8 fragment;
	__u8 form;
	__u8 hops;
	bool copied;
};

/**
 * struct ist_fanout - a datagram on its way to all receivers
 * @key: of the slot that is looked at
 * @flow: of the splice there
 * @first: slot whose receiver gets the frame itself
 * @slots: how many there are
 */
struct ist_fanout {
	struct ist_bpf_receiver_key key;
	struct ist_bpf_flow flow;
	__u32 first;
	__u32 slots;
};

/*
 * What is too large for a program's stack of 512 bytes. Programs of one CPU do
 * not interrupt each other: they run with softirqs off.
 */
struct ist_scratch {
	/* A struct ist_bpf_splice: locks must not be in maps of this kind. */
	__u64 splice[sizeof(struct ist_bpf_splice) / sizeof(__u64)];
	struct bpf_fib_lookup fib;
	struct ist_bpf_fragment_key fragment;
	struct ist_packet packet;
	struct ist_fanout fanout;
	struct ist_bpf_command command;
	struct ist_bpf_waiting pair[IST_SIDES];
	struct ist_offer offer;
	struct ist_bpf_event event;
	__u8 options[IST_TCP_OPTIONS_BUFFER];
	__u8 ip[40];
	/* Of a frame that is copied, as it came. */
	__u8 head[ETH_HLEN + 40 + 8];
	__u8 before[IST_TCP_HEADER_BYTES + IST_TCP_OPTIONS_BUFFER];
	__u8 after[48];
	struct ist_tuple quoted;
	/* How long the header behind IP's is. */
	__u32 header;
	__u32 route_mtu;
	/* Of the neighbour to which the packet goes. */
	bool ask;
	struct ist_bpf_way way;
	/* Senders that were told of their packets since then, in nanoseconds. */
	__u64 told_since;
	__u64 told;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ist_scratch);
} ist_scratches SEC(".maps");

/*
 * Nanoseconds, exact to a tick: what is timed here are tenths of seconds, and a
 * clock that is exact costs each packet as much as a look-up.
 */
static __always_inline __u64 ist_now(void)
{
	return bpf_ktime_get_coarse_ns();
}

static __always_inline struct ist_scratch *ist_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ist_scratches, &zero);
}

static __always_inline struct ist_bpf_totals *ist_totals_now(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ist_totals, &zero);
}

static __always_inline __u32 ist_revision_now(void)
{
	__u32 zero = 0, *revision;

	revision = bpf_map_lookup_elem(&ist_revision, &zero);
	return revision ? *revision : 0;
}

static __always_inline struct ist_bpf_counters *ist_counters_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ist_counters, &zero);
}

static __always_inline void ist_count_dropped(enum ist_reason reason)
{
	struct ist_bpf_counters *counters = ist_counters_here();

	if (counters && (__u32)reason < __IST_REASON_COUNT)
		counters->dropped[reason]++;
}

static __always_inline void ist_count_ended(__u32 reason)
{
	struct ist_bpf_counters *counters = ist_counters_here();

	if (counters && reason < __IST_REASON_COUNT)
		counters->ended[reason]++;
}

static __always_inline void ist_count_halves(__s32 change)
{
	struct ist_bpf_totals *totals = ist_totals_now();

	if (totals)
		__sync_fetch_and_add(&totals->halves, change);
}

static __always_inline void ist_count_live(__u64 alloc, __u8 proto,
					   __s32 change)
{
	struct ist_bpf_totals *totals = ist_totals_now();
	struct ist_bpf_usage *usage = bpf_map_lookup_elem(&ist_usage, &alloc);

	if (usage)
		__sync_fetch_and_add(&usage->live, change);
	if (!totals)
		return;
	__sync_fetch_and_add(&totals->live, change);
	if (proto == IPPROTO_UDP)
		__sync_fetch_and_add(&totals->live_udp, change);
}

static __always_inline void ist_tell(const struct ist_bpf_event *event)
{
	struct ist_bpf_counters *counters;

	if (!bpf_ringbuf_output(&ist_events, (void *)event, sizeof(*event), 0))
		return;
	counters = ist_counters_here();
	if (counters)
		counters->lost++;
}

static __always_inline void ist_tell_half(struct ist_bpf_event *event,
					  const struct ist_bpf_cell_key *cell,
					  const struct ist_tuple *tuple,
					  __u32 side, enum ist_reason reason)
{
	__builtin_memset(event, 0, sizeof(*event));
	event->alloc = cell->alloc;
	event->cell = cell->cell;
	event->kind = IST_BPF_EVENT_HALF;
	event->proto = tuple->proto;
	event->side = side;
	event->reason = reason;
	event->tuple = *tuple;
	ist_tell(event);
}

/* @unanswered: sides, as bits, whose SYN-ACK is user space's affair */
static __always_inline void ist_tell_splice(struct ist_bpf_event *event,
					    __u64 id,
					    const struct ist_bpf_splice *splice,
					    __u32 unanswered)
{
	__builtin_memset(event, 0, sizeof(*event));
	event->splice = id;
	event->alloc = splice->alloc;
	event->cell = splice->cell;
	event->kind = IST_BPF_EVENT_SPLICE;
	event->proto = splice->proto;
	event->state = splice->tcp.state;
	event->reason = splice->reason;
	event->mode = splice->mode;
	event->unanswered = unanswered;
	event->dead = splice->dead;
	ist_tell(event);
}

#endif /* _IST_BPF_MAPS_H */
