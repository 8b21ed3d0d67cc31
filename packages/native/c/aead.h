/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISTHMUS_AEAD_H
#define ISTHMUS_AEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The order is that of SUITE_NAMES in src/aead/suite.ts. */
enum aead_suite {
	AEAD_AES_256_GCM,
	AEAD_CHACHA20_POLY1305,
	AEAD_SUITES,
};

#define AEAD_KEY_BYTES 32
#define AEAD_IV_BYTES 12
#define AEAD_TAG_BYTES 16

/* Ciphers and the shared OpenSSL contexts of one environment. */
struct aead_contexts;

/*
 * The key of one direction of one leg or path. An idle connection keeps two
 * of these and nothing else: an OpenSSL context is some 1,200 bytes, so
 * contexts are shared and keyed again when another key used them last.
 */
struct aead_key {
	struct aead_contexts *contexts;
	uint8_t suite;
	uint8_t slot;
	uint8_t key[AEAD_KEY_BYTES];
	uint8_t iv[AEAD_IV_BYTES];
};

/*
 * Counted: the environment holds one reference and each key one, since Node
 * does not say in which order it finalizes them. aead_contexts_get() returns
 * NULL where this libcrypto lacks a cipher.
 */
struct aead_contexts *aead_contexts_get(void);
void aead_contexts_put(struct aead_contexts *contexts);

struct aead_key *aead_key_new(struct aead_contexts *contexts,
			      enum aead_suite suite, const uint8_t *key,
			      const uint8_t *iv);
/* Leaves nothing of the old key in memory. */
void aead_key_replace(struct aead_key *key, const uint8_t *bytes,
		      const uint8_t *iv);
void aead_key_free(struct aead_key *key);

/*
 * One message. The nonce is the key's iv XOR @number (RFC 8446 section 5.3).
 * @header is authenticated only.
 */
struct aead_message {
	uint64_t number;
	const uint8_t *header;
	size_t header_bytes;
	const uint8_t *content;
	size_t content_bytes;
};

/*
 * Writes ciphertext and tag to @out, which may be the content itself but may
 * not overlap it otherwise. @trailer, if not NULL, is one more byte of
 * content. False only if OpenSSL fails.
 */
bool aead_seal(struct aead_key *key, const struct aead_message *message,
	       const uint8_t *trailer, uint8_t *out);

/*
 * @message's content is ciphertext and tag, AEAD_TAG_BYTES at least; @out may
 * be the content itself. False if forged; @out then holds zeros.
 */
bool aead_open(struct aead_key *key, const struct aead_message *message,
	       uint8_t *out);

/* Records: layout in src/aead/record.ts. */
#define RECORD_HEADER_BYTES 5
#define RECORD_MAX_CONTENT_BYTES 16384
/* Header, content type, tag. */
#define RECORD_OVERHEAD_BYTES (RECORD_HEADER_BYTES + 1 + AEAD_TAG_BYTES)
#define RECORD_TYPE_DATA 23

/* The order is that of RECORD_STATUS in src/aead/engine.ts. */
enum record_status {
	RECORD_DATA,
	RECORD_OTHER,
	RECORD_NEED_MORE,
	RECORD_BAD,
};

/* What one call opened; src/aead/engine.ts reads it as four 32-bit words. */
struct record_run {
	int32_t consumed;
	int32_t records;
	int32_t type;
	/* The record behind the run is bad: nothing more may be opened. */
	int32_t bad_next;
};

/* The bytes that @content_bytes become. */
size_t record_sealed_bytes(size_t content_bytes);

/* @out has room for record_sealed_bytes(@content_bytes). */
bool record_seal_all(struct aead_key *key, uint64_t first_number,
		     const uint8_t *content, size_t content_bytes,
		     uint8_t type, uint8_t *out);

/*
 * Opens records in place: a run of data records, its contents moved together
 * behind the first header, or one record of another type. Bytes that the run
 * does not consume keep their values unless @run->bad_next is set.
 */
enum record_status record_open_run(struct aead_key *key, uint64_t first_number,
				   uint8_t *bytes, size_t size,
				   struct record_run *run);

#endif
