// SPDX-License-Identifier: Apache-2.0
/*
 * delay - a cable with a length: joins two TAP devices, one in each of two network namespaces, and hands every frame
 * over after a one-way delay. For kernels without netem, and, as it is a process, in any namespace.
 *
 *   delay NETNS_A DEVICE_A NETNS_B DEVICE_B SEED
 *
 * The devices are made by this process and vanish with it. It writes "ready", then answers each line of its standard
 * input with one line, and ends with its standard input:
 *
 *   set ab DELAY_US LOSS_PPM RATE_KBIT QUEUE_BYTES   direction a to b; 0 is no loss, no limit of rate
 *   set ba ...
 *   stats                                            one JSON object
 *
 * Frames stay in order. They carry no offloads, so a lost frame is one packet of the wire.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000ull

/* An Ethernet frame of MTU 1500, with room for a VLAN tag. */
#define FRAME_MAX 1522

/* Frames in flight per direction: 0.8 s at 1 Gbit/s. Memory is touched only as far as a queue really grows. */
#define SLOTS 65536

/* Frames read from one device before the other gets its turn. */
#define BURST 256

struct slot {
	uint64_t release; /* ns, CLOCK_MONOTONIC */
	uint16_t length;
	uint8_t frame[FRAME_MAX];
};

struct direction {
	int from, to; /* TAP file descriptors */
	struct slot *slots;
	uint32_t head, tail; /* slots[head] leaves next; both 0 when empty */

	uint64_t delay; /* ns */
	uint32_t loss; /* of a million */
	uint64_t rate; /* bit/s, 0 is unlimited */
	uint64_t queue; /* bytes that may wait for the rate */

	uint64_t busy_until; /* when the limited line has sent all it was given */
	uint64_t newest_release; /* a shorter delay must not overtake */
	uint64_t random;

	uint64_t passed, bytes, lost, overflowed, refused;
};

static struct direction ab, ba;

static void die(const char *what)
{
	fprintf(stderr, "delay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * NS_PER_S + time.tv_nsec;
}

/* splitmix64: the same seed loses the same frames. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* A TAP device belongs to the namespace its file was opened in. */
static int open_tap(const char *netns, const char *device)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	char path[256];
	int namespace, tap;

	snprintf(path, sizeof(path), "/run/netns/%s", netns);
	namespace = open(path, O_RDONLY | O_CLOEXEC);
	if (namespace < 0)
		die(path);
	if (setns(namespace, CLONE_NEWNET))
		die("setns");
	close(namespace);
	tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (tap < 0)
		die("/dev/net/tun");
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", device);
	if (ioctl(tap, TUNSETIFF, &request))
		die(device);
	return tap;
}

static void start_direction(struct direction *d, int from, int to, uint64_t seed)
{
	d->from = from;
	d->to = to;
	d->random = seed;
	d->slots = malloc(SLOTS * sizeof(*d->slots));
	if (!d->slots)
		die("memory");
}

/* Reads one frame into the queue. False when the device has none. */
static bool take(struct direction *d, uint64_t now)
{
	struct slot *slot = &d->slots[d->tail % SLOTS];
	bool full = d->tail - d->head == SLOTS;
	uint8_t discarded[FRAME_MAX];
	ssize_t length = read(d->from, full ? discarded : slot->frame, FRAME_MAX);
	uint64_t sent = now;

	if (length < 0) {
		/* EIO: the device is down. EBADFD: its namespace is gone, and so is the use of this process. */
		if (errno == EBADFD)
			exit(0);
		return false;
	}
	if (d->loss && next_random(&d->random) % 1000000 < d->loss) {
		d->lost++;
		return true;
	}
	if (full) {
		d->overflowed++;
		return true;
	}
	if (d->rate) {
		uint64_t start = d->busy_until > now ? d->busy_until : now;

		if ((start - now) * d->rate / 8 / NS_PER_S > d->queue) {
			d->overflowed++;
			return true;
		}
		sent = d->busy_until = start + length * 8 * NS_PER_S / d->rate;
	}
	slot->length = length;
	slot->release = sent + d->delay;
	if (slot->release < d->newest_release)
		slot->release = d->newest_release;
	d->newest_release = slot->release;
	d->tail++;
	return true;
}

/* Hands over what is due. Returns when the next frame is, or 0 with an empty queue. */
static uint64_t deliver(struct direction *d)
{
	while (d->head != d->tail) {
		struct slot *slot = &d->slots[d->head % SLOTS];

		if (slot->release > now_ns())
			return slot->release;
		if (write(d->to, slot->frame, slot->length) == slot->length) {
			d->passed++;
			d->bytes += slot->length;
		} else {
			d->refused++; /* the device is down */
		}
		d->head++;
	}
	d->head = d->tail = 0;
	return 0;
}

static void print_direction(const char *name, const struct direction *d, const char *end)
{
	printf("\"%s\":{\"passed\":%lu,\"bytes\":%lu,\"lost\":%lu,\"overflowed\":%lu,\"refused\":%lu}%s", name, d->passed,
	       d->bytes, d->lost, d->overflowed, d->refused, end);
}

static void obey(const char *line)
{
	uint64_t delay_us, rate_kbit, queue;
	uint32_t loss;
	char name[3];

	if (!strcmp(line, "stats")) {
		printf("{");
		print_direction("ab", &ab, ",");
		print_direction("ba", &ba, "}\n");
		return;
	}
	if (sscanf(line, "set %2s %lu %u %lu %lu", name, &delay_us, &loss, &rate_kbit, &queue) == 5) {
		struct direction *d = !strcmp(name, "ab") ? &ab : &ba;

		d->delay = delay_us * 1000;
		d->loss = loss;
		d->rate = rate_kbit * 1000;
		d->queue = queue;
		d->busy_until = 0;
		printf("ok\n");
		return;
	}
	printf("error: %s\n", line);
}

/* Obeys each whole line of standard input. */
static void read_orders(void)
{
	static char text[4096];
	static size_t used;
	ssize_t length = read(STDIN_FILENO, text + used, sizeof(text) - used - 1);
	char *line = text, *end;

	if (length == 0 || (length < 0 && errno != EAGAIN))
		exit(0);
	if (length < 0)
		return;
	used += length;
	text[used] = '\0';
	while ((end = strchr(line, '\n'))) {
		*end = '\0';
		obey(line);
		line = end + 1;
	}
	used -= line - text;
	memmove(text, line, used);
	if (used == sizeof(text) - 1)
		exit(1);
}

static void watch(int epoll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		die("epoll");
}

int main(int argc, char **argv)
{
	struct sched_param priority = { .sched_priority = 1 };
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	int a, b;

	if (argc != 6) {
		fprintf(stderr, "usage: delay NETNS_A DEVICE_A NETNS_B DEVICE_B SEED\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	a = open_tap(argv[1], argv[2]);
	b = open_tap(argv[3], argv[4]);
	start_direction(&ab, a, b, strtoull(argv[5], NULL, 10));
	start_direction(&ba, b, a, ~strtoull(argv[5], NULL, 10));
	watch(epoll, STDIN_FILENO);
	watch(epoll, a);
	watch(epoll, b);

	/* Precision on a busy machine. Where a control group forbids it, the delay is only less exact. */
	sched_setscheduler(0, SCHED_FIFO, &priority);
	prctl(PR_SET_TIMERSLACK, 1);
	printf("ready\n");

	for (;;) {
		uint64_t next_ab = deliver(&ab), next_ba = deliver(&ba), now = now_ns();
		uint64_t next = next_ab && (!next_ba || next_ab < next_ba) ? next_ab : next_ba;
		uint64_t wait = next > now ? next - now : 0;
		struct timespec timeout = { .tv_sec = wait / NS_PER_S, .tv_nsec = wait % NS_PER_S };
		struct epoll_event events[3];
		int count = epoll_pwait2(epoll, events, 3, next ? &timeout : NULL, NULL);

		if (count < 0 && errno != EINTR)
			die("epoll");
		for (int i = 0; i < count; i++) {
			struct direction *d = events[i].data.fd == a ? &ab : &ba;

			if (events[i].data.fd == STDIN_FILENO) {
				read_orders();
				continue;
			}
			now = now_ns();
			for (int taken = 0; taken < BURST && take(d, now); taken++)
				;
		}
	}
}
