// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The module and what it keeps per network namespace. */
#include <linux/module.h>
#include <linux/netlink.h>
#include <net/genetlink.h>
#include <net/netns/generic.h>

#include "natpass.h"

#if !IS_BUILTIN(CONFIG_IPV6)
#error "nat_pass needs a kernel with CONFIG_IPV6=y"
#endif

static unsigned int np_net_id __ro_after_init;

static char *np_mechanism = "auto";
module_param_named(mechanism, np_mechanism, charp, 0444);
MODULE_PARM_DESC(mechanism,
		 "how binds are seen: ftrace, kprobe or auto (the first that works)");

/**
 * np_net() - what the module keeps of a namespace
 * @net: the namespace
 */
struct np_net *np_net(const struct net *net)
{
	return net_generic(net, np_net_id);
}

static int __net_init np_net_init(struct net *net)
{
	struct np_net *in = np_net(net);

	in->net = net;
	mutex_init(&in->lock);
	xa_init(&in->ports);
	xa_init_flags(&in->waiting, XA_FLAGS_ALLOC1);
	in->next_seq = 1;
	init_llist_head(&in->closed);
	INIT_WORK(&in->reap, np_reap_work);
	return rhashtable_init(&in->records, &np_record_params);
}

static void np_record_free(void *record, void *in)
{
	struct np_port *port = ((struct np_record *)record)->port;

	if (!--port->sockets)
		kfree(port);
	kfree(record);
}

/*
 * Nobody waits here: a namespace ends when it has no socket any more, and the
 * module when nobody is in its functions. Sockets of programs may be open still
 * in the latter case.
 */
static void __net_exit np_net_exit(struct net *net)
{
	struct np_net *in = np_net(net);

	cancel_work_sync(&in->reap);
	mutex_lock(&in->lock);
	np_unregister(in);
	np_reap(in);
	mutex_unlock(&in->lock);
	rhashtable_free_and_destroy(&in->records, np_record_free, NULL);
	xa_destroy(&in->ports);
	xa_destroy(&in->waiting);
}

static struct pernet_operations np_net_ops = {
	.init	= np_net_init,
	.exit	= np_net_exit,
	.id	= &np_net_id,
	.size	= sizeof(struct np_net),
};

static int __init np_init(void)
{
	int err;

	err = register_pernet_subsys(&np_net_ops);
	if (err)
		return err;
	err = netlink_register_notifier(&np_netlink_notifier);
	if (err)
		goto err_net;
	err = genl_register_family(&nat_pass_nl_family);
	if (err)
		goto err_notifier;
	err = np_hooks_register(np_mechanism);
	if (err)
		goto err_family;
	return 0;

err_family:
	genl_unregister_family(&nat_pass_nl_family);
err_notifier:
	netlink_unregister_notifier(&np_netlink_notifier);
err_net:
	unregister_pernet_subsys(&np_net_ops);
	rcu_barrier();
	return err;
}

/* Binds that wait are answered as long as there are any. */
static void __exit np_exit(void)
{
	np_hooks_unregister();
	genl_unregister_family(&nat_pass_nl_family);
	netlink_unregister_notifier(&np_netlink_notifier);
	unregister_pernet_subsys(&np_net_ops);
	rcu_barrier();
}

module_init(np_init);
module_exit(np_exit);

MODULE_DESCRIPTION("NAT Pass: asks a daemon for a port mapping when a program binds");
MODULE_AUTHOR("The Isthmus authors");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
MODULE_ALIAS_GENL_FAMILY(NAT_PASS_FAMILY_NAME);
