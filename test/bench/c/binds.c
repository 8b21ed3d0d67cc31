// SPDX-License-Identifier: Apache-2.0
/*
 * binds ADDRESS PORT COUNT PAUSE_US: what bind() takes, of new UDP sockets to
 * one port after the other, in nanoseconds: one line with the median and the
 * 99th percentile.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Ports that are used in turn. */
#define PORTS 1000

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
	int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

	return (left > right) - (left < right);
}

static int64_t bind_once(const struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int64_t started = now_ns(), taken;

	if (bind(fd, (const struct sockaddr *)address, sizeof(*address))) {
		fprintf(stderr, "port %d: %s\n", ntohs(address->sin_port),
			strerror(errno));
		exit(1);
	}
	taken = now_ns() - started;
	close(fd);
	return taken;
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	int first, count, pause_us;
	int64_t *taken;

	if (argc != 5 || inet_pton(AF_INET, argv[1], &address.sin_addr) != 1)
		return 2;
	first = atoi(argv[2]);
	count = atoi(argv[3]);
	pause_us = atoi(argv[4]);
	taken = calloc((size_t)count, sizeof(*taken));
	for (int i = 0; i < count; i++) {
		address.sin_port = htons((uint16_t)(first + i % PORTS));
		taken[i] = bind_once(&address);
		if (pause_us > 0)
			usleep((useconds_t)pause_us);
	}
	qsort(taken, (size_t)count, sizeof(*taken), ascending);
	printf("%lld %lld\n", (long long)taken[count / 2],
	       (long long)taken[count * 99 / 100]);
	return 0;
}
