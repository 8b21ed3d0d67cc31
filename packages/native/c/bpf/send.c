// SPDX-License-Identifier: Apache-2.0
/*
 * What a BPF program cannot send: SYN-ACKs that nobody asked for, RSTs, and ICMP
 * errors about packets that it dropped. Segments are those of kernel/core. They
 * go where packets of their leg go, past the host's own firewall, which knows no
 * connection that they could belong to; but to whom has been silent, or is on
 * this host, they go as the host's own packets do.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bpf.h"
#include "../../../../kernel/bpf/splice.h"

#define HOPS 64
/* Whoever has been silent for longer may have moved. */
#define FRESH_NS 1000000000ull

/* Sum of 16-bit words as they stand in memory. @length: even */
static uint32_t sum_of(const void *data, size_t length, uint32_t sum)
{
	const uint8_t *at = data;
	uint16_t word;

	for (size_t i = 0; i < length; i += 2) {
		memcpy(&word, at + i, 2);
		sum = ist_sum_add(sum, word);
	}
	return sum;
}

/* The largest: an ICMPv6 error. */
#define PACKET_BYTES							\
	(2 * sizeof(struct ip6_hdr) + sizeof(struct icmp6_hdr) + IST_QUOTED_BYTES)
_Static_assert(IST_SYN_ACK_BYTES <= PACKET_BYTES - sizeof(struct ip6_hdr),
	       "a SYN-ACK fits, too");

/* Raw sockets of both IP versions, opened when they are needed. */
struct senders {
	int fd[2];
};

#define NO_SENDERS { .fd = { -1, -1 } }

/* For good: the kernel takes its time to close one of this kind. */
static _Thread_local int link_sender = -1;

static void close_senders(struct senders *senders)
{
	for (int i = 0; i < 2; i++)
		if (senders->fd[i] >= 0)
			close(senders->fd[i]);
}

/* @length: of what follows */
static size_t write_ip4(uint8_t *packet, uint8_t proto,
			const struct ist_addr *from, const struct ist_addr *to,
			size_t length)
{
	struct iphdr ip = {
		.version = 4,
		.ihl = sizeof(ip) / 4,
		.tot_len = htons((uint16_t)(sizeof(ip) + length)),
		.frag_off = htons(IP_DF),
		.ttl = HOPS,
		.protocol = proto,
		.saddr = from->word[3],
		.daddr = to->word[3],
	};

	ip.check = (uint16_t)~ist_sum_fold(sum_of(&ip, sizeof(ip), 0));
	memcpy(packet, &ip, sizeof(ip));
	return sizeof(ip);
}

static size_t write_ip6(uint8_t *packet, uint8_t proto,
			const struct ist_addr *from, const struct ist_addr *to,
			size_t length)
{
	struct ip6_hdr ip = {
		.ip6_plen = htons((uint16_t)length),
		.ip6_nxt = proto,
		.ip6_hlim = HOPS,
	};

	ip.ip6_vfc = 6 << 4;
	memcpy(&ip.ip6_src, from, 16);
	memcpy(&ip.ip6_dst, to, 16);
	memcpy(packet, &ip, sizeof(ip));
	return sizeof(ip);
}

static size_t write_ip(uint8_t *packet, uint8_t proto,
		       const struct ist_addr *from, const struct ist_addr *to,
		       size_t length)
{
	return (ist_addr_is4(to) ? write_ip4 : write_ip6)(packet, proto, from,
							  to, length);
}

/* What a checksum has of IP's header; IPv4's mapped prefixes count as nothing. */
static uint32_t sum_pseudo(const struct ist_tuple *tuple, uint8_t proto,
			   size_t length)
{
	uint16_t length_word = htons((uint16_t)length);
	uint16_t proto_word = htons(proto);
	uint32_t sum = ist_sum_add(ist_sum_addr(&tuple->local),
				   ist_sum_addr(&tuple->remote));

	return sum_of(&proto_word, 2, sum_of(&length_word, 2, sum));
}

static bool is_fresh(const struct ist_bpf_leg *leg)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec - leg->heard <
	       FRESH_NS;
}

/* @fd: a socket, opened here at the first time. Returns 0 or a negative errno. */
static int send_by(int *fd, int type, int protocol, const struct sockaddr *to,
		   socklen_t to_length, const uint8_t *packet, size_t length)
{
	if (*fd < 0)
		*fd = socket(to->sa_family,
			     type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
	if (*fd < 0 || sendto(*fd, packet, length, 0, to, to_length) < 0)
		return -errno;
	return 0;
}

/* Sends a leg's remote end what follows IP's header. Returns 0 or a negative errno. */
static int send_to(struct senders *senders, const struct ist_bpf_leg *leg,
		   uint8_t proto, const uint8_t *payload, size_t length)
{
	const struct ist_tuple *tuple = &leg->tuple;
	bool v4 = ist_addr_is4(&tuple->remote);
	struct sockaddr_in to4 = { .sin_family = AF_INET };
	struct sockaddr_in6 to6 = { .sin6_family = AF_INET6 };
	struct sockaddr_ll link = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(v4 ? ETHERTYPE_IP : ETHERTYPE_IPV6),
		.sll_ifindex = (int)leg->way.ifindex,
		.sll_halen = ETH_ALEN,
	};
	uint8_t packet[PACKET_BYTES];
	size_t all;

	all = write_ip(packet, proto, &tuple->local, &tuple->remote, length);
	memcpy(packet + all, payload, length);
	all += length;
	if (!leg->resolve && leg->way.ifindex > IST_LOOPBACK && is_fresh(leg)) {
		memcpy(link.sll_addr, leg->way.to, ETH_ALEN);
		return send_by(&link_sender, SOCK_DGRAM, 0, (void *)&link,
			       sizeof(link), packet, all);
	}
	to4.sin_addr.s_addr = tuple->remote.word[3];
	memcpy(&to6.sin6_addr, &tuple->remote, 16);
	/* IPPROTO_RAW: the packet has its IP header. */
	return send_by(&senders->fd[v4 ? 0 : 1], SOCK_RAW, IPPROTO_RAW,
		       v4 ? (void *)&to4 : (void *)&to6,
		       v4 ? sizeof(to4) : sizeof(to6), packet, all);
}

/* Sends a TCP header, whose ports and checksum are written here. */
static int send_header(struct senders *senders, const struct ist_bpf_leg *leg,
		       uint8_t *header, size_t length)
{
	const struct ist_tuple *tuple = &leg->tuple;
	uint16_t check;

	memcpy(header, &tuple->local_port, 2);
	memcpy(header + 2, &tuple->remote_port, 2);
	check = (uint16_t)~ist_sum_fold(
		sum_of(header, length,
		       sum_pseudo(tuple, IPPROTO_TCP, length)));
	memcpy(header + 16, &check, 2);
	return send_to(senders, leg, IPPROTO_TCP, header, length);
}

/* Reads (splice, side): the value of the map and 0 or 1. */
static bool leg_arguments(napi_env env, napi_callback_info info,
			  struct ist_bpf_splice *splice, uint32_t *side)
{
	napi_value values[2];
	size_t count = 2, size;
	void *data;

	if (napi_get_cb_info(env, info, &count, values, NULL, NULL) !=
		    napi_ok ||
	    count != 2 || !bytes_of(env, values[0], &data, &size))
		return false;
	if (size != sizeof(*splice) ||
	    napi_get_value_uint32(env, values[1], side) != napi_ok ||
	    *side > 1) {
		polled_refuse(env, "not a splice and a side");
		return false;
	}
	memcpy(splice, data, size);
	return true;
}

static uint32_t headers_of(const struct ist_bpf_leg *leg)
{
	return (ist_addr_is4(&leg->tuple.remote) ? 20 : 40) +
	       IST_TCP_HEADER_BYTES;
}

static napi_value send_syn_ack(napi_env env, napi_callback_info info)
{
	struct senders senders = NO_SENDERS;
	struct ist_bpf_splice splice;
	uint8_t header[IST_SYN_ACK_BYTES];
	uint16_t limit = UINT16_MAX;
	uint32_t side;
	bool peer4;
	int err;

	if (!leg_arguments(env, info, &splice, &side))
		return NULL;
	for (int i = 0; i < IST_SIDES; i++) {
		const struct ist_bpf_leg *leg = &splice.leg[i];

		if (leg->mtu > headers_of(leg) &&
		    leg->mtu - headers_of(leg) < limit)
			limit = (uint16_t)(leg->mtu - headers_of(leg));
	}
	peer4 = ist_addr_is4(&splice.leg[side ^ 1].tuple.remote);
	ist_connection_syn_ack(&splice.tcp, side,
			       peer4 ? IST_MSS_DEFAULT4 : IST_MSS_DEFAULT6,
			       limit, header);
	err = send_header(&senders, &splice.leg[side], header, sizeof(header));
	close_senders(&senders);
	return polled_number(env, err);
}

/* Those that are not TCP's are passed over. */
static napi_value send_rsts(napi_env env, napi_callback_info info)
{
	struct senders senders = NO_SENDERS;
	struct ist_bpf_splice splice;
	uint8_t header[IST_RST_BYTES];
	size_t count = 1, size;
	napi_value value;
	uint8_t *at;
	void *data;

	if (napi_get_cb_info(env, info, &count, &value, NULL, NULL) !=
		    napi_ok ||
	    count != 1 || !bytes_of(env, value, &data, &size))
		return NULL;
	at = data;
	for (; size >= sizeof(uint64_t) + sizeof(splice);
	     size -= sizeof(uint64_t) + sizeof(splice)) {
		memcpy(&splice, at + sizeof(uint64_t), sizeof(splice));
		at += sizeof(uint64_t) + sizeof(splice);
		for (uint32_t side = 0;
		     splice.proto == IPPROTO_TCP && side < IST_SIDES; side++) {
			ist_connection_rst(&splice.tcp, side, header);
			send_header(&senders, &splice.leg[side], header,
				    sizeof(header));
		}
	}
	close_senders(&senders);
	return NULL;
}

/* What the error says of itself, in the sender's IP version. */
static void write_error(uint8_t *error, bool v4,
			const struct ist_bpf_event *event)
{
	bool too_big = event->reason == IST_REASON_TOO_BIG;
	uint32_t mtu = htonl(event->mtu);

	if (v4) {
		error[0] = too_big ? ICMP_DEST_UNREACH : ICMP_TIME_EXCEEDED;
		error[1] = too_big ? ICMP_FRAG_NEEDED : ICMP_EXC_TTL;
	} else {
		error[0] = too_big ? ICMP6_PACKET_TOO_BIG : ICMP6_TIME_EXCEEDED;
		error[1] = too_big ? 0 : ICMP6_TIME_EXCEED_TRANSIT;
	}
	/* IPv4's is in the lower half of the same word. */
	if (too_big)
		memcpy(error + 4, &mtu, sizeof(mtu));
}

/* The header of the packet as it came, but for what nobody reads in a quote. */
static size_t quote_ip(uint8_t *at, const struct ist_tuple *tuple,
		       uint8_t proto, size_t length)
{
	bool v4 = ist_addr_is4(&tuple->remote);
	size_t header = v4 ? sizeof(struct iphdr) : sizeof(struct ip6_hdr);
	const size_t at_check = offsetof(struct iphdr, check);
	uint16_t check;

	(v4 ? write_ip4 : write_ip6)(at, proto, &tuple->remote, &tuple->local,
				     length > header ? length - header : 0);
	/* TTL and hop limit: it had come to the end of its way. */
	at[v4 ? 8 : 7] = 1;
	if (v4) {
		memset(at + at_check, 0, sizeof(check));
		check = (uint16_t)~ist_sum_fold(sum_of(at, header, 0));
		memcpy(at + at_check, &check, sizeof(check));
	}
	return header;
}

/* Tells who sent a packet why it was dropped. */
static napi_value send_error(napi_env env, napi_callback_info info)
{
	uint8_t error[PACKET_BYTES] = { 0 };
	struct senders senders = NO_SENDERS;
	const struct ist_tuple *tuple;
	const struct ist_bpf_leg *leg;
	struct ist_bpf_splice splice;
	struct ist_bpf_event event;
	size_t count = 2, size, event_size, length = 8;
	napi_value values[2];
	void *data, *event_data;
	uint8_t proto;
	uint16_t check;
	bool v4;
	int err;

	if (napi_get_cb_info(env, info, &count, values, NULL, NULL) !=
		    napi_ok ||
	    count != 2 || !bytes_of(env, values[0], &data, &size) ||
	    !bytes_of(env, values[1], &event_data, &event_size))
		return NULL;
	if (size != sizeof(splice) || event_size != sizeof(event))
		return polled_refuse(env, "sendError(splice, event)");
	memcpy(&splice, data, sizeof(splice));
	memcpy(&event, event_data, sizeof(event));
	leg = &splice.leg[event.side & 1];
	tuple = &leg->tuple;
	v4 = ist_addr_is4(&tuple->remote);
	proto = v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;

	write_error(error, v4, &event);
	length += quote_ip(error + length, tuple, event.proto, event.length);
	memcpy(error + length, event.quoted, IST_QUOTED_BYTES);
	length += IST_QUOTED_BYTES;
	check = (uint16_t)~ist_sum_fold(
		sum_of(error, length,
		       v4 ? 0 : sum_pseudo(tuple, proto, length)));
	memcpy(error + 2, &check, sizeof(check));
	err = send_to(&senders, leg, proto, error, length);
	close_senders(&senders);
	return polled_number(env, err);
}

bool send_init(napi_env env, napi_value exports)
{
	static const struct addon_function functions[] = {
		{ "sendSynAck", send_syn_ack },
		{ "sendRsts", send_rsts },
		{ "sendError", send_error },
	};

	return addon_add_functions(env, exports, functions,
				   sizeof(functions) / sizeof(functions[0]),
				   NULL);
}
