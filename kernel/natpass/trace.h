/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM nat_pass

#if !defined(_NP_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _NP_TRACE_H

#include <linux/tracepoint.h>

#include "natpass.h"

DECLARE_EVENT_CLASS(np_port,
	TP_PROTO(const struct np_port *port),
	TP_ARGS(port),
	TP_STRUCT__entry(
		__field(u32, seq)
		__field(u32, pid)
		__field(u16, port)
		__field(u8, protocol)
	),
	TP_fast_assign(
		__entry->seq = port->seq;
		__entry->pid = port->pid;
		__entry->port = port->request.port;
		__entry->protocol = port->request.protocol;
	),
	TP_printk("seq=%u proto=%u port=%u pid=%u", __entry->seq,
		  __entry->protocol, __entry->port, __entry->pid)
);

DEFINE_EVENT(np_port, np_bind,
	TP_PROTO(const struct np_port *port),
	TP_ARGS(port)
);

DEFINE_EVENT(np_port, np_close,
	TP_PROTO(const struct np_port *port),
	TP_ARGS(port)
);

TRACE_EVENT(np_answer,
	TP_PROTO(const struct np_port *port, u8 state),
	TP_ARGS(port, state),
	TP_STRUCT__entry(
		__field(u32, seq)
		__field(u16, port)
		__field(u8, protocol)
		__field(u8, state)
	),
	TP_fast_assign(
		__entry->seq = port->seq;
		__entry->port = port->request.port;
		__entry->protocol = port->request.protocol;
		__entry->state = state;
	),
	TP_printk("seq=%u proto=%u port=%u state=%u", __entry->seq,
		  __entry->protocol, __entry->port, __entry->state)
);

#endif /* _NP_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
