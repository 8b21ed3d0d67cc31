// SPDX-License-Identifier: Apache-2.0
/* Preloaded: a system whose sockets have no room at every other call, and room for one message at the others. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>

int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
	static int (*next)(int fd, struct mmsghdr *messages,
			   unsigned int count, int flags);
	static unsigned int calls;

	if (next == NULL)
		next = dlsym(RTLD_NEXT, "sendmmsg");
	if (calls++ % 2 == 0) {
		errno = EAGAIN;
		return -1;
	}
	return next(fd, messages, count > 1 ? 1 : count, flags);
}
