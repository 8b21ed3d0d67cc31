// SPDX-License-Identifier: Apache-2.0
#include "engine-part.h"

#include <errno.h>
#include <stdlib.h>

#include "pump-account.h"

#define MOST_THREADS 256u

static void call_js(napi_env env, napi_value function, void *context,
		    void *data)
{
	struct engine_part *part = context;

	(void)data;
	/* Both are missing when the environment is about to end. */
	if (env != NULL && function != NULL && part->engine != NULL)
		part->kind->tell(env, function, part->engine);
}

/* In a thread of the engine, or in JavaScript's. */
static void wake(void *data)
{
	struct engine_part *part = data;

	napi_call_threadsafe_function(part->tell, NULL, napi_tsfn_nonblocking);
}

static napi_value start(napi_env env, napi_callback_info info)
{
	napi_value values[2], name;
	struct engine_part *part = addon_arguments(env, info, 2, values);
	uint32_t threads;

	if (part == NULL)
		return NULL;
	if (part->engine != NULL)
		return addon_fail(env, "it was started already");
	if (napi_get_value_uint32(env, values[0], &threads) != napi_ok ||
	    threads < 1 || threads > MOST_THREADS)
		return addon_fail(env, "threads: 1 to 256");
	if (napi_create_string_utf8(env, part->kind->name, NAPI_AUTO_LENGTH,
				    &name) != napi_ok ||
	    napi_create_threadsafe_function(env, values[1], NULL, name, 0, 1,
					    NULL, NULL, part, call_js,
					    &part->tell) != napi_ok)
		return addon_fail(env, "the callback is not a function");
	/* A process does not live for its engines' sake. */
	napi_unref_threadsafe_function(env, part->tell);
	part->engine = part->kind->start(threads, wake, part);
	if (part->engine == NULL) {
		int error = errno;

		napi_release_threadsafe_function(part->tell, napi_tsfn_abort);
		return addon_fail_with(env, error);
	}
	return NULL;
}

void *engine_slot_arguments(napi_env env, napi_callback_info info,
			    size_t count, napi_value *values, uint32_t *slot)
{
	struct engine_part *part = addon_arguments(env, info, count, values);

	if (part == NULL)
		return NULL;
	if (part->engine == NULL ||
	    napi_get_value_uint32(env, values[0], slot) != napi_ok) {
		addon_fail(env, "a slot of what was started");
		return NULL;
	}
	return part->engine;
}

static napi_value reserve(napi_env env, napi_callback_info info)
{
	struct engine_part *part = addon_arguments(env, info, 0, NULL);
	uint32_t blocks;

	if (part == NULL)
		return NULL;
	if (part->engine == NULL)
		return addon_fail(env, "it was not started");
	blocks = part->kind->reserve(part->engine);
	return blocks > 0 ? addon_number(env, blocks) :
			    addon_fail_with(env, ENOMEM);
}

static napi_value counters(napi_env env, napi_callback_info info)
{
	napi_value values[1], result;
	struct engine_part *part = addon_arguments(env, info, 1, values);
	uint32_t wanted;
	void *block;

	if (part == NULL)
		return NULL;
	if (part->engine == NULL ||
	    napi_get_value_uint32(env, values[0], &wanted) != napi_ok)
		return addon_fail(env, "a block of what was started");
	block = part->kind->block(part->engine, wanted);
	if (block == NULL)
		return addon_fail(env, "there is no such block");
	if (napi_create_external_arraybuffer(env, block,
					     part->kind->block_bytes, NULL,
					     NULL, &result) != napi_ok)
		return addon_fail(env, "cannot show the counters");
	return result;
}

static napi_value now(napi_env env, napi_callback_info info)
{
	(void)info;
	return addon_number(env, pump_now_ms());
}

static void cleanup(void *data)
{
	struct engine_part *part = data;
	void *engine = part->engine;

	part->engine = NULL;
	if (engine != NULL)
		part->kind->stop(engine);
	free(part);
}

napi_value engine_part_init(napi_env env, const struct engine_kind *kind,
			    const struct addon_function *functions,
			    size_t count)
{
	static const struct addon_function of_all[] = {
		{ "start", start },
		{ "reserve", reserve },
		{ "counters", counters },
		{ "now", now },
	};
	struct engine_part *part = calloc(1, sizeof(*part));
	napi_value object;

	if (part == NULL)
		return addon_fail(env, "out of memory");
	part->kind = kind;
	if (napi_add_env_cleanup_hook(env, cleanup, part) != napi_ok) {
		free(part);
		return addon_fail(env, "cannot be cleaned up");
	}
	if (napi_create_object(env, &object) != napi_ok ||
	    !addon_add_functions(env, object, of_all,
				 sizeof(of_all) / sizeof(of_all[0]), part) ||
	    !addon_add_functions(env, object, functions, count, part))
		return addon_fail(env, "cannot make the functions");
	return object;
}
