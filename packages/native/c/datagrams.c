// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "addon.h"
#include "datagram-relay.h"
#include "datagram-train.h"
#include "engine-part.h"

/* Of one side: as many as a host has addresses to bind to. */
#define MOST_SOCKETS 1024u
#define MOST_SOURCES 65536u

static void *start(unsigned int threads, void (*wake)(void *data), void *data)
{
	return datagram_relay_new(threads, wake, data);
}

static void stop(void *engine)
{
	datagram_relay_free(engine);
}

/* JavaScript takes the news one by one. */
static void tell(napi_env env, napi_value function, void *engine)
{
	napi_value global;

	(void)engine;
	if (napi_get_global(env, &global) == napi_ok)
		napi_call_function(env, global, function, 0, NULL, NULL);
}

static uint32_t reserve(void *engine)
{
	return datagram_reserve(engine);
}

static void *block(void *engine, uint32_t number)
{
	return datagram_block(engine, number);
}

static const struct engine_kind datagrams_kind = {
	.name = "isthmus datagrams",
	.start = start,
	.stop = stop,
	.tell = tell,
	.reserve = reserve,
	.block = block,
	.block_bytes = DATAGRAM_BLOCK * sizeof(struct datagram_counters),
};

static napi_value bind_socket(napi_env env, napi_callback_info info)
{
	union datagram_address address = { 0 };
	char text[INET6_ADDRSTRLEN];
	uint32_t port, buffer_bytes;
	napi_value values[4];
	bool is_v6_only;
	socklen_t size;
	int fd;

	if (addon_arguments(env, info, 4, values) == NULL)
		return NULL;
	if (napi_get_value_string_utf8(env, values[0], text, sizeof(text),
				       NULL) != napi_ok ||
	    napi_get_value_uint32(env, values[1], &port) != napi_ok ||
	    napi_get_value_bool(env, values[2], &is_v6_only) != napi_ok ||
	    napi_get_value_uint32(env, values[3], &buffer_bytes) != napi_ok ||
	    port > UINT16_MAX || buffer_bytes > INT32_MAX)
		return addon_fail(env, "address, port, IPv6 only, bytes");
	if (inet_pton(AF_INET, text, &address.v4.sin_addr) == 1) {
		address.v4.sin_family = AF_INET;
		address.v4.sin_port = htons((uint16_t)port);
		size = sizeof(address.v4);
	} else if (inet_pton(AF_INET6, text, &address.v6.sin6_addr) == 1) {
		address.v6.sin6_family = AF_INET6;
		address.v6.sin6_port = htons((uint16_t)port);
		size = sizeof(address.v6);
	} else {
		return addon_fail(env, "an address is a literal");
	}
	fd = datagram_bind(&address.any, size, is_v6_only, (int)buffer_bytes);
	if (fd < 0)
		return addon_fail_with(env, errno);
	return addon_number(env, fd);
}

static napi_value close_socket(napi_env env, napi_callback_info info)
{
	napi_value values[1];
	int32_t fd;

	if (addon_arguments(env, info, 1, values) == NULL)
		return NULL;
	if (napi_get_value_int32(env, values[0], &fd) != napi_ok)
		return addon_fail(env, "a descriptor");
	if (close(fd) < 0)
		return addon_fail_with(env, errno);
	return NULL;
}

/* An array's descriptors, to be freed; NULL with an exception pending. */
static int *get_descriptors(napi_env env, napi_value array, size_t *count)
{
	uint32_t length;
	int *fds;

	if (napi_get_array_length(env, array, &length) != napi_ok ||
	    length > MOST_SOCKETS) {
		addon_fail(env, "an array of descriptors");
		return NULL;
	}
	fds = calloc(length + 1, sizeof(*fds));
	if (fds == NULL) {
		addon_fail_with(env, ENOMEM);
		return NULL;
	}
	for (uint32_t i = 0; i < length; i++) {
		napi_value value;

		if (napi_get_element(env, array, i, &value) != napi_ok ||
		    napi_get_value_int32(env, value, &fds[i]) != napi_ok) {
			addon_fail(env, "an array of descriptors");
			free(fds);
			return NULL;
		}
	}
	*count = length;
	return fds;
}

/* "192.0.2.1", or an IPv6 address of which the lower half does not count. */
static bool get_source(napi_env env, napi_value value,
		       struct datagram_source *source)
{
	char text[INET6_ADDRSTRLEN];

	memset(source, 0, sizeof(*source));
	if (napi_get_value_string_utf8(env, value, text, sizeof(text), NULL) !=
	    napi_ok)
		return false;
	if (inet_pton(AF_INET, text, &source->bytes[12]) == 1) {
		source->bytes[10] = 0xff;
		source->bytes[11] = 0xff;
		return true;
	}
	if (inet_pton(AF_INET6, text, source->bytes) != 1)
		return false;
	memset(&source->bytes[8], 0, 8);
	return true;
}

/* An array's sources, to be freed; NULL with an exception pending. */
static struct datagram_source *get_sources(napi_env env, napi_value array,
					   size_t *count)
{
	struct datagram_source *sources;
	uint32_t length;

	if (napi_get_array_length(env, array, &length) != napi_ok ||
	    length > MOST_SOURCES) {
		addon_fail(env, "an array of addresses");
		return NULL;
	}
	sources = calloc(length + 1, sizeof(*sources));
	if (sources == NULL) {
		addon_fail_with(env, ENOMEM);
		return NULL;
	}
	for (uint32_t i = 0; i < length; i++) {
		napi_value value;

		if (napi_get_element(env, array, i, &value) == napi_ok &&
		    get_source(env, value, &sources[i]))
			continue;
		free(sources);
		addon_fail(env, "an address is a literal");
		return NULL;
	}
	*count = length;
	return sources;
}

/* An account, and descriptors and expected sources of each side. */
static napi_value add(napi_env env, napi_callback_info info)
{
	napi_value values[5];
	struct engine_part *part = addon_arguments(env, info, 5, values);
	struct datagram_source *sources[2] = { NULL, NULL };
	struct datagram_side sides[2];
	int *fds[2] = { NULL, NULL };
	struct pump_account *account;
	napi_value result = NULL;
	int64_t slot;

	if (part == NULL)
		return NULL;
	if (part->engine == NULL)
		return addon_fail(env, "the relay was not started");
	account = pump_account_of(env, values[0]);
	if (account == NULL)
		return NULL;
	for (int side = 0; side < 2; side++) {
		fds[side] = get_descriptors(env, values[1 + 2 * side],
					    &sides[side].fd_count);
		if (fds[side] == NULL)
			goto out;
		sources[side] = get_sources(env, values[2 + 2 * side],
					    &sides[side].source_count);
		if (sources[side] == NULL)
			goto out;
		sides[side].fds = fds[side];
		sides[side].sources = sources[side];
	}
	slot = datagram_add(part->engine, account, sides);
	result = slot < 0 ? addon_fail_with(env, errno) :
			    addon_number(env, (double)slot);
out:
	for (int side = 0; side < 2; side++) {
		free(fds[side]);
		free(sources[side]);
	}
	return result;
}

static napi_value expect(napi_env env, napi_callback_info info)
{
	struct datagram_relay *relay;
	struct datagram_source *sources;
	uint32_t slot, side;
	napi_value values[3];
	bool is_done;
	size_t count;

	relay = engine_slot_arguments(env, info, 3, values, &slot);
	if (relay == NULL)
		return NULL;
	if (napi_get_value_uint32(env, values[1], &side) != napi_ok || side > 1)
		return addon_fail(env, "a side");
	sources = get_sources(env, values[2], &count);
	if (sources == NULL)
		return NULL;
	is_done = datagram_expect(relay, slot, (int)side, sources, count);
	free(sources);
	return is_done ? NULL : addon_fail_with(env, ENOMEM);
}

static napi_value answer(napi_env env, napi_callback_info info)
{
	struct datagram_relay *relay;
	napi_value values[2];
	uint32_t slot;
	bool may_meet;

	relay = engine_slot_arguments(env, info, 2, values, &slot);
	if (relay == NULL)
		return NULL;
	if (napi_get_value_bool(env, values[1], &may_meet) != napi_ok)
		return addon_fail(env, "a boolean");
	datagram_answer(relay, slot, may_meet);
	return NULL;
}

static napi_value forget(napi_env env, napi_callback_info info)
{
	struct datagram_relay *relay;
	napi_value values[1];
	uint32_t slot;

	relay = engine_slot_arguments(env, info, 1, values, &slot);
	if (relay != NULL)
		datagram_forget(relay, slot);
	return NULL;
}

static napi_value remove_cell(napi_env env, napi_callback_info info)
{
	struct datagram_relay *relay;
	napi_value values[1];
	uint32_t slot;

	relay = engine_slot_arguments(env, info, 1, values, &slot);
	if (relay != NULL)
		datagram_remove(relay, slot);
	return NULL;
}

static bool set(napi_env env, napi_value array, uint32_t index, napi_value value)
{
	return value != NULL &&
	       napi_set_element(env, array, index, value) == napi_ok;
}

/* [slot, event, side, address, port], or undefined. */
static napi_value take_news(napi_env env, napi_callback_info info)
{
	struct engine_part *part = addon_arguments(env, info, 0, NULL);
	char text[INET6_ADDRSTRLEN];
	struct datagram_news news;
	napi_value result, address;
	const uint8_t *bytes;

	if (part == NULL || part->engine == NULL ||
	    !datagram_take_news(part->engine, &news))
		return NULL;
	bytes = news.source.sin6_addr.s6_addr;
	if (IN6_IS_ADDR_V4MAPPED(&news.source.sin6_addr))
		inet_ntop(AF_INET, bytes + 12, text, sizeof(text));
	else
		inet_ntop(AF_INET6, bytes, text, sizeof(text));
	if (napi_create_array_with_length(env, 5, &result) != napi_ok ||
	    napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &address) !=
		    napi_ok ||
	    !set(env, result, 0, addon_number(env, news.slot)) ||
	    !set(env, result, 1, addon_number(env, news.event)) ||
	    !set(env, result, 2, addon_number(env, news.side)) ||
	    !set(env, result, 3, address) ||
	    !set(env, result, 4,
		 addon_number(env, ntohs(news.source.sin6_port))))
		return addon_fail(env, "cannot tell news");
	return result;
}

napi_value datagrams_init(napi_env env)
{
	static const struct addon_function functions[] = {
		{ "bind", bind_socket },
		{ "close", close_socket },
		{ "add", add },
		{ "expect", expect },
		{ "answer", answer },
		{ "forget", forget },
		{ "remove", remove_cell },
		{ "takeNews", take_news },
	};

	return engine_part_init(env, &datagrams_kind, functions,
				sizeof(functions) / sizeof(functions[0]));
}
