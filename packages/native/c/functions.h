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

#endif
