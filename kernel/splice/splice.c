// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Splices: two legs that met, from the first answer to the last late packet. */
#include <linux/ip.h>
#include <linux/netfilter.h>
#include <linux/slab.h>
#include <linux/udp.h>

#include "compat.h"
#include "flow.h"
#include "splice.h"
#include "trace.h"

static struct kmem_cache *ist_splice_cache;

int ist_splice_cache_create(void)
{
	ist_splice_cache = KMEM_CACHE(ist_splice, SLAB_HWCACHE_ALIGN);
	return ist_splice_cache ? 0 : -ENOMEM;
}

void ist_splice_cache_destroy(void)
{
	kmem_cache_destroy(ist_splice_cache);
}

static void ist_splice_timer(struct timer_list *timer);

static void ist_leg_init(struct ist_leg *leg, u8 side,
			 const struct ist_waiting *waiting)
{
	leg->tuple = waiting->half.tuple;
	leg->side = side;
	leg->family = ist_addr_is4(&leg->tuple.remote) ? AF_INET : AF_INET6;
	leg->ifindex = waiting->ifindex;
}

static void ist_splice_unlist(struct ist_splice *splice)
{
	struct ist_alloc *alloc = splice->alloc;
	u8 side;

	for (side = 0; side < IST_SIDES; side++) {
		struct ist_leg *leg = &splice->leg[side];

		if (leg->listed)
			rhashtable_remove_fast(&alloc->in->flows, &leg->node,
					       ist_flow_params);
		leg->listed = false;
	}
	xa_erase_bh(&alloc->in->splices, splice->id);
	spin_lock(&alloc->lock);
	list_del_rcu(&splice->node);
	spin_unlock(&alloc->lock);
}

/* Called with the splice's lock. Return: 0 or why it is in no table. */
static enum ist_reason ist_splice_list(struct ist_splice *splice)
{
	struct ist_alloc *alloc = splice->alloc;
	/* All receivers of a fan-out have the same source. */
	u8 side = splice->mode == IST_MODE_FANOUT ? 1 : 0;
	bool dead;
	int err;

	spin_lock(&alloc->lock);
	dead = alloc->dead;
	if (!dead)
		list_add_tail_rcu(&splice->node, &alloc->splices);
	spin_unlock(&alloc->lock);
	if (dead)
		return IST_REASON_RELEASED;
	err = xa_err(xa_store_bh(&alloc->in->splices, splice->id, splice,
				 GFP_ATOMIC));
	for (; !err && side < IST_SIDES; side++) {
		struct ist_leg *leg = &splice->leg[side];

		err = rhashtable_lookup_insert_fast(&alloc->in->flows,
						    &leg->node,
						    ist_flow_params);
		leg->listed = !err;
	}
	if (!err)
		return IST_REASON_NONE;
	ist_splice_unlist(splice);
	return err == -EEXIST ? IST_REASON_STRAY_SYN : IST_REASON_NO_MEMORY;
}

static void ist_splice_free(struct rcu_head *rcu)
{
	struct ist_splice *splice = container_of(rcu, struct ist_splice, rcu);

	if (splice->proto == IPPROTO_UDP)
		ist_cell_put(splice->udp.cell);
	ist_alloc_put(splice->alloc);
	kmem_cache_free(ist_splice_cache, splice);
}

void ist_splice_put(struct ist_splice *splice)
{
	if (refcount_dec_and_test(&splice->refs))
		call_rcu(&splice->rcu, ist_splice_free);
}

/* Called with the splice's lock. */
static void ist_splice_start(struct ist_splice *splice)
{
	u32 ms = ist_alloc_timeout(splice->alloc, IST_TIMEOUT_SYN_ACK);
	struct ist_net *in = splice->alloc->in;

	atomic_inc(&in->live);
	if (splice->proto == IPPROTO_UDP)
		atomic_inc(&in->live_udp);
	splice->syn_ack_at = jiffies + msecs_to_jiffies(ms);
	ist_splice_event(splice);
	trace_ist_state(splice);
	ist_splice_arm(splice);
}

/**
 * ist_splice_create() - make a splice of two legs
 * @cell: where they met; its lock is held
 * @side0: one of them
 * @side1: the other
 * @refusal: why not, when the result is NULL
 *
 * Return: with a reference for the caller, since its end may come at once.
 */
struct ist_splice *ist_splice_create(struct ist_cell *cell,
				     const struct ist_waiting *side0,
				     const struct ist_waiting *side1,
				     enum ist_reason *refusal)
{
	struct ist_alloc *alloc = cell->alloc;
	u32 limit = READ_ONCE(alloc->limits.splices);
	struct ist_net *in = alloc->in;
	struct ist_splice *splice;

	if (atomic_read(&in->live) + atomic_read(&in->lingering) >=
	    READ_ONCE(ist_max_splices)) {
		*refusal = IST_REASON_TABLE_FULL;
		return NULL;
	}
	if (atomic_inc_return(&alloc->live) > limit && limit) {
		*refusal = IST_REASON_SPLICE_LIMIT;
		goto err_live;
	}
	*refusal = IST_REASON_NO_MEMORY;
	splice = kmem_cache_zalloc(ist_splice_cache, GFP_ATOMIC);
	if (!splice)
		goto err_live;
	refcount_set(&splice->refs, 2);
	spin_lock_init(&splice->lock);
	timer_setup(&splice->timer, ist_splice_timer, 0);
	splice->alloc = alloc;
	splice->id = atomic64_inc_return(&in->next_splice);
	splice->created = get_jiffies_64();
	splice->heard = jiffies;
	splice->cell_number = cell->number;
	splice->proto = side1->half.tuple.proto;
	splice->mode = cell->mode;
	ist_leg_init(&splice->leg[0], 0, side0);
	ist_leg_init(&splice->leg[1], 1, side1);
	ist_rewrite_plan(&splice->leg[0].plan, &splice->leg[0].tuple,
			 &splice->leg[1].tuple);
	ist_rewrite_plan(&splice->leg[1].plan, &splice->leg[1].tuple,
			 &splice->leg[0].tuple);
	if (splice->proto == IPPROTO_TCP) {
		ist_connection_open(&splice->tcp, &side0->half, &side1->half);
	} else {
		splice->tcp.state = IST_STATE_ESTABLISHED;
		refcount_inc(&cell->refs);
		splice->udp.cell = cell;
		INIT_LIST_HEAD(&splice->udp.receiver);
	}
	refcount_inc(&alloc->refs);

	/*
	 * Whoever finds it in a table meanwhile waits: nobody hears of its end
	 * before its start, and nobody ends what was refused.
	 */
	spin_lock(&splice->lock);
	*refusal = ist_splice_list(splice);
	splice->dead = *refusal;
	if (!splice->dead)
		ist_splice_start(splice);
	spin_unlock(&splice->lock);
	if (!*refusal)
		return splice;

	ist_splice_put(splice);
	ist_splice_put(splice);
err_live:
	atomic_dec(&alloc->live);
	return NULL;
}

/* Called with the splice's lock. */
static void ist_splice_over(struct ist_splice *splice, enum ist_reason reason)
{
	struct ist_alloc *alloc = splice->alloc;
	struct ist_net *in = alloc->in;

	splice->over = true;
	splice->reason = reason;
	atomic_dec(&alloc->live);
	atomic_dec(&in->live);
	if (splice->proto == IPPROTO_UDP)
		atomic_dec(&in->live_udp);
	atomic_inc(&alloc->lingering);
	atomic_inc(&in->lingering);
	ist_count_ended(in, reason);
}

/* The other way round: it had been reset, and goes on. */
static void ist_splice_again(struct ist_splice *splice)
{
	struct ist_alloc *alloc = splice->alloc;
	struct ist_net *in = alloc->in;

	splice->over = false;
	splice->reason = IST_REASON_NONE;
	atomic_inc(&alloc->live);
	atomic_inc(&in->live);
	atomic_dec(&alloc->lingering);
	atomic_dec(&in->lingering);
}

/**
 * ist_splice_kill() - end a splice now
 * @splice: splice
 * @reason: why, unless it is over already
 * @reset: tell both ends, unless it is over already
 *
 * Called with softirqs off and without its lock.
 */
void ist_splice_kill(struct ist_splice *splice, enum ist_reason reason,
		     bool reset)
{
	struct ist_net *in = splice->alloc->in;
	u8 side;

	spin_lock(&splice->lock);
	if (splice->dead) {
		spin_unlock(&splice->lock);
		return;
	}
	splice->dead = true;
	if (splice->over) {
		reset = false;
	} else {
		WRITE_ONCE(splice->tcp.state, IST_STATE_CLOSED);
		ist_splice_over(splice, reason);
		ist_splice_event(splice);
		trace_ist_state(splice);
	}
	spin_unlock(&splice->lock);
	atomic_dec(&splice->alloc->lingering);
	atomic_dec(&in->lingering);

	ist_splice_unlist(splice);
	if (splice->proto == IPPROTO_UDP)
		ist_cell_release_udp(splice->udp.cell, splice);
	for (side = 0; side < IST_SIDES; side++) {
		if (reset && splice->proto == IPPROTO_TCP)
			ist_send_rst(in->net, splice, side);
		ist_leg_forget_routes(&splice->leg[side]);
	}
	if (timer_delete(&splice->timer))
		ist_splice_put(splice);
	ist_splice_put(splice);
}

/* Times beyond this are as good as none, and fit into jiffies. */
#define IST_LONGEST_MS	(30ULL * 24 * 3600 * MSEC_PER_SEC)

static unsigned long ist_after(unsigned long from, u64 ms)
{
	return from + msecs_to_jiffies(min(ms, IST_LONGEST_MS));
}

static void ist_earlier(unsigned long *due, enum ist_reason *reason,
			unsigned long other, enum ist_reason why)
{
	if (time_before(other, *due)) {
		*due = other;
		*reason = why;
	}
}

/*
 * Those that are over are no more than those that are not may be: ends that
 * open and close all the time would fill the table that all share. The newest
 * go, as with tcp_max_tw_buckets.
 */
static bool ist_alloc_lingers(const struct ist_alloc *alloc)
{
	u32 limit = READ_ONCE(alloc->limits.splices);

	return !limit || atomic_read(&alloc->lingering) <= limit;
}

/* When a splice ends if nothing happens on it. Called with its lock. */
static unsigned long ist_splice_due(struct ist_splice *splice,
				    enum ist_reason *reason)
{
	const struct ist_alloc *alloc = splice->alloc;
	unsigned long heard = READ_ONCE(splice->heard);
	unsigned long created = (unsigned long)splice->created;
	u64 idle = READ_ONCE(alloc->limits.idle);
	u64 total = READ_ONCE(alloc->limits.total);
	enum ist_timeout timeout = IST_TIMEOUT_UDP;
	unsigned long due;

	*reason = IST_REASON_IDLE_LIMIT;
	if (splice->proto == IPPROTO_TCP) {
		switch (splice->tcp.state) {
		case IST_STATE_SYN_RCVD:
			timeout = IST_TIMEOUT_SYN_RCVD;
			*reason = IST_REASON_UNANSWERED;
			heard = created;
			break;
		case IST_STATE_CLOSE_WAIT:
			timeout = IST_TIMEOUT_CLOSE_WAIT;
			break;
		case IST_STATE_TIME_WAIT:
			timeout = IST_TIMEOUT_TIME_WAIT;
			break;
		case IST_STATE_CLOSED:
			timeout = IST_TIMEOUT_CLOSED;
			break;
		default:
			timeout = IST_TIMEOUT_ESTABLISHED;
			break;
		}
	}
	due = ist_after(heard, ist_alloc_timeout(alloc, timeout));
	if (splice->over)
		return ist_alloc_lingers(alloc) ? due : jiffies;
	if (idle)
		ist_earlier(&due, reason,
			    ist_after(READ_ONCE(splice->heard), idle),
			    IST_REASON_IDLE_LIMIT);
	if (total)
		ist_earlier(&due, reason, ist_after(created, total),
			    IST_REASON_TIME_LIMIT);
	return due;
}

static bool ist_splice_unanswered(const struct ist_splice *splice)
{
	return splice->proto == IPPROTO_TCP &&
	       splice->tcp.state == IST_STATE_SYN_RCVD;
}

/* Called with the splice's lock. A pending timer holds a reference. */
void ist_splice_arm(struct ist_splice *splice)
{
	enum ist_reason reason;
	unsigned long due;

	if (splice->dead)
		return;
	due = ist_splice_due(splice, &reason);
	if (ist_splice_unanswered(splice))
		ist_earlier(&due, &reason, splice->syn_ack_at, reason);
	if (!timer_reduce(&splice->timer, due))
		refcount_inc(&splice->refs);
}

static void ist_splice_timer(struct timer_list *timer)
{
	struct ist_splice *splice = ist_from_timer(splice, timer, timer);
	struct net *net = splice->alloc->in->net;
	bool expired = false, again = false;
	bool acked[IST_SIDES];
	enum ist_reason reason;
	u8 side;

	rcu_read_lock();
	spin_lock(&splice->lock);
	if (!splice->dead) {
		expired = time_after_eq(jiffies,
					ist_splice_due(splice, &reason));
		again = !expired && ist_splice_unanswered(splice) &&
			time_after_eq(jiffies, splice->syn_ack_at);
	}
	if (again) {
		u64 ms = ist_alloc_timeout(splice->alloc, IST_TIMEOUT_SYN_ACK);

		if (splice->syn_acks < 16)
			splice->syn_acks++;
		splice->syn_ack_at = ist_after(jiffies, ms << splice->syn_acks);
		for (side = 0; side < IST_SIDES; side++)
			acked[side] = splice->tcp.end[side].acked;
	}
	if (!expired)
		ist_splice_arm(splice);
	spin_unlock(&splice->lock);

	if (expired)
		ist_splice_kill(splice, reason, true);
	for (side = 0; again && side < IST_SIDES; side++)
		if (!acked[side])
			ist_send_syn_ack(net, splice, side);
	rcu_read_unlock();
	ist_splice_put(splice);
}

/* The state is another one. Called with the splice's lock. */
static void ist_splice_changed(struct ist_splice *splice,
			       enum ist_reason reason)
{
	u8 state = splice->tcp.state;

	WRITE_ONCE(splice->heard, jiffies);
	if (state == IST_STATE_TIME_WAIT || state == IST_STATE_CLOSED) {
		if (!splice->over)
			ist_splice_over(splice, reason);
	} else if (splice->over) {
		ist_splice_again(splice);
	}
	ist_splice_event(splice);
	trace_ist_state(splice);
	ist_splice_arm(splice);
}

static unsigned int ist_splice_drop(struct ist_splice *splice,
				    struct ist_packet *packet,
				    enum ist_reason reason)
{
	ist_count_dropped(splice->alloc->in, reason);
	trace_ist_drop(splice->alloc->id, splice->id, &packet->tuple, reason);
	return NF_DROP;
}

/* Holds a packet that may pass to the limits, and sends it. */
unsigned int ist_splice_output(struct ist_splice *splice, u8 side,
			       struct ist_packet *packet)
{
	struct ist_alloc *alloc = splice->alloc;
	struct ist_leg *leg = &splice->leg[side];
	u64 limit = READ_ONCE(alloc->limits.bytes);
	unsigned long now = jiffies;
	enum ist_reason reason;

	if (unlikely(limit) &&
	    atomic64_read(&splice->leg[0].bytes) +
	    atomic64_read(&splice->leg[1].bytes) + packet->payload > limit) {
		ist_splice_kill(splice, IST_REASON_BYTE_LIMIT, true);
		return ist_splice_drop(splice, packet, IST_REASON_BYTE_LIMIT);
	}
	if (unlikely(!ist_alloc_admits(alloc, packet->payload)))
		return ist_splice_drop(splice, packet, IST_REASON_RATE);
	if (READ_ONCE(splice->heard) != now &&
	    READ_ONCE(splice->tcp.state) != IST_STATE_CLOSED)
		WRITE_ONCE(splice->heard, now);

	ist_leg_learn_input(splice, leg, packet->skb);
	reason = ist_forward(alloc->in->net, splice, side, packet);
	if (unlikely(reason))
		return ist_splice_drop(splice, packet, reason);
	atomic64_inc(&leg->packets);
	atomic64_add(packet->payload, &leg->bytes);
	ist_count_forwarded(alloc->in, packet->payload);
	return NF_STOLEN;
}

static unsigned int ist_splice_tcp(struct ist_net *in,
				   struct ist_splice *splice, u8 side,
				   struct ist_packet *packet)
{
	u8 buffer[IST_TCP_HEADER_BYTES], options[IST_TCP_OPTIONS_BUFFER];
	struct ist_verdict verdict;
	struct ist_segment segment;
	struct ist_offer offer;
	const u8 *header;

	header = skb_header_pointer(packet->skb, packet->offset,
				    sizeof(buffer), buffer);
	if (!header || !ist_segment_parse(&segment, header, packet->length))
		return ist_splice_drop(splice, packet, IST_REASON_MALFORMED);
	packet->payload = segment.payload;
	if (likely(ist_is_plain(READ_ONCE(splice->tcp.state),
				segment.flags))) {
		ist_end_heard(&splice->tcp.end[side], &segment);
		return ist_splice_output(splice, side, packet);
	}

	if (segment.flags & IST_TCP_SYN) {
		memset(options, 0, sizeof(options));
		if (skb_copy_bits(packet->skb,
				  packet->offset + IST_TCP_HEADER_BYTES,
				  options, segment.options))
			return ist_splice_drop(splice, packet,
					       IST_REASON_MALFORMED);
		if (nf_checksum(packet->skb, NF_INET_LOCAL_IN, packet->offset,
				IPPROTO_TCP, packet->family))
			return ist_splice_drop(splice, packet,
					       IST_REASON_CHECKSUM);
		ist_offer_parse(&offer, options, segment.options,
				segment.flags);
	}
	spin_lock(&splice->lock);
	if (splice->dead) {
		spin_unlock(&splice->lock);
		return ist_splice_drop(splice, packet, IST_REASON_RELEASED);
	}
	verdict = ist_connection_segment(&splice->tcp, side, &segment, &offer,
					 jiffies64_to_msecs(get_jiffies_64()));
	if (verdict.changed)
		ist_splice_changed(splice, verdict.reason);
	spin_unlock(&splice->lock);

	switch (verdict.action) {
	case IST_FORWARD:
		if (unlikely(verdict.reason == IST_REASON_WINDOW))
			ist_count_dropped(in, IST_REASON_WINDOW);
		return ist_splice_output(splice, side, packet);
	case IST_ANSWER:
		ist_send_syn_ack(in->net, splice, side);
		consume_skb(packet->skb);
		return NF_STOLEN;
	case IST_RENEW:
		ist_splice_kill(splice, verdict.reason, false);
		return ist_cell_input(in, packet);
	default:
		return ist_splice_drop(splice, packet, verdict.reason);
	}
}

/* A packet of one leg. Called in a reading section of RCU, softirqs off. */
unsigned int ist_splice_input(struct ist_net *in, struct ist_leg *leg,
			      struct ist_packet *packet)
{
	struct ist_splice *splice = ist_leg_splice(leg);

	if (splice->proto == IPPROTO_TCP)
		return ist_splice_tcp(in, splice, leg->side, packet);
	if (packet->length < sizeof(struct udphdr))
		return ist_splice_drop(splice, packet, IST_REASON_MALFORMED);
	packet->payload = packet->length - sizeof(struct udphdr);
	return ist_splice_output(splice, leg->side, packet);
}
