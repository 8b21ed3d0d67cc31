// SPDX-License-Identifier: Apache-2.0
/*
 * What is decided here is decided on copies: a thread that changes the address
 * after the look gets the address that was looked at, or, where the call is let
 * through, a port that is not mapped. This helps programs; it confines none.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "run.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

#define FIRST_UNPRIVILEGED_PORT 1024

static int int_option(int fd, int level, int option)
{
	int value = 0;
	socklen_t size = sizeof(value);

	return getsockopt(fd, level, option, &value, &size) ? -1 : value;
}

static void set_option(int fd, int level, int option, int value)
{
	(void)setsockopt(fd, level, option, &value, sizeof(value));
}

uint64_t network_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t size = sizeof(cookie);

	/* Kernels before 5.14 do not say. */
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size))
		return 0;
	return cookie;
}

static bool is_any_v6(const struct in6_addr *address)
{
	static const uint8_t mapped_any[16] = { [10] = 0xff, [11] = 0xff };

	return IN6_IS_ADDR_UNSPECIFIED(address) ||
	       !memcmp(address, mapped_any, sizeof(mapped_any));
}

/* The daemon decides by its configuration; this spares it most questions. */
static bool is_relevant(const union address *address, size_t length)
{
	if (length >= sizeof(address->v4) && address->any.sa_family == AF_INET)
		return address->v4.sin_addr.s_addr == htonl(INADDR_ANY) &&
		       ntohs(address->v4.sin_port) >= FIRST_UNPRIVILEGED_PORT;
	if (length >= sizeof(address->v6) && address->any.sa_family == AF_INET6)
		return is_any_v6(&address->v6.sin6_addr) &&
		       ntohs(address->v6.sin6_port) >= FIRST_UNPRIVILEGED_PORT;
	return false;
}

static bool read_address(const struct seccomp_notif *call,
			 struct target *target)
{
	size_t length = (uint32_t)call->data.args[2];
	struct iovec ours = { .iov_base = &target->address };
	struct iovec theirs = {
		.iov_base = (void *)(uintptr_t)call->data.args[1],
	};

	if (length > sizeof(target->address))
		length = sizeof(target->address);
	ours.iov_len = theirs.iov_len = length;
	target->length = (socklen_t)length;
	return process_vm_readv((pid_t)call->pid, &ours, 1, &theirs, 1, 0) ==
		       (ssize_t)length &&
	       is_relevant(&target->address, length);
}

/* A number of a line of /proc/PID/status, or -1. */
static pid_t thread_group(pid_t thread)
{
	char path[40], text[512];
	const char *line;
	ssize_t size;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/status", thread);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	size = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (size < 0)
		return -1;
	text[size] = '\0';
	line = strstr(text, "\nTgid:");
	return line == NULL ? -1 : (pid_t)atoi(line + strlen("\nTgid:"));
}

static void read_name(struct target *target)
{
	char path[40];
	ssize_t size;
	int fd;

	memset(target->program, 0, sizeof(target->program));
	snprintf(path, sizeof(path), "/proc/%d/comm", target->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	size = read(fd, target->program, sizeof(target->program));
	close(fd);
	if (size > 0)
		target->program[size - 1] = '\0';
}

static int duplicate(const struct seccomp_notif *call, pid_t group)
{
	int pidfd = (int)syscall(SYS_pidfd_open, call->pid, PIDFD_THREAD);
	int fd;

	/* From Linux 6.9 on; all threads share their descriptors, mostly. */
	if (pidfd < 0 && errno == EINVAL)
		pidfd = (int)syscall(SYS_pidfd_open, group, 0);
	if (pidfd < 0)
		return -1;
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, (int)call->data.args[0], 0);
	close(pidfd);
	return fd;
}

static bool is_bound(int fd)
{
	union address address = { 0 };
	socklen_t size = sizeof(address);

	if (getsockname(fd, &address.any, &size))
		return true;
	return address.any.sa_family == AF_INET ? address.v4.sin_port != 0 :
						  address.v6.sin6_port != 0;
}

static bool is_sound(const struct target *target, uint64_t network)
{
	int fd = target->fd;
	bool is_tcp = target->type == SOCK_STREAM &&
		      (target->protocol == IPPROTO_TCP ||
		       target->protocol == IPPROTO_MPTCP);
	bool is_udp = target->type == SOCK_DGRAM &&
		      target->protocol == IPPROTO_UDP;

	if ((!is_tcp && !is_udp) ||
	    target->domain != target->address.any.sa_family)
		return false;
	if (target->domain == AF_INET6 &&
	    int_option(fd, IPPROTO_IPV6, IPV6_V6ONLY) != 0)
		return false;
	return !is_bound(fd) && network_of(fd) == network &&
	       int_option(fd, SOL_SOCKET, SO_BINDTOIFINDEX) == 0;
}

bool read_target(int listener, const struct seccomp_notif *call,
		 uint64_t network, struct target *target)
{
	uint64_t id = call->id;

	memset(target, 0, sizeof(*target));
	/* A process that this one cannot see has no number. */
	if (call->pid == 0 || !read_address(call, target))
		return false;
	target->pid = thread_group((pid_t)call->pid);
	if (target->pid <= 0)
		return false;
	target->fd = duplicate(call, target->pid);
	if (target->fd < 0)
		return false;
	target->domain = int_option(target->fd, SOL_SOCKET, SO_DOMAIN);
	target->type = int_option(target->fd, SOL_SOCKET, SO_TYPE);
	target->protocol = int_option(target->fd, SOL_SOCKET, SO_PROTOCOL);
	/* Its number may have been another process' by then. */
	if (!is_sound(target, network) ||
	    ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id)) {
		close(target->fd);
		return false;
	}
	read_name(target);
	return true;
}

int hold_port(const struct target *target)
{
	/* To the others on this host MPTCP and TCP are one. */
	int protocol = target->protocol == IPPROTO_MPTCP ? IPPROTO_TCP :
							   target->protocol;
	int fd = socket(target->domain, target->type | SOCK_CLOEXEC, protocol);
	int code;

	if (fd < 0)
		return -errno;
	set_option(fd, SOL_SOCKET, SO_REUSEADDR,
		   int_option(target->fd, SOL_SOCKET, SO_REUSEADDR) > 0);
	set_option(fd, SOL_SOCKET, SO_REUSEPORT,
		   int_option(target->fd, SOL_SOCKET, SO_REUSEPORT) > 0);
	if (target->domain == AF_INET6)
		set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	if (!bind(fd, &target->address.any, target->length))
		return fd;
	code = errno;
	close(fd);
	return -code;
}

int hand_over(const struct target *target, int holder)
{
	int reuse = int_option(target->fd, SOL_SOCKET, SO_REUSEADDR);
	int code = 0;

	/*
	 * Two that allow it may share a port while neither listens, so that it
	 * is never free in between.
	 */
	set_option(holder, SOL_SOCKET, SO_REUSEADDR, 1);
	if (reuse == 0)
		set_option(target->fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (bind(target->fd, &target->address.any, target->length))
		code = errno;
	close(holder);
	if (reuse == 0)
		set_option(target->fd, SOL_SOCKET, SO_REUSEADDR, 0);
	return -code;
}
