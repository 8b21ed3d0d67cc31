// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "slots.h"

#include <stdlib.h>

void slots_init(struct slots *slots, uint32_t per_block, size_t counters_bytes)
{
	*slots = (struct slots){
		.per_block = per_block,
		.counters_bytes = counters_bytes,
	};
}

void slots_destroy(struct slots *slots)
{
	for (uint32_t block = 0; block < slots_blocks(slots); block++)
		free(slots->blocks[block]);
	free(slots->blocks);
	free(slots->things);
	free(slots->free);
}

static bool grow(void ***array, uint32_t count)
{
	void **larger = reallocarray(*array, count, sizeof(*larger));

	if (larger == NULL)
		return false;
	*array = larger;
	return true;
}

static bool add_block(struct slots *slots)
{
	uint32_t count = slots->count + slots->per_block;
	uint32_t blocks = count / slots->per_block;
	uint32_t *numbers;
	void *block;

	if (!grow(&slots->things, count) || !grow(&slots->blocks, blocks))
		return false;
	numbers = reallocarray(slots->free, count, sizeof(*numbers));
	if (numbers == NULL)
		return false;
	slots->free = numbers;
	block = calloc(slots->per_block, slots->counters_bytes);
	if (block == NULL)
		return false;
	slots->blocks[blocks - 1] = block;
	for (uint32_t slot = count; slot > slots->count; slot--) {
		slots->things[slot - 1] = NULL;
		slots->free[slots->free_count++] = slot - 1;
	}
	slots->count = count;
	return true;
}

bool slots_reserve(struct slots *slots)
{
	return slots->free_count > 0 || add_block(slots);
}

uint32_t slots_take(struct slots *slots)
{
	return slots->free[--slots->free_count];
}

void slots_give(struct slots *slots, uint32_t slot)
{
	slots->free[slots->free_count++] = slot;
}

void *slots_thing(const struct slots *slots, uint32_t slot)
{
	return slot < slots->count ? slots->things[slot] : NULL;
}

void *slots_counters(const struct slots *slots, uint32_t slot)
{
	char *block = slots->blocks[slot / slots->per_block];

	return block + slot % slots->per_block * slots->counters_bytes;
}

uint32_t slots_blocks(const struct slots *slots)
{
	return slots->count / slots->per_block;
}

void *slots_block(const struct slots *slots, uint32_t block)
{
	return block < slots_blocks(slots) ? slots->blocks[block] : NULL;
}
