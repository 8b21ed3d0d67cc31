/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Generated from kernel/uapi/natpass.yaml; do not edit. */

#ifndef _NAT_PASS_NATPASS_GEN_H
#define _NAT_PASS_NATPASS_GEN_H

#include <net/genetlink.h>

#include "../uapi/natpass.h"

extern const struct nla_policy nat_pass_exclusion_nl_policy[NAT_PASS_A_EXCLUSION_MAX + 1];

int nat_pass_nl_register_doit(struct sk_buff *skb, struct genl_info *info);
int nat_pass_nl_unregister_doit(struct sk_buff *skb, struct genl_info *info);
int nat_pass_nl_succeeded_doit(struct sk_buff *skb, struct genl_info *info);
int nat_pass_nl_failed_doit(struct sk_buff *skb, struct genl_info *info);
int nat_pass_nl_ignored_doit(struct sk_buff *skb, struct genl_info *info);
int nat_pass_nl_port_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb);

extern struct genl_family nat_pass_nl_family;

#endif /* _NAT_PASS_NATPASS_GEN_H */
