// SPDX-License-Identifier: Apache-2.0
/*
 * natbinder containers: the agent of seccomp's notifications that the OCI
 * runtime specification describes. A runtime (runc) hands over the descriptor
 * at which calls of a container wait, with the container's state as JSON; a
 * process of its own answers for each container, as long as that lives.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "run.h"

/* A state has some hundred bytes, and what people add to it. */
#define MOST_STATE 65536
#define PATIENCE_S 5

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "natbinder: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* There is a socket at @path when somebody listens there, and no sooner. */
static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int size = snprintf(address.sun_path, sizeof(address.sun_path),
			    "%s.new", path);
	struct stat stat;
	int fd;

	if (size < 0 || (size_t)size >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		fail(path);
	}
	/* What one that was killed has left may be replaced, and nothing else. */
	if (!lstat(path, &stat) && !S_ISSOCK(stat.st_mode)) {
		errno = EEXIST;
		fail(path);
	}
	unlink(address.sun_path);
	umask(0177);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(fd, 64) || rename(address.sun_path, path))
		fail(path);
	return fd;
}

/* The first descriptor is seccomp's: runtimes pass no other. */
static bool is_of_seccomp(const char *state)
{
	const char *at = strstr(state, "\"fds\"");

	if (at == NULL)
		return false;
	at += strlen("\"fds\"");
	at += strspn(at, " \t\r\n:[");
	return !strncmp(at, "\"seccompFd\"", strlen("\"seccompFd\""));
}

static bool is_listener(int fd)
{
	uint64_t none = 0;

	return ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &none) &&
	       errno == ENOENT;
}

/* Returns the descriptor at which the calls of a container wait, or -1. */
static int receive(int runtime)
{
	static char state[MOST_STATE];
	struct timeval patience = { .tv_sec = PATIENCE_S };
	ssize_t size;
	int fd;

	setsockopt(runtime, SOL_SOCKET, SO_RCVTIMEO, &patience,
		   sizeof(patience));
	size = receive_with(runtime, state, sizeof(state) - 1, &fd);
	close(runtime);
	if (size > 0 && fd >= 0 && is_of_seccomp(state) && is_listener(fd))
		return fd;
	fputs("natbinder: what came was no container\n", stderr);
	if (fd >= 0)
		close(fd);
	return -1;
}

void serve_containers(const char *path, const char *socket,
		      unsigned int wait_ms)
{
	int door = listen_at(path);

	/* Nobody waits for those that answer for containers. */
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int runtime = accept4(door, NULL, NULL, SOCK_CLOEXEC);
		int listener;

		if (runtime < 0) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			fail(path);
		}
		/* Without it bind() fails in the container, with ENOSYS. */
		if (fork() == 0) {
			close(door);
			listener = receive(runtime);
			if (listener >= 0)
				answer_for(listener, socket, wait_ms);
			_exit(1);
		}
		close(runtime);
	}
}
