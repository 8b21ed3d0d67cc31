// SPDX-License-Identifier: Apache-2.0
/*
 * A Unix socket at which other processes show sockets of theirs (SCM_RIGHTS),
 * for JavaScript; src/sockets/binding.ts says what each function does.
 *
 * A socket that is shown is looked at, told of, and closed again before
 * anything else happens: JavaScript never holds a descriptor, and none leaks.
 *
 * Lifetime: a door is a polled object, which each connection holds too; a
 * connection has its libuv handle alone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../polled/polled.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif

#define BACKLOG 128
/* Of one message; longer ones end the connection. */
#define MOST_BYTES 256
#define MOST_SOCKETS 2
/*
 * Messages of one connection, and connections, that are taken in one turn of
 * the loop: whoever floods must not keep others from their turn.
 */
#define PER_TURN 32

struct connection {
	struct door *door;
	struct connection *next;
	uv_poll_t poll;
	uint32_t id;
	int fd;
};

/* Functions that a door holds; src/sockets/binding.ts has their arguments. */
enum { ON_CONNECT, ON_MESSAGE, ON_CLOSE, VALUES };

struct door {
	struct polled polled;
	struct connection *connections;
	uint32_t last_id;
};

static void connection_closed(uv_handle_t *handle)
{
	struct connection *connection = handle->data;

	polled_put(&connection->door->polled);
	free(connection);
}

/* The connection must not be used any more after this. */
static void drop(struct connection *connection)
{
	struct connection **at = &connection->door->connections;

	while (*at != connection)
		at = &(*at)->next;
	*at = connection->next;
	uv_close((uv_handle_t *)&connection->poll, connection_closed);
	/* libuv has taken it out of its poll set by now. */
	close(connection->fd);
}

static void drop_all(struct polled *polled)
{
	struct door *door = (struct door *)polled;

	while (door->connections != NULL)
		drop(door->connections);
}

static void call(struct door *door, int function, size_t count,
		 const napi_value *arguments)
{
	polled_call(&door->polled, door->polled.values[function], count,
		    arguments);
}

static bool set_number(napi_env env, napi_value object, const char *name,
		       double value)
{
	napi_value property;

	return napi_create_double(env, value, &property) == napi_ok &&
	       napi_set_named_property(env, object, name, property) == napi_ok;
}

static bool set_text(napi_env env, napi_value object, const char *name,
		     const char *value)
{
	napi_value property;

	return napi_create_string_latin1(env, value, NAPI_AUTO_LENGTH,
					 &property) == napi_ok &&
	       napi_set_named_property(env, object, name, property) == napi_ok;
}

static int int_option(int fd, int level, int option)
{
	int value = 0;
	socklen_t size = sizeof(value);

	if (getsockopt(fd, level, option, &value, &size))
		return -1;
	return value;
}

static bool set_cookie(napi_env env, napi_value object, const char *name,
		       int fd, int option)
{
	uint64_t value = 0;
	socklen_t size = sizeof(value);
	char text[24];

	/* Kernels without it know no such cookies: all are equal. */
	if (getsockopt(fd, SOL_SOCKET, option, &value, &size))
		value = 0;
	snprintf(text, sizeof(text), "%" PRIu64, value);
	return set_text(env, object, name, text);
}

/* An object, or null for what is no socket of IPv4 or IPv6. */
static napi_value describe(napi_env env, int fd)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} address = { 0 };
	socklen_t size = sizeof(address);
	char text[INET6_ADDRSTRLEN] = "";
	napi_value object;
	int domain = int_option(fd, SOL_SOCKET, SO_DOMAIN);
	int port, only = 0;

	if ((domain != AF_INET && domain != AF_INET6) ||
	    getsockname(fd, &address.any, &size)) {
		napi_get_null(env, &object);
		return object;
	}
	if (domain == AF_INET) {
		inet_ntop(AF_INET, &address.v4.sin_addr, text, sizeof(text));
		port = ntohs(address.v4.sin_port);
	} else {
		inet_ntop(AF_INET6, &address.v6.sin6_addr, text, sizeof(text));
		port = ntohs(address.v6.sin6_port);
		only = int_option(fd, IPPROTO_IPV6, IPV6_V6ONLY) != 0;
	}
	if (napi_create_object(env, &object) != napi_ok ||
	    !set_number(env, object, "family", domain == AF_INET ? 4 : 6) ||
	    !set_number(env, object, "type",
			int_option(fd, SOL_SOCKET, SO_TYPE)) ||
	    !set_number(env, object, "protocol",
			int_option(fd, SOL_SOCKET, SO_PROTOCOL)) ||
	    !set_text(env, object, "address", text) ||
	    !set_number(env, object, "port", port) ||
	    !set_number(env, object, "v6only", only) ||
	    !set_number(env, object, "device",
			int_option(fd, SOL_SOCKET, SO_BINDTOIFINDEX)) ||
	    !set_cookie(env, object, "cookie", fd, SO_COOKIE) ||
	    !set_cookie(env, object, "network", fd, SO_NETNS_COOKIE))
		return NULL;
	return object;
}

/* One message with what came along; takes the descriptors. */
static void tell(struct connection *connection, const void *bytes, size_t size,
		 const int *fds, size_t count)
{
	struct door *door = connection->door;
	napi_env env = door->polled.env;
	napi_value arguments[3];
	void *copy;
	bool told = napi_create_uint32(env, connection->id, &arguments[0]) ==
			    napi_ok &&
		    napi_create_buffer_copy(env, size, bytes, &copy,
					    &arguments[1]) == napi_ok &&
		    napi_create_array_with_length(env, count, &arguments[2]) ==
			    napi_ok;

	for (size_t i = 0; told && i < count; i++) {
		napi_value object = describe(env, fds[i]);

		told = object != NULL &&
		       napi_set_element(env, arguments[2], (uint32_t)i,
					object) == napi_ok;
	}
	/*
	 * One that only keeps a port for another is let go of before anybody can
	 * answer: while it lives, the other cannot listen. The last one, the
	 * owner, lives until it is known, so that its end is heard of even if
	 * the program closes it meanwhile.
	 */
	for (size_t i = 0; i + 1 < count; i++)
		close(fds[i]);
	if (told)
		call(door, ON_MESSAGE, 3, arguments);
	if (count > 0)
		close(fds[count - 1]);
}

static size_t take_descriptors(struct msghdr *msg, int *fds)
{
	size_t count = 0;

	for (struct cmsghdr *part = CMSG_FIRSTHDR(msg); part != NULL;
	     part = CMSG_NXTHDR(msg, part)) {
		size_t bytes = part->cmsg_len - CMSG_LEN(0);

		if (part->cmsg_level != SOL_SOCKET ||
		    part->cmsg_type != SCM_RIGHTS)
			continue;
		/* The kernel has cut what does not fit the control buffer. */
		memcpy(fds + count, CMSG_DATA(part), bytes);
		count += bytes / sizeof(int);
	}
	return count;
}

/* Returns false when there is nothing more to take from the connection. */
static bool receive(void *source)
{
	struct connection *connection = source;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(MOST_SOCKETS * sizeof(int))];
	} control;
	char bytes[MOST_BYTES];
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct door *door = connection->door;
	uint32_t id = connection->id;
	int fds[MOST_SOCKETS + 1];
	napi_value argument;
	ssize_t size;
	size_t count;

	do
		size = recvmsg(connection->fd, &msg,
			       MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (size < 0 && errno == EINTR);
	if (size < 0 && errno == EAGAIN)
		return false;
	count = size < 0 ? 0 : take_descriptors(&msg, fds);
	if (size > 0 && !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
		tell(connection, bytes, (size_t)size, fds, count);
		/* JavaScript may have dropped it, or closed the door. */
		for (connection = door->connections; connection != NULL;
		     connection = connection->next)
			if (connection->id == id)
				return true;
		return false;
	}
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
	drop(connection);
	if (napi_create_uint32(door->polled.env, id, &argument) == napi_ok)
		call(door, ON_CLOSE, 1, &argument);
	return false;
}

static void on_bytes(uv_poll_t *poll, int status, int events)
{
	struct connection *connection = poll->data;

	(void)status;
	(void)events;
	polled_turn(&connection->door->polled, PER_TURN, receive, connection);
}

static void welcome(struct door *door, int fd)
{
	struct ucred peer = { 0 };
	socklen_t size = sizeof(peer);
	struct connection *connection = calloc(1, sizeof(*connection));
	napi_env env = door->polled.env;
	napi_value arguments[3];
	uv_loop_t *loop;

	if (connection == NULL ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) ||
	    napi_get_uv_event_loop(env, &loop) != napi_ok ||
	    uv_poll_init(loop, &connection->poll, fd)) {
		free(connection);
		close(fd);
		return;
	}
	connection->door = door;
	connection->fd = fd;
	connection->id = ++door->last_id;
	connection->poll.data = connection;
	connection->next = door->connections;
	door->connections = connection;
	door->polled.holders++;
	if (uv_poll_start(&connection->poll, UV_READABLE, on_bytes)) {
		drop(connection);
		return;
	}
	if (napi_create_uint32(env, connection->id, &arguments[0]) == napi_ok &&
	    napi_create_uint32(env, peer.uid, &arguments[1]) == napi_ok &&
	    napi_create_int32(env, peer.pid, &arguments[2]) == napi_ok)
		call(door, ON_CONNECT, 3, arguments);
}

static bool take_connection(void *source)
{
	struct door *door = source;
	int fd = accept4(door->polled.fd, NULL, NULL,
			 SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0)
		welcome(door, fd);
	return fd >= 0;
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
	(void)status;
	(void)events;
	polled_turn(poll->data, PER_TURN, take_connection, poll->data);
}

/* Returns a listening socket, or a negative errno. */
static int open_listening(const char *path, mode_t mode)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, code;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* Nobody can connect before listen(), whatever the mode is until then. */
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    chmod(path, mode) || listen(fd, BACKLOG)) {
		code = errno;
		close(fd);
		return -code;
	}
	return fd;
}

static const struct polled_kind door_kind = {
	.size = sizeof(struct door),
	.tag = { 0x697374686d757361, 0x736f636b65747331 },
	.name = "isthmus:sockets",
	.mismatch = "not a door",
	.values = VALUES,
	.on_readable = on_connection,
	.on_close = drop_all,
};

static napi_value open_door(napi_env env, napi_callback_info info)
{
	static const char usage[] = "open(path, mode, ...callbacks)";
	napi_value values[5];
	char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	size_t count = 5, length;
	napi_valuetype type;
	uint32_t mode;

	if (napi_get_cb_info(env, info, &count, values, NULL, NULL) !=
		    napi_ok ||
	    count != 5 ||
	    napi_get_value_string_utf8(env, values[0], path, sizeof(path),
				       &length) != napi_ok ||
	    napi_get_value_uint32(env, values[1], &mode) != napi_ok)
		return polled_refuse(env, usage);
	for (size_t i = 2; i < 5; i++)
		if (napi_typeof(env, values[i], &type) != napi_ok ||
		    type != napi_function)
			return polled_refuse(env, usage);
	return polled_open(env, &door_kind, open_listening(path, mode),
			   values + 2);
}

static struct connection *find(struct door *door, napi_value id)
{
	struct connection *connection;
	uint32_t wanted;

	if (napi_get_value_uint32(door->polled.env, id, &wanted) != napi_ok)
		return NULL;
	for (connection = door->connections; connection != NULL;
	     connection = connection->next)
		if (connection->id == wanted)
			return connection;
	return NULL;
}

static napi_value answer(napi_env env, napi_callback_info info)
{
	napi_value values[3];
	struct door *door = polled_arguments(env, info, 3, values);
	struct connection *connection;
	napi_typedarray_type type;
	size_t size;
	void *data;

	if (door == NULL)
		return NULL;
	if (napi_get_typedarray_info(env, values[2], &type, &size, &data, NULL,
				     NULL) != napi_ok ||
	    type != napi_uint8_array)
		return polled_refuse(env, "not a Uint8Array");
	connection = find(door, values[1]);
	if (connection == NULL)
		return polled_number(env, -ENOTCONN);
	if (send(connection->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return polled_number(env, -errno);
	return polled_number(env, 0);
}

static napi_value drop_connection(napi_env env, napi_callback_info info)
{
	napi_value values[2];
	struct door *door = polled_arguments(env, info, 2, values);
	struct connection *connection;

	if (door == NULL)
		return NULL;
	connection = find(door, values[1]);
	if (connection != NULL)
		drop(connection);
	return NULL;
}

static napi_value own_network(napi_env env, napi_callback_info info)
{
	napi_value object, cookie = NULL;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)info;
	if (fd < 0)
		return polled_refuse(env, "there is no IPv4");
	if (napi_create_object(env, &object) == napi_ok &&
	    set_cookie(env, object, "network", fd, SO_NETNS_COOKIE))
		napi_get_named_property(env, object, "network", &cookie);
	close(fd);
	return cookie;
}

NAPI_MODULE_INIT()
{
	static const struct addon_function functions[] = {
		{ "open", open_door },
		{ "answer", answer },
		{ "drop", drop_connection },
		{ "close", polled_close_function },
		{ "ownNetwork", own_network },
	};

	return polled_init(env, exports, &door_kind, functions,
			   sizeof(functions) / sizeof(functions[0]));
}
