// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "datagram-relay.h"

#include <errno.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "datagram-train.h"
#include "event-thread.h"
#include "slots.h"

/* Received in one call. */
#define BATCH 64
/* One socket is read so often before others get their turn. */
#define BATCHES_PER_TURN 4
/* What the kernel may merge into one, and the largest datagram. */
#define MESSAGE_BYTES 65536
/* Not a power of two: the first lines of all messages would share one set. */
#define STRIDE (MESSAGE_BYTES + 3 * 64)
#define EVENTS 64
/* Of a cell, until its owner has answered: half, meeting, byte limit. */
#define MOST_NEWS 4

struct cell;

/* A socket of a cell's port. It belongs to the same cell for good. */
struct place {
	struct cell *cell;
	int fd;			/* -1: not in use */
	int side;
	uint32_t events;	/* that epoll is asked for */
};

struct source {
	struct sockaddr_in6 address;	/* as it is compared and told */
	union datagram_address to;	/* as it is sent to */
	socklen_t to_size;
	struct place *place;		/* that heard it; NULL: no source */
};

struct side {
	struct source source;
	struct datagram_source *expected;
	size_t expected_count;
	/* Its datagrams that the other side's socket did not take yet. */
	struct held *held;
	/* How large datagrams that go to it may be to go by segments. */
	struct train_limit limit;
};

struct cell {
	/* Never freed before the relay: events of a round may name it. */
	struct datagram_relay *relay;
	struct worker *worker;
	uint32_t slot;
	struct datagram_counters *counters;
	/* How many of the owner's calls want the lock: it has precedence. */
	atomic_uint wanted;
	pthread_mutex_t lock;
	/* All below under it. */
	bool is_open;
	bool is_paired;
	struct side sides[2];
	struct pump_account *account;
	struct place **places;
	size_t place_count;
	/* A meeting that is not answered: its second source, what it sent. */
	bool is_asking;
	int asking_side;
	struct source asking;
	struct held *asked;
	/* Under the relay's lock. */
	struct datagram_news news[MOST_NEWS];
	unsigned int news_count;
	bool has_news;
	struct cell *next_with_news;
};

struct worker {
	struct datagram_relay *relay;
	struct event_thread thread;
	struct mmsghdr messages[BATCH];
	struct iovec iovs[BATCH];
	union datagram_address names[BATCH];
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr alignment;
	} controls[BATCH];
	char *buffer;
	struct trains trains;
};

struct datagram_relay {
	void (*wake)(void *data);
	void *data;
	struct worker *workers;
	unsigned int worker_count;
	unsigned int next_worker;
	atomic_bool stops;
	/* The owner's own. */
	struct trains trains;
	struct slots slots;		/* of cells, made when first needed */
	/* Under the lock. */
	pthread_mutex_t lock;
	struct cell *first_with_news;
	struct cell **last_with_news;
};

/* Some datagrams of one source, one after the other in memory. */
struct parcel {
	const char *bytes;
	size_t length;
	size_t segment;		/* of each; the last may be shorter */
};

static size_t datagrams_in(const struct parcel *parcel)
{
	if (parcel->length == 0)
		return 1;
	return (parcel->length + parcel->segment - 1) / parcel->segment;
}

/* Addresses */

static struct sockaddr_in6 comparable(const union datagram_address *from)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6 };

	if (from->any.sa_family == AF_INET6) {
		address.sin6_addr = from->v6.sin6_addr;
		address.sin6_port = from->v6.sin6_port;
		address.sin6_scope_id = from->v6.sin6_scope_id;
		return address;
	}
	address.sin6_addr.s6_addr[10] = 0xff;
	address.sin6_addr.s6_addr[11] = 0xff;
	memcpy(&address.sin6_addr.s6_addr[12], &from->v4.sin_addr, 4);
	address.sin6_port = from->v4.sin_port;
	return address;
}

static bool is_same(const struct sockaddr_in6 *a, const struct sockaddr_in6 *b)
{
	return a->sin6_port == b->sin6_port &&
	       a->sin6_scope_id == b->sin6_scope_id &&
	       IN6_ARE_ADDR_EQUAL(&a->sin6_addr, &b->sin6_addr);
}

static bool expects(const struct side *side, const struct sockaddr_in6 *source)
{
	size_t bytes = IN6_IS_ADDR_V4MAPPED(&source->sin6_addr) ? 16 : 8;
	struct datagram_source prefix = { { 0 } };

	memcpy(prefix.bytes, source->sin6_addr.s6_addr, bytes);
	for (size_t i = 0; i < side->expected_count; i++)
		if (memcmp(&side->expected[i], &prefix, sizeof(prefix)) == 0)
			return true;
	return false;
}

/* News */

static void tell(struct cell *cell, enum datagram_event event, int side,
		 const struct sockaddr_in6 *source)
{
	struct datagram_relay *relay = cell->relay;
	bool is_first = false;
	struct datagram_news *news;

	pthread_mutex_lock(&relay->lock);
	news = &cell->news[cell->news_count++];
	*news = (struct datagram_news){
		.slot = cell->slot,
		.event = event,
		.side = side,
	};
	if (source != NULL)
		news->source = *source;
	if (!cell->has_news) {
		cell->has_news = true;
		cell->next_with_news = NULL;
		is_first = relay->first_with_news == NULL;
		*relay->last_with_news = cell;
		relay->last_with_news = &cell->next_with_news;
	}
	pthread_mutex_unlock(&relay->lock);
	if (is_first)
		relay->wake(relay->data);
}

/* It stays in the list, which its reader has been told of. */
static void forget_news(struct cell *cell)
{
	pthread_mutex_lock(&cell->relay->lock);
	cell->news_count = 0;
	pthread_mutex_unlock(&cell->relay->lock);
}

bool datagram_take_news(struct datagram_relay *relay,
			struct datagram_news *news)
{
	struct cell *cell;
	bool is_some = false;

	pthread_mutex_lock(&relay->lock);
	while (!is_some && (cell = relay->first_with_news) != NULL) {
		if (cell->news_count > 0) {
			*news = cell->news[0];
			cell->news_count--;
			memmove(&cell->news[0], &cell->news[1],
				cell->news_count * sizeof(*cell->news));
			is_some = true;
		}
		if (cell->news_count > 0)
			break;
		cell->has_news = false;
		relay->first_with_news = cell->next_with_news;
		if (relay->first_with_news == NULL)
			relay->last_with_news = &relay->first_with_news;
	}
	pthread_mutex_unlock(&relay->lock);
	return is_some;
}

/* What sockets are watched for */

static bool may_read(const struct place *place)
{
	const struct cell *cell = place->cell;

	return !cell->is_asking && cell->sides[place->side].held == NULL;
}

static void watch(struct cell *cell)
{
	for (size_t i = 0; i < cell->place_count; i++) {
		struct place *place = cell->places[i];
		const struct side *here = &cell->sides[place->side];
		const struct side *there = &cell->sides[!place->side];
		struct epoll_event event = { .data.ptr = place };

		if (place->fd < 0)
			continue;
		if (may_read(place))
			event.events |= EPOLLIN;
		if (there->held != NULL && here->source.place == place)
			event.events |= EPOLLOUT;
		if (event.events == place->events)
			continue;
		place->events = event.events;
		epoll_ctl(cell->worker->thread.epoll_fd, EPOLL_CTL_MOD,
			  place->fd, &event);
	}
}

/* Moving datagrams */

/* Written under the cell's lock alone, read without it. */
static void set(_Atomic double *counter, double value)
{
	atomic_store_explicit(counter, value, memory_order_relaxed);
}

static double get(const _Atomic double *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void add(_Atomic double *counter, size_t more)
{
	set(counter, get(counter) + (double)more);
}

static void count_drops(struct cell *cell, enum datagram_drop reason,
			size_t more)
{
	add(&cell->counters->dropped[reason], more);
}

static struct train_target target_of(struct cell *cell, int from)
{
	struct side *side = &cell->sides[!from];

	return (struct train_target){
		.fd = side->source.place->fd,
		.to = &side->source.to,
		.to_size = side->source.to_size,
		.limit = &side->limit,
	};
}

/*
 * Sends what has been collected from a side. What the socket does not take is
 * held, and no more is read from the side until it does.
 */
static void flush(struct cell *cell, struct trains *trains, int from)
{
	struct train_target target;
	struct train_result result = { 0 };

	if (trains->count == 0)
		return;
	target = target_of(cell, from);
	trains_send(trains, &target, &result, &cell->sides[from].held);
	add(&cell->counters->segmented, result.segmented);
	count_drops(cell, DATAGRAM_UNSENDABLE, result.unsendable);
}

static void collect(struct cell *cell, struct trains *trains, int from,
		    const char *bytes, size_t length, size_t segment)
{
	const struct train_limit *limit = &cell->sides[!from].limit;

	while (!trains_add(trains, limit, &bytes, &length, segment))
		flush(cell, trains, from);
}

static void drop_held(struct cell *cell)
{
	for (int i = 0; i < 2; i++)
		held_free(&cell->sides[i].held);
}

static void forget_sources(struct cell *cell)
{
	drop_held(cell);
	cell->is_paired = false;
	cell->sides[0].source.place = NULL;
	cell->sides[1].source.place = NULL;
}

/*
 * Sends on what the account allows. Returns how many bytes it looked at, less
 * than all when that has ended the pair.
 */
static size_t forward(struct cell *cell, struct trains *trains, int from,
		      const struct parcel *parcel)
{
	struct datagram_counters *counters = cell->counters;
	double most = pump_account_most_bytes(cell->account);
	size_t start = 0, at = 0, left = datagrams_in(parcel);
	bool has_passed = false;

	for (; left > 0; left--) {
		size_t rest = parcel->length - at;
		size_t size = rest < parcel->segment ? rest : parcel->segment;

		if (most > 0 &&
		    get(&counters->bytes[0]) + get(&counters->bytes[1]) +
				    (double)size > most) {
			if (at > start)
				collect(cell, trains, from,
					parcel->bytes + start, at - start,
					parcel->segment);
			flush(cell, trains, from);
			forget_sources(cell);
			tell(cell, DATAGRAM_BYTE_LIMIT, from, NULL);
			return at + size;
		}
		if (!pump_account_spend(cell->account, (double)size, true)) {
			if (at > start)
				collect(cell, trains, from,
					parcel->bytes + start, at - start,
					parcel->segment);
			start = at + size;
			count_drops(cell, DATAGRAM_RATE, 1);
		} else {
			if (!has_passed)
				set(&counters->last_ms, pump_now_ms());
			has_passed = true;
			add(&counters->bytes[from], size);
			if (parcel->length == 0)
				collect(cell, trains, from, parcel->bytes, 0,
					0);
		}
		at += size;
	}
	if (at > start)
		collect(cell, trains, from, parcel->bytes + start, at - start,
			parcel->segment);
	return at;
}

/* Sources */

/* The first of a side. Whoever completes the cell is held, not lost. */
static void take_first(struct cell *cell, int side, const struct source *source,
		       const struct parcel *parcel)
{
	/* Port 0 is no port to answer to (RFC 768). */
	if (source->address.sin6_port == 0 ||
	    !expects(&cell->sides[side], &source->address)) {
		count_drops(cell, DATAGRAM_STRANGER, datagrams_in(parcel));
		return;
	}
	if (cell->sides[!side].source.place != NULL) {
		if (!held_add(&cell->asked, parcel->bytes, parcel->length,
			      parcel->segment)) {
			count_drops(cell, DATAGRAM_UNSENDABLE,
				    datagrams_in(parcel));
			return;
		}
		cell->is_asking = true;
		cell->asking_side = side;
		cell->asking = *source;
		tell(cell, DATAGRAM_MEETING, side, &source->address);
		return;
	}
	cell->sides[side].source = *source;
	set(&cell->counters->heard_ms, pump_now_ms());
	count_drops(cell, DATAGRAM_EARLY, datagrams_in(parcel));
	tell(cell, DATAGRAM_HALF, side, &source->address);
}

static void take(struct cell *cell, struct trains *trains, int side,
		 const struct source *source, struct parcel parcel)
{
	const struct side *here = &cell->sides[side];
	size_t done;

	if (here->source.place == NULL) {
		take_first(cell, side, source, &parcel);
		return;
	}
	if (!is_same(&here->source.address, &source->address)) {
		count_drops(cell,
			    expects(here, &source->address) ?
				    DATAGRAM_FOREIGN :
				    DATAGRAM_STRANGER,
			    datagrams_in(&parcel));
		return;
	}
	if (!cell->is_paired) {
		set(&cell->counters->heard_ms, pump_now_ms());
		count_drops(cell, DATAGRAM_EARLY, datagrams_in(&parcel));
		return;
	}
	done = forward(cell, trains, side, &parcel);
	if (done == parcel.length)
		return;
	/* The pair is over: the rest is the first of an empty cell. */
	parcel.bytes += done;
	parcel.length -= done;
	take_first(cell, side, source, &parcel);
}

/* The worker */

static int receive(struct worker *worker, int fd, int most)
{
	for (int i = 0; i < most; i++) {
		struct msghdr *message = &worker->messages[i].msg_hdr;

		message->msg_namelen = sizeof(worker->names[i]);
		message->msg_controllen = sizeof(worker->controls[i]);
		message->msg_flags = 0;
	}
	return recvmmsg(fd, worker->messages, (unsigned int)most, MSG_DONTWAIT,
			NULL);
}

static void read_place(struct worker *worker, struct place *place)
{
	struct cell *cell = place->cell;
	int side = place->side;

	for (int turn = 0; turn < BATCHES_PER_TURN; turn++) {
		/* What completes the cell is taken alone: it must wait. */
		bool may_meet = cell->sides[side].source.place == NULL &&
				cell->sides[!side].source.place != NULL;
		int most = may_meet ? 1 : BATCH;
		int received;

		if (place->fd < 0 || !may_read(place))
			return;
		received = receive(worker, place->fd, most);
		for (int i = 0; i < received; i++) {
			struct mmsghdr *message = &worker->messages[i];
			struct source source = {
				.address = comparable(&worker->names[i]),
				.to = worker->names[i],
				.to_size = message->msg_hdr.msg_namelen,
				.place = place,
			};
			struct parcel parcel = {
				.bytes = worker->iovs[i].iov_base,
				.length = message->msg_len,
				.segment = train_segment(message),
			};

			if (parcel.segment < parcel.length)
				add(&cell->counters->merged,
				      datagrams_in(&parcel));
			take(cell, &worker->trains, side, &source, parcel);
		}
		flush(cell, &worker->trains, side);
		if (received < most)
			return;
	}
}

static void send_held(struct worker *worker, struct cell *cell, int from)
{
	struct held *held = cell->sides[from].held;

	cell->sides[from].held = NULL;
	for (struct held *one = held; one != NULL; one = one->next)
		collect(cell, &worker->trains, from, one->bytes, one->length,
			one->segment);
	flush(cell, &worker->trains, from);
	held_free(&held);
}

static void take_event(struct worker *worker, const struct epoll_event *event)
{
	struct place *place = event->data.ptr;
	struct cell *cell;

	if (place == NULL) {
		event_thread_take_wake(&worker->thread);
		return;
	}
	cell = place->cell;
	/* It comes again. */
	if (atomic_load(&cell->wanted) > 0) {
		sched_yield();
		return;
	}
	pthread_mutex_lock(&cell->lock);
	if (cell->is_open && place->fd >= 0) {
		if (event->events & EPOLLERR) {
			int error;
			socklen_t size = sizeof(error);

			getsockopt(place->fd, SOL_SOCKET, SO_ERROR, &error,
				   &size);
		}
		if (cell->sides[!place->side].held != NULL &&
		    cell->sides[place->side].source.place == place)
			send_held(worker, cell, !place->side);
		if (event->events & EPOLLIN)
			read_place(worker, place);
		watch(cell);
	}
	pthread_mutex_unlock(&cell->lock);
}

static void *run(void *data)
{
	struct worker *worker = data;
	struct epoll_event events[EVENTS];

	while (!atomic_load(&worker->relay->stops)) {
		int count = epoll_wait(worker->thread.epoll_fd, events, EVENTS,
				       -1);

		for (int i = 0; i < count; i++)
			take_event(worker, &events[i]);
	}
	return NULL;
}

static bool start_worker(struct datagram_relay *relay, struct worker *worker)
{
	worker->relay = relay;
	worker->buffer = malloc((size_t)BATCH * STRIDE);
	if (!event_thread_open(&worker->thread) || worker->buffer == NULL)
		return false;
	for (size_t i = 0; i < BATCH; i++) {
		worker->iovs[i].iov_base = worker->buffer + i * STRIDE;
		worker->iovs[i].iov_len = MESSAGE_BYTES;
		worker->messages[i].msg_hdr = (struct msghdr){
			.msg_name = &worker->names[i],
			.msg_iov = &worker->iovs[i],
			.msg_iovlen = 1,
			.msg_control = worker->controls[i].bytes,
		};
	}
	return event_thread_start(&worker->thread, run, worker);
}

static void free_worker(struct worker *worker)
{
	event_thread_close(&worker->thread);
	free(worker->buffer);
}

/* The relay */

struct datagram_relay *datagram_relay_new(unsigned int threads,
					  void (*wake)(void *data), void *data)
{
	struct datagram_relay *relay = calloc(1, sizeof(*relay));

	if (relay == NULL)
		return NULL;
	relay->wake = wake;
	relay->data = data;
	pthread_mutex_init(&relay->lock, NULL);
	relay->last_with_news = &relay->first_with_news;
	slots_init(&relay->slots, DATAGRAM_BLOCK,
		   sizeof(struct datagram_counters));
	relay->workers = calloc(threads, sizeof(*relay->workers));
	for (unsigned int i = 0; relay->workers != NULL && i < threads; i++) {
		if (!start_worker(relay, &relay->workers[i])) {
			free_worker(&relay->workers[i]);
			break;
		}
		relay->worker_count++;
	}
	if (relay->worker_count == 0) {
		datagram_relay_free(relay);
		return NULL;
	}
	return relay;
}

static void free_cell(struct cell *cell)
{
	for (size_t i = 0; i < cell->place_count; i++)
		free(cell->places[i]);
	free(cell->places);
	pthread_mutex_destroy(&cell->lock);
	free(cell);
}

void datagram_relay_free(struct datagram_relay *relay)
{
	atomic_store(&relay->stops, true);
	for (unsigned int i = 0; i < relay->worker_count; i++) {
		event_thread_wake(&relay->workers[i].thread);
		event_thread_join(&relay->workers[i].thread);
	}
	for (uint32_t slot = 0; slot < relay->slots.count; slot++) {
		struct cell *cell = relay->slots.things[slot];

		if (cell == NULL)
			continue;
		datagram_remove(relay, slot);
		free_cell(cell);
	}
	for (unsigned int i = 0; i < relay->worker_count; i++)
		free_worker(&relay->workers[i]);
	slots_destroy(&relay->slots);
	free(relay->workers);
	pthread_mutex_destroy(&relay->lock);
	free(relay);
}

uint32_t datagram_reserve(struct datagram_relay *relay)
{
	return slots_reserve(&relay->slots) ? slots_blocks(&relay->slots) : 0;
}

struct datagram_counters *datagram_block(struct datagram_relay *relay,
					 uint32_t block)
{
	return slots_block(&relay->slots, block);
}

/* A cell that is not open: one that was, or a new one. */
static struct cell *spare_cell(struct datagram_relay *relay)
{
	struct cell *cell;
	uint32_t slot;

	if (!slots_reserve(&relay->slots))
		return NULL;
	slot = slots_take(&relay->slots);
	cell = slots_thing(&relay->slots, slot);
	if (cell != NULL)
		return cell;
	cell = calloc(1, sizeof(*cell));
	if (cell == NULL) {
		slots_give(&relay->slots, slot);
		return NULL;
	}
	cell->relay = relay;
	cell->worker =
		&relay->workers[relay->next_worker++ % relay->worker_count];
	cell->slot = slot;
	cell->counters = slots_counters(&relay->slots, slot);
	pthread_mutex_init(&cell->lock, NULL);
	relay->slots.things[slot] = cell;
	return cell;
}

static bool make_places(struct cell *cell, size_t count)
{
	struct place **places;

	if (count <= cell->place_count)
		return true;
	places = reallocarray(cell->places, count, sizeof(*places));
	if (places == NULL)
		return false;
	cell->places = places;
	while (cell->place_count < count) {
		struct place *place = calloc(1, sizeof(*place));

		if (place == NULL)
			return false;
		place->cell = cell;
		place->fd = -1;
		cell->places[cell->place_count++] = place;
	}
	return true;
}

/* The owner's calls come before the work of threads. */
static void lock_cell(struct cell *cell)
{
	atomic_fetch_add(&cell->wanted, 1);
	pthread_mutex_lock(&cell->lock);
	atomic_fetch_sub(&cell->wanted, 1);
}

static struct cell *open_cell(struct datagram_relay *relay, uint32_t slot)
{
	struct cell *cell = slots_thing(&relay->slots, slot);

	if (cell == NULL)
		return NULL;
	lock_cell(cell);
	if (cell->is_open)
		return cell;
	pthread_mutex_unlock(&cell->lock);
	return NULL;
}

static bool watch_place(struct cell *cell, struct place *place, int fd,
			int side)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = place };
	int on = 1;

	/* A kernel that merges nothing does not know it. */
	setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on));
	place->fd = fd;
	place->side = side;
	place->events = EPOLLIN;
	if (epoll_ctl(cell->worker->thread.epoll_fd, EPOLL_CTL_ADD, fd,
		      &event) == 0)
		return true;
	place->fd = -1;
	return false;
}

static void unwatch_places(struct cell *cell)
{
	for (size_t i = 0; i < cell->place_count; i++) {
		struct place *place = cell->places[i];

		if (place->fd >= 0)
			epoll_ctl(cell->worker->thread.epoll_fd, EPOLL_CTL_DEL,
				  place->fd, NULL);
	}
}

static void clear_counters(struct datagram_counters *counters)
{
	for (int side = 0; side < 2; side++)
		set(&counters->bytes[side], 0);
	set(&counters->last_ms, 0);
	set(&counters->heard_ms, 0);
	for (int reason = 0; reason < DATAGRAM_DROPS; reason++)
		set(&counters->dropped[reason], 0);
	set(&counters->merged, 0);
	set(&counters->segmented, 0);
}

static bool set_expected(struct side *side,
			 const struct datagram_source *sources, size_t count)
{
	struct datagram_source *copy = calloc(count + 1, sizeof(*copy));

	if (copy == NULL)
		return false;
	if (count > 0)
		memcpy(copy, sources, count * sizeof(*copy));
	free(side->expected);
	side->expected = copy;
	side->expected_count = count;
	return true;
}

static void drop_expected(struct cell *cell)
{
	for (int side = 0; side < 2; side++)
		free(cell->sides[side].expected);
}

int64_t datagram_add(struct datagram_relay *relay, struct pump_account *account,
		     const struct datagram_side sides[2])
{
	struct cell *cell = spare_cell(relay);
	bool is_watched = true;
	size_t next = 0;
	int error;

	if (cell == NULL) {
		errno = ENOMEM;
		return -1;
	}
	lock_cell(cell);
	clear_counters(cell->counters);
	memset(cell->sides, 0, sizeof(cell->sides));
	for (int side = 0; side < 2; side++)
		train_limit_init(&cell->sides[side].limit);
	if (!make_places(cell, sides[0].fd_count + sides[1].fd_count) ||
	    !set_expected(&cell->sides[0], sides[0].sources,
			  sides[0].source_count) ||
	    !set_expected(&cell->sides[1], sides[1].sources,
			  sides[1].source_count)) {
		error = ENOMEM;
		goto fail;
	}
	for (int side = 0; side < 2; side++)
		for (size_t i = 0; is_watched && i < sides[side].fd_count; i++)
			is_watched = watch_place(cell, cell->places[next++],
						 sides[side].fds[i], side);
	if (!is_watched) {
		error = errno;
		unwatch_places(cell);
		for (size_t i = 0; i < cell->place_count; i++)
			cell->places[i]->fd = -1;
		goto fail;
	}
	pump_account_get(account);
	cell->account = account;
	cell->is_open = true;
	pthread_mutex_unlock(&cell->lock);
	return cell->slot;

fail:
	drop_expected(cell);
	pthread_mutex_unlock(&cell->lock);
	slots_give(&relay->slots, cell->slot);
	errno = error;
	return -1;
}

bool datagram_expect(struct datagram_relay *relay, uint32_t slot, int side,
		     const struct datagram_source *sources, size_t count)
{
	struct cell *cell = open_cell(relay, slot);
	bool is_done;

	if (cell == NULL)
		return true;
	is_done = set_expected(&cell->sides[side], sources, count);
	pthread_mutex_unlock(&cell->lock);
	return is_done;
}

static void pair(struct cell *cell, int side)
{
	cell->sides[side].source = cell->asking;
	cell->is_paired = true;
	set(&cell->counters->bytes[0], 0);
	set(&cell->counters->bytes[1], 0);
	set(&cell->counters->last_ms, pump_now_ms());
}

void datagram_answer(struct datagram_relay *relay, uint32_t slot, bool may_meet)
{
	struct cell *cell = open_cell(relay, slot);
	struct parcel parcel;
	struct held *asked;

	if (cell == NULL)
		return;
	if (cell->is_asking) {
		int side = cell->asking_side;

		asked = cell->asked;
		parcel = (struct parcel){ asked->bytes, asked->length,
					  asked->segment };
		cell->asked = NULL;
		cell->is_asking = false;
		if (may_meet) {
			pair(cell, side);
			take(cell, &relay->trains, side, &cell->asking, parcel);
			flush(cell, &relay->trains, side);
		} else {
			count_drops(cell, DATAGRAM_REFUSED,
				    datagrams_in(&parcel));
		}
		held_free(&asked);
		watch(cell);
	}
	pthread_mutex_unlock(&cell->lock);
}

void datagram_forget(struct datagram_relay *relay, uint32_t slot)
{
	struct cell *cell = open_cell(relay, slot);

	if (cell == NULL)
		return;
	forget_news(cell);
	forget_sources(cell);
	if (cell->is_asking) {
		struct held *asked = cell->asked;
		struct parcel parcel = { asked->bytes, asked->length,
					 asked->segment };

		/* It met nobody: it is the first of an empty cell. */
		cell->asked = NULL;
		cell->is_asking = false;
		take_first(cell, cell->asking_side, &cell->asking, &parcel);
		held_free(&asked);
	}
	watch(cell);
	pthread_mutex_unlock(&cell->lock);
}

void datagram_remove(struct datagram_relay *relay, uint32_t slot)
{
	struct cell *cell = open_cell(relay, slot);

	if (cell == NULL)
		return;
	forget_news(cell);
	forget_sources(cell);
	held_free(&cell->asked);
	cell->is_asking = false;
	unwatch_places(cell);
	for (size_t i = 0; i < cell->place_count; i++) {
		if (cell->places[i]->fd >= 0)
			close(cell->places[i]->fd);
		cell->places[i]->fd = -1;
	}
	drop_expected(cell);
	pump_account_put(cell->account);
	cell->is_open = false;
	pthread_mutex_unlock(&cell->lock);
	slots_give(&relay->slots, slot);
}

int datagram_bind(const struct sockaddr *address, socklen_t size,
		  bool is_v6_only, int buffer_bytes)
{
	int fd = socket(address->sa_family,
			SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int only = is_v6_only, error;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes,
		   sizeof(buffer_bytes));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_bytes,
		   sizeof(buffer_bytes));
	if ((address->sa_family != AF_INET6 ||
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)) ==
		     0) &&
	    bind(fd, address, size) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}
