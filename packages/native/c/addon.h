/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISTHMUS_ADDON_H
#define ISTHMUS_ADDON_H

#include <node_api.h>
#include <stdbool.h>

/*
 * Each part of the add-on has one of these: it makes the object that the
 * part's TypeScript sees, or leaves an exception pending and returns NULL.
 * All state belongs to the environment it was made in, so that the add-on
 * can be loaded in several threads.
 */
napi_value aead_init(napi_env env);
napi_value pump_init(napi_env env);

struct addon_function {
	const char *name;
	napi_callback call;
};

/* Puts functions on an object, each with @data behind it. */
bool addon_add_functions(napi_env env, napi_value object,
			 const struct addon_function *functions, size_t count,
			 void *data);

#endif
