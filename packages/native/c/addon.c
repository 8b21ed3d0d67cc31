// SPDX-License-Identifier: Apache-2.0
#include "addon.h"

NAPI_MODULE_INIT()
{
	napi_value aead = aead_init(env), pump, datagrams, udp;

	if (aead == NULL ||
	    napi_set_named_property(env, exports, "aead", aead) != napi_ok)
		return NULL;
	pump = pump_init(env);
	if (pump == NULL ||
	    napi_set_named_property(env, exports, "pump", pump) != napi_ok)
		return NULL;
	datagrams = datagrams_init(env);
	if (datagrams == NULL ||
	    napi_set_named_property(env, exports, "datagrams", datagrams) !=
		    napi_ok)
		return NULL;
	udp = udp_init(env);
	if (udp == NULL ||
	    napi_set_named_property(env, exports, "udp", udp) != napi_ok)
		return NULL;
	return exports;
}
