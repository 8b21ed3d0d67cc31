/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* TCP headers and the options of a SYN. */
#ifndef _IST_CORE_SEGMENT_H
#define _IST_CORE_SEGMENT_H

#include "types.h"

#define IST_TCP_HEADER_BYTES	20
#define IST_TCP_OPTIONS_MAX	40
/* What buffers of options have: a power of two, so that a mask is a bound. */
#define IST_TCP_OPTIONS_BUFFER	64

#define IST_TCP_FIN	0x01
#define IST_TCP_SYN	0x02
#define IST_TCP_RST	0x04
#define IST_TCP_PSH	0x08
#define IST_TCP_ACK	0x10
#define IST_TCP_URG	0x20
#define IST_TCP_ECE	0x40
#define IST_TCP_CWR	0x80

/**
 * struct ist_segment - what the state machine needs of a segment
 * @seq: first sequence number
 * @end: sequence number behind the segment, SYN and FIN counted
 * @ack: acknowledgment; meaningless without IST_TCP_ACK
 * @payload: bytes
 * @window: as it stands in the header, not scaled
 * @flags: IST_TCP_*
 * @options: bytes of options
 */
struct ist_segment {
	__u32 seq;
	__u32 end;
	__u32 ack;
	__u32 payload;
	__u16 window;
	__u8 flags;
	__u8 options;
};

/**
 * ist_segment_parse() - read a TCP header
 * @segment: result
 * @header: IST_TCP_HEADER_BYTES bytes
 * @length: of header, options and payload together
 *
 * Return: false when the header contradicts itself.
 */
static __always_inline bool ist_segment_parse(struct ist_segment *segment,
					      const __u8 *header, __u32 length)
{
	__u32 header_bytes = (header[12] >> 4) * 4U;

	if (header_bytes < IST_TCP_HEADER_BYTES || header_bytes > length)
		return false;
	segment->seq = ist_get32(header + 4);
	segment->ack = ist_get32(header + 8);
	segment->flags = header[13];
	segment->window = ist_get16(header + 14);
	segment->options = (__u8)(header_bytes - IST_TCP_HEADER_BYTES);
	segment->payload = length - header_bytes;
	segment->end = segment->seq + segment->payload +
		       !!(segment->flags & IST_TCP_SYN) +
		       !!(segment->flags & IST_TCP_FIN);
	return true;
}

#define IST_OFFER_WSCALE	0x01
#define IST_OFFER_SACK		0x02
#define IST_OFFER_TIMESTAMPS	0x04
#define IST_OFFER_ECN		0x08

/* Larger shifts are taken as this one (RFC 7323, 2.3). */
#define IST_WSCALE_MAX		14

/**
 * struct ist_offer - what a SYN offers
 * @tsval: the sender's clock, with IST_OFFER_TIMESTAMPS
 * @mss: 0 when the SYN has none
 * @wscale: with IST_OFFER_WSCALE
 * @flags: IST_OFFER_*
 */
struct ist_offer {
	__u32 tsval;
	__u16 mss;
	__u8 wscale;
	__u8 flags;
};

#define IST_OPTION_END		0
#define IST_OPTION_NOP		1
#define IST_OPTION_MSS		2
#define IST_OPTION_WSCALE	3
#define IST_OPTION_SACK		4
#define IST_OPTION_TIMESTAMPS	8

/*
 * A position in options. BPF's verifier wants to see its bound at the register
 * that is used, and compilers remove masks that they know to change nothing.
 */
static __always_inline __u32 ist_option_at(__u32 at)
{
#ifdef __bpf__
	asm volatile("" : "+r"(at));
#endif
	return at & (IST_TCP_OPTIONS_BUFFER - 1);
}

static __always_inline __u8 ist_option_byte(const __u8 *options, __u32 at)
{
	return options[ist_option_at(at)];
}

static __always_inline __u16 ist_option16(const __u8 *options, __u32 at)
{
	return (__u16)((ist_option_byte(options, at) << 8) |
		       ist_option_byte(options, at + 1));
}

/**
 * ist_offer_parse() - read the options of a SYN
 * @offer: result
 * @options: IST_TCP_OPTIONS_BUFFER bytes, whatever stands behind @length
 * @length: bytes of options
 * @flags: of the segment: ECN is offered there (RFC 3168, 6.1.1)
 *
 * Options that are unknown, cut or of a wrong length are ignored; so are TCP
 * Fast Open, MPTCP and signatures, which cannot pass a splice.
 */
static __always_inline void ist_offer_parse(struct ist_offer *offer,
					    const __u8 *options, __u32 length,
					    __u8 flags)
{
	const __u8 ecn = IST_TCP_ECE | IST_TCP_CWR;
	__u32 at = 0;
	int i;

	offer->tsval = 0;
	offer->mss = 0;
	offer->wscale = 0;
	offer->flags = (flags & ecn) == ecn ? IST_OFFER_ECN : 0;
	if (length > IST_TCP_OPTIONS_MAX)
		length = IST_TCP_OPTIONS_MAX;

	for (i = 0; i < IST_TCP_OPTIONS_MAX; i++) {
		__u8 kind, size;

		/* The same for every turn, so that the verifier sees just one. */
		at = ist_option_at(at);
		if (at >= length)
			break;
		kind = ist_option_byte(options, at);
		if (kind == IST_OPTION_END)
			break;
		if (kind == IST_OPTION_NOP) {
			at++;
			continue;
		}
		if (at + 1 >= length)
			break;
		size = ist_option_byte(options, at + 1);
		if (size < 2 || at + size > length)
			break;
		if (kind == IST_OPTION_MSS && size == 4) {
			offer->mss = ist_option16(options, at + 2);
		} else if (kind == IST_OPTION_WSCALE && size == 3) {
			offer->wscale = ist_option_byte(options, at + 2);
			if (offer->wscale > IST_WSCALE_MAX)
				offer->wscale = IST_WSCALE_MAX;
			offer->flags |= IST_OFFER_WSCALE;
		} else if (kind == IST_OPTION_SACK && size == 2) {
			offer->flags |= IST_OFFER_SACK;
		} else if (kind == IST_OPTION_TIMESTAMPS && size == 10) {
			offer->tsval =
				((__u32)ist_option16(options, at + 2) << 16) |
				ist_option16(options, at + 4);
			offer->flags |= IST_OFFER_TIMESTAMPS;
		}
		at += size;
	}
}

#endif /* _IST_CORE_SEGMENT_H */
