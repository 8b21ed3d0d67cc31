/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What differs between the kernels that this module is built for. Kbuild looks
 * into their headers for NP_HAVE_*: distributions carry changes back, so that a
 * version number tells little.
 */
#ifndef _NP_COMPAT_H
#define _NP_COMPAT_H

#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/socket.h>

/* Since 6.19 the address of bind() has a type of its own, for the compiler. */
#ifdef NP_HAVE_SOCKADDR_UNSIZED
#define np_sockaddr sockaddr_unsized
#else
#define np_sockaddr sockaddr
#endif

/* Where the function goes on that ftrace stopped; as livepatch does it. */
#ifdef CONFIG_DYNAMIC_FTRACE_WITH_ARGS
#define NP_FTRACE_FLAGS	FTRACE_OPS_FL_IPMODIFY
static inline void np_ftrace_go_to(struct ftrace_regs *regs, unsigned long ip)
{
	/* Named so since 6.2. */
#ifdef NP_HAVE_FTRACE_REGS_SET_IP
	ftrace_regs_set_instruction_pointer(regs, ip);
#else
	ftrace_instruction_pointer_set(regs, ip);
#endif
}
#else
#define NP_FTRACE_FLAGS	(FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_SAVE_REGS)
static inline void np_ftrace_go_to(struct ftrace_regs *regs, unsigned long ip)
{
	instruction_pointer_set(ftrace_get_regs(regs), ip);
}
#endif

/* Who called the function at whose first instruction the registers were read. */
static inline unsigned long np_caller(struct pt_regs *regs)
{
#ifdef CONFIG_X86
	return *(unsigned long *)kernel_stack_pointer(regs);
#else
	return procedure_link_pointer(regs);
#endif
}

#endif /* _NP_COMPAT_H */
