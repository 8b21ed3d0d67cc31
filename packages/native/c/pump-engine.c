// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "pump-engine.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "event-thread.h"
#include "slots.h"

/* Read at a time; what the other socket does not take at once is kept. */
#define CHUNK_BYTES (64 * 1024)
/* Of a record that is not whole there is always less. */
#define CUT_BYTES (RECORD_MAX_CONTENT_BYTES + RECORD_OVERHEAD_BYTES)
/*
 * A direction that has moved this much is a bulk transfer: its bytes go by
 * splice(2) through a pipe, never into this process' memory. Measured on
 * loopback: half the CPU time of copying, with pipes of this size alone.
 */
#define BULK_BYTES (256 * 1024)
#define PIPE_BYTES (1024 * 1024)
/*
 * Pipes of a worker. One belongs to a direction only while there are bytes in
 * it, so that few serve many; without one, bytes are copied.
 */
#define MOST_PIPES 64
/* One direction moves so many chunks before others get their turn. */
#define CHUNKS_PER_TURN 16
#define EVENTS 256
/* Above the rate, it is asked again after this: there may be another rate. */
#define MOST_WAIT_MS 1000.0

struct join;

struct pipe {
	int from_fd;
	int to_fd;
};

/* One socket, and the direction that starts at it. */
struct side {
	struct join *join;
	int fd;
	bool readable;
	bool writable;
	bool has_ended;		/* its FIN was read */
	bool was_shut;		/* its FIN was sent on, to the other socket */
	/* What the other socket has not taken yet. */
	char *kept;
	size_t kept_from;
	size_t kept_to;
	/* The same, if @piped is not 0, of a bulk transfer. */
	struct pipe pipe;
	size_t piped;
	/* Was read before the join, and not passed on. */
	char *early;
	size_t early_from;
	size_t early_to;
	/* The beginning of a record of which more must come. */
	char *cut;
	size_t cut_bytes;
};

struct join {
	struct side sides[2];
	struct worker *worker;
	struct pump_account *account;
	struct pump_counters *counters;
	/* Of side 1, if it is sealed: until the worker has it, and then. */
	struct leg_state *sealed;
	struct leg_records *records;
	uint32_t slot;
	bool is_over;
	/* Set by any thread: the worker is to reset it. */
	atomic_bool is_told;
	/* Above the rate until then. */
	double wait_until_ms;
	/* In the worker's list of those that have something to do, or not. */
	bool is_queued;
	struct join *next;
	/* In the worker's list of all. */
	struct join *newer;
	struct join *older;
};

struct list {
	struct join *first;
	struct join **last;
};

struct worker {
	struct pump *pump;
	struct event_thread thread;
	/* Under the lock: joins that are new, and what is to be done. */
	pthread_mutex_t lock;
	struct list told;
	bool ends_some;
	bool resets_all;
	bool stops;
	/* The thread's own. */
	struct list busy;
	struct list waiting;
	struct join *all;
	/* For what is read, behind a cut record, and for what is sealed. */
	char *buffer;
	char *sealed;
	/* Made when the first sealed join comes. */
	struct aead_contexts *contexts;
	/* Empty ones; there are @pipe_count in all. */
	struct pipe pipes[MOST_PIPES];
	unsigned int free_pipes;
	unsigned int pipe_count;
};

struct pump {
	void (*wake)(void *data);
	void *data;
	struct worker *workers;
	unsigned int worker_count;
	unsigned int next_worker;
	/* Under the lock: slots and ends. */
	pthread_mutex_t lock;
	pthread_cond_t all_reset;
	unsigned int resetting;
	struct slots slots;		/* of joins */
	struct pump_ended *ended;
	size_t ended_count;
	size_t ended_room;
};

/* Lists of joins that have something to do */

static void list_init(struct list *list)
{
	list->first = NULL;
	list->last = &list->first;
}

static void list_append(struct list *list, struct join *join)
{
	join->next = NULL;
	*list->last = join;
	list->last = &join->next;
}

static struct join *list_take(struct list *list)
{
	struct join *first = list->first;

	if (first == NULL)
		return NULL;
	list->first = first->next;
	if (list->first == NULL)
		list->last = &list->first;
	return first;
}

/* Pipes */

static bool take_pipe(struct worker *worker, struct pipe *taken)
{
	int fds[2];

	if (worker->free_pipes > 0) {
		*taken = worker->pipes[--worker->free_pipes];
		return true;
	}
	if (worker->pipe_count == MOST_PIPES ||
	    pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0)
		return false;
	/* A user without privilege may have so many pages in all. */
	if (fcntl(fds[1], F_SETPIPE_SZ, PIPE_BYTES) < 0) {
		close(fds[0]);
		close(fds[1]);
		return false;
	}
	worker->pipe_count++;
	*taken = (struct pipe){ .from_fd = fds[0], .to_fd = fds[1] };
	return true;
}

static void give_pipe(struct worker *worker, const struct pipe *pipe)
{
	worker->pipes[worker->free_pipes++] = *pipe;
}

/* One that has bytes in it is of no use to others. */
static void drop_pipe(struct worker *worker, const struct pipe *pipe)
{
	close(pipe->from_fd);
	close(pipe->to_fd);
	worker->pipe_count--;
}

/* Ends */

static void set_linger(int fd, bool resets)
{
	struct linger linger = { .l_onoff = resets, .l_linger = 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

static void tell_end(struct pump *pump, uint32_t slot, enum pump_end end)
{
	bool is_first;

	pthread_mutex_lock(&pump->lock);
	pump->slots.things[slot] = NULL;
	/* There is room: each slot ends once before its end is taken. */
	is_first = pump->ended_count == 0;
	pump->ended[pump->ended_count++] =
		(struct pump_ended){ .slot = slot, .end = end };
	pthread_mutex_unlock(&pump->lock);
	if (is_first)
		pump->wake(pump->data);
}

/*
 * The join is freed when the worker has it in no list of its own: events of
 * this round may name it still.
 */
static void end_join(struct join *join, enum pump_end end)
{
	struct worker *worker = join->worker;

	if (join->is_over)
		return;
	join->is_over = true;
	for (int i = 0; i < 2; i++) {
		struct side *side = &join->sides[i];

		/* Otherwise, close() resets. */
		if (end == PUMP_FINISHED)
			set_linger(side->fd, false);
		/* Whoever gave it away may not have closed its own yet. */
		epoll_ctl(worker->thread.epoll_fd, EPOLL_CTL_DEL, side->fd,
			  NULL);
		close(side->fd);
		free(side->kept);
		side->kept = NULL;
		free(side->early);
		side->early = NULL;
		free(side->cut);
		side->cut = NULL;
		if (side->piped > 0)
			drop_pipe(worker, &side->pipe);
		side->piped = 0;
	}
	leg_records_free(join->records);
	join->records = NULL;
	if (join->newer != NULL)
		join->newer->older = join->older;
	else
		worker->all = join->older;
	if (join->older != NULL)
		join->older->newer = join->newer;
	tell_end(worker->pump, join->slot, end);
	if (!join->is_queued) {
		join->is_queued = true;
		list_append(&worker->busy, join);
	}
}

static void free_join(struct join *join)
{
	pump_account_put(join->account);
	free(join);
}

static enum pump_end reset_by(const struct side *side)
{
	return side == &side->join->sides[0] ? PUMP_RESET_BY_0 :
					       PUMP_RESET_BY_1;
}

/* Moving bytes */

enum moved {
	MOVED_ALL,	/* waits for the sockets now */
	MOVED_SOME,	/* has used its turn */
	MOVED_HELD,	/* above the rate */
	MOVED_ENDED,	/* the join is over */
};

static enum moved over(struct join *join, enum pump_end end)
{
	end_join(join, end);
	return MOVED_ENDED;
}

/* Sends what was kept. Returns false on an error of the socket. */
static bool send_kept(struct side *from, struct side *to)
{
	while (from->kept_to > from->kept_from && to->writable) {
		ssize_t sent = send(to->fd, from->kept + from->kept_from,
				    from->kept_to - from->kept_from,
				    MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent >= 0)
			from->kept_from += (size_t)sent;
		else if (errno == EAGAIN)
			to->writable = false;
		else if (errno != EINTR)
			return false;
	}
	if (from->kept != NULL && from->kept_from == from->kept_to) {
		free(from->kept);
		from->kept = NULL;
		from->kept_from = 0;
		from->kept_to = 0;
	}
	return true;
}

static bool keep(struct side *from, const char *bytes, size_t count)
{
	from->kept = malloc(count);
	if (from->kept == NULL)
		return false;
	memcpy(from->kept, bytes, count);
	from->kept_from = 0;
	from->kept_to = count;
	return true;
}

/* Sends on what was just read, and keeps what is not taken. */
static bool send_on(struct side *from, struct side *to, const char *bytes,
		    size_t count)
{
	size_t done = 0;

	while (done < count && to->writable) {
		ssize_t sent = send(to->fd, bytes + done, count - done,
				    MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent >= 0)
			done += (size_t)sent;
		else if (errno == EAGAIN)
			to->writable = false;
		else if (errno != EINTR)
			return false;
	}
	return done == count || keep(from, bytes + done, count - done);
}

static bool above_byte_limit(const struct join *join)
{
	double most = pump_account_most_bytes(join->account);

	return most > 0 &&
	       join->counters->bytes[0] + join->counters->bytes[1] > most;
}

/* Sends what is in the pipe. Returns false on an error of the socket. */
static bool send_piped(struct side *from, struct side *to)
{
	while (from->piped > 0 && to->writable) {
		ssize_t sent = splice(from->pipe.from_fd, NULL, to->fd, NULL,
				      from->piped, SPLICE_F_NONBLOCK);

		if (sent > 0)
			from->piped -= (size_t)sent;
		else if (sent == 0 || (errno != EAGAIN && errno != EINTR))
			return false;
		else if (errno == EAGAIN)
			to->writable = false;
		if (from->piped == 0)
			give_pipe(from->join->worker, &from->pipe);
	}
	return true;
}

/*
 * Reads into a pipe. Returns as recv(); -1 with ENOSPC where the bytes must be
 * copied.
 */
static ssize_t receive_piped(struct side *from, double moved)
{
	struct worker *worker = from->join->worker;
	struct pipe pipe;
	ssize_t count;
	int error;

	/* A rate is kept by chunks, and records pass through our hands. */
	if (moved < BULK_BYTES || from->early != NULL ||
	    from->join->records != NULL ||
	    pump_account_has_rate(from->join->account) ||
	    !take_pipe(worker, &pipe)) {
		errno = ENOSPC;
		return -1;
	}
	count = splice(from->fd, NULL, pipe.to_fd, NULL, PIPE_BYTES,
		       SPLICE_F_NONBLOCK);
	if (count > 0) {
		from->pipe = pipe;
		from->piped = (size_t)count;
		return count;
	}
	error = errno;
	give_pipe(worker, &pipe);
	errno = error;
	return count;
}

/* As recv(). What was read before the join comes first. */
static ssize_t receive(struct side *from, char *buffer)
{
	size_t count = from->early_to - from->early_from;

	if (from->early == NULL)
		return recv(from->fd, buffer, CHUNK_BYTES, MSG_DONTWAIT);
	if (count > CHUNK_BYTES)
		count = CHUNK_BYTES;
	memcpy(buffer, from->early + from->early_from, count);
	from->early_from += count;
	if (from->early_from == from->early_to) {
		free(from->early);
		from->early = NULL;
	}
	return (ssize_t)count;
}

/* Sealed joins: side 0 is the application's, side 1 carries the records. */

static bool is_sealed_leg(const struct side *side)
{
	return side->join->records != NULL &&
	       side == &side->join->sides[1];
}

/* What was read from the application, or its end where that is nothing. */
static enum moved seal_on(struct side *from, struct side *to,
			  const char *bytes, size_t count)
{
	struct leg_records *records = from->join->records;
	char *sealed = from->join->worker->sealed;
	size_t size;

	if (count > 0)
		size = leg_records_seal(records, (const uint8_t *)bytes, count,
					(uint8_t *)sealed);
	else
		size = leg_records_seal_end(records, (uint8_t *)sealed);
	if (size == 0 || !send_on(from, to, sealed, size))
		return over(from->join, reset_by(to));
	return MOVED_SOME;
}

/* What was read from the leg, with the cut record in front of it. */
static enum moved open_on(struct side *from, struct side *to, char *bytes,
			  size_t count)
{
	struct leg_opened opened = leg_records_open(
		from->join->records, (uint8_t *)bytes, count);

	if (opened.content_bytes > 0 &&
	    !send_on(from, to, (const char *)opened.content,
		     opened.content_bytes))
		return over(from->join, reset_by(to));
	/* The application has what came before it, and no clean end. */
	if (opened.is_bad)
		return over(from->join, PUMP_BAD_RECORD);
	from->has_ended = opened.has_ended;
	if (opened.used == count)
		return MOVED_SOME;
	from->cut_bytes = count - opened.used;
	from->cut = malloc(from->cut_bytes);
	if (from->cut == NULL)
		return over(from->join, reset_by(from));
	memcpy(from->cut, bytes + opened.used, from->cut_bytes);
	return MOVED_SOME;
}

/* @bytes stand in the worker's buffer, with room for the cut record ahead. */
static enum moved pass_on(struct side *from, struct side *to, char *bytes,
			  size_t count)
{
	size_t cut_bytes = from->cut_bytes;

	if (from->join->records == NULL)
		return send_on(from, to, bytes, count) ?
			       MOVED_SOME :
			       over(from->join, reset_by(to));
	if (!is_sealed_leg(from))
		return seal_on(from, to, bytes, count);
	if (cut_bytes > 0)
		memcpy(bytes - cut_bytes, from->cut, cut_bytes);
	free(from->cut);
	from->cut = NULL;
	from->cut_bytes = 0;
	return open_on(from, to, bytes - cut_bytes, cut_bytes + count);
}

/* FIN of @from. */
static enum moved take_fin(struct side *from, struct side *to)
{
	if (!is_sealed_leg(from)) {
		from->has_ended = true;
		return from->join->records == NULL ? MOVED_SOME :
						     seal_on(from, to, NULL, 0);
	}
	/* Whoever passes the leg's bytes can send one. */
	if (!from->has_ended)
		return over(from->join, reset_by(from));
	from->readable = false;
	return MOVED_ALL;
}

static enum moved move(struct join *join, int index)
{
	struct side *from = &join->sides[index];
	struct side *to = &join->sides[!index];
	char *buffer = join->worker->buffer + CUT_BYTES;

	for (int turn = 0; turn < CHUNKS_PER_TURN; turn++) {
		enum moved moved = MOVED_SOME;
		ssize_t count;

		if (!send_kept(from, to) || !send_piped(from, to))
			return over(join, reset_by(to));
		if (from->kept != NULL || from->piped > 0)
			return MOVED_ALL;
		if (from->has_ended) {
			if (!from->was_shut && shutdown(to->fd, SHUT_WR) < 0)
				return over(join, reset_by(to));
			from->was_shut = true;
			if (to->was_shut)
				return over(join, PUMP_FINISHED);
			/* No record may follow the sealed end. */
			if (!is_sealed_leg(from))
				return MOVED_ALL;
		}
		if (!from->readable || !to->writable)
			return MOVED_ALL;
		if (pump_account_wait_ms(join->account) > 0)
			return MOVED_HELD;
		count = receive_piped(from, join->counters->bytes[index]);
		if (count < 0 && errno == ENOSPC)
			count = receive(from, buffer);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && errno == EAGAIN) {
			from->readable = false;
			return MOVED_ALL;
		}
		if (count < 0)
			return over(join, reset_by(from));
		if (count == 0) {
			moved = take_fin(from, to);
			if (moved != MOVED_SOME)
				return moved;
			continue;
		}
		pump_account_spend(join->account, (double)count, true);
		join->counters->bytes[index] += (double)count;
		join->counters->last_ms = pump_now_ms();
		if (above_byte_limit(join))
			return over(join, PUMP_BYTE_LIMIT);
		if (from->piped == 0)
			moved = pass_on(from, to, buffer, (size_t)count);
		if (moved != MOVED_SOME)
			return moved;
	}
	return MOVED_SOME;
}

static void work_on(struct worker *worker, struct join *join)
{
	bool again = false, held = false;

	for (int index = 0; index < 2; index++) {
		enum moved moved = move(join, index);

		if (moved == MOVED_ENDED)
			return;
		again |= moved == MOVED_SOME;
		held |= moved == MOVED_HELD;
	}
	if (held) {
		double wait = pump_account_wait_ms(join->account);

		if (wait > MOST_WAIT_MS)
			wait = MOST_WAIT_MS;
		join->wait_until_ms = pump_now_ms() + wait;
		join->is_queued = true;
		list_append(&worker->waiting, join);
	} else if (again) {
		join->is_queued = true;
		list_append(&worker->busy, join);
	}
}

/* The worker */

static void queue(struct worker *worker, struct join *join)
{
	if (join->is_queued)
		return;
	join->is_queued = true;
	list_append(&worker->busy, join);
}

static void take_event(struct worker *worker, const struct epoll_event *event)
{
	struct side *side = event->data.ptr;

	if (side == NULL) {
		event_thread_take_wake(&worker->thread);
		return;
	}
	if (side->join->is_over)
		return;
	if (event->events & (EPOLLERR | EPOLLHUP)) {
		int error = 0;
		socklen_t size = sizeof(error);

		getsockopt(side->fd, SOL_SOCKET, SO_ERROR, &error, &size);
		if (error != 0) {
			end_join(side->join, reset_by(side));
			return;
		}
	}
	if (event->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP))
		side->readable = true;
	if (event->events & EPOLLOUT)
		side->writable = true;
	queue(worker, side->join);
}

/* Its keys and their contexts are this thread's alone. */
static bool key_records(struct worker *worker, struct join *join)
{
	if (worker->contexts == NULL)
		worker->contexts = aead_contexts_get();
	if (worker->contexts != NULL)
		join->records = leg_records_new(worker->contexts, join->sealed);
	leg_state_free(join->sealed);
	join->sealed = NULL;
	return join->records != NULL;
}

static void add_join(struct worker *worker, struct join *join)
{
	join->older = worker->all;
	join->newer = NULL;
	if (worker->all != NULL)
		worker->all->newer = join;
	worker->all = join;
	if (join->sealed != NULL && !key_records(worker, join)) {
		end_join(join, PUMP_RESET_BY_1);
		return;
	}
	for (int i = 0; i < 2; i++) {
		struct epoll_event event = {
			.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
			.data.ptr = &join->sides[i],
		};

		if (epoll_ctl(worker->thread.epoll_fd, EPOLL_CTL_ADD,
			      join->sides[i].fd, &event) < 0) {
			end_join(join, reset_by(&join->sides[i]));
			return;
		}
	}
	queue(worker, join);
}

/* Joins that are new, and joins that are told to end. */
static void take_told(struct worker *worker)
{
	struct list told;
	struct join *join, *next;
	bool resets_all, ends_some;

	pthread_mutex_lock(&worker->lock);
	told = worker->told;
	list_init(&worker->told);
	resets_all = worker->resets_all;
	worker->resets_all = false;
	ends_some = worker->ends_some;
	worker->ends_some = false;
	pthread_mutex_unlock(&worker->lock);
	for (join = told.first; join != NULL; join = next) {
		next = join->next;
		join->is_queued = false;
		add_join(worker, join);
	}
	if (resets_all) {
		while (worker->all != NULL)
			end_join(worker->all, PUMP_TOLD);
		pthread_mutex_lock(&worker->pump->lock);
		if (--worker->pump->resetting == 0)
			pthread_cond_broadcast(&worker->pump->all_reset);
		pthread_mutex_unlock(&worker->pump->lock);
		return;
	}
	for (join = ends_some ? worker->all : NULL; join != NULL; join = next) {
		next = join->older;
		if (atomic_load(&join->is_told))
			end_join(join, PUMP_TOLD);
	}
}

/* Puts joins whose wait is over to work. Returns milliseconds to the next. */
static int wake_waiting(struct worker *worker)
{
	struct list rest;
	struct join *join;
	double now, least = -1;

	if (worker->waiting.first == NULL)
		return -1;
	now = pump_now_ms();
	list_init(&rest);
	while ((join = list_take(&worker->waiting)) != NULL) {
		if (join->is_over || join->wait_until_ms <= now) {
			list_append(&worker->busy, join);
			continue;
		}
		list_append(&rest, join);
		if (least < 0 || join->wait_until_ms - now < least)
			least = join->wait_until_ms - now;
	}
	worker->waiting = rest;
	if (rest.first == NULL) {
		list_init(&worker->waiting);
		return -1;
	}
	return (int)least + 1;
}

static void do_busy(struct worker *worker)
{
	struct join *join, *last = NULL;
	struct list busy = worker->busy;

	if (busy.first == NULL)
		return;
	list_init(&worker->busy);
	for (join = busy.first; join != NULL; join = last) {
		last = join->next;
		join->is_queued = false;
		if (join->is_over)
			free_join(join);
		else
			work_on(worker, join);
	}
}

static void *run(void *data)
{
	struct worker *worker = data;
	struct epoll_event events[EVENTS];

	for (;;) {
		int timeout = wake_waiting(worker);
		int count;

		if (worker->busy.first != NULL)
			timeout = 0;
		count = epoll_wait(worker->thread.epoll_fd, events, EVENTS,
				   timeout);
		for (int i = 0; i < count; i++)
			take_event(worker, &events[i]);
		for (int i = 0; i < count; i++) {
			if (events[i].data.ptr == NULL)
				take_told(worker);
		}
		do_busy(worker);
		pthread_mutex_lock(&worker->lock);
		if (worker->stops && worker->all == NULL &&
		    worker->busy.first == NULL &&
		    worker->waiting.first == NULL) {
			pthread_mutex_unlock(&worker->lock);
			return NULL;
		}
		pthread_mutex_unlock(&worker->lock);
	}
}

/* The pump */

static bool start_worker(struct pump *pump, struct worker *worker)
{
	worker->pump = pump;
	list_init(&worker->told);
	list_init(&worker->busy);
	list_init(&worker->waiting);
	pthread_mutex_init(&worker->lock, NULL);
	worker->buffer = malloc(CUT_BYTES + CHUNK_BYTES);
	worker->sealed = malloc(leg_records_room(CHUNK_BYTES));
	return event_thread_open(&worker->thread) && worker->buffer != NULL &&
	       worker->sealed != NULL &&
	       event_thread_start(&worker->thread, run, worker);
}

static void free_worker(struct worker *worker)
{
	event_thread_close(&worker->thread);
	free(worker->buffer);
	free(worker->sealed);
	if (worker->contexts != NULL)
		aead_contexts_put(worker->contexts);
	while (worker->free_pipes > 0)
		drop_pipe(worker, &worker->pipes[--worker->free_pipes]);
	pthread_mutex_destroy(&worker->lock);
}

struct pump *pump_new(unsigned int threads, void (*wake)(void *data),
		      void *data)
{
	struct pump *pump = calloc(1, sizeof(*pump));

	if (pump == NULL)
		return NULL;
	pump->wake = wake;
	pump->data = data;
	pthread_mutex_init(&pump->lock, NULL);
	pthread_cond_init(&pump->all_reset, NULL);
	slots_init(&pump->slots, PUMP_BLOCK, sizeof(struct pump_counters));
	pump->workers = calloc(threads, sizeof(*pump->workers));
	for (unsigned int i = 0; pump->workers != NULL && i < threads; i++) {
		if (!start_worker(pump, &pump->workers[i])) {
			free_worker(&pump->workers[i]);
			break;
		}
		pump->worker_count++;
	}
	if (pump->worker_count == 0) {
		pump_free(pump);
		return NULL;
	}
	return pump;
}

void pump_reset_all(struct pump *pump)
{
	pthread_mutex_lock(&pump->lock);
	/* Whoever else waits for the same waits for this too. */
	for (unsigned int i = 0; i < pump->worker_count; i++) {
		struct worker *worker = &pump->workers[i];

		pthread_mutex_lock(&worker->lock);
		if (!worker->resets_all)
			pump->resetting++;
		worker->resets_all = true;
		pthread_mutex_unlock(&worker->lock);
		event_thread_wake(&worker->thread);
	}
	while (pump->resetting > 0)
		pthread_cond_wait(&pump->all_reset, &pump->lock);
	pthread_mutex_unlock(&pump->lock);
}

void pump_free(struct pump *pump)
{
	if (pump->worker_count > 0)
		pump_reset_all(pump);
	for (unsigned int i = 0; i < pump->worker_count; i++) {
		struct worker *worker = &pump->workers[i];

		pthread_mutex_lock(&worker->lock);
		worker->stops = true;
		pthread_mutex_unlock(&worker->lock);
		event_thread_wake(&worker->thread);
		event_thread_join(&worker->thread);
		free_worker(worker);
	}
	slots_destroy(&pump->slots);
	free(pump->ended);
	free(pump->workers);
	pthread_cond_destroy(&pump->all_reset);
	pthread_mutex_destroy(&pump->lock);
	free(pump);
}

/* A free slot, and room for as many ends as there are slots. */
static bool reserve(struct pump *pump)
{
	struct pump_ended *ended;

	if (!slots_reserve(&pump->slots))
		return false;
	if (pump->ended_room == pump->slots.count)
		return true;
	ended = reallocarray(pump->ended, pump->slots.count, sizeof(*ended));
	if (ended == NULL)
		return false;
	pump->ended = ended;
	pump->ended_room = pump->slots.count;
	return true;
}

uint32_t pump_reserve(struct pump *pump)
{
	uint32_t blocks = 0;

	pthread_mutex_lock(&pump->lock);
	if (reserve(pump))
		blocks = slots_blocks(&pump->slots);
	pthread_mutex_unlock(&pump->lock);
	return blocks;
}

struct pump_counters *pump_block(struct pump *pump, uint32_t block)
{
	struct pump_counters *counters;

	pthread_mutex_lock(&pump->lock);
	counters = slots_block(&pump->slots, block);
	pthread_mutex_unlock(&pump->lock);
	return counters;
}

static bool begin_side(struct join *join, int index, const struct pump_leg *leg)
{
	struct side *side = &join->sides[index];

	side->join = join;
	side->fd = leg->fd;
	side->readable = true;
	side->writable = true;
	if (leg->early_bytes == 0)
		return true;
	side->early = malloc(leg->early_bytes);
	if (side->early == NULL)
		return false;
	memcpy(side->early, leg->early, leg->early_bytes);
	side->early_to = leg->early_bytes;
	return true;
}

int64_t pump_join(struct pump *pump, struct pump_account *account,
		  const struct pump_leg legs[2], const struct leg_state *sealed)
{
	struct join *join = calloc(1, sizeof(*join));
	struct worker *worker;
	uint32_t slot;

	if (join == NULL)
		return -1;
	join->account = account;
	atomic_init(&join->is_told, false);
	if (!begin_side(join, 0, &legs[0]) || !begin_side(join, 1, &legs[1]))
		goto no_memory;
	if (sealed != NULL) {
		join->sealed = leg_state_copy(sealed);
		if (join->sealed == NULL)
			goto no_memory;
	}
	pthread_mutex_lock(&pump->lock);
	if (!reserve(pump)) {
		pthread_mutex_unlock(&pump->lock);
		goto no_memory;
	}
	slot = slots_take(&pump->slots);
	pump->slots.things[slot] = join;
	join->slot = slot;
	join->counters = slots_counters(&pump->slots, slot);
	worker = &pump->workers[pump->next_worker++ % pump->worker_count];
	pthread_mutex_unlock(&pump->lock);

	pump_account_get(account);
	join->worker = worker;
	for (int i = 0; i < 2; i++) {
		join->counters->bytes[i] = 0;
		/*
		 * From here on close() means RST, that of the kernel at the
		 * process' end too: nobody takes a cut stream for a whole one.
		 */
		set_linger(legs[i].fd, true);
	}
	join->counters->last_ms = pump_now_ms();
	pthread_mutex_lock(&worker->lock);
	join->is_queued = true;
	list_append(&worker->told, join);
	pthread_mutex_unlock(&worker->lock);
	event_thread_wake(&worker->thread);
	return slot;

no_memory:
	free(join->sides[0].early);
	free(join->sides[1].early);
	leg_state_free(join->sealed);
	free(join);
	errno = ENOMEM;
	return -1;
}

void pump_end(struct pump *pump, uint32_t slot)
{
	struct worker *worker = NULL;
	struct join *join;

	pthread_mutex_lock(&pump->lock);
	join = slots_thing(&pump->slots, slot);
	if (join != NULL) {
		worker = join->worker;
		atomic_store(&join->is_told, true);
	}
	pthread_mutex_unlock(&pump->lock);
	if (worker == NULL)
		return;
	pthread_mutex_lock(&worker->lock);
	worker->ends_some = true;
	pthread_mutex_unlock(&worker->lock);
	event_thread_wake(&worker->thread);
}

size_t pump_take_ended(struct pump *pump, struct pump_ended *ended, size_t most)
{
	size_t count;

	pthread_mutex_lock(&pump->lock);
	count = pump->ended_count < most ? pump->ended_count : most;
	memcpy(ended, pump->ended, count * sizeof(*ended));
	pump->ended_count -= count;
	memmove(pump->ended, pump->ended + count,
		pump->ended_count * sizeof(*ended));
	for (size_t i = 0; i < count; i++)
		slots_give(&pump->slots, ended[i].slot);
	pthread_mutex_unlock(&pump->lock);
	return count;
}
