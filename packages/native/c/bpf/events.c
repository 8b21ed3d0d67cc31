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

/*
 * Each wake-up costs the CPU on which packets come in more than the event does,
 * and the kernel wakes nobody who has events unread: for so long after some were
 * read, others are left to gather.
 */
#define PAUSE_MS 2

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
	/* Runs while the descriptor is not watched. */
	uv_timer_t *pause;
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

static void on_readable(uv_poll_t *poll, int status, int changes);

static void on_paused(uv_timer_t *pause)
{
	struct events *events = pause->data;
	struct polled *polled = &events->polled;

	polled->holders++;
	polled_turn(polled, 1, tell, events);
	if (!polled->closing && events->batch->used > 0)
		uv_timer_start(pause, on_paused, PAUSE_MS, 0);
	else if (!polled->closing)
		uv_poll_start(&polled->poll, UV_READABLE, on_readable);
	polled_put(polled);
}

static void on_readable(uv_poll_t *poll, int status, int changes)
{
	struct events *events = poll->data;

	(void)status;
	(void)changes;
	uv_poll_stop(poll);
	on_paused(events->pause);
}

static void on_pause_closed(uv_handle_t *pause)
{
	free(pause);
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

	if (events->pause != NULL)
		uv_close((uv_handle_t *)events->pause, on_pause_closed);
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
	uv_timer_t *pause;
	struct ring_buffer *ring;
	struct batch *batch;
	struct bpf_map *map;
	napi_valuetype type;
	size_t count = 2;
	struct events *events;
	uv_loop_t *loop;
	void *object;

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
	pause = calloc(1, sizeof(*pause));
	ring = batch && pause ?
		       ring_buffer__new(bpf_map__fd(map), take, batch, NULL) :
		       NULL;
	if (ring == NULL || napi_get_uv_event_loop(env, &loop) != napi_ok ||
	    uv_timer_init(loop, pause)) {
		free(pause);
		forget(ring, batch);
		return polled_number(env, -ENOMEM);
	}
	/* The polled object closes the descriptor that it watches. */
	external = polled_open(env, &events_kind,
			       fcntl(ring_buffer__epoll_fd(ring),
				     F_DUPFD_CLOEXEC, 0),
			       values + 1);
	if (external == NULL ||
	    napi_get_value_external(env, external, &object) != napi_ok) {
		uv_close((uv_handle_t *)pause, on_pause_closed);
		forget(ring, batch);
		return external;
	}
	events = object;
	events->ring = ring;
	events->batch = batch;
	events->pause = pause;
	pause->data = events;
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
