/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What is written into packets that leave by the other leg (T 4.3, 4.4). */
#ifndef _IST_CORE_REWRITE_H
#define _IST_CORE_REWRITE_H

#include "checksum.h"

/**
 * struct ist_rewrite - how packets that came by one leg leave by the other
 * @addr_delta: change of the addresses' sum, which pseudo-headers contain
 * @port_delta: change of the ports' sum; zero in Pure TCP Splice
 */
struct ist_rewrite {
	__u32 addr_delta;
	__u32 port_delta;
};

/* Packets arrive as @in; they leave from @out's local end to its remote one. */
static __always_inline void ist_rewrite_plan(struct ist_rewrite *plan,
					     const struct ist_tuple *in,
					     const struct ist_tuple *out)
{
	__u32 from = ist_sum_add(ist_sum_addr(&in->remote),
				 ist_sum_addr(&in->local));
	__u32 to = ist_sum_add(ist_sum_addr(&out->local),
			       ist_sum_addr(&out->remote));

	plan->addr_delta = ist_sum_delta(from, to);
	plan->port_delta = ist_sum_delta((__u32)(__force __u16)in->remote_port +
					 (__force __u16)in->local_port,
					 (__u32)(__force __u16)out->local_port +
					 (__force __u16)out->remote_port);
}

static __always_inline __u32 ist_rewrite_delta(const struct ist_rewrite *plan)
{
	return ist_sum_add(plan->addr_delta, plan->port_delta);
}

#endif /* _IST_CORE_REWRITE_H */
