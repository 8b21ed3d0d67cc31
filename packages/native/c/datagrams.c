// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "addon.h"
#include "datagram-relay.h"

/* Of one side: as many as a host has addresses to bind to. */
#define MOST_SOCKETS 1024u
#define MOST_SOURCES 65536u

struct datagrams_part {
	struct datagram_relay *relay;
	/* Calls JavaScript when there are news. */
	napi_threadsafe_function tell;
};

static napi_value fail(napi_env env, const char *message)
{
	napi_throw_error(env, NULL, message);
	return NULL;
}

/* With a code of the system's, as Node's own errors have one. */
static napi_value fail_with(napi_env env, int error)
{
	napi_throw_error(env, strerrorname_np(error), strerror(error));
	return NULL;
}

static struct datagrams_part *arguments(napi_env env, napi_callback_info info,
					size_t count, napi_value *values)
{
	size_t given = count;
	void *data;

	if (napi_get_cb_info(env, info, &given, values, NULL, &data) !=
		    napi_ok ||
	    given != count) {
		fail(env, "wrong number of arguments");
		return NULL;
	}
	return data;
}

/* The same, of a relay that was started, for a cell of its. */
static struct datagram_relay *cell_arguments(napi_env env,
					     napi_callback_info info,
					     size_t count, napi_value *values,
					     uint32_t *slot)
{
	struct datagrams_part *part = arguments(env, info, count, values);

	if (part == NULL)
		return NULL;
	if (part->relay == NULL ||
	    napi_get_value_uint32(env, values[0], slot) != napi_ok) {
		fail(env, "a slot of a relay that was started");
		return NULL;
	}
	return part->relay;
}

static void call_js(napi_env env, napi_value function, void *context,
		    void *data)
{
	struct datagrams_part *part = context;
	napi_value global;

	(void)data;
	/* Both are missing when the environment is about to end. */
	if (env == NULL || function == NULL || part->relay == NULL ||
	    napi_get_global(env, &global) != napi_ok)
		return;
	napi_call_function(env, global, function, 0, NULL, NULL);
}

/* In a thread of the relay, or in JavaScript's. */
static void wake(void *data)
{
	struct datagrams_part *part = data;

	napi_call_threadsafe_function(part->tell, NULL, napi_tsfn_nonblocking);
}

static napi_value start(napi_env env, napi_callback_info info)
{
	napi_value values[2], name;
	struct datagrams_part *part = arguments(env, info, 2, values);
	uint32_t threads;

	if (part == NULL)
		return NULL;
	if (part->relay != NULL)
		return fail(env, "the relay was started already");
	if (napi_get_value_uint32(env, values[0], &threads) != napi_ok ||
	    threads < 1 || threads > 256)
		return fail(env, "threads: 1 to 256");
	if (napi_create_string_utf8(env, "isthmus datagrams", NAPI_AUTO_LENGTH,
				    &name) != napi_ok ||
	    napi_create_threadsafe_function(env, values[1], NULL, name, 0, 1,
					    NULL, NULL, part, call_js,
					    &part->tell) != napi_ok)
		return fail(env, "the callback is not a function");
	/* A process does not live for its datagrams' sake. */
	napi_unref_threadsafe_function(env, part->tell);
	part->relay = datagram_relay_new(threads, wake, part);
	if (part->relay == NULL) {
		napi_release_threadsafe_function(part->tell, napi_tsfn_abort);
		return fail_with(env, errno);
	}
	return NULL;
}

static napi_value number(napi_env env, double value)
{
	napi_value result;

	return napi_create_double(env, value, &result) == napi_ok ? result :
								    NULL;
}

static napi_value bind_socket(napi_env env, napi_callback_info info)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} address = { 0 };
	char text[INET6_ADDRSTRLEN];
	uint32_t port, buffer_bytes;
	napi_value values[4];
	bool is_v6_only;
	socklen_t size;
	int fd;

	if (arguments(env, info, 4, values) == NULL)
		return NULL;
	if (napi_get_value_string_utf8(env, values[0], text, sizeof(text),
				       NULL) != napi_ok ||
	    napi_get_value_uint32(env, values[1], &port) != napi_ok ||
	    napi_get_value_bool(env, values[2], &is_v6_only) != napi_ok ||
	    napi_get_value_uint32(env, values[3], &buffer_bytes) != napi_ok ||
	    port > UINT16_MAX || buffer_bytes > INT32_MAX)
		return fail(env, "address, port, IPv6 only, bytes");
	if (inet_pton(AF_INET, text, &address.v4.sin_addr) == 1) {
		address.v4.sin_family = AF_INET;
		address.v4.sin_port = htons((uint16_t)port);
		size = sizeof(address.v4);
	} else if (inet_pton(AF_INET6, text, &address.v6.sin6_addr) == 1) {
		address.v6.sin6_family = AF_INET6;
		address.v6.sin6_port = htons((uint16_t)port);
		size = sizeof(address.v6);
	} else {
		return fail(env, "an address is a literal");
	}
	fd = datagram_bind(&address.any, size, is_v6_only, (int)buffer_bytes);
	if (fd < 0)
		return fail_with(env, errno);
	return number(env, fd);
}

static napi_value close_socket(napi_env env, napi_callback_info info)
{
	napi_value values[1];
	int32_t fd;

	if (arguments(env, info, 1, values) == NULL)
		return NULL;
	if (napi_get_value_int32(env, values[0], &fd) != napi_ok)
		return fail(env, "a descriptor");
	if (close(fd) < 0)
		return fail_with(env, errno);
	return NULL;
}

/* An array's descriptors, to be freed; NULL with an exception pending. */
static int *descriptors(napi_env env, napi_value array, size_t *count)
{
	uint32_t length;
	int *fds;

	if (napi_get_array_length(env, array, &length) != napi_ok ||
	    length > MOST_SOCKETS) {
		fail(env, "an array of descriptors");
		return NULL;
	}
	fds = calloc(length + 1, sizeof(*fds));
	if (fds == NULL) {
		fail_with(env, ENOMEM);
		return NULL;
	}
	for (uint32_t i = 0; i < length; i++) {
		napi_value value;

		if (napi_get_element(env, array, i, &value) != napi_ok ||
		    napi_get_value_int32(env, value, &fds[i]) != napi_ok) {
			fail(env, "an array of descriptors");
			free(fds);
			return NULL;
		}
	}
	*count = length;
	return fds;
}

static napi_value add(napi_env env, napi_callback_info info)
{
	napi_value values[3];
	struct datagrams_part *part = arguments(env, info, 3, values);
	int *fds[2] = { NULL, NULL };
	struct pump_account *account;
	size_t counts[2];
	int64_t slot;
	int error;

	if (part == NULL)
		return NULL;
	if (part->relay == NULL)
		return fail(env, "the relay was not started");
	account = pump_account_of(env, values[0]);
	if (account == NULL)
		return NULL;
	fds[0] = descriptors(env, values[1], &counts[0]);
	if (fds[0] != NULL)
		fds[1] = descriptors(env, values[2], &counts[1]);
	if (fds[1] == NULL) {
		free(fds[0]);
		return NULL;
	}
	slot = datagram_add(part->relay, account,
			    (const int *const[2]){ fds[0], fds[1] }, counts);
	error = errno;
	free(fds[0]);
	free(fds[1]);
	return slot < 0 ? fail_with(env, error) : number(env, (double)slot);
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

static napi_value expect(napi_env env, napi_callback_info info)
{
	struct datagram_relay *relay;
	struct datagram_source *sources;
	uint32_t slot, side, count;
	napi_value values[3];
	bool is_done;

	relay = cell_arguments(env, info, 3, values, &slot);
	if (relay == NULL)
		return NULL;
	if (napi_get_value_uint32(env, values[1], &side) != napi_ok ||
	    side > 1 ||
	    napi_get_array_length(env, values[2], &count) != napi_ok ||
	    count > MOST_SOURCES)
		return fail(env, "a side and addresses");
	sources = calloc(count + 1, sizeof(*sources));
	if (sources == NULL)
		return fail_with(env, ENOMEM);
	for (uint32_t i = 0; i < count; i++) {
		napi_value value;

		if (napi_get_element(env, values[2], i, &value) == napi_ok &&
		    get_source(env, value, &sources[i]))
			continue;
		free(sources);
		return fail(env, "an address is a literal");
	}
	is_done = datagram_expect(relay, slot, (int)side, sources, count);
	free(sources);
	return is_done ? NULL : fail_with(env, ENOMEM);
}

static napi_value answer(napi_env env, napi_callback_info info)
{
	struct datagram_relay *relay;
	napi_value values[2];
	uint32_t slot;
	bool may_meet;

	relay = cell_arguments(env, info, 2, values, &slot);
	if (relay == NULL)
		return NULL;
	if (napi_get_value_bool(env, values[1], &may_meet) != napi_ok)
		return fail(env, "a boolean");
	datagram_answer(relay, slot, may_meet);
	return NULL;
}

static napi_value forget(napi_env env, napi_callback_info info)
{
	struct datagram_relay *relay;
	napi_value values[1];
	uint32_t slot;

	relay = cell_arguments(env, info, 1, values, &slot);
	if (relay != NULL)
		datagram_forget(relay, slot);
	return NULL;
}

static napi_value remove_cell(napi_env env, napi_callback_info info)
{
	struct datagram_relay *relay;
	napi_value values[1];
	uint32_t slot;

	relay = cell_arguments(env, info, 1, values, &slot);
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
	struct datagrams_part *part = arguments(env, info, 0, NULL);
	char text[INET6_ADDRSTRLEN];
	struct datagram_news news;
	napi_value result, address;
	const uint8_t *bytes;

	if (part == NULL || part->relay == NULL ||
	    !datagram_take_news(part->relay, &news))
		return NULL;
	bytes = news.source.sin6_addr.s6_addr;
	if (IN6_IS_ADDR_V4MAPPED(&news.source.sin6_addr))
		inet_ntop(AF_INET, bytes + 12, text, sizeof(text));
	else
		inet_ntop(AF_INET6, bytes, text, sizeof(text));
	if (napi_create_array_with_length(env, 5, &result) != napi_ok ||
	    napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &address) !=
		    napi_ok ||
	    !set(env, result, 0, number(env, news.slot)) ||
	    !set(env, result, 1, number(env, news.event)) ||
	    !set(env, result, 2, number(env, news.side)) ||
	    !set(env, result, 3, address) ||
	    !set(env, result, 4,
		 number(env, ntohs(news.source.sin6_port))))
		return fail(env, "cannot tell news");
	return result;
}

static napi_value counters(napi_env env, napi_callback_info info)
{
	napi_value values[1], result;
	struct datagrams_part *part = arguments(env, info, 1, values);
	struct datagram_counters *block;
	uint32_t wanted;

	if (part == NULL)
		return NULL;
	if (part->relay == NULL ||
	    napi_get_value_uint32(env, values[0], &wanted) != napi_ok)
		return fail(env, "a block of a relay that was started");
	block = datagram_block(part->relay, wanted);
	if (block == NULL)
		return fail(env, "there is no such block");
	if (napi_create_external_arraybuffer(env, block,
					     DATAGRAM_BLOCK * sizeof(*block),
					     NULL, NULL, &result) != napi_ok)
		return fail(env, "cannot show the counters");
	return result;
}

static napi_value now(napi_env env, napi_callback_info info)
{
	(void)info;
	return number(env, pump_now_ms());
}

static void cleanup(void *data)
{
	struct datagrams_part *part = data;
	struct datagram_relay *relay = part->relay;

	part->relay = NULL;
	if (relay != NULL)
		datagram_relay_free(relay);
	free(part);
}

napi_value datagrams_init(napi_env env)
{
	static const struct addon_function functions[] = {
		{ "start", start },
		{ "bind", bind_socket },
		{ "close", close_socket },
		{ "add", add },
		{ "expect", expect },
		{ "answer", answer },
		{ "forget", forget },
		{ "remove", remove_cell },
		{ "takeNews", take_news },
		{ "counters", counters },
		{ "now", now },
	};
	struct datagrams_part *part = calloc(1, sizeof(*part));
	napi_value object;

	if (part == NULL)
		return fail(env, "out of memory");
	if (napi_add_env_cleanup_hook(env, cleanup, part) != napi_ok) {
		free(part);
		return fail(env, "cannot be cleaned up");
	}
	if (napi_create_object(env, &object) != napi_ok ||
	    !addon_add_functions(env, object, functions,
				 sizeof(functions) / sizeof(functions[0]),
				 part))
		return fail(env, "cannot make the functions");
	return object;
}
