// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "addon.h"
#include "engine-part.h"
#include "pump-engine.h"

/* Ends that JavaScript is told of in one call. */
#define ENDS_PER_CALL 256u

/* Accounts are told from whatever else is an external value by this. */
static const napi_type_tag account_tag = { 0x697374686d757300ull,
					   0x70756d702d616363ull };

struct pump_account *pump_account_of(napi_env env, napi_value value)
{
	void *account;
	bool is_one;

	if (napi_check_object_type_tag(env, value, &account_tag, &is_one) !=
		    napi_ok ||
	    !is_one || napi_get_value_external(env, value, &account) != napi_ok) {
		addon_fail(env, "not an account");
		return NULL;
	}
	return account;
}

static void *start(unsigned int threads, void (*wake)(void *data), void *data)
{
	return pump_new(threads, wake, data);
}

static void stop(void *engine)
{
	pump_free(engine);
}

static void tell_ends(napi_env env, napi_value function,
		      const struct pump_ended *ended, size_t count)
{
	napi_value array, global;

	if (napi_create_array_with_length(env, 2 * count, &array) != napi_ok ||
	    napi_get_global(env, &global) != napi_ok)
		return;
	for (size_t i = 0; i < count; i++) {
		napi_value slot, end;

		if (napi_create_uint32(env, ended[i].slot, &slot) != napi_ok ||
		    napi_create_uint32(env, ended[i].end, &end) != napi_ok ||
		    napi_set_element(env, array, 2 * i, slot) != napi_ok ||
		    napi_set_element(env, array, 2 * i + 1, end) != napi_ok)
			return;
	}
	napi_call_function(env, global, function, 1, &array, NULL);
}

static void tell(napi_env env, napi_value function, void *engine)
{
	struct pump_ended ended[ENDS_PER_CALL];
	size_t count;

	do {
		napi_handle_scope scope;

		count = pump_take_ended(engine, ended, ENDS_PER_CALL);
		if (count == 0 || napi_open_handle_scope(env, &scope) != napi_ok)
			return;
		tell_ends(env, function, ended, count);
		napi_close_handle_scope(env, scope);
	} while (count == ENDS_PER_CALL);
}

static uint32_t reserve(void *engine)
{
	return pump_reserve(engine);
}

static void *block(void *engine, uint32_t number)
{
	return pump_block(engine, number);
}

static const struct engine_kind pump_kind = {
	.name = "isthmus pump",
	.start = start,
	.stop = stop,
	.tell = tell,
	.reserve = reserve,
	.block = block,
	.block_bytes = PUMP_BLOCK * sizeof(struct pump_counters),
};

static void put_account(napi_env env, void *data, void *hint)
{
	(void)env;
	(void)hint;
	pump_account_put(data);
}

static napi_value create_account(napi_env env, napi_callback_info info)
{
	struct pump_account *account = pump_account_new();
	napi_value value;

	(void)info;
	if (account == NULL)
		return addon_fail_with(env, ENOMEM);
	if (napi_create_external(env, account, put_account, NULL, &value) !=
	    napi_ok) {
		pump_account_put(account);
		return addon_fail(env, "cannot make an account");
	}
	if (napi_type_tag_object(env, value, &account_tag) != napi_ok)
		return addon_fail(env, "cannot mark an account");
	return value;
}

static napi_value set_account(napi_env env, napi_callback_info info)
{
	struct pump_account *account;
	double rate, most;
	napi_value values[3];

	if (addon_arguments(env, info, 3, values) == NULL)
		return NULL;
	account = pump_account_of(env, values[0]);
	if (account == NULL)
		return NULL;
	if (napi_get_value_double(env, values[1], &rate) != napi_ok ||
	    napi_get_value_double(env, values[2], &most) != napi_ok ||
	    !(rate >= 0) || !(most >= 0))
		return addon_fail(env, "limits: numbers from 0 on");
	pump_account_set(account, rate, most);
	return NULL;
}

static napi_value spend(napi_env env, napi_callback_info info)
{
	struct pump_account *account;
	napi_value values[3], result;
	double bytes;
	bool urgent;

	if (addon_arguments(env, info, 3, values) == NULL)
		return NULL;
	account = pump_account_of(env, values[0]);
	if (account == NULL)
		return NULL;
	if (napi_get_value_double(env, values[1], &bytes) != napi_ok ||
	    napi_get_value_bool(env, values[2], &urgent) != napi_ok)
		return addon_fail(env, "a number and a boolean");
	if (napi_get_boolean(env, pump_account_spend(account, bytes, urgent),
			     &result) != napi_ok)
		return NULL;
	return result;
}

static napi_value wait_ms(napi_env env, napi_callback_info info)
{
	struct pump_account *account;
	napi_value values[1];

	if (addon_arguments(env, info, 1, values) == NULL)
		return NULL;
	account = pump_account_of(env, values[0]);
	if (account == NULL)
		return NULL;
	return addon_number(env, pump_account_wait_ms(account));
}

/* The pump has descriptors of its own: the caller closes its as it likes. */
static bool get_leg(napi_env env, napi_value fd, napi_value early,
		    struct pump_leg *leg)
{
	int32_t given;
	void *bytes;

	if (napi_get_value_int32(env, fd, &given) != napi_ok ||
	    napi_get_buffer_info(env, early, &bytes, &leg->early_bytes) !=
		    napi_ok) {
		addon_fail(env, "a leg: descriptor and buffer");
		return false;
	}
	leg->early = bytes;
	leg->fd = fcntl(given, F_DUPFD_CLOEXEC, 0);
	if (leg->fd >= 0)
		return true;
	addon_fail_with(env, errno);
	return false;
}

/* An account, and descriptor and early bytes of each side. */
#define JOIN_VALUES 5

static napi_value join_legs(napi_env env, const struct engine_part *part,
			    const napi_value *values,
			    const struct leg_state *sealed)
{
	struct pump_leg legs[2] = { { .fd = -1 }, { .fd = -1 } };
	struct pump_account *account;
	int64_t slot;

	if (part->engine == NULL)
		return addon_fail(env, "the pump was not started");
	account = pump_account_of(env, values[0]);
	if (account == NULL ||
	    !get_leg(env, values[1], values[2], &legs[0]))
		return NULL;
	if (!get_leg(env, values[3], values[4], &legs[1])) {
		close(legs[0].fd);
		return NULL;
	}
	slot = pump_join(part->engine, account, legs, sealed);
	if (slot < 0) {
		close(legs[0].fd);
		close(legs[1].fd);
		return addon_fail_with(env, errno);
	}
	return addon_number(env, (double)slot);
}

static napi_value join(napi_env env, napi_callback_info info)
{
	napi_value values[JOIN_VALUES];
	struct engine_part *part = addon_arguments(env, info, JOIN_VALUES, values);

	return part == NULL ? NULL : join_legs(env, part, values, NULL);
}

/* A buffer with a secret, and a count of records. */
static bool get_direction(napi_env env, const napi_value *values,
			  struct leg_direction *direction)
{
	size_t size;
	void *secret;
	int64_t records;

	if (napi_get_buffer_info(env, values[0], &secret, &size) != napi_ok ||
	    size != LEG_SECRET_BYTES ||
	    napi_get_value_int64(env, values[1], &records) != napi_ok ||
	    records < 0) {
		addon_fail(env, "a direction: secret and number of records");
		return false;
	}
	memcpy(direction->secret, secret, LEG_SECRET_BYTES);
	direction->records = (uint64_t)records;
	return true;
}

/*
 * Behind those of join(): suite, records under a key, and of each direction,
 * sent and received, the secret and the records under its present key.
 */
static napi_value join_sealed(napi_env env, napi_callback_info info)
{
	napi_value values[JOIN_VALUES + 6], result = NULL;
	const napi_value *sealed = values + JOIN_VALUES;
	struct engine_part *part =
		addon_arguments(env, info, JOIN_VALUES + 6, values);
	struct leg_state state = { 0 };
	int64_t records_per_key;
	uint32_t suite;

	if (part == NULL)
		return NULL;
	if (napi_get_value_uint32(env, sealed[0], &suite) != napi_ok ||
	    suite >= AEAD_SUITES ||
	    napi_get_value_int64(env, sealed[1], &records_per_key) !=
		    napi_ok ||
	    records_per_key < 1)
		return addon_fail(env, "a suite, and records from 1 on");
	state.suite = suite;
	state.records_per_key = (uint64_t)records_per_key;
	if (get_direction(env, sealed + 2, &state.send) &&
	    get_direction(env, sealed + 4, &state.receive))
		result = join_legs(env, part, values, &state);
	OPENSSL_cleanse(&state, sizeof(state));
	return result;
}

static napi_value end(napi_env env, napi_callback_info info)
{
	napi_value values[1];
	uint32_t slot;
	struct pump *pump = engine_slot_arguments(env, info, 1, values, &slot);

	if (pump != NULL)
		pump_end(pump, slot);
	return NULL;
}

/* So that close(), the kernel's at the process' end too, is RST or not. */
static napi_value set_reset_on_close(napi_env env, napi_callback_info info)
{
	struct linger linger = { .l_linger = 0 };
	napi_value values[2];
	int32_t fd;
	bool resets;

	if (addon_arguments(env, info, 2, values) == NULL)
		return NULL;
	if (napi_get_value_int32(env, values[0], &fd) != napi_ok ||
	    napi_get_value_bool(env, values[1], &resets) != napi_ok)
		return addon_fail(env, "a descriptor and a boolean");
	linger.l_onoff = resets;
	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) < 0)
		return addon_fail_with(env, errno);
	return NULL;
}

static napi_value reset_all(napi_env env, napi_callback_info info)
{
	struct engine_part *part = addon_arguments(env, info, 0, NULL);

	if (part != NULL && part->engine != NULL)
		pump_reset_all(part->engine);
	return NULL;
}

napi_value pump_init(napi_env env)
{
	static const struct addon_function functions[] = {
		{ "createAccount", create_account },
		{ "setAccount", set_account },
		{ "spend", spend },
		{ "waitMs", wait_ms },
		{ "join", join },
		{ "joinSealed", join_sealed },
		{ "end", end },
		{ "setResetOnClose", set_reset_on_close },
		{ "resetAll", reset_all },
	};

	return engine_part_init(env, &pump_kind, functions,
				sizeof(functions) / sizeof(functions[0]));
}
