/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Splices: how they come into the tables, and out of them. */
#ifndef _IST_BPF_TABLE_H
#define _IST_BPF_TABLE_H

#include "packet.h"

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
 * Makes a splice of the pair in @scratch. @slot: of a fan-out's receiver.
 * Return: why not, or 0. The caller has counted both halves out.
 */
static __noinline int ist_splice_create(struct ist_scratch *scratch,
					const struct ist_bpf_cell_key *cell,
					__u64 id, __u32 mode, __u32 slot)
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
	splice->created = ist_now();
	splice->proto = pair[0].half.tuple.proto;
	splice->mode = mode;
	splice->slot = slot;
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
	/* All receivers of a fan-out have the same source. */
	if (mode != IST_MODE_FANOUT)
		err = bpf_map_update_elem(&ist_flows, &splice->leg[0].tuple,
					  &flow, BPF_NOEXIST);
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

#endif /* _IST_BPF_TABLE_H */
