// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Cells: where two legs meet. */
#include <linux/netfilter.h>
#include <linux/slab.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/ipv6.h>

#include "compat.h"
#include "splice.h"
#include "trace.h"

const struct rhashtable_params ist_port_params = {
	.head_offset		= offsetof(struct ist_port, node),
	.key_offset		= offsetof(struct ist_port, local),
	.key_len		= sizeof_field(struct ist_port, local),
	.automatic_shrinking	= true,
};

static void ist_cell_timer(struct timer_list *timer);

struct ist_cell *ist_cell_create(struct ist_alloc *alloc, u32 number, u8 mode)
{
	struct ist_cell *cell = kzalloc(sizeof(*cell), GFP_KERNEL);
	u8 side;

	if (!cell)
		return NULL;
	refcount_set(&cell->refs, 1);
	refcount_inc(&alloc->refs);
	cell->alloc = alloc;
	cell->number = number;
	cell->mode = mode;
	INIT_LIST_HEAD(&cell->node);
	INIT_LIST_HEAD(&cell->receivers);
	for (side = 0; side < IST_SIDES; side++) {
		cell->port[side].cell = cell;
		cell->port[side].side = side;
	}
	spin_lock_init(&cell->lock);
	timer_setup(&cell->timer, ist_cell_timer, 0);
	return cell;
}

static void ist_cell_free(struct rcu_head *rcu)
{
	struct ist_cell *cell = container_of(rcu, struct ist_cell, rcu);

	kfree(cell->group);
	ist_alloc_put(cell->alloc);
	kfree(cell);
}

void ist_cell_put(struct ist_cell *cell)
{
	if (refcount_dec_and_test(&cell->refs))
		call_rcu(&cell->rcu, ist_cell_free);
}

/* Makes a side reachable. Called with the namespace's mutex. */
int ist_cell_list(struct ist_cell *cell, u8 side, u16 local, u16 remote)
{
	struct ist_port *port = &cell->port[side];
	int err;

	port->remote = remote;
	if (!local)
		return 0;
	port->local = local;
	err = rhltable_insert(&cell->alloc->in->ports, &port->node,
			      ist_port_params);
	if (err)
		port->local = 0;
	return err;
}

static void ist_cell_unlearn(struct ist_cell *cell)
{
	struct ist_port *learned = cell->learned;

	if (!learned)
		return;
	cell->learned = NULL;
	rhltable_remove(&cell->alloc->in->ports, &learned->node,
			ist_port_params);
	kfree_rcu(learned, rcu);
}

/*
 * Makes the side that has no port of its own reachable at one that was learned,
 * instead of the one learned before. Called with the namespace's mutex.
 */
int ist_cell_learn(struct ist_cell *cell, u8 side, u16 local)
{
	struct ist_port *learned = kzalloc(sizeof(*learned), GFP_KERNEL);
	int err;

	if (!learned)
		return -ENOMEM;
	learned->cell = cell;
	learned->side = side;
	learned->local = local;
	learned->remote = cell->port[side].remote;
	err = rhltable_insert(&cell->alloc->in->ports, &learned->node,
			      ist_port_params);
	if (err) {
		kfree(learned);
		return err;
	}
	ist_cell_unlearn(cell);
	cell->learned = learned;
	return 0;
}

static void ist_cell_unlist(struct ist_cell *cell, u8 side)
{
	struct ist_port *port = &cell->port[side];

	if (port->local)
		rhltable_remove(&cell->alloc->in->ports, &port->node,
				ist_port_params);
}

/* Called with the cell's lock. */
static void ist_cell_forget(struct ist_cell *cell, int proto, u8 side)
{
	cell->waiting[proto][side].half.waiting = false;
	atomic_dec(&cell->alloc->in->halves);
}

/* Called with the cell's lock. */
static void ist_cell_end_half(struct ist_cell *cell, int proto, u8 side,
			      enum ist_reason reason)
{
	u8 number = proto ? IPPROTO_UDP : IPPROTO_TCP;

	if (!cell->waiting[proto][side].half.waiting)
		return;
	ist_cell_forget(cell, proto, side);
	ist_count_ended(cell->alloc->in, reason);
	ist_half_event(cell, number, side, reason);
}

static void ist_cell_end_receivers(struct ist_cell *cell,
				   enum ist_reason reason)
{
	struct ist_splice *splice;

	for (;;) {
		spin_lock(&cell->lock);
		splice = list_first_entry_or_null(&cell->receivers,
						  struct ist_splice,
						  udp.receiver);
		if (splice)
			refcount_inc(&splice->refs);
		spin_unlock(&cell->lock);
		if (!splice)
			return;
		ist_splice_kill(splice, reason, false);
		ist_splice_put(splice);
	}
}

/*
 * Closes a cell: unpaired legs and its UDP splice end, TCP splices go on.
 * Called with the namespace's mutex.
 */
void ist_cell_remove(struct ist_cell *cell, enum ist_reason reason)
{
	struct ist_splice *udp;
	u8 side;
	int proto;

	list_del(&cell->node);
	cell->alloc->n_cells--;
	cell->alloc->in->n_cells--;
	for (side = 0; side < IST_SIDES; side++)
		ist_cell_unlist(cell, side);
	ist_cell_unlearn(cell);

	local_bh_disable();
	spin_lock(&cell->lock);
	cell->dead = true;
	for (proto = 0; proto < IST_PROTOS; proto++)
		for (side = 0; side < IST_SIDES; side++)
			ist_cell_end_half(cell, proto, side, reason);
	udp = cell->udp;
	if (udp)
		refcount_inc(&udp->refs);
	spin_unlock(&cell->lock);
	if (udp) {
		ist_splice_kill(udp, reason, false);
		ist_splice_put(udp);
	}
	ist_cell_end_receivers(cell, reason);
	local_bh_enable();
	if (timer_delete(&cell->timer))
		ist_cell_put(cell);
	ist_cell_put(cell);
}

/*
 * Called when @splice ends, once, with no lock but softirqs off. A source that
 * is at this very receiver goes on from it to the next: its link stays.
 */
void ist_cell_release_udp(struct ist_cell *cell, struct ist_splice *splice)
{
	spin_lock(&cell->lock);
	if (cell->udp == splice)
		cell->udp = NULL;
	if (!list_empty(&splice->udp.receiver)) {
		list_del_rcu(&splice->udp.receiver);
		cell->n_receivers--;
	}
	spin_unlock(&cell->lock);
}

static unsigned long ist_waiting_until(const struct ist_cell *cell, int proto,
				       u8 side)
{
	enum ist_timeout timeout = proto ? IST_TIMEOUT_UDP : IST_TIMEOUT_HALF;
	u32 ms = ist_alloc_timeout(cell->alloc, timeout);

	return cell->waiting[proto][side].heard + msecs_to_jiffies(ms);
}

/* Called with the cell's lock. A pending timer holds a reference. */
static void ist_cell_arm(struct ist_cell *cell, int proto, u8 side)
{
	if (cell->dead)
		return;
	if (!timer_reduce(&cell->timer, ist_waiting_until(cell, proto, side)))
		refcount_inc(&cell->refs);
}

/* The allocation's times have changed. */
void ist_cell_rearm(struct ist_cell *cell)
{
	int proto;
	u8 side;

	spin_lock_bh(&cell->lock);
	for (proto = 0; proto < IST_PROTOS; proto++)
		for (side = 0; side < IST_SIDES; side++)
			if (cell->waiting[proto][side].half.waiting)
				ist_cell_arm(cell, proto, side);
	spin_unlock_bh(&cell->lock);
}

static void ist_cell_timer(struct timer_list *timer)
{
	struct ist_cell *cell = ist_from_timer(cell, timer, timer);
	bool source_gone = false;
	int proto;
	u8 side;

	spin_lock(&cell->lock);
	for (proto = 0; proto < IST_PROTOS && !cell->dead; proto++) {
		for (side = 0; side < IST_SIDES; side++) {
			if (!cell->waiting[proto][side].half.waiting)
				continue;
			if (time_before(jiffies,
					ist_waiting_until(cell, proto, side))) {
				ist_cell_arm(cell, proto, side);
				continue;
			}
			ist_cell_end_half(cell, proto, side,
					  IST_REASON_NO_PEER_LEG);
			if (cell->mode == IST_MODE_FANOUT)
				source_gone = true;
		}
	}
	spin_unlock(&cell->lock);
	if (source_gone)
		ist_cell_end_receivers(cell, IST_REASON_IDLE_LIMIT);
	ist_cell_put(cell);
}

static unsigned int ist_cell_drop(struct ist_cell *cell,
				  struct ist_packet *packet,
				  enum ist_reason reason)
{
	ist_count_dropped(cell->alloc->in, reason);
	trace_ist_drop(cell->alloc->id, 0, &packet->tuple, reason);
	return NF_DROP;
}

/* Called with the cell's lock. */
static void ist_waiting_store(struct ist_waiting *waiting,
			      struct ist_packet *packet)
{
	waiting->heard = jiffies;
	/* Link-local addresses mean nothing without their interface. */
	waiting->ifindex = packet->family == AF_INET6 &&
		(ipv6_addr_type((struct in6_addr *)&packet->tuple.remote) &
		 IPV6_ADDR_LINKLOCAL) ? packet->skb->dev->ifindex : 0;
}

static unsigned int ist_cell_syn(struct ist_cell *cell, u8 side,
				 struct ist_packet *packet,
				 const struct ist_segment *segment,
				 const struct ist_offer *offer)
{
	struct ist_waiting *waiting = cell->waiting[0];
	struct ist_net *in = cell->alloc->in;
	struct ist_splice *splice = NULL;
	enum ist_reason refusal;
	enum ist_arrival arrival;

	spin_lock(&cell->lock);
	if (cell->dead) {
		spin_unlock(&cell->lock);
		return ist_cell_drop(cell, packet, IST_REASON_RELEASED);
	}
	if (waiting[side].half.waiting &&
	    !(ist_half_is_from(&waiting[side].half, &packet->tuple) &&
	      waiting[side].half.isn == segment->seq))
		ist_cell_end_half(cell, 0, side, IST_REASON_REPLACED);
	arrival = ist_half_syn(&waiting[side].half, &packet->tuple, segment,
			       offer);
	if (arrival != IST_ARRIVAL_AGAIN)
		atomic_inc(&in->halves);
	ist_waiting_store(&waiting[side], packet);

	if (waiting[!side].half.waiting) {
		splice = ist_splice_create(cell, &waiting[0], &waiting[1],
					   &refusal);
		ist_cell_forget(cell, 0, 0);
		ist_cell_forget(cell, 0, 1);
		if (!splice) {
			ist_count_ended(in, refusal);
			ist_half_event(cell, IPPROTO_TCP, side, refusal);
		}
	} else {
		if (arrival != IST_ARRIVAL_AGAIN)
			ist_half_event(cell, IPPROTO_TCP, side,
				       IST_REASON_NONE);
		ist_cell_arm(cell, 0, side);
	}
	spin_unlock(&cell->lock);
	if (splice) {
		ist_send_syn_ack(in->net, splice, !side);
		ist_send_syn_ack(in->net, splice, side);
		ist_splice_put(splice);
	}
	consume_skb(packet->skb);
	return NF_STOLEN;
}

static unsigned int ist_cell_tcp(struct ist_cell *cell, u8 side,
				 struct ist_packet *packet)
{
	u8 buffer[IST_TCP_HEADER_BYTES], options[IST_TCP_OPTIONS_BUFFER] = {};
	struct ist_segment segment;
	struct ist_offer offer;
	const u8 *header;

	header = skb_header_pointer(packet->skb, packet->offset,
				    sizeof(buffer), buffer);
	if (!header || !ist_segment_parse(&segment, header, packet->length))
		return ist_cell_drop(cell, packet, IST_REASON_MALFORMED);
	if (segment.flags & IST_TCP_RST) {
		spin_lock(&cell->lock);
		if (ist_half_rst(&cell->waiting[0][side].half, &packet->tuple,
				 &segment))
			ist_cell_end_half(cell, 0, side, IST_REASON_RESET);
		spin_unlock(&cell->lock);
		return NF_DROP;
	}
	/* The stack's own RST tells an expected end that its splice is gone. */
	if (!(segment.flags & IST_TCP_SYN))
		return NF_ACCEPT;
	if (segment.flags & (IST_TCP_ACK | IST_TCP_FIN))
		return ist_cell_drop(cell, packet, IST_REASON_STRAY_SYN);
	if (skb_copy_bits(packet->skb, packet->offset + IST_TCP_HEADER_BYTES,
			  options, segment.options))
		return ist_cell_drop(cell, packet, IST_REASON_MALFORMED);
	if (nf_checksum(packet->skb, NF_INET_LOCAL_IN, packet->offset,
			IPPROTO_TCP, packet->family))
		return ist_cell_drop(cell, packet, IST_REASON_CHECKSUM);
	ist_offer_parse(&offer, options, segment.options, segment.flags);
	return ist_cell_syn(cell, side, packet, &segment, &offer);
}

static unsigned int ist_cell_udp(struct ist_cell *cell, u8 side,
				 struct ist_packet *packet)
{
	struct ist_waiting *waiting = cell->waiting[1];
	struct ist_net *in = cell->alloc->in;
	enum ist_reason refusal = IST_REASON_EARLY;
	struct ist_splice *splice = NULL;
	enum ist_arrival arrival;
	unsigned int verdict;

	if (packet->length < sizeof(struct udphdr))
		return ist_cell_drop(cell, packet, IST_REASON_MALFORMED);
	packet->payload = packet->length - sizeof(struct udphdr);

	spin_lock(&cell->lock);
	if (cell->dead) {
		refusal = IST_REASON_RELEASED;
	} else if (cell->udp ||
		   !ist_half_datagram(&waiting[side].half, &packet->tuple,
				      &arrival)) {
		refusal = IST_REASON_FOREIGN;
	} else {
		ist_waiting_store(&waiting[side], packet);
		if (arrival == IST_ARRIVAL_FIRST) {
			atomic_inc(&in->halves);
			if (waiting[!side].half.waiting)
				splice = ist_splice_create(cell, &waiting[0],
							   &waiting[1],
							   &refusal);
			if (splice) {
				cell->udp = splice;
				ist_cell_forget(cell, 1, !side);
				ist_cell_forget(cell, 1, side);
			} else if (waiting[!side].half.waiting) {
				ist_cell_forget(cell, 1, side);
			} else {
				ist_half_event(cell, IPPROTO_UDP, side,
					       IST_REASON_NONE);
				ist_cell_arm(cell, 1, side);
			}
		}
	}
	spin_unlock(&cell->lock);
	if (!splice)
		return ist_cell_drop(cell, packet, refusal);
	verdict = ist_splice_output(splice, side, packet);
	ist_splice_put(splice);
	return verdict;
}

/*
 * The group of a fan-out is a receiver that never asks. Called with the cell's
 * lock, for each datagram of the source until it succeeds.
 */
static void ist_fanout_join_group(struct ist_cell *cell)
{
	struct ist_waiting group = { .ifindex = cell->group->ifindex };
	enum ist_reason refusal;
	struct ist_splice *splice;

	group.half.tuple = cell->group->tuple;
	group.half.tuple.local_port = htons(cell->port[1].local);
	if (!ist_source_address(cell->alloc->in->net, &group.half.tuple,
				group.ifindex)) {
		ist_count_dropped(cell->alloc->in, IST_REASON_UNSENDABLE);
		return;
	}
	splice = ist_splice_create(cell, &cell->waiting[1][0], &group,
				   &refusal);
	if (!splice) {
		ist_count_dropped(cell->alloc->in, refusal);
		return;
	}
	cell->udp = splice;
	list_add_tail_rcu(&splice->udp.receiver, &cell->receivers);
	cell->n_receivers++;
	ist_splice_put(splice);
}

/* A datagram of a fan-out's source, to everybody. */
static unsigned int ist_fanout_source(struct ist_cell *cell,
				      struct ist_packet *packet)
{
	struct ist_waiting *source = &cell->waiting[1][0];
	struct ist_packet copy = *packet;
	struct ist_splice *splice;
	enum ist_arrival arrival;
	bool is_source = false;

	spin_lock(&cell->lock);
	if (!cell->dead)
		is_source = ist_half_datagram(&source->half, &packet->tuple,
					      &arrival);
	if (is_source) {
		ist_waiting_store(source, packet);
		if (arrival == IST_ARRIVAL_FIRST) {
			atomic_inc(&cell->alloc->in->halves);
			ist_half_event(cell, IPPROTO_UDP, 0, IST_REASON_NONE);
			ist_cell_arm(cell, 1, 0);
		}
		if (cell->group && !cell->udp)
			ist_fanout_join_group(cell);
	}
	spin_unlock(&cell->lock);
	if (!is_source)
		return ist_cell_drop(cell, packet, IST_REASON_FOREIGN);

	list_for_each_entry_rcu(splice, &cell->receivers, udp.receiver) {
		copy.skb = skb_clone(packet->skb, GFP_ATOMIC);
		if (!copy.skb) {
			ist_count_dropped(cell->alloc->in,
					  IST_REASON_NO_MEMORY);
			break;
		}
		if (ist_splice_output(splice, 0, &copy) != NF_STOLEN)
			kfree_skb(copy.skb);
	}
	consume_skb(packet->skb);
	return NF_STOLEN;
}

/* The first datagram of somebody who wants a fan-out's. */
static unsigned int ist_fanout_receiver(struct ist_cell *cell,
					struct ist_packet *packet)
{
	enum ist_reason refusal = IST_REASON_EARLY;
	struct ist_waiting receiver = {};
	struct ist_splice *splice = NULL;
	unsigned int verdict;

	receiver.half.tuple = packet->tuple;
	ist_waiting_store(&receiver, packet);
	spin_lock(&cell->lock);
	if (!cell->dead && cell->waiting[1][0].half.waiting) {
		if (cell->n_receivers - !!cell->udp >= cell->max_receivers)
			refusal = IST_REASON_SPLICE_LIMIT;
		else
			splice = ist_splice_create(cell, &cell->waiting[1][0],
						   &receiver, &refusal);
	}
	if (splice) {
		list_add_tail_rcu(&splice->udp.receiver, &cell->receivers);
		cell->n_receivers++;
	}
	spin_unlock(&cell->lock);
	if (!splice)
		return ist_cell_drop(cell, packet, refusal);
	verdict = ist_splice_output(splice, 1, packet);
	ist_splice_put(splice);
	return verdict;
}

static unsigned int ist_fanout_input(struct ist_cell *cell, u8 side,
				     struct ist_packet *packet)
{
	if (packet->length < sizeof(struct udphdr))
		return ist_cell_drop(cell, packet, IST_REASON_MALFORMED);
	packet->payload = packet->length - sizeof(struct udphdr);
	return side ? ist_fanout_receiver(cell, packet) :
		      ist_fanout_source(cell, packet);
}

/* A packet of no splice. Called in a reading section of RCU. */
unsigned int ist_cell_input(struct ist_net *in, struct ist_packet *packet)
{
	u16 local = ntohs(packet->tuple.local_port);
	u16 remote = ntohs(packet->tuple.remote_port);
	struct rhlist_head *list, *position;
	struct ist_port *port, *found = NULL;
	struct ist_cell *reserved = NULL;

	list = rhltable_lookup(&in->ports, &local, ist_port_params);
	rhl_for_each_entry_rcu(port, position, list, node) {
		u16 wanted = READ_ONCE(port->remote);

		if (wanted && wanted != remote)
			continue;
		/* Ports that legs of any source port reach are all ours. */
		if (!wanted)
			reserved = port->cell;
		if (found && !wanted)
			continue;
		if (ist_alloc_expects(port->cell->alloc, port->side,
				      &packet->tuple.remote))
			found = port;
	}
	if (!found)
		return reserved ? ist_cell_drop(reserved, packet,
						IST_REASON_STRANGER) :
				  NF_ACCEPT;
	if (found->cell->mode == IST_MODE_FANOUT)
		return packet->tuple.proto == IPPROTO_UDP ?
		       ist_fanout_input(found->cell, found->side, packet) :
		       NF_ACCEPT;
	if (packet->tuple.proto == IPPROTO_TCP)
		return ist_cell_tcp(found->cell, found->side, packet);
	return ist_cell_udp(found->cell, found->side, packet);
}
