/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The module's own structures.
 *
 * An allocation has cells; a cell has a port per side, in the table of ports,
 * and at most one unpaired leg (half) per side and protocol. Two halves make a
 * splice, whose two legs stand in the table of flows. The splice leaves the
 * cell and outlives it, not the allocation.
 *
 * Lifetimes: all three are counted and freed after a grace period of RCU.
 *   allocation  one reference while it is in its namespace, one per cell and
 *		 per splice
 *   cell	 one while it is in its allocation, one for a pending timer
 *   splice	 one while it is in the tables, one for a pending timer
 * "dead" is set under the object's lock when it leaves its tables; from then on
 * no timer is armed. Packets and timers that still see it do nothing with it.
 *
 * Locks, outermost first: namespace's mutex, cell, splice, allocation. All but
 * the first are taken with softirqs off.
 */
#ifndef _IST_SPLICE_H
#define _IST_SPLICE_H

#include <linux/atomic.h>
#include <linux/in.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/refcount.h>
#include <linux/rhashtable.h>
#include <linux/skbuff.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>
#include <net/dst.h>
#include <net/net_namespace.h>

#include "../core/core.h"
#include "ist-gen.h"

#define IST_PROTOS	2
#define IST_SIDES	2

enum ist_timeout {
	IST_TIMEOUT_HALF,
	IST_TIMEOUT_SYN_ACK,
	IST_TIMEOUT_SYN_RCVD,
	IST_TIMEOUT_ESTABLISHED,
	IST_TIMEOUT_CLOSE_WAIT,
	IST_TIMEOUT_TIME_WAIT,
	IST_TIMEOUT_CLOSED,
	IST_TIMEOUT_UDP,
	IST_TIMEOUTS,
};

/**
 * struct ist_counters - per CPU and namespace
 * @packets: forwarded
 * @bytes: payload forwarded
 * @dropped: packets, by enum ist_reason
 * @ended: legs and splices, by enum ist_reason
 */
struct ist_counters {
	u64 packets;
	u64 bytes;
	u64 dropped[__IST_REASON_COUNT];
	u64 ended[__IST_REASON_COUNT];
};

/**
 * struct ist_net - one network namespace
 * @net: the namespace
 * @lock: serialises configuration
 * @flows: legs by tuple
 * @ports: sides of cells by local port
 * @splices: by id, for dumps
 * @allocs: by id
 * @counters: per CPU
 * @expiry: ends allocations whose lifetime is over
 * @next_splice: id of the next one
 * @live: splices that are not over
 * @live_udp: those of them that carry datagrams
 * @lingering: splices that are over
 * @halves: unpaired legs
 * @told: ICMP errors of its own in the jiffy @told_at
 * @told_at: jiffies
 * @n_allocs: allocations
 * @n_cells: cells
 * @up: tables are there and hooks registered, which the first allocation does
 */
struct ist_net {
	struct net *net;
	struct mutex lock;	/* configuration */
	struct rhashtable flows;
	struct rhltable ports;
	struct xarray splices;
	struct rb_root allocs;
	struct ist_counters __percpu *counters;
	struct delayed_work expiry;
	atomic64_t next_splice;
	atomic_t live;
	atomic_t live_udp;
	atomic_t lingering;
	atomic_t halves;
	atomic_t told;
	unsigned long told_at;
	u32 n_allocs;
	u32 n_cells;
	bool up;
};

/**
 * struct ist_sources - expected sources of both sides
 * @rcu: for freeing
 * @count: of each side
 * @prefix: those of side 0, then those of side 1
 */
struct ist_sources {
	struct rcu_head rcu;
	u32 count[IST_SIDES];
	struct ist_prefix prefix[];
};

/**
 * struct ist_limits - zero is no limit
 * @idle: milliseconds
 * @total: milliseconds
 * @bytes: of one splice, both ways
 * @rate: bytes per second of the allocation
 * @splices: at once
 */
struct ist_limits {
	u64 idle;
	u64 total;
	u64 bytes;
	u64 rate;
	u32 splices;
};

/**
 * struct ist_alloc - an allocation
 * @node: in ist_net.allocs
 * @rcu: for freeing
 * @refs: references
 * @in: its namespace
 * @id: chosen by user space
 * @sources: RCU
 * @limits: each word is read and written on its own
 * @timeouts: milliseconds, by enum ist_timeout; likewise
 * @cells: under the namespace's mutex
 * @n_cells: under the namespace's mutex
 * @lock: of @splices
 * @splices: its splices, under @lock or RCU
 * @dead: it takes no splice any more, under @lock
 * @live: splices that are not over
 * @lingering: splices that are over
 * @rate_due: nanoseconds; when what was sent has been paid for
 * @created: jiffies
 * @expires: jiffies, 0 never
 */
struct ist_alloc {
	struct rb_node node;
	struct rcu_head rcu;
	refcount_t refs;
	struct ist_net *in;
	u64 id;
	struct ist_sources __rcu *sources;
	struct ist_limits limits;
	u32 timeouts[IST_TIMEOUTS];
	struct list_head cells;
	u32 n_cells;
	spinlock_t lock;	/* splices, dead */
	struct list_head splices;
	bool dead;
	atomic_t live;
	atomic_t lingering;
	atomic64_t rate_due;
	u64 created;
	u64 expires;
};

struct ist_cell;
struct ist_splice;

/**
 * struct ist_port - one side of a cell in the table of ports
 * @rcu: of a learned one, which is replaced while packets walk along it
 * @node: in ist_net.ports
 * @cell: whose it is
 * @local: host byte order; 0 is not in the table
 * @remote: the source port that legs must have, 0 any
 * @side: 0 or 1
 */
struct ist_port {
	struct rcu_head rcu;
	struct rhlist_head node;
	struct ist_cell *cell;
	u16 local;
	u16 remote;
	u8 side;
};

/**
 * struct ist_waiting - an unpaired leg of a cell
 * @half: what core knows
 * @heard: jiffies of its newest packet
 * @ifindex: by which it came
 */
struct ist_waiting {
	struct ist_half half;
	unsigned long heard;
	int ifindex;
};

/**
 * struct ist_group - where a fan-out's datagrams go besides its receivers
 * @tuple: remote end; the local one is chosen by route
 * @ifindex: 0 by route
 */
struct ist_group {
	struct ist_tuple tuple;
	int ifindex;
};

/**
 * struct ist_cell - a cell
 * @rcu: for freeing
 * @refs: references
 * @node: in ist_alloc.cells
 * @alloc: whose it is
 * @number: within the allocation
 * @mode: enum ist_mode
 * @max_receivers: of a fan-out
 * @dead: no longer in its allocation
 * @port: by side
 * @learned: the newest port that a pure cell has learned, or NULL
 * @lock: of everything below
 * @waiting: by protocol and side
 * @udp: the splice that holds the cell's UDP; of a fan-out that to the group
 * @receivers: of a fan-out, one splice for each, also under RCU
 * @n_receivers: their number
 * @group: of a fan-out, or NULL
 * @timer: ends those who wait too long
 */
struct ist_cell {
	struct rcu_head rcu;
	refcount_t refs;
	struct list_head node;
	struct ist_alloc *alloc;
	u32 number;
	u8 mode;
	u32 max_receivers;
	bool dead;
	struct ist_port port[IST_SIDES];
	struct ist_port *learned;
	spinlock_t lock;	/* everything below */
	struct ist_waiting waiting[IST_PROTOS][IST_SIDES];
	struct ist_splice *udp;
	struct list_head receivers;
	u32 n_receivers;
	struct ist_group *group;
	struct timer_list timer;
};

/**
 * struct ist_leg - one leg of a splice
 * @node: in ist_net.flows
 * @tuple: as its packets arrive
 * @plan: for packets that arrived here
 * @side: 0 or 1
 * @family: of both its addresses
 * @listed: it is in the table
 * @ifindex: where its remote end can be reached, 0 by route
 * @cookie: of @dst
 * @input_cookie: of @input
 * @input_ifindex: the device by which packets came that had @input
 * @dst: route to its remote end, RCU
 * @input: route of packets that arrive here, RCU
 * @packets: that arrived here and were forwarded
 * @bytes: likewise, payload
 *
 * Packets of one leg arrive at one CPU at a time, so that these counters stay
 * in that CPU's cache and per-CPU ones would cost memory for nothing.
 */
struct ist_leg {
	struct rhash_head node;
	struct ist_tuple tuple;
	struct ist_rewrite plan;
	u8 side;
	u8 family;
	bool listed;
	int ifindex;
	u32 cookie;
	u32 input_cookie;
	int input_ifindex;
	struct dst_entry __rcu *dst;
	struct dst_entry __rcu *input;
	atomic64_t packets;
	atomic64_t bytes;
};

/**
 * struct ist_udp - what a UDP splice keeps where one of TCP keeps its ends
 * @cell: where it holds its place
 * @receiver: in ist_cell.receivers, of a fan-out
 */
struct ist_udp {
	struct ist_cell *cell;
	struct list_head receiver;
};

static_assert(sizeof(struct ist_udp) <= offsetof(struct ist_connection, state));

/**
 * struct ist_splice - two legs
 * @leg: by side
 * @tcp: core's state; of a UDP splice, the state alone
 * @udp: of a UDP splice, over what else is in @tcp
 * @heard: jiffies of the newest packet
 * @rcu: for freeing
 * @refs: references
 * @alloc: whose it is
 * @node: in ist_alloc.splices
 * @id: unique in the namespace
 * @created: jiffies
 * @syn_ack_at: jiffies of the next repetition
 * @cell_number: where the legs met
 * @syn_acks: repetitions so far
 * @proto: IPPROTO_TCP or IPPROTO_UDP
 * @mode: of its cell
 * @reason: why it is over
 * @over: it counts as ended
 * @dead: no longer in the tables
 * @lock: of @tcp and everything that follows from it
 * @timer: the next thing that time brings
 */
struct ist_splice {
	struct ist_leg leg[IST_SIDES];
	union {
		struct ist_connection tcp;
		struct ist_udp udp;
	};
	unsigned long heard;
	struct rcu_head rcu;
	refcount_t refs;
	struct ist_alloc *alloc;
	struct list_head node;
	u64 id;
	u64 created;
	unsigned long syn_ack_at;
	u32 cell_number;
	u8 syn_acks;
	u8 proto;
	u8 mode;
	u8 reason;
	bool over;
	bool dead;
	spinlock_t lock;	/* tcp, and what follows from it */
	struct timer_list timer;
};

/**
 * struct ist_packet - a packet as the hooks found it
 * @skb: its data begin at the network header
 * @tuple: of its leg
 * @family: AF_INET or AF_INET6
 * @offset: of the header behind IP's
 * @length: from there on
 * @payload: of TCP or UDP
 */
struct ist_packet {
	struct sk_buff *skb;
	struct ist_tuple tuple;
	u8 family;
	u32 offset;
	u32 length;
	u32 payload;
};

static inline struct ist_splice *ist_leg_splice(struct ist_leg *leg)
{
	return container_of(leg - leg->side, struct ist_splice, leg[0]);
}

static inline u32 ist_mtu_headers(u8 family)
{
	return family == AF_INET ? 20 : 40;
}

static inline int ist_proto_index(u8 proto)
{
	return proto == IPPROTO_UDP;
}

/* module.c */
extern unsigned int ist_net_id;
extern unsigned int ist_max_splices;
struct ist_net *ist_net(const struct net *net);
int ist_net_up(struct ist_net *in);

/* hook.c */
int ist_hooks_register(struct net *net);
void ist_hooks_unregister(struct net *net);

/* allocation.c */
struct ist_alloc *ist_alloc_find(struct ist_net *in, u64 id);
struct ist_alloc *ist_alloc_next(struct ist_net *in, u64 id);
struct ist_alloc *ist_alloc_create(struct ist_net *in, u64 id);
int ist_alloc_insert(struct ist_alloc *alloc);
void ist_alloc_remove(struct ist_alloc *alloc, enum ist_reason reason);
void ist_alloc_put(struct ist_alloc *alloc);
bool ist_alloc_expects(struct ist_alloc *alloc, u8 side,
		       const struct ist_addr *addr);
bool ist_alloc_admits(struct ist_alloc *alloc, u32 bytes);
void ist_alloc_rearm(struct ist_alloc *alloc);
void ist_expiry(struct work_struct *work);

static inline u32 ist_alloc_timeout(const struct ist_alloc *alloc,
				    enum ist_timeout timeout)
{
	return READ_ONCE(alloc->timeouts[timeout]);
}

/* cell.c */
extern const struct rhashtable_params ist_port_params;
struct ist_cell *ist_cell_create(struct ist_alloc *alloc, u32 number, u8 mode);
int ist_cell_learn(struct ist_cell *cell, u8 side, u16 local);
int ist_cell_list(struct ist_cell *cell, u8 side, u16 local, u16 remote);
void ist_cell_remove(struct ist_cell *cell, enum ist_reason reason);
void ist_cell_put(struct ist_cell *cell);
void ist_cell_rearm(struct ist_cell *cell);
void ist_cell_release_udp(struct ist_cell *cell, struct ist_splice *splice);
bool ist_cell_listens(struct ist_net *in, const struct ist_tuple *tuple);
unsigned int ist_cell_input(struct ist_net *in, struct ist_packet *packet);

/* splice.c */
int ist_splice_cache_create(void);
void ist_splice_cache_destroy(void);
struct ist_splice *ist_splice_create(struct ist_cell *cell,
				     const struct ist_waiting *side0,
				     const struct ist_waiting *side1,
				     enum ist_reason *refusal);
void ist_splice_put(struct ist_splice *splice);
void ist_splice_kill(struct ist_splice *splice, enum ist_reason reason,
		     bool reset);
void ist_splice_arm(struct ist_splice *splice);
unsigned int ist_splice_input(struct ist_net *in, struct ist_leg *leg,
			      struct ist_packet *packet);
unsigned int ist_splice_output(struct ist_splice *splice, u8 side,
			       struct ist_packet *packet);

/* forward.c */
struct dst_entry *ist_leg_route(struct net *net, struct ist_splice *splice,
				u8 side);
void ist_leg_forget_routes(struct ist_leg *leg);
void ist_leg_learn_input(struct ist_splice *splice, struct ist_leg *leg,
			 struct sk_buff *skb);
void ist_leg_route_input(const struct ist_leg *leg, struct sk_buff *skb);
bool ist_source_address(struct net *net, struct ist_tuple *tuple, int ifindex);
enum ist_reason ist_forward(struct net *net, struct ist_splice *splice, u8 side,
			    struct ist_packet *packet);

/* answer.c */
void ist_send_syn_ack(struct net *net, struct ist_splice *splice, u8 side);
void ist_send_rst(struct net *net, struct ist_splice *splice, u8 side);
int ist_send(struct net *net, struct ist_splice *splice, u8 side,
	     struct sk_buff *skb, u8 proto);
struct sk_buff *ist_answer_skb(u32 length);

/* icmp.c */
void ist_icmp_tell(struct net *net, struct ist_splice *splice, u8 side,
		   const struct ist_packet *packet, u8 type, u8 code, u32 info);
bool ist_icmp_concerns(struct ist_net *in, struct ist_packet *packet, u8 proto);
unsigned int ist_icmp_input(struct ist_net *in, struct ist_packet *packet,
			    u8 proto);

/* event.c */
void ist_half_event(struct ist_cell *cell, u8 proto, u8 side,
		    enum ist_reason reason);
void ist_splice_event(struct ist_splice *splice);
void ist_alloc_event(struct ist_alloc *alloc, enum ist_reason reason);
int ist_splice_fill(struct sk_buff *skb, struct ist_splice *splice);
int ist_addr_put(struct sk_buff *skb, int type, const struct ist_addr *addr);

/* Counting: one instruction each on 64-bit machines, in any context. */
static inline void ist_count_dropped(struct ist_net *in, enum ist_reason reason)
{
	this_cpu_inc(in->counters->dropped[reason]);
}

static inline void ist_count_ended(struct ist_net *in, enum ist_reason reason)
{
	this_cpu_inc(in->counters->ended[reason]);
}

static inline void ist_count_forwarded(struct ist_net *in, u32 bytes)
{
	this_cpu_inc(in->counters->packets);
	this_cpu_add(in->counters->bytes, bytes);
}

#endif /* _IST_SPLICE_H */
