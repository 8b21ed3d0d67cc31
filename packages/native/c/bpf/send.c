// SPDX-License-Identifier: Apache-2.0
/*
 * What a BPF program cannot send: SYN-ACKs that nobody asked for, and RSTs. They
 * are those of kernel/core, and go out by the host's routes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bpf.h"
#include "../../../../kernel/bpf/splice.h"

#define HOPS 64

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

static size_t write_ip4(uint8_t *packet, const struct ist_tuple *tuple,
			size_t length)
{
	/* The kernel fills in the rest. */
	struct iphdr ip = {
		.version = 4,
		.ihl = sizeof(ip) / 4,
		.tot_len = htons((uint16_t)(sizeof(ip) + length)),
		.frag_off = htons(IP_DF),
		.ttl = HOPS,
		.protocol = IPPROTO_TCP,
		.saddr = tuple->local.word[3],
		.daddr = tuple->remote.word[3],
	};

	memcpy(packet, &ip, sizeof(ip));
	return sizeof(ip);
}

static size_t write_ip6(uint8_t *packet, const struct ist_tuple *tuple,
			size_t length)
{
	struct ip6_hdr ip = {
		.ip6_plen = htons((uint16_t)length),
		.ip6_nxt = IPPROTO_TCP,
		.ip6_hlim = HOPS,
	};

	ip.ip6_vfc = 6 << 4;
	memcpy(&ip.ip6_src, &tuple->local, 16);
	memcpy(&ip.ip6_dst, &tuple->remote, 16);
	memcpy(packet, &ip, sizeof(ip));
	return sizeof(ip);
}

/* Returns 0 or a negative errno. */
static int send_header(const struct ist_tuple *tuple, uint8_t *header,
		       size_t length)
{
	bool v4 = ist_addr_is4(&tuple->remote);
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} to = { 0 };
	uint8_t packet[sizeof(struct ip6_hdr) + IST_SYN_ACK_BYTES];
	uint16_t length_word = htons((uint16_t)length), check;
	uint16_t proto_word = htons(IPPROTO_TCP);
	uint32_t sum;
	size_t ip;
	int fd, err = 0;

	memcpy(header, &tuple->local_port, 2);
	memcpy(header + 2, &tuple->remote_port, 2);
	/* The prefix of mapped addresses counts as nothing. */
	sum = ist_sum_add(ist_sum_addr(&tuple->local),
			  ist_sum_addr(&tuple->remote));
	sum = sum_of(&length_word, 2, sum);
	sum = sum_of(&proto_word, 2, sum);
	check = (uint16_t)~ist_sum_fold(sum_of(header, length, sum));
	memcpy(header + 16, &check, 2);

	if (v4) {
		ip = write_ip4(packet, tuple, length);
		to.v4.sin_family = AF_INET;
		to.v4.sin_addr.s_addr = tuple->remote.word[3];
	} else {
		ip = write_ip6(packet, tuple, length);
		to.v6.sin6_family = AF_INET6;
		memcpy(&to.v6.sin6_addr, &tuple->remote, 16);
	}
	memcpy(packet + ip, header, length);
	/* IPPROTO_RAW: the packet has its IP header. */
	fd = socket(to.any.sa_family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
		    IPPROTO_RAW);
	if (fd < 0)
		return -errno;
	if (sendto(fd, packet, ip + length, 0, &to.any,
		   v4 ? sizeof(to.v4) : sizeof(to.v6)) < 0)
		err = -errno;
	close(fd);
	return err;
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
	struct ist_bpf_splice splice;
	uint8_t header[IST_SYN_ACK_BYTES];
	uint16_t limit = UINT16_MAX;
	uint32_t side;
	bool peer4;

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
	return polled_number(env, send_header(&splice.leg[side].tuple, header,
					      sizeof(header)));
}

static napi_value send_rst(napi_env env, napi_callback_info info)
{
	struct ist_bpf_splice splice;
	uint8_t header[IST_RST_BYTES];
	uint32_t side;

	if (!leg_arguments(env, info, &splice, &side))
		return NULL;
	ist_connection_rst(&splice.tcp, side, header);
	return polled_number(env, send_header(&splice.leg[side].tuple, header,
					      sizeof(header)));
}

bool send_init(napi_env env, napi_value exports)
{
	static const struct addon_function functions[] = {
		{ "sendSynAck", send_syn_ack },
		{ "sendRst", send_rst },
	};

	return addon_add_functions(env, exports, functions,
				   sizeof(functions) / sizeof(functions[0]),
				   NULL);
}
