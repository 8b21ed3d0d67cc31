/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The state machine of a TCP splice (T 5.2, figure 5.2). It decides and
 * remembers; who calls it forwards, answers, keeps time and tells others.
 *
 *   LISTEN -> SYN_LOOKUP       a cell's leg waits (half.h)
 *   SYN_LOOKUP -> SYN_RCVD     ist_connection_open(): both legs are there
 *   SYN_RCVD -> ESTABLISHED    both ends acknowledged their SYN-ACK
 *   ESTABLISHED -> CLOSE_WAIT  FIN of one end
 *   CLOSE_WAIT -> TIME_WAIT    FIN of the other
 *   any -> CLOSED              RST; back again when the connection goes on
 *
 * Sequence numbers pass unchanged, so that both directions are told apart by
 * the side that sent a segment and nothing else.
 */
#ifndef _IST_CORE_CONNECTION_H
#define _IST_CORE_CONNECTION_H

#include "answer.h"
#include "half.h"

/*
 * What still comes of an end that was reset is older than this; what is younger
 * shows that the RST was not its own.
 */
#define IST_RESET_QUIET_MS	1000

/* No receiver is expected to hold less. */
#define IST_WINDOW_LEAST	65535

/**
 * struct ist_end - one end of a connection
 * @isn: initial sequence number
 * @sent: behind the furthest byte that it sent
 * @ack: the furthest acknowledgment that it sent: what it has received
 * @window: the newest one that it granted, in bytes
 * @fin_end: sequence number behind its FIN, with @fin
 * @offer: of its newest SYN
 * @syn_window: of its newest SYN
 * @scale: by which its windows are shifted
 * @acked: it acknowledged its SYN-ACK
 * @fin: it sent FIN
 */
struct ist_end {
	__u32 isn;
	__u32 sent;
	__u32 ack;
	__u32 window;
	__u32 fin_end;
	struct ist_offer offer;
	__u16 syn_window;
	__u8 scale;
	bool acked;
	bool fin;
};

/**
 * struct ist_connection - both ends and what they are in together
 * @end: by side
 * @reset_at: milliseconds of the caller's clock, in CLOSED
 * @reset_end: sequence number of the RST
 * @state: enum ist_state
 * @reset_side: who sent the RST
 */
struct ist_connection {
	struct ist_end end[2];
	__u64 reset_at;
	__u32 reset_end;
	__u8 state;
	__u8 reset_side;
};

enum ist_action {
	IST_FORWARD,
	IST_DROP,
	/* send this end its SYN-ACK again; the segment itself goes no further */
	IST_ANSWER,
	/* the splice is over and the SYN belongs to the cell again */
	IST_RENEW,
};

/**
 * struct ist_verdict - what shall happen to a segment
 * @action: enum ist_action
 * @reason: enum ist_reason; of a drop, of a renewal, or of a state's change;
 *	also with IST_FORWARD when the segment is to be counted
 * @changed: the state is another one than before
 */
struct ist_verdict {
	__u8 action;
	__u8 reason;
	bool changed;
};

static __always_inline struct ist_verdict
ist_verdict(enum ist_action action, enum ist_reason reason, bool changed)
{
	struct ist_verdict verdict = {
		.action = (__u8)action,
		.reason = (__u8)reason,
		.changed = changed,
	};

	return verdict;
}

static __always_inline void ist_end_open(struct ist_end *end,
					 const struct ist_half *half,
					 const struct ist_half *peer)
{
	end->isn = half->isn;
	end->sent = half->isn + 1;
	/* Its SYN-ACK will say so in the peer's name. */
	end->ack = peer->isn + 1;
	end->window = half->window;
	end->fin_end = 0;
	end->offer = half->offer;
	end->syn_window = half->window;
	end->scale = half->offer.flags & peer->offer.flags & IST_OFFER_WSCALE ?
		     half->offer.wscale : 0;
	end->acked = false;
	end->fin = false;
}

static __always_inline void
ist_connection_open(struct ist_connection *connection,
		    const struct ist_half *half0, const struct ist_half *half1)
{
	ist_end_open(&connection->end[0], half0, half1);
	ist_end_open(&connection->end[1], half1, half0);
	connection->reset_at = 0;
	connection->reset_end = 0;
	connection->state = IST_STATE_SYN_RCVD;
	connection->reset_side = 0;
}

/* The SYN-ACK for @side: IST_SYN_ACK_BYTES bytes without ports and checksum. */
static __always_inline void
ist_connection_syn_ack(const struct ist_connection *connection, __u32 side,
		       __u16 default_mss, __u16 mss_limit, __u8 *out)
{
	const struct ist_end *to = &connection->end[side & 1];
	const struct ist_end *from = &connection->end[(side & 1) ^ 1];
	struct ist_answer answer;

	ist_answer_plan(&answer, &to->offer, &from->offer, default_mss,
			mss_limit);
	ist_syn_ack_build(out, from->isn, to->isn + 1, from->syn_window,
			  &answer);
}

/* Whether the receiver @end may take a segment with an edge at @seq. */
static __always_inline bool ist_end_expects(const struct ist_end *end,
					    __u32 seq)
{
	__u32 window = end->window;

	if (window < IST_WINDOW_LEAST)
		window = IST_WINDOW_LEAST;
	return seq - end->ack <= window + 1;
}

/*
 * The RST that ends @side, behind all that was sent to it: either that is where
 * it expects the next byte, or it is in the window and asks back, which the
 * stack's own RST answers (RFC 5961, 3.2). An older number would be ignored,
 * and so would one that a forged segment put out of the window.
 */
static __always_inline void
ist_connection_rst(const struct ist_connection *connection, __u32 side,
		   __u8 *out)
{
	const struct ist_end *to = &connection->end[side & 1];
	const struct ist_end *from = &connection->end[(side & 1) ^ 1];

	ist_rst_build(out, ist_end_expects(to, from->sent) ? from->sent :
							     to->ack,
		      from->ack);
}

/*
 * Whether a segment neither asks nor changes anything, so that no lock is
 * needed to forward it. Follow it by ist_end_heard().
 */
static __always_inline bool ist_is_plain(__u8 state, __u8 flags)
{
	return state == IST_STATE_ESTABLISHED &&
	       !(flags & (IST_TCP_SYN | IST_TCP_FIN | IST_TCP_RST));
}

/*
 * Remembers what an end sent, and what it says of its receiver. Two CPUs may do
 * so at once for one end: a lost update is made up for by the next segment.
 */
static __always_inline void ist_end_heard(struct ist_end *end,
					  const struct ist_segment *segment)
{
	__u32 window = (__u32)segment->window << end->scale;

	if (ist_seq_after(segment->end, end->sent))
		end->sent = segment->end;
	if (!(segment->flags & IST_TCP_ACK) ||
	    ist_seq_after(end->ack, segment->ack))
		return;
	if (end->ack != segment->ack)
		end->ack = segment->ack;
	if (end->window != window)
		end->window = window;
}

static __always_inline struct ist_verdict
ist_connection_syn(struct ist_connection *connection, __u32 side,
		   const struct ist_segment *segment,
		   const struct ist_offer *offer)
{
	struct ist_end *end = &connection->end[side & 1];

	if (segment->flags & (IST_TCP_ACK | IST_TCP_RST | IST_TCP_FIN))
		return ist_verdict(IST_DROP, IST_REASON_STRAY_SYN, false);
	switch (connection->state) {
	case IST_STATE_TIME_WAIT:
	case IST_STATE_CLOSED:
		if (segment->seq == end->isn)
			break;
		return ist_verdict(IST_RENEW, IST_REASON_REPLACED, false);
	case IST_STATE_SYN_RCVD:
		if (segment->seq == end->isn) {
			end->offer.tsval = offer->tsval;
			return ist_verdict(IST_ANSWER, IST_REASON_NONE, false);
		}
		if (!end->acked)
			return ist_verdict(IST_RENEW, IST_REASON_REPLACED,
					   false);
		break;
	default:
		if (segment->seq == end->isn) {
			end->offer.tsval = offer->tsval;
			return ist_verdict(IST_ANSWER, IST_REASON_NONE, false);
		}
		break;
	}
	return ist_verdict(IST_DROP, IST_REASON_STRAY_SYN, false);
}

static __always_inline struct ist_verdict
ist_connection_rst_seen(struct ist_connection *connection, __u32 side,
			const struct ist_segment *segment, __u64 now)
{
	bool changed = connection->state != IST_STATE_CLOSED;

	/* Both ends are done already. */
	if (connection->state == IST_STATE_TIME_WAIT)
		return ist_verdict(IST_FORWARD, IST_REASON_NONE, false);
	/* Out of the window it cannot end anything but ours. */
	if (!ist_end_expects(&connection->end[(side & 1) ^ 1], segment->seq))
		return ist_verdict(IST_FORWARD, IST_REASON_WINDOW, false);
	connection->state = IST_STATE_CLOSED;
	connection->reset_side = side & 1;
	connection->reset_end = segment->end;
	connection->reset_at = now;
	return ist_verdict(IST_FORWARD,
			   changed ? IST_REASON_RESET : IST_REASON_NONE,
			   changed);
}

/* Whether a segment shows that a RST was a forgery that both ends refused. */
static __always_inline bool
ist_connection_lives(const struct ist_connection *connection, __u32 side,
		     const struct ist_segment *segment, __u64 now)
{
	if (now - connection->reset_at > IST_RESET_QUIET_MS)
		return true;
	return (side & 1) == connection->reset_side &&
	       ist_seq_after(segment->end, connection->reset_end);
}

/* The state that follows from what both ends have said. */
static __always_inline __u8
ist_connection_settled(const struct ist_connection *connection)
{
	const struct ist_end *end = connection->end;

	if (end[0].fin && end[1].fin)
		return IST_STATE_TIME_WAIT;
	if (!end[0].acked || !end[1].acked)
		return IST_STATE_SYN_RCVD;
	return end[0].fin || end[1].fin ? IST_STATE_CLOSE_WAIT :
					  IST_STATE_ESTABLISHED;
}

/**
 * ist_connection_segment() - decide on a segment
 * @connection: locked against other callers
 * @side: who sent it
 * @segment: the segment
 * @offer: options, of a SYN; not looked at otherwise
 * @now: milliseconds of a clock that never goes back
 */
static __always_inline struct ist_verdict
ist_connection_segment(struct ist_connection *connection, __u32 side,
		       const struct ist_segment *segment,
		       const struct ist_offer *offer, __u64 now)
{
	struct ist_end *end = &connection->end[side & 1];
	struct ist_end *peer = &connection->end[(side & 1) ^ 1];
	enum ist_reason reason = IST_REASON_NONE;
	__u8 before = connection->state;
	bool lives, changed;

	if (segment->flags & IST_TCP_SYN)
		return ist_connection_syn(connection, side, segment, offer);
	if (segment->flags & IST_TCP_RST)
		return ist_connection_rst_seen(connection, side, segment, now);

	/* What came before the end of the stream passes as often as it must. */
	if (end->fin && ist_seq_after(segment->end, end->fin_end))
		return ist_verdict(IST_DROP, IST_REASON_BEYOND_FIN, false);

	lives = connection->state != IST_STATE_CLOSED ||
		ist_connection_lives(connection, side, segment, now);
	ist_end_heard(end, segment);
	if (!end->acked && (segment->flags & IST_TCP_ACK) &&
	    ist_seq_after(segment->ack, peer->isn))
		end->acked = true;
	if ((segment->flags & IST_TCP_FIN) && !end->fin) {
		if (ist_end_expects(peer, segment->end)) {
			end->fin = true;
			end->fin_end = segment->end;
		} else {
			reason = IST_REASON_WINDOW;
		}
	}
	if (lives)
		connection->state = ist_connection_settled(connection);
	changed = connection->state != before;
	if (changed && connection->state == IST_STATE_TIME_WAIT)
		reason = IST_REASON_FINISHED;
	return ist_verdict(IST_FORWARD, reason, changed);
}

#endif /* _IST_CORE_CONNECTION_H */
