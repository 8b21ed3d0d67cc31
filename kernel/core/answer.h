/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The segments that an IST makes itself: SYN-ACK and RST. */
#ifndef _IST_CORE_ANSWER_H
#define _IST_CORE_ANSWER_H

#include "segment.h"

/* Assumed of a SYN without the option (RFC 9293, 3.7.1; RFC 8200, 8.3). */
#define IST_MSS_DEFAULT4	536
#define IST_MSS_DEFAULT6	1220

/**
 * struct ist_answer - the options of a SYN-ACK
 * @tsval: the peer's clock
 * @tsecr: the addressee's own newest clock; a stranger's there makes Linux
 *	reset in SYN-SENT, a stale one poisons its round-trip time
 * @mss: never 0
 * @wscale: with IST_OFFER_WSCALE
 * @flags: IST_OFFER_* that both offered
 */
struct ist_answer {
	__u32 tsval;
	__u32 tsecr;
	__u16 mss;
	__u8 wscale;
	__u8 flags;
};

/**
 * ist_answer_plan() - intersect two offers
 * @answer: result
 * @to: what the addressee offered
 * @from: what the peer offered, in whose name the SYN-ACK is sent
 * @default_mss: of the peer, should its SYN have none
 * @mss_limit: what both routes carry
 */
static __always_inline void ist_answer_plan(struct ist_answer *answer,
					    const struct ist_offer *to,
					    const struct ist_offer *from,
					    __u16 default_mss, __u16 mss_limit)
{
	answer->flags = to->flags & from->flags;
	answer->mss = from->mss ? from->mss : default_mss;
	if (answer->mss > mss_limit)
		answer->mss = mss_limit;
	answer->wscale = from->wscale;
	answer->tsval = from->tsval;
	answer->tsecr = to->tsval;
}

/* Header with room for every option; those not agreed on are padding. */
#define IST_SYN_ACK_BYTES	40

/**
 * ist_syn_ack_build() - write a SYN-ACK
 * @out: IST_SYN_ACK_BYTES bytes; ports and checksum stay zero
 * @seq: the peer's initial sequence number
 * @ack: the addressee's initial sequence number and one
 * @window: of the peer's SYN, where it is never scaled
 * @answer: options
 */
static __always_inline void ist_syn_ack_build(__u8 *out, __u32 seq, __u32 ack,
					      __u16 window,
					      const struct ist_answer *answer)
{
	int i;

	for (i = 0; i < IST_TCP_HEADER_BYTES; i++)
		out[i] = 0;
	for (i = IST_TCP_HEADER_BYTES; i < IST_SYN_ACK_BYTES; i++)
		out[i] = IST_OPTION_NOP;
	ist_put32(out + 4, seq);
	ist_put32(out + 8, ack);
	out[12] = (IST_SYN_ACK_BYTES / 4) << 4;
	out[13] = IST_TCP_SYN | IST_TCP_ACK;
	if (answer->flags & IST_OFFER_ECN)
		out[13] |= IST_TCP_ECE;
	ist_put16(out + 14, window);

	out[20] = IST_OPTION_MSS;
	out[21] = 4;
	ist_put16(out + 22, answer->mss);
	if (answer->flags & IST_OFFER_SACK) {
		out[24] = IST_OPTION_SACK;
		out[25] = 2;
	}
	if (answer->flags & IST_OFFER_TIMESTAMPS) {
		out[26] = IST_OPTION_TIMESTAMPS;
		out[27] = 10;
		ist_put32(out + 28, answer->tsval);
		ist_put32(out + 32, answer->tsecr);
	}
	if (answer->flags & IST_OFFER_WSCALE) {
		out[37] = IST_OPTION_WSCALE;
		out[38] = 3;
		out[39] = answer->wscale;
	}
}

#define IST_RST_BYTES	20

/* @out: IST_RST_BYTES bytes; ports and checksum stay zero. */
static __always_inline void ist_rst_build(__u8 *out, __u32 seq, __u32 ack)
{
	int i;

	for (i = 0; i < IST_RST_BYTES; i++)
		out[i] = 0;
	ist_put32(out + 4, seq);
	ist_put32(out + 8, ack);
	out[12] = (IST_RST_BYTES / 4) << 4;
	out[13] = IST_TCP_RST | IST_TCP_ACK;
}

#endif /* _IST_CORE_ANSWER_H */
