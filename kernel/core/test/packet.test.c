// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Checksums, rewriting, prefixes, headers and halves. */
#include "check.h"
#include "segments.h"

/* The checksum of RFC 1071, straight from its text. */
static __u16 rfc1071(const __u8 *data, size_t length)
{
	__u32 sum = 0;

	for (size_t i = 0; i < length; i += 2)
		sum += data[i] << 8 | (i + 1 < length ? data[i + 1] : 0);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum & 0xffff;
}

struct pseudo_packet {
	struct ist_addr from, to;
	__be16 from_port, to_port;
	__u16 check;
	__u8 payload[26];
};

static __u16 check_of(struct pseudo_packet *packet)
{
	__u16 be, before = packet->check;

	packet->check = 0;
	be = rfc1071((__u8 *)packet, sizeof(*packet));
	packet->check = before;
	ist_put16((__u8 *)&before, be);
	return before;
}

static void fill(void *at, size_t length)
{
	for (size_t i = 0; i < length; i++)
		((__u8 *)at)[i] = (__u8)rand();
}

TEST(an_updated_checksum_is_that_of_the_new_packet)
{
	srand(1);
	for (int i = 0; i < 20000; i++) {
		struct ist_tuple in = {}, out = {};
		struct pseudo_packet packet;
		struct ist_rewrite plan;

		fill(&in, 36);
		fill(&out, 36);
		if (i % 3 == 0) {
			in.remote.word[0] = in.remote.word[1] = 0;
			in.remote.word[2] = ist_mapped_word();
		}
		fill(packet.payload, sizeof(packet.payload));
		packet.from = in.remote;
		packet.to = in.local;
		packet.from_port = in.remote_port;
		packet.to_port = in.local_port;
		packet.check = check_of(&packet);
		ist_rewrite_plan(&plan, &in, &out);

		packet.from = out.local;
		packet.to = out.remote;
		packet.from_port = out.local_port;
		packet.to_port = out.remote_port;
		CHECK_EQUAL(ist_check_update(packet.check,
					     ist_rewrite_delta(&plan)),
			    check_of(&packet));
		if (failed_checks)
			return;
	}
}

TEST(a_partial_checksum_takes_the_addresses_alone)
{
	struct ist_tuple in = tuple_of(1, 1000), out = tuple_of(2, 2000);
	struct ist_rewrite plan;
	__u16 before, after;

	ist_rewrite_plan(&plan, &in, &out);
	before = ist_sum_fold(ist_sum_add(ist_sum_addr(&in.remote),
					  ist_sum_addr(&in.local)));
	after = ist_sum_fold(ist_sum_add(ist_sum_addr(&out.remote),
					 ist_sum_addr(&out.local)));
	CHECK_EQUAL(ist_check_update_partial(before, plan.addr_delta), after);
	CHECK(plan.port_delta != 0);
}

TEST(pure_splice_leaves_ports_out_of_the_checksum)
{
	struct ist_tuple in = tuple_of(1, 5555), out = tuple_of(2, 6666);
	struct ist_rewrite plan;

	in.local_port = out.remote_port;
	out.local_port = in.remote_port;
	ist_rewrite_plan(&plan, &in, &out);
	CHECK_EQUAL(ist_sum_fold(plan.port_delta) % 0xffff, 0);
}

TEST(prefixes_match_their_own_addresses_alone)
{
	struct ist_tuple tuple = tuple_of(1, 1);
	struct ist_addr inside = tuple.remote, outside = tuple.remote;
	struct ist_prefix prefix;

	ist_prefix_set(&prefix, &tuple.remote, 96 + 24);
	((__u8 *)&inside)[15] = 77;
	((__u8 *)&outside)[14] = 77;
	CHECK(ist_prefix_matches(&prefix, &tuple.remote));
	CHECK(ist_prefix_matches(&prefix, &inside));
	CHECK(!ist_prefix_matches(&prefix, &outside));
	ist_prefix_set(&prefix, &tuple.remote, 128);
	CHECK(!ist_prefix_matches(&prefix, &inside));
	ist_prefix_set(&prefix, &tuple.remote, 0);
	fill(&outside, sizeof(outside));
	CHECK(ist_prefix_matches(&prefix, &outside));
	ist_prefix_set(&prefix, &tuple.remote, 96 + 7);
	((__u8 *)&inside)[12] = 11;
	CHECK(ist_prefix_matches(&prefix, &inside));
	((__u8 *)&inside)[12] = 12;
	CHECK(!ist_prefix_matches(&prefix, &inside));
}

TEST(every_bit_of_a_prefix_counts)
{
	for (__u32 bits = 0; bits <= 128; bits++) {
		struct ist_addr addr, other;
		struct ist_prefix prefix;

		fill(&addr, sizeof(addr));
		ist_prefix_set(&prefix, &addr, bits);
		for (__u32 bit = 0; bit < 128; bit++) {
			other = addr;
			((__u8 *)&other)[bit / 8] ^= 0x80 >> bit % 8;
			CHECK(ist_prefix_matches(&prefix, &other) ==
			      (bit >= bits));
		}
	}
}

TEST(ipv4_is_told_from_ipv6)
{
	struct ist_tuple tuple = tuple_of(1, 1);
	struct ist_addr addr = {};

	CHECK(ist_addr_is4(&tuple.remote));
	CHECK(!ist_addr_is4(&addr));
	ist_addr_set4(&addr, tuple.remote.word[3]);
	CHECK(ist_addr_equal(&addr, &tuple.remote));
}

TEST(headers_that_contradict_themselves_are_refused)
{
	__u8 header[IST_TCP_HEADER_BYTES] = {};
	struct ist_segment s;

	header[12] = 4 << 4;
	CHECK(!ist_segment_parse(&s, header, 100));
	header[12] = 15 << 4;
	CHECK(!ist_segment_parse(&s, header, 59));
	CHECK(ist_segment_parse(&s, header, 60));
	CHECK_EQUAL(s.options, 40);
	CHECK_EQUAL(s.payload, 0);
	header[12] = 5 << 4;
	header[13] = IST_TCP_FIN | IST_TCP_ACK;
	ist_put32(header + 4, 0xfffffffe);
	CHECK(ist_segment_parse(&s, header, 30));
	CHECK_EQUAL(s.payload, 10);
	CHECK_EQUAL(s.end, 9);
}

TEST(a_newer_leg_takes_the_place_of_an_older_one)
{
	struct ist_tuple a = tuple_of(1, 100), b = tuple_of(1, 101);
	struct ist_segment syn = segment(IST_TCP_SYN, 5, 0, 0);
	struct ist_offer offer = full_offer(1);
	struct ist_half half = {};

	CHECK_EQUAL(ist_half_syn(&half, &a, &syn, &offer), IST_ARRIVAL_FIRST);
	offer.tsval = 2;
	CHECK_EQUAL(ist_half_syn(&half, &a, &syn, &offer), IST_ARRIVAL_AGAIN);
	CHECK_EQUAL(half.offer.tsval, 2);
	CHECK_EQUAL(ist_half_syn(&half, &b, &syn, &offer), IST_ARRIVAL_INSTEAD);
	CHECK(ist_half_is_from(&half, &b));
	CHECK(!ist_half_is_from(&half, &a));
	syn.seq = 6;
	CHECK_EQUAL(ist_half_syn(&half, &b, &syn, &offer), IST_ARRIVAL_INSTEAD);
	CHECK_EQUAL(half.isn, 6);
}

TEST(a_leg_that_waits_is_given_up_by_its_own_rst)
{
	struct ist_tuple a = tuple_of(1, 100), b = tuple_of(1, 101);
	struct ist_segment syn = segment(IST_TCP_SYN, 0xffffffff, 0, 0), rst;
	struct ist_offer offer = full_offer(1);
	struct ist_half half = {};

	ist_half_syn(&half, &a, &syn, &offer);
	rst = segment(IST_TCP_RST, 0, 0, 0);
	CHECK(ist_half_rst(&half, &a, &rst));
	CHECK(!ist_half_rst(&half, &b, &rst));
	rst.seq = 1;
	CHECK(!ist_half_rst(&half, &a, &rst));
}

TEST(the_first_datagram_holds_the_side)
{
	struct ist_tuple a = tuple_of(1, 100), b = tuple_of(1, 101);
	enum ist_arrival arrival;
	struct ist_half half = {};

	CHECK(ist_half_datagram(&half, &a, &arrival));
	CHECK_EQUAL(arrival, IST_ARRIVAL_FIRST);
	CHECK(ist_half_datagram(&half, &a, &arrival));
	CHECK_EQUAL(arrival, IST_ARRIVAL_AGAIN);
	CHECK(!ist_half_datagram(&half, &b, &arrival));
}

int main(void)
{
	RUN(an_updated_checksum_is_that_of_the_new_packet);
	RUN(a_partial_checksum_takes_the_addresses_alone);
	RUN(pure_splice_leaves_ports_out_of_the_checksum);
	RUN(prefixes_match_their_own_addresses_alone);
	RUN(every_bit_of_a_prefix_counts);
	RUN(ipv4_is_told_from_ipv6);
	RUN(headers_that_contradict_themselves_are_refused);
	RUN(a_newer_leg_takes_the_place_of_an_older_one);
	RUN(a_leg_that_waits_is_given_up_by_its_own_rst);
	RUN(the_first_datagram_holds_the_side);
	return RESULT();
}
