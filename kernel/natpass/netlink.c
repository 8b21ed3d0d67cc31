// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The daemon: what it asks for, and what it is told. What is refused by type,
 * length or range alone is refused by the generated policies before it comes
 * here; every other refusal has a text.
 */
#include <linux/jiffies.h>
#include <linux/netlink.h>
#include <linux/pid_namespace.h>
#include <linux/slab.h>
#include <net/genetlink.h>

#include "natpass.h"

/* ------------------------------------------------------------ telling */

static int np_port_fill(struct sk_buff *skb, const struct np_port *port)
{
	const struct np_request *request = &port->request;

	if (nla_put_u32(skb, NAT_PASS_A_PORT_SEQ, port->seq) ||
	    nla_put_u8(skb, NAT_PASS_A_PORT_PROTOCOL, request->protocol) ||
	    nla_put_u8(skb, NAT_PASS_A_PORT_FAMILY, request->family) ||
	    nla_put(skb, NAT_PASS_A_PORT_ADDRESS,
		    request->family == AF_INET ? 4 : 16, request->address) ||
	    nla_put_u16(skb, NAT_PASS_A_PORT_PORT, request->port) ||
	    nla_put_u32(skb, NAT_PASS_A_PORT_PID, port->pid) ||
	    nla_put_u32(skb, NAT_PASS_A_PORT_UID, port->uid) ||
	    nla_put_string(skb, NAT_PASS_A_PORT_COMM, port->comm) ||
	    nla_put_u8(skb, NAT_PASS_A_PORT_STATE, port->state) ||
	    nla_put_u32(skb, NAT_PASS_A_PORT_SOCKETS, port->sockets))
		return -EMSGSIZE;
	return 0;
}

static int np_close_fill(struct sk_buff *skb, const struct np_port *port)
{
	if (nla_put_u32(skb, NAT_PASS_A_PORT_SEQ, port->seq) ||
	    nla_put_u8(skb, NAT_PASS_A_PORT_PROTOCOL, port->request.protocol) ||
	    nla_put_u16(skb, NAT_PASS_A_PORT_PORT, port->request.port))
		return -EMSGSIZE;
	return 0;
}

/**
 * np_port_tell() - tell the daemon of a port
 * @in: its namespace, whose mutex is held
 * @daemon: who is told
 * @port: of which
 * @command: NAT_PASS_CMD_PORT_BIND or NAT_PASS_CMD_PORT_CLOSE
 *
 * A daemon that does not read finds ENOBUFS at its socket afterwards, and asks
 * for all ports.
 *
 * Return: 0, or a negative errno where the message did not come to its socket.
 */
int np_port_tell(struct np_net *in, const struct np_daemon *daemon,
		 const struct np_port *port, u8 command)
{
	struct sk_buff *skb = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	void *header;
	int err;

	if (!skb)
		return -ENOMEM;
	header = genlmsg_put(skb, 0, 0, &nat_pass_nl_family, 0, command);
	if (!header)
		goto err_skb;
	err = command == NAT_PASS_CMD_PORT_BIND ? np_port_fill(skb, port) :
						  np_close_fill(skb, port);
	if (err)
		goto err_skb;
	genlmsg_end(skb, header);
	return genlmsg_unicast(in->net, skb, daemon->portid);

err_skb:
	nlmsg_free(skb);
	return -EMSGSIZE;
}

/* ------------------------------------------------------------- daemon */

/**
 * np_daemon_asks() - whether a bind is one that the daemon wants to know of
 * @daemon: NULL when there is none
 * @request: of the calling process
 */
bool np_daemon_asks(const struct np_daemon *daemon,
		    const struct np_request *request)
{
	const struct np_range *range;

	if (!daemon || daemon->process == task_tgid(current))
		return false;
	if (request->family == AF_INET6 && !daemon->dual_stack)
		return false;
	for (range = daemon->range; range < daemon->range + daemon->ranges;
	     range++) {
		if (range->protocol && range->protocol != request->protocol)
			continue;
		if (request->port >= range->first &&
		    request->port <= range->last)
			return false;
	}
	return true;
}

static void np_daemon_free(struct rcu_head *rcu)
{
	struct np_daemon *daemon = container_of(rcu, struct np_daemon, rcu);

	put_pid(daemon->process);
	put_pid_ns(daemon->pid_ns);
	kfree(daemon);
}

static int np_read_range(struct np_range *range, const struct nlattr *attr,
			 struct netlink_ext_ack *extack)
{
	struct nlattr *tb[NAT_PASS_A_EXCLUSION_MAX + 1];
	int err;

	err = nla_parse_nested(tb, NAT_PASS_A_EXCLUSION_MAX, attr,
			       nat_pass_exclusion_nl_policy, extack);
	if (err)
		return err;
	if (!tb[NAT_PASS_A_EXCLUSION_PORT]) {
		NL_SET_ERR_MSG_ATTR(extack, attr,
				    "exclusion: a port is required");
		return -EINVAL;
	}
	if (tb[NAT_PASS_A_EXCLUSION_PROTOCOL])
		range->protocol = nla_get_u8(tb[NAT_PASS_A_EXCLUSION_PROTOCOL]);
	range->first = nla_get_u16(tb[NAT_PASS_A_EXCLUSION_PORT]);
	range->last = range->first;
	if (tb[NAT_PASS_A_EXCLUSION_TO])
		range->last = nla_get_u16(tb[NAT_PASS_A_EXCLUSION_TO]);
	if (range->last < range->first) {
		NL_SET_ERR_MSG_ATTR(extack, attr,
				    "exclusion: it ends before it begins");
		return -EINVAL;
	}
	return 0;
}

static struct np_daemon *np_daemon_read(struct genl_info *info)
{
	struct nlattr *wait = info->attrs[NAT_PASS_A_POLICY_WAIT];
	struct np_daemon *daemon;
	struct nlattr *attr;
	u32 count = 0;
	int rest, err;

	nlmsg_for_each_attr(attr, info->nlhdr, GENL_HDRLEN, rest)
		count += nla_type(attr) == NAT_PASS_A_POLICY_EXCLUSION;
	if (count > NAT_PASS_MAX_EXCLUSIONS) {
		NL_SET_ERR_MSG(info->extack, "too many exclusions");
		return ERR_PTR(-E2BIG);
	}
	daemon = kzalloc(struct_size(daemon, range, count), GFP_KERNEL);
	if (!daemon)
		return ERR_PTR(-ENOMEM);
	nlmsg_for_each_attr(attr, info->nlhdr, GENL_HDRLEN, rest) {
		if (nla_type(attr) != NAT_PASS_A_POLICY_EXCLUSION)
			continue;
		err = np_read_range(&daemon->range[daemon->ranges++], attr,
				    info->extack);
		if (err) {
			kfree(daemon);
			return ERR_PTR(err);
		}
	}
	daemon->portid = info->snd_portid;
	daemon->process = get_pid(task_tgid(current));
	daemon->pid_ns = get_pid_ns(task_active_pid_ns(current));
	daemon->dual_stack = info->attrs[NAT_PASS_A_POLICY_DUAL_STACK];
	daemon->wait = msecs_to_jiffies(wait ? nla_get_u32(wait) :
					       NAT_PASS_WAIT_MS);
	return daemon;
}

/**
 * np_unregister() - nobody is told any more, and whoever waits goes on
 * @in: the namespace, whose mutex is held
 */
void np_unregister(struct np_net *in)
{
	struct np_daemon *daemon;
	struct np_port *port;
	unsigned long seq;

	daemon = rcu_replace_pointer(in->daemon, NULL,
				     lockdep_is_held(&in->lock));
	if (!daemon)
		return;
	call_rcu(&daemon->rcu, np_daemon_free);
	xa_for_each(&in->waiting, seq, port)
		np_port_answer(in, port, NAT_PASS_STATE_IGNORED);
}

/* The one that is registered, when the request is its own. */
static struct np_daemon *np_own_daemon(struct np_net *in,
				       const struct genl_info *info)
{
	struct np_daemon *daemon;

	daemon = rcu_dereference_protected(in->daemon,
					   lockdep_is_held(&in->lock));
	if (daemon && daemon->portid == info->snd_portid)
		return daemon;
	NL_SET_ERR_MSG(info->extack, "this socket is not registered");
	return NULL;
}

static int np_socket_released(struct notifier_block *block, unsigned long event,
			      void *data)
{
	const struct netlink_notify *notify = data;
	struct np_daemon *daemon;
	struct np_net *in;

	if (event != NETLINK_URELEASE || notify->protocol != NETLINK_GENERIC)
		return NOTIFY_DONE;
	in = np_net(notify->net);
	mutex_lock(&in->lock);
	daemon = rcu_dereference_protected(in->daemon,
					   lockdep_is_held(&in->lock));
	if (daemon && daemon->portid == notify->portid)
		np_unregister(in);
	mutex_unlock(&in->lock);
	return NOTIFY_DONE;
}

struct notifier_block np_netlink_notifier = {
	.notifier_call	= np_socket_released,
};

/* ----------------------------------------------------------- requests */

int nat_pass_nl_register_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct np_net *in = np_net(genl_info_net(info));
	struct np_daemon *daemon, *old;
	int err = 0;

	daemon = np_daemon_read(info);
	if (IS_ERR(daemon))
		return PTR_ERR(daemon);
	mutex_lock(&in->lock);
	old = rcu_dereference_protected(in->daemon,
					lockdep_is_held(&in->lock));
	if (old && old->portid != daemon->portid) {
		NL_SET_ERR_MSG(info->extack,
			       "another process is registered in this namespace");
		err = -EBUSY;
		old = daemon;
	} else {
		rcu_assign_pointer(in->daemon, daemon);
	}
	mutex_unlock(&in->lock);
	if (old)
		call_rcu(&old->rcu, np_daemon_free);
	return err;
}

int nat_pass_nl_unregister_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct np_net *in = np_net(genl_info_net(info));
	int err = -EPERM;

	mutex_lock(&in->lock);
	if (np_own_daemon(in, info)) {
		np_unregister(in);
		err = 0;
	}
	mutex_unlock(&in->lock);
	return err;
}

static int np_answer(struct genl_info *info, u8 state)
{
	struct np_net *in = np_net(genl_info_net(info));
	struct np_port *port;
	int err = 0;

	if (GENL_REQ_ATTR_CHECK(info, NAT_PASS_A_PORT_SEQ))
		return -EINVAL;
	mutex_lock(&in->lock);
	if (!np_own_daemon(in, info)) {
		err = -EPERM;
		goto unlock;
	}
	port = xa_load(&in->waiting,
		       nla_get_u32(info->attrs[NAT_PASS_A_PORT_SEQ]));
	if (port) {
		np_port_answer(in, port, state);
	} else {
		NL_SET_ERR_MSG(info->extack, "nobody waits for that answer");
		err = -ENOENT;
	}
unlock:
	mutex_unlock(&in->lock);
	return err;
}

int nat_pass_nl_succeeded_doit(struct sk_buff *skb, struct genl_info *info)
{
	return np_answer(info, NAT_PASS_STATE_SUCCEEDED);
}

int nat_pass_nl_failed_doit(struct sk_buff *skb, struct genl_info *info)
{
	return np_answer(info, NAT_PASS_STATE_FAILED);
}

int nat_pass_nl_ignored_doit(struct sk_buff *skb, struct genl_info *info)
{
	return np_answer(info, NAT_PASS_STATE_IGNORED);
}

int nat_pass_nl_port_get_dumpit(struct sk_buff *skb,
				struct netlink_callback *cb)
{
	struct np_net *in = np_net(sock_net(skb->sk));
	unsigned long index;
	struct np_port *port;
	void *header;
	int err = 0;

	mutex_lock(&in->lock);
	np_reap(in);
	cb->seq = in->changes;
	xa_for_each_start(&in->ports, index, port, cb->args[0]) {
		header = genlmsg_put(skb, NETLINK_CB(cb->skb).portid,
				     cb->nlh->nlmsg_seq, &nat_pass_nl_family,
				     NLM_F_MULTI, NAT_PASS_CMD_PORT_GET);
		if (!header) {
			err = -EMSGSIZE;
			break;
		}
		genl_dump_check_consistent(cb, header);
		err = np_port_fill(skb, port);
		if (err) {
			genlmsg_cancel(skb, header);
			break;
		}
		genlmsg_end(skb, header);
		cb->args[0] = index + 1;
	}
	mutex_unlock(&in->lock);
	/* The rest goes into the next message. */
	return skb->len ?: err;
}
