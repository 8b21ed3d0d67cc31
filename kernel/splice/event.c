// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* What listeners are told, and how splices look in messages. */
#include "splice.h"

int ist_addr_put(struct sk_buff *skb, int type, const struct ist_addr *addr)
{
	if (ist_addr_is4(addr))
		return nla_put(skb, type, 4, &addr->word[3]);
	return nla_put(skb, type, 16, addr);
}

/* Plain: 64-bit numbers of this family are not aligned. */
static int ist_put64(struct sk_buff *skb, int type, u64 value)
{
	return nla_put(skb, type, sizeof(value), &value);
}

static int ist_leg_fill(struct sk_buff *skb, struct ist_leg *leg)
{
	struct nlattr *nest = nla_nest_start(skb, IST_A_SPLICE_LEG);

	if (!nest)
		return -EMSGSIZE;
	if (nla_put_u8(skb, IST_A_LEG_SIDE, leg->side) ||
	    ist_addr_put(skb, IST_A_LEG_REMOTE, &leg->tuple.remote) ||
	    nla_put_u16(skb, IST_A_LEG_REMOTE_PORT,
			ntohs(leg->tuple.remote_port)) ||
	    ist_addr_put(skb, IST_A_LEG_LOCAL, &leg->tuple.local) ||
	    nla_put_u16(skb, IST_A_LEG_LOCAL_PORT,
			ntohs(leg->tuple.local_port)) ||
	    ist_put64(skb, IST_A_LEG_PACKETS, atomic64_read(&leg->packets)) ||
	    ist_put64(skb, IST_A_LEG_BYTES, atomic64_read(&leg->bytes)))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

int ist_splice_fill(struct sk_buff *skb, struct ist_splice *splice)
{
	u64 age = get_jiffies_64() - splice->created;
	unsigned long idle = jiffies - READ_ONCE(splice->heard);

	if (ist_put64(skb, IST_A_SPLICE_ID, splice->id) ||
	    ist_put64(skb, IST_A_SPLICE_ALLOC, splice->alloc->id) ||
	    nla_put_u32(skb, IST_A_SPLICE_CELL, splice->cell_number) ||
	    nla_put_u8(skb, IST_A_SPLICE_PROTO, splice->proto) ||
	    nla_put_u8(skb, IST_A_SPLICE_MODE, splice->mode) ||
	    nla_put_u8(skb, IST_A_SPLICE_STATE, READ_ONCE(splice->tcp.state)) ||
	    (splice->over &&
	     nla_put_u8(skb, IST_A_SPLICE_REASON, splice->reason)) ||
	    ist_leg_fill(skb, &splice->leg[0]) ||
	    ist_leg_fill(skb, &splice->leg[1]) ||
	    ist_put64(skb, IST_A_SPLICE_AGE, jiffies64_to_msecs(age)) ||
	    ist_put64(skb, IST_A_SPLICE_IDLE, jiffies_to_msecs(idle)))
		return -EMSGSIZE;
	return 0;
}

static struct sk_buff *ist_event_start(struct net *net, u8 command,
				       void **header)
{
	struct sk_buff *skb;

	if (!genl_has_listeners(&ist_nl_family, net, IST_NLGRP_EVENTS))
		return NULL;
	skb = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_ATOMIC);
	if (!skb)
		return NULL;
	*header = genlmsg_put(skb, 0, 0, &ist_nl_family, 0, command);
	return skb;
}

/* A listener that cannot keep up gets ENOBUFS and dumps again. */
static void ist_event_send(struct net *net, struct sk_buff *skb, void *header,
			   int err)
{
	if (WARN_ON_ONCE(err)) {
		nlmsg_free(skb);
		return;
	}
	genlmsg_end(skb, header);
	genlmsg_multicast_netns(&ist_nl_family, net, skb, 0, IST_NLGRP_EVENTS,
				GFP_ATOMIC);
}

/* Called with the cell's lock. */
void ist_half_event(struct ist_cell *cell, u8 proto, u8 side,
		    enum ist_reason reason)
{
	struct ist_waiting *waiting =
		&cell->waiting[ist_proto_index(proto)][side];
	struct net *net = cell->alloc->in->net;
	struct sk_buff *skb;
	void *header;
	int err;

	skb = ist_event_start(net, IST_CMD_HALF_NTF, &header);
	if (!skb)
		return;
	err = ist_put64(skb, IST_A_HALF_ALLOC, cell->alloc->id) ?:
	      nla_put_u32(skb, IST_A_HALF_CELL, cell->number) ?:
	      nla_put_u8(skb, IST_A_HALF_PROTO, proto) ?:
	      nla_put_u8(skb, IST_A_HALF_SIDE, side) ?:
	      ist_addr_put(skb, IST_A_HALF_REMOTE,
			   &waiting->half.tuple.remote) ?:
	      nla_put_u16(skb, IST_A_HALF_REMOTE_PORT,
			  ntohs(waiting->half.tuple.remote_port)) ?:
	      (reason ? nla_put_u8(skb, IST_A_HALF_REASON, reason) : 0);
	ist_event_send(net, skb, header, err);
}

/* Called with the splice's lock, which keeps its events in order. */
void ist_splice_event(struct ist_splice *splice)
{
	struct net *net = splice->alloc->in->net;
	struct sk_buff *skb;
	void *header;

	skb = ist_event_start(net, IST_CMD_SPLICE_NTF, &header);
	if (skb)
		ist_event_send(net, skb, header, ist_splice_fill(skb, splice));
}

void ist_alloc_event(struct ist_alloc *alloc, enum ist_reason reason)
{
	struct net *net = alloc->in->net;
	struct sk_buff *skb;
	void *header;
	int err;

	skb = ist_event_start(net, IST_CMD_ALLOC_NTF, &header);
	if (!skb)
		return;
	err = ist_put64(skb, IST_A_ALLOC_ID, alloc->id) ?:
	      nla_put_u8(skb, IST_A_ALLOC_REASON, reason);
	ist_event_send(net, skb, header, err);
}
