/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Frames as they come in. */
#ifndef _IST_BPF_PACKET_H
#define _IST_BPF_PACKET_H

#include <bpf/bpf_endian.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>

#include "maps.h"

/* Not ours, or not any more: whatever else looks at packets goes on. */
#define IST_PASS	TC_ACT_UNSPEC

#define IST_HEADERS_MOST	(ETH_HLEN + sizeof(struct ipv6hdr) + 60)

static __always_inline __u32 ist_ip_bytes(bool v6)
{
	return v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
}

/* IPv6 has a header of its own for them. */
struct ist_fragment_header {
	__u8 next;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

/* Offset of the header behind IP's. The verifier wants to see its bound. */
static __always_inline __u32 ist_l4(const struct ist_packet *packet)
{
	__u32 l4 = ETH_HLEN + ist_ip_bytes(packet->v6);

	if (packet->v6 && packet->fragment)
		l4 += sizeof(struct ist_fragment_header);
	return l4 & 63;
}

/*
 * Where a frame begins and ends. Compilers cut these fields to the 32 bits that
 * they are declared to have; to the verifier they are pointers then no more.
 */
#define IST_FRAME(name, field)						\
static __always_inline void *name(const struct __sk_buff *skb)		\
{									\
	void *result;							\
									\
	asm volatile("%0 = *(u32 *)(%1 + %2)"				\
		     : "=r"(result)					\
		     : "r"(skb), "i"(offsetof(struct __sk_buff, field)));\
	return result;							\
}

IST_FRAME(ist_data, data)
IST_FRAME(ist_data_end, data_end)

static __always_inline bool ist_parse4(struct ist_packet *packet,
				       struct __sk_buff *skb)
{
	void *end = ist_data_end(skb);
	struct iphdr *ip = ist_data(skb) + ETH_HLEN;

	if ((void *)(ip + 1) > end)
		return false;
	/* Options stop in front of a splice. */
	if (*(__u8 *)ip != 0x45)
		return false;
	if (ip->frag_off & bpf_htons(0x3fff)) {
		packet->id = ip->id;
		packet->fragment = ip->frag_off & bpf_htons(0x1fff) ?
				   IST_LATER_FRAGMENT : IST_FIRST_FRAGMENT;
	}
	packet->tuple.proto = ip->protocol;
	packet->hops = ip->ttl;
	packet->length = bpf_ntohs(ip->tot_len) - sizeof(*ip);
	ist_addr_set4(&packet->tuple.remote, ip->saddr);
	ist_addr_set4(&packet->tuple.local, ip->daddr);
	return true;
}

static __always_inline bool ist_parse6(struct ist_packet *packet,
				       struct __sk_buff *skb)
{
	void *end = ist_data_end(skb);
	struct ipv6hdr *ip = ist_data(skb) + ETH_HLEN;

	if ((void *)(ip + 1) > end)
		return false;
	packet->tuple.proto = ip->nexthdr;
	packet->hops = ip->hop_limit;
	packet->length = bpf_ntohs(ip->payload_len);
	__builtin_memcpy(&packet->tuple.remote, &ip->saddr, 16);
	__builtin_memcpy(&packet->tuple.local, &ip->daddr, 16);
	packet->v6 = true;
	if (ip->nexthdr == IPPROTO_FRAGMENT) {
		struct ist_fragment_header *fragment = (void *)(ip + 1);

		if ((void *)(fragment + 1) > end)
			return false;
		packet->tuple.proto = fragment->next;
		packet->length -= sizeof(*fragment);
		packet->id = fragment->id;
		packet->fragment = fragment->offset & bpf_htons(0xfff8) ?
				   IST_LATER_FRAGMENT : IST_FIRST_FRAGMENT;
	}
	return true;
}

/* Return: false for what is neither TCP nor UDP. */
static __always_inline bool ist_parse(struct ist_packet *packet,
				      struct __sk_buff *skb)
{
	void *data, *end;
	__be16 *ports;
	__u64 linear;
	bool known;

	__builtin_memset(packet, 0, sizeof(*packet));
	if (skb->vlan_present)
		return false;
	linear = ist_data_end(skb) - ist_data(skb);
	if (linear < IST_HEADERS_MOST && linear < skb->len)
		bpf_skb_pull_data(skb, skb->len < IST_HEADERS_MOST ?
				       skb->len : IST_HEADERS_MOST);
	if (skb->protocol == bpf_htons(ETH_P_IP))
		known = ist_parse4(packet, skb);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		known = ist_parse6(packet, skb);
	else
		return false;
	if (!known)
		return false;
	/* Senders of TCP do not fragment. */
	if (packet->tuple.proto != IPPROTO_UDP &&
	    (packet->tuple.proto != IPPROTO_TCP || packet->fragment))
		return false;
	if (packet->fragment == IST_LATER_FRAGMENT)
		return packet->length + ist_l4(packet) <= skb->len;
	/* A packet that was put together from many may be longer. */
	if (skb->gso_size)
		packet->length = skb->len - ist_l4(packet);
	data = ist_data(skb);
	end = ist_data_end(skb);
	ports = data + ist_l4(packet);
	if ((void *)(ports + 2) > end)
		return false;
	packet->tuple.remote_port = ports[0];
	packet->tuple.local_port = ports[1];
	return packet->length + ist_l4(packet) <= skb->len;
}

static __always_inline bool ist_parse_segment(struct ist_segment *segment,
					      const struct ist_packet *packet,
					      struct __sk_buff *skb)
{
	void *end = ist_data_end(skb);
	__u8 *header = ist_data(skb) + ist_l4(packet);

	return (void *)(header + IST_TCP_HEADER_BYTES) <= end &&
	       ist_segment_parse(segment, header, packet->length);
}

/*
 * Loads the options of a TCP header that begins at @l4 into a buffer of
 * IST_TCP_OPTIONS_BUFFER bytes.
 */
static __always_inline bool ist_load_options(struct __sk_buff *skb, __u32 l4,
					     __u8 *to, __u32 bytes)
{
	if (!bytes)
		return true;
	bytes--;
	/* The verifier must see the bound at the register that is used. */
	asm volatile("" : "+r"(bytes));
	bytes = (bytes & (IST_TCP_OPTIONS_BUFFER - 1)) + 1;
	return !bpf_skb_load_bytes(skb, l4 + IST_TCP_HEADER_BYTES, to, bytes);
}

/* The options of a SYN. */
static __always_inline bool ist_parse_offer(struct ist_scratch *scratch,
					    const struct ist_segment *segment,
					    const struct ist_packet *packet,
					    struct __sk_buff *skb)
{
	if (!ist_load_options(skb, ist_l4(packet), scratch->options,
			      segment->options))
		return false;
	ist_offer_parse(&scratch->offer, scratch->options, segment->options,
			segment->flags);
	return true;
}

/* The way by which a frame came, backwards. */
static __always_inline bool ist_way_back(struct ist_bpf_way *way,
					 struct __sk_buff *skb)
{
	struct ethhdr *eth = ist_data(skb);

	if ((void *)(eth + 1) > ist_data_end(skb))
		return false;
	way->ifindex = skb->ifindex;
	__builtin_memcpy(way->to, eth->h_source, ETH_ALEN);
	__builtin_memcpy(way->from, eth->h_dest, ETH_ALEN);
	return true;
}

static __always_inline int ist_drop(enum ist_reason reason)
{
	ist_count_dropped(reason);
	return TC_ACT_SHOT;
}

#endif /* _IST_BPF_PACKET_H */
