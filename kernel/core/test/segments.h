/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Segments and connections for tests. */
#ifndef _IST_TEST_SEGMENTS_H
#define _IST_TEST_SEGMENTS_H

#include "../core.h"

#define ISN0	0xfffffff0u
#define ISN1	0x10000000u
#define WINDOW	64000

static inline struct ist_segment segment(__u8 flags, __u32 seq, __u32 ack,
					 __u32 payload)
{
	struct ist_segment s = {
		.seq = seq,
		.ack = ack,
		.payload = payload,
		.flags = flags,
		.window = WINDOW,
		.end = seq + payload + !!(flags & IST_TCP_SYN) +
		       !!(flags & IST_TCP_FIN),
	};

	return s;
}

static inline struct ist_tuple tuple_of(__u8 host, __u16 port)
{
	struct ist_tuple tuple = { .proto = 6 };

	ist_put32((__u8 *)&tuple.remote.word[2], 0x0000ffff);
	ist_put32((__u8 *)&tuple.remote.word[3], 0x0a000000u | host);
	ist_put32((__u8 *)&tuple.local.word[2], 0x0000ffff);
	ist_put32((__u8 *)&tuple.local.word[3], 0x0a0000feu);
	ist_put16((__u8 *)&tuple.remote_port, port);
	ist_put16((__u8 *)&tuple.local_port, 20000);
	return tuple;
}

static inline struct ist_offer full_offer(__u32 tsval)
{
	struct ist_offer offer = {
		.tsval = tsval,
		.mss = 1460,
		.wscale = 7,
		.flags = IST_OFFER_WSCALE | IST_OFFER_SACK |
			 IST_OFFER_TIMESTAMPS,
	};

	return offer;
}

/* Two legs that have just met. */
static inline struct ist_connection met(void)
{
	struct ist_half half[2] = {};
	struct ist_connection connection;
	int side;

	for (side = 0; side < 2; side++) {
		struct ist_tuple tuple = tuple_of(1 + side, 40000 + side);
		struct ist_segment syn = segment(IST_TCP_SYN,
						 side ? ISN1 : ISN0, 0, 0);
		struct ist_offer offer = full_offer(100 + side);

		ist_half_syn(&half[side], &tuple, &syn, &offer);
	}
	ist_connection_open(&connection, &half[0], &half[1]);
	return connection;
}

static inline struct ist_verdict give(struct ist_connection *connection,
				      int side, struct ist_segment s,
				      __u64 now)
{
	struct ist_offer offer = full_offer(1000 + side);

	return ist_connection_segment(connection, side, &s, &offer, now);
}

/* Two legs whose ends have both acknowledged. */
static inline struct ist_connection established(void)
{
	struct ist_connection connection = met();

	give(&connection, 0, segment(IST_TCP_ACK, ISN0 + 1, ISN1 + 1, 0), 0);
	give(&connection, 1, segment(IST_TCP_ACK, ISN1 + 1, ISN0 + 1, 0), 0);
	return connection;
}

#endif /* _IST_TEST_SEGMENTS_H */
