// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "event-thread.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

bool event_thread_open(struct event_thread *thread)
{
	struct epoll_event event = { .events = EPOLLIN };

	thread->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	thread->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return thread->epoll_fd >= 0 && thread->wake_fd >= 0 &&
	       epoll_ctl(thread->epoll_fd, EPOLL_CTL_ADD, thread->wake_fd,
			 &event) == 0;
}

bool event_thread_start(struct event_thread *thread, void *(*run)(void *data),
			void *data)
{
	sigset_t all, before;
	int error;

	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&thread->thread, NULL, run, data);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error == 0)
		return true;
	errno = error;
	return false;
}

void event_thread_wake(const struct event_thread *thread)
{
	uint64_t one = 1;

	while (write(thread->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void event_thread_take_wake(const struct event_thread *thread)
{
	uint64_t count;

	while (read(thread->wake_fd, &count, sizeof(count)) > 0)
		;
}

void event_thread_join(const struct event_thread *thread)
{
	pthread_join(thread->thread, NULL);
}

void event_thread_close(const struct event_thread *thread)
{
	if (thread->epoll_fd >= 0)
		close(thread->epoll_fd);
	if (thread->wake_fd >= 0)
		close(thread->wake_fd);
}
