/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The module's own structures.
 *
 * A port stands for all sockets of a namespace that hold it by wildcard binds:
 * those that were made while a daemon was registered. Each has a record, found
 * by the address of its struct sock. With the last of them the port ends.
 *
 * Lifetimes:
 *   port	 counted: one reference while it has sockets, one for each caller
 *		 that waits for its answer
 *   record	 from the bind to the close. Who closes a socket may not sleep: it
 *		 marks the record and hands it to the namespace, which takes it
 *		 away before anything else is done there ("reaps")
 *   daemon	 from REGISTER to UNREGISTER, or to the end of its socket
 * Records and daemons are freed after a grace period of RCU.
 *
 * The namespace's mutex is held for every change, and while messages are sent,
 * so that their order is that of what happened. Nobody sleeps for an answer
 * with it.
 */
#ifndef _NP_NATPASS_H
#define _NP_NATPASS_H

#include <linux/llist.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/refcount.h>
#include <linux/rhashtable.h>
#include <linux/sched.h>
#include <linux/socket.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>
#include <net/net_namespace.h>
#include <net/sock.h>

#include "natpass-gen.h"

/**
 * struct np_range - ports that are not reported
 * @protocol: of IPPROTO_*, or zero for any
 * @first: of the range
 * @last: of the range
 */
struct np_range {
	u8 protocol;
	u16 first;
	u16 last;
};

/**
 * struct np_daemon - the process that answers, and what it wants to know
 * @rcu: frees it
 * @portid: of the socket that registered
 * @process: whose binds are not reported
 * @pid_ns: of the numbers of processes that it is told
 * @wait: the longest that a bind waits, in jiffies
 * @dual_stack: whether sockets of IPv6 that take IPv4 are reported
 * @ranges: how many there are of @range
 * @range: what is not reported
 */
struct np_daemon {
	struct rcu_head rcu;
	u32 portid;
	struct pid *process;
	struct pid_namespace *pid_ns;
	unsigned long wait;
	bool dual_stack;
	u32 ranges;
	struct np_range range[];
};

/**
 * struct np_request - what a bind asked for
 * @protocol: IPPROTO_TCP or IPPROTO_UDP
 * @family: AF_INET or AF_INET6
 * @port: in host byte order
 * @address: of that family, in network byte order
 */
struct np_request {
	u8 protocol;
	u8 family;
	u16 port;
	u8 address[16];
};

/**
 * struct np_port - a port that was reported
 * @request: of the first socket
 * @seq: names it in messages
 * @references: its sockets together have one, each caller that waits has one
 * @sockets: records of it
 * @waiting: callers that wait for the answer
 * @state: of NAT_PASS_STATE_*; read without the mutex by those that wait
 * @answered: where they wait
 * @pid: of the process that bound the first socket, as the daemon sees it
 * @uid: of its user
 * @comm: its name
 */
struct np_port {
	struct np_request request;
	u32 seq;
	refcount_t references;
	u32 sockets;
	u32 waiting;
	u8 state;
	wait_queue_head_t answered;
	u32 pid;
	u32 uid;
	char comm[TASK_COMM_LEN];
};

/**
 * struct np_record - a socket that holds a port
 * @node: in the namespace's table
 * @sk: its address, and nothing else: no reference is held
 * @in: its namespace
 * @port: what it holds
 * @over: set once, by who closes the socket or by who takes the record away
 * @closed: in the namespace's list, after the former
 * @rcu: frees it
 */
struct np_record {
	struct rhash_head node;
	const struct sock *sk;
	struct np_net *in;
	struct np_port *port;
	unsigned long over;
	struct llist_node closed;
	struct rcu_head rcu;
};

/**
 * struct np_net - what is kept per network namespace
 * @net: the namespace
 * @lock: of all that follows
 * @daemon: who is told; read under RCU as well
 * @ports: by np_port_index()
 * @waiting: ports that wait for an answer, by their numbers
 * @next_seq: for the former
 * @changes: counts them, so that a dump knows what went on beside it
 * @records: of sockets, by address; looked up under RCU as well
 * @closed: records of sockets that were closed; without the lock
 * @reap: takes them away
 */
struct np_net {
	struct net *net;
	struct mutex lock;	/* of what follows */
	struct np_daemon __rcu *daemon;
	struct xarray ports;
	struct xarray waiting;
	u32 next_seq;
	u32 changes;
	struct rhashtable records;
	struct llist_head closed;
	struct work_struct reap;
};

/* module.c */
struct np_net *np_net(const struct net *net);

/* bind.c */
int np_bound(struct sock *sk, const void *address);

/* hook.c */
int np_hooks_register(const char *mechanism);
void np_hooks_unregister(void);

/* port.c */
extern const struct rhashtable_params np_record_params;

int np_port_take(struct np_net *in, struct sock *sk,
		 const struct np_request *request);
void np_port_answer(struct np_net *in, struct np_port *port, u8 state);
void np_socket_closed(const struct sock *sk);
void np_reap(struct np_net *in);
void np_reap_work(struct work_struct *work);

/* netlink.c */
int np_port_tell(struct np_net *in, const struct np_daemon *daemon,
		 const struct np_port *port, u8 command);
bool np_daemon_asks(const struct np_daemon *daemon,
		    const struct np_request *request);
void np_unregister(struct np_net *in);
extern struct notifier_block np_netlink_notifier;

#endif /* _NP_NATPASS_H */
