/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The internet checksum and its incremental update (RFC 1624, T 5.2). Sums are
 * of 16- or 32-bit words as they stand in memory: one's complement addition
 * does not care about byte order.
 */
#ifndef _IST_CORE_CHECKSUM_H
#define _IST_CORE_CHECKSUM_H

#include "key.h"

static __always_inline __u32 ist_sum_add(__u32 a, __u32 b)
{
	a += b;
	return a + (a < b);
}

static __always_inline __u16 ist_sum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)sum;
}

static __always_inline __u32 ist_sum_addr(const struct ist_addr *addr)
{
	__u32 sum = (__force __u32)addr->word[0];

	sum = ist_sum_add(sum, (__force __u32)addr->word[1]);
	sum = ist_sum_add(sum, (__force __u32)addr->word[2]);
	return ist_sum_add(sum, (__force __u32)addr->word[3]);
}

/* What a sum changes by when words that sum up to @from become those of @to. */
static __always_inline __u32 ist_sum_delta(__u32 from, __u32 to)
{
	return ist_sum_add(to, ~from);
}

/**
 * ist_check_update() - a complete checksum after a change
 * @check: the field, as it stands in memory
 * @delta: of all words that it covers, pseudo-header included
 *
 * A result of zero means "no checksum" in UDP; who writes it there must turn
 * it into 0xffff. A wrong checksum stays as wrong as it was.
 */
static __always_inline __u16 ist_check_update(__u16 check, __u32 delta)
{
	return (__u16)~ist_sum_fold(ist_sum_add((__u16)~check, delta));
}

/**
 * ist_check_update_partial() - the seed of a checksum that hardware completes
 * @check: the field, which holds the uncomplemented sum of the pseudo-header
 * @delta: of the pseudo-header alone, which is that of the addresses; a delta
 *	of ports must not go in, hardware adds them
 */
static __always_inline __u16 ist_check_update_partial(__u16 check, __u32 delta)
{
	return ist_sum_fold(ist_sum_add(check, delta));
}

#endif /* _IST_CORE_CHECKSUM_H */
