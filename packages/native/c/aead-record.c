// SPDX-License-Identifier: Apache-2.0
#include "aead.h"

#include <string.h>

#define RECORD_FIRST_BYTE 0x17
#define RECORD_VERSION_HIGH 0x03
#define RECORD_VERSION_LOW 0x03
/* The shortest body: one byte of content, its type, the tag. */
#define BODY_MIN_BYTES (1 + 1 + AEAD_TAG_BYTES)
#define BODY_MAX_BYTES (RECORD_MAX_CONTENT_BYTES + 1 + AEAD_TAG_BYTES)
/* One call stops here, so that 32-bit words can say what it did. */
#define RUN_MAX_BYTES (1 << 30)

size_t record_sealed_bytes(size_t content_bytes)
{
	size_t records = (content_bytes + RECORD_MAX_CONTENT_BYTES - 1) /
			 RECORD_MAX_CONTENT_BYTES;

	return content_bytes + records * RECORD_OVERHEAD_BYTES;
}

bool record_seal_all(struct aead_key *key, uint64_t first_number,
		     const uint8_t *content, size_t content_bytes,
		     uint8_t type, uint8_t *out)
{
	for (uint64_t number = first_number; content_bytes > 0; number++) {
		size_t size = content_bytes < RECORD_MAX_CONTENT_BYTES ?
				      content_bytes :
				      RECORD_MAX_CONTENT_BYTES;
		size_t body = size + 1 + AEAD_TAG_BYTES;
		struct aead_message message = {
			.number = number,
			.header = out,
			.header_bytes = RECORD_HEADER_BYTES,
			.content = content,
			.content_bytes = size,
		};

		out[0] = RECORD_FIRST_BYTE;
		out[1] = RECORD_VERSION_HIGH;
		out[2] = RECORD_VERSION_LOW;
		out[3] = (uint8_t)(body >> 8);
		out[4] = (uint8_t)body;
		if (!aead_seal(key, &message, &type, out + RECORD_HEADER_BYTES))
			return false;
		out += RECORD_HEADER_BYTES + body;
		content += size;
		content_bytes -= size;
	}
	return true;
}

/*
 * Judges as much of a header as there is, so that a stranger's bytes are
 * refused at the first wrong one. RECORD_DATA: a whole record is there, its
 * body *@body bytes long.
 */
static enum record_status parse_header(const uint8_t *bytes, size_t size,
				       size_t *body)
{
	if ((size > 0 && bytes[0] != RECORD_FIRST_BYTE) ||
	    (size > 1 && bytes[1] != RECORD_VERSION_HIGH) ||
	    (size > 2 && bytes[2] != RECORD_VERSION_LOW))
		return RECORD_BAD;
	if (size < RECORD_HEADER_BYTES)
		return RECORD_NEED_MORE;
	*body = (size_t)bytes[3] << 8 | bytes[4];
	if (*body < BODY_MIN_BYTES || *body > BODY_MAX_BYTES)
		return RECORD_BAD;
	return size - RECORD_HEADER_BYTES < *body ? RECORD_NEED_MORE :
						    RECORD_DATA;
}

/* Opens one whole record in place. */
static enum record_status open_record(struct aead_key *key,
				      const struct aead_message *message,
				      uint8_t *body, uint8_t *type)
{
	if (!aead_open(key, message, body))
		return RECORD_BAD;
	*type = body[message->content_bytes - AEAD_TAG_BYTES - 1];
	if (*type == 0)
		return RECORD_BAD;
	return *type == RECORD_TYPE_DATA ? RECORD_DATA : RECORD_OTHER;
}

enum record_status record_open_run(struct aead_key *key, uint64_t first_number,
				   uint8_t *bytes, size_t size,
				   struct record_run *run)
{
	uint8_t *end = bytes + RECORD_HEADER_BYTES;

	memset(run, 0, sizeof(*run));
	while (run->consumed < RUN_MAX_BYTES) {
		uint8_t *record = bytes + run->consumed;
		uint8_t *body = record + RECORD_HEADER_BYTES;
		size_t body_bytes = 0;
		uint8_t type = 0;
		enum record_status status = parse_header(
			record, size - (size_t)run->consumed, &body_bytes);
		struct aead_message message = {
			.number = first_number + (uint64_t)run->records,
			.header = record,
			.header_bytes = RECORD_HEADER_BYTES,
			.content = body,
			.content_bytes = body_bytes,
		};

		if (status == RECORD_DATA)
			status = open_record(key, &message, body, &type);
		if (run->records > 0 && status != RECORD_DATA) {
			if (status == RECORD_OTHER) {
				/* Put back as it came, for the next call. */
				message.content_bytes -= AEAD_TAG_BYTES;
				if (!aead_seal(key, &message, NULL, body))
					status = RECORD_BAD;
			}
			run->bad_next = status == RECORD_BAD;
			break;
		}
		if (status == RECORD_NEED_MORE || status == RECORD_BAD)
			return status;

		if (run->records > 0)
			memmove(end, body, body_bytes - 1 - AEAD_TAG_BYTES);
		end += body_bytes - 1 - AEAD_TAG_BYTES;
		run->consumed += (int32_t)(RECORD_HEADER_BYTES + body_bytes);
		run->records++;
		run->type = type;
		if (status == RECORD_OTHER)
			return RECORD_OTHER;
	}
	return RECORD_DATA;
}
