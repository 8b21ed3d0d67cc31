/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISTHMUS_LEG_RECORDS_H
#define ISTHMUS_LEG_RECORDS_H

#include "aead.h"

/*
 * The records of one sealed leg behind its prefaces, both ways, with the keys'
 * updates and the sealed end: what packages/link/src/leg/leg-stream.ts does,
 * with the same bytes.
 */
struct leg_records;

#define LEG_SECRET_BYTES 32

/* Of one direction. Key and iv of its records come from the secret. */
struct leg_direction {
	uint8_t secret[LEG_SECRET_BYTES];
	/* Sealed or opened under the present key. */
	uint64_t records;
};

/* What one that has begun elsewhere goes on with. */
struct leg_state {
	enum aead_suite suite;
	/* This side updates its key when it has sealed so many or more. */
	uint64_t records_per_key;
	struct leg_direction send;
	struct leg_direction receive;
};

/* NULL if there is no memory. */
struct leg_state *leg_state_copy(const struct leg_state *state);
/* Leaves nothing of the secrets in memory; takes NULL. */
void leg_state_free(struct leg_state *state);

/*
 * To be used, and freed, in the thread that @contexts belong to. NULL if
 * OpenSSL fails or there is no memory.
 */
struct leg_records *leg_records_new(struct aead_contexts *contexts,
				    const struct leg_state *state);
/* Leaves nothing of the keys in memory; takes NULL. */
void leg_records_free(struct leg_records *records);

/* The most that leg_records_seal() makes of @content_bytes. */
size_t leg_records_room(size_t content_bytes);

/* Returns the bytes that it wrote to @out; 0 if OpenSSL fails. */
size_t leg_records_seal(struct leg_records *records, const uint8_t *content,
			size_t content_bytes, uint8_t *out);
/* The same for this direction's end; @out has room for an empty content's. */
size_t leg_records_seal_end(struct leg_records *records, uint8_t *out);

struct leg_opened {
	/* What whole records carried, in the memory that was given. */
	const uint8_t *content;
	size_t content_bytes;
	/* Bytes of those records. Behind them is the beginning of another. */
	size_t used;
	/* The sealed end has come, now or before. */
	bool has_ended;
	/*
	 * What follows the content is forged, cut, none of ours or behind the
	 * end: the leg is over.
	 */
	bool is_bad;
};

/* Opens all whole records of @bytes in place. */
struct leg_opened leg_records_open(struct leg_records *records, uint8_t *bytes,
				   size_t size);

#endif
