/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What natbinder-watch and the daemon say to each other, and what its BPF
 * programs share with it; in the byte order of the host.
 * src/cgroup-watch.ts is the daemon's half.
 */
#ifndef NATBINDER_WATCH_H
#define NATBINDER_WATCH_H

#include <linux/types.h>

enum watch_what {
	/* From here on every bind() is told of. */
	WATCH_READY = 1,
	/* A socket has the port that it asked for. */
	WATCH_BOUND = 2,
	/* So has one that was not told of when it took it. */
	WATCH_FOUND = 3,
	/* A socket that was told of is closed by its last holder. */
	WATCH_CLOSED = 4,
	/* A program saw EADDRINUSE: another host has the port. */
	WATCH_REFUSED = 5,
	/* All that has a port has been told of. */
	WATCH_LISTED = 6,
	/* Some could not be told of, and are looked for now. */
	WATCH_MISSED = 7,
};

struct watch_event {
	__u8 what;
	/* 4 or 6. */
	__u8 family;
	/* IPPROTO_TCP or IPPROTO_UDP. */
	__u8 protocol;
	__u8 v6only;
	__u16 port;
	__u16 reserved;
	/* In the daemon's namespace; 0 for a process that it cannot see. */
	__u32 pid;
	__u32 uid;
	__u64 cookie;
	__u64 program[2];
};

enum watch_command_what {
	/* Another host has the port. */
	WATCH_HOLD = 1,
	/* Or has it no more. */
	WATCH_FREE = 2,
};

struct watch_command {
	__u8 what;
	__u8 protocol;
	__u16 port;
};

/* Of the daemon's rules for programs: the first that fits decides. */
struct watch_rule {
	__u64 program[2];
	__u32 uid;
	__u8 any_program;
	__u8 any_uid;
	__u8 map;
	__u8 reserved;
};

#define WATCH_MOST_RULES 64

#endif
