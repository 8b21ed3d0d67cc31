// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * storm PROCESSES SECONDS FROM TO [PER_SECOND]: that many processes bind ports
 * of the range, of TCP, UDP and MPTCP over IPv4 and IPv6, and close them again,
 * some of them by being killed; all together PER_SECOND times, or as fast as
 * they can. Prints how many came to what, and the longest bind:
 * "done 123 taken 4 longest 501.2"; other errors end it with status 1.
 */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MPTCP 262
#define US_PER_S 1000000

static struct {
	atomic_ulong done, taken, longest_us;
	atomic_int error;
} *shared;

static unsigned long now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000UL + now.tv_nsec / 1000;
}

static void bind_one(unsigned int turn, unsigned short port)
{
	static const int kinds[][2] = {
		{ SOCK_STREAM, 0 }, { SOCK_DGRAM, 0 }, { SOCK_STREAM, MPTCP }
	};
	const int *kind = kinds[turn % 3];
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	int is_v6 = turn / 3 % 2;
	int fd = socket(is_v6 ? AF_INET6 : AF_INET, kind[0], kind[1]);
	unsigned long started = now_us(), took, longest;
	int one = 1, err;

	if (turn / 6 % 2)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	v4.sin_port = v6.sin6_port = htons(port);
	err = is_v6 ? bind(fd, (struct sockaddr *)&v6, sizeof(v6)) :
		      bind(fd, (struct sockaddr *)&v4, sizeof(v4));
	took = now_us() - started;
	longest = shared->longest_us;
	while (took > longest &&
	       !atomic_compare_exchange_weak(&shared->longest_us, &longest,
					     took))
		;
	if (!err)
		shared->done++;
	else if (errno == EADDRINUSE)
		shared->taken++;
	else
		shared->error = errno;
	if (!err && kind[0] == SOCK_STREAM && turn % 5 == 0)
		listen(fd, 1);
	if (turn % 50 == 49 && fork() == 0)
		raise(SIGKILL);
	close(fd);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

int main(int argc, char **argv)
{
	unsigned int processes, from, to, per_second, n;
	unsigned long end;

	if (argc < 5)
		return 2;
	processes = atoi(argv[1]);
	end = now_us() + atoi(argv[2]) * 1000000UL;
	from = atoi(argv[3]);
	to = atoi(argv[4]);
	per_second = argc > 5 ? atoi(argv[5]) : 0;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (n = 0; n < processes; n++) {
		unsigned int turn = n * 7, seed = n;
		unsigned long next = now_us();

		if (fork())
			continue;
		while (now_us() < end) {
			bind_one(turn++, from + rand_r(&seed) % (to - from + 1));
			next += per_second ? US_PER_S * processes / per_second :
					     0;
			if (next > now_us())
				usleep(next - now_us());
		}
		_exit(0);
	}
	while (wait(NULL) > 0)
		;
	printf("done %lu taken %lu longest %.1f\n", shared->done, shared->taken,
	       shared->longest_us / 1e3);
	if (shared->error)
		fprintf(stderr, "storm: %s\n", strerror(shared->error));
	return shared->error != 0;
}
