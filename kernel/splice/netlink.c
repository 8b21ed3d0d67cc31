// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Requests and dumps. What is refused by type, length or range alone is refused
 * by the generated policies before it comes here; every other refusal has a
 * text and, where there is one, the attribute that it is about.
 */
#include <linux/slab.h>
#include <net/ipv6.h>

#include "compat.h"
#include "splice.h"

#define IST_DEFAULT_RECEIVERS	64

static int ist_put64(struct sk_buff *skb, int type, u64 value)
{
	return nla_put(skb, type, sizeof(value), &value);
}

/* ------------------------------------------------------------ reading */

static int ist_read_addr(const struct nlattr *attr, struct ist_addr *addr,
			 u32 *bits, struct netlink_ext_ack *extack)
{
	switch (nla_len(attr)) {
	case 4:
		ist_addr_set4(addr, nla_get_be32(attr));
		*bits = 32;
		return 0;
	case 16:
		memcpy(addr, nla_data(attr), 16);
		*bits = 128;
		if (!ist_addr_is4(addr))
			return 0;
		NL_SET_ERR_MSG_ATTR(extack, attr,
				    "address: IPv4 in IPv6 is to be given as 4 bytes");
		return -EINVAL;
	default:
		NL_SET_ERR_MSG_ATTR(extack, attr,
				    "address: 4 or 16 bytes are expected");
		return -EINVAL;
	}
}

static int ist_read_source(const struct nlattr *attr, u8 *side,
			   struct ist_prefix *prefix,
			   struct netlink_ext_ack *extack)
{
	struct nlattr *tb[IST_A_SOURCE_MAX + 1];
	struct ist_addr addr;
	u32 bits, most;
	int err;

	err = nla_parse_nested(tb, IST_A_SOURCE_MAX, attr, ist_source_nl_policy,
			       extack);
	if (err)
		return err;
	if (!tb[IST_A_SOURCE_SIDE] || !tb[IST_A_SOURCE_ADDRESS]) {
		NL_SET_ERR_MSG_ATTR(extack, attr,
				    "source: side and address are required");
		return -EINVAL;
	}
	*side = nla_get_u8(tb[IST_A_SOURCE_SIDE]);
	err = ist_read_addr(tb[IST_A_SOURCE_ADDRESS], &addr, &most, extack);
	if (err)
		return err;
	bits = most;
	if (tb[IST_A_SOURCE_PREFIX])
		bits = nla_get_u8(tb[IST_A_SOURCE_PREFIX]);
	if (bits > most) {
		NL_SET_ERR_MSG_ATTR(extack, tb[IST_A_SOURCE_PREFIX],
				    "prefix: longer than the address");
		return -EINVAL;
	}
	ist_prefix_set(prefix, &addr, most == 32 ? bits + 96 : bits);
	return 0;
}

static struct ist_sources *ist_read_sources(const struct nlattr *attr,
					    struct netlink_ext_ack *extack)
{
	struct ist_sources *sources;
	struct nlattr *entry;
	u32 count = 0;
	u8 wanted;
	int rest, err;

	nla_for_each_nested(entry, attr, rest)
		count += nla_type(entry) == IST_A_SOURCES_SOURCE;
	if (count > IST_MAX_SOURCES) {
		NL_SET_ERR_MSG_ATTR(extack, attr, "sources: too many");
		return ERR_PTR(-E2BIG);
	}
	sources = kzalloc(struct_size(sources, prefix, count), GFP_KERNEL);
	if (!sources)
		return ERR_PTR(-ENOMEM);
	for (wanted = 0; wanted < IST_SIDES; wanted++) {
		nla_for_each_nested(entry, attr, rest) {
			struct ist_prefix prefix;
			u8 side;

			if (nla_type(entry) != IST_A_SOURCES_SOURCE)
				continue;
			err = ist_read_source(entry, &side, &prefix, extack);
			if (err) {
				kfree(sources);
				return ERR_PTR(err);
			}
			if (side != wanted)
				continue;
			sources->prefix[sources->count[0] + sources->count[1]] =
				prefix;
			sources->count[side]++;
		}
	}
	return sources;
}

static int ist_read_limits(const struct nlattr *attr, struct ist_limits *limits,
			   struct netlink_ext_ack *extack)
{
	struct nlattr *tb[IST_A_LIMITS_MAX + 1];
	int err;

	err = nla_parse_nested(tb, IST_A_LIMITS_MAX, attr, ist_limits_nl_policy,
			       extack);
	if (err)
		return err;
	if (tb[IST_A_LIMITS_SPLICES])
		limits->splices = nla_get_u32(tb[IST_A_LIMITS_SPLICES]);
	if (tb[IST_A_LIMITS_IDLE])
		limits->idle = nla_get_u64(tb[IST_A_LIMITS_IDLE]);
	if (tb[IST_A_LIMITS_TOTAL])
		limits->total = nla_get_u64(tb[IST_A_LIMITS_TOTAL]);
	if (tb[IST_A_LIMITS_BYTES])
		limits->bytes = nla_get_u64(tb[IST_A_LIMITS_BYTES]);
	if (tb[IST_A_LIMITS_RATE])
		limits->rate = nla_get_u64(tb[IST_A_LIMITS_RATE]);
	return 0;
}

/* Attributes and array have the same order. */
static_assert((int)IST_A_TIMEOUTS_MAX == (int)IST_TIMEOUTS);
static_assert(IST_A_TIMEOUTS_HALF - 1 == (int)IST_TIMEOUT_HALF);
static_assert(IST_A_TIMEOUTS_UDP - 1 == (int)IST_TIMEOUT_UDP);

static int ist_read_timeouts(const struct nlattr *attr, u32 *timeouts,
			     struct netlink_ext_ack *extack)
{
	struct nlattr *tb[IST_A_TIMEOUTS_MAX + 1];
	int err, i;

	err = nla_parse_nested(tb, IST_A_TIMEOUTS_MAX, attr,
			       ist_timeouts_nl_policy, extack);
	if (err)
		return err;
	for (i = 0; i < IST_TIMEOUTS; i++)
		if (tb[i + 1])
			timeouts[i] = nla_get_u32(tb[i + 1]);
	return 0;
}

/**
 * struct ist_cell_request - a cell as a request describes it
 * @attr: for messages
 * @tb: its attributes
 * @number: names it
 * @mode: enum ist_mode
 * @local: by side, 0 none
 * @remote: by side, 0 any
 */
struct ist_cell_request {
	const struct nlattr *attr;
	struct nlattr *tb[IST_A_CELL_MAX + 1];
	u32 number;
	u8 mode;
	u16 local[IST_SIDES];
	u16 remote[IST_SIDES];
};

static u16 ist_get_port(const struct nlattr *attr, u16 otherwise)
{
	return attr ? nla_get_u16(attr) : otherwise;
}

static int ist_read_cell(const struct nlattr *attr,
			 struct ist_cell_request *request,
			 struct netlink_ext_ack *extack)
{
	struct nlattr **tb = request->tb;
	int err;

	request->attr = attr;
	err = nla_parse_nested(tb, IST_A_CELL_MAX, attr, ist_cell_nl_policy,
			       extack);
	if (err)
		return err;
	if (!tb[IST_A_CELL_NUMBER]) {
		NL_SET_ERR_MSG_ATTR(extack, attr, "cell: number is required");
		return -EINVAL;
	}
	request->number = nla_get_u32(tb[IST_A_CELL_NUMBER]);
	request->mode = tb[IST_A_CELL_MODE] ? nla_get_u8(tb[IST_A_CELL_MODE]) :
					      IST_MODE_PASSIVE;
	request->local[0] = ist_get_port(tb[IST_A_CELL_PORT0], 0);
	request->local[1] = ist_get_port(tb[IST_A_CELL_PORT1], 0);
	request->remote[0] = ist_get_port(tb[IST_A_CELL_REMOTE_PORT0], 0);
	request->remote[1] = ist_get_port(tb[IST_A_CELL_REMOTE_PORT1], 0);
	return 0;
}

static int ist_check_cell(const struct ist_cell_request *request,
			  struct netlink_ext_ack *extack)
{
	const u16 *local = request->local, *remote = request->remote;
	u8 side;

	if (request->mode == IST_MODE_PURE) {
		/* One side's source port is the other's destination (T 4.4). */
		for (side = 0; side < IST_SIDES; side++) {
			if (local[side] && remote[!side] &&
			    local[side] != remote[!side]) {
				NL_SET_ERR_MSG_ATTR(extack, request->attr,
						    "cell: in a pure cell a side's port is the other's remote-port");
				return -EINVAL;
			}
			if (!local[side] && !local[!side]) {
				NL_SET_ERR_MSG_ATTR(extack, request->attr,
						    "cell: port0 or port1 is required");
				return -EINVAL;
			}
		}
		return 0;
	}
	if (!local[0] || !local[1]) {
		NL_SET_ERR_MSG_ATTR(extack, request->attr,
				    "cell: port0 and port1 are required");
		return -EINVAL;
	}
	if (local[0] == local[1] && remote[0] == remote[1]) {
		NL_SET_ERR_MSG_ATTR(extack, request->tb[IST_A_CELL_PORT1],
				    "port1: the same as port0");
		return -EINVAL;
	}
	return 0;
}

/* ------------------------------------------------------------ applying */

static struct ist_cell *ist_find_cell(struct ist_alloc *alloc, u32 number)
{
	struct ist_cell *cell;

	list_for_each_entry(cell, &alloc->cells, node)
		if (cell->number == number)
			return cell;
	return NULL;
}

/* A port that legs of any source port reach belongs to one side of one cell. */
static bool ist_port_is_free(struct ist_net *in, u16 local, u16 remote)
{
	struct rhlist_head *list, *position;
	struct ist_port *port;
	bool free = true;

	if (!local)
		return true;
	rcu_read_lock();
	list = rhltable_lookup(&in->ports, &local, ist_port_params);
	rhl_for_each_entry_rcu(port, position, list, node)
		if (!remote && !port->remote)
			free = false;
	rcu_read_unlock();
	return free;
}

static int ist_list_side(struct ist_cell *cell, u8 side,
			 const struct ist_cell_request *request,
			 struct netlink_ext_ack *extack)
{
	u16 local = request->local[side], remote = request->remote[side];
	int err;

	if (!ist_port_is_free(cell->alloc->in, local, remote)) {
		struct nlattr *attr = request->tb[side ? IST_A_CELL_PORT1 :
							 IST_A_CELL_PORT0];

		if (side)
			NL_SET_ERR_MSG_ATTR(extack, attr,
					    "port1: another cell has it");
		else
			NL_SET_ERR_MSG_ATTR(extack, attr,
					    "port0: another cell has it");
		return -EADDRINUSE;
	}
	err = ist_cell_list(cell, side, local, remote);
	if (err)
		NL_SET_ERR_MSG_ATTR(extack, request->attr,
				    "cell: no memory for its ports");
	return err;
}

static int ist_read_group(struct ist_cell *cell,
			  const struct ist_cell_request *request,
			  struct netlink_ext_ack *extack)
{
	struct nlattr * const *tb = request->tb;
	struct ist_group *group;
	u32 bits;
	int err;

	if (!tb[IST_A_CELL_GROUP])
		return 0;
	if (request->mode != IST_MODE_FANOUT || !tb[IST_A_CELL_GROUP_PORT]) {
		NL_SET_ERR_MSG_ATTR(extack, tb[IST_A_CELL_GROUP],
				    "group: for a fan-out alone, and with group-port");
		return -EINVAL;
	}
	group = kzalloc(sizeof(*group), GFP_KERNEL);
	if (!group)
		return -ENOMEM;
	err = ist_read_addr(tb[IST_A_CELL_GROUP], &group->tuple.remote, &bits,
			    extack);
	if (err) {
		kfree(group);
		return err;
	}
	group->tuple.remote_port = htons(nla_get_u16(tb[IST_A_CELL_GROUP_PORT]));
	group->tuple.proto = IPPROTO_UDP;
	if (tb[IST_A_CELL_GROUP_IFINDEX])
		group->ifindex = nla_get_u32(tb[IST_A_CELL_GROUP_IFINDEX]);
	cell->group = group;
	return 0;
}

/* A cell of its own, listed but not yet in its allocation. */
static struct ist_cell *ist_make_cell(struct ist_alloc *alloc,
				      const struct ist_cell_request *request,
				      struct netlink_ext_ack *extack)
{
	struct ist_cell *cell;
	int err;

	err = ist_check_cell(request, extack);
	if (err)
		return ERR_PTR(err);
	cell = ist_cell_create(alloc, request->number, request->mode);
	if (!cell)
		return ERR_PTR(-ENOMEM);
	cell->max_receivers = request->tb[IST_A_CELL_MAX_RECEIVERS] ?
		nla_get_u32(request->tb[IST_A_CELL_MAX_RECEIVERS]) :
		IST_DEFAULT_RECEIVERS;
	list_add_tail(&cell->node, &alloc->cells);
	alloc->n_cells++;
	alloc->in->n_cells++;
	err = ist_read_group(cell, request, extack) ?:
	      ist_list_side(cell, 0, request, extack) ?:
	      ist_list_side(cell, 1, request, extack);
	if (err) {
		ist_cell_remove(cell, IST_REASON_RELEASED);
		return ERR_PTR(err);
	}
	return cell;
}

/* The port of a side as others see it. */
static u16 ist_cell_port(const struct ist_cell *cell, u8 side)
{
	const struct ist_port *learned = cell->learned;

	return learned && learned->side == side ? learned->local :
						  cell->port[side].local;
}

/* What may change in a cell is the port that a pure one has to learn. */
static bool ist_learns(const struct ist_cell *cell,
		       const struct ist_cell_request *request, u8 side)
{
	u16 local = request->local[side];

	return local && local != ist_cell_port(cell, side);
}

static int ist_check_change(const struct ist_cell *cell,
			    const struct ist_cell_request *request,
			    struct netlink_ext_ack *extack)
{
	u8 side;

	for (side = 0; side < IST_SIDES; side++) {
		const struct ist_port *port = &cell->port[side];
		struct nlattr *attr = request->tb[side ? IST_A_CELL_PORT1 :
							 IST_A_CELL_PORT0];

		if (!ist_learns(cell, request, side))
			continue;
		if (cell->mode != IST_MODE_PURE || port->local) {
			NL_SET_ERR_MSG_ATTR(extack, attr,
					    "port: can be set only where a pure cell has none");
			return -EBUSY;
		}
		if (!port->remote) {
			NL_SET_ERR_MSG_ATTR(extack, attr,
					    "port: a port that is not reserved needs a remote-port");
			return -EINVAL;
		}
	}
	return 0;
}

static int ist_change_cell(struct ist_cell *cell,
			   const struct ist_cell_request *request)
{
	u8 side;
	int err;

	for (side = 0; side < IST_SIDES; side++) {
		if (!ist_learns(cell, request, side))
			continue;
		err = ist_cell_learn(cell, side, request->local[side]);
		if (err)
			return err;
	}
	return 0;
}

/* One of the first @known cells, which were there before the request. */
static struct ist_cell *ist_find_known(struct ist_alloc *alloc, u32 number,
				       u32 known)
{
	struct ist_cell *cell;

	list_for_each_entry(cell, &alloc->cells, node) {
		if (!known--)
			break;
		if (cell->number == number)
			return cell;
	}
	return NULL;
}

static int ist_apply_cell(struct ist_alloc *alloc, const struct nlattr *attr,
			  u32 known, struct netlink_ext_ack *extack)
{
	struct ist_cell_request request;
	struct ist_cell *cell;
	int err;

	err = ist_read_cell(attr, &request, extack);
	if (err)
		return err;
	cell = ist_find_known(alloc, request.number, known);
	if (cell)
		return ist_check_change(cell, &request, extack);
	if (ist_find_cell(alloc, request.number)) {
		NL_SET_ERR_MSG_ATTR(extack, attr,
				    "cell: the number is there twice");
		return -EEXIST;
	}
	if (alloc->n_cells >= IST_MAX_CELLS) {
		NL_SET_ERR_MSG_ATTR(extack, attr, "cell: too many");
		return -E2BIG;
	}
	return PTR_ERR_OR_ZERO(ist_make_cell(alloc, &request, extack));
}

/*
 * All cells of a request or none: new ones are made and changes looked at
 * first, so that changes fail for want of memory alone.
 */
static int ist_apply_cells(struct ist_alloc *alloc, struct genl_info *info)
{
	u32 known = alloc->n_cells, position = 0;
	struct ist_cell_request request;
	struct ist_cell *cell, *next;
	struct nlattr *attr;
	int rest, err = 0;

	nlmsg_for_each_attr(attr, info->nlhdr, GENL_HDRLEN, rest) {
		if (nla_type(attr) != IST_A_ALLOC_CELL)
			continue;
		err = ist_apply_cell(alloc, attr, known, info->extack);
		if (err)
			goto undo;
	}
	nlmsg_for_each_attr(attr, info->nlhdr, GENL_HDRLEN, rest) {
		if (nla_type(attr) != IST_A_ALLOC_CELL)
			continue;
		err = ist_read_cell(attr, &request, info->extack);
		if (err)
			goto undo;
		cell = ist_find_known(alloc, request.number, known);
		if (cell)
			err = ist_change_cell(cell, &request);
		if (err)
			goto undo;
	}
	return 0;

undo:
	list_for_each_entry_safe(cell, next, &alloc->cells, node)
		if (position++ >= known)
			ist_cell_remove(cell, IST_REASON_RELEASED);
	return err;
}

static void ist_remove_cells(struct ist_alloc *alloc, struct genl_info *info)
{
	struct ist_cell *cell;
	struct nlattr *attr;
	int rest;

	nlmsg_for_each_attr(attr, info->nlhdr, GENL_HDRLEN, rest) {
		if (nla_type(attr) != IST_A_ALLOC_REMOVE_CELL)
			continue;
		cell = ist_find_cell(alloc, nla_get_u32(attr));
		if (cell)
			ist_cell_remove(cell, IST_REASON_RELEASED);
	}
}

static int ist_apply(struct ist_alloc *alloc, struct genl_info *info)
{
	struct netlink_ext_ack *extack = info->extack;
	struct nlattr **attrs = info->attrs;
	struct ist_limits limits = alloc->limits;
	struct ist_sources *sources = NULL;
	u32 timeouts[IST_TIMEOUTS];
	int err, i;

	memcpy(timeouts, alloc->timeouts, sizeof(timeouts));
	if (attrs[IST_A_ALLOC_LIMITS]) {
		err = ist_read_limits(attrs[IST_A_ALLOC_LIMITS], &limits,
				      extack);
		if (err)
			return err;
	}
	if (attrs[IST_A_ALLOC_TIMEOUTS]) {
		err = ist_read_timeouts(attrs[IST_A_ALLOC_TIMEOUTS], timeouts,
					extack);
		if (err)
			return err;
	}
	if (attrs[IST_A_ALLOC_SOURCES]) {
		sources = ist_read_sources(attrs[IST_A_ALLOC_SOURCES], extack);
		if (IS_ERR(sources))
			return PTR_ERR(sources);
	}
	/* They must be there before the first leg of a new cell. */
	if (attrs[IST_A_ALLOC_SOURCES])
		sources = rcu_replace_pointer(alloc->sources, sources, true);
	err = ist_apply_cells(alloc, info);
	if (err && attrs[IST_A_ALLOC_SOURCES])
		sources = rcu_replace_pointer(alloc->sources, sources, true);
	if (sources)
		kfree_rcu(sources, rcu);
	if (err)
		return err;
	if (attrs[IST_A_ALLOC_LIFETIME]) {
		u64 ms = nla_get_u64(attrs[IST_A_ALLOC_LIFETIME]);

		/* Beyond a century it is never. */
		ms = min_t(u64, ms, 100ULL * 365 * 24 * 3600 * MSEC_PER_SEC);
		alloc->expires = ms ? get_jiffies_64() +
				      div_u64(ms * HZ, MSEC_PER_SEC) : 0;
	}
	WRITE_ONCE(alloc->limits.idle, limits.idle);
	WRITE_ONCE(alloc->limits.total, limits.total);
	WRITE_ONCE(alloc->limits.bytes, limits.bytes);
	WRITE_ONCE(alloc->limits.rate, limits.rate);
	WRITE_ONCE(alloc->limits.splices, limits.splices);
	for (i = 0; i < IST_TIMEOUTS; i++)
		WRITE_ONCE(alloc->timeouts[i], timeouts[i]);
	return 0;
}

static struct ist_alloc *ist_wanted(struct ist_net *in, struct genl_info *info)
{
	struct ist_alloc *alloc;

	if (GENL_REQ_ATTR_CHECK(info, IST_A_ALLOC_ID)) {
		NL_SET_ERR_MSG(info->extack, "id: required");
		return ERR_PTR(-EINVAL);
	}
	alloc = ist_alloc_find(in, nla_get_u64(info->attrs[IST_A_ALLOC_ID]));
	if (alloc)
		return alloc;
	NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[IST_A_ALLOC_ID],
			    "id: there is no such allocation");
	return ERR_PTR(-ENOENT);
}

int ist_nl_alloc_new_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct ist_net *in = ist_net(genl_info_net(info));
	struct ist_alloc *alloc;
	u64 id;
	int err;

	if (GENL_REQ_ATTR_CHECK(info, IST_A_ALLOC_ID)) {
		NL_SET_ERR_MSG(info->extack, "id: required");
		return -EINVAL;
	}
	id = nla_get_u64(info->attrs[IST_A_ALLOC_ID]);
	mutex_lock(&in->lock);
	err = ist_net_up(in);
	if (err) {
		NL_SET_ERR_MSG(info->extack,
			       "the namespace's tables and hooks cannot be set up");
		goto unlock;
	}
	if (ist_alloc_find(in, id)) {
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[IST_A_ALLOC_ID],
				    "id: the allocation is there already");
		err = -EEXIST;
		goto unlock;
	}
	alloc = ist_alloc_create(in, id);
	if (!alloc) {
		err = -ENOMEM;
		goto unlock;
	}
	err = ist_apply(alloc, info);
	if (!err)
		err = ist_alloc_insert(alloc);
	if (err)
		ist_alloc_remove(alloc, IST_REASON_RELEASED);
unlock:
	mutex_unlock(&in->lock);
	return err;
}

int ist_nl_alloc_set_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct ist_net *in = ist_net(genl_info_net(info));
	struct ist_alloc *alloc;
	int err;

	mutex_lock(&in->lock);
	alloc = ist_wanted(in, info);
	err = PTR_ERR_OR_ZERO(alloc);
	if (!err)
		err = ist_apply(alloc, info);
	if (!err) {
		ist_remove_cells(alloc, info);
		ist_alloc_rearm(alloc);
	}
	mutex_unlock(&in->lock);
	return err;
}

int ist_nl_alloc_del_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct ist_net *in = ist_net(genl_info_net(info));
	enum ist_reason reason = IST_REASON_RELEASED;
	struct ist_alloc *alloc;
	int err;

	if (info->attrs[IST_A_ALLOC_REASON])
		reason = nla_get_u8(info->attrs[IST_A_ALLOC_REASON]);
	mutex_lock(&in->lock);
	alloc = ist_wanted(in, info);
	err = PTR_ERR_OR_ZERO(alloc);
	if (!err)
		ist_alloc_remove(alloc, reason ?: IST_REASON_RELEASED);
	mutex_unlock(&in->lock);
	return err;
}

/* ------------------------------------------------------------ showing */

static int ist_fill_sources(struct sk_buff *skb, struct ist_alloc *alloc)
{
	struct ist_sources *sources;
	struct nlattr *nest, *entry;
	u32 i;

	sources = rcu_dereference_protected(alloc->sources,
					    lockdep_is_held(&alloc->in->lock));
	if (!sources)
		return 0;
	nest = nla_nest_start(skb, IST_A_ALLOC_SOURCES);
	if (!nest)
		return -EMSGSIZE;
	for (i = 0; i < sources->count[0] + sources->count[1]; i++) {
		const struct ist_prefix *prefix = &sources->prefix[i];
		const __be32 *mask = prefix->mask.word;
		u32 bits = hweight32((__force u32)mask[0]) +
			   hweight32((__force u32)mask[1]) +
			   hweight32((__force u32)mask[2]) +
			   hweight32((__force u32)mask[3]);
		bool is4 = ist_addr_is4(&prefix->addr) && bits >= 96;

		entry = nla_nest_start(skb, IST_A_SOURCES_SOURCE);
		if (!entry ||
		    nla_put_u8(skb, IST_A_SOURCE_SIDE, i >= sources->count[0]) ||
		    (is4 ? nla_put(skb, IST_A_SOURCE_ADDRESS, 4,
				   &prefix->addr.word[3]) :
			   nla_put(skb, IST_A_SOURCE_ADDRESS, 16,
				   &prefix->addr)) ||
		    nla_put_u8(skb, IST_A_SOURCE_PREFIX, is4 ? bits - 96 : bits))
			return -EMSGSIZE;
		nla_nest_end(skb, entry);
	}
	nla_nest_end(skb, nest);
	return 0;
}

static int ist_fill_limits(struct sk_buff *skb, struct ist_alloc *alloc)
{
	struct nlattr *nest = nla_nest_start(skb, IST_A_ALLOC_LIMITS);
	const struct ist_limits *limits = &alloc->limits;

	if (!nest ||
	    nla_put_u32(skb, IST_A_LIMITS_SPLICES, limits->splices) ||
	    ist_put64(skb, IST_A_LIMITS_IDLE, limits->idle) ||
	    ist_put64(skb, IST_A_LIMITS_TOTAL, limits->total) ||
	    ist_put64(skb, IST_A_LIMITS_BYTES, limits->bytes) ||
	    ist_put64(skb, IST_A_LIMITS_RATE, limits->rate))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

static int ist_fill_timeouts(struct sk_buff *skb, struct ist_alloc *alloc)
{
	struct nlattr *nest = nla_nest_start(skb, IST_A_ALLOC_TIMEOUTS);
	int i;

	if (!nest)
		return -EMSGSIZE;
	for (i = 0; i < IST_TIMEOUTS; i++)
		if (nla_put_u32(skb, i + 1, alloc->timeouts[i]))
			return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

static int ist_fill_cell(struct sk_buff *skb, struct ist_cell *cell)
{
	struct nlattr *nest = nla_nest_start(skb, IST_A_ALLOC_CELL);

	if (!nest || nla_put_u32(skb, IST_A_CELL_NUMBER, cell->number) ||
	    nla_put_u8(skb, IST_A_CELL_MODE, cell->mode) ||
	    nla_put_u16(skb, IST_A_CELL_PORT0, ist_cell_port(cell, 0)) ||
	    nla_put_u16(skb, IST_A_CELL_PORT1, ist_cell_port(cell, 1)) ||
	    nla_put_u16(skb, IST_A_CELL_REMOTE_PORT0, cell->port[0].remote) ||
	    nla_put_u16(skb, IST_A_CELL_REMOTE_PORT1, cell->port[1].remote))
		goto cancel;
	if (cell->group &&
	    (ist_addr_put(skb, IST_A_CELL_GROUP, &cell->group->tuple.remote) ||
	     nla_put_u16(skb, IST_A_CELL_GROUP_PORT,
			 ntohs(cell->group->tuple.remote_port)) ||
	     nla_put_u32(skb, IST_A_CELL_GROUP_IFINDEX, cell->group->ifindex)))
		goto cancel;
	if (cell->mode == IST_MODE_FANOUT &&
	    nla_put_u32(skb, IST_A_CELL_MAX_RECEIVERS, cell->max_receivers))
		goto cancel;
	nla_nest_end(skb, nest);
	return 0;

cancel:
	if (nest)
		nla_nest_cancel(skb, nest);
	return -EMSGSIZE;
}

/*
 * One message of an allocation, with as many cells from *@cell on as fit.
 * Return: 0 when no cell is left, 1 when *@cell is the next one, -EMSGSIZE when
 * nothing of use fits.
 */
static int ist_alloc_fill(struct sk_buff *skb, struct ist_alloc *alloc,
			  u32 portid, u32 seq, int flags, u32 *cell)
{
	u64 now = get_jiffies_64();
	struct ist_cell *each;
	u32 position = 0;
	u32 first = *cell;
	bool more = false;
	void *header;

	header = genlmsg_put(skb, portid, seq, &ist_nl_family, flags,
			     IST_CMD_ALLOC_GET);
	if (!header)
		return -EMSGSIZE;
	if (ist_put64(skb, IST_A_ALLOC_ID, alloc->id))
		goto cancel;
	if (!first &&
	    (ist_put64(skb, IST_A_ALLOC_AGE,
		       jiffies64_to_msecs(now - alloc->created)) ||
	     (alloc->expires &&
	      ist_put64(skb, IST_A_ALLOC_LIFETIME,
			time_after64(alloc->expires, now) ?
			jiffies64_to_msecs(alloc->expires - now) : 1)) ||
	     nla_put_u32(skb, IST_A_ALLOC_SPLICES, atomic_read(&alloc->live)) ||
	     ist_fill_sources(skb, alloc) || ist_fill_limits(skb, alloc) ||
	     ist_fill_timeouts(skb, alloc)))
		goto cancel;
	list_for_each_entry(each, &alloc->cells, node) {
		void *before = skb_tail_pointer(skb);

		if (position++ < first)
			continue;
		/* Room is kept for the flag. */
		more = ist_fill_cell(skb, each) ||
		       skb_tailroom(skb) < NLA_HDRLEN;
		if (more) {
			nlmsg_trim(skb, before);
			break;
		}
		++*cell;
	}
	if (more && *cell == first && first)
		goto cancel;
	if (more && nla_put_flag(skb, IST_A_ALLOC_MORE))
		goto cancel;
	genlmsg_end(skb, header);
	return more;

cancel:
	genlmsg_cancel(skb, header);
	return -EMSGSIZE;
}

int ist_nl_alloc_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct ist_net *in = ist_net(genl_info_net(info));
	struct ist_alloc *alloc;
	struct sk_buff *reply;
	u32 cell = 0;
	int err;

	mutex_lock(&in->lock);
	alloc = ist_wanted(in, info);
	err = PTR_ERR_OR_ZERO(alloc);
	if (err)
		goto unlock;
	/* Every attribute of a cell or a source has less than 64 bytes. */
	reply = genlmsg_new(GENLMSG_DEFAULT_SIZE + IST_MAX_SOURCES * 64 +
			    alloc->n_cells * 128, GFP_KERNEL);
	if (!reply) {
		err = -ENOMEM;
		goto unlock;
	}
	err = ist_alloc_fill(reply, alloc, info->snd_portid, info->snd_seq, 0,
			     &cell);
	if (err < 0)
		nlmsg_free(reply);
	else
		err = genlmsg_reply(reply, info);
unlock:
	mutex_unlock(&in->lock);
	return err;
}

/* Resumes behind the last id and, within an allocation, at its next cell. */
int ist_nl_alloc_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct ist_net *in = ist_net(sock_net(skb->sk));
	u64 id = (u64)cb->args[0];
	u32 cell = cb->args[1];
	struct ist_alloc *alloc;

	if (cb->args[2])
		return 0;
	mutex_lock(&in->lock);
	while ((alloc = ist_alloc_next(in, id))) {
		/* The one that was interrupted may be gone. */
		if (alloc->id != id)
			cell = 0;
		id = alloc->id;
		if (ist_alloc_fill(skb, alloc, NETLINK_CB(cb->skb).portid,
				   cb->nlh->nlmsg_seq, NLM_F_MULTI, &cell))
			break;
		cell = 0;
		if (!++id) {
			alloc = NULL;
			break;
		}
	}
	mutex_unlock(&in->lock);
	cb->args[0] = id;
	cb->args[1] = cell;
	cb->args[2] = !alloc;
	return skb->len;
}

static int ist_splice_message(struct sk_buff *skb, struct ist_splice *splice,
			      u32 portid, u32 seq, int flags)
{
	void *header = genlmsg_put(skb, portid, seq, &ist_nl_family, flags,
				   IST_CMD_SPLICE_GET);

	if (!header)
		return -EMSGSIZE;
	if (ist_splice_fill(skb, splice)) {
		genlmsg_cancel(skb, header);
		return -EMSGSIZE;
	}
	genlmsg_end(skb, header);
	return 0;
}

/* With a reference, or an error that has a text. */
static struct ist_splice *ist_wanted_splice(struct ist_net *in,
					    struct genl_info *info)
{
	struct ist_splice *splice;

	if (GENL_REQ_ATTR_CHECK(info, IST_A_SPLICE_ID)) {
		NL_SET_ERR_MSG(info->extack, "id: required");
		return ERR_PTR(-EINVAL);
	}
	rcu_read_lock();
	splice = xa_load(&in->splices,
			 nla_get_u64(info->attrs[IST_A_SPLICE_ID]));
	if (splice && !refcount_inc_not_zero(&splice->refs))
		splice = NULL;
	rcu_read_unlock();
	if (splice)
		return splice;
	NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[IST_A_SPLICE_ID],
			    "id: there is no such splice");
	return ERR_PTR(-ENOENT);
}

int ist_nl_splice_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct ist_net *in = ist_net(genl_info_net(info));
	struct ist_splice *splice = ist_wanted_splice(in, info);
	struct sk_buff *reply;
	int err;

	if (IS_ERR(splice))
		return PTR_ERR(splice);
	reply = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	if (!reply) {
		err = -ENOMEM;
		goto put;
	}
	err = ist_splice_message(reply, splice, info->snd_portid,
				 info->snd_seq, 0);
	if (err)
		nlmsg_free(reply);
	else
		err = genlmsg_reply(reply, info);
put:
	ist_splice_put(splice);
	return err;
}

int ist_nl_splice_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct ist_net *in = ist_net(sock_net(skb->sk));
	struct nlattr **attrs = ist_dump_attrs(cb);
	struct nlattr *wanted = attrs ? attrs[IST_A_SPLICE_ALLOC] : NULL;
	unsigned long id = cb->args[0];
	struct ist_splice *splice;

	rcu_read_lock();
	xa_for_each_start(&in->splices, id, splice, id) {
		if (wanted && splice->alloc->id != nla_get_u64(wanted))
			continue;
		if (ist_splice_message(skb, splice, NETLINK_CB(cb->skb).portid,
				       cb->nlh->nlmsg_seq, NLM_F_MULTI))
			break;
	}
	rcu_read_unlock();
	/* Ids start at 1 and never come to their end. */
	cb->args[0] = splice ? id : ULONG_MAX;
	return skb->len;
}

int ist_nl_splice_del_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct ist_net *in = ist_net(genl_info_net(info));
	enum ist_reason reason = IST_REASON_RELEASED;
	struct ist_splice *splice = ist_wanted_splice(in, info);

	if (IS_ERR(splice))
		return PTR_ERR(splice);
	if (info->attrs[IST_A_SPLICE_REASON])
		reason = nla_get_u8(info->attrs[IST_A_SPLICE_REASON]);
	local_bh_disable();
	ist_splice_kill(splice, reason ?: IST_REASON_RELEASED, true);
	local_bh_enable();
	ist_splice_put(splice);
	return 0;
}

static int ist_fill_reasons(struct sk_buff *skb,
			    const struct ist_counters *total)
{
	struct nlattr *nest;
	int i;

	for (i = 0; i < __IST_REASON_COUNT; i++) {
		if (!total->ended[i] && !total->dropped[i])
			continue;
		nest = nla_nest_start(skb, IST_A_STATS_REASON_COUNT);
		if (!nest ||
		    nla_put_u8(skb, IST_A_REASON_COUNT_REASON, i) ||
		    ist_put64(skb, IST_A_REASON_COUNT_ENDED,
			      total->ended[i]) ||
		    ist_put64(skb, IST_A_REASON_COUNT_PACKETS,
			      total->dropped[i]))
			return -EMSGSIZE;
		nla_nest_end(skb, nest);
	}
	return 0;
}

static void ist_sum_counters(struct ist_net *in, struct ist_counters *total)
{
	int cpu, i;

	if (!in->up)
		return;
	for_each_possible_cpu(cpu) {
		struct ist_counters *one = per_cpu_ptr(in->counters, cpu);

		total->packets += one->packets;
		total->bytes += one->bytes;
		for (i = 0; i < __IST_REASON_COUNT; i++) {
			total->dropped[i] += one->dropped[i];
			total->ended[i] += one->ended[i];
		}
	}
}

int ist_nl_stats_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct ist_net *in = ist_net(genl_info_net(info));
	struct ist_counters *total;
	struct sk_buff *reply;
	void *header;
	int err = -ENOMEM;

	total = kzalloc(sizeof(*total), GFP_KERNEL);
	reply = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	if (!total || !reply)
		goto free;
	header = genlmsg_put_reply(reply, info, &ist_nl_family, 0,
				   IST_CMD_STATS_GET);
	mutex_lock(&in->lock);
	ist_sum_counters(in, total);
	err = nla_put_u32(reply, IST_A_STATS_ALLOCS, in->n_allocs) ?:
	      nla_put_u32(reply, IST_A_STATS_CELLS, in->n_cells) ?:
	      nla_put_u32(reply, IST_A_STATS_HALVES,
			  atomic_read(&in->halves)) ?:
	      nla_put_u32(reply, IST_A_STATS_SPLICES, atomic_read(&in->live)) ?:
	      nla_put_u32(reply, IST_A_STATS_UDP_SPLICES,
			  atomic_read(&in->live_udp)) ?:
	      nla_put_u32(reply, IST_A_STATS_LINGERING,
			  atomic_read(&in->lingering)) ?:
	      ist_put64(reply, IST_A_STATS_PACKETS, total->packets) ?:
	      ist_put64(reply, IST_A_STATS_BYTES, total->bytes) ?:
	      ist_fill_reasons(reply, total);
	mutex_unlock(&in->lock);
	if (err)
		goto free;
	genlmsg_end(reply, header);
	kfree(total);
	return genlmsg_reply(reply, info);

free:
	kfree(total);
	nlmsg_free(reply);
	return err;
}
