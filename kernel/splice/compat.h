/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What differs between the kernels that this module is built for. */
#ifndef _IST_COMPAT_H
#define _IST_COMPAT_H

#include <linux/netdevice.h>
#include <linux/timer.h>
#include <linux/version.h>
#include <net/genetlink.h>

/* Its functions were in <linux/skbuff.h> before 6.5. */
#if __has_include(<net/gso.h>)
#include <net/gso.h>
#endif

/* 6.16 renamed from_timer(), and timer_delete() came in 6.2. */
#ifdef timer_container_of
#define ist_from_timer(var, timer, field) timer_container_of(var, timer, field)
#else
#define ist_from_timer(var, timer, field) from_timer(var, timer, field)
#endif

/* A function, which the preprocessor does not see. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define timer_delete(timer) del_timer(timer)
#endif

/* The attributes of a dump's request; the struct was rearranged in 6.7. */
static inline struct nlattr **ist_dump_attrs(struct netlink_callback *cb)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
	return (struct nlattr **)genl_dumpit_info(cb)->attrs;
#else
	return genl_info_dump(cb)->attrs;
#endif
}

#endif /* _IST_COMPAT_H */
