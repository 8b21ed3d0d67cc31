/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Addresses and keys, the same for both families. */
#ifndef _IST_CORE_KEY_H
#define _IST_CORE_KEY_H

#include "types.h"

/**
 * struct ist_addr - an address of either family
 * @word: 128 bits in network byte order; IPv4 as ::ffff:a.b.c.d
 *
 * The mapped prefix is 0xffff in one 16-bit word, which is zero in one's
 * complement: both families sum up to what their checksums need.
 */
struct ist_addr {
	__be32 word[4];
};

/**
 * struct ist_tuple - one leg as its packets show it on arrival
 * @remote: who sends
 * @local: our address
 * @remote_port: network byte order
 * @local_port: network byte order
 * @proto: IPPROTO_TCP or IPPROTO_UDP
 * @pad: zero, since tuples are hashed and compared as bytes
 */
struct ist_tuple {
	struct ist_addr remote;
	struct ist_addr local;
	__be16 remote_port;
	__be16 local_port;
	__u8 proto;
	__u8 pad[3];
};

/* 0000:ffff, as it stands in memory. */
static __always_inline __be32 ist_mapped_word(void)
{
	const union {
		__u8 byte[4];
		__be32 word;
	} mapped = { .byte = { 0, 0, 0xff, 0xff } };

	return mapped.word;
}

static __always_inline void ist_addr_set4(struct ist_addr *addr, __be32 v4)
{
	addr->word[0] = 0;
	addr->word[1] = 0;
	addr->word[2] = ist_mapped_word();
	addr->word[3] = v4;
}

static __always_inline bool ist_addr_is4(const struct ist_addr *addr)
{
	return !addr->word[0] && !addr->word[1] &&
	       addr->word[2] == ist_mapped_word();
}

static __always_inline bool ist_addr_equal(const struct ist_addr *a,
					   const struct ist_addr *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] &&
	       a->word[2] == b->word[2] && a->word[3] == b->word[3];
}

/**
 * struct ist_prefix - where legs of a side may come from
 * @addr: bits behind @bits are zero
 * @mask: ones where a bit counts
 */
struct ist_prefix {
	struct ist_addr addr;
	struct ist_addr mask;
};

/* @bits: of 128; a prefix of IPv4 has 96 more than its own. */
static __always_inline void ist_prefix_set(struct ist_prefix *prefix,
					   const struct ist_addr *addr,
					   __u32 bits)
{
	__u8 *mask = (__u8 *)&prefix->mask;
	int i;

	for (i = 0; i < 16; i++) {
		if (bits >= 8) {
			mask[i] = 0xff;
			bits -= 8;
		} else {
			mask[i] = (__u8)(0xff00 >> bits);
			bits = 0;
		}
	}
	for (i = 0; i < 4; i++)
		prefix->addr.word[i] = addr->word[i] & prefix->mask.word[i];
}

static __always_inline bool ist_prefix_matches(const struct ist_prefix *prefix,
					       const struct ist_addr *addr)
{
	return !(((addr->word[0] & prefix->mask.word[0]) ^
		  prefix->addr.word[0]) |
		 ((addr->word[1] & prefix->mask.word[1]) ^
		  prefix->addr.word[1]) |
		 ((addr->word[2] & prefix->mask.word[2]) ^
		  prefix->addr.word[2]) |
		 ((addr->word[3] & prefix->mask.word[3]) ^
		  prefix->addr.word[3]));
}

#endif /* _IST_CORE_KEY_H */
