// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "functions.h"

#include <string.h>

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

void *addon_arguments(napi_env env, napi_callback_info info, size_t count,
		      napi_value *values)
{
	size_t passed = count;
	void *data;

	if (napi_get_cb_info(env, info, &passed, values, NULL, &data) !=
		    napi_ok ||
	    passed != count) {
		napi_throw_type_error(env, NULL, "wrong number of arguments");
		return NULL;
	}
	return data;
}

napi_value addon_fail(napi_env env, const char *message)
{
	napi_throw_error(env, NULL, message);
	return NULL;
}

napi_value addon_fail_with(napi_env env, int error)
{
	napi_throw_error(env, strerrorname_np(error), strerror(error));
	return NULL;
}

napi_value addon_number(napi_env env, double value)
{
	napi_value result;

	return napi_create_double(env, value, &result) == napi_ok ? result :
								    NULL;
}
