/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * ICMP errors about packets that left by one leg. They quote what was sent, so
 * no socket would claim them; the sender, behind the other leg, gets the error
 * about what it sent. Between IPv4 and IPv6 they are dropped; but of a path that
 * is too narrow the sender hears when it sends what is too large again.
 */
#ifndef _IST_BPF_ICMP_H
#define _IST_BPF_ICMP_H

#include "forward.h"

#define IST_ICMP_BYTES		8
/* After this it may be wider (RFC 1191, 6.3). */
#define IST_PATH_NS		(600 * IST_NS_PER_SECOND)
/* What Linux believes at the least of a path with IPv4. */
#define IST_MTU_LEAST4		552
#define IST_PROTO_ICMP		1
#define IST_PROTO_ICMPV6	58

static __always_inline bool ist_icmp_is_error(__u8 type, bool v6)
{
	/* Unreachable, too big, time exceeded, parameter problem. */
	return v6 ? type >= 1 && type <= 4 :
		    type == 3 || type == 11 || type == 12;
}

/* Loads the quoted headers into @scratch, and the tuple of the leg they left by. */
static __always_inline bool ist_icmp_quoted(struct __sk_buff *skb,
					    struct ist_scratch *scratch,
					    bool v6, __u32 icmp)
{
	struct ist_tuple *tuple = &scratch->quoted;
	__u8 *quoted = scratch->before;
	__u8 type;

	if (bpf_skb_load_bytes(skb, icmp, &type, 1) ||
	    !ist_icmp_is_error(type, v6))
		return false;
	__builtin_memset(tuple, 0, sizeof(*tuple));
	if (v6) {
		if (bpf_skb_load_bytes(skb, icmp + IST_ICMP_BYTES, quoted,
				       40 + IST_QUOTED_BYTES))
			return false;
		tuple->proto = quoted[6];
		__builtin_memcpy(&tuple->local, quoted + 8, 16);
		__builtin_memcpy(&tuple->remote, quoted + 24, 16);
		quoted += 40;
	} else {
		if (bpf_skb_load_bytes(skb, icmp + IST_ICMP_BYTES, quoted,
				       20 + IST_QUOTED_BYTES))
			return false;
		/* Later fragments quote no ports. */
		if (quoted[0] != 0x45 || ist_get16(quoted + 6) & 0x1fff)
			return false;
		tuple->proto = quoted[9];
		ist_addr_set4(&tuple->local, *(__be32 *)(quoted + 12));
		ist_addr_set4(&tuple->remote, *(__be32 *)(quoted + 16));
		quoted += 20;
	}
	__builtin_memcpy(&tuple->local_port, quoted, 2);
	__builtin_memcpy(&tuple->remote_port, quoted + 2, 2);
	return tuple->proto == IPPROTO_TCP || tuple->proto == IPPROTO_UDP;
}

/* Whether a TCP end could have sent what is quoted (RFC 5927, 4). */
static __always_inline bool ist_icmp_plausible(const struct ist_end *receiver,
					       __u32 seq)
{
	__u32 window = receiver->window;

	if (window < IST_WINDOW_LEAST)
		window = IST_WINDOW_LEAST;
	return seq - (receiver->ack - window) <= 2 * window;
}

/* Remembers what the path carries by which a leg's packet left. */
static __always_inline void ist_icmp_learn(struct __sk_buff *skb, bool v6,
					   __u32 icmp, struct ist_bpf_leg *leg,
					   __u64 now)
{
	__u8 head[IST_ICMP_BYTES];
	__u32 mtu;

	if (bpf_skb_load_bytes(skb, icmp, head, sizeof(head)))
		return;
	if (v6) {
		if (head[0] != 2)
			return;
		mtu = ist_get32(head + 4);
		if (mtu < IST_MTU_LEAST6)
			mtu = IST_MTU_LEAST6;
	} else {
		if (head[0] != 3 || head[1] != 4)
			return;
		mtu = ist_get16(head + 6);
		if (mtu < IST_MTU_LEAST4)
			mtu = IST_MTU_LEAST4;
	}
	leg->path_mtu = mtu;
	leg->path_until = now + IST_PATH_NS;
	leg->way_until = 0;
}

/* Makes the quoted headers those that the sender sent. Return: what the error's
 * checksum changes by, or a negative number.
 */
static __always_inline __s64 ist_icmp_unquote(struct __sk_buff *skb,
					      struct ist_scratch *scratch,
					      bool v6, __u32 icmp,
					      const struct ist_tuple *in)
{
	__u32 bytes = v6 ? 40 + IST_QUOTED_BYTES : 20 + IST_QUOTED_BYTES;
	__u8 *after = scratch->after;
	__s64 diff;

	__builtin_memcpy(after, scratch->before, 40 + IST_QUOTED_BYTES);
	if (v6) {
		__builtin_memcpy(after + 8, &in->remote, 16);
		__builtin_memcpy(after + 24, &in->local, 16);
		__builtin_memcpy(after + 40, &in->remote_port, 2);
		__builtin_memcpy(after + 42, &in->local_port, 2);
		diff = bpf_csum_diff((__be32 *)scratch->before, 48,
				     (__be32 *)after, 48, 0);
	} else {
		__u32 *word = (__u32 *)after;
		__u32 sum = ist_sum_add(word[3], word[4]);
		__u16 check = *(__u16 *)(after + 10);

		word[3] = in->remote.word[3];
		word[4] = in->local.word[3];
		sum = ist_sum_delta(sum, ist_sum_add(word[3], word[4]));
		*(__u16 *)(after + 10) = ist_check_update(check, sum);
		__builtin_memcpy(after + 20, &in->remote_port, 2);
		__builtin_memcpy(after + 22, &in->local_port, 2);
		diff = bpf_csum_diff((__be32 *)scratch->before, 28,
				     (__be32 *)after, 28, 0);
	}
	if (diff < 0 || bpf_skb_store_bytes(skb, icmp + IST_ICMP_BYTES, after,
					    bytes, 0))
		return -1;
	return diff;
}

static __noinline int ist_icmp_input(struct __sk_buff *skb,
				     struct ist_scratch *scratch,
				     const struct ist_packet *packet)
{
	bool v6 = packet->v6;
	__u32 icmp = ETH_HLEN + ist_ip_bytes(v6), outer;
	__u64 now = ist_now(), id;
	struct ist_bpf_splice *splice;
	struct ist_bpf_flow *flow;
	struct ist_bpf_leg *to;
	__u32 side;
	__s64 diff;

	if (!ist_icmp_quoted(skb, scratch, v6, icmp))
		return IST_PASS;
	flow = bpf_map_lookup_elem(&ist_flows, &scratch->quoted);
	if (!flow)
		return IST_PASS;
	id = flow->splice;
	side = flow->side & 1;
	splice = bpf_map_lookup_elem(&ist_splices, &id);
	if (!splice)
		return IST_PASS;
	to = &splice->leg[side ^ 1];
	if (splice->proto == IPPROTO_TCP &&
	    !ist_icmp_plausible(&splice->tcp.end[side],
				ist_get32(scratch->before + (v6 ? 44 : 24))))
		return ist_drop(IST_REASON_WINDOW);
	scratch->ask = to->resolve;
	if (ist_leg_is6(to) != v6) {
		ist_icmp_learn(skb, v6, icmp, &splice->leg[side], now);
		return ist_drop(IST_REASON_UNSENDABLE);
	}
	if (now >= to->way_until && ist_way_find(skb, scratch, to, now))
		return ist_drop(IST_REASON_UNSENDABLE);
	if (packet->hops <= 1)
		return ist_drop(IST_REASON_HOP_LIMIT);

	diff = ist_icmp_unquote(skb, scratch, v6, icmp, &to->tuple);
	if (diff < 0 || bpf_l4_csum_replace(skb, icmp + 2, 0, diff, 0))
		return ist_drop(IST_REASON_MALFORMED);
	if (v6) {
		outer = ist_sum_add(ist_sum_addr(&packet->tuple.remote),
				    ist_sum_addr(&packet->tuple.local));
		outer = ist_sum_delta(outer,
				      ist_sum_add(ist_sum_addr(&to->tuple.local),
						  ist_sum_addr(&to->tuple.remote)));
		if (bpf_l4_csum_replace(skb, icmp + 2, 0, outer,
					BPF_F_PSEUDO_HDR))
			return ist_drop(IST_REASON_MALFORMED);
	}
	if (!ist_rewrite_ip(skb, v6, &to->tuple))
		return ist_drop(IST_REASON_MALFORMED);
	return ist_send(skb, to, scratch->ask);
}

#endif /* _IST_BPF_ICMP_H */
