/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Generated from kernel/uapi/ist.yaml; do not edit. */

#ifndef _IST_SPLICE_IST_GEN_H
#define _IST_SPLICE_IST_GEN_H

#include <net/genetlink.h>

#include "../uapi/ist.h"

extern const struct nla_policy ist_source_nl_policy[IST_A_SOURCE_MAX + 1];
extern const struct nla_policy ist_sources_nl_policy[IST_A_SOURCES_MAX + 1];
extern const struct nla_policy ist_limits_nl_policy[IST_A_LIMITS_MAX + 1];
extern const struct nla_policy ist_timeouts_nl_policy[IST_A_TIMEOUTS_MAX + 1];
extern const struct nla_policy ist_cell_nl_policy[IST_A_CELL_MAX + 1];

int ist_nl_alloc_new_doit(struct sk_buff *skb, struct genl_info *info);
int ist_nl_alloc_set_doit(struct sk_buff *skb, struct genl_info *info);
int ist_nl_alloc_del_doit(struct sk_buff *skb, struct genl_info *info);
int ist_nl_alloc_get_doit(struct sk_buff *skb, struct genl_info *info);
int ist_nl_alloc_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb);
int ist_nl_splice_get_doit(struct sk_buff *skb, struct genl_info *info);
int ist_nl_splice_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb);
int ist_nl_splice_del_doit(struct sk_buff *skb, struct genl_info *info);
int ist_nl_stats_get_doit(struct sk_buff *skb, struct genl_info *info);

enum {
	IST_NLGRP_EVENTS,
};

extern struct genl_family ist_nl_family;

#endif /* _IST_SPLICE_IST_GEN_H */
