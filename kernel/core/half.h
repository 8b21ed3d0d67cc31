/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A leg that waits for its peer: IST_SYN_LOOKUP of T 5.2. */
#ifndef _IST_CORE_HALF_H
#define _IST_CORE_HALF_H

#include "key.h"
#include "segment.h"

/**
 * struct ist_half - one side of a cell, for one protocol
 * @tuple: of the leg that waits
 * @isn: initial sequence number of TCP
 * @offer: options of its newest SYN
 * @window: of its newest SYN
 * @waiting: somebody waits
 */
struct ist_half {
	struct ist_tuple tuple;
	__u32 isn;
	struct ist_offer offer;
	__u16 window;
	bool waiting;
};

enum ist_arrival {
	IST_ARRIVAL_FIRST,
	/* the same leg once more: its clock is taken over, nothing else happens */
	IST_ARRIVAL_AGAIN,
	/* another leg, which takes the place of one that waited */
	IST_ARRIVAL_INSTEAD,
};

static __always_inline bool ist_half_is_from(const struct ist_half *half,
					     const struct ist_tuple *tuple)
{
	return half->waiting &&
	       half->tuple.remote_port == tuple->remote_port &&
	       half->tuple.local_port == tuple->local_port &&
	       ist_addr_equal(&half->tuple.remote, &tuple->remote) &&
	       ist_addr_equal(&half->tuple.local, &tuple->local);
}

/* A SYN of an expected source; what it says is stored in any case. */
static __always_inline enum ist_arrival
ist_half_syn(struct ist_half *half, const struct ist_tuple *tuple,
	     const struct ist_segment *segment, const struct ist_offer *offer)
{
	enum ist_arrival arrival = IST_ARRIVAL_FIRST;

	if (half->waiting) {
		arrival = ist_half_is_from(half, tuple) &&
			  half->isn == segment->seq ?
			  IST_ARRIVAL_AGAIN : IST_ARRIVAL_INSTEAD;
	}
	half->tuple = *tuple;
	half->isn = segment->seq;
	half->offer = *offer;
	half->window = segment->window;
	half->waiting = true;
	return arrival;
}

/*
 * Whether a RST ends the leg that waits. Who gives up in SYN-SENT may send one
 * from where it is: at its initial sequence number or the one behind.
 */
static __always_inline bool ist_half_rst(const struct ist_half *half,
					 const struct ist_tuple *tuple,
					 const struct ist_segment *segment)
{
	return ist_half_is_from(half, tuple) && segment->seq - half->isn <= 1;
}

/* A datagram of an expected source: the first one holds the side. */
static __always_inline bool ist_half_datagram(struct ist_half *half,
					      const struct ist_tuple *tuple,
					      enum ist_arrival *arrival)
{
	if (half->waiting) {
		*arrival = IST_ARRIVAL_AGAIN;
		return ist_half_is_from(half, tuple);
	}
	half->tuple = *tuple;
	half->waiting = true;
	*arrival = IST_ARRIVAL_FIRST;
	return true;
}

#endif /* _IST_CORE_HALF_H */
