// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * ICMP errors about packets that left by one leg. They quote what was sent, so
 * no socket would claim them; the sender, behind the other leg, gets an error
 * about what it sent, in its own family (RFC 7915, 4.2 and 5.2).
 */
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <linux/netfilter.h>
#include <net/icmp.h>
#include <net/ip.h>
#include <net/ip6_checksum.h>
#include <net/ip6_route.h>
#include <net/ipv6.h>
#include <net/route.h>

#include "flow.h"
#include "splice.h"
#include "trace.h"

/* Of the header behind IP's, every error quotes this much at least. */
#define IST_QUOTED_BYTES	8

/**
 * struct ist_icmp_error - an error as it arrived
 * @type: of its family
 * @code: of its family
 * @info: rest of the header, the MTU above all, host byte order
 * @quoted: the packet that it is about, from the skb's data on
 * @length: of that packet, header included
 * @tuple: of the leg by which that packet left
 * @transport: first bytes behind its IP header
 */
struct ist_icmp_error {
	u8 type;
	u8 code;
	u32 info;
	u32 quoted;
	u32 length;
	struct ist_tuple tuple;
	u8 transport[IST_QUOTED_BYTES];
};

static bool ist_icmp_transport(struct ist_icmp_error *error,
			       struct sk_buff *skb, u32 offset, u8 proto)
{
	__be16 ports[2];

	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
		return false;
	if (skb_copy_bits(skb, offset, error->transport,
			  sizeof(error->transport)))
		return false;
	memcpy(ports, error->transport, sizeof(ports));
	error->tuple.local_port = ports[0];
	error->tuple.remote_port = ports[1];
	error->tuple.proto = proto;
	memset(error->tuple.pad, 0, sizeof(error->tuple.pad));
	return true;
}

static bool ist_icmp_parse4(struct ist_icmp_error *error,
			    struct ist_packet *packet)
{
	struct icmphdr buffer, *icmp;
	struct iphdr iph_buffer, *iph;

	icmp = skb_header_pointer(packet->skb, packet->offset, sizeof(buffer),
				  &buffer);
	if (!icmp || (icmp->type != ICMP_DEST_UNREACH &&
		      icmp->type != ICMP_TIME_EXCEEDED &&
		      icmp->type != ICMP_PARAMETERPROB))
		return false;
	error->type = icmp->type;
	error->code = icmp->code;
	error->info = icmp->type == ICMP_DEST_UNREACH &&
		      icmp->code == ICMP_FRAG_NEEDED ?
		      ntohs(icmp->un.frag.mtu) :
		      icmp->type == ICMP_PARAMETERPROB ?
		      ntohl(icmp->un.gateway) : 0;
	error->quoted = packet->offset + sizeof(*icmp);
	iph = skb_header_pointer(packet->skb, error->quoted, sizeof(iph_buffer),
				 &iph_buffer);
	if (!iph || iph->version != 4 || iph->ihl < 5 ||
	    iph->frag_off & htons(IP_OFFSET))
		return false;
	error->length = ntohs(iph->tot_len);
	ist_addr_set4(&error->tuple.remote, iph->daddr);
	ist_addr_set4(&error->tuple.local, iph->saddr);
	return ist_icmp_transport(error, packet->skb,
				  error->quoted + iph->ihl * 4, iph->protocol);
}

static bool ist_icmp_parse6(struct ist_icmp_error *error,
			    struct ist_packet *packet)
{
	struct icmp6hdr buffer, *icmp;
	struct ipv6hdr ip6h_buffer, *ip6h;
	__be16 fragment = 0;
	int offset;
	u8 next;

	icmp = skb_header_pointer(packet->skb, packet->offset, sizeof(buffer),
				  &buffer);
	if (!icmp || icmp->icmp6_type < ICMPV6_DEST_UNREACH ||
	    icmp->icmp6_type > ICMPV6_PARAMPROB)
		return false;
	error->type = icmp->icmp6_type;
	error->code = icmp->icmp6_code;
	error->info = ntohl(icmp->icmp6_mtu);
	error->quoted = packet->offset + sizeof(*icmp);
	ip6h = skb_header_pointer(packet->skb, error->quoted,
				  sizeof(ip6h_buffer), &ip6h_buffer);
	if (!ip6h || ip6h->version != 6)
		return false;
	error->length = ntohs(ip6h->payload_len) + sizeof(*ip6h);
	memcpy(&error->tuple.remote, &ip6h->daddr, 16);
	memcpy(&error->tuple.local, &ip6h->saddr, 16);
	next = ip6h->nexthdr;
	offset = ipv6_skip_exthdr(packet->skb, error->quoted + sizeof(*ip6h),
				  &next, &fragment);
	/* Later fragments quote no ports. */
	if (offset < 0 || fragment & htons(IP6_OFFSET))
		return false;
	return ist_icmp_transport(error, packet->skb, offset, next);
}

/* Whether a TCP end could have sent what is quoted (RFC 5927, 4). */
static bool ist_icmp_plausible(const struct ist_splice *splice, u8 side,
			       const struct ist_icmp_error *error)
{
	const struct ist_end *receiver = &splice->tcp.end[side];
	u32 window = max_t(u32, receiver->window, IST_WINDOW_LEAST);
	u32 seq;

	if (splice->proto != IPPROTO_TCP)
		return true;
	seq = ist_get32(error->transport + 4);
	return seq - (receiver->ack - window) <= 2 * window;
}

/* Routes of later packets, and of later splices, know the path's MTU, too. */
static void ist_learn_mtu(struct net *net, struct ist_packet *packet,
			  const struct ist_icmp_error *error)
{
	struct sk_buff *skb;

	/* Whole, so that the inner header can be read as a header. */
	skb = skb_copy(packet->skb, GFP_ATOMIC);
	if (!skb)
		return;
	skb_pull(skb, error->quoted);
	if (packet->family == AF_INET)
		ipv4_update_pmtu(skb, net, error->info, 0, error->tuple.proto);
	else
		ip6_update_pmtu(skb, net, htonl(error->info),
				packet->skb->dev->ifindex, 0,
				sock_net_uid(net, NULL));
	kfree_skb(skb);
}

static bool ist_icmp_4to6(struct ist_icmp_error *error)
{
	/* It points into a header that the sender never wrote. */
	if (error->type == ICMP_PARAMETERPROB)
		return false;
	if (error->type == ICMP_TIME_EXCEEDED) {
		error->type = ICMPV6_TIME_EXCEED;
		return true;
	}
	error->type = ICMPV6_DEST_UNREACH;
	switch (error->code) {
	case ICMP_PORT_UNREACH:
		error->code = ICMPV6_PORT_UNREACH;
		return true;
	case ICMP_FRAG_NEEDED:
		error->type = ICMPV6_PKT_TOOBIG;
		error->code = 0;
		return true;
	case ICMP_NET_ANO:
	case ICMP_HOST_ANO:
	case ICMP_PKT_FILTERED:
	case ICMP_PREC_CUTOFF:
		error->code = ICMPV6_ADM_PROHIBITED;
		return true;
	case ICMP_PROT_UNREACH:
		error->type = ICMPV6_PARAMPROB;
		error->code = ICMPV6_UNK_NEXTHDR;
		error->info = offsetof(struct ipv6hdr, nexthdr);
		return true;
	case ICMP_PREC_VIOLATION:
		return false;
	default:
		error->code = ICMPV6_NOROUTE;
		return true;
	}
}

static bool ist_icmp_6to4(struct ist_icmp_error *error)
{
	u8 type = error->type, code = error->code;

	error->type = ICMP_DEST_UNREACH;
	switch (type) {
	case ICMPV6_DEST_UNREACH:
		error->code = code == ICMPV6_PORT_UNREACH ? ICMP_PORT_UNREACH :
			      code == ICMPV6_ADM_PROHIBITED ? ICMP_HOST_ANO :
							      ICMP_HOST_UNREACH;
		return true;
	case ICMPV6_PKT_TOOBIG:
		error->code = ICMP_FRAG_NEEDED;
		return true;
	case ICMPV6_TIME_EXCEED:
		error->type = ICMP_TIME_EXCEEDED;
		return true;
	default:
		error->code = ICMP_PROT_UNREACH;
		error->info = 0;
		return code == ICMPV6_UNK_NEXTHDR;
	}
}

static bool ist_icmp_is_too_big(u8 family, const struct ist_icmp_error *error)
{
	if (family == AF_INET6)
		return error->type == ICMPV6_PKT_TOOBIG;
	return error->type == ICMP_DEST_UNREACH &&
	       error->code == ICMP_FRAG_NEEDED;
}

static u8 *ist_quote4(u8 *at, const struct ist_tuple *in, u32 length)
{
	struct iphdr iph = {
		.version = 4,
		.ihl = sizeof(iph) / 4,
		.tot_len = htons(length),
		.frag_off = htons(IP_DF),
		.ttl = 1,
		.protocol = in->proto,
		.saddr = in->remote.word[3],
		.daddr = in->local.word[3],
	};

	ip_send_check(&iph);
	memcpy(at, &iph, sizeof(iph));
	return at + sizeof(iph);
}

static u8 *ist_quote6(u8 *at, const struct ist_tuple *in, u32 length)
{
	struct ipv6hdr ip6h = {
		.version = 6,
		.payload_len = htons(length - sizeof(ip6h)),
		.nexthdr = in->proto,
		.hop_limit = 1,
	};

	memcpy(&ip6h.saddr, &in->remote, 16);
	memcpy(&ip6h.daddr, &in->local, 16);
	memcpy(at, &ip6h, sizeof(ip6h));
	return at + sizeof(ip6h);
}

/* Tells the sender, who is behind @side, about the packet that it sent. */
static void ist_icmp_relay(struct net *net, struct ist_splice *splice, u8 side,
			   const struct ist_icmp_error *error)
{
	struct ist_leg *leg = &splice->leg[side];
	const struct ist_tuple *in = &leg->tuple;
	u32 header = ist_mtu_headers(leg->family);
	u32 length = 8 + header + IST_QUOTED_BYTES;
	struct sk_buff *skb = ist_answer_skb(length);
	u8 *data, *at;

	if (!skb)
		return;
	data = skb_transport_header(skb);
	memset(data, 0, 8);
	data[0] = error->type;
	data[1] = error->code;
	/* The MTU of IPv4 is in the lower half of the same word. */
	ist_put32(data + 4, error->info);
	at = leg->family == AF_INET ? ist_quote4(data + 8, in, error->length) :
				      ist_quote6(data + 8, in, error->length);
	memcpy(at, error->transport, IST_QUOTED_BYTES);
	memcpy(at, &in->remote_port, sizeof(in->remote_port));
	memcpy(at + 2, &in->local_port, sizeof(in->local_port));

	if (leg->family == AF_INET) {
		struct icmphdr *icmp = (struct icmphdr *)data;

		icmp->checksum = csum_fold(csum_partial(data, length, 0));
	} else {
		struct icmp6hdr *icmp = (struct icmp6hdr *)data;

		icmp->icmp6_cksum =
			csum_ipv6_magic((void *)&in->local, (void *)&in->remote,
					length, IPPROTO_ICMPV6,
					csum_partial(data, length, 0));
	}
	ist_send(net, splice, side, skb,
		 leg->family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

/* As many errors of its own as the kernel sends by default. */
#define IST_TELL_PER_JIFFY	DIV_ROUND_UP(1000, HZ)

static bool ist_may_tell(struct ist_net *in)
{
	unsigned long now = jiffies;

	if (READ_ONCE(in->told_at) != now) {
		WRITE_ONCE(in->told_at, now);
		atomic_set(&in->told, 0);
	}
	return atomic_inc_return(&in->told) <= IST_TELL_PER_JIFFY;
}

/**
 * ist_icmp_tell() - tell a sender of an error about its packet
 * @net: namespace
 * @splice: splice
 * @side: of the leg by which the packet came
 * @packet: the packet, as it came
 * @type: of the error, in the packet's family
 * @code: likewise
 * @info: the rest of the error's header
 *
 * The stack's own errors would be found invalid by connection tracking, which
 * never saw the packet.
 */
void ist_icmp_tell(struct net *net, struct ist_splice *splice, u8 side,
		   const struct ist_packet *packet, u8 type, u8 code, u32 info)
{
	struct ist_icmp_error error = {
		.type = type,
		.code = code,
		.info = info,
		.length = min_t(u32, packet->skb->len, U16_MAX),
	};

	if (ist_may_tell(splice->alloc->in) &&
	    !skb_copy_bits(packet->skb, packet->offset, error.transport,
			   sizeof(error.transport)))
		ist_icmp_relay(net, splice, side, &error);
}

static bool ist_icmp_parse(struct ist_icmp_error *error,
			   struct ist_packet *packet, u8 proto)
{
	if (packet->family == AF_INET)
		return proto == IPPROTO_ICMP && ist_icmp_parse4(error, packet);
	return proto == IPPROTO_ICMPV6 && ist_icmp_parse6(error, packet);
}

/* Whether it is about a splice. Called in a reading section of RCU. */
bool ist_icmp_concerns(struct ist_net *in, struct ist_packet *packet, u8 proto)
{
	struct ist_icmp_error error = {};

	return ist_icmp_parse(&error, packet, proto) &&
	       ist_flow_find(in, &error.tuple);
}

unsigned int ist_icmp_input(struct ist_net *in, struct ist_packet *packet,
			    u8 proto)
{
	struct ist_icmp_error error = {};
	struct ist_splice *splice;
	struct ist_leg *leg;
	u8 side, family;

	if (!ist_icmp_parse(&error, packet, proto))
		return NF_ACCEPT;
	leg = ist_flow_find(in, &error.tuple);
	if (!leg)
		return NF_ACCEPT;
	if (nf_checksum(packet->skb, NF_INET_LOCAL_IN, packet->offset, proto,
			packet->family)) {
		ist_count_dropped(in, IST_REASON_CHECKSUM);
		return NF_DROP;
	}
	splice = ist_leg_splice(leg);
	side = !leg->side;
	family = splice->leg[side].family;
	if (!ist_icmp_plausible(splice, leg->side, &error)) {
		ist_count_dropped(in, IST_REASON_WINDOW);
		trace_ist_drop(splice->alloc->id, splice->id, &error.tuple,
			       IST_REASON_WINDOW);
		return NF_DROP;
	}
	if (ist_icmp_is_too_big(packet->family, &error)) {
		ist_learn_mtu(in->net, packet, &error);
		if (error.info)
			error.info += ist_mtu_headers(family) -
				      ist_mtu_headers(packet->family);
	}
	error.length += ist_mtu_headers(family) -
			ist_mtu_headers(packet->family);
	if (packet->family == AF_INET && family == AF_INET6 &&
	    !ist_icmp_4to6(&error))
		return NF_DROP;
	if (packet->family == AF_INET6 && family == AF_INET &&
	    !ist_icmp_6to4(&error))
		return NF_DROP;
	ist_icmp_relay(in->net, splice, side, &error);
	consume_skb(packet->skb);
	return NF_STOLEN;
}
