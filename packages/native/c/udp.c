// SPDX-License-Identifier: Apache-2.0
/*
 * UDP sockets in the event loop of JavaScript; src/udp/engine.ts says what each
 * function does. What has arrived is told at once, and what is to go to one
 * address is sent at once, each with few calls to the kernel.
 *
 * Lifetime: a socket is a polled object. The memory into which all sockets of
 * an environment receive is the environment's.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "addon.h"
#include "datagram-relay.h"
#include "datagram-train.h"
#include "polled/polled.h"

/* Received in one call. */
#define BATCH 64
/* One socket is read so often before others get their turn. */
#define BATCHES_PER_TURN 4
/* What the kernel may merge into one, and the largest datagram. */
#define MESSAGE_BYTES 65536
/* Not a power of two: the first lines of all messages would share one set. */
#define STRIDE (MESSAGE_BYTES + 3 * 64)
/* Kernels merge no more. */
#define MOST_MERGED 128
#define MOST_TOLD (BATCH * MOST_MERGED)
/* So few bytes JavaScript copies into memory that it has: half its pool. */
#define FEW_BYTES 4096
/* Of what a socket had no room for; more is lost. */
#define MOST_WAITING_BYTES (1024u * 1024u)
/* "fe80::1%eth0" */
#define ADDRESS_TEXT (INET6_ADDRSTRLEN + 1 + IF_NAMESIZE)

/* What arrives, until JavaScript has been told. */
struct inbox {
	struct mmsghdr messages[BATCH];
	struct iovec iovs[BATCH];
	union datagram_address names[BATCH];
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr alignment;
	} controls[BATCH];
	char bytes[BATCH * STRIDE];
};

/* Of one environment. */
struct udp {
	/* NULL until there is a socket. */
	struct inbox *inbox;
	/*
	 * The memory of the Uint32Array `ends`, and what keeps it for as long as
	 * the environment lives.
	 */
	uint32_t *ends;
	napi_ref ends_ref;
	/* The same of the Uint8Array `few`. */
	char *few;
	napi_ref few_ref;
};

/* Datagrams to one address that the socket had no room for. */
struct waiting {
	struct waiting *next;
	union datagram_address to;
	socklen_t to_size;
	struct held *held;
};

enum { ON_DATAGRAMS, VALUES };

struct udp_socket {
	struct polled polled;
	bool is_connected;
	/* The loop looks for room, too. */
	bool wants_room;
	struct train_limit limit;
	struct waiting *waiting;
	struct waiting **last_waiting;
	size_t waiting_bytes;
};

/* Addresses */

static bool parse_address(char *text, uint16_t port,
			  union datagram_address *address, socklen_t *size)
{
	char *scope = strchr(text, '%');

	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, text, &address->v4.sin_addr) == 1) {
		address->v4.sin_family = AF_INET;
		address->v4.sin_port = htons(port);
		*size = sizeof(address->v4);
		return true;
	}
	if (scope != NULL) {
		*scope = '\0';
		address->v6.sin6_scope_id = if_nametoindex(scope + 1);
	}
	if (inet_pton(AF_INET6, text, &address->v6.sin6_addr) != 1)
		return false;
	address->v6.sin6_family = AF_INET6;
	address->v6.sin6_port = htons(port);
	*size = sizeof(address->v6);
	return true;
}

/* Throws where they are none. */
static bool get_address(napi_env env, const napi_value *values,
			union datagram_address *address, socklen_t *size)
{
	char text[ADDRESS_TEXT];
	uint32_t port;

	if (napi_get_value_string_utf8(env, values[0], text, sizeof(text),
				       NULL) == napi_ok &&
	    napi_get_value_uint32(env, values[1], &port) == napi_ok &&
	    port <= UINT16_MAX &&
	    parse_address(text, (uint16_t)port, address, size))
		return true;
	polled_refuse(env, "an address is a literal and a port");
	return false;
}

static uint16_t port_of(const union datagram_address *address)
{
	return ntohs(address->any.sa_family == AF_INET6 ?
			     address->v6.sin6_port :
			     address->v4.sin_port);
}

/* As Node writes it: with the interface of an address that needs one. */
static napi_value address_text(napi_env env,
			       const union datagram_address *address)
{
	char text[ADDRESS_TEXT], name[IF_NAMESIZE];
	napi_value value;

	if (address->any.sa_family == AF_INET) {
		inet_ntop(AF_INET, &address->v4.sin_addr, text, sizeof(text));
	} else {
		inet_ntop(AF_INET6, &address->v6.sin6_addr, text, sizeof(text));
		if (IN6_IS_ADDR_LINKLOCAL(&address->v6.sin6_addr) &&
		    if_indextoname(address->v6.sin6_scope_id, name) != NULL) {
			strcat(text, "%");
			strcat(text, name);
		}
	}
	return napi_create_string_latin1(env, text, NAPI_AUTO_LENGTH, &value) ==
			       napi_ok ?
		       value :
		       NULL;
}

static bool is_same_source(const struct mmsghdr *a, const struct mmsghdr *b)
{
	return a->msg_hdr.msg_namelen == b->msg_hdr.msg_namelen &&
	       memcmp(a->msg_hdr.msg_name, b->msg_hdr.msg_name,
		      a->msg_hdr.msg_namelen) == 0;
}

/* What arrives */

static struct inbox *make_inbox(void)
{
	struct inbox *inbox = calloc(1, sizeof(*inbox));

	if (inbox == NULL)
		return NULL;
	for (int i = 0; i < BATCH; i++) {
		struct msghdr *message = &inbox->messages[i].msg_hdr;

		inbox->iovs[i] = (struct iovec){
			.iov_base = inbox->bytes + (size_t)i * STRIDE,
			.iov_len = MESSAGE_BYTES,
		};
		message->msg_name = &inbox->names[i];
		message->msg_iov = &inbox->iovs[i];
		message->msg_iovlen = 1;
		message->msg_control = &inbox->controls[i];
	}
	return inbox;
}

static int receive(struct inbox *inbox, int fd)
{
	int received;

	for (int i = 0; i < BATCH; i++) {
		struct msghdr *message = &inbox->messages[i].msg_hdr;

		message->msg_namelen = sizeof(inbox->names[i]);
		message->msg_controllen = sizeof(inbox->controls[i]);
		message->msg_flags = 0;
	}
	do
		received = recvmmsg(fd, inbox->messages, BATCH, MSG_DONTWAIT,
				    NULL);
	while (received < 0 && errno == EINTR);
	return received;
}

/* Where each datagram of a message ends, behind those before it. */
static uint32_t add_ends(uint32_t *ends, uint32_t count, size_t *end,
			 const struct mmsghdr *message)
{
	size_t segment = train_segment(message);
	size_t left = message->msg_len;

	do {
		size_t size = left < segment ? left : segment;

		*end += size;
		left -= size;
		ends[count++] = (uint32_t)*end;
	} while (left > 0 && count < MOST_TOLD);
	return count;
}

/* [address, port, how many datagrams, ...], or NULL. */
static napi_value add_source(napi_env env, napi_value sources, uint32_t *next,
			     const union datagram_address *source,
			     uint32_t count)
{
	napi_value values[3] = {
		address_text(env, source),
		addon_number(env, port_of(source)),
		addon_number(env, count),
	};

	for (int i = 0; i < 3; i++)
		if (values[i] == NULL ||
		    napi_set_element(env, sources, (*next)++, values[i]) !=
			    napi_ok)
			return NULL;
	return sources;
}

static void tell(struct udp_socket *socket, struct udp *udp, int received)
{
	const struct mmsghdr *messages = udp->inbox->messages;
	napi_env env = socket->polled.env;
	uint32_t count = 0, told = 0, next = 0;
	napi_value arguments[3];
	size_t total = 0, at = 0;
	void *bytes;

	for (int i = 0; i < received; i++)
		total += messages[i].msg_len;
	bytes = udp->few;
	if ((total < FEW_BYTES ?
		     napi_get_undefined(env, &arguments[0]) :
		     napi_create_buffer(env, total, &bytes, &arguments[0])) !=
		    napi_ok ||
	    (socket->is_connected ?
		     napi_get_undefined(env, &arguments[2]) :
		     napi_create_array(env, &arguments[2])) != napi_ok)
		return;
	for (int i = 0; i < received; i++) {
		memcpy((char *)bytes + at, udp->inbox->iovs[i].iov_base,
		       messages[i].msg_len);
		at += messages[i].msg_len;
	}
	at = 0;
	for (int i = 0; i < received; i++) {
		bool is_last = i + 1 == received ||
			       !is_same_source(&messages[i], &messages[i + 1]);

		count = add_ends(udp->ends, count, &at, &messages[i]);
		if (socket->is_connected || !is_last)
			continue;
		if (add_source(env, arguments[2], &next, &udp->inbox->names[i],
			       count - told) == NULL)
			return;
		told = count;
	}
	arguments[1] = addon_number(env, count);
	if (arguments[1] != NULL)
		polled_call(&socket->polled,
			    socket->polled.values[ON_DATAGRAMS], 3, arguments);
}

static bool take_batch(void *source)
{
	struct udp_socket *socket = source;
	struct udp *udp;
	int received;

	if (napi_get_instance_data(socket->polled.env, (void **)&udp) !=
	    napi_ok)
		return false;
	received = receive(udp->inbox, socket->polled.fd);
	/* An ICMP error is read instead of datagrams, once. */
	if (received < 0)
		return errno != EAGAIN;
	tell(socket, udp, received);
	return received == BATCH;
}

/* What is sent */

static void free_first_waiting(struct udp_socket *socket)
{
	struct waiting *first = socket->waiting;

	socket->waiting = first->next;
	if (socket->waiting == NULL)
		socket->last_waiting = &socket->waiting;
	held_free(&first->held);
	free(first);
}

/* With what keeps them: datagrams may be empty. */
static size_t bytes_of(const struct held *held)
{
	size_t bytes = 0;

	for (; held != NULL; held = held->next)
		bytes += sizeof(*held) + held->length;
	return bytes;
}

static void on_event(uv_poll_t *poll, int status, int events);

static void watch(struct udp_socket *socket, bool wants_room)
{
	socket->wants_room = wants_room;
	uv_poll_start(&socket->polled.poll,
		      wants_room ? UV_READABLE | UV_WRITABLE : UV_READABLE,
		      on_event);
}

/* Takes over @held. */
static void wait_for_room(struct udp_socket *socket,
			  const union datagram_address *to, socklen_t to_size,
			  struct held *held)
{
	size_t bytes = bytes_of(held);
	struct waiting *one = malloc(sizeof(*one));

	if (one == NULL || socket->waiting_bytes + bytes > MOST_WAITING_BYTES) {
		held_free(&held);
		free(one);
		return;
	}
	*one = (struct waiting){
		.to = *to,
		.to_size = to_size,
		.held = held,
	};
	*socket->last_waiting = one;
	socket->last_waiting = &one->next;
	socket->waiting_bytes += bytes;
	if (!socket->wants_room)
		watch(socket, true);
}

static struct train_target target_of(struct udp_socket *socket,
				     const union datagram_address *to,
				     socklen_t to_size)
{
	return (struct train_target){
		.fd = socket->polled.fd,
		.to = to,
		.to_size = to_size,
		.limit = &socket->limit,
	};
}

static void collect(struct udp_socket *socket, struct trains *trains,
		    const struct train_target *target, struct held **held,
		    const char *bytes, size_t length, size_t segment)
{
	struct train_result result = { 0 };

	while (!trains_add(trains, &socket->limit, &bytes, &length, segment))
		trains_send(trains, target, &result, held);
}

static void send_waiting(struct udp_socket *socket)
{
	while (socket->waiting != NULL) {
		struct waiting *first = socket->waiting;
		struct train_target target =
			target_of(socket, &first->to, first->to_size);
		struct train_result result = { 0 };
		struct held *again = NULL;
		struct trains trains;

		trains.count = 0;
		trains.piece_count = 0;
		socket->waiting_bytes -= bytes_of(first->held);
		for (struct held *one = first->held; one != NULL;
		     one = one->next)
			collect(socket, &trains, &target, &again, one->bytes,
				one->length, one->segment);
		trains_send(&trains, &target, &result, &again);
		held_free(&first->held);
		if (again != NULL) {
			first->held = again;
			socket->waiting_bytes += bytes_of(again);
			return;
		}
		free_first_waiting(socket);
	}
	watch(socket, false);
}

static void on_event(uv_poll_t *poll, int status, int events)
{
	struct udp_socket *socket = poll->data;

	/* libuv stops looking at a socket with an ICMP error. */
	if (status < 0)
		watch(socket, socket->wants_room);
	if (events & UV_WRITABLE)
		send_waiting(socket);
	if (status < 0 || (events & UV_READABLE))
		polled_turn(&socket->polled, BATCHES_PER_TURN, take_batch,
			    socket);
}

static void drop_waiting(struct polled *polled)
{
	struct udp_socket *socket = (struct udp_socket *)polled;

	while (socket->waiting != NULL)
		free_first_waiting(socket);
}

static const struct polled_kind udp_kind = {
	.size = sizeof(struct udp_socket),
	.tag = { 0x697374686d757361, 0x7564702d736f636b },
	.name = "isthmus:udp",
	.mismatch = "not a UDP socket",
	.values = VALUES,
	.on_readable = on_event,
	.on_close = drop_waiting,
};

/* What JavaScript calls */

static int connect_socket(const union datagram_address *to, socklen_t size,
			  int buffer_bytes)
{
	union datagram_address any = { .any.sa_family = to->any.sa_family };
	int fd = datagram_bind(&any.any, size, false, buffer_bytes), error;

	if (fd < 0 || connect(fd, &to->any, size) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

/* Address, port, whether to connect there, bytes of buffers, callback. */
static napi_value open_socket(napi_env env, napi_callback_info info)
{
	union datagram_address address;
	struct udp_socket *socket;
	struct udp *udp;
	napi_value values[5], external;
	uint32_t buffer_bytes;
	napi_valuetype type;
	bool is_connected;
	socklen_t size;
	int fd, on = 1;
	void *object;

	if (addon_arguments(env, info, 5, values) == NULL ||
	    !get_address(env, values, &address, &size))
		return NULL;
	if (napi_get_value_bool(env, values[2], &is_connected) != napi_ok ||
	    napi_get_value_uint32(env, values[3], &buffer_bytes) != napi_ok ||
	    buffer_bytes > INT32_MAX ||
	    napi_typeof(env, values[4], &type) != napi_ok ||
	    type != napi_function)
		return polled_refuse(env, "connected, bytes, callback");
	if (napi_get_instance_data(env, (void **)&udp) != napi_ok)
		return NULL;
	if (udp->inbox == NULL)
		udp->inbox = make_inbox();
	if (udp->inbox == NULL)
		return addon_fail_with(env, ENOMEM);
	fd = is_connected ?
		     connect_socket(&address, size, (int)buffer_bytes) :
		     datagram_bind(&address.any, size, false,
				   (int)buffer_bytes);
	if (fd < 0)
		return addon_fail_with(env, errno);
	/* A kernel that merges nothing does not know it. */
	setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on));
	external = polled_open(env, &udp_kind, fd, &values[4]);
	if (external == NULL ||
	    napi_get_value_external(env, external, &object) != napi_ok)
		return NULL;
	socket = object;
	socket->is_connected = is_connected;
	socket->last_waiting = &socket->waiting;
	train_limit_init(&socket->limit);
	return external;
}

static napi_value get_port(napi_env env, napi_callback_info info)
{
	union datagram_address address;
	socklen_t size = sizeof(address);
	napi_value value;
	struct udp_socket *socket = polled_arguments(env, info, 1, &value);

	if (socket == NULL)
		return NULL;
	if (getsockname(socket->polled.fd, &address.any, &size) < 0)
		return addon_fail_with(env, errno);
	return addon_number(env, port_of(&address));
}

/* Datagrams, and where to: nothing of a connected socket. */
static napi_value send_datagrams(napi_env env, napi_callback_info info)
{
	static char nothing;
	union datagram_address to = { 0 };
	struct train_result result = { 0 };
	struct train_target target;
	struct held *held = NULL;
	struct udp_socket *socket;
	napi_value values[4];
	struct trains trains;
	socklen_t to_size = 0;
	uint32_t count;

	socket = polled_arguments(env, info, 4, values);
	if (socket == NULL ||
	    (!socket->is_connected &&
	     !get_address(env, values + 2, &to, &to_size)))
		return NULL;
	if (napi_get_array_length(env, values[1], &count) != napi_ok)
		return polled_refuse(env, "an array of datagrams");
	if (socket->polled.closing)
		return NULL;
	target = target_of(socket, &to, to_size);
	trains.count = 0;
	trains.piece_count = 0;
	for (uint32_t i = 0; i < count; i++) {
		napi_typedarray_type type;
		napi_value element;
		size_t length;
		void *bytes;

		if (napi_get_element(env, values[1], i, &element) != napi_ok ||
		    napi_get_typedarray_info(env, element, &type, &length,
					     &bytes, NULL, NULL) != napi_ok ||
		    type != napi_uint8_array) {
			held_free(&held);
			return polled_refuse(env, "an array of datagrams");
		}
		/* Empty arrays may have no memory at all. */
		if (bytes == NULL)
			bytes = &nothing;
		if (socket->waiting != NULL)
			held_add(&held, bytes, length, length);
		else
			collect(socket, &trains, &target, &held, bytes, length,
				length);
	}
	trains_send(&trains, &target, &result, &held);
	if (held != NULL)
		wait_for_room(socket, &to, to_size, held);
	return NULL;
}

static void finalize(napi_env env, void *data, void *hint)
{
	struct udp *udp = data;

	(void)env;
	(void)hint;
	free(udp->inbox);
	free(udp);
}

/* An array of elements that JavaScript reads and C writes. */
static bool add_array(napi_env env, napi_value object, const char *name,
		      napi_typedarray_type type, size_t element_bytes,
		      size_t count, void *memory_out, napi_ref *ref)
{
	napi_value buffer, array;

	return napi_create_arraybuffer(env, count * element_bytes, memory_out,
				       &buffer) == napi_ok &&
	       napi_create_typedarray(env, type, count, buffer, 0, &array) ==
		       napi_ok &&
	       napi_create_reference(env, array, 1, ref) == napi_ok &&
	       napi_set_named_property(env, object, name, array) == napi_ok;
}

napi_value udp_init(napi_env env)
{
	static const struct addon_function functions[] = {
		{ "open", open_socket },
		{ "port", get_port },
		{ "send", send_datagrams },
		{ "close", polled_close_function },
	};
	struct udp *udp = calloc(1, sizeof(*udp));
	napi_value object;

	if (udp == NULL)
		return addon_fail(env, "out of memory");
	if (napi_set_instance_data(env, udp, finalize, NULL) != napi_ok) {
		free(udp);
		return addon_fail(env, "cannot keep its memory");
	}
	if (napi_create_object(env, &object) != napi_ok ||
	    !add_array(env, object, "ends", napi_uint32_array,
		       sizeof(uint32_t), MOST_TOLD, &udp->ends,
		       &udp->ends_ref) ||
	    !add_array(env, object, "few", napi_uint8_array, 1, FEW_BYTES,
		       &udp->few, &udp->few_ref) ||
	    polled_init(env, object, &udp_kind, functions,
			sizeof(functions) / sizeof(functions[0])) == NULL)
		return addon_fail(env, "cannot make the functions");
	return object;
}
