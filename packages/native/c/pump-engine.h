/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISTHMUS_PUMP_ENGINE_H
#define ISTHMUS_PUMP_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "leg-records.h"
#include "pump-account.h"

/*
 * Joins pairs of connected TCP sockets and moves their bytes, in threads of
 * its own. A FIN passes in its own direction only; whatever else ends one
 * socket ends the other with RST. Where one of the two carries sealed records
 * the sealed end stands for the FIN, and a FIN without it ends both with RST.
 * Knows nothing of N-API.
 */
struct pump;

enum pump_end {
	PUMP_FINISHED,		/* FIN both ways */
	PUMP_RESET_BY_0,	/* side 0 ended otherwise */
	PUMP_RESET_BY_1,
	PUMP_BYTE_LIMIT,
	PUMP_TOLD,		/* pump_end() */
	PUMP_BAD_RECORD,	/* side 1 sent what is none of its records */
};

/*
 * What others may read of a join while it lives, without a lock: each is
 * written by one thread alone, whole.
 */
struct pump_counters {
	double bytes[2];	/* from side 0, from side 1 */
	double last_ms;		/* CLOCK_MONOTONIC, when something moved */
	double unused;
};

struct pump_ended {
	uint32_t slot;
	uint32_t end;
};

/* Joins per block of counters. */
#define PUMP_BLOCK 4096u

/*
 * @wake is called by a thread of the pump when there is something in
 * pump_take_ended() and there was nothing before.
 */
struct pump *pump_new(unsigned int threads, void (*wake)(void *data),
		      void *data);

/* Resets all joins and waits for the threads' end. */
void pump_free(struct pump *pump);

/* Resets all joins at once; when it returns, none moves a byte any more. */
void pump_reset_all(struct pump *pump);

struct pump_leg {
	int fd;			/* the pump's own from now on */
	const void *early;	/* was read from it already */
	size_t early_bytes;
};

/*
 * Makes sure that the next pump_join() needs no more slots than there are.
 * Returns how many blocks of counters there are, 0 without memory.
 */
uint32_t pump_reserve(struct pump *pump);

/*
 * @sealed: side 1 carries sealed records from here on, what was read from it
 * early included; copied. NULL: both sides are clear.
 * Returns the slot that names the join until its end was taken, or -1 with
 * errno; the descriptors are the caller's still then.
 */
int64_t pump_join(struct pump *pump, struct pump_account *account,
		  const struct pump_leg legs[2],
		  const struct leg_state *sealed);

/* Resets both sockets. To be called for a slot whose end was not taken. */
void pump_end(struct pump *pump, uint32_t slot);

/* Of a whole block, for as long as the pump lives; NULL past the last. */
struct pump_counters *pump_block(struct pump *pump, uint32_t block);

/* Ends, in the order in which they came. Their slots are free afterwards. */
size_t pump_take_ended(struct pump *pump, struct pump_ended *ended,
		       size_t most);

#endif
