// SPDX-License-Identifier: Apache-2.0
/*
 * Load between two hosts that are network namespaces of this machine, from one
 * program, so that both ends share a clock and count together:
 *
 *   load tcp FROM TO CONNECTIONS WARM_MS MS   bytes from FROM to TO
 *   load rtt FROM TO COUNT BYTES              UDP there and back, one by one
 *   load packets FROM TO BYTES WARM_MS MS     UDP, as fast as nothing is lost
 *   load rate FROM TO BYTES BITS MS           UDP, BITS per second, 0 all
 *   load setup FROM TO COUNT [keep]           TCP connections, one by one
 *   load burst FROM TO COUNT                  the same, many at once
 *
 * An end is NAMESPACE,listen,ADDRESS,PORT or
 * NAMESPACE,connect,ADDRESS,PORT[,LOCAL_PORT[,STEP]]: connection n goes to
 * PORT + STEP * n, from LOCAL_PORT + STEP * n unless that is 0; or
 * NAMESPACE,turn,ADDRESS,PORT,PEER,PEER_PORT: to a peer by way of the TURN
 * server at ADDRESS; or NAMESPACE,rtp,ADDRESS,PORT,LOCAL_PORT: like connect,
 * with datagrams that are packets of RTP, whose header counts among their bytes.
 * Two ends that both connect meet at a relay. Each result is one line of JSON.
 * With `keep` connections stay open until standard input ends.
 *
 * The environment may name a CPU, LOAD_CPU, which the load then does not leave
 * and where it goes before others; and a namespace, LOAD_RELAY, whose processes
 * count in "cpu", the seconds that those of all three namespaces ran.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rtp.h"
#include "turn.h"

#define CHUNK_BYTES 131072
#define MOST_DATAGRAM_BYTES 65507
/* Loss behind the path under test would be counted as the path's. */
#define SOCKET_BUFFER_BYTES (16 << 20)
#define MOST_FILES 65536
#define GREET_EVERY_MS 20
#define GREET_FOR_MS 10000
#define CONNECT_WITHIN_MS 20000
/* What is not there by then is lost. */
#define LATE_MS 200
#define MOST_AHEAD 64
#define PACE_NS 500000
/* Of a burst: no relay has room for all at the same time. */
#define MOST_OPENING 100
/* Less than everybody else. */
#define NICE -15

enum { GREETING = 'g', ANSWER = 'a', LOAD = 'l' };

struct end {
	char namespace[32];
	bool listens;
	bool turns;
	bool speaks_rtp;
	struct sockaddr_in address;
	struct sockaddr_in peer;
	int local_port;
	int step;
};

/* What both ends and who measures see of each other. */
struct shared {
	volatile uint64_t sent;
	volatile uint64_t received;
	volatile int ready;
	/* The end that answers has its socket. */
	volatile bool listens;
	volatile bool stop;
};

static struct shared *shared;
/* Room for the header of a channel or of RTP, and what is behind it. */
static uint8_t framed[RTP_HEADER_BYTES + CHUNK_BYTES];
static uint8_t *const buffer = framed + RTP_HEADER_BYTES;
static size_t header_bytes;
static void (*write_header)(uint8_t *header, uint16_t length);

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void sleep_until(uint64_t ns)
{
	struct timespec time = { .tv_sec = ns / 1000000000,
				 .tv_nsec = ns % 1000000000 };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL))
		;
}

static void parse_end(char *words, struct end *end)
{
	char *name = strtok(words, ","), *how = strtok(NULL, ",");
	char *address = strtok(NULL, ","), *port = strtok(NULL, ",");
	char *local = strtok(NULL, ","), *step = strtok(NULL, ",");

	end->turns = port && !strcmp(how, "turn");
	if (!port || inet_pton(AF_INET, address, &end->address.sin_addr) != 1 ||
	    (end->turns &&
	     (!step || inet_pton(AF_INET, local, &end->peer.sin_addr) != 1))) {
		fprintf(stderr, "load: not an end: %s\n", words);
		exit(2);
	}
	snprintf(end->namespace, sizeof(end->namespace), "%s", name);
	end->listens = !strcmp(how, "listen");
	end->speaks_rtp = !strcmp(how, "rtp");
	end->address.sin_family = AF_INET;
	end->address.sin_port = htons(atoi(port));
	if (end->turns) {
		end->peer.sin_family = AF_INET;
		end->peer.sin_port = htons(atoi(step));
		return;
	}
	end->local_port = local ? atoi(local) : 0;
	end->step = step ? atoi(step) : 0;
}

static void enter(const struct end *end)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/%s", end->namespace);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		die(path);
	close(fd);
}

static struct sockaddr_in nth_port(struct sockaddr_in address, int offset)
{
	address.sin_port = htons(ntohs(address.sin_port) + offset);
	return address;
}

static int open_socket(const struct end *end, int type, int n)
{
	struct sockaddr_in local = { .sin_family = AF_INET };
	int sock = socket(AF_INET, type | SOCK_CLOEXEC, 0), on = 1;

	if (sock < 0)
		die("socket");
	setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if ((type & 0xf) == SOCK_DGRAM) {
		int size = SOCKET_BUFFER_BYTES;

		setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &size,
			   sizeof(size));
	}
	if (end->listens) {
		local = end->address;
	} else if (end->local_port) {
		local.sin_port = htons(end->local_port + end->step * n);
	} else {
		return sock;
	}
	if (bind(sock, (void *)&local, sizeof(local)))
		die("bind");
	return sock;
}

static int open_stream(const struct end *end, int n)
{
	return open_socket(end, SOCK_STREAM | SOCK_NONBLOCK, n);
}

static void start_connect(const struct end *end, int sock, int n)
{
	struct sockaddr_in to = nth_port(end->address, end->step * n);

	if (connect(sock, (void *)&to, sizeof(to)) && errno != EINPROGRESS)
		die("connect");
}

/* A connection to the peer; the one that controls it stays open. */
static int connect_by_turn(const struct end *end)
{
	int control = open_socket(end, SOCK_STREAM, 0);
	int data = open_socket(end, SOCK_STREAM, 0);

	if (connect(control, (void *)&end->address, sizeof(end->address)) ||
	    connect(data, (void *)&end->address, sizeof(end->address)))
		die("connect");
	turn_connect(control, data, &end->peer);
	fcntl(data, F_SETFL, O_NONBLOCK);
	return data;
}

static int open_connection(const struct end *end, int n)
{
	int sock;

	if (end->turns)
		return connect_by_turn(end);
	sock = open_stream(end, n);
	start_connect(end, sock, n);
	return sock;
}

static void await_connected(int sock)
{
	struct pollfd poll_for = { .fd = sock, .events = POLLOUT };
	socklen_t length = sizeof(errno);
	int error = 0;

	if (poll(&poll_for, 1, CONNECT_WITHIN_MS) <= 0) {
		errno = ETIMEDOUT;
		die("connect");
	}
	getsockopt(sock, SOL_SOCKET, SO_ERROR, &error, &length);
	if (error) {
		errno = error;
		die("connect");
	}
}

static int start_listen(const struct end *end)
{
	int sock = open_socket(end, SOCK_STREAM, 0);

	if (listen(sock, 4096))
		die("listen");
	return sock;
}

static int accept_one(int listener)
{
	struct pollfd poll_for = { .fd = listener, .events = POLLIN };
	int sock;

	if (poll(&poll_for, 1, CONNECT_WITHIN_MS) <= 0) {
		errno = ETIMEDOUT;
		die("accept");
	}
	sock = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (sock < 0)
		die("accept");
	return sock;
}

static void await_ready(int count)
{
	uint64_t until = now_ns() + 2 * CONNECT_WITHIN_MS * 1000000ull;

	while (shared->ready < count) {
		if (now_ns() > until) {
			errno = ETIMEDOUT;
			die("the other end");
		}
		usleep(1000);
	}
}

/* Nothing of it is left to be sent, and its port is free at once. */
static void reset(int sock)
{
	struct linger linger = { .l_onoff = 1 };

	setsockopt(sock, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(sock);
}

static void run_tcp_end(const struct end *end, int count, bool sends)
{
	int *socks = calloc(count, sizeof(*socks)), poll_for = epoll_create1(0);
	struct epoll_event events[64];
	/* Waking up for each segment costs more than any relay does. */
	int n, i, found, lowat = 16384;

	enter(end);
	if (end->listens) {
		int listener = start_listen(end);

		__sync_fetch_and_add(&shared->ready, 1);
		for (n = 0; n < count; n++)
			socks[n] = accept_one(listener);
	} else {
		/* A relay or a listener must be there first. */
		await_ready(sends ? 1 : 0);
		for (n = 0; n < count; n++)
			socks[n] = open_connection(end, n);
		if (!sends)
			__sync_fetch_and_add(&shared->ready, 1);
		for (n = 0; n < count; n++)
			await_connected(socks[n]);
	}
	for (n = 0; n < count; n++) {
		struct epoll_event event = {
			.events = sends ? EPOLLOUT : EPOLLIN,
			.data.fd = socks[n],
		};

		if (!sends)
			setsockopt(socks[n], SOL_SOCKET, SO_RCVLOWAT, &lowat,
				   sizeof(lowat));
		epoll_ctl(poll_for, EPOLL_CTL_ADD, socks[n], &event);
	}
	__sync_fetch_and_add(&shared->ready, 1);
	while (!shared->stop) {
		found = epoll_wait(poll_for, events, 64, 100);
		for (i = 0; i < found; i++) {
			int sock = events[i].data.fd;
			ssize_t size = sends ?
				send(sock, buffer, CHUNK_BYTES, MSG_NOSIGNAL) :
				recv(sock, buffer, CHUNK_BYTES, 0);

			if (size > 0 && sends)
				shared->sent += size;
			else if (size > 0)
				shared->received += size;
			else if ((size == 0 || errno != EAGAIN) &&
				 !shared->stop)
				die(sends ? "send" : "recv");
		}
	}
	/* Nothing of a run is left on the way when the next one starts. */
	for (n = 0; n < count; n++)
		reset(socks[n]);
	exit(0);
}

static int open_datagrams(const struct end *end)
{
	int sock = open_socket(end, SOCK_DGRAM, 0);

	if (!end->listens &&
	    connect(sock, (void *)&end->address, sizeof(end->address)))
		die("connect");
	if (end->turns) {
		turn_open_channel(sock, &end->peer);
		header_bytes = TURN_CHANNEL_HEADER_BYTES;
		write_header = turn_frame;
	}
	if (end->speaks_rtp) {
		rtp_source = end->local_port;
		header_bytes = RTP_HEADER_BYTES;
		write_header = rtp_frame;
	}
	return sock;
}

static ssize_t send_datagram(int sock, size_t size)
{
	if (write_header)
		write_header(buffer - header_bytes, size);
	return send(sock, buffer - header_bytes, size + header_bytes, 0) -
	       (ssize_t)header_bytes;
}

/* @return less than 0 also for what is no more than a header */
static ssize_t receive_from(int sock, int flags, struct sockaddr_in *peer)
{
	socklen_t length = sizeof(*peer);

	return recvfrom(sock, buffer - header_bytes, CHUNK_BYTES + header_bytes,
			flags, (void *)peer, &length) - (ssize_t)header_bytes;
}

static ssize_t receive_datagram(int sock, int flags)
{
	struct sockaddr_in peer;

	return receive_from(sock, flags, &peer);
}

/* What is to be behind the header of a datagram of so many bytes. */
static int behind_header(const struct end *end, int bytes)
{
	return end->speaks_rtp ? bytes - RTP_HEADER_BYTES : bytes;
}

static void send_sign(int sock, char sign)
{
	buffer[0] = sign;
	send_datagram(sock, 1);
}

static ssize_t receive_within(int sock, int ms)
{
	struct pollfd poll_for = { .fd = sock, .events = POLLIN };

	if (poll(&poll_for, 1, ms) <= 0)
		return -1;
	return receive_datagram(sock, 0);
}

/* The end that answers: it finds its peer, and calls itself ready. */
static int greet_as_answerer(const struct end *end)
{
	uint64_t until = now_ns() + GREET_FOR_MS * 1000000ull;
	int sock = open_datagrams(end);

	shared->listens = true;
	while (now_ns() < until) {
		struct pollfd poll_for = { .fd = sock, .events = POLLIN };
		struct sockaddr_in peer;
		ssize_t size;

		if (!end->listens)
			send_sign(sock, GREETING);
		if (poll(&poll_for, 1, GREET_EVERY_MS) <= 0)
			continue;
		size = receive_from(sock, 0, &peer);
		if (size != 1 || buffer[0] != GREETING)
			continue;
		if (end->listens &&
		    connect(sock, (void *)&peer, sizeof(peer)))
			die("connect");
		send_sign(sock, ANSWER);
		return sock;
	}
	errno = ETIMEDOUT;
	die("no greeting");
	return -1;
}

static int greet_as_asker(const struct end *end)
{
	uint64_t until = now_ns() + GREET_FOR_MS * 1000000ull;
	int sock = open_datagrams(end);

	/*
	 * A greeting that nobody is there for makes a proxy end its session by
	 * the error, under a peer that has just taken the next greeting from it.
	 */
	while (!shared->listens && now_ns() < until)
		usleep(1000);
	while (now_ns() < until) {
		send_sign(sock, GREETING);
		if (receive_within(sock, GREET_EVERY_MS) == 1 &&
		    buffer[0] == ANSWER)
			return sock;
	}
	errno = ETIMEDOUT;
	die("no answer");
	return -1;
}

static void answer_late_greeting(int sock)
{
	if (buffer[0] == GREETING)
		send_sign(sock, ANSWER);
}

static void run_echo(const struct end *end)
{
	int sock;

	enter(end);
	sock = greet_as_answerer(end);
	while (!shared->stop) {
		ssize_t size = receive_within(sock, 100);

		if (size > 0 && buffer[0] == LOAD)
			send_datagram(sock, size);
		else if (size > 0)
			answer_late_greeting(sock);
	}
	exit(0);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void run_rtt(const struct end *end, int count, int bytes)
{
	uint64_t *took = calloc(count, sizeof(*took)), sum = 0;
	int sock, n = 0, lost = 0, size = behind_header(end, bytes);

	enter(end);
	sock = greet_as_asker(end);
	while (n < count && lost < count) {
		uint32_t number = n + lost, answered;
		uint64_t start = now_ns();
		ssize_t got;

		buffer[0] = LOAD;
		memcpy(buffer + 1, &number, sizeof(number));
		send_datagram(sock, size);
		/* What comes after all is none of this one's. */
		do {
			got = receive_within(sock, LATE_MS);
			memcpy(&answered, buffer + 1, sizeof(answered));
		} while (got > 0 && (got != size || answered != number));
		if (got < 0) {
			lost++;
			continue;
		}
		took[n] = now_ns() - start;
		sum += took[n++];
	}
	if (!n) {
		errno = ETIMEDOUT;
		die("no round trip");
	}
	qsort(took, n, sizeof(*took), compare);
	printf("{\"median\":%.3f,\"mean\":%.3f,\"lost\":%d}\n",
	       took[n / 2] / 1e3, sum / 1e3 / n, lost);
	fflush(stdout);
	shared->stop = true;
	exit(0);
}

static void run_sink(const struct end *end)
{
	int sock;

	enter(end);
	sock = greet_as_answerer(end);
	while (!shared->stop) {
		ssize_t size = receive_within(sock, 100);

		/* A line's worth at each turn: polling is not what is measured. */
		while (size > 0) {
			if (buffer[0] == LOAD)
				shared->received++;
			else
				answer_late_greeting(sock);
			size = receive_datagram(sock, MSG_DONTWAIT);
		}
	}
	exit(0);
}

static void run_packets(const struct end *end, int bytes)
{
	uint64_t lost = 0, progress = 0, stalled = 0;
	int sock, size = behind_header(end, bytes);

	enter(end);
	sock = greet_as_asker(end);
	buffer[0] = LOAD;
	__sync_fetch_and_add(&shared->ready, 1);
	while (!shared->stop) {
		if (shared->sent - lost - shared->received < MOST_AHEAD) {
			if (send_datagram(sock, size) == size)
				shared->sent++;
			continue;
		}
		sched_yield();
		if (progress != shared->received) {
			progress = shared->received;
			stalled = now_ns();
		} else if (now_ns() - stalled > LATE_MS * 1000000ull) {
			lost = shared->sent - shared->received;
			stalled = now_ns();
		}
	}
	exit(0);
}

static void run_rate(const struct end *end, int bytes, double bits, int ms)
{
	uint64_t start, until, due, gap = bits > 0 ? bytes * 8e9 / bits : 0;
	int sock, size = behind_header(end, bytes);

	enter(end);
	sock = greet_as_asker(end);
	buffer[0] = LOAD;
	start = due = now_ns();
	until = start + ms * 1000000ull;
	for (;;) {
		uint64_t now = now_ns();

		if (now >= until)
			break;
		if (due > now + PACE_NS) {
			sleep_until(due);
			continue;
		}
		if (send_datagram(sock, size) == size)
			shared->sent++;
		else if (errno != ENOBUFS && errno != ECONNREFUSED)
			die("send");
		due += gap;
	}
	until = now_ns();
	/* As long as more comes, and that it may still come. */
	for (uint64_t before = UINT64_MAX; before != shared->received;) {
		before = shared->received;
		usleep(LATE_MS * 1000);
	}
	printf("{\"sent\":%llu,\"received\":%llu,\"seconds\":%.6f}\n",
	       (unsigned long long)shared->sent,
	       (unsigned long long)shared->received, (until - start) / 1e9);
	fflush(stdout);
	shared->stop = true;
	exit(0);
}

/* The network namespaces of those who do the work. */
static ino_t at_work[3];

static void note_namespace(int place, const char *name)
{
	char path[64];
	struct stat status;

	snprintf(path, sizeof(path), "/run/netns/%s", name);
	if (stat(path, &status))
		die(path);
	at_work[place] = status.st_ino;
}

static bool is_number(const char *name)
{
	return *name >= '0' && *name <= '9';
}

static bool works(const char *pid)
{
	char path[300];
	struct stat status;

	snprintf(path, sizeof(path), "/proc/%s/ns/net", pid);
	/* It may have ended. */
	if (stat(path, &status))
		return false;
	for (int i = 0; i < 3; i++)
		if (at_work[i] == status.st_ino)
			return true;
	return false;
}

/* How long the threads of a process have run, in all. */
static uint64_t run_time_of(const char *pid)
{
	char path[600];
	struct dirent *task;
	uint64_t sum = 0;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%s/task", pid);
	tasks = opendir(path);
	while (tasks && (task = readdir(tasks))) {
		unsigned long long ns;
		FILE *file;

		if (!is_number(task->d_name))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/task/%s/schedstat", pid,
			 task->d_name);
		file = fopen(path, "r");
		if (!file)
			continue;
		if (fscanf(file, "%llu", &ns) == 1)
			sum += ns;
		fclose(file);
	}
	if (tasks)
		closedir(tasks);
	return sum;
}

/*
 * What the kernel does with a packet is done, and counted, in the time of
 * whoever sends it.
 */
static uint64_t run_time(void)
{
	DIR *processes = opendir("/proc");
	struct dirent *process;
	uint64_t sum = 0;

	while (processes && (process = readdir(processes)))
		if (is_number(process->d_name) && works(process->d_name))
			sum += run_time_of(process->d_name);
	if (processes)
		closedir(processes);
	return sum;
}

/* What both ends counted in a time. */
static void measure(int ends, int warm_ms, int ms)
{
	uint64_t start, end, sent, received, cpu = 0;

	await_ready(ends);
	sleep_until(now_ns() + warm_ms * 1000000ull);
	if (at_work[2])
		cpu = run_time();
	start = now_ns();
	sent = shared->sent;
	received = shared->received;
	sleep_until(start + ms * 1000000ull);
	if (at_work[2])
		cpu = run_time() - cpu;
	end = now_ns();
	sent = shared->sent - sent;
	received = shared->received - received;
	shared->stop = true;
	printf("{\"sent\":%llu,\"received\":%llu,\"seconds\":%.6f,\"cpu\":%.6f}\n",
	       (unsigned long long)sent, (unsigned long long)received,
	       (end - start) / 1e9, cpu / 1e9);
	fflush(stdout);
}

static void run_setup(const struct end *from, const struct end *to, int count,
		      bool keep)
{
	uint64_t *took = calloc(count, sizeof(*took)), start = 0;
	int listener = -1, here, n;

	here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (to->listens) {
		enter(to);
		listener = start_listen(to);
	}
	for (n = 0; n < count; n++) {
		int a, b = -1;

		if (!n)
			start = now_ns();
		enter(from);
		a = open_stream(from, 0);
		if (!to->listens) {
			enter(to);
			b = open_connection(to, 0);
		}
		took[n] = now_ns();
		start_connect(from, a, 0);
		await_connected(a);
		if (to->listens)
			b = accept_one(listener);
		else
			await_connected(b);
		took[n] = now_ns() - took[n];
		if (keep)
			continue;
		reset(a);
		reset(b);
	}
	start = now_ns() - start;
	setns(here, CLONE_NEWNET);
	qsort(took, count, sizeof(*took), compare);
	printf("{\"median\":%.3f,\"perSecond\":%.1f}\n", took[count / 2] / 1e3,
	       count * 1e9 / start);
	fflush(stdout);
	while (keep && read(0, buffer, CHUNK_BYTES) > 0)
		;
}

/* All through the same ports of the relay, from ports of their own. */
static void run_burst(const struct end *from, const struct end *to, int count)
{
	int *a = calloc(count, sizeof(*a)), *b = calloc(count, sizeof(*b));
	int listener = -1, here, n, first = 0;
	uint64_t start;

	here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	enter(from);
	for (n = 0; n < count; n++)
		a[n] = open_stream(from, 0);
	enter(to);
	if (to->listens)
		listener = start_listen(to);
	for (n = 0; !to->listens && n < count; n++)
		b[n] = open_stream(to, 0);
	setns(here, CLONE_NEWNET);
	start = now_ns();
	while (first < count) {
		int next = first + MOST_OPENING < count ? first + MOST_OPENING :
							   count;

		for (n = first; n < next; n++) {
			if (!to->listens)
				start_connect(to, b[n], 0);
			start_connect(from, a[n], 0);
		}
		for (n = first; n < next; n++) {
			await_connected(a[n]);
			if (to->listens)
				b[n] = accept_one(listener);
			else
				await_connected(b[n]);
		}
		first = next;
	}
	start = now_ns() - start;
	printf("{\"perSecond\":%.1f}\n", count * 1e9 / start);
	fflush(stdout);
	for (n = 0; n < count; n++) {
		reset(a[n]);
		reset(b[n]);
	}
}

/* Does not leave the CPU that was named, and goes before others there. */
static void pin(void)
{
	const char *cpu = getenv("LOAD_CPU");
	cpu_set_t cpus;

	if (!cpu)
		return;
	CPU_ZERO(&cpus);
	CPU_SET(atoi(cpu), &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) ||
	    setpriority(PRIO_PROCESS, 0, NICE))
		die("LOAD_CPU");
}

/*
 * One end of a run is a process, which does not outlive this one. It does not
 * take the CPU from the other end at each packet: that would measure how often
 * the scheduler changes its mind.
 */
static bool is_child(void)
{
	struct sched_param none = {};
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		sched_setscheduler(0, SCHED_BATCH, &none);
		pin();
	}
	return !pid;
}

/* Waits for both. @return 1 when one failed, and ends the other */
static int await_children(void)
{
	int status, failed = 0;

	while (wait(&status) > 0) {
		if (!WIFEXITED(status) || WEXITSTATUS(status)) {
			failed = 1;
			shared->stop = true;
		}
	}
	return failed;
}

/* Whoever waits for an end that failed would wait for ever. */
static void on_child(int signal)
{
	siginfo_t child = {};

	(void)signal;
	if (!waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT) &&
	    child.si_pid &&
	    (child.si_code != CLD_EXITED || child.si_status))
		_exit(1);
}

int main(int argc, char **argv)
{
	struct rlimit files = { MOST_FILES, MOST_FILES };
	struct end from = {}, to = {};
	const char *what = argc > 4 ? argv[1] : "";
	int number[3] = {};

	if (argc < 5) {
		fprintf(stderr, "load: see the top of load.c\n");
		return 2;
	}
	setrlimit(RLIMIT_NOFILE, &files);
	parse_end(argv[2], &from);
	parse_end(argv[3], &to);
	for (int i = 0; i < 3 && i + 4 < argc; i++)
		number[i] = atoi(argv[i + 4]);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memset(buffer, LOAD, CHUNK_BYTES);
	srandom(getpid());
	if (getenv("LOAD_RELAY")) {
		note_namespace(0, from.namespace);
		note_namespace(1, to.namespace);
		note_namespace(2, getenv("LOAD_RELAY"));
	}

	if (!strcmp(what, "setup")) {
		pin();
		run_setup(&from, &to, number[0],
			  argc > 5 && !strcmp(argv[5], "keep"));
		return 0;
	}
	if (!strcmp(what, "burst")) {
		pin();
		run_burst(&from, &to, number[0]);
		return 0;
	}
	signal(SIGCHLD, on_child);
	if (!strcmp(what, "tcp")) {
		if (is_child())
			run_tcp_end(&to, number[0], false);
		if (is_child())
			run_tcp_end(&from, number[0], true);
		measure(3, number[1], number[2]);
	} else if (!strcmp(what, "rtt")) {
		if (is_child())
			run_echo(&to);
		if (is_child())
			run_rtt(&from, number[0], number[1]);
	} else if (!strcmp(what, "packets")) {
		if (is_child())
			run_sink(&to);
		if (is_child())
			run_packets(&from, number[0]);
		measure(1, number[1], number[2]);
	} else if (!strcmp(what, "rate")) {
		if (is_child())
			run_sink(&to);
		if (is_child())
			run_rate(&from, number[0], atof(argv[5]), number[2]);
	} else {
		fprintf(stderr, "load: what is %s?\n", what);
		return 2;
	}
	return await_children();
}
