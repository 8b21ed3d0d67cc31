// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Where packets come in: behind the administrator's INPUT rules, defragmented,
 * with a route on them. A second hook before connection tracking keeps it off
 * splices: packets that are taken away here never reach the place where they
 * would be confirmed, so that each would be judged as a first one. It also knows
 * their way already, which spares them the search for a route and for a socket.
 */
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6.h>
#include <net/ip.h>
#include <net/ipv6.h>
#include <net/netfilter/ipv6/nf_defrag_ipv6.h>
#include <net/netfilter/nf_conntrack.h>

#include "flow.h"
#include "splice.h"

/* The ports, which TCP and UDP have at the same place. */
static bool ist_packet_ports(struct ist_packet *packet, u8 proto)
{
	__be16 ports[2], *p;

	p = skb_header_pointer(packet->skb, packet->offset, sizeof(ports),
			       ports);
	if (!p)
		return false;
	packet->tuple.remote_port = p[0];
	packet->tuple.local_port = p[1];
	packet->tuple.proto = proto;
	memset(packet->tuple.pad, 0, sizeof(packet->tuple.pad));
	return true;
}

/* Return: the protocol behind IP, or -1 when the packet is none of ours. */
static int ist_packet_parse4(struct ist_packet *packet, struct sk_buff *skb)
{
	const struct iphdr *iph = ip_hdr(skb);

	packet->skb = skb;
	packet->family = AF_INET;
	packet->offset = iph->ihl * 4;
	packet->length = ntohs(iph->tot_len) - packet->offset;
	/* A packet that was put together from many may be longer. */
	if (skb_is_gso(skb))
		packet->length = skb->len - packet->offset;
	if (ip_is_fragment(iph))
		return -1;
	ist_addr_set4(&packet->tuple.remote, iph->saddr);
	ist_addr_set4(&packet->tuple.local, iph->daddr);
	return iph->protocol;
}

static int ist_packet_parse6(struct ist_packet *packet, struct sk_buff *skb)
{
	const struct ipv6hdr *ip6h = ipv6_hdr(skb);
	u8 next = ip6h->nexthdr;
	__be16 fragment = 0;
	int offset;

	packet->skb = skb;
	packet->family = AF_INET6;
	offset = sizeof(*ip6h);
	if (next != IPPROTO_TCP && next != IPPROTO_UDP &&
	    next != IPPROTO_ICMPV6) {
		offset = ipv6_skip_exthdr(skb, offset, &next, &fragment);
		if (offset < 0 || fragment)
			return -1;
	}
	packet->offset = offset;
	packet->length = skb->len - offset;
	memcpy(&packet->tuple.remote, &ip6h->saddr, 16);
	memcpy(&packet->tuple.local, &ip6h->daddr, 16);
	return next;
}

static unsigned int ist_input(struct ist_net *in, struct ist_packet *packet,
			      int proto)
{
	struct ist_leg *leg;

	if (proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6)
		return ist_icmp_input(in, packet, proto);
	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
		return NF_ACCEPT;
	if (!ist_packet_ports(packet, proto))
		return NF_ACCEPT;
	leg = ist_flow_find(in, &packet->tuple);
	if (leg)
		return ist_splice_input(in, leg, packet);
	return ist_cell_input(in, packet);
}

static unsigned int ist_local_in4(void *priv, struct sk_buff *skb,
				  const struct nf_hook_state *state)
{
	struct ist_packet packet;
	int proto = ist_packet_parse4(&packet, skb);

	return proto < 0 ? NF_ACCEPT :
			   ist_input(ist_net(state->net), &packet, proto);
}

static unsigned int ist_local_in6(void *priv, struct sk_buff *skb,
				  const struct nf_hook_state *state)
{
	struct ist_packet packet;
	int proto = ist_packet_parse6(&packet, skb);

	return proto < 0 ? NF_ACCEPT :
			   ist_input(ist_net(state->net), &packet, proto);
}

static void ist_steer(struct ist_net *in, struct ist_packet *packet, int proto)
{
	struct ist_leg *leg;

	if (skb_nfct(packet->skb))
		return;
	/* What it quotes was never tracked: it would be found invalid. */
	if ((proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6) &&
	    ist_icmp_concerns(in, packet, proto))
		nf_ct_set(packet->skb, NULL, IP_CT_UNTRACKED);
	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
		return;
	if (!ist_packet_ports(packet, proto))
		return;
	leg = ist_flow_find(in, &packet->tuple);
	if (!leg)
		return;
	nf_ct_set(packet->skb, NULL, IP_CT_UNTRACKED);
	ist_leg_route_input(leg, packet->skb);
}

static unsigned int ist_pre_routing4(void *priv, struct sk_buff *skb,
				     const struct nf_hook_state *state)
{
	struct ist_packet packet;
	int proto = ist_packet_parse4(&packet, skb);

	if (proto >= 0)
		ist_steer(ist_net(state->net), &packet, proto);
	return NF_ACCEPT;
}

static unsigned int ist_pre_routing6(void *priv, struct sk_buff *skb,
				     const struct nf_hook_state *state)
{
	struct ist_packet packet;
	int proto = ist_packet_parse6(&packet, skb);

	if (proto >= 0)
		ist_steer(ist_net(state->net), &packet, proto);
	return NF_ACCEPT;
}

static const struct nf_hook_ops ist_hooks[] = {
	{
		.hook		= ist_pre_routing4,
		.pf		= NFPROTO_IPV4,
		.hooknum	= NF_INET_PRE_ROUTING,
		.priority	= NF_IP_PRI_RAW - 1,
	},
	{
		.hook		= ist_local_in4,
		.pf		= NFPROTO_IPV4,
		.hooknum	= NF_INET_LOCAL_IN,
		.priority	= NF_IP_PRI_FILTER + 1,
	},
	{
		.hook		= ist_pre_routing6,
		.pf		= NFPROTO_IPV6,
		.hooknum	= NF_INET_PRE_ROUTING,
		.priority	= NF_IP6_PRI_RAW - 1,
	},
	{
		.hook		= ist_local_in6,
		.pf		= NFPROTO_IPV6,
		.hooknum	= NF_INET_LOCAL_IN,
		.priority	= NF_IP6_PRI_FILTER + 1,
	},
};

int ist_hooks_register(struct net *net)
{
	int err;

	/* IPv4 is defragmented before LOCAL_IN anyway, IPv6 behind it. */
	err = nf_defrag_ipv6_enable(net);
	if (err)
		return err;
	return nf_register_net_hooks(net, ist_hooks, ARRAY_SIZE(ist_hooks));
}

void ist_hooks_unregister(struct net *net)
{
	nf_unregister_net_hooks(net, ist_hooks, ARRAY_SIZE(ist_hooks));
}
