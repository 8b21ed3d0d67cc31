/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISTHMUS_FUNCTIONS_H
#define ISTHMUS_FUNCTIONS_H

#include <node_api.h>
#include <stdbool.h>

struct addon_function {
	const char *name;
	napi_callback call;
};

/* Puts functions on an object, each with @data behind it. */
bool addon_add_functions(napi_env env, napi_value object,
			 const struct addon_function *functions, size_t count,
			 void *data);

/*
 * Reads exactly @count arguments of such a function. Returns the data behind
 * it, or NULL with an exception pending.
 */
void *addon_arguments(napi_env env, napi_callback_info info, size_t count,
		      napi_value *values);

/* Throws an Error. */
napi_value addon_fail(napi_env env, const char *message);

/* The same with a code of the system's, as Node's own errors have one. */
napi_value addon_fail_with(napi_env env, int error);

napi_value addon_number(napi_env env, double value);

#endif
