// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Two SYNs of any bytes: what is answered must be an offer that both made. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../core.h"

#define REQUIRE(condition) do { if (!(condition)) abort(); } while (0)

static struct ist_offer parse(const uint8_t *data, size_t size, __u8 *flags)
{
	__u8 options[IST_TCP_OPTIONS_BUFFER] = {};
	struct ist_offer offer;
	size_t length = size > 1 ? size - 1 : 0;

	*flags = size ? data[0] : 0;
	if (length > IST_TCP_OPTIONS_MAX)
		length = IST_TCP_OPTIONS_MAX;
	if (length)
		memcpy(options, data + 1, length);
	ist_offer_parse(&offer, options, (__u32)length, *flags);
	return offer;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t first = size ? data[0] % size : 0;
	struct ist_offer to, from, got;
	struct ist_answer answer;
	struct ist_segment segment;
	__u8 flags[2], out[IST_SYN_ACK_BYTES], options[IST_TCP_OPTIONS_BUFFER];
	__u16 limit = size > 2 ? ist_get16(data + 1) | 1 : 1460;

	to = parse(data, first, &flags[0]);
	from = parse(data + first, size - first, &flags[1]);
	REQUIRE(to.wscale <= IST_WSCALE_MAX);
	REQUIRE(!(to.flags & IST_OFFER_TIMESTAMPS) == !to.tsval || !to.tsval);

	ist_answer_plan(&answer, &to, &from, IST_MSS_DEFAULT4, limit);
	REQUIRE(!(answer.flags & ~(to.flags & from.flags)));
	REQUIRE(answer.mss && answer.mss <= limit);

	ist_syn_ack_build(out, 1, 2, 3, &answer);
	REQUIRE(ist_segment_parse(&segment, out, sizeof(out)));
	REQUIRE(segment.options == sizeof(out) - IST_TCP_HEADER_BYTES);
	memcpy(options, out + IST_TCP_HEADER_BYTES, segment.options);
	ist_offer_parse(&got, options, segment.options, segment.flags);
	REQUIRE(got.mss == answer.mss);
	REQUIRE((got.flags | IST_OFFER_ECN) == (answer.flags | IST_OFFER_ECN));
	REQUIRE(!(segment.flags & IST_TCP_ECE) ==
		!(answer.flags & IST_OFFER_ECN));
	if (got.flags & IST_OFFER_WSCALE)
		REQUIRE(got.wscale == from.wscale);
	if (got.flags & IST_OFFER_TIMESTAMPS) {
		REQUIRE(got.tsval == from.tsval);
		REQUIRE(ist_get32(out + 32) == to.tsval);
	}
	return 0;
}
