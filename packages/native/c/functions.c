// SPDX-License-Identifier: Apache-2.0
#include "functions.h"

bool addon_add_functions(napi_env env, napi_value object,
			 const struct addon_function *functions, size_t count,
			 void *data)
{
	for (size_t i = 0; i < count; i++) {
		napi_value function;

		if (napi_create_function(env, functions[i].name,
					 NAPI_AUTO_LENGTH, functions[i].call,
					 data, &function) != napi_ok ||
		    napi_set_named_property(env, object, functions[i].name,
					    function) != napi_ok)
			return false;
	}
	return true;
}
