// SPDX-License-Identifier: Apache-2.0
/*
 * Netlink sockets for JavaScript; src/netlink/binding.ts says what each
 * function does. Everything about messages is TypeScript: here are only the
 * system calls and the event loop.
 *
 * Lifetime: a socket has two holders, its JavaScript external and its libuv
 * handle. netlink_close() may be called by JavaScript (in its own callback,
 * too), by the external's finalizer and by the environment's cleanup; what it
 * has is given back in closed(), once libuv has let go of it. Nothing of
 * JavaScript is called after netlink_close().
 */
#include <errno.h>
#include <linux/netlink.h>
#include <node_api.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

/*
 * Datagrams that are taken in one turn of the loop: a flood of events must not
 * keep timers and other sockets from running.
 */
#define DATAGRAMS_PER_TURN 64

/* Tells our sockets from the externals of other add-ons. */
static const napi_type_tag socket_tag = { 0x697374686d757361,
					  0x6e65746c696e6b31 };

struct netlink_socket {
	napi_env env;
	uv_poll_t poll;
	int fd;
	bool closing;
	/* External and libuv handle. */
	int holders;
	/* A Uint8Array, where each datagram is put. */
	napi_ref buffer;
	/* Called with the datagram's size, or with a negative errno. */
	napi_ref on_receive;
	napi_async_context context;
	napi_async_cleanup_hook_handle cleanup;
};

static napi_value refuse(napi_env env, const char *message)
{
	napi_throw_type_error(env, NULL, message);
	return NULL;
}

static napi_value number(napi_env env, int value)
{
	napi_value result;

	return napi_create_int32(env, value, &result) == napi_ok ? result :
								   NULL;
}

static void put(struct netlink_socket *socket)
{
	if (--socket->holders == 0)
		free(socket);
}

static void closed(uv_handle_t *handle)
{
	struct netlink_socket *socket = handle->data;

	napi_delete_reference(socket->env, socket->buffer);
	napi_delete_reference(socket->env, socket->on_receive);
	napi_async_destroy(socket->env, socket->context);
	/* The environment may be gone when this returns. */
	napi_remove_async_cleanup_hook(socket->cleanup);
	put(socket);
}

static void netlink_close(struct netlink_socket *socket)
{
	if (socket->closing)
		return;
	socket->closing = true;
	uv_close((uv_handle_t *)&socket->poll, closed);
	/* libuv has taken it out of its poll set by now. */
	close(socket->fd);
	socket->fd = -1;
}

static void cleanup(napi_async_cleanup_hook_handle handle, void *data)
{
	(void)handle;
	netlink_close(data);
}

static void finalize(napi_env env, void *data, void *hint)
{
	(void)env;
	(void)hint;
	netlink_close(data);
	put(data);
}

/* Calls JavaScript; what it throws becomes an uncaught exception. */
static void deliver(struct netlink_socket *socket, int result)
{
	napi_env env = socket->env;
	napi_value receiver, function, argument, error;

	if (napi_create_object(env, &receiver) != napi_ok ||
	    napi_get_reference_value(env, socket->on_receive, &function) !=
		    napi_ok ||
	    napi_create_int32(env, result, &argument) != napi_ok)
		return;
	if (napi_make_callback(env, socket->context, receiver, function, 1,
			       &argument, NULL) != napi_pending_exception)
		return;
	if (napi_get_and_clear_last_exception(env, &error) == napi_ok)
		napi_fatal_exception(env, error);
}

static bool get_buffer(struct netlink_socket *socket, struct iovec *iov)
{
	napi_typedarray_type type;
	napi_value value;

	/* Asked each time: JavaScript may have detached the memory. */
	return napi_get_reference_value(socket->env, socket->buffer, &value) ==
		       napi_ok &&
	       napi_get_typedarray_info(socket->env, value, &type,
					&iov->iov_len, &iov->iov_base, NULL,
					NULL) == napi_ok &&
	       iov->iov_len > 0 && iov->iov_base != NULL;
}

/*
 * Takes one datagram and delivers it. Returns false when there is none left,
 * or when the socket is of no use any more.
 */
static bool receive(struct netlink_socket *socket)
{
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
	struct netlink_socket *socket = poll->data;

	(void)events;
	/*
	 * A pending socket error, as after a receive overrun, makes libuv stop
	 * the handle; recvmsg() takes the error and says which one it is.
	 */
	if (status < 0)
		uv_poll_start(poll, UV_READABLE, on_poll);
	for (int i = 0; i < DATAGRAMS_PER_TURN && !socket->closing; i++) {
		napi_handle_scope scope;
		bool more;

		if (napi_open_handle_scope(socket->env, &scope) != napi_ok)
			return;
		more = receive(socket);
		napi_close_handle_scope(socket->env, scope);
		if (!more)
			return;
	}
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

static bool hold_values(struct netlink_socket *socket, napi_value buffer,
			napi_value on_receive)
{
	napi_env env = socket->env;
	napi_value name;

	return napi_create_reference(env, buffer, 1, &socket->buffer) ==
		       napi_ok &&
	       napi_create_reference(env, on_receive, 1, &socket->on_receive) ==
		       napi_ok &&
	       napi_create_string_utf8(env, "isthmus:netlink", NAPI_AUTO_LENGTH,
				       &name) == napi_ok &&
	       napi_async_init(env, NULL, name, &socket->context) == napi_ok &&
	       napi_add_async_cleanup_hook(env, cleanup, socket,
					   &socket->cleanup) == napi_ok;
}

static void forget_values(struct netlink_socket *socket)
{
	if (socket->context != NULL)
		napi_async_destroy(socket->env, socket->context);
	if (socket->on_receive != NULL)
		napi_delete_reference(socket->env, socket->on_receive);
	if (socket->buffer != NULL)
		napi_delete_reference(socket->env, socket->buffer);
}

static napi_value netlink_open(napi_env env, napi_callback_info info)
{
	napi_value values[4], external;
	size_t count = 4;
	struct netlink_socket *socket;
	int32_t protocol, bytes;
	napi_valuetype type;
	uv_loop_t *loop;
	bool is_array;
	int fd;

	if (napi_get_cb_info(env, info, &count, values, NULL, NULL) !=
		    napi_ok ||
	    count != 4 ||
	    napi_get_value_int32(env, values[0], &protocol) != napi_ok ||
	    napi_get_value_int32(env, values[1], &bytes) != napi_ok ||
	    napi_is_typedarray(env, values[2], &is_array) != napi_ok ||
	    !is_array || napi_typeof(env, values[3], &type) != napi_ok ||
	    type != napi_function)
		return refuse(env, "open(protocol, bytes, buffer, onReceive)");
	fd = open_bound(protocol, bytes);
	if (fd < 0)
		return number(env, fd);
	socket = calloc(1, sizeof(*socket));
	if (socket == NULL) {
		close(fd);
		return number(env, -ENOMEM);
	}
	socket->env = env;
	socket->fd = fd;
	if (napi_get_uv_event_loop(env, &loop) != napi_ok ||
	    !hold_values(socket, values[2], values[3]))
		goto fail;
	if (uv_poll_init(loop, &socket->poll, fd)) {
		napi_remove_async_cleanup_hook(socket->cleanup);
		goto fail;
	}
	socket->poll.data = socket;
	socket->holders = 1;
	if (uv_poll_start(&socket->poll, UV_READABLE, on_poll) ||
	    napi_create_external(env, socket, finalize, NULL, &external) !=
		    napi_ok) {
		netlink_close(socket);
		return refuse(env, "the socket cannot be watched");
	}
	socket->holders++;
	if (napi_type_tag_object(env, external, &socket_tag) != napi_ok)
		return refuse(env, "the socket cannot be marked");
	return external;

fail:
	forget_values(socket);
	free(socket);
	close(fd);
	return refuse(env, "the socket cannot be set up");
}

/* Reads @count arguments, the first of which is an open socket. */
static struct netlink_socket *get_arguments(napi_env env,
					    napi_callback_info info,
					    size_t count, napi_value *values)
{
	size_t passed = count;
	bool ours = false;
	void *data;

	if (napi_get_cb_info(env, info, &passed, values, NULL, NULL) !=
		    napi_ok ||
	    passed != count ||
	    napi_check_object_type_tag(env, values[0], &socket_tag, &ours) !=
		    napi_ok ||
	    !ours || napi_get_value_external(env, values[0], &data) != napi_ok) {
		refuse(env, "not a netlink socket");
		return NULL;
	}
	return data;
}

static napi_value netlink_send(napi_env env, napi_callback_info info)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	napi_value values[2];
	struct netlink_socket *socket = get_arguments(env, info, 2, values);
	napi_typedarray_type type;
	size_t size;
	ssize_t sent;
	void *data;

	if (socket == NULL)
		return NULL;
	if (napi_get_typedarray_info(env, values[1], &type, &size, &data, NULL,
				     NULL) != napi_ok ||
	    type != napi_uint8_array)
		return refuse(env, "not a Uint8Array");
	do
		sent = sendto(socket->fd, data, size, MSG_DONTWAIT,
			      (struct sockaddr *)&kernel, sizeof(kernel));
	while (sent < 0 && errno == EINTR);
	return number(env, sent < 0 ? -errno : 0);
}

static napi_value set_membership(napi_env env, napi_callback_info info,
				 int option)
{
	napi_value values[2];
	struct netlink_socket *socket = get_arguments(env, info, 2, values);
	uint32_t group;

	if (socket == NULL)
		return NULL;
	if (napi_get_value_uint32(env, values[1], &group) != napi_ok)
		return refuse(env, "not a group");
	return number(env, setsockopt(socket->fd, SOL_NETLINK, option, &group,
				      sizeof(group)) ?
				   -errno :
				   0);
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
	struct netlink_socket *socket = get_arguments(env, info, 1, &value);
	struct sockaddr_nl own = { 0 };
	socklen_t size = sizeof(own);

	if (socket == NULL)
		return NULL;
	if (getsockname(socket->fd, (struct sockaddr *)&own, &size))
		return refuse(env, "the socket has no address");
	return napi_create_uint32(env, own.nl_pid, &result) == napi_ok ?
		       result :
		       NULL;
}

static napi_value netlink_set_ref(napi_env env, napi_callback_info info)
{
	napi_value values[2];
	struct netlink_socket *socket = get_arguments(env, info, 2, values);
	bool keeps;

	if (socket == NULL)
		return NULL;
	if (napi_get_value_bool(env, values[1], &keeps) != napi_ok)
		return refuse(env, "not a boolean");
	if (socket->closing)
		return NULL;
	if (keeps)
		uv_ref((uv_handle_t *)&socket->poll);
	else
		uv_unref((uv_handle_t *)&socket->poll);
	return NULL;
}

static napi_value close_socket(napi_env env, napi_callback_info info)
{
	napi_value value;
	struct netlink_socket *socket = get_arguments(env, info, 1, &value);

	if (socket != NULL)
		netlink_close(socket);
	return NULL;
}

NAPI_MODULE_INIT()
{
	static const struct {
		const char *name;
		napi_callback call;
	} functions[] = {
		{ "open", netlink_open },
		{ "send", netlink_send },
		{ "join", netlink_join },
		{ "leave", netlink_leave },
		{ "portId", netlink_port_id },
		{ "setRef", netlink_set_ref },
		{ "close", close_socket },
	};

	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		napi_value function;

		if (napi_create_function(env, functions[i].name,
					 NAPI_AUTO_LENGTH, functions[i].call,
					 NULL, &function) != napi_ok ||
		    napi_set_named_property(env, exports, functions[i].name,
					    function) != napi_ok)
			return NULL;
	}
	return exports;
}
