/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The way of a frame from one leg to the other. */
#ifndef _IST_BPF_FORWARD_H
#define _IST_BPF_FORWARD_H

#include "packet.h"

#define IST_AF_INET	2
#define IST_AF_INET6	10

#define IST_NS_PER_SECOND	1000000000ULL
/* So long routes, neighbours and devices may have been others. */
#define IST_WAY_NS		IST_NS_PER_SECOND
/* As many senders are told of their packets as the kernel tells by default. */
#define IST_TELL_NS		50000000ULL
#define IST_TELL_MOST		50
/* The least that every link with IPv6 carries (RFC 8200, 5). */
#define IST_MTU_LEAST6		1280
/* What may be sent ahead of the rate. */
#define IST_RATE_BURST_NS	100000000ULL
#define IST_RATE_TRIES		8

/*
 * Before Linux 6.16 a packet on the loopback device keeps the route of its old
 * family when it is turned into one of the other, which crashes the kernel.
 */
const volatile bool ist_loopback_translates = false;

static __always_inline bool ist_leg_is6(const struct ist_bpf_leg *leg)
{
	return !ist_addr_is4(&leg->tuple.remote);
}

static __always_inline bool ist_addr_is_multicast(const struct ist_addr *addr)
{
	const __u8 *byte = (const __u8 *)addr;

	return ist_addr_is4(addr) ? (byte[12] & 0xf0) == 0xe0 : byte[0] == 0xff;
}

/*
 * Finds the way to a leg's remote end: out of the interface that the host's
 * routes say where it forwards packets, else of that by which the leg's own
 * packets come. @scratch->ask: the packet at hand is to ask for the neighbour.
 */
static __noinline int ist_way_find(struct __sk_buff *skb,
				   struct ist_scratch *scratch,
				   struct ist_bpf_leg *leg, __u64 now)
{
	struct bpf_fib_lookup *fib = &scratch->fib;
	struct ist_bpf_way *way = &scratch->way;
	bool resolve = false;
	__u32 mtu = 0;
	long result;

	scratch->route_mtu = 0;
	__builtin_memset(fib, 0, sizeof(*fib));
	fib->ifindex = skb->ifindex;
	/* What hardly any route carries: so its MTU is told, and nothing else. */
	fib->tot_len = 0xffff;
	fib->l4_protocol = leg->tuple.proto;
	fib->sport = leg->tuple.local_port;
	fib->dport = leg->tuple.remote_port;
	if (ist_leg_is6(leg)) {
		fib->family = IST_AF_INET6;
		__builtin_memcpy(fib->ipv6_src, &leg->tuple.local, 16);
		__builtin_memcpy(fib->ipv6_dst, &leg->tuple.remote, 16);
	} else {
		fib->family = IST_AF_INET;
		fib->ipv4_src = leg->tuple.local.word[3];
		fib->ipv4_dst = leg->tuple.remote.word[3];
	}
	result = bpf_fib_lookup(skb, fib, sizeof(*fib), 0);
	if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED) {
		scratch->route_mtu = fib->mtu_result;
		fib->tot_len = 1;
		result = bpf_fib_lookup(skb, fib, sizeof(*fib), 0);
	}
	if (result == BPF_FIB_LKUP_RET_UNREACHABLE ||
	    result == BPF_FIB_LKUP_RET_PROHIBIT ||
	    result == BPF_FIB_LKUP_RET_BLACKHOLE)
		return -1;
	*way = leg->seen;
	if (result == BPF_FIB_LKUP_RET_SUCCESS ||
	    result == BPF_FIB_LKUP_RET_NO_NEIGH)
		way->ifindex = fib->ifindex;
	/*
	 * Who has been silent may have moved, and whoever is reached by another
	 * interface than it sends by was never seen there. The host's table of
	 * neighbours knows, as long as some packet goes out by it: nothing else
	 * probes what is stale in it.
	 */
	resolve = way->ifindex != leg->seen.ifindex ||
		  (way->ifindex != IST_LOOPBACK &&
		   now - leg->heard > IST_WAY_NS);
	/* What goes to a group is nobody's in particular. */
	if (ist_addr_is_multicast(&leg->tuple.remote))
		resolve = false;
	scratch->ask = resolve;
	if (resolve && result == BPF_FIB_LKUP_RET_SUCCESS) {
		__builtin_memcpy(way->to, fib->dmac, ETH_ALEN);
		__builtin_memcpy(way->from, fib->smac, ETH_ALEN);
		resolve = false;
	}
	if (bpf_check_mtu(skb, way->ifindex, &mtu, 0, 0) < 0 && !mtu)
		return -1;
	if (scratch->route_mtu && scratch->route_mtu < mtu)
		mtu = scratch->route_mtu;
	if (now < leg->path_until && leg->path_mtu < mtu)
		mtu = leg->path_mtu;
	leg->way = *way;
	leg->mtu = mtu;
	leg->resolve = resolve;
	leg->way_until = now + IST_WAY_NS;
	return 0;
}

static __always_inline bool ist_way_equal(const struct ist_bpf_way *a,
					  const struct ist_bpf_way *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3];
}

/* Remembers where the leg's packets come from. */
static __always_inline void ist_leg_heard(struct __sk_buff *skb,
					  struct ist_bpf_leg *leg, __u64 now)
{
	struct ist_bpf_way way = {};

	if (!ist_way_back(&way, skb))
		return;
	if (!ist_way_equal(&way, &leg->seen)) {
		leg->seen = way;
		leg->way_until = 0;
	}
	leg->heard = now;
}

/*
 * Whether the rate allows a packet: everything sent moves the moment at which it
 * has been paid for; a packet passes as long as that moment is not too far
 * ahead, however large it is.
 */
static __always_inline bool ist_rate_admits(__u64 alloc, __u64 rate,
					    __u32 bytes)
{
	struct ist_bpf_usage *usage = bpf_map_lookup_elem(&ist_usage, &alloc);
	__u64 before, due, now = bpf_ktime_get_ns();
	int i;

	if (!usage || !bytes)
		return true;
	for (i = 0; i < IST_RATE_TRIES; i++) {
		before = usage->rate_due;
		due = before > now ? before : now;
		if (due - now > IST_RATE_BURST_NS)
			return false;
		due += bytes * IST_NS_PER_SECOND / rate;
		if (__sync_val_compare_and_swap(&usage->rate_due, before,
						due) == before)
			return true;
	}
	return false;
}

/* @header: how long the one behind IP's is */
static __always_inline bool ist_fits(struct __sk_buff *skb,
				     const struct ist_packet *packet,
				     __u32 header, bool v6, __u32 mtu)
{
	/* Those of a larger packet are as long as its sender's segments. */
	__u32 l4 = skb->gso_size ? skb->gso_size + header : packet->length;

	if (v6 == packet->v6)
		return l4 + ist_l4(packet) - ETH_HLEN <= mtu;
	return l4 + ist_ip_bytes(v6) <= mtu;
}

/* Changes the family; the fields that follow the leg are written later. */
static __always_inline bool ist_translate(struct __sk_buff *skb,
					  const struct ist_packet *packet,
					  bool v6)
{
	__u16 length = bpf_htons(packet->length);
	__be16 ethertype = bpf_htons(v6 ? ETH_P_IPV6 : ETH_P_IP);
	__u8 tos, hops;

	if (v6) {
		struct ipv6hdr ip = { .version = 6 };

		if (bpf_skb_load_bytes(skb, ETH_HLEN + 1, &tos, 1) ||
		    bpf_skb_load_bytes(skb, ETH_HLEN + 8, &hops, 1) ||
		    bpf_skb_change_proto(skb, ethertype, 0))
			return false;
		ip.priority = tos >> 4;
		ip.flow_lbl[0] = tos << 4;
		ip.payload_len = length;
		ip.nexthdr = packet->tuple.proto;
		ip.hop_limit = hops;
		if (bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), 0))
			return false;
	} else {
		struct iphdr ip = { .version = 4, .ihl = 5 };
		__u8 first[2];
		__u32 sum = 0;
		int i;

		if (bpf_skb_load_bytes(skb, ETH_HLEN, first, 2) ||
		    bpf_skb_load_bytes(skb, ETH_HLEN + 7, &hops, 1) ||
		    bpf_skb_change_proto(skb, ethertype, 0))
			return false;
		ip.tos = first[0] << 4 | first[1] >> 4;
		ip.tot_len = bpf_htons(packet->length + sizeof(ip));
		ip.id = (__u16)bpf_get_prandom_u32();
		ip.ttl = hops;
		ip.protocol = packet->tuple.proto;
		for (i = 0; i < 10; i++)
			sum += ((__u16 *)&ip)[i];
		ip.check = ~ist_sum_fold(sum);
		if (bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), 0))
			return false;
	}
	return !bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto),
				    &ethertype, 2, 0);
}

/* Addresses and hop count. Return: false when it is too short. */
static __always_inline bool ist_rewrite_ip(struct __sk_buff *skb, bool v6,
					   const struct ist_tuple *out)
{
	void *data = ist_data(skb), *end = ist_data_end(skb);

	if (v6) {
		struct ipv6hdr *ip = data + ETH_HLEN;

		if ((void *)(ip + 1) > end)
			return false;
		__builtin_memcpy(&ip->saddr, &out->local, 16);
		__builtin_memcpy(&ip->daddr, &out->remote, 16);
		ip->hop_limit--;
	} else {
		struct iphdr *ip = data + ETH_HLEN;
		__u32 before, after;

		if ((void *)(ip + 1) > end)
			return false;
		before = ist_sum_add(ip->saddr, ip->daddr);
		after = ist_sum_add(out->local.word[3], out->remote.word[3]);
		/* The hop count is the first byte of its word. */
		before = ist_sum_add(before, bpf_htons(0x0100));
		ip->check = ist_check_update(ip->check,
					     ist_sum_delta(before, after));
		ip->saddr = out->local.word[3];
		ip->daddr = out->remote.word[3];
		ip->ttl--;
	}
	return true;
}

/* Ports, and the checksum behind them. @l4: offset of their header */
static __always_inline bool ist_rewrite_l4(struct __sk_buff *skb, __u32 l4,
					   const struct ist_tuple *out,
					   const struct ist_rewrite *plan)
{
	__be16 *ports = ist_data(skb) + (l4 & 63);
	__u64 flags = 0;
	__u32 at;

	if ((void *)(ports + 2) > ist_data_end(skb))
		return false;
	ports[0] = out->local_port;
	ports[1] = out->remote_port;
	if (out->proto == IPPROTO_TCP) {
		at = l4 + 16;
	} else {
		at = l4 + 6;
		flags = BPF_F_MARK_MANGLED_0;
	}
	bpf_l4_csum_replace(skb, at, 0, plan->addr_delta,
			    flags | BPF_F_PSEUDO_HDR);
	if (plan->port_delta)
		bpf_l4_csum_replace(skb, at, 0, plan->port_delta, flags);
	return true;
}

/* UDP over IPv6 must have a checksum, which IPv4 lets senders leave out. */
static __always_inline bool ist_udp_unsummed(struct __sk_buff *skb,
					     const struct ist_packet *packet)
{
	__u16 check = 0;

	return packet->tuple.proto == IPPROTO_UDP && !packet->v6 &&
	       !bpf_skb_load_bytes(skb, ist_l4(packet) + 6, &check, 2) &&
	       !check;
}

/*
 * Receivers of a fan-out that have one address would take the fragments of
 * theirs for those of one datagram.
 */
static __always_inline bool ist_fragment_rename(struct __sk_buff *skb, bool v6,
						__u32 slot)
{
	__u16 before, after;
	__u32 id;

	if (v6) {
		const __u32 at = ETH_HLEN + sizeof(struct ipv6hdr) +
				 offsetof(struct ist_fragment_header, id);

		if (bpf_skb_load_bytes(skb, at, &id, sizeof(id)))
			return false;
		id += slot * 0x9e3779b1;
		return !bpf_skb_store_bytes(skb, at, &id, sizeof(id), 0);
	}
	if (bpf_skb_load_bytes(skb, ETH_HLEN + 4, &before, sizeof(before)))
		return false;
	after = before + slot * 0x9e37;
	return !bpf_skb_store_bytes(skb, ETH_HLEN + 4, &after, sizeof(after),
				    0) &&
	       !bpf_l3_csum_replace(skb, ETH_HLEN + 10, before, after,
				    sizeof(after));
}

/* Sends a frame that is ready on its way to a leg's remote end. */
static __always_inline int ist_send(struct __sk_buff *skb,
				    const struct ist_bpf_leg *leg, bool resolve)
{
	struct ethhdr *eth = ist_data(skb);

	if (resolve)
		return bpf_redirect_neigh(leg->way.ifindex, NULL, 0, 0);
	if ((void *)(eth + 1) > ist_data_end(skb))
		return ist_drop(IST_REASON_UNSENDABLE);
	__builtin_memcpy(eth->h_dest, leg->way.to, ETH_ALEN);
	__builtin_memcpy(eth->h_source, leg->way.from, ETH_ALEN);
	return bpf_redirect(leg->way.ifindex, 0);
}

/* Sends a copy of a frame that is ready. No copy can ask for a neighbour. */
static __always_inline int ist_send_copy(struct __sk_buff *skb,
					 const struct ist_bpf_leg *leg)
{
	if (bpf_skb_store_bytes(skb, 0, leg->way.to, 2 * ETH_ALEN, 0) ||
	    bpf_clone_redirect(skb, leg->way.ifindex, 0))
		return ist_drop(IST_REASON_UNSENDABLE);
	return TC_ACT_REDIRECT;
}

static __always_inline bool ist_may_tell(struct ist_scratch *scratch, __u64 now)
{
	if (now - scratch->told_since >= IST_TELL_NS) {
		scratch->told_since = now;
		scratch->told = 0;
	}
	return scratch->told++ < IST_TELL_MOST;
}

/* No verdict of the hook is less. */
#define IST_REFUSED	(-16)

/*
 * Drops a packet, about which user space tells its sender: none that was made of
 * it here could be sure of its checksum.
 */
static __noinline int ist_refuse(struct __sk_buff *skb,
				 const struct ist_packet *packet,
				 const struct ist_bpf_flow *flow,
				 const struct ist_bpf_splice *splice,
				 __u32 reason)
{
	const struct ist_bpf_leg *out = &splice->leg[(flow->side & 1) ^ 1];
	struct ist_scratch *scratch = ist_scratch();
	struct ist_bpf_event *event;
	__u32 length, mtu;

	/*
	 * Later fragments have no ports that could be quoted, and what the way
	 * of one receiver carries is no affair of the source of all.
	 */
	if (!scratch || packet->fragment == IST_LATER_FRAGMENT ||
	    (splice->mode == IST_MODE_FANOUT && !(flow->side & 1)) ||
	    !ist_may_tell(scratch, ist_now()))
		return ist_drop(reason);
	length = packet->length + ist_ip_bytes(packet->v6);
	mtu = out->mtu + ist_ip_bytes(packet->v6) -
	      ist_ip_bytes(ist_leg_is6(out));
	event = &scratch->event;
	__builtin_memset(event, 0, sizeof(*event));
	event->splice = flow->splice;
	event->kind = IST_BPF_EVENT_PACKET;
	event->proto = packet->tuple.proto;
	event->side = flow->side;
	event->reason = reason;
	event->length = length > 0xffff ? 0xffff : length;
	event->mtu = packet->v6 && mtu < IST_MTU_LEAST6 ? IST_MTU_LEAST6 : mtu;
	if (!bpf_skb_load_bytes(skb, ist_l4(packet), event->quoted,
				IST_QUOTED_BYTES))
		ist_tell(event);
	return ist_drop(reason);
}

/*
 * Sends a packet of leg @side out of the other. Return: a verdict, or less than
 * IST_REFUSED by a reason of which its sender is to be told.
 */
static __always_inline int ist_forward(struct __sk_buff *skb,
				       struct ist_scratch *scratch,
				       struct ist_packet *packet,
				       struct ist_bpf_splice *splice,
				       __u32 side, __u64 now)
{
	struct ist_bpf_leg *in = &splice->leg[side & 1];
	struct ist_bpf_leg *out = &splice->leg[(side & 1) ^ 1];
	bool v6 = ist_leg_is6(out);
	bool resolve;
	__u32 l4;

	if (packet->hops <= 1)
		return IST_REFUSED - IST_REASON_HOP_LIMIT;
	scratch->ask = out->resolve;
	if (now >= out->way_until && ist_way_find(skb, scratch, out, now))
		return ist_drop(IST_REASON_UNSENDABLE);
	if (!ist_fits(skb, packet, scratch->header, v6, out->mtu))
		return IST_REFUSED - IST_REASON_TOO_BIG;
	resolve = scratch->ask;
	if (v6 != packet->v6) {
		/* It has lost its route, without which 127.0.0.0/8 is refused. */
		if (out->way.ifindex == IST_LOOPBACK)
			resolve = true;
		if ((skb->ifindex == IST_LOOPBACK &&
		     !ist_loopback_translates) ||
		    packet->fragment || ist_udp_unsummed(skb, packet))
			return ist_drop(IST_REASON_UNSENDABLE);
		packet->form = IST_IN_BETWEEN;
		if (!ist_translate(skb, packet, v6))
			return ist_drop(IST_REASON_UNSENDABLE);
	}
	packet->form = IST_IN_BETWEEN;
	l4 = v6 == packet->v6 ? ist_l4(packet) : ETH_HLEN + ist_ip_bytes(v6);
	if (!ist_rewrite_ip(skb, v6, &out->tuple) ||
	    (packet->fragment != IST_LATER_FRAGMENT &&
	     !ist_rewrite_l4(skb, l4, &out->tuple, &in->plan)))
		return ist_drop(IST_REASON_MALFORMED);
	if (packet->fragment && !side && splice->mode == IST_MODE_FANOUT &&
	    !ist_fragment_rename(skb, v6, splice->slot))
		return ist_drop(IST_REASON_MALFORMED);
	packet->form = IST_AS_IT_GOES;
	return packet->copied ? ist_send_copy(skb, out) :
				ist_send(skb, out, resolve);
}

/* Nothing passes any more; user space tells both ends and clears away. */
static __always_inline void ist_splice_exhaust(struct ist_scratch *scratch,
					       __u64 id,
					       struct ist_bpf_splice *splice,
					       enum ist_reason reason)
{
	bool ended;

	bpf_spin_lock(&splice->lock);
	ended = !splice->dead && !splice->over;
	splice->dead = 1;
	if (ended) {
		splice->over = 1;
		splice->reason = reason;
		splice->tcp.state = IST_STATE_CLOSED;
	}
	bpf_spin_unlock(&splice->lock);
	if (!ended)
		return;
	ist_count_live(splice->alloc, splice->proto, -1);
	ist_count_ended(reason);
	ist_tell_splice(&scratch->event, id, splice, 0);
}

static __always_inline void
ist_fragment_key(struct ist_bpf_fragment_key *key,
		 const struct ist_packet *packet)
{
	key->remote = packet->tuple.remote;
	key->local = packet->tuple.local;
	key->id = packet->id;
	key->v6 = packet->v6;
}

/* The fragments behind this one belong where it does. */
static __always_inline void
ist_fragments_follow(struct ist_scratch *scratch,
		     const struct ist_packet *packet,
		     const struct ist_bpf_flow *flow)
{
	if (packet->fragment != IST_FIRST_FRAGMENT)
		return;
	ist_fragment_key(&scratch->fragment, packet);
	bpf_map_update_elem(&ist_fragments, &scratch->fragment, flow, BPF_ANY);
}

/* Return: what keeps a packet from passing. */
static __noinline enum ist_reason
ist_limits_refuse(struct ist_scratch *scratch, const struct ist_bpf_flow *flow,
		  struct ist_bpf_splice *splice, __u32 payload, __u32 revision)
{
	struct ist_bpf_alloc *alloc;
	__u64 alloc_id = splice->alloc;

	alloc = bpf_map_lookup_elem(&ist_allocs, &alloc_id);
	if (!alloc)
		return IST_REASON_RELEASED;
	if (!alloc->bytes && !alloc->rate) {
		splice->unlimited = revision;
		return IST_REASON_NONE;
	}
	if (alloc->bytes && splice->leg[0].bytes + splice->leg[1].bytes +
			    payload > alloc->bytes) {
		ist_splice_exhaust(scratch, flow->splice, splice,
				   IST_REASON_BYTE_LIMIT);
		return IST_REASON_BYTE_LIMIT;
	}
	if (alloc->rate && !ist_rate_admits(alloc_id, alloc->rate, payload))
		return IST_REASON_RATE;
	return IST_REASON_NONE;
}

/* Holds a packet that may pass to the limits, and sends it. */
static __noinline int ist_output(struct __sk_buff *skb,
				 struct ist_scratch *scratch,
				 const struct ist_bpf_flow *flow,
				 struct ist_bpf_splice *splice, __u32 payload)
{
	struct ist_bpf_leg *leg = &splice->leg[flow->side & 1];
	struct ist_packet *packet = &scratch->packet;
	__u32 revision = ist_revision_now();
	struct ist_bpf_counters *counters;
	__u64 now = ist_now();
	enum ist_reason reason;
	int verdict;

	/* Read before the limits: what changes meanwhile is of the next one. */
	if (!revision || splice->unlimited != revision) {
		reason = ist_limits_refuse(scratch, flow, splice, payload,
					   revision);
		if (reason)
			return ist_drop(reason);
	}
	if (splice->tcp.state != IST_STATE_CLOSED)
		ist_leg_heard(skb, leg, now);
	scratch->header = packet->length - payload;
	verdict = ist_forward(skb, scratch, packet, splice, flow->side, now);
	if (verdict < IST_REFUSED)
		return ist_refuse(skb, packet, flow, splice,
				  IST_REFUSED - verdict);
	if (verdict != TC_ACT_REDIRECT)
		return verdict;
	__sync_fetch_and_add(&leg->packets, 1);
	__sync_fetch_and_add(&leg->bytes, payload);
	counters = ist_counters_here();
	if (counters) {
		counters->packets++;
		counters->bytes += payload;
	}
	return verdict;
}

#endif /* _IST_BPF_FORWARD_H */
