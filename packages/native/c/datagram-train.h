/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISTHMUS_DATAGRAM_TRAIN_H
#define ISTHMUS_DATAGRAM_TRAIN_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/uio.h>

/*
 * Datagrams to one address, collected and sent with few calls: neighbours of
 * one size (the last may be shorter) go as one train that the kernel cuts
 * (UDP_SEGMENT), where it does, and each by itself otherwise.
 */

/* Trains and pieces of memory that are collected before they must be sent. */
#define MOST_TRAINS 64
#define MOST_PIECES 128

union datagram_address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/*
 * How large datagrams may be to go in trains: the kernel refuses what it would
 * have to fragment, and some devices cannot sum the parts.
 */
struct train_limit {
	size_t too_large;	/* this size and above */
	double until_ms;	/* then it is tried again */
};

void train_limit_init(struct train_limit *limit);

struct train_target {
	int fd;
	const union datagram_address *to;
	socklen_t to_size;
	struct train_limit *limit;
};

struct train {
	unsigned int first_piece;
	unsigned int pieces;
	unsigned int datagrams;
	size_t bytes;
	size_t segment;
	bool is_whole;		/* nothing can follow */
};

struct trains {
	struct train trains[MOST_TRAINS];
	unsigned int count;
	struct iovec pieces[MOST_PIECES];
	unsigned int piece_count;
};

/* Datagrams that were not taken, copied. */
struct held {
	struct held *next;
	size_t length;
	size_t segment;
	char bytes[];
};

struct train_result {
	size_t segmented;	/* went in trains of more than one */
	size_t unsendable;	/* the system refused them */
};

/*
 * Adds datagrams of @segment bytes each that lie one after the other, the last
 * maybe shorter; 0 bytes are one empty datagram. Returns false when there is no
 * room: @bytes and @length are what is left then, for after trains_send().
 */
bool trains_add(struct trains *trains, const struct train_limit *limit,
		const char **bytes, size_t *length, size_t segment);

/*
 * Sends all, in order, and is empty then. What the socket has no room for is
 * appended to @held, and so is everything when there is something already.
 */
void trains_send(struct trains *trains, const struct train_target *target,
		 struct train_result *result, struct held **held);

/*
 * Bytes of each datagram in what was received, which the kernel may have merged
 * (UDP_GRO); the last may be shorter.
 */
size_t train_segment(const struct mmsghdr *received);

/* Appends a copy. Returns false without memory. */
bool held_add(struct held **held, const char *bytes, size_t length,
	      size_t segment);

void held_free(struct held **held);

#endif
