/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Fan-out: datagrams of a cell's side 0 go to all who have sent to its side 1,
 * and to a group; each of them is a splice with the same source. The source
 * itself waits as long as it sends.
 */
#ifndef _IST_BPF_FANOUT_H
#define _IST_BPF_FANOUT_H

#include "forward.h"
#include "table.h"

/* The frame that ist_fanout_copy() works on, and whether it is of no use any more. */
struct ist_fanout_frame {
	struct __sk_buff *skb;
	bool spoilt;
};

/* It is a fan-out's: ist_fanout_send() is to be called; no verdict of the hook. */
#define IST_TO_ALL	(-3)

static __always_inline __u32 ist_fanout_payload(const struct ist_packet *packet)
{
	return packet->fragment == IST_LATER_FRAGMENT ? packet->length :
							packet->length - 8;
}

/* Return: the splice of a slot, with its id in @fanout. */
static __always_inline struct ist_bpf_splice *
ist_fanout_receiver_at(struct ist_fanout *fanout, __u32 slot)
{
	struct ist_bpf_splice *splice;
	__u64 *id;

	fanout->key.slot = slot;
	id = bpf_map_lookup_elem(&ist_receivers, &fanout->key);
	if (!id)
		return NULL;
	fanout->flow.splice = *id;
	splice = bpf_map_lookup_elem(&ist_splices, &fanout->flow.splice);
	return splice && !splice->dead ? splice : NULL;
}

/* Makes a frame again what it was before it went to a receiver. */
static __always_inline bool ist_fanout_restore(struct __sk_buff *skb,
					       struct ist_scratch *scratch,
					       const struct ist_bpf_splice *splice)
{
	/* Addresses count the same for either direction, and so do ports. */
	const struct ist_rewrite *plan = &splice->leg[1].plan;
	struct ist_packet *packet = &scratch->packet;
	struct ist_tuple *back = &scratch->quoted;
	bool v6 = packet->v6;

	if (packet->form == IST_AS_IT_CAME)
		return true;
	if (packet->form != IST_AS_IT_GOES)
		return false;
	packet->form = IST_AS_IT_CAME;
	if (ist_leg_is6(&splice->leg[1]) != v6 &&
	    !ist_translate(skb, packet, v6))
		return false;
	if (v6 ? bpf_skb_store_bytes(skb, 0, scratch->head, ETH_HLEN + 40, 0) :
		 bpf_skb_store_bytes(skb, 0, scratch->head, ETH_HLEN + 20, 0))
		return false;
	if (v6 && packet->fragment &&
	    bpf_skb_store_bytes(skb, ETH_HLEN + 40,
				scratch->head + ETH_HLEN + 40, 8, 0))
		return false;
	back->local_port = packet->tuple.remote_port;
	back->remote_port = packet->tuple.local_port;
	back->proto = IPPROTO_UDP;
	return packet->fragment == IST_LATER_FRAGMENT ||
	       ist_rewrite_l4(skb, ist_l4(packet), back, plan);
}

/* Called for all slots but the first. Return: whether to stop. */
static long ist_fanout_copy(__u64 index, void *data)
{
	struct ist_scratch *scratch = ist_scratch();
	struct ist_fanout_frame *frame = data;
	struct ist_bpf_splice *splice;
	struct ist_fanout *fanout;
	__u32 slot;

	if (!scratch)
		return 1;
	fanout = &scratch->fanout;
	slot = fanout->first + 1 + index;
	if (slot >= fanout->slots)
		slot -= fanout->slots;
	splice = ist_fanout_receiver_at(fanout, slot);
	if (!splice)
		return 0;
	ist_output(frame->skb, scratch, &fanout->flow, splice,
		   ist_fanout_payload(&scratch->packet));
	frame->spoilt = !ist_fanout_restore(frame->skb, scratch, splice);
	return frame->spoilt;
}

/*
 * Sends a datagram to everybody: copies of it to all but one, whose turn it is
 * to get the frame itself, for which a neighbour can be asked.
 */
static __noinline int ist_fanout_send(struct __sk_buff *skb,
				      struct ist_packet *packet,
				      const struct ist_bpf_cell_key *key)
{
	struct ist_bpf_cell *cell = bpf_map_lookup_elem(&ist_cells, key);
	struct ist_fanout_frame frame = { .skb = skb };
	struct ist_scratch *scratch = ist_scratch();
	struct ist_bpf_splice *splice;
	struct ist_fanout *fanout;
	__u32 slots;

	if (!cell || cell->dead || !scratch)
		return ist_drop(IST_REASON_RELEASED);
	slots = cell->slots;
	if (!slots)
		return TC_ACT_SHOT;
	/* Eight more: of a fragment they are a header, too. */
	if (packet->v6 ?
	    bpf_skb_load_bytes(skb, 0, scratch->head, ETH_HLEN + 40 + 8) :
	    bpf_skb_load_bytes(skb, 0, scratch->head, ETH_HLEN + 20))
		return ist_drop(IST_REASON_MALFORMED);
	fanout = &scratch->fanout;
	__builtin_memset(fanout, 0, sizeof(*fanout));
	fanout->key.alloc = key->alloc;
	fanout->key.cell = key->cell;
	fanout->slots = slots;
	fanout->first = bpf_get_prandom_u32() % slots;
	packet->copied = true;
	bpf_loop(slots - 1, ist_fanout_copy, &frame, 0);
	packet->copied = false;
	splice = ist_fanout_receiver_at(fanout, fanout->first);
	if (frame.spoilt || !splice)
		return TC_ACT_SHOT;
	return ist_output(skb, scratch, &fanout->flow, splice,
			  ist_fanout_payload(packet));
}

struct ist_fanout_slot {
	struct ist_bpf_receiver_key key;
	__u64 id;
	bool found;
};

static long ist_fanout_take(__u64 index, void *data)
{
	struct ist_fanout_slot *slot = data;

	slot->key.slot = index;
	slot->found = !bpf_map_update_elem(&ist_receivers, &slot->key,
					   &slot->id, BPF_NOEXIST);
	return slot->found;
}

static __always_inline void ist_fanout_leave(__u64 id,
					     const struct ist_bpf_splice *splice)
{
	struct ist_bpf_receiver_key key = {
		.alloc = splice->alloc,
		.cell = splice->cell,
		.slot = splice->slot,
	};
	__u64 *found = bpf_map_lookup_elem(&ist_receivers, &key);

	if (found && *found == id)
		bpf_map_delete_elem(&ist_receivers, &key);
}

/*
 * Makes a splice of the pair in @scratch, in a slot. Return: the reason why not,
 * or 0.
 */
static __noinline int ist_fanout_join(struct ist_scratch *scratch,
				      const struct ist_bpf_cell_key *key,
				      struct ist_bpf_cell *cell, __u64 id,
				      bool is_group)
{
	struct ist_fanout_slot slot = {
		.key = { .alloc = key->alloc, .cell = key->cell },
		.id = id,
	};
	struct ist_bpf_splice *splice;
	__u32 most = cell->receivers;
	int reason;

	if (is_group)
		ist_fanout_take(most, &slot);
	else if (most <= IST_MOST_RECEIVERS)
		bpf_loop(most, ist_fanout_take, &slot, 0);
	if (!slot.found)
		return IST_REASON_SPLICE_LIMIT;
	reason = ist_splice_create(scratch, key, id, IST_MODE_FANOUT,
				   slot.key.slot);
	splice = reason ? NULL : bpf_map_lookup_elem(&ist_splices, &id);
	if (!splice) {
		bpf_map_delete_elem(&ist_receivers, &slot.key);
		return reason ? reason : IST_REASON_RELEASED;
	}
	bpf_spin_lock(&cell->lock);
	if (cell->slots <= slot.key.slot)
		cell->slots = slot.key.slot + 1;
	if (is_group)
		cell->udp = id;
	bpf_spin_unlock(&cell->lock);
	ist_tell_splice(&scratch->event, id, splice, 0);
	return IST_REASON_NONE;
}

static __always_inline int
ist_fanout_source(struct __sk_buff *skb, struct ist_packet *packet,
		  const struct ist_bpf_cell_key *key, struct ist_bpf_cell *cell)
{
	struct ist_bpf_flow flow = {
		.splice = key->alloc,
		.side = IST_SIDE_FANOUT,
		.cell = key->cell,
	};
	bool is_source = false, wants_group = false;
	enum ist_arrival arrival = IST_ARRIVAL_AGAIN;
	struct ist_scratch *scratch = ist_scratch();
	struct ist_bpf_waiting *source, *group;
	struct ist_bpf_way seen = {};
	int reason;
	__u64 now;

	if (!scratch || !ist_way_back(&seen, skb))
		return ist_drop(IST_REASON_MALFORMED);
	source = &cell->waiting[1][0];
	group = &cell->waiting[1][1];
	now = ist_now();
	bpf_spin_lock(&cell->lock);
	if (!cell->dead)
		is_source = ist_half_datagram(&source->half, &packet->tuple,
					      &arrival);
	if (is_source) {
		source->seen = seen;
		source->heard = now;
		wants_group = group->half.waiting && !cell->udp;
		if (wants_group) {
			scratch->pair[0] = *source;
			scratch->pair[1] = *group;
		}
	}
	bpf_spin_unlock(&cell->lock);
	if (!is_source)
		return ist_drop(IST_REASON_FOREIGN);
	if (arrival == IST_ARRIVAL_FIRST) {
		ist_count_halves(1);
		ist_tell_half(&scratch->event, key, &packet->tuple, 0,
			      IST_REASON_NONE);
	}
	if (wants_group) {
		reason = ist_fanout_join(scratch, key, cell, ist_next_id(),
					 true);
		if (reason)
			ist_count_dropped(reason);
	}
	ist_fragments_follow(scratch, packet, &flow);
	return IST_TO_ALL;
}

static __always_inline int
ist_fanout_receiver(struct __sk_buff *skb, struct ist_packet *packet,
		    const struct ist_bpf_cell_key *key,
		    struct ist_bpf_cell *cell)
{
	struct ist_bpf_flow flow = { .splice = ist_next_id(), .side = 1 };
	struct ist_scratch *scratch = ist_scratch();
	struct ist_bpf_splice *splice;
	struct ist_bpf_way seen = {};
	bool has_source;
	int reason;

	if (!scratch || !ist_way_back(&seen, skb))
		return ist_drop(IST_REASON_MALFORMED);
	bpf_spin_lock(&cell->lock);
	has_source = !cell->dead && cell->waiting[1][0].half.waiting;
	if (has_source)
		scratch->pair[0] = cell->waiting[1][0];
	bpf_spin_unlock(&cell->lock);
	if (!has_source)
		return ist_drop(IST_REASON_EARLY);
	__builtin_memset(&scratch->pair[1], 0, sizeof(scratch->pair[1]));
	scratch->pair[1].half.tuple = packet->tuple;
	scratch->pair[1].seen = seen;
	scratch->pair[1].heard = ist_now();
	reason = ist_fanout_join(scratch, key, cell, flow.splice, false);
	if (reason)
		return ist_drop(reason);
	splice = bpf_map_lookup_elem(&ist_splices, &flow.splice);
	if (!splice)
		return ist_drop(IST_REASON_RELEASED);
	ist_fragments_follow(scratch, packet, &flow);
	return ist_output(skb, scratch, &flow, splice, packet->length - 8);
}

/* A datagram at a fan-out, of nobody's splice. Return: a verdict, or IST_TO_ALL. */
static __noinline int ist_fanout_input(struct __sk_buff *skb,
				       struct ist_packet *packet,
				       const struct ist_bpf_cell_key *key,
				       __u32 side)
{
	struct ist_bpf_cell *cell = bpf_map_lookup_elem(&ist_cells, key);

	if (!cell)
		return ist_drop(IST_REASON_RELEASED);
	if (packet->length < 8)
		return ist_drop(IST_REASON_MALFORMED);
	return side ? ist_fanout_receiver(skb, packet, key, cell) :
		      ist_fanout_source(skb, packet, key, cell);
}

#endif /* _IST_BPF_FANOUT_H */
