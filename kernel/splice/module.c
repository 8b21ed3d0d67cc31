// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The module and what it keeps per network namespace. */
#include <linux/module.h>
#include <net/netns/generic.h>

#include "flow.h"
#include "splice.h"

#if !IS_BUILTIN(CONFIG_IPV6)
#error "ist_splice needs a kernel with CONFIG_IPV6=y"
#endif

unsigned int ist_net_id __ro_after_init;

unsigned int ist_max_splices __read_mostly = 1 << 20;
module_param_named(max_splices, ist_max_splices, uint, 0644);
MODULE_PARM_DESC(max_splices,
		 "splices of one network namespace, those that are over included (1048576)");

struct ist_net *ist_net(const struct net *net)
{
	return net_generic(net, ist_net_id);
}

/* Called with the namespace's mutex. */
int ist_net_up(struct ist_net *in)
{
	int err;

	if (in->up)
		return 0;
	in->counters = alloc_percpu(struct ist_counters);
	if (!in->counters)
		return -ENOMEM;
	err = rhashtable_init(&in->flows, &ist_flow_params);
	if (err)
		goto err_counters;
	err = rhltable_init(&in->ports, &ist_port_params);
	if (err)
		goto err_flows;
	err = ist_hooks_register(in->net);
	if (err)
		goto err_ports;
	in->up = true;
	queue_delayed_work(system_power_efficient_wq, &in->expiry, HZ);
	return 0;

err_ports:
	rhltable_destroy(&in->ports);
err_flows:
	rhashtable_destroy(&in->flows);
err_counters:
	free_percpu(in->counters);
	return err;
}

static int __net_init ist_net_init(struct net *net)
{
	struct ist_net *in = ist_net(net);

	in->net = net;
	mutex_init(&in->lock);
	xa_init_flags(&in->splices, XA_FLAGS_LOCK_BH);
	in->allocs = RB_ROOT;
	INIT_DELAYED_WORK(&in->expiry, ist_expiry);
	return 0;
}

/*
 * Allocations go first, while hooks and routes are still there, so that ends
 * are reset. No packet is in a hook when unregistering returns; what timers
 * still hold of splices is freed by themselves and needs no table.
 */
static void __net_exit ist_net_exit(struct net *net)
{
	struct ist_net *in = ist_net(net);
	struct ist_alloc *alloc;

	mutex_lock(&in->lock);
	while ((alloc = ist_alloc_next(in, 0)))
		ist_alloc_remove(alloc, IST_REASON_RELEASED);
	mutex_unlock(&in->lock);
	if (in->up) {
		cancel_delayed_work_sync(&in->expiry);
		ist_hooks_unregister(net);
		synchronize_rcu();
		rcu_barrier();
		rhltable_destroy(&in->ports);
		rhashtable_destroy(&in->flows);
		free_percpu(in->counters);
	}
	xa_destroy(&in->splices);
}

static struct pernet_operations ist_net_ops = {
	.init	= ist_net_init,
	.exit	= ist_net_exit,
	.id	= &ist_net_id,
	.size	= sizeof(struct ist_net),
};

static int __init ist_init(void)
{
	int err;

	err = ist_splice_cache_create();
	if (err)
		return err;
	err = register_pernet_device(&ist_net_ops);
	if (err)
		goto err_cache;
	err = genl_register_family(&ist_nl_family);
	if (err)
		goto err_net;
	return 0;

err_net:
	unregister_pernet_device(&ist_net_ops);
err_cache:
	ist_splice_cache_destroy();
	return err;
}

static void __exit ist_exit(void)
{
	genl_unregister_family(&ist_nl_family);
	unregister_pernet_device(&ist_net_ops);
	/*
	 * A timer that ran on another CPU frees its splice by RCU, which frees
	 * its cell in the same way, which frees its allocation.
	 */
	synchronize_rcu();
	rcu_barrier();
	rcu_barrier();
	rcu_barrier();
	ist_splice_cache_destroy();
}

module_init(ist_init);
module_exit(ist_exit);

MODULE_DESCRIPTION("Passive and Pure TCP Splice and UDP for an Internet Service Translator");
MODULE_AUTHOR("The Isthmus authors");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
MODULE_ALIAS_GENL_FAMILY(IST_FAMILY_NAME);
