// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Generated from kernel/uapi/ist.yaml; do not edit. */

#include <net/netlink.h>
#include <net/genetlink.h>

#include "ist-gen.h"

static struct netlink_range_validation ist_range_10_130000 = {
	.min	= 10,
	.max	= 130000,
};

static struct netlink_range_validation ist_range_10_86400000 = {
	.min	= 10,
	.max	= 86400000,
};

const struct nla_policy ist_source_nl_policy[IST_A_SOURCE_MAX + 1] = {
	[IST_A_SOURCE_SIDE] = NLA_POLICY_MAX(NLA_U8, 1),
	[IST_A_SOURCE_ADDRESS] = NLA_POLICY_RANGE(NLA_BINARY, 4, 16),
	[IST_A_SOURCE_PREFIX] = NLA_POLICY_MAX(NLA_U8, 128),
};

const struct nla_policy ist_sources_nl_policy[IST_A_SOURCES_MAX + 1] = {
	[IST_A_SOURCES_SOURCE] = NLA_POLICY_NESTED(ist_source_nl_policy),
};

const struct nla_policy ist_limits_nl_policy[IST_A_LIMITS_MAX + 1] = {
	[IST_A_LIMITS_SPLICES] = { .type = NLA_U32 },
	[IST_A_LIMITS_IDLE] = { .type = NLA_U64 },
	[IST_A_LIMITS_TOTAL] = { .type = NLA_U64 },
	[IST_A_LIMITS_BYTES] = { .type = NLA_U64 },
	[IST_A_LIMITS_RATE] = { .type = NLA_U64 },
};

const struct nla_policy ist_timeouts_nl_policy[IST_A_TIMEOUTS_MAX + 1] = {
	[IST_A_TIMEOUTS_HALF] = NLA_POLICY_FULL_RANGE(NLA_U32, &ist_range_10_130000),
	[IST_A_TIMEOUTS_SYN_ACK] = NLA_POLICY_FULL_RANGE(NLA_U32, &ist_range_10_130000),
	[IST_A_TIMEOUTS_SYN_RCVD] = NLA_POLICY_FULL_RANGE(NLA_U32, &ist_range_10_86400000),
	[IST_A_TIMEOUTS_ESTABLISHED] = NLA_POLICY_FULL_RANGE(NLA_U32, &ist_range_10_86400000),
	[IST_A_TIMEOUTS_CLOSE_WAIT] = NLA_POLICY_FULL_RANGE(NLA_U32, &ist_range_10_86400000),
	[IST_A_TIMEOUTS_TIME_WAIT] = NLA_POLICY_FULL_RANGE(NLA_U32, &ist_range_10_86400000),
	[IST_A_TIMEOUTS_CLOSED] = NLA_POLICY_FULL_RANGE(NLA_U32, &ist_range_10_86400000),
	[IST_A_TIMEOUTS_UDP] = NLA_POLICY_FULL_RANGE(NLA_U32, &ist_range_10_86400000),
};

const struct nla_policy ist_cell_nl_policy[IST_A_CELL_MAX + 1] = {
	[IST_A_CELL_NUMBER] = { .type = NLA_U32 },
	[IST_A_CELL_MODE] = NLA_POLICY_MAX(NLA_U8, 2),
	[IST_A_CELL_PORT0] = { .type = NLA_U16 },
	[IST_A_CELL_PORT1] = { .type = NLA_U16 },
	[IST_A_CELL_REMOTE_PORT0] = { .type = NLA_U16 },
	[IST_A_CELL_REMOTE_PORT1] = { .type = NLA_U16 },
	[IST_A_CELL_GROUP] = NLA_POLICY_RANGE(NLA_BINARY, 4, 16),
	[IST_A_CELL_GROUP_PORT] = NLA_POLICY_MIN(NLA_U16, 1),
	[IST_A_CELL_GROUP_IFINDEX] = { .type = NLA_U32 },
	[IST_A_CELL_MAX_RECEIVERS] = NLA_POLICY_RANGE(NLA_U32, 1, 1024),
};

static const struct nla_policy ist_alloc_new_nl_policy[IST_A_ALLOC_CELL + 1] = {
	[IST_A_ALLOC_ID] = { .type = NLA_U64 },
	[IST_A_ALLOC_LIFETIME] = { .type = NLA_U64 },
	[IST_A_ALLOC_SOURCES] = NLA_POLICY_NESTED(ist_sources_nl_policy),
	[IST_A_ALLOC_LIMITS] = NLA_POLICY_NESTED(ist_limits_nl_policy),
	[IST_A_ALLOC_TIMEOUTS] = NLA_POLICY_NESTED(ist_timeouts_nl_policy),
	[IST_A_ALLOC_CELL] = NLA_POLICY_NESTED(ist_cell_nl_policy),
};

static const struct nla_policy ist_alloc_set_nl_policy[IST_A_ALLOC_REMOVE_CELL + 1] = {
	[IST_A_ALLOC_ID] = { .type = NLA_U64 },
	[IST_A_ALLOC_LIFETIME] = { .type = NLA_U64 },
	[IST_A_ALLOC_SOURCES] = NLA_POLICY_NESTED(ist_sources_nl_policy),
	[IST_A_ALLOC_LIMITS] = NLA_POLICY_NESTED(ist_limits_nl_policy),
	[IST_A_ALLOC_TIMEOUTS] = NLA_POLICY_NESTED(ist_timeouts_nl_policy),
	[IST_A_ALLOC_CELL] = NLA_POLICY_NESTED(ist_cell_nl_policy),
	[IST_A_ALLOC_REMOVE_CELL] = { .type = NLA_U32 },
};

static const struct nla_policy ist_alloc_del_nl_policy[IST_A_ALLOC_REASON + 1] = {
	[IST_A_ALLOC_ID] = { .type = NLA_U64 },
	[IST_A_ALLOC_REASON] = NLA_POLICY_MAX(NLA_U8, 28),
};

static const struct nla_policy ist_alloc_get_nl_policy[IST_A_ALLOC_ID + 1] = {
	[IST_A_ALLOC_ID] = { .type = NLA_U64 },
};

static const struct nla_policy ist_splice_get_nl_policy[IST_A_SPLICE_ALLOC + 1] = {
	[IST_A_SPLICE_ID] = { .type = NLA_U64 },
	[IST_A_SPLICE_ALLOC] = { .type = NLA_U64 },
};

static const struct nla_policy ist_splice_del_nl_policy[IST_A_SPLICE_REASON + 1] = {
	[IST_A_SPLICE_ID] = { .type = NLA_U64 },
	[IST_A_SPLICE_REASON] = NLA_POLICY_MAX(NLA_U8, 28),
};

static const struct genl_ops ist_nl_ops[] = {
	{
		.cmd	= IST_CMD_ALLOC_NEW,
		.doit	= ist_nl_alloc_new_doit,
		.policy	= ist_alloc_new_nl_policy,
		.maxattr	= IST_A_ALLOC_CELL,
		.flags	= GENL_UNS_ADMIN_PERM,
	},
	{
		.cmd	= IST_CMD_ALLOC_SET,
		.doit	= ist_nl_alloc_set_doit,
		.policy	= ist_alloc_set_nl_policy,
		.maxattr	= IST_A_ALLOC_REMOVE_CELL,
		.flags	= GENL_UNS_ADMIN_PERM,
	},
	{
		.cmd	= IST_CMD_ALLOC_DEL,
		.doit	= ist_nl_alloc_del_doit,
		.policy	= ist_alloc_del_nl_policy,
		.maxattr	= IST_A_ALLOC_REASON,
		.flags	= GENL_UNS_ADMIN_PERM,
	},
	{
		.cmd	= IST_CMD_ALLOC_GET,
		.doit	= ist_nl_alloc_get_doit,
		.dumpit	= ist_nl_alloc_get_dumpit,
		.policy	= ist_alloc_get_nl_policy,
		.maxattr	= IST_A_ALLOC_ID,
		.flags	= GENL_UNS_ADMIN_PERM,
	},
	{
		.cmd	= IST_CMD_SPLICE_GET,
		.doit	= ist_nl_splice_get_doit,
		.dumpit	= ist_nl_splice_get_dumpit,
		.policy	= ist_splice_get_nl_policy,
		.maxattr	= IST_A_SPLICE_ALLOC,
		.flags	= GENL_UNS_ADMIN_PERM,
	},
	{
		.cmd	= IST_CMD_SPLICE_DEL,
		.doit	= ist_nl_splice_del_doit,
		.policy	= ist_splice_del_nl_policy,
		.maxattr	= IST_A_SPLICE_REASON,
		.flags	= GENL_UNS_ADMIN_PERM,
	},
	{
		.cmd	= IST_CMD_STATS_GET,
		.doit	= ist_nl_stats_get_doit,
	},
};

static const struct genl_multicast_group ist_nl_mcgrps[] = {
	[IST_NLGRP_EVENTS] = {
		.name	= IST_MCGRP_EVENTS,
		.flags	= GENL_MCAST_CAP_NET_ADMIN,
	},
};

struct genl_family ist_nl_family __ro_after_init = {
	.name		= IST_FAMILY_NAME,
	.version	= IST_FAMILY_VERSION,
	.netnsok	= true,
	.parallel_ops	= true,
	.module		= THIS_MODULE,
	.ops		= ist_nl_ops,
	.n_ops		= ARRAY_SIZE(ist_nl_ops),
	.resv_start_op	= 1,
	.mcgrps		= ist_nl_mcgrps,
	.n_mcgrps	= ARRAY_SIZE(ist_nl_mcgrps),
};
