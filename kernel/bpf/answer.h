/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* SYN-ACKs, each made of the SYN that is at hand. */
#ifndef _IST_BPF_ANSWER_H
#define _IST_BPF_ANSWER_H

#include "forward.h"

/* The least of what both legs' ways carry in one segment. */
static __always_inline __u16 ist_mss_limit(const struct ist_bpf_splice *splice)
{
	__u32 limit = 0xffff;
	int side;

	for (side = 0; side < IST_SIDES; side++) {
		const struct ist_bpf_leg *leg = &splice->leg[side];
		__u32 headers = ist_ip_bytes(ist_leg_is6(leg)) +
				IST_TCP_HEADER_BYTES;

		if (leg->mtu > headers && leg->mtu - headers < limit)
			limit = leg->mtu - headers;
	}
	return limit;
}

/* Loads the TCP header, which is all that follows IP's, without its checksum. */
static __always_inline bool ist_load_header(struct __sk_buff *skb,
					    struct ist_scratch *scratch,
					    __u32 l4, __u32 length,
					    __be16 *check)
{
	if (length < IST_TCP_HEADER_BYTES || length > 60)
		return false;
	__builtin_memset(scratch->before, 0, sizeof(scratch->before));
	if (bpf_skb_load_bytes(skb, l4, scratch->before, IST_TCP_HEADER_BYTES))
		return false;
	/* Data in a SYN (RFC 7413) would have to be taken out of its checksum. */
	if ((scratch->before[12] >> 4) * 4 != length)
		return false;
	if (!ist_load_options(skb, l4, scratch->before + IST_TCP_HEADER_BYTES,
			      length - IST_TCP_HEADER_BYTES))
		return false;
	__builtin_memcpy(check, scratch->before + 16, 2);
	scratch->before[16] = 0;
	scratch->before[17] = 0;
	return true;
}

/* Sum of what TCP's pseudo-header takes from IP's. @length: of TCP */
static __always_inline bool ist_load_pseudo(struct __sk_buff *skb,
					    struct ist_scratch *scratch,
					    bool v6, __u32 *sum, __u32 *length)
{
	const __u32 *word = (const __u32 *)scratch->ip;

	if (v6) {
		if (bpf_skb_load_bytes(skb, ETH_HLEN, scratch->ip, 40))
			return false;
		*length = ist_get16(scratch->ip + 4);
		*sum = ist_sum_addr((struct ist_addr *)(scratch->ip + 8));
		*sum = ist_sum_add(*sum, ist_sum_addr((struct ist_addr *)
						      (scratch->ip + 24)));
	} else {
		if (bpf_skb_load_bytes(skb, ETH_HLEN, scratch->ip, 20))
			return false;
		*length = ist_get16(scratch->ip + 2) - sizeof(struct iphdr);
		*sum = ist_sum_add(word[3], word[4]);
	}
	*sum = ist_sum_add(*sum, bpf_htons(*length));
	return true;
}

static __always_inline void ist_write_ip(struct ist_scratch *scratch, bool v6,
					 const struct ist_tuple *to)
{
	__builtin_memset(scratch->ip, 0, sizeof(scratch->ip));
	if (v6) {
		struct ipv6hdr *ip = (struct ipv6hdr *)scratch->ip;

		ip->version = 6;
		ip->payload_len = bpf_htons(IST_SYN_ACK_BYTES);
		ip->nexthdr = IPPROTO_TCP;
		ip->hop_limit = 64;
		__builtin_memcpy(&ip->saddr, &to->local, 16);
		__builtin_memcpy(&ip->daddr, &to->remote, 16);
	} else {
		struct iphdr *ip = (struct iphdr *)scratch->ip;
		__u32 sum = 0;
		int i;

		ip->version = 4;
		ip->ihl = 5;
		ip->tot_len = bpf_htons(sizeof(*ip) + IST_SYN_ACK_BYTES);
		ip->frag_off = bpf_htons(0x4000);
		ip->ttl = 64;
		ip->protocol = IPPROTO_TCP;
		ip->saddr = to->local.word[3];
		ip->daddr = to->remote.word[3];
		for (i = 0; i < 10; i++)
			sum += ((__u16 *)scratch->ip)[i];
		ip->check = ~ist_sum_fold(sum);
	}
}

/**
 * ist_answer() - send a leg its SYN-ACK
 * @skb: a SYN, or what this function made of it
 * @scratch: of this CPU; its offer and pair are not touched
 * @splice: splice
 * @side: of the leg, which has the SYN's family
 *
 * Whether a checksum is complete or hardware's affair cannot be seen here:
 * changes are right for both, and the field is never written anew.
 */
static __noinline int ist_answer(struct __sk_buff *skb,
				 struct ist_scratch *scratch,
				 struct ist_bpf_splice *splice, __u32 side)
{
	struct ist_bpf_leg *leg = &splice->leg[side & 1];
	__u32 sum_before, sum_after, length, l4;
	bool v6 = ist_leg_is6(leg);
	struct ist_bpf_way *way;
	__be16 check;
	__s64 diff;

	l4 = ETH_HLEN + ist_ip_bytes(v6);
	if (!ist_load_pseudo(skb, scratch, v6, &sum_before, &length) ||
	    !ist_load_header(skb, scratch, l4, length, &check))
		return -1;

	ist_connection_syn_ack(&splice->tcp, side,
			       ist_leg_is6(&splice->leg[(side & 1) ^ 1]) ?
			       IST_MSS_DEFAULT6 : IST_MSS_DEFAULT4,
			       ist_mss_limit(splice), scratch->after);
	__builtin_memcpy(scratch->after, &leg->tuple.local_port, 2);
	__builtin_memcpy(scratch->after + 2, &leg->tuple.remote_port, 2);
	diff = bpf_csum_diff((__be32 *)scratch->before, 60,
			     (__be32 *)scratch->after, IST_SYN_ACK_BYTES, 0);
	if (diff < 0)
		return -1;
	__builtin_memcpy(scratch->after + 16, &check, 2);

	if (skb->len != l4 + IST_SYN_ACK_BYTES &&
	    bpf_skb_change_tail(skb, l4 + IST_SYN_ACK_BYTES, 0))
		return -1;
	ist_write_ip(scratch, v6, &leg->tuple);
	sum_after = ist_sum_add(ist_sum_addr(&leg->tuple.local),
				ist_sum_addr(&leg->tuple.remote));
	sum_after = ist_sum_add(sum_after, bpf_htons(IST_SYN_ACK_BYTES));
	if (bpf_skb_store_bytes(skb, ETH_HLEN, scratch->ip,
				v6 ? 40 : 20, 0) ||
	    bpf_skb_store_bytes(skb, l4, scratch->after, IST_SYN_ACK_BYTES, 0) ||
	    bpf_l4_csum_replace(skb, l4 + 16, 0, diff, 0) ||
	    bpf_l4_csum_replace(skb, l4 + 16, 0,
				ist_sum_delta(sum_before, sum_after),
				BPF_F_PSEUDO_HDR))
		return -1;
	/* Its SYN has just come the one way, whatever becomes of the other. */
	way = leg->resolve ? &leg->seen : &leg->way;
	if (bpf_skb_store_bytes(skb, 0, way->to, 2 * ETH_ALEN, 0) ||
	    bpf_clone_redirect(skb, way->ifindex, 0))
		return -1;
	return 0;
}

#endif /* _IST_BPF_ANSWER_H */
