// SPDX-License-Identifier: Apache-2.0
/*
 * Sends bursts of all sizes through many cells, both ways at once, and checks
 * that each arrives whole and in order, that strangers get nowhere, and that
 * limits hold; then has cells come and go under traffic. To be linked with
 * --wrap=sendmmsg: some of the relay's sends fail as the system's may. Run
 * under sanitizers.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../c/datagram-relay.h"

#define PAIRS 60
#define BURSTS 12
/* More than one block of counters. */
#define CROWD (DATAGRAM_BLOCK + 76)
#define LARGEST 65507
#define BUFFER_BYTES (1024 * 1024)
#define PATIENCE_MS 20000

int __real_sendmmsg(int fd, struct mmsghdr *messages, unsigned int count,
		    int flags);
int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned int count,
		    int flags);

static atomic_bool sends_fail;
static atomic_uint calls;

/* Sometimes there is no room, too few are taken, or trains are refused. */
int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned int count,
		    int flags)
{
	static const int refusals[] = { EINVAL, EMSGSIZE, EIO };
	unsigned int call = atomic_fetch_add(&calls, 1);

	if (!atomic_load(&sends_fail))
		return __real_sendmmsg(fd, messages, count, flags);
	if (call % 5 == 0) {
		errno = EAGAIN;
		return -1;
	}
	if (call % 7 == 1 && messages[0].msg_hdr.msg_controllen > 0) {
		errno = refusals[call % 3];
		return -1;
	}
	if (call % 3 == 2 && count > 1)
		count = 1 + call % (count - 1);
	return __real_sendmmsg(fd, messages, count, flags);
}

static void check(bool is_good, const char *what)
{
	if (is_good)
		return;
	fprintf(stderr, "failed: %s (%s)\n", what, strerror(errno));
	abort();
}

static atomic_uint wakes;

static void count_wake(void *data)
{
	(void)data;
	atomic_fetch_add(&wakes, 1);
}

/* Sockets */

static struct sockaddr_in6 mapped(const char *address, in_port_t port)
{
	struct sockaddr_in6 made = { .sin6_family = AF_INET6,
				     .sin6_port = port };

	check(inet_pton(AF_INET6, address, &made.sin6_addr) == 1, "an address");
	return made;
}

static int bound(const char *address, in_port_t *port)
{
	struct sockaddr_in6 at = mapped(address, 0);
	socklen_t size = sizeof(at);
	int fd = datagram_bind((struct sockaddr *)&at, size, false,
			       BUFFER_BYTES);

	check(fd >= 0 && getsockname(fd, (struct sockaddr *)&at, &size) == 0,
	      "binding");
	*port = at.sin6_port;
	return fd;
}

struct client {
	int fd;
	struct sockaddr_in6 to;
	unsigned int sent;
	unsigned int received;
};

struct pair {
	uint32_t slot;
	in_port_t ports[2];
	struct client clients[2];
};

static const char *const hosts[2][2] = {
	{ "::ffff:127.0.0.1", "::1" },
	{ "::ffff:127.0.0.1", "::ffff:127.0.0.3" },
};

static struct datagram_source source_of(const char *host)
{
	struct sockaddr_in6 address = mapped(host, 0);
	size_t bytes = IN6_IS_ADDR_V4MAPPED(&address.sin6_addr) ? 16 : 8;
	struct datagram_source source = { { 0 } };

	memcpy(source.bytes, &address.sin6_addr, bytes);
	return source;
}

static void expect_host(struct datagram_relay *relay, uint32_t slot, int side,
			const char *host)
{
	struct datagram_source source = source_of(host);

	check(datagram_expect(relay, slot, side, &source, 1), "expecting");
}

static struct client client_at(const char *host, in_port_t port)
{
	const char *ist = strchr(host, '.') ? "::ffff:127.0.0.1" : "::1";
	struct client client = { .to = mapped(ist, port) };
	in_port_t own;

	client.fd = bound(host, &own);
	return client;
}

static uint32_t add_cell(struct datagram_relay *relay,
			 struct pump_account *account, in_port_t ports[2],
			 const char *const expected[2])
{
	int fds[2] = { bound("::", &ports[0]), bound("::", &ports[1]) };
	struct datagram_source sources[2] = { source_of(expected[0]),
					      source_of(expected[1]) };
	const struct datagram_side sides[2] = {
		{ &fds[0], 1, &sources[0], 1 },
		{ &fds[1], 1, &sources[1], 1 },
	};
	int64_t slot = datagram_add(relay, account, sides);

	check(slot >= 0, "adding");
	return (uint32_t)slot;
}

static void send_to(const struct client *client, const void *bytes, size_t size)
{
	check(sendto(client->fd, bytes, size, 0,
		     (const struct sockaddr *)&client->to,
		     sizeof(client->to)) == (ssize_t)size,
	      "a client's sending");
}

/* -1: nothing came. */
static ssize_t next_of(const struct client *client, void *bytes, int wait_ms)
{
	struct pollfd polled = { .fd = client->fd, .events = POLLIN };

	if (poll(&polled, 1, wait_ms) == 0)
		return -1;
	return recv(client->fd, bytes, LARGEST + 1, 0);
}

static struct datagram_news await_news(struct datagram_relay *relay)
{
	struct datagram_news news;

	for (int waited = 0; !datagram_take_news(relay, &news); waited++) {
		check(waited < PATIENCE_MS, "news");
		usleep(1000);
	}
	return news;
}

static const struct datagram_counters *counters_of(struct datagram_relay *relay,
						   uint32_t slot)
{
	struct datagram_counters *block =
		datagram_block(relay, slot / DATAGRAM_BLOCK);

	check(block != NULL, "counters");
	return &block[slot % DATAGRAM_BLOCK];
}

static void await_drops(struct datagram_relay *relay, uint32_t slot,
			enum datagram_drop reason, double count)
{
	for (int waited = 0;
	     counters_of(relay, slot)->dropped[reason] != count; waited++) {
		check(waited < PATIENCE_MS, "drops are counted");
		usleep(1000);
	}
}

/* The two sources of a cell meet, and side 0 gets what side 1 sent. */
static void meet(struct datagram_relay *relay, struct pair *pair)
{
	struct datagram_news news;
	char bytes[LARGEST + 1];

	send_to(&pair->clients[0], "early", 5);
	news = await_news(relay);
	check(news.event == DATAGRAM_HALF && news.slot == pair->slot &&
		      news.side == 0,
	      "the first is half");
	send_to(&pair->clients[1], "hello", 5);
	news = await_news(relay);
	check(news.event == DATAGRAM_MEETING && news.slot == pair->slot &&
		      news.side == 1,
	      "the second would meet it");
	send_to(&pair->clients[0], "waits", 5);
	datagram_answer(relay, pair->slot, true);
	check(next_of(&pair->clients[0], bytes, PATIENCE_MS) == 5 &&
		      memcmp(bytes, "hello", 5) == 0,
	      "what completed the cell is sent on");
	check(next_of(&pair->clients[1], bytes, PATIENCE_MS) == 5 &&
		      memcmp(bytes, "waits", 5) == 0,
	      "what came before the answer is sent on");
}

/* Bursts */

static unsigned int mix(unsigned int seed)
{
	seed ^= seed >> 16;
	seed *= 0x7feb352du;
	seed ^= seed >> 15;
	seed *= 0x846ca68bu;
	return seed ^ seed >> 16;
}

static unsigned int burst_length(unsigned int seed, unsigned int burst)
{
	static const unsigned int lengths[] = { 120, 40, 40, 4 };

	return lengths[mix(seed + burst) % 4];
}

/* Of the datagram @n of a burst. */
static size_t size_in(unsigned int seed, unsigned int burst, unsigned int n)
{
	static const size_t mixed[] = { 1200, 1200, 1200, 700, 0, 0, 1, 1200,
					1201, 1201, 1200, 0 };
	static const size_t large[] = { LARGEST, 9000, 9000, 40000 };

	switch (mix(seed + burst) % 4) {
	case 0:
		return n % 40 == 39 ? 333 : 500;
	case 1:
		return mix(seed + burst * 100 + n) % 2000;
	case 2:
		return mixed[n % 12];
	default:
		return large[n];
	}
}

static void fill(unsigned char *bytes, size_t size, unsigned int seed)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)(seed + i * 7 + (i >> 8));
}

/* As one that the kernel cuts, and hands over in one piece where it can. */
static void send_as_one(const struct client *client, unsigned char *bytes,
			size_t size, uint16_t segment)
{
	struct iovec piece = { .iov_base = bytes, .iov_len = size };
	union {
		char bytes[CMSG_SPACE(sizeof(segment))];
		struct cmsghdr header;
	} control = { .header = { .cmsg_len = CMSG_LEN(sizeof(segment)),
				  .cmsg_level = SOL_UDP,
				  .cmsg_type = UDP_SEGMENT } };
	struct sockaddr_in6 to = client->to;
	struct msghdr message = {
		.msg_name = &to,
		.msg_namelen = sizeof(to),
		.msg_iov = &piece,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control.bytes),
	};

	memcpy(CMSG_DATA(&control.header), &segment, sizeof(segment));
	check(sendmsg(client->fd, &message, 0) == (ssize_t)size,
	      "a client's sending as one");
}

static void send_burst(const struct client *client, unsigned int seed,
		       unsigned int burst)
{
	static unsigned char bytes[LARGEST];

	if (mix(seed + burst) % 4 == 0 && burst % 2 == 0) {
		for (unsigned int n = 0; n < 120; n++) {
			fill(bytes + n % 40 * 500, size_in(seed, burst, n),
			     mix(seed + burst) + n);
			if (n % 40 == 39)
				send_as_one(client, bytes, 39 * 500 + 333, 500);
		}
		return;
	}
	for (unsigned int n = 0; n < burst_length(seed, burst); n++) {
		size_t size = size_in(seed, burst, n);

		fill(bytes, size, mix(seed + burst) + n);
		send_to(client, bytes, size);
	}
}

static void check_burst(const struct client *client, unsigned int seed,
			unsigned int burst)
{
	static unsigned char bytes[LARGEST + 1], expected[LARGEST];

	for (unsigned int n = 0; n < burst_length(seed, burst); n++) {
		size_t size = size_in(seed, burst, n);
		ssize_t got = next_of(client, bytes, PATIENCE_MS);

		fill(expected, size, mix(seed + burst) + n);
		if (got != (ssize_t)size)
			fprintf(stderr, "datagram %u of burst %u: %zd, not %zu\n",
				n, burst, got, size);
		check(got == (ssize_t)size &&
			      memcmp(bytes, expected, size) == 0,
		      "a burst arrives whole and in order");
	}
}

static double bursts(struct datagram_relay *relay, struct pump_account *account)
{
	static struct pair pairs[PAIRS];
	double segmented = 0, merged = 0;
	struct client neighbour, stranger;

	for (unsigned int i = 0; i < PAIRS; i++) {
		const char *const at[2] = { hosts[0][i % 2], hosts[1][i / 2 % 2] };

		pairs[i].slot = add_cell(relay, account, pairs[i].ports, at);
		for (int side = 0; side < 2; side++)
			pairs[i].clients[side] =
				client_at(at[side], pairs[i].ports[side]);
		meet(relay, &pairs[i]);
	}
	for (unsigned int burst = 0; burst < BURSTS; burst++) {
		for (unsigned int i = 0; i < PAIRS; i++) {
			for (int side = 0; side < 2; side++)
				send_burst(&pairs[i].clients[side],
					   2 * i + (unsigned int)side, burst);
			if (i % 4 == 3)
				for (unsigned int k = i - 3; k <= i; k++)
					for (unsigned int side = 0; side < 2; side++)
						check_burst(&pairs[k].clients[!side],
							    2 * k + side, burst);
		}
	}
	/* Others get nowhere, and are told apart. */
	neighbour = client_at("::ffff:127.0.0.1", pairs[0].ports[0]);
	stranger = client_at("::ffff:127.0.0.2", pairs[0].ports[0]);
	for (unsigned int burst = 0; burst < 3; burst++) {
		send_burst(&neighbour, 0, burst);
		send_burst(&stranger, 0, burst);
	}
	send_to(&pairs[0].clients[0], "mine", 4);
	{
		char bytes[LARGEST + 1];
		double count = burst_length(0, 0) + burst_length(0, 1) +
			       burst_length(0, 2);

		check(next_of(&pairs[0].clients[1], bytes, PATIENCE_MS) == 4,
		      "a source is heard among others");
		await_drops(relay, pairs[0].slot, DATAGRAM_FOREIGN, count);
		await_drops(relay, pairs[0].slot, DATAGRAM_STRANGER, count);
	}
	for (unsigned int i = 0; i < PAIRS; i++) {
		const struct datagram_counters *counters =
			counters_of(relay, pairs[i].slot);

		check(counters->dropped[DATAGRAM_EARLY] == 1 &&
			      counters->dropped[DATAGRAM_UNSENDABLE] == 0,
		      "nothing else is dropped");
		segmented += counters->segmented;
		merged += counters->merged;
		for (int side = 0; side < 2; side++)
			close(pairs[i].clients[side].fd);
		datagram_remove(relay, pairs[i].slot);
	}
	close(neighbour.fd);
	close(stranger.fd);
	check(merged > 0, "datagrams that are one are taken as one");
	return segmented;
}

/* Limits */

static struct pair new_pair(struct datagram_relay *relay,
			    struct pump_account *account)
{
	const char *const at[2] = { hosts[0][0], hosts[1][0] };
	struct pair pair;

	pair.slot = add_cell(relay, account, pair.ports, at);
	for (int side = 0; side < 2; side++)
		pair.clients[side] = client_at(at[side], pair.ports[side]);
	return pair;
}

static void remove_pair(struct datagram_relay *relay, const struct pair *pair)
{
	datagram_remove(relay, pair->slot);
	close(pair->clients[0].fd);
	close(pair->clients[1].fd);
}

static void limits(struct datagram_relay *relay)
{
	struct pump_account *account = pump_account_new();
	struct pair pair = new_pair(relay, account);
	static char bytes[LARGEST + 1];
	const struct datagram_counters *counters;
	struct datagram_news news;
	unsigned int woken;

	/* 5 + 5 bytes have passed already. */
	meet(relay, &pair);
	pump_account_set(account, 0, 3000);
	for (int n = 0; n < 5; n++)
		send_to(&pair.clients[0], bytes, 900);
	news = await_news(relay);
	check(news.event == DATAGRAM_BYTE_LIMIT, "bytes come to an end");
	check(await_news(relay).event == DATAGRAM_HALF,
	      "the next one is the first of an empty cell");
	counters = counters_of(relay, pair.slot);
	check(counters->bytes[0] + counters->bytes[1] == 2710, "and are kept to");

	/* A second source that is refused is no source. */
	send_to(&pair.clients[1], bytes, 10);
	check(await_news(relay).event == DATAGRAM_MEETING, "they would meet");
	datagram_answer(relay, pair.slot, false);
	await_drops(relay, pair.slot, DATAGRAM_REFUSED, 1);
	send_to(&pair.clients[1], bytes, 10);
	check(await_news(relay).event == DATAGRAM_MEETING, "it asks again");

	/* Forgotten while it asks, it is the first. */
	datagram_forget(relay, pair.slot);
	news = await_news(relay);
	check(news.event == DATAGRAM_HALF && news.side == 1,
	      "the second is the first now");

	/* Whatever was to be told of the past is not told any more. */
	woken = atomic_load(&wakes);
	send_to(&pair.clients[0], bytes, 10);
	while (atomic_load(&wakes) == woken)
		usleep(1000);
	datagram_forget(relay, pair.slot);
	news = await_news(relay);
	check(news.event == DATAGRAM_HALF && news.side == 0,
	      "of what is over nothing is told");
	check(!datagram_take_news(relay, &news), "nor anything else");

	/* Behind the one that ends it in one piece. */
	pump_account_set(account, 0, 0);
	send_to(&pair.clients[1], bytes, 0);
	check(await_news(relay).event == DATAGRAM_MEETING, "they meet again");
	datagram_answer(relay, pair.slot, true);
	pump_account_set(account, 0, 2500);
	send_as_one(&pair.clients[0], (unsigned char *)bytes, 4500, 1000);
	check(await_news(relay).event == DATAGRAM_BYTE_LIMIT, "bytes are used up");
	check(await_news(relay).event == DATAGRAM_HALF, "the rest is the first");
	check(counters->bytes[0] == 2000 && counters->dropped[DATAGRAM_EARLY] >= 2,
	      "each of one piece counts for itself");
	remove_pair(relay, &pair);

	pump_account_set(account, 100000, 0);
	pair = new_pair(relay, account);
	meet(relay, &pair);
	for (int n = 0; n < 100; n++)
		send_to(&pair.clients[0], bytes, 1000);
	for (double all = 0; all < 100; usleep(1000)) {
		counters = counters_of(relay, pair.slot);
		all = counters->dropped[DATAGRAM_RATE] +
		      (counters->bytes[0] - 5) / 1000;
	}
	check(counters->dropped[DATAGRAM_RATE] > 50, "the rate is kept to");
	remove_pair(relay, &pair);
	pump_account_put(account);
}

/* Cells come and go */

struct blast {
	struct client clients[8];
	atomic_bool is_over;
};

static void *send_garbage(void *data)
{
	struct blast *blast = data;
	static unsigned char bytes[2000];

	for (unsigned int n = 0; !atomic_load(&blast->is_over); n++) {
		const struct client *client = &blast->clients[n % 8];

		/* The port may be nobody's just now. */
		sendto(client->fd, bytes, mix(n) % sizeof(bytes), MSG_DONTWAIT,
		       (const struct sockaddr *)&client->to, sizeof(client->to));
		if (n % 16 == 0)
			usleep(50);
	}
	return NULL;
}

static void answer_all(struct datagram_relay *relay)
{
	struct datagram_news news;

	while (datagram_take_news(relay, &news))
		if (news.event == DATAGRAM_MEETING)
			datagram_answer(relay, news.slot, news.slot % 3 != 0);
}

static int at_port(in_port_t port)
{
	struct sockaddr_in6 at = mapped("::", port);

	return datagram_bind((struct sockaddr *)&at, sizeof(at), false,
			     BUFFER_BYTES);
}

static void come_and_go(struct datagram_relay *relay,
			struct pump_account *account)
{
	static const char *const at[2] = { "::ffff:127.0.0.1",
					   "::ffff:127.0.0.1" };
	struct blast blast = { .is_over = false };
	struct pair pairs[4];
	pthread_t thread;

	for (int i = 0; i < 4; i++) {
		pairs[i].slot = add_cell(relay, account, pairs[i].ports, at);
		for (int side = 0; side < 2; side++)
			blast.clients[2 * i + side] =
				client_at(at[side], pairs[i].ports[side]);
	}
	check(pthread_create(&thread, NULL, send_garbage, &blast) == 0,
	      "a thread");
	for (int turn = 0; turn < 400; turn++) {
		struct pair *pair = &pairs[turn % 4];
		int fds[2];
		const struct datagram_side sides[2] = {
			{ .fds = &fds[0], .fd_count = 1 },
			{ .fds = &fds[1], .fd_count = 1 },
		};
		int64_t slot;

		usleep(500);
		answer_all(relay);
		pump_account_set(account, 0, turn % 50 == 0 ? 100000 : 0);
		if (turn % 3 == 0)
			datagram_forget(relay, pair->slot);
		if (turn % 5 != 0)
			continue;
		datagram_remove(relay, pair->slot);
		for (int side = 0; side < 2; side++) {
			fds[side] = at_port(pair->ports[side]);
			check(fds[side] >= 0, "the port is free at once");
		}
		slot = datagram_add(relay, account, sides);
		check(slot >= 0, "adding again");
		pair->slot = (uint32_t)slot;
		expect_host(relay, pair->slot, 0, at[0]);
		expect_host(relay, pair->slot, 1, at[1]);
	}
	/* Some go with the traffic on, some with the relay. */
	datagram_remove(relay, pairs[0].slot);
	datagram_relay_free(relay);
	atomic_store(&blast.is_over, true);
	pthread_join(thread, NULL);
	for (int i = 0; i < 8; i++)
		close(blast.clients[i].fd);
}

static void crowd(struct datagram_relay *relay, struct pump_account *account)
{
	static struct pair pairs[CROWD];
	unsigned int met = 0;
	char bytes[LARGEST + 1];

	for (unsigned int i = 0; i < CROWD; i++)
		pairs[i] = new_pair(relay, account);
	for (unsigned int i = 0; i < CROWD; i++)
		for (int side = 0; side < 2; side++)
			send_to(&pairs[i].clients[side], &i, sizeof(i));
	while (met < CROWD) {
		struct datagram_news news = await_news(relay);

		if (news.event != DATAGRAM_MEETING)
			continue;
		datagram_answer(relay, news.slot, true);
		met++;
	}
	for (unsigned int i = 0; i < CROWD; i++)
		for (int side = 0; side < 2; side++)
			for (int n = 0; n < 3; n++)
				send_to(&pairs[i].clients[side], &i, sizeof(i));
	for (unsigned int i = 0; i < CROWD; i++) {
		unsigned int received = 0;

		/* Whoever came first sent one for nothing. */
		for (; received < 7; received++) {
			const struct client *client =
				&pairs[i].clients[received % 2];

			if (next_of(client, bytes, received < 6 ? PATIENCE_MS : 0) <
			    0)
				break;
			check(memcmp(bytes, &i, sizeof(i)) == 0,
			      "each pair gets its own");
		}
		check(received >= 6, "all of it");
		remove_pair(relay, &pairs[i]);
	}
}

int main(void)
{
	struct pump_account *account = pump_account_new();
	struct datagram_relay *relay = datagram_relay_new(3, count_wake, NULL);

	check(account != NULL && relay != NULL, "starting");
	check(bursts(relay, account) > PAIRS * BURSTS,
	      "datagrams of one size go in trains");
	atomic_store(&sends_fail, true);
	bursts(relay, account);
	atomic_store(&sends_fail, false);
	limits(relay);
	crowd(relay, account);
	atomic_store(&sends_fail, true);
	come_and_go(relay, account);
	pump_account_put(account);
	puts("ok");
	return 0;
}
