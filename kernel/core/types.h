/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the core needs of its surroundings, which are the kernel, a BPF program
 * or user space: fixed-width types and a way to inline, nothing else. Functions
 * of the core are all inline, without loops that are not bounded by a constant,
 * without function pointers, memory allocation or clocks of their own.
 */
#ifndef _IST_CORE_TYPES_H
#define _IST_CORE_TYPES_H

#include <linux/types.h>

#ifndef __KERNEL__
#include <stdbool.h>
#include <stddef.h>
#endif

#include "../uapi/ist.h"

/* sparse's, which the kernel alone defines. */
#ifndef __force
#define __force
#endif

/* Numbers in packets, read and written byte by byte: alignment is free. */
static __always_inline __u16 ist_get16(const __u8 *p)
{
	return (__u16)((p[0] << 8) | p[1]);
}

static __always_inline __u32 ist_get32(const __u8 *p)
{
	return ((__u32)p[0] << 24) | ((__u32)p[1] << 16) |
	       ((__u32)p[2] << 8) | p[3];
}

static __always_inline void ist_put16(__u8 *p, __u16 value)
{
	p[0] = (__u8)(value >> 8);
	p[1] = (__u8)value;
}

static __always_inline void ist_put32(__u8 *p, __u32 value)
{
	p[0] = (__u8)(value >> 24);
	p[1] = (__u8)(value >> 16);
	p[2] = (__u8)(value >> 8);
	p[3] = (__u8)value;
}

/* Whether sequence number @a is after @b (RFC 9293, 3.4). */
static __always_inline bool ist_seq_after(__u32 a, __u32 b)
{
	return (__s32)(b - a) < 0;
}

#endif /* _IST_CORE_TYPES_H */
