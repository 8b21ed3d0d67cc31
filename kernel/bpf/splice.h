/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the maps hold, for the program and for who controls it. User space reads
 * the shapes from the object's BTF.
 *
 *   locals     our addresses: nothing else is taken away from the host
 *   ports      (local port, remote port or 0 for any) -> a cell's side
 *   sources    prefixes from which legs of an allocation's side are expected
 *   allocs     what an allocation is held to; user space alone writes it
 *   revision   of allocs; user space counts it on behind each change
 *   usage      what it has used; the program alone writes it
 *   cells      who waits; under the cell's lock
 *   receivers  slots of a fan-out's receivers -> splices
 *   flows      legs of splices by tuple
 *   fragments  to which flow the fragments of a datagram belong
 *   splices    two legs that met; the connection is under the splice's lock
 *   totals     of now; counters of all packets are per CPU
 *   events     what happened
 *
 * User space changes cells and splices by running a program (struct
 * ist_bpf_command), so that the rules about locks and counters stand in one
 * place. A splice leaves the maps when user space ends it.
 */
#ifndef _IST_BPF_SPLICE_H
#define _IST_BPF_SPLICE_H

#include <linux/bpf.h>

#include "../core/core.h"

#define IST_PROTOS	2
#define IST_SIDES	2

#define IST_LOOPBACK	1

/**
 * struct ist_bpf_way - a frame's way to the remote end of a leg
 * @ifindex: out of which interface; 0: not known
 * @to: hardware address
 * @from: hardware address
 */
struct ist_bpf_way {
	__u32 ifindex;
	__u8 to[6];
	__u8 from[6];
};

/**
 * struct ist_bpf_port - one side of a cell
 * @alloc: whose it is
 * @cell: its number
 * @side: 0 or 1
 */
struct ist_bpf_port {
	__u64 alloc;
	__u32 cell;
	__u32 side;
};

struct ist_bpf_port_key {
	__be16 local;
	__be16 remote;
};

/**
 * struct ist_bpf_source - a key of the prefix trie
 * @bits: that count, from @side on: 96 and those of the address
 * @side: 0 or 1
 * @alloc: whose it is
 * @addr: address
 */
struct ist_bpf_source {
	__u32 bits;
	__u32 side;
	__u64 alloc;
	struct ist_addr addr;
};

#define IST_SOURCE_BITS	(8 * (sizeof(struct ist_bpf_source) - sizeof(__u32)))

/**
 * struct ist_bpf_alloc - what an allocation is held to; zero is no limit
 * @idle: milliseconds
 * @total: milliseconds
 * @bytes: of one splice, both ways
 * @rate: bytes per second of the allocation
 * @splices: at once
 * @half: milliseconds that a TCP leg waits
 * @udp: milliseconds after which silent datagrams are forgotten
 * @pad: zero
 */
struct ist_bpf_alloc {
	__u64 idle;
	__u64 total;
	__u64 bytes;
	__u64 rate;
	__u32 splices;
	__u32 half;
	__u32 udp;
	__u32 pad;
};

/**
 * struct ist_bpf_usage - what an allocation has used
 * @rate_due: nanoseconds; when what was sent has been paid for
 * @live: splices that are not over
 * @pad: zero
 */
struct ist_bpf_usage {
	__u64 rate_due;
	__u32 live;
	__u32 pad;
};

/**
 * struct ist_bpf_waiting - an unpaired leg
 * @half: what core knows
 * @seen: the way by which it came
 * @heard: nanoseconds; its newest packet
 */
struct ist_bpf_waiting {
	struct ist_half half;
	struct ist_bpf_way seen;
	__u64 heard;
};

struct ist_bpf_cell_key {
	__u64 alloc;
	__u32 cell;
	__u32 pad;
};

/**
 * struct ist_bpf_cell - a cell
 * @lock: of everything below
 * @mode: enum ist_mode
 * @dead: it is being removed
 * @udp: id of the splice that holds the cell's UDP, or 0; of a fan-out that to
 *	its group
 * @port: by side, host byte order, for who takes it over; 0: it is learned
 * @receivers: of a fan-out, as many as there may be
 * @slots: of a fan-out, those that were ever taken are below
 * @pad: zero
 * @waiting: by protocol and side; of a fan-out the source, and on side 1 the
 *	group, if it has one
 */
struct ist_bpf_cell {
	struct bpf_spin_lock lock;
	__u8 mode;
	__u8 dead;
	__u16 port[IST_SIDES];
	__u16 receivers;
	__u16 slots;
	__u16 pad;
	__u64 udp;
	struct ist_bpf_waiting waiting[IST_PROTOS][IST_SIDES];
};

/* A receiver of a fan-out has a slot; one more is the group's. */
#define IST_MOST_RECEIVERS	1024

/**
 * struct ist_bpf_receiver_key - a slot of a fan-out
 * @alloc: whose it is
 * @cell: its number
 * @slot: from 0 on
 */
struct ist_bpf_receiver_key {
	__u64 alloc;
	__u32 cell;
	__u32 slot;
};

/* Instead of a side: of fragments that go to all receivers of a fan-out. */
#define IST_SIDE_FANOUT	2

/**
 * struct ist_bpf_flow - where packets belong
 * @splice: id; with IST_SIDE_FANOUT that of the allocation
 * @side: on which they arrive
 * @cell: with IST_SIDE_FANOUT
 */
struct ist_bpf_flow {
	__u64 splice;
	__u32 side;
	__u32 cell;
};

/**
 * struct ist_bpf_fragment_key - a datagram that comes in fragments
 * @remote: who sends
 * @local: our address
 * @id: of IP
 * @v6: IPv6
 */
struct ist_bpf_fragment_key {
	struct ist_addr remote;
	struct ist_addr local;
	__u32 id;
	__u32 v6;
};

/**
 * struct ist_bpf_leg - one leg of a splice
 * @tuple: as its packets arrive
 * @plan: for packets that arrived here
 * @way: to its remote end, until @way_until
 * @seen: the way by which its newest packet came, reversed
 * @mtu: of @way, and of the path behind it as far as it is known
 * @resolve: each packet is to ask for the neighbour of @way, whose addresses are
 *	not known
 * @way_until: nanoseconds
 * @path_mtu: of which a router behind @way told, until @path_until
 * @path_until: nanoseconds
 * @heard: nanoseconds; its newest packet
 * @packets: that arrived here and were forwarded
 * @bytes: likewise, payload
 */
struct ist_bpf_leg {
	struct ist_tuple tuple;
	struct ist_rewrite plan;
	struct ist_bpf_way way;
	struct ist_bpf_way seen;
	__u32 mtu;
	__u32 resolve;
	__u64 way_until;
	__u64 path_mtu;
	__u64 path_until;
	__u64 heard;
	__u64 packets;
	__u64 bytes;
};

/**
 * struct ist_bpf_splice - two legs
 * @lock: of @tcp, @over, @dead and @reason
 * @cell: where they met
 * @alloc: whose it is
 * @created: nanoseconds
 * @leg: by side
 * @tcp: core's state; of UDP the state alone
 * @unlimited: in this revision of the allocations its own sets no limit to
 *	packets; 0: not known
 * @proto: IPPROTO_TCP or IPPROTO_UDP
 * @mode: of the cell
 * @reason: why it is over
 * @over: it counts as ended
 * @dead: nothing passes any more
 * @slot: of a fan-out's receiver
 */
struct ist_bpf_splice {
	struct bpf_spin_lock lock;
	__u32 cell;
	__u64 alloc;
	__u64 created;
	struct ist_bpf_leg leg[IST_SIDES];
	struct ist_connection tcp;
	__u32 unlimited;
	__u8 proto;
	__u8 mode;
	__u8 reason;
	__u8 over;
	__u8 dead;
	__u8 pad;
	__u16 slot;
};

/**
 * struct ist_bpf_totals - of all allocations
 * @last_splice: id of the newest
 * @halves: unpaired legs
 * @live: splices that are not over
 * @live_udp: those of them that carry datagrams
 */
struct ist_bpf_totals {
	__u64 last_splice;
	__u32 halves;
	__u32 live;
	__u32 live_udp;
	__u32 pad;
};

/**
 * struct ist_bpf_counters - of one CPU
 * @packets: forwarded
 * @bytes: payload forwarded
 * @lost: events for which there was no room
 * @dropped: packets, by enum ist_reason
 * @ended: legs and splices, by enum ist_reason
 */
struct ist_bpf_counters {
	__u64 packets;
	__u64 bytes;
	__u64 lost;
	__u64 dropped[__IST_REASON_COUNT];
	__u64 ended[__IST_REASON_COUNT];
};

enum ist_bpf_event_kind {
	IST_BPF_EVENT_HALF,
	IST_BPF_EVENT_SPLICE,
	/* a packet was dropped, and user space shall tell its sender by ICMP */
	IST_BPF_EVENT_PACKET,
};

/* Of the header behind IP's, every ICMP error quotes this much at least. */
#define IST_QUOTED_BYTES	8

/**
 * struct ist_bpf_event - something happened
 * @splice: id, or 0 of a half
 * @alloc: whose it is
 * @cell: where
 * @kind: enum ist_bpf_event_kind
 * @proto: IPPROTO_TCP or IPPROTO_UDP
 * @side: of a half; of a packet that by which it came
 * @state: of a splice
 * @reason: why it ended, or IST_REASON_NONE; why the packet was dropped
 * @mode: of the cell
 * @unanswered: sides, as bits, whose SYN-ACK user space shall send
 * @dead: nothing passes any more, and user space shall tell both ends
 * @tuple: of a half
 * @length: of a packet, with its IP header
 * @mtu: what a packet that is too big would have to fit, in its own IP version
 * @quoted: what stands behind a packet's IP header
 * @pad: zero
 */
struct ist_bpf_event {
	__u64 splice;
	__u64 alloc;
	__u32 cell;
	__u8 kind;
	__u8 proto;
	__u8 side;
	__u8 state;
	__u8 reason;
	__u8 mode;
	__u8 unanswered;
	__u8 dead;
	struct ist_tuple tuple;
	__u32 length;
	__u32 mtu;
	__u8 quoted[IST_QUOTED_BYTES];
	__u32 pad;
};

enum ist_bpf_command_kind {
	/* returns IST_BPF_ENDED, _NONE, or _LATER when it was heard meanwhile */
	IST_BPF_END_HALF,
	/* legs that wait end, and none can join any more */
	IST_BPF_END_CELL,
};

enum ist_bpf_answer {
	IST_BPF_NONE,
	IST_BPF_ENDED,
	IST_BPF_LATER,
};

/**
 * struct ist_bpf_command - what the program ist_command is run with
 * @frame: an Ethernet header, which is not looked at
 * @kind: enum ist_bpf_command_kind
 * @proto: 0 TCP, 1 UDP, of a half
 * @side: of a half
 * @reason: enum ist_reason
 * @cell: number
 * @alloc: whose it is
 * @before: nanoseconds; a half that was heard later stays
 */
struct ist_bpf_command {
	__u8 frame[16];
	__u8 kind;
	__u8 proto;
	__u8 side;
	__u8 reason;
	__u32 cell;
	__u64 alloc;
	__u64 before;
};

/* Ids that one run of the program ist_end_many takes. */
#define IST_END_MOST	256

/**
 * struct ist_bpf_end_many - what the program ist_end_many is run with; ids of
 * splices follow. They end for one reason, and nobody is told by an event.
 * @frame: an Ethernet header, which is not looked at
 * @reason: enum ist_reason
 * @count: of the ids, IST_END_MOST at most
 */
struct ist_bpf_end_many {
	__u8 frame[16];
	__u32 reason;
	__u32 count;
};

_Static_assert(sizeof(struct ist_bpf_source) == 32, "the trie's key has no holes");
_Static_assert(sizeof(struct ist_bpf_command) == 40, "user space writes it");
_Static_assert(sizeof(struct ist_bpf_event) % 8 == 0, "user space reads many");

#endif /* _IST_BPF_SPLICE_H */
