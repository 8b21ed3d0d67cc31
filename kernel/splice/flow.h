/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The table of flows: legs by tuple. In a header, so that hashing and comparing
 * are compiled into each look-up: two of them stand before every packet.
 */
#ifndef _IST_FLOW_H
#define _IST_FLOW_H

#include <linux/jhash.h>
#include <linux/rhashtable.h>

#include "splice.h"

static inline u32 ist_flow_hash(const void *data, u32 length, u32 seed)
{
	const struct ist_tuple *tuple = data;

	/* The rest of such a tuple is the same for all. */
	if (likely(ist_addr_is4(&tuple->remote)))
		return jhash_3words((__force u32)tuple->remote.word[3],
				    (__force u32)tuple->local.word[3],
				    (__force u32)tuple->remote_port << 16 |
				    (__force u32)tuple->local_port,
				    seed + tuple->proto);
	return jhash2(data, sizeof(*tuple) / sizeof(u32), seed);
}

static inline int ist_flow_compare(struct rhashtable_compare_arg *arg,
				   const void *object)
{
	const struct ist_tuple *a = arg->key;
	const struct ist_tuple *b = &((const struct ist_leg *)object)->tuple;

	return a->remote_port != b->remote_port ||
	       a->local_port != b->local_port || a->proto != b->proto ||
	       !ist_addr_equal(&a->remote, &b->remote) ||
	       !ist_addr_equal(&a->local, &b->local);
}

static const struct rhashtable_params ist_flow_params = {
	.head_offset		= offsetof(struct ist_leg, node),
	.key_offset		= offsetof(struct ist_leg, tuple),
	.key_len		= sizeof_field(struct ist_leg, tuple),
	.hashfn			= ist_flow_hash,
	.obj_cmpfn		= ist_flow_compare,
	.automatic_shrinking	= true,
};

static inline struct ist_leg *ist_flow_find(struct ist_net *in,
					    const struct ist_tuple *tuple)
{
	return rhashtable_lookup(&in->flows, tuple, ist_flow_params);
}

#endif /* _IST_FLOW_H */
