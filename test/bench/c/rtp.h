// SPDX-License-Identifier: Apache-2.0
/*
 * The header of RTP (RFC 3550, section 5.1), as of a call with the codec that
 * every phone has. A relay of calls knows a stream by its source.
 */
#ifndef LOAD_RTP_H
#define LOAD_RTP_H

#include <stdint.h>
#include <string.h>

#define RTP_HEADER_BYTES 12
#define RTP_VERSION 2
#define RTP_PAYLOAD_TYPE 0 /* PCMU */
#define RTP_TICKS 160 /* 20 ms */

/* Of this end: the same whenever it sends. */
static uint32_t rtp_source;

static void rtp_frame(uint8_t *header, uint16_t length)
{
	static uint16_t sequence;
	static uint32_t timestamp;
	uint16_t number = __builtin_bswap16(++sequence);
	uint32_t time = __builtin_bswap32(timestamp += RTP_TICKS);
	uint32_t source = __builtin_bswap32(rtp_source);

	(void)length;
	header[0] = RTP_VERSION << 6;
	header[1] = RTP_PAYLOAD_TYPE;
	memcpy(header + 2, &number, sizeof(number));
	memcpy(header + 4, &time, sizeof(time));
	memcpy(header + 8, &source, sizeof(source));
}

#endif
