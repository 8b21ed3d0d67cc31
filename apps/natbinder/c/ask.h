/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is said at natbinder's Unix socket (SOCK_SEQPACKET), in the byte order
 * of the host. packages/protocol/src/natbinder-ask.ts is the other half.
 */
#ifndef NATBINDER_ASK_H
#define NATBINDER_ASK_H

#include <stdint.h>

#define ASK_VERSION 1

enum ask_what {
	/*
	 * Along come the socket that holds the port, and the one that will have
	 * it where that is another.
	 */
	ASK_BIND = 1,
	/* Along comes a socket that was to have a port and has none. */
	ASK_RELEASE = 2,
	/*
	 * Does natbinder see the binds of this process by itself? No socket
	 * comes along; ASK_SUCCEEDED is yes.
	 */
	ASK_COVER = 3,
};

enum ask_answer {
	/* The program goes on as if there were no gateway. */
	ASK_IGNORED = 0,
	ASK_SUCCEEDED = 1,
	/* The program is to see EADDRINUSE. */
	ASK_FAILED = 2,
};

struct ask_request {
	uint8_t version;
	uint8_t what;
	uint16_t reserved;
	/* Comes back in the answer. */
	uint32_t number;
	/* Of the program, for people. */
	uint32_t pid;
	char program[16];
};

struct ask_reply {
	uint8_t version;
	uint8_t answer;
	uint16_t reserved;
	uint32_t number;
};

#endif
