// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * SYNs at a fixed rate, from addresses that need not be the sender's own:
 *
 *   flood FROM/BITS TO PORT RATE SECONDS
 *
 * Each SYN comes from another address of the prefix and another port, with a
 * number of its own, the options of an ordinary one and a good checksum. RATE is
 * per second. Prints how many were sent, and the CPU time that it took.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

/* MSS 1460, SACK permitted, window scale 7. */
static const uint8_t options[] = { 2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7 };

struct syn {
	struct iphdr ip;
	struct tcphdr tcp;
	uint8_t options[sizeof(options)];
};

static void fail(const char *what)
{
	printf("%s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t time_ns(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static uint32_t next_random(void)
{
	static uint64_t state = 88172645463325252ull;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state >> 32;
}

static uint32_t sum(const void *data, size_t length)
{
	const uint8_t *bytes = data;
	uint32_t total = 0;

	for (size_t i = 0; i < length; i += 2)
		total += bytes[i] << 8 | bytes[i + 1];
	return total;
}

/* The kernel fills in the IP header's checksum, and nobody TCP's. */
static void finish(struct syn *syn)
{
	const size_t length = sizeof(*syn) - sizeof(syn->ip);
	uint32_t total;

	syn->tcp.check = 0;
	total = sum(&syn->ip.saddr, 8) + IPPROTO_TCP + length +
		sum(&syn->tcp, length);
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	syn->tcp.check = htons(~total);
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct syn syn = {
		.ip = {
			.version = 4,
			.ihl = sizeof(struct iphdr) / 4,
			.ttl = 64,
			.protocol = IPPROTO_TCP,
		},
		.tcp = {
			.syn = 1,
			.doff = (sizeof(struct tcphdr) + sizeof(options)) / 4,
			.window = htons(64240),
		},
	};
	uint64_t begun, sent = 0, end, rate;
	uint32_t from, hosts;
	char *bits;
	int sock;

	if (argc != 6 || !(bits = strchr(argv[1], '/'))) {
		printf("see the top of flood.c for what it takes\n");
		return 1;
	}
	*bits++ = 0;
	if (inet_pton(AF_INET, argv[1], &from) != 1 ||
	    inet_pton(AF_INET, argv[2], &to.sin_addr) != 1)
		fail("address");
	hosts = (uint32_t)((1ull << (32 - atoi(bits))) - 1);
	syn.ip.daddr = to.sin_addr.s_addr;
	syn.tcp.dest = htons(atoi(argv[3]));
	memcpy(syn.options, options, sizeof(options));
	rate = strtoull(argv[4], NULL, 0);
	sock = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
	if (sock < 0)
		fail("socket");

	begun = time_ns(CLOCK_MONOTONIC);
	end = strtod(argv[5], NULL) * rate;
	while (sent < end) {
		uint64_t due = (time_ns(CLOCK_MONOTONIC) - begun) * rate /
			       1000000000ull;

		if (sent >= due) {
			struct timespec pause = { .tv_nsec = 1000000 };

			nanosleep(&pause, NULL);
			continue;
		}
		syn.ip.saddr = htonl((ntohl(from) & ~hosts) |
				     (next_random() & hosts));
		syn.tcp.source = htons(1024 + next_random() % 64000);
		syn.tcp.seq = next_random();
		finish(&syn);
		if (sendto(sock, &syn, sizeof(syn), 0, (void *)&to,
			   sizeof(to)) < 0)
			fail("send");
		sent++;
	}
	printf("sent %llu cpu %llu ns\n", (unsigned long long)sent,
	       (unsigned long long)time_ns(CLOCK_PROCESS_CPUTIME_ID));
	return 0;
}
