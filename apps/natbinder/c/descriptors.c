// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "run.h"

#define MOST_DESCRIPTORS 2

int send_with(int fd, const void *bytes, size_t size, const int *fds,
	      size_t count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(MOST_DESCRIPTORS * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)bytes, .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t sent;

	if (count > 0) {
		struct cmsghdr *part;

		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
		part = CMSG_FIRSTHDR(&msg);
		part->cmsg_level = SOL_SOCKET;
		part->cmsg_type = SCM_RIGHTS;
		part->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(part), fds, count * sizeof(int));
	}
	do
		sent = sendmsg(fd, &msg, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0;
}

ssize_t receive_with(int fd, void *bytes, size_t size, int *passed)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = bytes, .iov_len = size };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *part;
	ssize_t got;

	do
		got = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	*passed = -1;
	if (got < 0)
		return -errno;
	part = CMSG_FIRSTHDR(&msg);
	if (part != NULL && part->cmsg_level == SOL_SOCKET &&
	    part->cmsg_type == SCM_RIGHTS &&
	    part->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(passed, CMSG_DATA(part), sizeof(int));
	return got;
}

static int ascending(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

void close_all_but(const int *keep, size_t count)
{
	int sorted[4];
	unsigned int next = 3;

	memcpy(sorted, keep, count * sizeof(int));
	qsort(sorted, count, sizeof(int), ascending);
	for (size_t i = 0; i < count; i++) {
		unsigned int kept = (unsigned int)sorted[i];

		if (kept > next)
			syscall(SYS_close_range, next, kept - 1, 0);
		next = kept + 1;
	}
	syscall(SYS_close_range, next, ~0U, 0);
}
