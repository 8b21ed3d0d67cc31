// SPDX-License-Identifier: Apache-2.0
#include "leg-records.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

/* As packages/protocol/src/record.ts has them. */
#define TYPE_ALERT 21
#define TYPE_HANDSHAKE 22
static const uint8_t end_of_stream[] = { 1, 0 };
static const uint8_t key_update[] = { 24, 0, 0, 1, 0 };

struct leg_records {
	struct leg_state state;
	struct aead_key *send_key;
	struct aead_key *receive_key;
	bool has_ended;
};

struct leg_state *leg_state_copy(const struct leg_state *state)
{
	struct leg_state *copy = malloc(sizeof(*copy));

	if (copy != NULL)
		*copy = *state;
	return copy;
}

void leg_state_free(struct leg_state *state)
{
	if (state == NULL)
		return;
	OPENSSL_cleanse(state, sizeof(*state));
	free(state);
}

/*
 * HKDF-Expand-Label (RFC 8446 section 7.1) with SHA-256, without context and
 * with a prefix of our own: expandLabel() of packages/link/src/keys.
 */
static bool expand_label(const uint8_t *secret, const char *label, uint8_t *out,
			 uint8_t out_bytes)
{
	static const char prefix[] = "isthmus1 ";
	size_t prefix_bytes = sizeof(prefix) - 1, label_bytes = strlen(label);
	uint8_t info[64] = { 0, out_bytes,
			     (uint8_t)(prefix_bytes + label_bytes) };
	uint8_t digest[EVP_MAX_MD_SIZE];
	size_t size = 3;
	bool is_made;

	memcpy(info + size, prefix, prefix_bytes);
	size += prefix_bytes;
	memcpy(info + size, label, label_bytes);
	size += label_bytes;
	info[size++] = 0;
	info[size++] = 1;
	is_made = HMAC(EVP_sha256(), secret, LEG_SECRET_BYTES, info, size,
		       digest, NULL) != NULL;
	if (is_made)
		memcpy(out, digest, out_bytes);
	else
		ERR_clear_error();
	OPENSSL_cleanse(digest, sizeof(digest));
	return is_made;
}

struct key_material {
	uint8_t key[AEAD_KEY_BYTES];
	uint8_t iv[AEAD_IV_BYTES];
};

static bool derive(const struct leg_direction *direction,
		   struct key_material *made)
{
	return expand_label(direction->secret, "key", made->key,
			    sizeof(made->key)) &&
	       expand_label(direction->secret, "iv", made->iv,
			    sizeof(made->iv));
}

static struct aead_key *new_key(struct aead_contexts *contexts,
				enum aead_suite suite,
				const struct leg_direction *direction)
{
	struct key_material material;
	struct aead_key *key = NULL;

	if (derive(direction, &material))
		key = aead_key_new(contexts, suite, material.key, material.iv);
	OPENSSL_cleanse(&material, sizeof(material));
	return key;
}

/* Goes on to the next secret (RFC 8446 section 7.2). */
static bool update_key(struct aead_key *key, struct leg_direction *direction)
{
	struct key_material material;
	bool is_made = expand_label(direction->secret, "traffic upd",
				    direction->secret, LEG_SECRET_BYTES) &&
		       derive(direction, &material);

	if (is_made) {
		aead_key_replace(key, material.key, material.iv);
		direction->records = 0;
	}
	OPENSSL_cleanse(&material, sizeof(material));
	return is_made;
}

struct leg_records *leg_records_new(struct aead_contexts *contexts,
				    const struct leg_state *state)
{
	struct leg_records *records = calloc(1, sizeof(*records));

	if (records == NULL)
		return NULL;
	records->state = *state;
	records->send_key = new_key(contexts, state->suite, &state->send);
	records->receive_key = new_key(contexts, state->suite, &state->receive);
	if (records->send_key != NULL && records->receive_key != NULL)
		return records;
	leg_records_free(records);
	return NULL;
}

void leg_records_free(struct leg_records *records)
{
	if (records == NULL)
		return;
	if (records->send_key != NULL)
		aead_key_free(records->send_key);
	if (records->receive_key != NULL)
		aead_key_free(records->receive_key);
	OPENSSL_cleanse(records, sizeof(*records));
	free(records);
}

size_t leg_records_room(size_t content_bytes)
{
	return record_sealed_bytes(content_bytes) +
	       record_sealed_bytes(sizeof(key_update));
}

/* Returns the bytes written, 0 if OpenSSL fails. */
static size_t seal(struct leg_records *records, const uint8_t *content,
		   size_t content_bytes, uint8_t type, uint8_t *out)
{
	struct leg_direction *send = &records->state.send;
	size_t sealed = record_sealed_bytes(content_bytes);

	if (!record_seal_all(records->send_key, send->records, content,
			     content_bytes, type, out))
		return 0;
	send->records += (sealed - content_bytes) / RECORD_OVERHEAD_BYTES;
	return sealed;
}

size_t leg_records_seal(struct leg_records *records, const uint8_t *content,
			size_t content_bytes, uint8_t *out)
{
	size_t sealed = seal(records, content, content_bytes, RECORD_TYPE_DATA,
			     out);
	size_t update;

	if (sealed == 0 ||
	    records->state.send.records < records->state.records_per_key)
		return sealed;
	update = seal(records, key_update, sizeof(key_update), TYPE_HANDSHAKE,
		      out + sealed);
	if (update == 0 || !update_key(records->send_key, &records->state.send))
		return 0;
	return sealed + update;
}

size_t leg_records_seal_end(struct leg_records *records, uint8_t *out)
{
	return seal(records, end_of_stream, sizeof(end_of_stream), TYPE_ALERT,
		    out);
}

/* A record that is no data. False if it is none of ours. */
static bool take_other(struct leg_records *records, int type,
		       const uint8_t *content, size_t content_bytes)
{
	if (type == TYPE_ALERT && content_bytes == sizeof(end_of_stream) &&
	    memcmp(content, end_of_stream, content_bytes) == 0) {
		records->has_ended = true;
		return true;
	}
	return type == TYPE_HANDSHAKE && content_bytes == sizeof(key_update) &&
	       memcmp(content, key_update, content_bytes) == 0 &&
	       update_key(records->receive_key, &records->state.receive);
}

/* Moves content together, behind what is there. */
static void add_content(struct leg_opened *opened, const uint8_t *content,
			size_t content_bytes)
{
	if (opened->content == NULL)
		opened->content = content;
	else
		memmove((uint8_t *)opened->content + opened->content_bytes,
			content, content_bytes);
	opened->content_bytes += content_bytes;
}

struct leg_opened leg_records_open(struct leg_records *records, uint8_t *bytes,
				   size_t size)
{
	struct leg_opened opened = { 0 };

	while (!opened.is_bad) {
		uint8_t *first = bytes + opened.used;
		const uint8_t *content = first + RECORD_HEADER_BYTES;
		size_t content_bytes;
		struct record_run run;
		enum record_status status =
			record_open_run(records->receive_key,
					records->state.receive.records, first,
					size - opened.used, &run);

		if (status == RECORD_NEED_MORE)
			break;
		if (status == RECORD_BAD || records->has_ended) {
			opened.is_bad = true;
			break;
		}
		records->state.receive.records += (uint64_t)run.records;
		opened.used += (size_t)run.consumed;
		opened.is_bad = run.bad_next != 0;
		content_bytes = (size_t)run.consumed -
				(size_t)run.records * RECORD_OVERHEAD_BYTES;
		if (status == RECORD_DATA)
			add_content(&opened, content, content_bytes);
		else if (!take_other(records, run.type, content, content_bytes))
			opened.is_bad = true;
	}
	opened.has_ended = records->has_ended;
	return opened;
}
