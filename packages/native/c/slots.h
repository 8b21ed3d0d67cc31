/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISTHMUS_SLOTS_H
#define ISTHMUS_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The numbers by which an engine and its owner name things, and counters of
 * each. Counters lie in blocks that stay where they are: others may read them
 * while more slots are made. All else is to be called under a lock, or by one
 * thread.
 */
struct slots {
	uint32_t per_block;
	size_t counters_bytes;
	uint32_t count;
	/* By slot: the engine's own, NULL at first; stays when it is free. */
	void **things;
	void **blocks;
	uint32_t *free;
	uint32_t free_count;
};

/* @counters_bytes: of one slot */
void slots_init(struct slots *slots, uint32_t per_block,
		size_t counters_bytes);

/* Does not free the things. */
void slots_destroy(struct slots *slots);

/* Makes sure that one is free. Returns false without memory. */
bool slots_reserve(struct slots *slots);

/* One that was reserved: what was given back last, or the lowest. */
uint32_t slots_take(struct slots *slots);

void slots_give(struct slots *slots, uint32_t slot);

/* NULL past the last. */
void *slots_thing(const struct slots *slots, uint32_t slot);

void *slots_counters(const struct slots *slots, uint32_t slot);

uint32_t slots_blocks(const struct slots *slots);

/* The counters of a whole block; NULL past the last. */
void *slots_block(const struct slots *slots, uint32_t block);

#endif
