/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Cells: where two legs meet. */
#ifndef _IST_BPF_CELL_H
#define _IST_BPF_CELL_H

#include "answer.h"
#include "fanout.h"

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

/* Both legs are there: answers those that this frame can answer. */
static __always_inline void ist_cell_met(struct __sk_buff *skb,
					 const struct ist_packet *packet,
					 struct ist_scratch *scratch,
					 const struct ist_bpf_cell_key *key,
					 __u32 mode, __u32 side, bool has_data)
{
	__u64 id = ist_next_id(), now = ist_now();
	struct ist_bpf_splice *splice;
	__u32 unanswered = 0, i;
	int reason;

	for (i = 0; i < IST_SIDES; i++)
		if (has_data ||
		    ist_addr_is4(&scratch->pair[i].half.tuple.remote) ==
		    packet->v6)
			unanswered |= 1 << i;
	reason = ist_splice_create(scratch, key, id, mode, 0);
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
	now = ist_now();
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
				   struct ist_packet *packet,
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
	now = ist_now();
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
	failed = ist_splice_create(scratch, key, flow.splice, cell->mode, 0);
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
	ist_fragments_follow(scratch, packet, &flow);
	return ist_output(skb, scratch, &flow, splice, packet->length - 8);
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

/*
 * A packet of no splice. @key: becomes the cell's. Return: a verdict, or
 * IST_TO_ALL.
 */
static __noinline int ist_cell_input(struct __sk_buff *skb,
				     struct ist_packet *packet,
				     struct ist_bpf_cell_key *key)
{
	struct ist_bpf_port *port, *any;
	struct ist_bpf_cell *cell;

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
	key->alloc = port->alloc;
	key->cell = port->cell;
	cell = bpf_map_lookup_elem(&ist_cells, key);
	if (cell && cell->mode == IST_MODE_FANOUT)
		return packet->tuple.proto == IPPROTO_UDP ?
		       ist_fanout_input(skb, packet, key, port->side) :
		       IST_PASS;
	if (packet->tuple.proto == IPPROTO_TCP)
		return ist_cell_tcp(skb, packet, key, port->side);
	return ist_cell_udp(skb, packet, key, port->side);
}

#endif /* _IST_BPF_CELL_H */
