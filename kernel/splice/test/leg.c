// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * One leg of a splice, as an ordinary program would have it:
 *
 *   leg tcp LOCAL PORT REMOTE PORT SEND SEED RECEIVE SEED [WORD...]
 *   leg udp LOCAL PORT REMOTE PORT COUNT SIZE SECONDS [ENOUGH]
 *
 * TCP: connects, sends SEND bytes of the stream that SEED names while it checks
 * every one of the RECEIVE bytes that come; then both ends close. Port 0 lets
 * the system choose. Words: `wait MS` before sending, `go FILE` sends when that
 * file is there, `hold MS` before closing, `reset` ends by RST, `half` closes
 * the sending side at once, `slow` reads slowly, `pause MS` has a small buffer
 * and does not read for so long; `tfo` and `mptcp` offer TCP Fast Open, with
 * data in the SYN, and Multipath TCP.
 * UDP: sends COUNT datagrams of SIZE bytes, and says how many good ones came
 * within SECONDS, and how many errors of the network, with the last one. When
 * ENOUGH have come it ends soon, but not before the peer has had time, too.
 * Status 0 when everything came as it should; 1 for wrong bytes, 2 for an
 * error of the connection, which is printed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK_BYTES 65536
#define SMALL_BUFFER_BYTES 16384
#define PEERS_SECONDS 3

/* Older headers do not know it. */
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* A stream that can be made and checked at any pace. */
struct stream {
	uint64_t state;
	uint64_t word;
	int left;
};

static unsigned char next_byte(struct stream *stream)
{
	unsigned char byte;

	if (!stream->left) {
		stream->word = next_random(&stream->state);
		stream->left = 8;
	}
	byte = (unsigned char)stream->word;
	stream->word >>= 8;
	stream->left--;
	return byte;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void die(const char *what)
{
	printf("%s: %s\n", what, strerror(errno));
	exit(2);
}

static socklen_t parse(const char *host, const char *port,
		       struct sockaddr_storage *address)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST }, *found;
	socklen_t length;

	if (getaddrinfo(host, port, &hints, &found)) {
		printf("not an address: %s\n", host);
		exit(2);
	}
	memcpy(address, found->ai_addr, found->ai_addrlen);
	length = found->ai_addrlen;
	freeaddrinfo(found);
	return length;
}

static int bind_leg(int type, int protocol, char **argv)
{
	struct sockaddr_storage local;
	socklen_t length = parse(argv[0], argv[1], &local);
	int on = 1, sock;

	sock = socket(local.ss_family, type, protocol);
	if (sock < 0)
		die("socket");
	setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(sock, (void *)&local, length))
		die("bind");
	return sock;
}

static void connect_leg(int sock, char **argv)
{
	struct sockaddr_storage remote;
	socklen_t length = parse(argv[2], argv[3], &remote);

	if (connect(sock, (void *)&remote, length))
		die("connect");
}

static int word_of(int count, char **words, const char *name)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(words[i], name))
			return i + 1 < count ? atoi(words[i + 1]) ?: 1 : 1;
	return 0;
}

static const char *text_of(int count, char **words, const char *name)
{
	for (int i = 0; i + 1 < count; i++)
		if (!strcmp(words[i], name))
			return words[i + 1];
	return NULL;
}

struct transfer {
	struct stream stream;
	uint64_t left;
	unsigned char buffer[CHUNK_BYTES];
	size_t from, to;
};

static void send_some(int sock, struct transfer *out)
{
	ssize_t size;

	if (out->from == out->to) {
		out->from = 0;
		out->to = out->left < CHUNK_BYTES ? out->left : CHUNK_BYTES;
		for (size_t i = 0; i < out->to; i++)
			out->buffer[i] = next_byte(&out->stream);
	}
	size = send(sock, out->buffer + out->from, out->to - out->from,
		    MSG_DONTWAIT | MSG_NOSIGNAL);
	if (size < 0) {
		if (errno == EAGAIN || errno == EINPROGRESS)
			return;
		die("send");
	}
	out->from += size;
	out->left -= size;
}

static bool receive_some(int sock, struct transfer *in)
{
	ssize_t size = recv(sock, in->buffer, CHUNK_BYTES, MSG_DONTWAIT);

	if (size < 0) {
		if (errno == EAGAIN)
			return true;
		die("recv");
	}
	for (ssize_t i = 0; i < size; i++)
		if (in->buffer[i] != next_byte(&in->stream)) {
			printf("wrong byte\n");
			exit(1);
		}
	if ((uint64_t)size > in->left) {
		printf("more bytes than expected\n");
		exit(1);
	}
	in->left -= size;
	return size > 0;
}

static int run_tcp(int argc, char **argv)
{
	static struct transfer out, in;
	char **words = argv + 8;
	const char *go = text_of(argc - 8, words, "go");
	int count = argc - 8, sock, small = SMALL_BUFFER_BYTES, on = 1;
	bool open = true, sending = true;
	double start = now(), connected, reading;
	struct tcp_info info;
	socklen_t length = sizeof(info);

	out.left = strtoull(argv[4], NULL, 0);
	out.stream.state = strtoull(argv[5], NULL, 0);
	in.left = strtoull(argv[6], NULL, 0);
	in.stream.state = strtoull(argv[7], NULL, 0);
	sock = bind_leg(SOCK_STREAM,
			word_of(count, words, "mptcp") ? IPPROTO_MPTCP : 0,
			argv);
	if (word_of(count, words, "pause"))
		setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	if (word_of(count, words, "tfo") &&
	    setsockopt(sock, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on,
		       sizeof(on)))
		die("fast open");
	connect_leg(sock, argv);
	connected = now() - start;
	reading = now() + word_of(count, words, "pause") / 1e3;
	getsockopt(sock, IPPROTO_TCP, TCP_INFO, &info, &length);
	printf("connected %.3f s mss %u options %u scales %u %u rto %u us\n",
	       connected, info.tcpi_snd_mss, info.tcpi_options,
	       info.tcpi_snd_wscale, info.tcpi_rcv_wscale, info.tcpi_rto);
	fflush(stdout);
	usleep(1000 * word_of(count, words, "wait"));
	while (go && access(go, F_OK))
		usleep(20000);
	if (word_of(count, words, "half") && !out.left)
		shutdown(sock, SHUT_WR);
	while (out.left || in.left || sending) {
		struct pollfd poll_for = { .fd = sock };

		if (!out.left && sending && !word_of(count, words, "hold")) {
			if (!word_of(count, words, "reset"))
				shutdown(sock, SHUT_WR);
			sending = false;
		} else if (!out.left) {
			sending = false;
		}
		if (!out.left && !in.left)
			break;
		if (open && now() < reading) {
			usleep(20000);
			continue;
		}
		poll_for.events = (open ? POLLIN : 0) |
				  (out.left ? POLLOUT : 0);
		if (poll(&poll_for, 1, 60000) <= 0) {
			printf("nothing for a minute, %llu to send, %llu to come\n",
			       (unsigned long long)out.left,
			       (unsigned long long)in.left);
			return 2;
		}
		if (poll_for.revents & POLLOUT)
			send_some(sock, &out);
		if (open && poll_for.revents & (POLLIN | POLLHUP | POLLERR)) {
			open = receive_some(sock, &in);
			if (!open && in.left) {
				printf("end of stream, %llu bytes missing\n",
				       (unsigned long long)in.left);
				return 1;
			}
			if (word_of(count, words, "slow"))
				usleep(20000);
		}
	}
	usleep(1000 * word_of(count, words, "hold"));
	if (word_of(count, words, "reset")) {
		struct linger linger = { .l_onoff = 1 };

		setsockopt(sock, SOL_SOCKET, SO_LINGER, &linger,
			   sizeof(linger));
	} else {
		/* The peer's end of stream, so that both have closed. */
		shutdown(sock, SHUT_WR);
		for (;;) {
			unsigned char byte;
			ssize_t size = recv(sock, &byte, 1, 0);

			if (size < 0)
				die("recv");
			if (!size)
				break;
			printf("more bytes than expected\n");
			return 1;
		}
	}
	printf("done %.3f s\n", now() - start);
	return 0;
}

static int run_udp(int argc, char **argv)
{
	int enough = argc > 7 ? atoi(argv[7]) : 0;
	int count = atoi(argv[4]), size = atoi(argv[5]), good = 0, sent = 0;
	int errors = 0, error = 0;
	static unsigned char buffer[CHUNK_BYTES], expected[CHUNK_BYTES];
	int sock = bind_leg(SOCK_DGRAM, 0, argv);
	double start = now(), until = start + atof(argv[6]);
	double pace = atof(argv[6]) * 0.9 / count;
	struct stream stream = { .state = 88172645463325252ull };

	connect_leg(sock, argv);
	for (int i = 0; i < size; i++)
		expected[i] = next_byte(&stream);
	while (now() < until) {
		struct pollfd poll_for = { .fd = sock, .events = POLLIN };

		/* Evenly over most of the time, since the peer may come late. */
		if (sent < count && now() > start + sent * pace) {
			if (send(sock, expected, size, 0) < 0) {
				error = errno;
				errors++;
			}
			sent++;
		}
		if (poll(&poll_for, 1, 50) > 0) {
			ssize_t got = recv(sock, buffer, sizeof(buffer), 0);

			if (got < 0) {
				error = errno;
				errors++;
				continue;
			}
			if (got != size || memcmp(buffer, expected, size)) {
				printf("wrong datagram of %zd bytes\n", got);
				return 1;
			}
			good++;
			if (good == enough && until > now() + PEERS_SECONDS)
				until = now() + PEERS_SECONDS;
		}
	}
	printf("sent %d received %d errors %d (%s)\n", sent, good, errors,
	       error ? strerror(error) : "none");
	return 0;
}

int main(int argc, char **argv)
{
	if (argc >= 10 && !strcmp(argv[1], "tcp"))
		return run_tcp(argc - 2, argv + 2);
	if (argc >= 9 && !strcmp(argv[1], "udp"))
		return run_udp(argc - 2, argv + 2);
	printf("see the top of leg.c for what it takes\n");
	return 2;
}
