// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "datagram-train.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pump-account.h"

/* Kernels take at least so many datagrams in one. */
#define MOST_SEGMENTS 64
/* Below what fits one packet of either IP version, headers included. */
#define MOST_TRAIN_BYTES 65000
/* A path's MTU grows again, too. */
#define RETRY_MS 1000.0

void train_limit_init(struct train_limit *limit)
{
	limit->too_large = SIZE_MAX;
	limit->until_ms = 0;
}

static bool may_go_in_trains(const struct train_limit *limit, size_t size)
{
	return size > 0 &&
	       (size < limit->too_large || pump_now_ms() >= limit->until_ms);
}

/* The kernel refused a train. */
static void learn_limit(struct train_limit *limit, size_t size, int error)
{
	/* A device that cannot sum parts does so with none. */
	if (error == EIO || error == EOPNOTSUPP || error == ENOPROTOOPT)
		size = 1;
	else if (error != EINVAL && error != EMSGSIZE)
		return;
	limit->too_large = size;
	limit->until_ms = pump_now_ms() + RETRY_MS;
}

/* Collecting */

static bool add_piece(struct trains *trains, struct train *train,
		      const char *bytes, size_t length)
{
	if (train->pieces > 0) {
		struct iovec *last = &trains->pieces[trains->piece_count - 1];

		if ((char *)last->iov_base + last->iov_len == bytes) {
			last->iov_len += length;
			return true;
		}
	}
	if (trains->piece_count == MOST_PIECES)
		return false;
	/* sendmsg() only reads it. */
	trains->pieces[trains->piece_count++] =
		(struct iovec){ .iov_base = (char *)bytes, .iov_len = length };
	train->pieces++;
	return true;
}

/* How much of it the last train takes; 0 for nothing. */
static size_t room_in_last(const struct trains *trains, size_t length,
			   size_t segment)
{
	const struct train *train;
	size_t most;

	if (trains->count == 0)
		return 0;
	train = &trains->trains[trains->count - 1];
	if (train->is_whole || segment > train->segment ||
	    train->datagrams == MOST_SEGMENTS)
		return 0;
	/* One that is shorter can only be the last. */
	if (segment < train->segment)
		return length == segment &&
				       train->bytes + length <= MOST_TRAIN_BYTES ?
			       length :
			       0;
	most = (MOST_SEGMENTS - train->datagrams) * segment;
	if (length < most)
		most = length;
	if (train->bytes + most > MOST_TRAIN_BYTES)
		most = (MOST_TRAIN_BYTES - train->bytes) / segment * segment;
	return most;
}

static bool begin_train(struct trains *trains, size_t segment, bool is_whole)
{
	if (trains->count == MOST_TRAINS || trains->piece_count == MOST_PIECES)
		return false;
	trains->trains[trains->count++] = (struct train){
		.first_piece = trains->piece_count,
		.segment = segment,
		.is_whole = is_whole,
	};
	return true;
}

static bool append(struct trains *trains, const char *bytes, size_t length,
		   size_t segment)
{
	struct train *train = &trains->trains[trains->count - 1];

	if (!add_piece(trains, train, bytes, length))
		return false;
	train->bytes += length;
	train->datagrams +=
		segment == 0 ? 1 : (unsigned int)((length + segment - 1) / segment);
	if (segment == 0 || train->bytes % train->segment != 0)
		train->is_whole = true;
	return true;
}

/* One datagram that is to go by itself. */
static bool add_alone(struct trains *trains, const char *bytes, size_t length)
{
	return begin_train(trains, length, true) &&
	       append(trains, bytes, length, length);
}

bool trains_add(struct trains *trains, const struct train_limit *limit,
		const char **bytes, size_t *length, size_t segment)
{
	bool in_trains = may_go_in_trains(limit, segment);

	if (*length == 0)
		return add_alone(trains, *bytes, 0);
	while (*length > 0) {
		size_t first = *length < segment ? *length : segment;
		size_t taken = 0;

		if (!in_trains || segment > MOST_TRAIN_BYTES) {
			if (!add_alone(trains, *bytes, first))
				return false;
			taken = first;
		} else {
			taken = room_in_last(trains, *length, first);
			if (taken == 0) {
				if (!begin_train(trains, first, false))
					return false;
				taken = room_in_last(trains, *length, first);
			}
			if (!append(trains, *bytes, taken, first))
				return false;
		}
		*bytes += taken;
		*length -= taken;
	}
	return true;
}

/* What was not taken */

bool held_add(struct held **held, const char *bytes, size_t length,
	      size_t segment)
{
	struct held *one = malloc(sizeof(*one) + length);

	if (one == NULL)
		return false;
	one->next = NULL;
	one->length = length;
	one->segment = segment;
	memcpy(one->bytes, bytes, length);
	while (*held != NULL)
		held = &(*held)->next;
	*held = one;
	return true;
}

void held_free(struct held **held)
{
	struct held *one, *next;

	for (one = *held; one != NULL; one = next) {
		next = one->next;
		free(one);
	}
	*held = NULL;
}

/* All but the first @done datagrams of a train. */
static void hold(const struct trains *trains, const struct train *train,
		 size_t done, struct train_result *result, struct held **held)
{
	size_t skip = done * train->segment;

	for (unsigned int i = 0; i < train->pieces; i++) {
		const struct iovec *piece = &trains->pieces[train->first_piece + i];
		size_t from = skip < piece->iov_len ? skip : piece->iov_len;
		size_t length = piece->iov_len - from;

		skip -= from;
		if (length == 0 && piece->iov_len > 0)
			continue;
		if (!held_add(held, (char *)piece->iov_base + from, length,
			      train->segment))
			result->unsendable +=
				length == 0 ? 1 :
					      (length + train->segment - 1) /
						      train->segment;
	}
}

/* Sending */

union segment_control {
	char bytes[CMSG_SPACE(sizeof(uint16_t))];
	struct cmsghdr alignment;
};

static void set_segment(struct msghdr *message, union segment_control *control,
			size_t segment)
{
	uint16_t size = (uint16_t)segment;
	struct cmsghdr *header;

	message->msg_control = control->bytes;
	message->msg_controllen = sizeof(control->bytes);
	header = CMSG_FIRSTHDR(message);
	header->cmsg_level = SOL_UDP;
	header->cmsg_type = UDP_SEGMENT;
	header->cmsg_len = CMSG_LEN(sizeof(size));
	memcpy(CMSG_DATA(header), &size, sizeof(size));
}

static struct msghdr message_to(const struct train_target *target)
{
	return (struct msghdr){
		/* sendmsg() only reads it. */
		.msg_name = (void *)&target->to->any,
		.msg_namelen = target->to_size,
	};
}

/*
 * Sends the datagrams of a train each by itself. Returns how many were dealt
 * with: not all when the socket has no room.
 */
static size_t send_singly(const struct trains *trains, const struct train *train,
			  const struct train_target *target,
			  struct train_result *result)
{
	size_t done = 0, skip = 0;
	unsigned int piece = train->first_piece;

	while (done < train->datagrams) {
		const struct iovec *from = &trains->pieces[piece];
		struct mmsghdr messages[MOST_SEGMENTS];
		struct iovec parts[MOST_SEGMENTS];
		unsigned int count = 0;
		size_t at = skip;
		int sent;

		/* Each lies in one piece: pieces are of whole datagrams. */
		do {
			size_t rest = from->iov_len - at;
			size_t size = rest < train->segment ? rest :
							      train->segment;

			parts[count] = (struct iovec){
				.iov_base = (char *)from->iov_base + at,
				.iov_len = size,
			};
			messages[count].msg_hdr = message_to(target);
			messages[count].msg_hdr.msg_iov = &parts[count];
			messages[count].msg_hdr.msg_iovlen = 1;
			count++;
			at += size;
		} while (at < from->iov_len && count < MOST_SEGMENTS);
		sent = sendmmsg(target->fd, messages, count, MSG_DONTWAIT);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN)
			return done;
		if (sent < 0) {
			result->unsendable++;
			sent = 1;
		}
		done += (size_t)sent;
		for (int i = 0; i < sent; i++)
			skip += parts[i].iov_len;
		if (skip == from->iov_len) {
			piece++;
			skip = 0;
		}
	}
	return done;
}

/* Sends trains from @first on as they are. Returns as sendmmsg(). */
static int send_trains(struct trains *trains, unsigned int first,
		       const struct train_target *target)
{
	struct mmsghdr messages[MOST_TRAINS];
	union segment_control controls[MOST_TRAINS];
	unsigned int count = 0;

	for (unsigned int i = first; i < trains->count; i++) {
		const struct train *train = &trains->trains[i];
		struct msghdr *message = &messages[count].msg_hdr;

		*message = message_to(target);
		message->msg_iov = &trains->pieces[train->first_piece];
		message->msg_iovlen = train->pieces;
		if (train->datagrams > 1)
			set_segment(message, &controls[count], train->segment);
		count++;
	}
	return sendmmsg(target->fd, messages, count, MSG_DONTWAIT);
}

void trains_send(struct trains *trains, const struct train_target *target,
		 struct train_result *result, struct held **held)
{
	unsigned int next = 0;
	size_t done = 0;

	while (next < trains->count && *held == NULL) {
		const struct train *train = &trains->trains[next];
		int sent = send_trains(trains, next, target);

		if (sent > 0) {
			for (int i = 0; i < sent; i++, next++)
				if (trains->trains[next].datagrams > 1)
					result->segmented +=
						trains->trains[next].datagrams;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno == EAGAIN)
			break;
		if (train->datagrams == 1) {
			result->unsendable++;
			next++;
			continue;
		}
		learn_limit(target->limit, train->segment, errno);
		done = send_singly(trains, train, target, result);
		if (done < train->datagrams)
			break;
		done = 0;
		next++;
	}
	for (; next < trains->count; next++) {
		hold(trains, &trains->trains[next], done, result, held);
		done = 0;
	}
	trains->count = 0;
	trains->piece_count = 0;
}

size_t train_segment(const struct mmsghdr *received)
{
	/* CMSG_NXTHDR() only reads it. */
	struct msghdr *message = (struct msghdr *)&received->msg_hdr;
	struct cmsghdr *control;
	int segment;

	for (control = CMSG_FIRSTHDR(message); control != NULL;
	     control = CMSG_NXTHDR(message, control)) {
		if (control->cmsg_level != SOL_UDP ||
		    control->cmsg_type != UDP_GRO)
			continue;
		memcpy(&segment, CMSG_DATA(control), sizeof(segment));
		if (segment > 0 && (size_t)segment < received->msg_len)
			return (size_t)segment;
	}
	return received->msg_len;
}
