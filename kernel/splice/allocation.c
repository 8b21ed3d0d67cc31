// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Allocations: who may join what, and what splices are held to. */
#include <linux/ktime.h>
#include <linux/slab.h>

#include "splice.h"

/* What may be sent ahead of the rate. */
#define IST_RATE_BURST_NS	(100 * NSEC_PER_MSEC)

static const u32 ist_default_timeouts[IST_TIMEOUTS] = {
	[IST_TIMEOUT_HALF]		= 3500,
	[IST_TIMEOUT_SYN_ACK]		= 300,
	[IST_TIMEOUT_SYN_RCVD]		= 60 * MSEC_PER_SEC,
	/* RFC 5382, REQ-5: two hours and four minutes. */
	[IST_TIMEOUT_ESTABLISHED]	= 7440 * MSEC_PER_SEC,
	[IST_TIMEOUT_CLOSE_WAIT]	= 7440 * MSEC_PER_SEC,
	[IST_TIMEOUT_TIME_WAIT]		= 60 * MSEC_PER_SEC,
	[IST_TIMEOUT_CLOSED]		= 10 * MSEC_PER_SEC,
	/* RFC 4787, REQ-5. */
	[IST_TIMEOUT_UDP]		= 300 * MSEC_PER_SEC,
};

struct ist_alloc *ist_alloc_find(struct ist_net *in, u64 id)
{
	struct rb_node *node = in->allocs.rb_node;

	while (node) {
		struct ist_alloc *alloc = rb_entry(node, struct ist_alloc,
						   node);

		if (id == alloc->id)
			return alloc;
		node = id < alloc->id ? node->rb_left : node->rb_right;
	}
	return NULL;
}

/* Return: the allocation with the least id that is not less than @id. */
struct ist_alloc *ist_alloc_next(struct ist_net *in, u64 id)
{
	struct rb_node *node = in->allocs.rb_node;
	struct ist_alloc *best = NULL;

	while (node) {
		struct ist_alloc *alloc = rb_entry(node, struct ist_alloc,
						   node);

		if (alloc->id >= id) {
			best = alloc;
			node = node->rb_left;
		} else {
			node = node->rb_right;
		}
	}
	return best;
}

struct ist_alloc *ist_alloc_create(struct ist_net *in, u64 id)
{
	struct ist_alloc *alloc = kzalloc(sizeof(*alloc), GFP_KERNEL);

	if (!alloc)
		return NULL;
	RB_CLEAR_NODE(&alloc->node);
	alloc->in = in;
	alloc->id = id;
	refcount_set(&alloc->refs, 1);
	memcpy(alloc->timeouts, ist_default_timeouts,
	       sizeof(ist_default_timeouts));
	INIT_LIST_HEAD(&alloc->cells);
	INIT_LIST_HEAD(&alloc->splices);
	spin_lock_init(&alloc->lock);
	alloc->created = get_jiffies_64();
	return alloc;
}

int ist_alloc_insert(struct ist_alloc *alloc)
{
	struct rb_node **link = &alloc->in->allocs.rb_node, *parent = NULL;

	while (*link) {
		struct ist_alloc *other = rb_entry(*link, struct ist_alloc,
						   node);

		parent = *link;
		if (alloc->id == other->id)
			return -EEXIST;
		link = alloc->id < other->id ? &parent->rb_left :
					       &parent->rb_right;
	}
	rb_link_node(&alloc->node, parent, link);
	rb_insert_color(&alloc->node, &alloc->in->allocs);
	alloc->in->n_allocs++;
	return 0;
}

static void ist_alloc_free(struct rcu_head *rcu)
{
	struct ist_alloc *alloc = container_of(rcu, struct ist_alloc, rcu);

	kfree(rcu_dereference_protected(alloc->sources, true));
	kfree(alloc);
}

void ist_alloc_put(struct ist_alloc *alloc)
{
	if (refcount_dec_and_test(&alloc->refs))
		call_rcu(&alloc->rcu, ist_alloc_free);
}

/* Ends what is left of an allocation. Called with the namespace's mutex. */
void ist_alloc_remove(struct ist_alloc *alloc, enum ist_reason reason)
{
	struct ist_cell *cell, *next;
	struct ist_splice *splice;

	if (!RB_EMPTY_NODE(&alloc->node)) {
		rb_erase(&alloc->node, &alloc->in->allocs);
		alloc->in->n_allocs--;
	}
	list_for_each_entry_safe(cell, next, &alloc->cells, node)
		ist_cell_remove(cell, reason);

	spin_lock_bh(&alloc->lock);
	/* Legs may be meeting at this moment: no splice is added from here on. */
	alloc->dead = true;
	while ((splice = list_first_entry_or_null(&alloc->splices,
						  struct ist_splice, node))) {
		refcount_inc(&splice->refs);
		spin_unlock_bh(&alloc->lock);
		local_bh_disable();
		ist_splice_kill(splice, reason, true);
		local_bh_enable();
		ist_splice_put(splice);
		cond_resched();
		spin_lock_bh(&alloc->lock);
	}
	spin_unlock_bh(&alloc->lock);
	ist_alloc_put(alloc);
}

/* Called in a reading section of RCU. */
bool ist_alloc_expects(struct ist_alloc *alloc, u8 side,
		       const struct ist_addr *addr)
{
	struct ist_sources *sources = rcu_dereference(alloc->sources);
	u32 i, from, to;

	if (!sources)
		return false;
	from = side ? sources->count[0] : 0;
	to = from + sources->count[side];
	for (i = from; i < to; i++)
		if (ist_prefix_matches(&sources->prefix[i], addr))
			return true;
	return false;
}

/**
 * ist_alloc_admits() - whether the rate allows a packet
 * @alloc: allocation
 * @bytes: payload
 *
 * Everything sent moves the moment at which it has been paid for; a packet
 * passes as long as that moment is not too far ahead, however large it is.
 */
bool ist_alloc_admits(struct ist_alloc *alloc, u32 bytes)
{
	u64 rate = READ_ONCE(alloc->limits.rate);
	s64 before, due, now, cost;

	if (!rate || !bytes)
		return true;
	now = ktime_get_ns();
	cost = div64_u64((u64)bytes * NSEC_PER_SEC, rate);
	before = atomic64_read(&alloc->rate_due);
	do {
		due = max(before, now);
		if (due - now > IST_RATE_BURST_NS)
			return false;
	} while (!atomic64_try_cmpxchg(&alloc->rate_due, &before, due + cost));
	return true;
}

/* Limits or times have changed: timers may have to go off earlier. */
void ist_alloc_rearm(struct ist_alloc *alloc)
{
	struct ist_splice *splice;
	struct ist_cell *cell;

	list_for_each_entry(cell, &alloc->cells, node)
		ist_cell_rearm(cell);
	rcu_read_lock_bh();
	list_for_each_entry_rcu(splice, &alloc->splices, node) {
		spin_lock(&splice->lock);
		ist_splice_arm(splice);
		spin_unlock(&splice->lock);
	}
	rcu_read_unlock_bh();
}

/* Looks every second for lifetimes that are over. */
void ist_expiry(struct work_struct *work)
{
	struct ist_net *in = container_of(to_delayed_work(work),
					  struct ist_net, expiry);
	struct ist_alloc *alloc;
	u64 id = 0;

	mutex_lock(&in->lock);
	while ((alloc = ist_alloc_next(in, id))) {
		id = alloc->id + 1;
		if (alloc->expires &&
		    time_after_eq64(get_jiffies_64(), alloc->expires)) {
			ist_alloc_event(alloc, IST_REASON_EXPIRED);
			ist_alloc_remove(alloc, IST_REASON_EXPIRED);
		}
		if (!id)
			break;
	}
	mutex_unlock(&in->lock);
	queue_delayed_work(system_power_efficient_wq, &in->expiry, HZ);
}
