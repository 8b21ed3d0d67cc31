// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Two legs and whatever segments follow. Each step takes 16 bytes: side and
 * time, the TCP header from its sequence number on, a length.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../core.h"

#define REQUIRE(condition) do { if (!(condition)) abort(); } while (0)

#define STEP_BYTES	16

static const __u8 *at;
static size_t left;

static bool take(__u8 *step)
{
	if (left < STEP_BYTES)
		return false;
	memcpy(step, at, STEP_BYTES);
	at += STEP_BYTES;
	left -= STEP_BYTES;
	return true;
}

/* Numbers near each other are of more interest than any numbers. */
static struct ist_segment segment_of(const __u8 *step, __u32 seq, __u32 ack)
{
	__u8 header[IST_TCP_HEADER_BYTES] = {};
	struct ist_segment segment;

	ist_put32(header + 4, step[2] & 0x80 ? ist_get32(step + 3) :
					       seq + (__s8)step[3]);
	ist_put32(header + 8, step[2] & 0x40 ? ist_get32(step + 7) :
					       ack + (__s8)step[7]);
	header[12] = 5 << 4;
	header[13] = step[11];
	ist_put16(header + 14, ist_get16(step + 12));
	REQUIRE(ist_segment_parse(&segment, header,
				  IST_TCP_HEADER_BYTES + step[14] * step[15]));
	return segment;
}

static void check(const struct ist_connection *c, const struct ist_connection *b,
		  __u8 side, const struct ist_segment *s, struct ist_verdict v)
{
	REQUIRE(v.action <= IST_RENEW && v.reason < __IST_REASON_COUNT);
	REQUIRE(c->state >= IST_STATE_SYN_RCVD && c->state <= IST_STATE_CLOSED);
	REQUIRE(v.changed == (c->state != b->state));
	/* No SYN and nothing behind the end of a stream ever passes. */
	if (v.action == IST_FORWARD) {
		REQUIRE(!(s->flags & IST_TCP_SYN));
		if (b->end[side].fin && !(s->flags & IST_TCP_RST))
			REQUIRE(!ist_seq_after(s->end, b->end[side].fin_end));
	}
	if (v.action == IST_DROP)
		REQUIRE(v.reason && !v.changed);
	if (v.changed && c->state == IST_STATE_CLOSED)
		REQUIRE(s->flags & IST_TCP_RST && v.reason == IST_REASON_RESET);
	/* What is known is not forgotten. */
	REQUIRE(c->end[side].fin >= b->end[side].fin);
	REQUIRE(c->end[side].acked >= b->end[side].acked);
	REQUIRE(c->end[!side].fin == b->end[!side].fin);
	REQUIRE(!ist_seq_after(b->end[side].ack, c->end[side].ack));
	if (c->state == IST_STATE_ESTABLISHED)
		REQUIRE(c->end[0].acked && c->end[1].acked &&
			!c->end[0].fin && !c->end[1].fin);
	if (c->state == IST_STATE_TIME_WAIT)
		REQUIRE(c->end[0].fin && c->end[1].fin);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ist_connection connection, before;
	struct ist_half half[2] = {};
	__u8 step[STEP_BYTES], options[IST_TCP_OPTIONS_BUFFER] = {};
	__u64 now = 1000000;
	int side;

	at = data;
	left = size;
	for (side = 0; side < 2; side++) {
		struct ist_tuple tuple = { .proto = 6 };
		struct ist_segment syn;
		struct ist_offer offer;

		if (!take(step))
			return 0;
		step[11] = IST_TCP_SYN;
		syn = segment_of(step, 0, 0);
		memcpy(options, step, sizeof(step));
		ist_offer_parse(&offer, options, sizeof(step) - 4, step[0]);
		ist_half_syn(&half[side], &tuple, &syn, &offer);
	}
	ist_connection_open(&connection, &half[0], &half[1]);
	while (take(step)) {
		struct ist_offer offer = { .tsval = ist_get32(step + 3) };
		struct ist_segment segment;
		struct ist_verdict verdict;

		side = step[0] & 1;
		now += step[1] * 16;
		segment = segment_of(step, connection.end[!side].ack,
				     connection.end[side].ack);
		before = connection;
		if (ist_is_plain(connection.state, segment.flags)) {
			ist_end_heard(&connection.end[side], &segment);
			continue;
		}
		verdict = ist_connection_segment(&connection, side, &segment,
						 &offer, now);
		check(&connection, &before, side, &segment, verdict);
	}
	return 0;
}
