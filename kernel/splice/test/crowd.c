// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Many splices at once, both ends of each in one process:
 *
 *   crowd CELLS PAIRS BYTES COMMAND [PORT]
 *
 * PAIRS connections from 10.1.0.2 in namespace `a` to ports PORT (by default
 * 20000), PORT + 2, ... of 10.1.0.1 meet as many from 10.3.0.2 in namespace `b`
 * to ports PORT + 1, PORT + 3, ... of 10.2.0.1, one at a time in each of CELLS
 * cells. When all are established, each end sends BYTES bytes that no other one
 * sends and checks those that come. Then the shell runs COMMAND while the
 * connections are there; with BYTES 0 both ends of each send as much as passes
 * for as long as it runs. In the end all are closed, and each end must see the
 * other's end of stream.
 * Status 0 when everything came as it should, 1 otherwise, with a text.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FIRST_PORT 20000
#define EVENTS 256
#define CHUNK_BYTES 65536
/* Nothing at all happens for that long: something is stuck. */
#define PATIENCE_MS 60000

enum phase { CONNECTING, EXCHANGING, STREAMING, CLOSING };

/**
 * struct end - one end of a connection
 * @sock: its socket, -1 before
 * @pair: which connection
 * @side: 0 in `a`, 1 in `b`
 * @done: with the present phase
 * @received: of the bytes to be checked
 */
struct end {
	int sock;
	int pair;
	int side;
	bool done;
	size_t received;
};

static const char *const own[] = { "10.1.0.2", "10.3.0.2" };
static const char *const ist[] = { "10.1.0.1", "10.2.0.1" };
static int namespace[2];
static int watch;
static int cells, pairs, first_port = FIRST_PORT;
static size_t bytes;
static struct end *ends;

static void __attribute__((noreturn, format(printf, 1, 2)))
die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	exit(1);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

/* What an end sends: a function of pair, side and place. */
static unsigned char byte_at(const struct end *end, size_t place)
{
	uint32_t x = (uint32_t)end->pair * 2654435761u +
		     (uint32_t)end->side * 40503u + (uint32_t)place * 2246822519u;

	return (unsigned char)(x >> 24 ^ x >> 11);
}

static struct sockaddr_in address(const char *host, int port)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
	};

	inet_pton(AF_INET, host, &to.sin_addr);
	return to;
}

static void start(int pair, int side)
{
	struct end *end = &ends[2 * pair + side];
	struct sockaddr_in from = address(own[side], 0);
	struct sockaddr_in to = address(ist[side],
					first_port + 2 * (pair % cells) + side);
	struct epoll_event event = { .events = EPOLLOUT, .data.ptr = end };

	if (setns(namespace[side], CLONE_NEWNET))
		die("setns: %s", strerror(errno));
	end->sock = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
			   0);
	if (end->sock < 0)
		die("socket: %s", strerror(errno));
	end->pair = pair;
	end->side = side;
	/* The port is chosen when the other end of the tuple is known. */
	if (setsockopt(end->sock, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT,
		       &(int){ 1 }, sizeof(int)) ||
	    bind(end->sock, (void *)&from, sizeof(from)))
		die("bind: %s", strerror(errno));
	if (connect(end->sock, (void *)&to, sizeof(to)) && errno != EINPROGRESS)
		die("connect: %s", strerror(errno));
	if (epoll_ctl(watch, EPOLL_CTL_ADD, end->sock, &event))
		die("epoll: %s", strerror(errno));
}

static void start_pair(int pair)
{
	start(pair, 0);
	start(pair, 1);
}

static void change(struct end *end, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = end };

	if (epoll_ctl(watch, EPOLL_CTL_MOD, end->sock, &event))
		die("epoll: %s", strerror(errno));
}

/* Return: both ends are through, now that this one is. */
static bool finish(struct end *end)
{
	end->done = true;
	return ends[2 * end->pair].done && ends[2 * end->pair + 1].done;
}

static bool connected(struct end *end)
{
	socklen_t length = sizeof(int);
	int error = 0;

	getsockopt(end->sock, SOL_SOCKET, SO_ERROR, &error, &length);
	if (error)
		die("pair %d, side %d: connect: %s", end->pair, end->side,
		    strerror(error));
	change(end, 0);
	if (!finish(end))
		return false;
	if (end->pair + cells < pairs)
		start_pair(end->pair + cells);
	return true;
}

static void send_own(const struct end *end)
{
	unsigned char buffer[CHUNK_BYTES];

	for (size_t i = 0; i < bytes; i++)
		buffer[i] = byte_at(end, i);
	if (send(end->sock, buffer, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
		die("pair %d, side %d: send: %s", end->pair, end->side,
		    strerror(errno));
}

static bool exchanged(struct end *end)
{
	const struct end *peer = &ends[2 * end->pair + !end->side];
	unsigned char buffer[CHUNK_BYTES];
	ssize_t size = recv(end->sock, buffer, sizeof(buffer), 0);

	if (size <= 0)
		die("pair %d, side %d: %zu bytes, then %s", end->pair, end->side,
		    end->received, size ? strerror(errno) : "the end");
	for (ssize_t i = 0; i < size; i++, end->received++)
		if (end->received >= bytes ||
		    buffer[i] != byte_at(peer, end->received))
			die("pair %d, side %d: byte %zu is wrong", end->pair,
			    end->side, end->received);
	if (end->received < bytes)
		return false;
	change(end, 0);
	return finish(end);
}

static void stream(struct end *end, uint32_t events)
{
	static char buffer[CHUNK_BYTES];

	if (events & (EPOLLERR | EPOLLHUP))
		die("pair %d, side %d: broken", end->pair, end->side);
	if (events & EPOLLIN &&
	    recv(end->sock, buffer, sizeof(buffer), MSG_TRUNC) == 0)
		die("pair %d, side %d: ended", end->pair, end->side);
	if (events & EPOLLOUT)
		send(end->sock, buffer, sizeof(buffer), MSG_NOSIGNAL);
}

static bool closed(struct end *end)
{
	static char buffer[CHUNK_BYTES];
	ssize_t size;

	/* What was under way when streaming ended comes first. */
	do {
		size = recv(end->sock, buffer, sizeof(buffer), MSG_TRUNC);
	} while (size > 0);
	if (size < 0) {
		if (errno == EAGAIN)
			return false;
		die("pair %d, side %d: close: %s", end->pair, end->side,
		    strerror(errno));
	}
	epoll_ctl(watch, EPOLL_CTL_DEL, end->sock, NULL);
	return finish(end);
}

/* Takes what happens until all pairs are through or @child has ended. */
static int run(enum phase phase, pid_t child)
{
	struct epoll_event events[EVENTS];
	int through = 0, status;

	for (int i = 0; i < 2 * pairs; i++)
		ends[i].done = false;
	while (through < pairs) {
		int count = epoll_wait(watch, events, EVENTS,
				       child ? 100 : PATIENCE_MS);

		if (!child && !count)
			die("phase %d: stuck, %d of %d pairs are through", phase,
			    through, pairs);
		for (int i = 0; i < count; i++) {
			struct end *end = events[i].data.ptr;

			if (phase == CONNECTING)
				through += connected(end);
			else if (phase == EXCHANGING)
				through += exchanged(end);
			else if (phase == STREAMING)
				stream(end, events[i].events);
			else
				through += closed(end);
		}
		if (child && waitpid(child, &status, WNOHANG) == child)
			return status;
	}
	return 0;
}

static pid_t spawn(const char *command)
{
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child) {
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	return child;
}

static int command(const char *text)
{
	pid_t child = spawn(text);
	int status;

	if (!bytes) {
		for (int i = 0; i < 2 * pairs; i++)
			change(&ends[i], EPOLLIN | EPOLLOUT);
		return run(STREAMING, child);
	}
	waitpid(child, &status, 0);
	return status;
}

int main(int argc, char **argv)
{
	struct rlimit files;
	double begun = now();

	if (argc != 5 && argc != 6)
		die("see the top of crowd.c for what it takes");
	cells = atoi(argv[1]);
	pairs = atoi(argv[2]);
	bytes = strtoul(argv[3], NULL, 0);
	if (argc == 6)
		first_port = atoi(argv[5]);
	if (cells < 1 || pairs < 1 || bytes > CHUNK_BYTES)
		die("numbers out of range");
	files.rlim_cur = files.rlim_max = 2 * pairs + 64;
	if (setrlimit(RLIMIT_NOFILE, &files))
		die("setrlimit: %s", strerror(errno));
	namespace[0] = open("/run/netns/a", O_RDONLY | O_CLOEXEC);
	namespace[1] = open("/run/netns/b", O_RDONLY | O_CLOEXEC);
	watch = epoll_create1(EPOLL_CLOEXEC);
	ends = calloc(2 * pairs, sizeof(*ends));
	if (namespace[0] < 0 || namespace[1] < 0 || watch < 0 || !ends)
		die("set-up: %s", strerror(errno));

	for (int pair = 0; pair < cells && pair < pairs; pair++)
		start_pair(pair);
	run(CONNECTING, 0);
	printf("established %d in %.3f s\n", pairs, now() - begun);
	if (bytes) {
		for (int i = 0; i < 2 * pairs; i++) {
			change(&ends[i], EPOLLIN);
			send_own(&ends[i]);
		}
		run(EXCHANGING, 0);
		printf("exchanged %zu each way\n", bytes);
	}
	if (command(argv[4]))
		die("the command failed");
	for (int i = 0; i < 2 * pairs; i++) {
		change(&ends[i], EPOLLIN);
		shutdown(ends[i].sock, SHUT_WR);
	}
	run(CLOSING, 0);
	printf("closed after %.3f s\n", now() - begun);
	return 0;
}
