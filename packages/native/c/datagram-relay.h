/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISTHMUS_DATAGRAM_RELAY_H
#define ISTHMUS_DATAGRAM_RELAY_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pump-account.h"

/*
 * Moves datagrams between the UDP sockets of cells, in threads of its own. A
 * cell has two sides. The first datagram of an expected source makes it its
 * side's source; when both sides have one and the owner agrees, datagrams pass
 * both ways, each as it came. Nothing else is ever sent. Knows nothing of
 * N-API.
 *
 * All calls are one thread's, the owner's. They do not wait for longer than a
 * thread of the relay works on one cell at a time.
 */
struct datagram_relay;

/* Why a datagram was not sent on. */
enum datagram_drop {
	DATAGRAM_STRANGER,	/* its source is not expected */
	DATAGRAM_EARLY,		/* the other side has no source yet */
	DATAGRAM_FOREIGN,	/* another source holds this side */
	DATAGRAM_REFUSED,	/* the owner did not want the two to meet */
	DATAGRAM_RATE,		/* above the account's rate */
	DATAGRAM_UNSENDABLE,	/* the system did not take it */
	DATAGRAM_DROPS,
};

/*
 * What others may read of a cell while it lives, without a lock. All are 0 when
 * the cell is added; bytes when two sources meet, too.
 */
struct datagram_counters {
	_Atomic double bytes[2];	/* sent on, from side 0, from side 1 */
	_Atomic double last_ms;	/* CLOCK_MONOTONIC, when one was sent on */
	_Atomic double heard_ms; /* when the source of a side alone was heard */
	_Atomic double dropped[DATAGRAM_DROPS];
	/* Datagrams that came several at once, and that went so. */
	_Atomic double merged;
	_Atomic double segmented;
	_Atomic double unused[4];
};

/* Cells per block of counters. */
#define DATAGRAM_BLOCK 1024u

enum datagram_event {
	/* A source has taken a side of an empty cell. */
	DATAGRAM_HALF,
	/*
	 * There would be one on both sides: the cell takes nothing from its
	 * sockets until datagram_answer().
	 */
	DATAGRAM_MEETING,
	/* The account's bytes were used up: the cell is empty again. */
	DATAGRAM_BYTE_LIMIT,
};

struct datagram_news {
	uint32_t slot;
	enum datagram_event event;
	int side;			/* of the source */
	struct sockaddr_in6 source;	/* IPv4 as ::ffff:a.b.c.d */
};

/* An IPv4 address as ::ffff:a.b.c.d, or an IPv6 one with its lower half 0. */
struct datagram_source {
	uint8_t bytes[16];
};

/*
 * @wake is called by any thread when there is something in
 * datagram_take_news() and there was nothing before.
 */
struct datagram_relay *datagram_relay_new(unsigned int threads,
					  void (*wake)(void *data), void *data);

/* Closes all cells and waits for the threads' end. */
void datagram_relay_free(struct datagram_relay *relay);

/*
 * A bound UDP socket, with room for @buffer_bytes each way as far as the system
 * allows. Returns a descriptor, or -1 with errno.
 */
int datagram_bind(const struct sockaddr *address, socklen_t size,
		  bool is_v6_only, int buffer_bytes);

/*
 * Makes sure that the next datagram_add() needs no more slots than there are.
 * Returns how many blocks of counters there are, 0 without memory.
 */
uint32_t datagram_reserve(struct datagram_relay *relay);

struct datagram_side {
	const int *fds;		/* of bound sockets */
	size_t fd_count;
	/* As of datagram_expect(). */
	const struct datagram_source *sources;
	size_t source_count;
};

/*
 * A cell. Returns the slot that names it until it is removed, or -1 with errno;
 * the descriptors are the relay's, or the caller's still then.
 */
int64_t datagram_add(struct datagram_relay *relay, struct pump_account *account,
		     const struct datagram_side sides[2]);

/* Who may become the source of a side; whoever is one stays it. */
bool datagram_expect(struct datagram_relay *relay, uint32_t slot, int side,
		     const struct datagram_source *sources, size_t count);

/* Whether the two sources of a meeting may meet; otherwise the second goes. */
void datagram_answer(struct datagram_relay *relay, uint32_t slot,
		     bool may_meet);

/* The cell has no source any more, and no news. */
void datagram_forget(struct datagram_relay *relay, uint32_t slot);

/* Its sockets are closed and its ports are free when this returns. */
void datagram_remove(struct datagram_relay *relay, uint32_t slot);

bool datagram_take_news(struct datagram_relay *relay,
			struct datagram_news *news);

/* Of a whole block, for as long as the relay lives; NULL past the last. */
struct datagram_counters *datagram_block(struct datagram_relay *relay,
					 uint32_t block);

#endif
