// SPDX-License-Identifier: Apache-2.0
/* The ring of events, as a polled object. */
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>

#include "bpf.h"
#include "../../../../kernel/bpf/splice.h"

/* The events of one turn of the loop. */
struct batch {
	uint8_t *bytes;
	size_t used;
	size_t room;
};

struct events {
	struct polled polled;
	struct ring_buffer *ring;
	struct batch *batch;
};

static int take(void *context, void *data, size_t size)
{
	struct batch *batch = context;

	/* Of programs of another version, which were attached before these. */
	if (size != sizeof(struct ist_bpf_event))
		return 0;
	if (batch->used + size > batch->room) {
		size_t room = 2 * (batch->used + size);
		uint8_t *bytes = realloc(batch->bytes, room);

		if (bytes == NULL)
			return -ENOMEM;
		batch->bytes = bytes;
		batch->room = room;
	}
	memcpy(batch->bytes + batch->used, data, size);
	batch->used += size;
	return 0;
}

static bool tell(void *source)
{
	struct events *events = source;
	napi_value bytes;

	events->batch->used = 0;
	ring_buffer__consume(events->ring);
	if (events->batch->used > 0 &&
	    napi_create_buffer_copy(events->polled.env, events->batch->used,
				    events->batch->bytes, NULL,
				    &bytes) == napi_ok)
		polled_call(&events->polled, events->polled.values[0], 1,
			    &bytes);
	return false;
}

static void on_readable(uv_poll_t *poll, int status, int changes)
{
	struct events *events = poll->data;

	(void)status;
	(void)changes;
	polled_turn(&events->polled, 1, tell, events);
}

static void forget(struct ring_buffer *ring, struct batch *batch)
{
	ring_buffer__free(ring);
	if (batch != NULL)
		free(batch->bytes);
	free(batch);
}

static void on_close(struct polled *polled)
{
	struct events *events = (struct events *)polled;

	forget(events->ring, events->batch);
}

static const struct polled_kind events_kind = {
	.size = sizeof(struct events),
	.tag = { 0x697374686d757362, 0x70666576656e7473 },
	.name = "isthmus:bpf",
	.mismatch = "not a ring of events",
	.values = 1,
	.on_readable = on_readable,
	.on_close = on_close,
};

static napi_value watch(napi_env env, napi_callback_info info)
{
	napi_value values[2], external;
	struct bpf_object *bpf;
	struct ring_buffer *ring;
	struct batch *batch;
	struct bpf_map *map;
	napi_valuetype type;
	size_t count = 2;
	void *events;

	if (napi_get_cb_info(env, info, &count, values, NULL, NULL) !=
		    napi_ok ||
	    count != 2 || napi_typeof(env, values[1], &type) != napi_ok ||
	    type != napi_function)
		return polled_refuse(env, "watch(object, onEvents)");
	bpf = object_of(env, values[0]);
	if (bpf == NULL)
		return NULL;
	map = bpf_object__find_map_by_name(bpf, "ist_events");
	if (map == NULL)
		return polled_refuse(env, "there are no events");
	batch = calloc(1, sizeof(*batch));
	ring = batch ? ring_buffer__new(bpf_map__fd(map), take, batch, NULL) :
		       NULL;
	if (ring == NULL) {
		free(batch);
		return polled_number(env, -ENOMEM);
	}
	/* The polled object closes the descriptor that it watches. */
	external = polled_open(env, &events_kind,
			       fcntl(ring_buffer__epoll_fd(ring),
				     F_DUPFD_CLOEXEC, 0),
			       values + 1);
	if (external == NULL ||
	    napi_get_value_external(env, external, &events) != napi_ok) {
		forget(ring, batch);
		return external;
	}
	((struct events *)events)->ring = ring;
	((struct events *)events)->batch = batch;
	return external;
}

napi_value events_init(napi_env env, napi_value exports)
{
	static const struct addon_function functions[] = {
		{ "watch", watch },
		{ "unwatch", polled_close_function },
	};

	return polled_init(env, exports, &events_kind, functions,
			   sizeof(functions) / sizeof(functions[0]));
}
