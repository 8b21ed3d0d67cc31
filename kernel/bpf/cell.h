/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Cells: where two legs meet. */
#ifndef _IST_BPF_CELL_H
#define _IST_BPF_CELL_H

#include "answer.h"

static __always_inline bool ist_expects(const struct ist_bpf_port *port,
					const struct ist_addr *addr)
{
	struct ist_bpf_source key = {
		.bits = IST_SOURCE_BITS,
		.side = port->side,
		.alloc = port->alloc,
		.addr = *addr,
	};

	return bpf_map_lookup_elem(&ist_sources, &key) != NULL;
}

/* Takes a splice out of the tables; flows first, so that nobody finds it. */
static __always_inline void ist_splice_unlist(struct ist_scratch *scratch,
					      __u64 id,
					      const struct ist_bpf_splice *splice)
{
	struct ist_tuple *key = &scratch->event.tuple;
	struct ist_bpf_flow *flow;
	int side;

	for (side = 0; side < IST_SIDES; side++) {
		*key = splice->leg[side].tuple;
		flow = bpf_map_lookup_elem(&ist_flows, key);
		if (flow && flow->splice == id)
			bpf_map_delete_elem(&ist_flows, key);
	}
	bpf_map_delete_elem(&ist_splices, &id);
}

static __always_inline void
ist_leg_init(struct ist_bpf_leg *leg, const struct ist_bpf_waiting *waiting)
{
	leg->tuple = waiting->half.tuple;
	leg->seen = waiting->seen;
	leg->heard = waiting->heard;
}

/*
 * Makes a splice of the pair in @scratch. Return: why not, or 0. The caller has
 * counted both halves out.
 */
static __noinline int ist_splice_create(struct ist_scratch *scratch,
					const struct ist_bpf_cell_key *cell,
					__u64 id, __u32 mode)
{
	struct ist_bpf_splice *splice = (void *)scratch->splice;
	struct ist_bpf_waiting *pair = scratch->pair;
	struct ist_bpf_flow flow = { .splice = id };
	struct ist_bpf_usage *usage;
	struct ist_bpf_alloc *alloc;
	__u64 alloc_id = cell->alloc;
	long err = 0;

	alloc = bpf_map_lookup_elem(&ist_allocs, &alloc_id);
	usage = bpf_map_lookup_elem(&ist_usage, &alloc_id);
	if (!alloc || !usage)
		return IST_REASON_RELEASED;
	if (alloc->splices && usage->live >= alloc->splices)
		return IST_REASON_SPLICE_LIMIT;

	__builtin_memset(splice, 0, sizeof(*splice));
	splice->alloc = alloc_id;
	splice->cell = cell->cell;
	splice->created = bpf_ktime_get_ns();
	splice->proto = pair[0].half.tuple.proto;
	splice->mode = mode;
	ist_leg_init(&splice->leg[0], &pair[0]);
	ist_leg_init(&splice->leg[1], &pair[1]);
	ist_rewrite_plan(&splice->leg[0].plan, &splice->leg[0].tuple,
			 &splice->leg[1].tuple);
	ist_rewrite_plan(&splice->leg[1].plan, &splice->leg[1].tuple,
			 &splice->leg[0].tuple);
	if (splice->proto == IPPROTO_TCP)
		ist_connection_open(&splice->tcp, &pair[0].half, &pair[1].half);
	else
		splice->tcp.state = IST_STATE_ESTABLISHED;

	if (bpf_map_update_elem(&ist_splices, &id, splice, BPF_NOEXIST))
		return IST_REASON_TABLE_FULL;
	err = bpf_map_update_elem(&ist_flows, &splice->leg[0].tuple, &flow,
				  BPF_NOEXIST);
	flow.side = 1;
	if (!err)
		err = bpf_map_update_elem(&ist_flows, &splice->leg[1].tuple,
					  &flow, BPF_NOEXIST);
	if (err) {
		ist_splice_unlist(scratch, id, splice);
		return err == -17 ? IST_REASON_STRAY_SYN :
				    IST_REASON_TABLE_FULL;
	}
	ist_count_live(alloc_id, splice->proto, 1);
	return IST_REASON_NONE;
}

static __always_inline __u64 ist_next_id(void)
{
	struct ist_bpf_totals *totals = ist_totals_now();

	return totals ? __sync_fetch_and_add(&totals->last_splice, 1) + 1 : 0;
}

/* Both legs are there: answers those that this frame can answer. */
static __always_inline void ist_cell_met(struct __sk_buff *skb,
					 const struct ist_packet *packet,
					 struct ist_scratch *scratch,
					 const struct ist_bpf_cell_key *key,
					 __u32 mode, __u32 side, bool has_data)
{
	__u64 id = ist_next_id(), now = bpf_ktime_get_ns();
	struct ist_bpf_splice *splice;
	__u32 unanswered = 0, i;
	int reason;

	for (i = 0; i < IST_SIDES; i++)
		if (has_data ||
		    ist_addr_is4(&scratch->pair[i].half.tuple.remote) ==
		    packet->v6)
			unanswered |= 1 << i;
	reason = ist_splice_create(scratch, key, id, mode);
	if (reason) {
		ist_count_ended(reason);
		ist_tell_half(&scratch->event, key, &packet->tuple, side,
			      reason);
		return;
	}
	splice = bpf_map_lookup_elem(&ist_splices, &id);
	if (!splice)
		return;
	ist_way_find(skb, scratch, &splice->leg[0], now);
	ist_way_find(skb, scratch, &splice->leg[1], now);
	/* Behind the ways: what user space answers is held to them, too. */
	ist_tell_splice(&scratch->event, id, splice, unanswered);
	/* First the other: what this one sends next must find it connected. */
	if (!(unanswered & (1 << ((side & 1) ^ 1))))
		ist_answer(skb, scratch, splice, (side & 1) ^ 1);
	if (!(unanswered & (1 << (side & 1))))
		ist_answer(skb, scratch, splice, side & 1);
}

/* Copies both who wait, who wait no longer. Called with the cell's lock. */
static __always_inline void ist_cell_take(struct ist_scratch *scratch,
					  struct ist_bpf_waiting *waiting)
{
	scratch->pair[0] = waiting[0];
	scratch->pair[1] = waiting[1];
	waiting[0].half.waiting = false;
	waiting[1].half.waiting = false;
}

static __noinline int ist_cell_syn(struct __sk_buff *skb,
				   const struct ist_packet *packet,
				   const struct ist_segment *segment,
				   const struct ist_bpf_cell_key *key,
				   __u32 side)
{
	struct ist_scratch *scratch = ist_scratch();
	struct ist_bpf_waiting *mine, *other;
	enum ist_arrival arrival;
	struct ist_bpf_way seen = {};
	struct ist_bpf_cell *cell;
	bool met, dead;
	__u64 now;

	cell = bpf_map_lookup_elem(&ist_cells, key);
	if (!cell || !scratch)
		return ist_drop(IST_REASON_RELEASED);
	if (!ist_parse_offer(scratch, segment, packet, skb) ||
	    !ist_way_back(&seen, skb))
		return ist_drop(IST_REASON_MALFORMED);
	now = bpf_ktime_get_ns();
	mine = &cell->waiting[0][side & 1];
	other = &cell->waiting[0][(side & 1) ^ 1];

	bpf_spin_lock(&cell->lock);
	dead = cell->dead;
	met = false;
	arrival = IST_ARRIVAL_AGAIN;
	if (!dead) {
		arrival = ist_half_syn(&mine->half, &packet->tuple, segment,
				       &scratch->offer);
		mine->seen = seen;
		mine->heard = now;
		met = other->half.waiting;
		if (met)
			ist_cell_take(scratch, cell->waiting[0]);
	}
	bpf_spin_unlock(&cell->lock);

	if (dead)
		return ist_drop(IST_REASON_RELEASED);
	if (arrival == IST_ARRIVAL_INSTEAD) {
		ist_count_ended(IST_REASON_REPLACED);
		ist_tell_half(&scratch->event, key, &packet->tuple, side,
			      IST_REASON_REPLACED);
	}
	if (met) {
		ist_count_halves(arrival == IST_ARRIVAL_FIRST ? -1 : -2);
		ist_cell_met(skb, packet, scratch, key, cell->mode, side,
			     segment->payload);
	} else if (arrival != IST_ARRIVAL_AGAIN) {
		if (arrival == IST_ARRIVAL_FIRST)
			ist_count_halves(1);
		ist_tell_half(&scratch->event, key, &packet->tuple, side,
			      IST_REASON_NONE);
	}
	return TC_ACT_SHOT;
}

static __always_inline int ist_cell_reset(const struct ist_packet *packet,
					  const struct ist_segment *segment,
					  const struct ist_bpf_cell_key *key,
					  __u32 side)
{
	struct ist_scratch *scratch = ist_scratch();
	struct ist_bpf_cell *cell;
	struct ist_half *half;
	bool ended;

	cell = bpf_map_lookup_elem(&ist_cells, key);
	if (!cell || !scratch)
		return TC_ACT_SHOT;
	half = &cell->waiting[0][side & 1].half;
	bpf_spin_lock(&cell->lock);
	ended = ist_half_rst(half, &packet->tuple, segment);
	if (ended)
		half->waiting = false;
	bpf_spin_unlock(&cell->lock);
	if (ended) {
		ist_count_halves(-1);
		ist_count_ended(IST_REASON_RESET);
		ist_tell_half(&scratch->event, key, &packet->tuple, side,
			      IST_REASON_RESET);
	}
	return TC_ACT_SHOT;
}

static __always_inline int ist_cell_tcp(struct __sk_buff *skb,
					const struct ist_packet *packet,
					const struct ist_bpf_cell_key *key,
					__u32 side)
{
	struct ist_segment segment;

	if (!ist_parse_segment(&segment, packet, skb))
		return ist_drop(IST_REASON_MALFORMED);
	if (segment.flags & IST_TCP_RST)
		return ist_cell_reset(packet, &segment, key, side);
	/* The stack's own RST tells an expected end that its splice is gone. */
	if (!(segment.flags & IST_TCP_SYN))
		return IST_PASS;
	if (segment.flags & (IST_TCP_ACK | IST_TCP_FIN))
		return ist_drop(IST_REASON_STRAY_SYN);
	return ist_cell_syn(skb, packet, &segment, key, side);
}

static __noinline int ist_cell_udp(struct __sk_buff *skb,
				   const struct ist_packet *packet,
				   const struct ist_bpf_cell_key *key,
				   __u32 side)
{
	struct ist_scratch *scratch = ist_scratch();
	struct ist_bpf_flow flow = { .splice = ist_next_id(), .side = side };
	enum ist_arrival arrival = IST_ARRIVAL_AGAIN;
	enum ist_reason refusal = IST_REASON_EARLY;
	struct ist_bpf_waiting *mine, *other;
	struct ist_bpf_splice *splice;
	struct ist_bpf_way seen = {};
	struct ist_bpf_cell *cell;
	bool met = false;
	__u64 now;
	int failed;

	if (packet->length < 8)
		return ist_drop(IST_REASON_MALFORMED);
	cell = bpf_map_lookup_elem(&ist_cells, key);
	if (!cell || !scratch || !ist_way_back(&seen, skb))
		return ist_drop(IST_REASON_RELEASED);
	now = bpf_ktime_get_ns();
	mine = &cell->waiting[1][side & 1];
	other = &cell->waiting[1][(side & 1) ^ 1];

	bpf_spin_lock(&cell->lock);
	if (cell->dead) {
		refusal = IST_REASON_RELEASED;
	} else if (cell->udp ||
		   !ist_half_datagram(&mine->half, &packet->tuple, &arrival)) {
		refusal = IST_REASON_FOREIGN;
		arrival = IST_ARRIVAL_AGAIN;
	} else {
		mine->seen = seen;
		mine->heard = now;
		met = other->half.waiting;
		if (met) {
			cell->udp = flow.splice;
			ist_cell_take(scratch, cell->waiting[1]);
		}
	}
	bpf_spin_unlock(&cell->lock);

	if (!met) {
		if (arrival == IST_ARRIVAL_FIRST) {
			ist_count_halves(1);
			ist_tell_half(&scratch->event, key, &packet->tuple,
				      side, IST_REASON_NONE);
		}
		return ist_drop(refusal);
	}
	failed = ist_splice_create(scratch, key, flow.splice, cell->mode);
	if (failed) {
		/* The other goes on waiting. */
		bpf_spin_lock(&cell->lock);
		cell->udp = 0;
		other->half.waiting = true;
		bpf_spin_unlock(&cell->lock);
		return ist_drop(failed);
	}
	ist_count_halves(-1);
	splice = bpf_map_lookup_elem(&ist_splices, &flow.splice);
	if (!splice)
		return ist_drop(IST_REASON_RELEASED);
	ist_tell_splice(&scratch->event, flow.splice, splice, 0);
	return ist_output(skb, packet, &flow, splice, packet->length - 8);
}

static __always_inline struct ist_bpf_port *
ist_port_find(const struct ist_tuple *tuple, __be16 remote)
{
	struct ist_bpf_port_key key = {
		.local = tuple->local_port,
		.remote = remote,
	};

	return bpf_map_lookup_elem(&ist_ports, &key);
}

/* A packet of no splice. */
static __noinline int ist_cell_input(struct __sk_buff *skb,
				     const struct ist_packet *packet)
{
	struct ist_bpf_port *port, *any;
	struct ist_bpf_cell_key key = {};

	any = ist_port_find(&packet->tuple, 0);
	port = packet->tuple.remote_port ?
	       ist_port_find(&packet->tuple, packet->tuple.remote_port) : NULL;
	if ((!any && !port) ||
	    !bpf_map_lookup_elem(&ist_locals, &packet->tuple.local))
		return IST_PASS;
	if (!port || !ist_expects(port, &packet->tuple.remote)) {
		port = any;
		if (!port)
			return IST_PASS;
		/* Ports that legs of any source port reach are all ours. */
		if (!ist_expects(port, &packet->tuple.remote))
			return ist_drop(IST_REASON_STRANGER);
	}
	key.alloc = port->alloc;
	key.cell = port->cell;
	if (packet->tuple.proto == IPPROTO_TCP)
		return ist_cell_tcp(skb, packet, &key, port->side);
	return ist_cell_udp(skb, packet, &key, port->side);
}

#endif /* _IST_BPF_CELL_H */
