/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM ist

#if !defined(_IST_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _IST_TRACE_H

#include <linux/tracepoint.h>

#include "splice.h"

TRACE_EVENT(ist_state,
	TP_PROTO(const struct ist_splice *splice),
	TP_ARGS(splice),
	TP_STRUCT__entry(
		__field(u64, alloc)
		__field(u64, splice)
		__field(u32, cell)
		__field(u8, proto)
		__field(u8, state)
		__field(u8, reason)
	),
	TP_fast_assign(
		__entry->alloc = splice->alloc->id;
		__entry->splice = splice->id;
		__entry->cell = splice->cell_number;
		__entry->proto = splice->proto;
		__entry->state = splice->tcp.state;
		__entry->reason = splice->reason;
	),
	TP_printk("alloc=%016llx cell=%u splice=%llu proto=%u state=%u reason=%u",
		  __entry->alloc, __entry->cell, __entry->splice,
		  __entry->proto, __entry->state, __entry->reason)
);

TRACE_EVENT(ist_drop,
	TP_PROTO(u64 alloc, u64 splice, const struct ist_tuple *tuple,
		 u8 reason),
	TP_ARGS(alloc, splice, tuple, reason),
	TP_STRUCT__entry(
		__field(u64, alloc)
		__field(u64, splice)
		__array(u8, remote, 16)
		__field(u16, remote_port)
		__field(u16, local_port)
		__field(u8, proto)
		__field(u8, reason)
	),
	TP_fast_assign(
		__entry->alloc = alloc;
		__entry->splice = splice;
		memcpy(__entry->remote, &tuple->remote, 16);
		__entry->remote_port = ntohs(tuple->remote_port);
		__entry->local_port = ntohs(tuple->local_port);
		__entry->proto = tuple->proto;
		__entry->reason = reason;
	),
	TP_printk("alloc=%016llx splice=%llu proto=%u from=[%pI6c]:%u to=:%u reason=%u",
		  __entry->alloc, __entry->splice, __entry->proto,
		  __entry->remote, __entry->remote_port, __entry->local_port,
		  __entry->reason)
);

#endif /* _IST_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
