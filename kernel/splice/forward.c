// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The way of a packet from one leg to the other. */
#include <linux/udp.h>
#include <net/addrconf.h>
#include <net/icmp.h>
#include <net/ip.h>
#include <net/ip6_checksum.h>
#include <net/ip6_fib.h>
#include <net/ip6_route.h>
#include <net/ipv6.h>
#include <net/route.h>
#include <net/tcp.h>
#include <net/netfilter/nf_conntrack.h>

#include "compat.h"
#include "splice.h"

static struct dst_entry *ist_route4(struct net *net, const struct ist_leg *leg,
				    u8 proto)
{
	struct flowi4 flow = {
		.daddr = leg->tuple.remote.word[3],
		.saddr = leg->tuple.local.word[3],
		.flowi4_oif = leg->ifindex,
		.flowi4_proto = proto,
		.fl4_sport = leg->tuple.local_port,
		.fl4_dport = leg->tuple.remote_port,
	};
	struct rtable *route = ip_route_output_key(net, &flow);

	return IS_ERR(route) ? NULL : &route->dst;
}

static struct dst_entry *ist_route6(struct net *net, const struct ist_leg *leg,
				    u8 proto)
{
	struct flowi6 flow = {
		.flowi6_oif = leg->ifindex,
		.flowi6_proto = proto,
		.fl6_sport = leg->tuple.local_port,
		.fl6_dport = leg->tuple.remote_port,
	};
	struct dst_entry *dst;

	memcpy(&flow.daddr, &leg->tuple.remote, 16);
	memcpy(&flow.saddr, &leg->tuple.local, 16);
	dst = ip6_route_output(net, NULL, &flow);
	if (dst->error) {
		dst_release(dst);
		return NULL;
	}
	return dst;
}

/**
 * ist_leg_route() - the route to a leg's remote end
 * @net: namespace
 * @splice: splice
 * @side: of the leg
 *
 * Called in a reading section of RCU, and good for as long as it lasts: a
 * route that is replaced meanwhile is freed behind it. Return: NULL when there
 * is none.
 */
struct dst_entry *ist_leg_route(struct net *net, struct ist_splice *splice,
				u8 side)
{
	struct ist_leg *leg = &splice->leg[side];
	struct dst_entry *dst = rcu_dereference(leg->dst), *old;

	if (likely(dst && dst_check(dst, READ_ONCE(leg->cookie))))
		return dst;
	dst = leg->family == AF_INET ? ist_route4(net, leg, splice->proto) :
				       ist_route6(net, leg, splice->proto);
	if (!dst)
		return NULL;
	spin_lock_bh(&splice->lock);
	if (splice->dead) {
		/* Nobody would let go of it: this once, then. */
		old = dst;
	} else {
		old = rcu_dereference_protected(leg->dst, true);
		if (leg->family == AF_INET6)
			WRITE_ONCE(leg->cookie,
				   rt6_get_cookie((struct rt6_info *)dst));
		rcu_assign_pointer(leg->dst, dst);
	}
	spin_unlock_bh(&splice->lock);
	dst_release(old);
	return dst;
}

/* Chooses the local address of a tuple by the route to its remote one. */
bool ist_source_address(struct net *net, struct ist_tuple *tuple, int ifindex)
{
	struct dst_entry *dst;

	if (ist_addr_is4(&tuple->remote)) {
		struct flowi4 flow = {
			.daddr = tuple->remote.word[3],
			.flowi4_oif = ifindex,
			.flowi4_proto = tuple->proto,
		};
		struct rtable *route = ip_route_output_key(net, &flow);

		if (IS_ERR(route))
			return false;
		ist_addr_set4(&tuple->local, flow.saddr);
		ip_rt_put(route);
	} else {
		struct flowi6 flow = {
			.flowi6_oif = ifindex,
			.flowi6_proto = tuple->proto,
		};

		memcpy(&flow.daddr, &tuple->remote, 16);
		dst = ip6_route_output(net, NULL, &flow);
		if (dst->error ||
		    ipv6_dev_get_saddr(net, ip6_dst_idev(dst)->dev, &flow.daddr,
				       0, &flow.saddr)) {
			dst_release(dst);
			return false;
		}
		dst_release(dst);
		memcpy(&tuple->local, &flow.saddr, 16);
	}
	return true;
}

void ist_leg_forget_routes(struct ist_leg *leg)
{
	dst_release(unrcu_pointer(xchg(&leg->dst, NULL)));
	dst_release(unrcu_pointer(xchg(&leg->input, NULL)));
}

/**
 * ist_leg_learn_input() - remember the route by which a packet came here
 * @splice: splice
 * @leg: of it, by which the packet came
 * @skb: the packet
 *
 * Those that follow it by the same device need not look it up, nor whether
 * their source may come from there, as with connected sockets.
 */
void ist_leg_learn_input(struct ist_splice *splice, struct ist_leg *leg,
			 struct sk_buff *skb)
{
	struct dst_entry *dst = skb_dst(skb), *old;

	if (likely(dst == rcu_access_pointer(leg->input) &&
		   READ_ONCE(leg->input_ifindex) == skb->skb_iif))
		return;
	if (!dst || !dst_hold_safe(dst))
		return;
	spin_lock(&splice->lock);
	if (splice->dead) {
		old = dst;
	} else {
		old = rcu_dereference_protected(leg->input, true);
		if (leg->family == AF_INET6)
			WRITE_ONCE(leg->input_cookie,
				   rt6_get_cookie((struct rt6_info *)dst));
		WRITE_ONCE(leg->input_ifindex, skb->skb_iif);
		rcu_assign_pointer(leg->input, dst);
	}
	spin_unlock(&splice->lock);
	dst_release(old);
}

/* Gives a packet the route of those before it, if it is still good. */
void ist_leg_route_input(const struct ist_leg *leg, struct sk_buff *skb)
{
	struct dst_entry *dst = rcu_dereference(leg->input);

	if (dst && READ_ONCE(leg->input_ifindex) == skb->skb_iif &&
	    !skb_dst(skb) && dst_check(dst, READ_ONCE(leg->input_cookie)))
		skb_dst_set_noref(skb, dst);
}

/* The sender learns what fits, on its own side of the translation. */
static void ist_tell_too_big(struct net *net, struct ist_splice *splice,
			     u8 side, const struct ist_packet *packet, u32 mtu)
{
	u8 out_family = splice->leg[!side].family;

	mtu = mtu + ist_mtu_headers(packet->family) -
	      ist_mtu_headers(out_family);
	if (packet->family == AF_INET)
		ist_icmp_tell(net, splice, side, packet, ICMP_DEST_UNREACH,
			      ICMP_FRAG_NEEDED, mtu);
	else
		ist_icmp_tell(net, splice, side, packet, ICMPV6_PKT_TOOBIG, 0,
			      max_t(u32, mtu, IPV6_MIN_MTU));
}

static bool ist_may_fragment(const struct ist_packet *packet, u32 out_mtu,
			     u8 out_family)
{
	struct sk_buff *skb = packet->skb;

	if (packet->family == AF_INET)
		return !(ip_hdr(skb)->frag_off & htons(IP_DF));
	/* Reassembled: it may leave as it came. */
	if (IP6CB(skb)->frag_max_size)
		return out_family == AF_INET ||
		       IP6CB(skb)->frag_max_size <= out_mtu;
	/* Routers of IPv4 split what the sender need not (RFC 8200, 5). */
	return out_family == AF_INET && skb->len <= IPV6_MIN_MTU;
}

/* Whether a packet fits into what the other leg's route carries. */
static bool ist_fits(const struct ist_packet *packet, u8 out_family, u32 mtu)
{
	struct sk_buff *skb = packet->skb;
	u32 in_mtu = mtu + packet->offset - ist_mtu_headers(out_family);

	if (out_family == packet->family)
		in_mtu = mtu;
	if (skb->len <= in_mtu)
		return true;
	if (skb_is_gso(skb) && skb_gso_validate_network_len(skb, in_mtu))
		return true;
	return ist_may_fragment(packet, mtu, out_family);
}

/* Addresses, ports and hop count of a packet that stays in its family. */
static void ist_rewrite_ip(struct sk_buff *skb, const struct ist_tuple *out)
{
	if (skb->protocol == htons(ETH_P_IP)) {
		struct iphdr *iph = ip_hdr(skb);

		csum_replace4(&iph->check, iph->saddr, out->local.word[3]);
		csum_replace4(&iph->check, iph->daddr, out->remote.word[3]);
		iph->saddr = out->local.word[3];
		iph->daddr = out->remote.word[3];
		ip_decrease_ttl(iph);
	} else {
		struct ipv6hdr *ip6h = ipv6_hdr(skb);

		memcpy(&ip6h->saddr, &out->local, 16);
		memcpy(&ip6h->daddr, &out->remote, 16);
		ip6h->hop_limit--;
	}
}

static void ist_gso_family(struct sk_buff *skb, u32 from, u32 to)
{
	struct skb_shared_info *shared = skb_shinfo(skb);

	if (!skb_is_gso(skb) || !(shared->gso_type & from))
		return;
	shared->gso_type &= ~(from | SKB_GSO_TCP_FIXEDID);
	shared->gso_type |= to | SKB_GSO_DODGY;
	shared->gso_segs = 0;
}

/* IPv4 header off, IPv6 header on (RFC 7915, 4.1). */
static bool ist_translate_4to6(struct ist_packet *packet,
			       const struct ist_tuple *out)
{
	struct sk_buff *skb = packet->skb;
	const struct iphdr old = *ip_hdr(skb);
	struct ipv6hdr *ip6h;

	if (skb_shinfo(skb)->gso_type & SKB_GSO_FRAGLIST)
		return false;
	skb_pull(skb, packet->offset);
	if (skb_cow_head(skb, LL_MAX_HEADER + sizeof(*ip6h)))
		return false;
	ip6h = skb_push(skb, sizeof(*ip6h));
	skb_reset_network_header(skb);
	skb_set_transport_header(skb, sizeof(*ip6h));
	ip6_flow_hdr(ip6h, old.tos, 0);
	ip6h->payload_len = htons(skb->len - sizeof(*ip6h));
	ip6h->nexthdr = old.protocol;
	ip6h->hop_limit = old.ttl - 1;
	memcpy(&ip6h->saddr, &out->local, 16);
	memcpy(&ip6h->daddr, &out->remote, 16);
	skb->protocol = htons(ETH_P_IPV6);
	memset(IP6CB(skb), 0, sizeof(*IP6CB(skb)));
	/* What may be split is split here, since nobody behind us may. */
	skb->ignore_df = !(old.frag_off & htons(IP_DF));
	ist_gso_family(skb, SKB_GSO_TCPV4, SKB_GSO_TCPV6);
	packet->offset = sizeof(*ip6h);
	return true;
}

/* IPv6 headers off, IPv4 header on (RFC 7915, 5.1). */
static bool ist_translate_6to4(struct net *net, struct ist_packet *packet,
			       const struct ist_tuple *out, u8 proto)
{
	struct sk_buff *skb = packet->skb;
	const struct ipv6hdr old = *ipv6_hdr(skb);
	bool reassembled = IP6CB(skb)->frag_max_size;
	struct iphdr *iph;

	if (skb_shinfo(skb)->gso_type & SKB_GSO_FRAGLIST)
		return false;
	skb_pull(skb, packet->offset);
	if (skb_cow_head(skb, LL_MAX_HEADER + sizeof(*iph)))
		return false;
	iph = skb_push(skb, sizeof(*iph));
	skb_reset_network_header(skb);
	skb_set_transport_header(skb, sizeof(*iph));
	skb->protocol = htons(ETH_P_IP);
	memset(IPCB(skb), 0, sizeof(*IPCB(skb)));
	skb->ignore_df = 0;
	*iph = (struct iphdr) {
		.version = 4,
		.ihl = sizeof(*iph) / 4,
		.tos = ipv6_get_dsfield(&old),
		.tot_len = htons(skb->len),
		.ttl = old.hop_limit - 1,
		.protocol = proto,
		.saddr = out->local.word[3],
		.daddr = out->remote.word[3],
	};
	if (!reassembled && skb->len > IPV6_MIN_MTU - ist_mtu_headers(AF_INET))
		iph->frag_off = htons(IP_DF);
	ip_select_ident_segs(net, skb, NULL, skb_shinfo(skb)->gso_segs ?: 1);
	ip_send_check(iph);
	ist_gso_family(skb, SKB_GSO_TCPV6, SKB_GSO_TCPV4);
	packet->offset = sizeof(*iph);
	return true;
}

/* UDP over IPv6 must have a checksum, which IPv4 lets senders leave out. */
static void ist_udp_add_checksum(struct sk_buff *skb, struct udphdr *udp,
				 const struct ist_tuple *out)
{
	udp->check = ~csum_ipv6_magic((void *)&out->local, (void *)&out->remote,
				      ntohs(udp->len), IPPROTO_UDP, 0);
	skb->ip_summed = CHECKSUM_PARTIAL;
	skb->csum_start = (u8 *)udp - skb->head;
	skb->csum_offset = offsetof(struct udphdr, check);
}

static void ist_rewrite_ports(struct ist_packet *packet, u8 proto,
			      const struct ist_rewrite *plan,
			      const struct ist_tuple *out, u8 out_family)
{
	struct sk_buff *skb = packet->skb;
	void *header = skb_network_header(skb) + packet->offset;
	bool partial = skb->ip_summed == CHECKSUM_PARTIAL;
	__be16 *ports = header;
	__sum16 *check;
	u16 sum;

	ports[0] = out->local_port;
	ports[1] = out->remote_port;
	if (proto == IPPROTO_TCP) {
		check = &((struct tcphdr *)header)->check;
	} else {
		struct udphdr *udp = header;

		check = &udp->check;
		if (!udp->check && !partial) {
			if (out_family == AF_INET6 &&
			    packet->family == AF_INET)
				ist_udp_add_checksum(skb, udp, out);
			return;
		}
	}
	if (partial)
		sum = ist_check_update_partial((__force u16)*check,
					       plan->addr_delta);
	else
		sum = ist_check_update((__force u16)*check,
				       ist_rewrite_delta(plan));
	if (proto == IPPROTO_UDP && !sum && !partial)
		*check = CSUM_MANGLED_0;
	else
		*check = (__force __sum16)sum;
}

/* What must not follow a packet out of the stack that it went into. */
static void ist_scrub(struct sk_buff *skb)
{
	skb_forward_csum(skb);
	skb_clear_tstamp(skb);
	skb_orphan(skb);
	skb_ext_reset(skb);
	skb->mark = 0;
	skb->priority = 0;
	nf_reset_ct(skb);
	nf_ct_set(skb, NULL, IP_CT_UNTRACKED);
	if (skb->protocol == htons(ETH_P_IP))
		memset(&IPCB(skb)->opt, 0, sizeof(IPCB(skb)->opt));
}

/**
 * ist_forward() - send a packet out of the other leg
 * @net: namespace
 * @splice: splice
 * @side: of the leg by which it came
 * @packet: the packet
 *
 * Return: 0 when the skb was taken, else why it was not.
 */
enum ist_reason ist_forward(struct net *net, struct ist_splice *splice, u8 side,
			    struct ist_packet *packet)
{
	struct ist_leg *in = &splice->leg[side], *out = &splice->leg[!side];
	u32 l4_header = splice->proto == IPPROTO_TCP ? sizeof(struct tcphdr) :
						       sizeof(struct udphdr);
	struct sk_buff *skb = packet->skb;
	struct dst_entry *dst;
	u8 hops;

	hops = packet->family == AF_INET ? ip_hdr(skb)->ttl :
					   ipv6_hdr(skb)->hop_limit;
	if (unlikely(hops <= 1)) {
		if (packet->family == AF_INET)
			ist_icmp_tell(net, splice, side, packet,
				      ICMP_TIME_EXCEEDED, ICMP_EXC_TTL, 0);
		else
			ist_icmp_tell(net, splice, side, packet,
				      ICMPV6_TIME_EXCEED, ICMPV6_EXC_HOPLIMIT,
				      0);
		return IST_REASON_HOP_LIMIT;
	}
	if (unlikely(skb_warn_if_lro(skb)))
		return IST_REASON_UNSENDABLE;
	dst = ist_leg_route(net, splice, !side);
	if (unlikely(!dst))
		return IST_REASON_UNSENDABLE;
	skb_set_transport_header(skb, packet->offset);
	if (unlikely(!ist_fits(packet, out->family, dst_mtu(dst)))) {
		ist_tell_too_big(net, splice, side, packet, dst_mtu(dst));
		return IST_REASON_TOO_BIG;
	}
	if (unlikely(skb_ensure_writable(skb, packet->offset + l4_header)))
		return IST_REASON_NO_MEMORY;

	skb_forward_csum(skb);
	if (likely(packet->family == out->family))
		ist_rewrite_ip(skb, &out->tuple);
	else if (!(out->family == AF_INET6 ?
		   ist_translate_4to6(packet, &out->tuple) :
		   ist_translate_6to4(net, packet, &out->tuple,
				      splice->proto)))
		return IST_REASON_NO_MEMORY;
	ist_rewrite_ports(packet, splice->proto, &in->plan, &out->tuple,
			  out->family);
	ist_scrub(skb);

	skb_dst_drop(skb);
	skb_dst_set_noref(skb, dst);
	skb->dev = dst->dev;
	dst_output(net, NULL, skb);
	return IST_REASON_NONE;
}
