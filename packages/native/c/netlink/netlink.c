// SPDX-License-Identifier: Apache-2.0
/*
 * Netlink sockets for JavaScript; src/netlink/binding.ts says what each
 * function does. Everything about messages is TypeScript: here are only the
 * system calls and the event loop.
 */
#include <errno.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../polled/polled.h"

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

/*
 * Datagrams that are taken in one turn of the loop: a flood of events must not
 * keep timers and other sockets from running.
 */
#define DATAGRAMS_PER_TURN 64

/* What a socket holds: */
enum {
	/* a Uint8Array, where each datagram is put, */
	BUFFER,
	/* and what is called with its size, or with a negative errno. */
	ON_RECEIVE,
	VALUES,
};

static void deliver(struct polled *socket, int result)
{
	napi_value argument;

	if (napi_create_int32(socket->env, result, &argument) == napi_ok)
		polled_call(socket, socket->values[ON_RECEIVE], 1, &argument);
}

static bool get_buffer(struct polled *socket, struct iovec *iov)
{
	napi_typedarray_type type;
	napi_value value;

	/* Asked each time: JavaScript may have detached the memory. */
	return napi_get_reference_value(socket->env, socket->values[BUFFER],
					&value) == napi_ok &&
	       napi_get_typedarray_info(socket->env, value, &type,
					&iov->iov_len, &iov->iov_base, NULL,
					NULL) == napi_ok &&
	       iov->iov_len > 0 && iov->iov_base != NULL;
}

/*
 * Takes one datagram and delivers it. Returns false when there is none left,
 * or when the socket is of no use any more.
 */
static bool receive(void *source)
{
	struct polled *socket = source;
	struct sockaddr_nl from = { 0 };
	struct iovec iov;
	struct msghdr msg = {
		.msg_name = &from,
		.msg_namelen = sizeof(from),
		.msg_iov = &iov,
		.msg_iovlen = 1,
	};
	ssize_t size = -1;

	if (get_buffer(socket, &iov)) {
		do
			size = recvmsg(socket->fd, &msg, MSG_DONTWAIT);
		while (size < 0 && errno == EINTR);
	} else {
		errno = EFAULT;
	}
	if (size < 0) {
		int code = errno;

		if (code == EAGAIN)
			return false;
		if (code != ENOBUFS)
			uv_poll_stop(&socket->poll);
		deliver(socket, -code);
		/* After a receive overrun the socket goes on. */
		return code == ENOBUFS;
	}
	/* Other processes may send to us; only the kernel is listened to. */
	if (msg.msg_namelen != sizeof(from) || from.nl_pid != 0)
		return true;
	deliver(socket, msg.msg_flags & MSG_TRUNC ? -EMSGSIZE : (int)size);
	return true;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	(void)events;
	/*
	 * A pending socket error, as after a receive overrun, makes libuv stop
	 * the handle; recvmsg() takes the error and says which one it is.
	 */
	if (status < 0)
		uv_poll_start(poll, UV_READABLE, on_poll);
	polled_turn(poll->data, DATAGRAMS_PER_TURN, receive, poll->data);
}

static void set_option(int fd, int option, int value)
{
	/* Older kernels lack some; their answers say less then. */
	(void)setsockopt(fd, SOL_NETLINK, option, &value, sizeof(value));
}

static void set_receive_buffer(int fd, int bytes)
{
	/* FORCE goes beyond the system's limit, and needs CAP_NET_ADMIN. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)))
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes,
				 sizeof(bytes));
}

/* Returns a bound socket, or a negative errno. */
static int open_bound(int protocol, int receive_buffer_bytes)
{
	struct sockaddr_nl any = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
			protocol);

	if (fd < 0)
		return -errno;
	set_option(fd, NETLINK_EXT_ACK, 1);
	set_option(fd, NETLINK_CAP_ACK, 1);
	set_option(fd, NETLINK_GET_STRICT_CHK, 1);
	set_receive_buffer(fd, receive_buffer_bytes);
	if (bind(fd, (struct sockaddr *)&any, sizeof(any))) {
		int code = errno;

		close(fd);
		return -code;
	}
	return fd;
}

static const struct polled_kind socket_kind = {
	.size = sizeof(struct polled),
	.tag = { 0x697374686d757361, 0x6e65746c696e6b31 },
	.name = "isthmus:netlink",
	.mismatch = "not a netlink socket",
	.values = VALUES,
	.on_readable = on_poll,
};

static napi_value netlink_open(napi_env env, napi_callback_info info)
{
	napi_value values[4];
	size_t count = 4;
	int32_t protocol, bytes;
	napi_valuetype type;
	bool is_array;

	if (napi_get_cb_info(env, info, &count, values, NULL, NULL) !=
		    napi_ok ||
	    count != 4 ||
	    napi_get_value_int32(env, values[0], &protocol) != napi_ok ||
	    napi_get_value_int32(env, values[1], &bytes) != napi_ok ||
	    napi_is_typedarray(env, values[2], &is_array) != napi_ok ||
	    !is_array || napi_typeof(env, values[3], &type) != napi_ok ||
	    type != napi_function)
		return polled_refuse(env, "open(protocol, bytes, buffer, "
					  "onReceive)");
	return polled_open(env, &socket_kind, open_bound(protocol, bytes),
			   values + 2);
}

static napi_value netlink_send(napi_env env, napi_callback_info info)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	napi_value values[2];
	struct polled *socket = polled_arguments(env, info, 2, values);
	napi_typedarray_type type;
	size_t size;
	ssize_t sent;
	void *data;

	if (socket == NULL)
		return NULL;
	if (napi_get_typedarray_info(env, values[1], &type, &size, &data, NULL,
				     NULL) != napi_ok ||
	    type != napi_uint8_array)
		return polled_refuse(env, "not a Uint8Array");
	do
		sent = sendto(socket->fd, data, size, MSG_DONTWAIT,
			      (struct sockaddr *)&kernel, sizeof(kernel));
	while (sent < 0 && errno == EINTR);
	return polled_number(env, sent < 0 ? -errno : 0);
}

static napi_value set_membership(napi_env env, napi_callback_info info,
				 int option)
{
	napi_value values[2];
	struct polled *socket = polled_arguments(env, info, 2, values);
	uint32_t group;

	if (socket == NULL)
		return NULL;
	if (napi_get_value_uint32(env, values[1], &group) != napi_ok)
		return polled_refuse(env, "not a group");
	if (setsockopt(socket->fd, SOL_NETLINK, option, &group, sizeof(group)))
		return polled_number(env, -errno);
	return polled_number(env, 0);
}

static napi_value netlink_join(napi_env env, napi_callback_info info)
{
	return set_membership(env, info, NETLINK_ADD_MEMBERSHIP);
}

static napi_value netlink_leave(napi_env env, napi_callback_info info)
{
	return set_membership(env, info, NETLINK_DROP_MEMBERSHIP);
}

static napi_value netlink_port_id(napi_env env, napi_callback_info info)
{
	napi_value value, result;
	struct polled *socket = polled_arguments(env, info, 1, &value);
	struct sockaddr_nl own = { 0 };
	socklen_t size = sizeof(own);

	if (socket == NULL)
		return NULL;
	if (getsockname(socket->fd, (struct sockaddr *)&own, &size))
		return polled_refuse(env, "the socket has no address");
	return napi_create_uint32(env, own.nl_pid, &result) == napi_ok ?
		       result :
		       NULL;
}

static napi_value netlink_set_ref(napi_env env, napi_callback_info info)
{
	napi_value values[2];
	struct polled *socket = polled_arguments(env, info, 2, values);
	bool keeps;

	if (socket == NULL)
		return NULL;
	if (napi_get_value_bool(env, values[1], &keeps) != napi_ok)
		return polled_refuse(env, "not a boolean");
	if (socket->closing)
		return NULL;
	if (keeps)
		uv_ref((uv_handle_t *)&socket->poll);
	else
		uv_unref((uv_handle_t *)&socket->poll);
	return NULL;
}

NAPI_MODULE_INIT()
{
	static const struct addon_function functions[] = {
		{ "open", netlink_open },
		{ "send", netlink_send },
		{ "join", netlink_join },
		{ "leave", netlink_leave },
		{ "portId", netlink_port_id },
		{ "setRef", netlink_set_ref },
		{ "close", polled_close_function },
	};

	return polled_init(env, exports, &socket_kind, functions,
			   sizeof(functions) / sizeof(functions[0]));
}
