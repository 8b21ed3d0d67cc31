/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What differs between the kernels that this module is built for. Kbuild looks
 * into their headers for IST_HAVE_*: distributions carry changes back, so that a
 * version number tells little.
 */
#ifndef _IST_COMPAT_H
#define _IST_COMPAT_H

#include <linux/timer.h>
#include <net/genetlink.h>

/* Its functions were in <linux/skbuff.h> before 6.5. */
#ifdef IST_HAVE_NET_GSO_H
#include <net/gso.h>
#endif

/* Renamed in 6.16. */
#ifdef timer_container_of
#define ist_from_timer(var, timer, field) timer_container_of(var, timer, field)
#else
#define ist_from_timer(var, timer, field) from_timer(var, timer, field)
#endif

/* Named so since 6.2. */
#ifndef IST_HAVE_TIMER_DELETE
#define timer_delete(timer) del_timer(timer)
#endif

/* The attributes of a dump's request; the struct was rearranged in 6.7. */
static inline struct nlattr **ist_dump_attrs(struct netlink_callback *cb)
{
#ifdef IST_HAVE_GENL_INFO_DUMP
	return genl_info_dump(cb)->attrs;
#else
	return (struct nlattr **)genl_dumpit_info(cb)->attrs;
#endif
}

#endif /* _IST_COMPAT_H */
