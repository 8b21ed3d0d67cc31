// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Generated from kernel/uapi/natpass.yaml; do not edit. */

#include <net/netlink.h>
#include <net/genetlink.h>

#include "natpass-gen.h"

const struct nla_policy nat_pass_exclusion_nl_policy[NAT_PASS_A_EXCLUSION_MAX + 1] = {
	[NAT_PASS_A_EXCLUSION_PROTOCOL] = { .type = NLA_U8 },
	[NAT_PASS_A_EXCLUSION_PORT] = NLA_POLICY_MIN(NLA_U16, 1),
	[NAT_PASS_A_EXCLUSION_TO] = { .type = NLA_U16 },
};

static const struct nla_policy nat_pass_register_nl_policy[NAT_PASS_A_POLICY_MAX + 1] = {
	[NAT_PASS_A_POLICY_DUAL_STACK] = { .type = NLA_FLAG },
	[NAT_PASS_A_POLICY_WAIT] = NLA_POLICY_RANGE(NLA_U32, 1, 10000),
	[NAT_PASS_A_POLICY_EXCLUSION] = NLA_POLICY_NESTED(nat_pass_exclusion_nl_policy),
};

static const struct nla_policy nat_pass_succeeded_nl_policy[NAT_PASS_A_PORT_SEQ + 1] = {
	[NAT_PASS_A_PORT_SEQ] = { .type = NLA_U32 },
};

static const struct nla_policy nat_pass_failed_nl_policy[NAT_PASS_A_PORT_SEQ + 1] = {
	[NAT_PASS_A_PORT_SEQ] = { .type = NLA_U32 },
};

static const struct nla_policy nat_pass_ignored_nl_policy[NAT_PASS_A_PORT_SEQ + 1] = {
	[NAT_PASS_A_PORT_SEQ] = { .type = NLA_U32 },
};

static const struct genl_ops nat_pass_nl_ops[] = {
	{
		.cmd	= NAT_PASS_CMD_REGISTER,
		.doit	= nat_pass_nl_register_doit,
		.policy	= nat_pass_register_nl_policy,
		.maxattr	= NAT_PASS_A_POLICY_MAX,
		.flags	= GENL_UNS_ADMIN_PERM,
	},
	{
		.cmd	= NAT_PASS_CMD_UNREGISTER,
		.doit	= nat_pass_nl_unregister_doit,
		.flags	= GENL_UNS_ADMIN_PERM,
	},
	{
		.cmd	= NAT_PASS_CMD_SUCCEEDED,
		.doit	= nat_pass_nl_succeeded_doit,
		.policy	= nat_pass_succeeded_nl_policy,
		.maxattr	= NAT_PASS_A_PORT_SEQ,
		.flags	= GENL_UNS_ADMIN_PERM,
	},
	{
		.cmd	= NAT_PASS_CMD_FAILED,
		.doit	= nat_pass_nl_failed_doit,
		.policy	= nat_pass_failed_nl_policy,
		.maxattr	= NAT_PASS_A_PORT_SEQ,
		.flags	= GENL_UNS_ADMIN_PERM,
	},
	{
		.cmd	= NAT_PASS_CMD_IGNORED,
		.doit	= nat_pass_nl_ignored_doit,
		.policy	= nat_pass_ignored_nl_policy,
		.maxattr	= NAT_PASS_A_PORT_SEQ,
		.flags	= GENL_UNS_ADMIN_PERM,
	},
	{
		.cmd	= NAT_PASS_CMD_PORT_GET,
		.dumpit	= nat_pass_nl_port_get_dumpit,
		.flags	= GENL_UNS_ADMIN_PERM,
	},
};

struct genl_family nat_pass_nl_family __ro_after_init = {
	.name		= NAT_PASS_FAMILY_NAME,
	.version	= NAT_PASS_FAMILY_VERSION,
	.netnsok	= true,
	.parallel_ops	= true,
	.module		= THIS_MODULE,
	.ops		= nat_pass_nl_ops,
	.n_ops		= ARRAY_SIZE(nat_pass_nl_ops),
	.resv_start_op	= 1,
};
