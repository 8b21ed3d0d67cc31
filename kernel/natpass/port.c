// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Ports and the sockets that hold them: from the bind to the last close. */
#include <linux/cred.h>
#include <linux/pid_namespace.h>
#include <linux/slab.h>
#include <linux/uidgid.h>

#include "natpass.h"
#include "trace.h"

const struct rhashtable_params np_record_params = {
	.key_len	= sizeof_field(struct np_record, sk),
	.key_offset	= offsetof(struct np_record, sk),
	.head_offset	= offsetof(struct np_record, node),
	.automatic_shrinking = true,
};

static unsigned long np_port_index(const struct np_request *request)
{
	return (unsigned long)request->protocol << 16 | request->port;
}

static struct np_daemon *np_daemon(struct np_net *in)
{
	return rcu_dereference_protected(in->daemon, lockdep_is_held(&in->lock));
}

static void np_port_put(struct np_port *port)
{
	if (refcount_dec_and_test(&port->references))
		kfree(port);
}

/**
 * np_port_answer() - a port's bind is answered: wake those that wait
 * @in: its namespace, whose mutex is held
 * @port: one that is waiting
 * @state: the answer, of NAT_PASS_STATE_*
 */
void np_port_answer(struct np_net *in, struct np_port *port, u8 state)
{
	trace_np_answer(port, state);
	xa_erase(&in->waiting, port->seq);
	in->changes++;
	WRITE_ONCE(port->state, state);
	wake_up_all(&port->answered);
}

/* ------------------------------------------------------------ closing */

/* The record is its caller's, and in no list. */
static void np_record_remove(struct np_record *record)
{
	struct np_port *port = record->port;
	struct np_net *in = record->in;
	struct np_daemon *daemon;

	rhashtable_remove_fast(&in->records, &record->node, np_record_params);
	kfree_rcu(record, rcu);
	in->changes++;
	if (--port->sockets)
		return;
	trace_np_close(port);
	xa_erase(&in->ports, np_port_index(&port->request));
	if (port->state == NAT_PASS_STATE_WAITING)
		np_port_answer(in, port, NAT_PASS_STATE_IGNORED);
	daemon = np_daemon(in);
	/* What was refused it has forgotten already. */
	if (daemon && port->state != NAT_PASS_STATE_FAILED)
		np_port_tell(in, daemon, port, NAT_PASS_CMD_PORT_CLOSE);
	np_port_put(port);
}

/**
 * np_reap() - take away what was closed
 * @in: the namespace, whose mutex is held
 *
 * Done before ports are looked at, so that a port that somebody has just closed
 * and somebody else has bound is another one.
 */
void np_reap(struct np_net *in)
{
	struct llist_node *closed = llist_del_all(&in->closed);
	struct np_record *record, *next;

	closed = llist_reverse_order(closed);
	llist_for_each_entry_safe(record, next, closed, closed)
		np_record_remove(record);
}

void np_reap_work(struct work_struct *work)
{
	struct np_net *in = container_of(work, struct np_net, reap);

	mutex_lock(&in->lock);
	np_reap(in);
	mutex_unlock(&in->lock);
}

/**
 * np_socket_closed() - a socket is about to give back its port
 * @sk: any socket of the Internet families
 *
 * Called where nothing may sleep.
 */
void np_socket_closed(const struct sock *sk)
{
	struct np_net *in = np_net(sock_net(sk));
	struct np_record *record;

	if (!atomic_read(&in->records.nelems))
		return;
	rcu_read_lock();
	record = rhashtable_lookup(&in->records, &sk, np_record_params);
	if (record && !test_and_set_bit(0, &record->over)) {
		llist_add(&record->closed, &in->closed);
		schedule_work(&in->reap);
	}
	rcu_read_unlock();
}

/*
 * The record of a socket, away from the table without having been closed; or
 * one of a former socket at the same address, whose end was not seen.
 */
static void np_socket_forget(struct np_net *in, const struct sock *sk)
{
	struct np_record *record;

	rcu_read_lock();
	record = rhashtable_lookup(&in->records, &sk, np_record_params);
	rcu_read_unlock();
	if (!record)
		return;
	if (test_and_set_bit(0, &record->over))
		np_reap(in);
	else
		np_record_remove(record);
}

/* ------------------------------------------------------------- taking */

static struct np_port *np_port_new(struct np_net *in, struct np_daemon *daemon,
				   const struct np_request *request)
{
	struct np_port *port = kzalloc(sizeof(*port), GFP_KERNEL);
	kuid_t uid = current_euid();

	if (!port)
		return NULL;
	port->request = *request;
	refcount_set(&port->references, 1);
	init_waitqueue_head(&port->answered);
	port->pid = pid_nr_ns(task_tgid(current), daemon->pid_ns);
	port->uid = from_kuid_munged(in->net->user_ns, uid);
	get_task_comm(port->comm, current->group_leader);
	if (xa_alloc_cyclic(&in->waiting, &port->seq, port, xa_limit_32b,
			    &in->next_seq, GFP_KERNEL) < 0)
		goto err_port;
	if (xa_err(xa_store(&in->ports, np_port_index(request), port,
			    GFP_KERNEL)))
		goto err_waiting;
	return port;

err_waiting:
	xa_erase(&in->waiting, port->seq);
err_port:
	kfree(port);
	return NULL;
}

/*
 * Makes the socket one of those that hold the port. Returns the port, with a
 * reference for the caller, or NULL when there is nobody or nothing for it.
 */
static struct np_port *np_port_join(struct np_net *in, struct sock *sk,
				    const struct np_request *request,
				    unsigned long *wait)
{
	struct np_daemon *daemon = np_daemon(in);
	struct np_record *record;
	struct np_port *port;
	bool is_new;

	if (!daemon)
		return NULL;
	record = kzalloc(sizeof(*record), GFP_KERNEL);
	if (!record)
		return NULL;
	np_socket_forget(in, sk);
	port = xa_load(&in->ports, np_port_index(request));
	is_new = !port;
	if (is_new)
		port = np_port_new(in, daemon, request);
	if (!port)
		goto err_record;
	record->sk = sk;
	record->in = in;
	record->port = port;
	port->sockets++;
	in->changes++;
	if (rhashtable_lookup_insert_fast(&in->records, &record->node,
					  np_record_params))
		goto err_port;
	if (is_new) {
		trace_np_bind(port);
		/* It has lost a message, and learns that from its socket. */
		if (np_port_tell(in, daemon, port, NAT_PASS_CMD_PORT_BIND))
			np_port_answer(in, port, NAT_PASS_STATE_IGNORED);
	}
	refcount_inc(&port->references);
	*wait = daemon->wait;
	return port;

err_port:
	if (!--port->sockets) {
		xa_erase(&in->ports, np_port_index(request));
		np_port_answer(in, port, NAT_PASS_STATE_IGNORED);
		np_port_put(port);
	}
err_record:
	kfree(record);
	return NULL;
}

/**
 * np_port_take() - report a port that a socket has, and wait for the answer
 * @in: its namespace
 * @sk: the socket, unlocked
 * @request: what it was bound to
 *
 * Return: whether the answer is that the port must be given back.
 */
int np_port_take(struct np_net *in, struct sock *sk,
		 const struct np_request *request)
{
	struct np_port *port;
	unsigned long wait;
	bool failed;

	mutex_lock(&in->lock);
	np_reap(in);
	port = np_port_join(in, sk, request, &wait);
	if (port)
		port->waiting++;
	mutex_unlock(&in->lock);
	if (!port)
		return false;

	/* A signal that does not kill is to be served after the bind. */
	wait_event_killable_timeout(port->answered,
				    READ_ONCE(port->state) !=
				    NAT_PASS_STATE_WAITING, wait);

	mutex_lock(&in->lock);
	if (!--port->waiting && port->state == NAT_PASS_STATE_WAITING)
		np_port_answer(in, port, NAT_PASS_STATE_IGNORED);
	failed = port->state == NAT_PASS_STATE_FAILED;
	if (failed)
		np_socket_forget(in, sk);
	mutex_unlock(&in->lock);
	np_port_put(port);
	return failed;
}
