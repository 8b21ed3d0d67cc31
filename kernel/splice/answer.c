// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Packets that the IST makes itself: SYN-ACK, RST and translated ICMP errors. */
#include <net/ip.h>
#include <net/ip6_checksum.h>
#include <net/ip6_route.h>
#include <net/ipv6.h>
#include <net/tcp.h>
#include <net/netfilter/nf_conntrack.h>

#include "splice.h"

#define IST_HEADROOM	(LL_MAX_HEADER + sizeof(struct ipv6hdr))

struct sk_buff *ist_answer_skb(u32 length)
{
	struct sk_buff *skb = alloc_skb(IST_HEADROOM + length, GFP_ATOMIC);

	if (!skb)
		return NULL;
	skb_reserve(skb, IST_HEADROOM);
	skb_put(skb, length);
	skb_reset_transport_header(skb);
	return skb;
}

static void ist_push4(struct sk_buff *skb, const struct ist_tuple *tuple,
		      u8 proto, u8 hops)
{
	struct iphdr *iph = skb_push(skb, sizeof(*iph));

	skb_reset_network_header(skb);
	skb->protocol = htons(ETH_P_IP);
	/* Total length and checksum are added when it is sent. */
	*iph = (struct iphdr) {
		.version = 4,
		.ihl = sizeof(*iph) / 4,
		.ttl = hops,
		.frag_off = htons(IP_DF),
		.protocol = proto,
		.saddr = tuple->local.word[3],
		.daddr = tuple->remote.word[3],
	};
}

static void ist_push6(struct sk_buff *skb, const struct ist_tuple *tuple,
		      u8 proto, u8 hops)
{
	struct ipv6hdr *ip6h = skb_push(skb, sizeof(*ip6h));

	skb_reset_network_header(skb);
	skb->protocol = htons(ETH_P_IPV6);
	ip6_flow_hdr(ip6h, 0, 0);
	ip6h->nexthdr = proto;
	ip6h->hop_limit = hops;
	memcpy(&ip6h->saddr, &tuple->local, 16);
	memcpy(&ip6h->daddr, &tuple->remote, 16);
}

/*
 * Sends what stands behind @skb's transport header from a leg's local to its
 * remote end. Called in a reading section of RCU; takes the skb.
 */
int ist_send(struct net *net, struct ist_splice *splice, u8 side,
	     struct sk_buff *skb, u8 proto)
{
	struct ist_leg *leg = &splice->leg[side];
	struct dst_entry *dst = ist_leg_route(net, splice, side);

	if (!dst) {
		kfree_skb(skb);
		return -EHOSTUNREACH;
	}
	skb_dst_set_noref(skb, dst);
	/* Connection tracking saw no SYN that this could answer. */
	nf_ct_set(skb, NULL, IP_CT_UNTRACKED);
	if (leg->family == AF_INET) {
		ist_push4(skb, &leg->tuple, proto, ip4_dst_hoplimit(dst));
		return ip_local_out(net, NULL, skb);
	}
	ist_push6(skb, &leg->tuple, proto, ip6_dst_hoplimit(dst));
	return ip6_local_out(net, NULL, skb);
}

static void ist_send_tcp(struct net *net, struct ist_splice *splice, u8 side,
			 const u8 *header, u32 length)
{
	const struct ist_leg *leg = &splice->leg[side];
	struct sk_buff *skb = ist_answer_skb(length);
	struct tcphdr *tcp;
	__wsum sum;

	if (!skb) {
		ist_count_dropped(splice->alloc->in, IST_REASON_NO_MEMORY);
		return;
	}
	tcp = tcp_hdr(skb);
	memcpy(tcp, header, length);
	tcp->source = leg->tuple.local_port;
	tcp->dest = leg->tuple.remote_port;
	tcp->check = 0;
	sum = csum_partial(tcp, length, 0);
	if (leg->family == AF_INET)
		tcp->check = csum_tcpudp_magic(leg->tuple.local.word[3],
					       leg->tuple.remote.word[3],
					       length, IPPROTO_TCP, sum);
	else
		tcp->check = csum_ipv6_magic((void *)&leg->tuple.local,
					     (void *)&leg->tuple.remote,
					     length, IPPROTO_TCP, sum);
	if (ist_send(net, splice, side, skb, IPPROTO_TCP) < 0)
		ist_count_dropped(splice->alloc->in, IST_REASON_UNSENDABLE);
}

/* The least of what both routes carry in one segment. */
static u16 ist_mss_limit(struct net *net, struct ist_splice *splice)
{
	u32 limit = U16_MAX;
	u8 side;

	for (side = 0; side < IST_SIDES; side++) {
		struct dst_entry *dst = ist_leg_route(net, splice, side);
		u32 headers = ist_mtu_headers(splice->leg[side].family) +
			      IST_TCP_HEADER_BYTES;

		if (dst && dst_mtu(dst) > headers)
			limit = min(limit, dst_mtu(dst) - headers);
	}
	return limit;
}

/* Called in a reading section of RCU, softirqs off, without the lock. */
void ist_send_syn_ack(struct net *net, struct ist_splice *splice, u8 side)
{
	u16 mss_default = splice->leg[!side].family == AF_INET ?
			  IST_MSS_DEFAULT4 : IST_MSS_DEFAULT6;
	u16 limit = ist_mss_limit(net, splice);
	u8 header[IST_SYN_ACK_BYTES];

	spin_lock(&splice->lock);
	ist_connection_syn_ack(&splice->tcp, side, mss_default, limit, header);
	spin_unlock(&splice->lock);
	ist_send_tcp(net, splice, side, header, sizeof(header));
}

void ist_send_rst(struct net *net, struct ist_splice *splice, u8 side)
{
	u8 header[IST_RST_BYTES];

	rcu_read_lock();
	ist_connection_rst(&splice->tcp, side, header);
	ist_send_tcp(net, splice, side, header, sizeof(header));
	rcu_read_unlock();
}
