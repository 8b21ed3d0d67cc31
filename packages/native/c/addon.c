// SPDX-License-Identifier: Apache-2.0
#include "addon.h"

NAPI_MODULE_INIT()
{
	napi_value aead = aead_init(env), pump;

	if (aead == NULL ||
	    napi_set_named_property(env, exports, "aead", aead) != napi_ok)
		return NULL;
	pump = pump_init(env);
	if (pump == NULL ||
	    napi_set_named_property(env, exports, "pump", pump) != napi_ok)
		return NULL;
	return exports;
}
