/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NATBINDER_RUN_H
#define NATBINDER_RUN_H

#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ask.h"

/* Descriptors over Unix sockets (descriptors.c). */

/* Sends @size bytes, and @count descriptors along. Returns 0 or -errno. */
int send_with(int fd, const void *bytes, size_t size, const int *fds,
	      size_t count);
/*
 * Receives @size bytes, and a descriptor if one comes along, else *@passed is
 * -1. Returns the number of bytes, or -errno.
 */
ssize_t receive_with(int fd, void *bytes, size_t size, int *passed);
/* Closes every descriptor from 3 on but the @count of @keep. */
void close_all_but(const int *keep, size_t count);

/* The filter (filter.c). */

/* Another filter may have other calls wait as well. */
bool is_bind(const struct seccomp_data *call);
/*
 * From now on each bind() of this process and of all that it starts waits for
 * a word from whoever has the returned descriptor. Returns -errno: -EBUSY
 * where somebody else is asked already.
 */
int install_filter(void);

/* What a program wants (target.c). */

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* A bind() that is to be mapped, as it was when it was looked at. */
struct target {
	/* A duplicate of the program's socket, which is not bound. */
	int fd;
	union address address;
	socklen_t length;
	int domain, type, protocol;
	/* The process, and its name. */
	pid_t pid;
	char program[16];
};

/*
 * Looks at the bind() that @call is about. Returns true, and a socket to be
 * closed, where it could be one for natbinder: the daemon has the last word.
 * @network is the cookie of the network that the daemon is in.
 */
bool read_target(int listener, const struct seccomp_notif *call,
		 uint64_t network, struct target *target);
uint64_t network_of(int fd);
/* Holds the port as the program will. Returns a socket, or -errno. */
int hold_port(const struct target *target);
/* Gives the port to the program's socket; takes @holder. Returns 0 or -errno */
int hand_over(const struct target *target, int holder);

/* The daemon (daemon.c). */

/* Returns a connected socket, or -errno. @path may be NULL: looks for one. */
int connect_daemon(const char *path);

/* The supervisor (supervise.c). */

/* What the supervisor tells the launcher. */
struct program_event {
	enum { PROGRAM_STARTED, PROGRAM_STOPPED, PROGRAM_ENDED } what;
	/* As of wait(2). */
	int status;
};

/*
 * Runs @command under the filter and answers for natbinder until nobody is
 * left who could ask. @launcher is told of the program's start (its pidfd
 * comes along), stops and end.
 */
_Noreturn void supervise(int launcher, const char *socket, unsigned int wait_ms,
			 char **command, const void *signal_mask);
/* The same for programs that somebody else has started: of a container. */
_Noreturn void answer_for(int listener, const char *socket,
			  unsigned int wait_ms);

/* Containers (containers.c). */

/* Answers for the containers whose runtimes call at the Unix socket @path. */
_Noreturn void serve_containers(const char *path, const char *socket,
				unsigned int wait_ms);

#endif
