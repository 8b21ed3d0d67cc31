// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#include "check.h"
#include "segments.h"

#define FORWARDED(verdict) CHECK_EQUAL((verdict).action, IST_FORWARD)
#define DROPPED(verdict, why)						\
	do {								\
		struct ist_verdict _verdict = (verdict);		\
									\
		CHECK_EQUAL(_verdict.action, IST_DROP);			\
		CHECK_EQUAL(_verdict.reason, why);			\
	} while (0)
#define STATE(connection, should)					\
	CHECK_EQUAL((connection).state, IST_STATE_##should)

TEST(handshake_is_established_by_both_acknowledgements)
{
	struct ist_connection c = met();
	struct ist_verdict v;

	STATE(c, SYN_RCVD);
	v = give(&c, 0, segment(IST_TCP_ACK, ISN0 + 1, ISN1 + 1, 0), 0);
	FORWARDED(v);
	CHECK(!v.changed);
	STATE(c, SYN_RCVD);
	v = give(&c, 1, segment(IST_TCP_ACK, ISN1 + 1, ISN0 + 1, 0), 0);
	FORWARDED(v);
	CHECK(v.changed);
	STATE(c, ESTABLISHED);
}

TEST(data_passes_before_the_peer_has_answered)
{
	struct ist_connection c = met();

	FORWARDED(give(&c, 0, segment(IST_TCP_ACK, ISN0 + 1, ISN1 + 1, 500), 0));
	FORWARDED(give(&c, 0, segment(IST_TCP_ACK, ISN0 + 501, ISN1 + 1, 9), 0));
	STATE(c, SYN_RCVD);
}

TEST(an_acknowledgement_of_something_else_answers_nothing)
{
	struct ist_connection c = met();

	give(&c, 0, segment(IST_TCP_ACK, ISN0 + 1, ISN1 - 5, 0), 0);
	CHECK(!c.end[0].acked);
	give(&c, 0, segment(IST_TCP_ACK, ISN0 + 1, ISN1, 0), 0);
	CHECK(!c.end[0].acked);
}

TEST(a_syn_once_more_is_answered_with_its_newest_clock)
{
	struct ist_connection c = met();
	__u8 out[IST_SYN_ACK_BYTES];

	CHECK_EQUAL(give(&c, 1, segment(IST_TCP_SYN, ISN1, 0, 0), 0).action,
		    IST_ANSWER);
	ist_connection_syn_ack(&c, 1, 536, 1460, out);
	CHECK_EQUAL(ist_get32(out + 32), 1001);
	ist_connection_syn_ack(&c, 0, 536, 1460, out);
	CHECK_EQUAL(ist_get32(out + 28), 1001);
	CHECK_EQUAL(ist_get32(out + 32), 100);

	c = established();
	CHECK_EQUAL(give(&c, 0, segment(IST_TCP_SYN, ISN0, 0, 0), 0).action,
		    IST_ANSWER);
	STATE(c, ESTABLISHED);
}

TEST(another_syn_renews_a_handshake_and_disturbs_no_connection)
{
	struct ist_connection c = met();

	CHECK_EQUAL(give(&c, 0, segment(IST_TCP_SYN, 77, 0, 0), 0).action,
		    IST_RENEW);
	give(&c, 0, segment(IST_TCP_ACK, ISN0 + 1, ISN1 + 1, 0), 0);
	DROPPED(give(&c, 0, segment(IST_TCP_SYN, 77, 0, 0), 0),
		IST_REASON_STRAY_SYN);
	c = established();
	DROPPED(give(&c, 0, segment(IST_TCP_SYN, 77, 0, 0), 0),
		IST_REASON_STRAY_SYN);
	STATE(c, ESTABLISHED);
	c.state = IST_STATE_TIME_WAIT;
	CHECK_EQUAL(give(&c, 0, segment(IST_TCP_SYN, 77, 0, 0), 0).action,
		    IST_RENEW);
	c.state = IST_STATE_CLOSED;
	CHECK_EQUAL(give(&c, 1, segment(IST_TCP_SYN, 77, 0, 0), 0).action,
		    IST_RENEW);
}

TEST(no_client_answers_in_our_place)
{
	struct ist_connection c = met();

	DROPPED(give(&c, 0, segment(IST_TCP_SYN | IST_TCP_ACK, ISN0, ISN1 + 1,
				    0), 0), IST_REASON_STRAY_SYN);
	DROPPED(give(&c, 0, segment(IST_TCP_SYN | IST_TCP_FIN, ISN0, 0, 0), 0),
		IST_REASON_STRAY_SYN);
	DROPPED(give(&c, 0, segment(IST_TCP_SYN | IST_TCP_RST, ISN0, 0, 0), 0),
		IST_REASON_STRAY_SYN);
}

TEST(after_a_fin_only_what_is_behind_it_is_refused)
{
	struct ist_connection c = established();
	struct ist_verdict v;

	v = give(&c, 0, segment(IST_TCP_ACK | IST_TCP_FIN, ISN0 + 101, ISN1 + 1,
				50), 0);
	FORWARDED(v);
	CHECK(v.changed);
	STATE(c, CLOSE_WAIT);
	/* What came before it was lost, and comes again. */
	FORWARDED(give(&c, 0, segment(IST_TCP_ACK, ISN0 + 1, ISN1 + 1, 100), 0));
	FORWARDED(give(&c, 0, segment(IST_TCP_ACK | IST_TCP_FIN, ISN0 + 101,
				      ISN1 + 1, 50), 0));
	/* Its acknowledgements of the other direction. */
	FORWARDED(give(&c, 0, segment(IST_TCP_ACK, ISN0 + 152, ISN1 + 500, 0),
		       0));
	DROPPED(give(&c, 0, segment(IST_TCP_ACK, ISN0 + 152, ISN1 + 1, 1), 0),
		IST_REASON_BEYOND_FIN);
	FORWARDED(give(&c, 1, segment(IST_TCP_ACK, ISN1 + 1, ISN0 + 152, 900),
		       0));
	v = give(&c, 1, segment(IST_TCP_ACK | IST_TCP_FIN, ISN1 + 901,
				ISN0 + 152, 0), 0);
	FORWARDED(v);
	CHECK(v.changed);
	CHECK_EQUAL(v.reason, IST_REASON_FINISHED);
	STATE(c, TIME_WAIT);
	FORWARDED(give(&c, 0, segment(IST_TCP_ACK, ISN0 + 152, ISN1 + 902, 0),
		       0));
}

TEST(both_may_close_at_once)
{
	struct ist_connection c = established();

	give(&c, 0, segment(IST_TCP_ACK | IST_TCP_FIN, ISN0 + 1, ISN1 + 1, 0),
	     0);
	give(&c, 1, segment(IST_TCP_ACK | IST_TCP_FIN, ISN1 + 1, ISN0 + 1, 0),
	     0);
	STATE(c, TIME_WAIT);
}

TEST(a_fin_before_the_peer_has_answered_counts)
{
	struct ist_connection c = met();

	give(&c, 0, segment(IST_TCP_ACK | IST_TCP_FIN, ISN0 + 1, ISN1 + 1, 7),
	     0);
	STATE(c, SYN_RCVD);
	give(&c, 1, segment(IST_TCP_ACK, ISN1 + 1, ISN0 + 9, 0), 0);
	STATE(c, CLOSE_WAIT);
}

TEST(a_forged_fin_far_away_ends_nothing)
{
	struct ist_connection c = established();
	struct ist_verdict v;

	v = give(&c, 0, segment(IST_TCP_ACK | IST_TCP_FIN, ISN0 + 0x40000000,
				ISN1 + 1, 0), 0);
	FORWARDED(v);
	CHECK_EQUAL(v.reason, IST_REASON_WINDOW);
	STATE(c, ESTABLISHED);
	CHECK(!c.end[0].fin);
}

TEST(a_rst_closes_and_is_forwarded)
{
	struct ist_connection c = established();
	struct ist_verdict v;

	v = give(&c, 1, segment(IST_TCP_RST, ISN1 + 1, 0, 0), 50);
	FORWARDED(v);
	CHECK(v.changed);
	CHECK_EQUAL(v.reason, IST_REASON_RESET);
	STATE(c, CLOSED);
	/* What was under way when it was sent. */
	v = give(&c, 0, segment(IST_TCP_ACK, ISN0 + 1, ISN1 + 1, 10), 60);
	FORWARDED(v);
	STATE(c, CLOSED);
	v = give(&c, 1, segment(IST_TCP_ACK, ISN1 + 1, ISN0 + 1, 0), 60);
	FORWARDED(v);
	STATE(c, CLOSED);
}

TEST(a_refused_connection_is_closed_by_the_rst_that_answers)
{
	struct ist_connection c = met();

	give(&c, 0, segment(IST_TCP_RST, ISN0 + 1, 0, 0), 0);
	STATE(c, CLOSED);
}

TEST(a_rst_out_of_the_window_is_the_receivers_affair)
{
	struct ist_connection c = established();
	struct ist_verdict v;

	v = give(&c, 1, segment(IST_TCP_RST, ISN1 + 0x1000000, 0, 0), 0);
	FORWARDED(v);
	CHECK_EQUAL(v.reason, IST_REASON_WINDOW);
	STATE(c, ESTABLISHED);
	v = give(&c, 1, segment(IST_TCP_RST, ISN1 - 5, 0, 0), 0);
	CHECK_EQUAL(v.reason, IST_REASON_WINDOW);
	STATE(c, ESTABLISHED);
}

TEST(a_forged_rst_in_the_window_ends_nothing_for_good)
{
	struct ist_connection c = established();

	give(&c, 1, segment(IST_TCP_RST, ISN1 + 100, 0, 0), 1000);
	STATE(c, CLOSED);
	/* The end in whose name it was forged goes on behind it. */
	CHECK(give(&c, 1, segment(IST_TCP_ACK, ISN1 + 1, ISN0 + 1, 200),
		   1001).changed);
	STATE(c, ESTABLISHED);

	give(&c, 1, segment(IST_TCP_RST, ISN1 + 100, 0, 0), 2000);
	give(&c, 0, segment(IST_TCP_ACK, ISN0 + 1, ISN1 + 1, 10),
	     2000 + IST_RESET_QUIET_MS);
	STATE(c, CLOSED);
	give(&c, 0, segment(IST_TCP_ACK, ISN0 + 11, ISN1 + 1, 10),
	     2001 + IST_RESET_QUIET_MS);
	STATE(c, ESTABLISHED);
}

TEST(a_rst_after_a_fin_closes)
{
	struct ist_connection c = established();

	give(&c, 0, segment(IST_TCP_ACK | IST_TCP_FIN, ISN0 + 1, ISN1 + 1, 0),
	     0);
	give(&c, 1, segment(IST_TCP_RST, ISN1 + 1, 0, 0), 0);
	STATE(c, CLOSED);
	c.state = IST_STATE_TIME_WAIT;
	CHECK(!give(&c, 1, segment(IST_TCP_RST, ISN1 + 1, 0, 0), 0).changed);
	STATE(c, TIME_WAIT);
}

TEST(our_own_rst_is_behind_all_that_was_sent)
{
	struct ist_connection c = established();
	struct ist_segment heard = segment(IST_TCP_ACK, ISN0 + 1, ISN1 + 1234,
					   70);
	__u8 out[IST_RST_BYTES];

	ist_end_heard(&c.end[0], &heard);
	ist_connection_rst(&c, 0, out);
	CHECK_EQUAL(ist_get32(out + 4), ISN1 + 1234);
	CHECK_EQUAL(ist_get32(out + 8), ISN0 + 1);
	CHECK_EQUAL(out[13], IST_TCP_RST | IST_TCP_ACK);
	ist_connection_rst(&c, 1, out);
	CHECK_EQUAL(ist_get32(out + 4), (__u32)(ISN0 + 71));
	CHECK_EQUAL(ist_get32(out + 8), ISN1 + 1234);
	/* What is older comes late and changes nothing. */
	heard = segment(IST_TCP_ACK, ISN0 + 1, ISN1 + 3, 10);
	ist_end_heard(&c.end[0], &heard);
	CHECK_EQUAL(c.end[0].ack, ISN1 + 1234);
	CHECK_EQUAL(c.end[0].sent, (__u32)(ISN0 + 71));
	/* What is out of the window is a forgery, and no place for a RST. */
	heard = segment(IST_TCP_ACK, ISN0 + 0x10000000, ISN1 + 3, 10);
	ist_end_heard(&c.end[0], &heard);
	ist_connection_rst(&c, 1, out);
	CHECK_EQUAL(ist_get32(out + 4), (__u32)(ISN0 + 1));
}

TEST(plain_segments_are_those_of_open_connections)
{
	CHECK(ist_is_plain(IST_STATE_ESTABLISHED, IST_TCP_ACK | IST_TCP_PSH));
	CHECK(ist_is_plain(IST_STATE_ESTABLISHED, IST_TCP_URG | IST_TCP_CWR));
	CHECK(!ist_is_plain(IST_STATE_ESTABLISHED, IST_TCP_FIN));
	CHECK(!ist_is_plain(IST_STATE_ESTABLISHED, IST_TCP_RST));
	CHECK(!ist_is_plain(IST_STATE_ESTABLISHED, IST_TCP_SYN));
	CHECK(!ist_is_plain(IST_STATE_SYN_RCVD, IST_TCP_ACK));
	CHECK(!ist_is_plain(IST_STATE_CLOSED, IST_TCP_ACK));
}

TEST(windows_are_scaled_only_when_both_offered_it)
{
	struct ist_half half[2] = {};
	struct ist_tuple tuple = tuple_of(1, 4);
	struct ist_segment syn = segment(IST_TCP_SYN, 5, 0, 0);
	struct ist_segment ack = segment(IST_TCP_ACK, 6, 6, 0);
	struct ist_offer with = full_offer(1), without = { .mss = 1460 };
	struct ist_connection c;

	ist_half_syn(&half[0], &tuple, &syn, &with);
	ist_half_syn(&half[1], &tuple, &syn, &without);
	ist_connection_open(&c, &half[0], &half[1]);
	ist_end_heard(&c.end[0], &ack);
	CHECK_EQUAL(c.end[0].window, WINDOW);
	ist_half_syn(&half[1], &tuple, &syn, &with);
	ist_connection_open(&c, &half[0], &half[1]);
	ist_end_heard(&c.end[0], &ack);
	CHECK_EQUAL(c.end[0].window, WINDOW << 7);
}

int main(void)
{
	RUN(handshake_is_established_by_both_acknowledgements);
	RUN(data_passes_before_the_peer_has_answered);
	RUN(an_acknowledgement_of_something_else_answers_nothing);
	RUN(a_syn_once_more_is_answered_with_its_newest_clock);
	RUN(another_syn_renews_a_handshake_and_disturbs_no_connection);
	RUN(no_client_answers_in_our_place);
	RUN(after_a_fin_only_what_is_behind_it_is_refused);
	RUN(both_may_close_at_once);
	RUN(a_fin_before_the_peer_has_answered_counts);
	RUN(a_forged_fin_far_away_ends_nothing);
	RUN(a_rst_closes_and_is_forwarded);
	RUN(a_refused_connection_is_closed_by_the_rst_that_answers);
	RUN(a_rst_out_of_the_window_is_the_receivers_affair);
	RUN(a_forged_rst_in_the_window_ends_nothing_for_good);
	RUN(a_rst_after_a_fin_closes);
	RUN(our_own_rst_is_behind_all_that_was_sent);
	RUN(plain_segments_are_those_of_open_connections);
	RUN(windows_are_scaled_only_when_both_offered_it);
	return RESULT();
}
