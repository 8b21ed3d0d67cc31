/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISTHMUS_ENGINE_PART_H
#define ISTHMUS_ENGINE_PART_H

#include <node_api.h>
#include <stddef.h>
#include <stdint.h>

#include "functions.h"

/*
 * A part of the add-on that is an engine with threads of its own: JavaScript
 * starts it, is called when there are news, and reads the counters of what it
 * knows by slots where the engine keeps them. The engine ends with the
 * environment.
 */
struct engine_kind {
	/* For tools that show what JavaScript waits for. */
	const char *name;
	/* Calls wake(data) when there are news. NULL with errno. */
	void *(*start)(unsigned int threads, void (*wake)(void *data),
		       void *data);
	void (*stop)(void *engine);
	/* In JavaScript's thread: the function is called with the news. */
	void (*tell)(napi_env env, napi_value function, void *engine);
	/* Makes sure of a free slot; how many blocks there are, 0: ENOMEM. */
	uint32_t (*reserve)(void *engine);
	/* Of counters; NULL past the last. */
	void *(*block)(void *engine, uint32_t block);
	size_t block_bytes;
};

/* The data behind each function of such a part. */
struct engine_part {
	const struct engine_kind *kind;
	/* NULL until it was started. */
	void *engine;
	napi_threadsafe_function tell;
};

/*
 * Makes the object with these functions and those that all such parts have:
 * start(threads, onNews), and what src/threaded-engine.ts says. NULL with an
 * exception pending.
 */
napi_value engine_part_init(napi_env env, const struct engine_kind *kind,
			    const struct addon_function *functions,
			    size_t count);

/*
 * Reads @count arguments, the first of which is a slot. Returns the engine, or
 * NULL with an exception pending.
 */
void *engine_slot_arguments(napi_env env, napi_callback_info info,
			    size_t count, napi_value *values, uint32_t *slot);

#endif
