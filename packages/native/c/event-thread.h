/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISTHMUS_EVENT_THREAD_H
#define ISTHMUS_EVENT_THREAD_H

#include <pthread.h>
#include <stdbool.h>

/* A thread of an engine that waits for events, and that others can wake. */
struct event_thread {
	pthread_t thread;
	/* An event of it without data.ptr: it was woken. */
	int epoll_fd;
	int wake_fd;
};

/* Returns false with errno; event_thread_close() is due all the same. */
bool event_thread_open(struct event_thread *thread);

/* Returns false with errno. */
bool event_thread_start(struct event_thread *thread, void *(*run)(void *data),
			void *data);

/* May be called by any thread. */
void event_thread_wake(const struct event_thread *thread);

/* To be called for the event of being woken. */
void event_thread_take_wake(const struct event_thread *thread);

void event_thread_join(const struct event_thread *thread);

/* It has ended, or was not started. */
void event_thread_close(const struct event_thread *thread);

#endif
