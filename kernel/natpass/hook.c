// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The way to binds and closes.
 *
 * Whoever calls one of the kernel's functions of bind() comes to one of ours
 * instead, which calls the kernel's and then may sleep. Either ftrace changes
 * the way, or a kprobe. Calls from this module pass, so that ours reach the
 * kernel's. Closes are only looked at.
 */
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/srcu.h>
#include <linux/string.h>
#include <net/inet_common.h>
#include <net/ipv6.h>
#include <net/transp_v6.h>

#include "compat.h"
#include "natpass.h"

/* Every caller that is on its way through one of our functions. */
DEFINE_STATIC_SRCU(np_inside);

static int np_inet_bind(struct socket *sock, struct np_sockaddr *address,
			int length)
{
	int inside = srcu_read_lock(&np_inside);
	int err = inet_bind(sock, address, length);

	if (!err)
		err = np_bound(sock->sk, address);
	srcu_read_unlock(&np_inside, inside);
	return err;
}

static int np_inet6_bind(struct socket *sock, struct np_sockaddr *address,
			 int length)
{
	int inside = srcu_read_lock(&np_inside);
	int err = inet6_bind(sock, address, length);

	if (!err)
		err = np_bound(sock->sk, address);
	srcu_read_unlock(&np_inside, inside);
	return err;
}

#ifdef NP_HAVE_BIND_SK
/*
 * MPTCP calls these two since 6.6. They are not exported; inet_bind() and
 * inet6_bind() do nothing but to call them with the struct sock.
 */
static int np_inet_bind_sk(struct sock *sk, struct np_sockaddr *address,
			   int length)
{
	struct socket sock = { .sk = sk };

	return np_inet_bind(&sock, address, length);
}

static int np_inet6_bind_sk(struct sock *sk, struct np_sockaddr *address,
			    int length)
{
	struct socket sock = { .sk = sk };

	return np_inet6_bind(&sock, address, length);
}
#endif

/**
 * struct np_hook - a function of the kernel, and ours in its place
 * @symbol: of the kernel's
 * @ours: of the same type
 * @outer: a function that calls it and has been passed by then, or zero
 * @ops: for ftrace
 * @probe: the other way
 */
struct np_hook {
	char *symbol;
	unsigned long ours;
	unsigned long outer;
	struct ftrace_ops ops;
	struct kprobe probe;
};

static struct np_hook np_hooks[] = {
	{
		.symbol	= "inet_bind",
		.ours	= (unsigned long)np_inet_bind,
	},
	{
		.symbol	= "inet6_bind",
		.ours	= (unsigned long)np_inet6_bind,
	},
#ifdef NP_HAVE_BIND_SK
	{
		.symbol	= "inet_bind_sk",
		.ours	= (unsigned long)np_inet_bind_sk,
		.outer	= (unsigned long)inet_bind,
	},
	{
		.symbol	= "inet6_bind_sk",
		.ours	= (unsigned long)np_inet6_bind_sk,
		.outer	= (unsigned long)inet6_bind,
	},
#endif
};

/* More than the functions that only call another one have, with their traps. */
#define NP_OUTER_BYTES	64

static bool np_goes_to_ours(const struct np_hook *hook, unsigned long caller)
{
	if (within_module(caller, THIS_MODULE))
		return false;
	return !hook->outer || caller - hook->outer >= NP_OUTER_BYTES;
}

/* ------------------------------------------------------------- ftrace */

static void notrace np_ftraced(unsigned long ip, unsigned long parent_ip,
			       struct ftrace_ops *ops,
			       struct ftrace_regs *regs)
{
	struct np_hook *hook = container_of(ops, struct np_hook, ops);

	if (np_goes_to_ours(hook, parent_ip))
		np_ftrace_go_to(regs, hook->ours);
}

static int np_ftrace_hook(struct np_hook *hook)
{
	int err;

	hook->ops.func = np_ftraced;
	/* Permanent: whoever disables ftrace does not disable it. */
	hook->ops.flags = NP_FTRACE_FLAGS | FTRACE_OPS_FL_PERMANENT |
			  FTRACE_OPS_FL_RECURSION;
	err = ftrace_set_filter(&hook->ops, hook->symbol, strlen(hook->symbol),
				1);
	if (!err)
		err = register_ftrace_function(&hook->ops);
	if (err)
		ftrace_free_filter(&hook->ops);
	return err;
}

static void np_ftrace_unhook(struct np_hook *hook)
{
	unregister_ftrace_function(&hook->ops);
	ftrace_free_filter(&hook->ops);
}

/* ------------------------------------------------------------- kprobe */

static int np_probed(struct kprobe *probe, struct pt_regs *regs)
{
	struct np_hook *hook = container_of(probe, struct np_hook, probe);

	if (!np_goes_to_ours(hook, np_caller(regs)))
		return 0;
	instruction_pointer_set(regs, hook->ours);
	return 1;
}

/* With it the kernel knows that the way may change, and does not optimise. */
static void np_probed_after(struct kprobe *probe, struct pt_regs *regs,
			    unsigned long flags)
{
}

static int np_kprobe_hook(struct np_hook *hook)
{
	memset(&hook->probe, 0, sizeof(hook->probe));
	hook->probe.symbol_name = hook->symbol;
	hook->probe.pre_handler = np_probed;
	hook->probe.post_handler = np_probed_after;
	return register_kprobe(&hook->probe);
}

static void np_kprobe_unhook(struct np_hook *hook)
{
	unregister_kprobe(&hook->probe);
}

struct np_mechanism {
	const char *name;
	int (*hook)(struct np_hook *hook);
	void (*unhook)(struct np_hook *hook);
};

static const struct np_mechanism np_mechanisms[] = {
	{
		.name	= "ftrace",
		.hook	= np_ftrace_hook,
		.unhook	= np_ftrace_unhook,
	},
	{
		.name	= "kprobe",
		.hook	= np_kprobe_hook,
		.unhook	= np_kprobe_unhook,
	},
};

static const struct np_mechanism *np_mechanism;

/* ------------------------------------------------------------- closes */

static int np_inet_released(struct kprobe *probe, struct pt_regs *regs)
{
	struct socket *sock = (void *)regs_get_kernel_argument(regs, 0);
	struct sock *sk = READ_ONCE(sock->sk);

	if (sk)
		np_socket_closed(sk);
	return 0;
}

static int np_sk_released(struct kprobe *probe, struct pt_regs *regs)
{
	np_socket_closed((struct sock *)regs_get_kernel_argument(regs, 0));
	return 0;
}

/*
 * A program's last close, however it comes about. What a program closes of
 * MPTCP is another socket; the one below, which holds the port, ends in one of
 * the other two ways.
 */
static struct kprobe np_closes[] = {
	{
		.symbol_name	= "inet_release",
		.pre_handler	= np_inet_released,
	},
#ifdef CONFIG_MPTCP
	{
		.symbol_name	= "__tcp_close",
		.pre_handler	= np_sk_released,
	},
	{
		.symbol_name	= "inet_csk_destroy_sock",
		.pre_handler	= np_sk_released,
	},
#endif
};

static int np_closes_register(void)
{
	unsigned int n;
	int err;

	for (n = 0; n < ARRAY_SIZE(np_closes); n++) {
		err = register_kprobe(&np_closes[n]);
		if (err) {
			pr_err("nat_pass: no kprobe at %s: %d\n",
			       np_closes[n].symbol_name, err);
			goto err_probes;
		}
	}
	return 0;

err_probes:
	while (n--)
		unregister_kprobe(&np_closes[n]);
	return err;
}

static void np_closes_unregister(void)
{
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(np_closes); n++)
		unregister_kprobe(&np_closes[n]);
}

/* --------------------------------------------------------------- both */

static void np_leave(unsigned int hooks)
{
	while (hooks--)
		np_mechanism->unhook(&np_hooks[hooks]);
	/*
	 * A caller may have been sent to one of our functions and not have come
	 * there; may sleep in one; or may have left all but its last
	 * instruction. Tasks that only were preempted count as callers here.
	 */
	synchronize_rcu_tasks();
	synchronize_srcu(&np_inside);
	synchronize_rcu_tasks();
}

static int np_binds_register(const struct np_mechanism *mechanism)
{
	unsigned int n;
	int err;

	np_mechanism = mechanism;
	for (n = 0; n < ARRAY_SIZE(np_hooks); n++) {
		err = mechanism->hook(&np_hooks[n]);
		if (err) {
			pr_warn("nat_pass: no %s at %s: %d\n", mechanism->name,
				np_hooks[n].symbol, err);
			np_leave(n);
			return err;
		}
	}
	pr_info("nat_pass: binds are seen by %s\n", mechanism->name);
	return 0;
}

/**
 * np_hooks_register() - see every bind and close from now on
 * @wanted: name of the mechanism, or "auto" for the first that works
 *
 * Return: 0 or a negative errno.
 */
int np_hooks_register(const char *wanted)
{
	int err = -EINVAL;
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(np_mechanisms) && err; n++)
		if (!strcmp(wanted, "auto") ||
		    !strcmp(wanted, np_mechanisms[n].name))
			err = np_binds_register(&np_mechanisms[n]);
	if (err)
		return err;
	err = np_closes_register();
	if (err)
		np_leave(ARRAY_SIZE(np_hooks));
	return err;
}

/**
 * np_hooks_unregister() - see no bind and no close any more
 *
 * Returns when nobody is in this module's functions. Binds that wait are
 * answered, or end with their time.
 */
void np_hooks_unregister(void)
{
	np_leave(ARRAY_SIZE(np_hooks));
	np_closes_unregister();
}
