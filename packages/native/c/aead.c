// SPDX-License-Identifier: Apache-2.0
/*
 * What JavaScript calls; src/aead/engine.ts says what each function does. The
 * TypeScript in front of it checks what a user passes. Here everything is
 * checked again that could touch memory.
 */
#include "aead.h"
#include "addon.h"

#include <stdlib.h>

/* Well below INT_MAX, in which OpenSSL counts. */
#define MESSAGE_MAX_BYTES (1 << 30)
#define MAX_SAFE_INTEGER 9007199254740991

/* Tells our keys from the externals of other add-ons. */
static const napi_type_tag key_tag = { 0x697374686d757361, 0x6561642d6b657931 };

/* The state of one environment, behind each function. */
struct aead {
	napi_env env;
	struct aead_contexts *contexts;
	/* The memory of the Int32Array `opened`, and what keeps it. */
	struct record_run *opened;
	napi_ref opened_ref;
};

struct bytes {
	uint8_t *data;
	size_t size;
};

static bool refuse(napi_env env, const char *message)
{
	napi_throw_type_error(env, NULL, message);
	return false;
}

static bool get_bytes(napi_env env, napi_value value, struct bytes *bytes)
{
	static uint8_t nothing;
	napi_typedarray_type type;
	void *data;

	if (napi_get_typedarray_info(env, value, &type, &bytes->size, &data,
				     NULL, NULL) != napi_ok ||
	    type != napi_uint8_array)
		return refuse(env, "not a Uint8Array");
	if (bytes->size > MESSAGE_MAX_BYTES)
		return refuse(env, "more than 1 GiB in one call");
	/* Empty and detached arrays may have no memory at all. */
	bytes->data = data != NULL ? data : &nothing;
	return true;
}

static bool get_key(napi_env env, napi_value value, struct aead_key **key)
{
	bool ours = false;
	void *data;

	if (napi_check_object_type_tag(env, value, &key_tag, &ours) !=
		    napi_ok ||
	    !ours || napi_get_value_external(env, value, &data) != napi_ok)
		return refuse(env, "not an AEAD key");
	*key = data;
	return true;
}

static bool get_key_material(napi_env env, napi_value key_value,
			     napi_value iv_value, struct bytes *key,
			     struct bytes *iv)
{
	if (!get_bytes(env, key_value, key) || !get_bytes(env, iv_value, iv))
		return false;
	if (key->size != AEAD_KEY_BYTES || iv->size != AEAD_IV_BYTES)
		return refuse(env, "wrong length of key or iv");
	return true;
}

/* A record number, as a JavaScript number. */
static bool get_number(napi_env env, napi_value value, uint64_t *number)
{
	int64_t integer;

	if (napi_get_value_int64(env, value, &integer) != napi_ok ||
	    integer < 0 || integer > MAX_SAFE_INTEGER)
		return refuse(env, "not a record number");
	*number = (uint64_t)integer;
	return true;
}

/* A datagram's counter, as a bigint. */
static bool get_counter(napi_env env, napi_value value, uint64_t *counter)
{
	bool lossless;

	if (napi_get_value_bigint_uint64(env, value, counter, &lossless) !=
		    napi_ok ||
	    !lossless)
		return refuse(env, "not a bigint of 64 bits");
	return true;
}

static void finalize_key(napi_env env, void *data, void *hint)
{
	int64_t total;

	(void)hint;
	aead_key_free(data);
	napi_adjust_external_memory(env, -(int64_t)sizeof(struct aead_key),
				    &total);
}

static napi_value create_key(napi_env env, napi_callback_info info)
{
	napi_value values[3], external;
	struct aead *aead = addon_arguments(env, info, 3, values);
	struct bytes bytes, iv;
	struct aead_key *key;
	uint32_t suite;
	int64_t total;

	if (aead == NULL ||
	    !get_key_material(env, values[1], values[2], &bytes, &iv))
		return NULL;
	if (napi_get_value_uint32(env, values[0], &suite) != napi_ok ||
	    suite >= AEAD_SUITES) {
		refuse(env, "unknown suite");
		return NULL;
	}
	key = aead_key_new(aead->contexts, suite, bytes.data, iv.data);
	if (key == NULL)
		return addon_fail(env, "out of memory");
	if (napi_create_external(env, key, finalize_key, NULL, &external) !=
	    napi_ok) {
		aead_key_free(key);
		return addon_fail(env, "cannot make a key");
	}
	/* The contexts are not counted: they are few, however many keys. */
	napi_adjust_external_memory(env, sizeof(*key), &total);
	if (napi_type_tag_object(env, external, &key_tag) != napi_ok)
		return addon_fail(env, "cannot make a key");
	return external;
}

static napi_value replace_key(napi_env env, napi_callback_info info)
{
	napi_value values[3];
	struct bytes bytes, iv;
	struct aead_key *key;

	if (addon_arguments(env, info, 3, values) == NULL ||
	    !get_key(env, values[0], &key) ||
	    !get_key_material(env, values[1], values[2], &bytes, &iv))
		return NULL;
	aead_key_replace(key, bytes.data, iv.data);
	return NULL;
}

static napi_value seal_records(napi_env env, napi_callback_info info)
{
	napi_value values[5];
	struct bytes content, out;
	struct aead_key *key;
	uint64_t number;
	uint32_t type;

	if (addon_arguments(env, info, 5, values) == NULL ||
	    !get_key(env, values[0], &key) ||
	    !get_number(env, values[1], &number) ||
	    !get_bytes(env, values[2], &content) ||
	    !get_bytes(env, values[4], &out))
		return NULL;
	if (napi_get_value_uint32(env, values[3], &type) != napi_ok ||
	    type == 0 || type > UINT8_MAX) {
		refuse(env, "not a content type");
		return NULL;
	}
	if (out.size != record_sealed_bytes(content.size)) {
		refuse(env, "wrong length of the output");
		return NULL;
	}
	if (!record_seal_all(key, number, content.data, content.size,
			     (uint8_t)type, out.data))
		return addon_fail(env, "sealing failed");
	return NULL;
}

static napi_value open_records(napi_env env, napi_callback_info info)
{
	napi_value values[3], result;
	struct aead *aead = addon_arguments(env, info, 3, values);
	enum record_status status;
	struct bytes bytes;
	struct aead_key *key;
	uint64_t number;

	if (aead == NULL || !get_key(env, values[0], &key) ||
	    !get_number(env, values[1], &number) ||
	    !get_bytes(env, values[2], &bytes))
		return NULL;
	status = record_open_run(key, number, bytes.data, bytes.size,
				 aead->opened);
	return napi_create_uint32(env, status, &result) == napi_ok ? result :
								     NULL;
}

static napi_value seal_datagram(napi_env env, napi_callback_info info)
{
	napi_value values[5];
	struct bytes header, payload, out;
	struct aead_message message;
	struct aead_key *key;

	if (addon_arguments(env, info, 5, values) == NULL ||
	    !get_key(env, values[0], &key) ||
	    !get_counter(env, values[1], &message.number) ||
	    !get_bytes(env, values[2], &header) ||
	    !get_bytes(env, values[3], &payload) ||
	    !get_bytes(env, values[4], &out))
		return NULL;
	if (out.size != payload.size + AEAD_TAG_BYTES) {
		refuse(env, "wrong length of the output");
		return NULL;
	}
	message.header = header.data;
	message.header_bytes = header.size;
	message.content = payload.data;
	message.content_bytes = payload.size;
	if (!aead_seal(key, &message, NULL, out.data))
		return addon_fail(env, "sealing failed");
	return NULL;
}

static napi_value open_datagram(napi_env env, napi_callback_info info)
{
	napi_value values[5], result;
	struct bytes datagram, out;
	struct aead_message message;
	struct aead_key *key;
	uint32_t header_bytes;

	if (addon_arguments(env, info, 5, values) == NULL ||
	    !get_key(env, values[0], &key) ||
	    !get_counter(env, values[1], &message.number) ||
	    !get_bytes(env, values[2], &datagram) ||
	    !get_bytes(env, values[4], &out))
		return NULL;
	if (napi_get_value_uint32(env, values[3], &header_bytes) != napi_ok ||
	    header_bytes > datagram.size ||
	    datagram.size - header_bytes != out.size + AEAD_TAG_BYTES) {
		refuse(env, "wrong length of the output");
		return NULL;
	}
	message.header = datagram.data;
	message.header_bytes = header_bytes;
	message.content = datagram.data + header_bytes;
	message.content_bytes = datagram.size - header_bytes;
	return napi_get_boolean(env, aead_open(key, &message, out.data),
				&result) == napi_ok ?
		       result :
		       NULL;
}

/* Keys that are finalized after this hold the contexts themselves. */
static void cleanup(void *data)
{
	struct aead *aead = data;

	if (aead->opened_ref != NULL)
		napi_delete_reference(aead->env, aead->opened_ref);
	aead_contexts_put(aead->contexts);
	free(aead);
}

static bool add_opened(napi_env env, napi_value object, struct aead *aead)
{
	size_t words = sizeof(struct record_run) / sizeof(int32_t);
	napi_value buffer, array;
	void *memory;

	if (napi_create_arraybuffer(env, sizeof(struct record_run), &memory,
				    &buffer) != napi_ok ||
	    napi_create_typedarray(env, napi_int32_array, words, buffer, 0,
				   &array) != napi_ok ||
	    napi_create_reference(env, array, 1, &aead->opened_ref) != napi_ok)
		return false;
	aead->opened = memory;
	return napi_set_named_property(env, object, "opened", array) == napi_ok;
}

napi_value aead_init(napi_env env)
{
	static const struct addon_function functions[] = {
		{ "createKey", create_key },
		{ "replaceKey", replace_key },
		{ "sealRecords", seal_records },
		{ "openRecords", open_records },
		{ "sealDatagram", seal_datagram },
		{ "openDatagram", open_datagram },
	};
	struct aead *aead = calloc(1, sizeof(*aead));
	napi_value object;

	if (aead == NULL)
		return addon_fail(env, "out of memory");
	aead->env = env;
	aead->contexts = aead_contexts_get();
	if (aead->contexts == NULL) {
		free(aead);
		return addon_fail(env, "this node's OpenSSL lacks a cipher");
	}
	if (napi_add_env_cleanup_hook(env, cleanup, aead) != napi_ok) {
		cleanup(aead);
		return addon_fail(env, "cannot be cleaned up");
	}
	if (napi_create_object(env, &object) != napi_ok ||
	    !add_opened(env, object, aead) ||
	    !addon_add_functions(env, object, functions,
				 sizeof(functions) / sizeof(functions[0]),
				 aead))
		return addon_fail(env, "cannot make the functions");
	return object;
}
