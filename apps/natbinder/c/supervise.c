// SPDX-License-Identifier: Apache-2.0
/*
 * One loop, and nothing in it waits: calls that wait for the daemon are kept
 * in a list, and others go on meanwhile. The supervisor must not die while
 * somebody could ask, since bind() fails then (ENOSYS), and it must not hold
 * what it was shown, since a socket lives until its last holder lets go of it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "run.h"

/* The daemon answers in time; this much more is for one that hangs. */
#define GRACE_MS 10

/* A call of bind() that waits for the daemon. */
struct waiting {
	struct waiting *next;
	uint64_t call;
	uint32_t number;
	int64_t deadline_ms;
	/* Has the port for the time being. */
	int holder;
	struct target target;
};

static struct {
	const char *socket;
	/* What a program may wait in bind(). */
	unsigned int wait_ms;
	/* -1 when there is none. */
	int listener, daemon, launcher, signals;
	pid_t program;
	bool ended;
	uint64_t network;
	uint32_t last_number;
	/* The oldest first: all have equal time. */
	struct waiting *first, **last;
	struct seccomp_notif *call;
	struct seccomp_notif_resp *reply;
	size_t call_size, reply_size;
} state = { .listener = -1, .daemon = -1, .last = &state.first };

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Ends a call; @error is 0 or -errno. One that has gone is no error. */
static void answer(uint64_t call, int error)
{
	memset(state.reply, 0, state.reply_size);
	state.reply->id = call;
	state.reply->error = error;
	(void)ioctl(state.listener, SECCOMP_IOCTL_NOTIF_SEND, state.reply);
}

/* The kernel does what was called for, as without us. */
static void let_through(uint64_t call)
{
	memset(state.reply, 0, state.reply_size);
	state.reply->id = call;
	state.reply->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	(void)ioctl(state.listener, SECCOMP_IOCTL_NOTIF_SEND, state.reply);
}

static int ask(enum ask_what what, uint32_t number, const struct target *target,
	       const int *fds, size_t count)
{
	struct ask_request request = {
		.version = ASK_VERSION,
		.what = (uint8_t)what,
		.number = number,
		.pid = (uint32_t)target->pid,
	};

	memcpy(request.program, target->program, sizeof(request.program));
	return send_with(state.daemon, &request, sizeof(request), fds, count);
}

/* Takes @one out of the list, does what @verdict says, and frees it. */
static void finish(struct waiting *one, enum ask_answer verdict)
{
	struct waiting **at = &state.first;
	int error;

	while (*at != one)
		at = &(*at)->next;
	*at = one->next;
	if (state.last == &one->next)
		state.last = at;
	if (ioctl(state.listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &one->call)) {
		/* The program was killed. Its socket's end tells the daemon. */
		close(one->holder);
	} else if (verdict == ASK_FAILED) {
		close(one->holder);
		answer(one->call, -EADDRINUSE);
	} else {
		error = hand_over(&one->target, one->holder);
		if (error && state.daemon >= 0)
			(void)ask(ASK_RELEASE, 0, &one->target,
				  &one->target.fd, 1);
		answer(one->call, error);
	}
	close(one->target.fd);
	free(one);
}

static void lose_daemon(void)
{
	close(state.daemon);
	state.daemon = -1;
	while (state.first != NULL)
		finish(state.first, ASK_IGNORED);
}

/* Returns false where the call is to be let through. */
static bool pass_on(struct waiting *one)
{
	int fds[2];

	if (!is_bind(&state.call->data) ||
	    !read_target(state.listener, state.call, state.network,
			 &one->target))
		return false;
	if (state.daemon < 0)
		state.daemon = connect_daemon(state.socket);
	one->holder = state.daemon < 0 ? -1 : hold_port(&one->target);
	if (one->holder >= 0) {
		one->call = state.call->id;
		one->number = ++state.last_number;
		one->deadline_ms = now_ms() + state.wait_ms + GRACE_MS;
		one->next = NULL;
		*state.last = one;
		state.last = &one->next;
		fds[0] = one->holder;
		fds[1] = one->target.fd;
		if (ask(ASK_BIND, one->number, &one->target, fds, 2))
			lose_daemon();
		return true;
	}
	close(one->target.fd);
	return false;
}

static void take_call(void)
{
	struct waiting *one;

	memset(state.call, 0, state.call_size);
	if (ioctl(state.listener, SECCOMP_IOCTL_NOTIF_RECV, state.call))
		return;
	one = malloc(sizeof(*one));
	if (one != NULL && pass_on(one))
		return;
	free(one);
	let_through(state.call->id);
}

static void take_reply(void)
{
	struct ask_reply reply;
	ssize_t size = recv(state.daemon, &reply, sizeof(reply), MSG_DONTWAIT);
	struct waiting *one;

	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (size != sizeof(reply) || reply.version != ASK_VERSION) {
		lose_daemon();
		return;
	}
	for (one = state.first; one != NULL; one = one->next)
		if (one->number == reply.number) {
			finish(one, (enum ask_answer)reply.answer);
			return;
		}
}

static void tell_launcher(int what, int status)
{
	struct program_event event = { .what = what, .status = status };

	(void)send_with(state.launcher, &event, sizeof(event), NULL, 0);
}

/* Children are the program, and what programs have left behind. */
static void reap(void)
{
	struct signalfd_siginfo info[8];
	pid_t pid;
	int status;

	(void)!read(state.signals, info, sizeof(info));
	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
		if (pid != state.program)
			continue;
		if (WIFSTOPPED(status)) {
			tell_launcher(PROGRAM_STOPPED, status);
			continue;
		}
		state.ended = true;
		tell_launcher(PROGRAM_ENDED, status);
	}
}

static int wait_ms(void)
{
	int64_t left;

	if (state.first == NULL)
		return -1;
	left = state.first->deadline_ms - now_ms();
	return left < 0 ? 0 : (int)left;
}

static _Noreturn void serve(void)
{
	for (;;) {
		/* Those that are -1 are passed over by poll(). */
		struct pollfd fds[] = {
			{ .fd = state.signals, .events = POLLIN },
			{ .fd = state.launcher, .events = 0 },
			{ .fd = state.daemon, .events = POLLIN },
			{ .fd = state.listener, .events = POLLIN },
		};

		if (poll(fds, 4, wait_ms()) < 0 && errno != EINTR)
			_exit(1);
		if (fds[0].revents)
			reap();
		if (fds[1].revents) {
			/* Whoever kills the launcher means the program. */
			if (!state.ended)
				kill(state.program, SIGKILL);
			close(state.launcher);
			state.launcher = -1;
		}
		if (fds[2].revents && state.daemon == fds[2].fd)
			take_reply();
		while (state.first != NULL &&
		       state.first->deadline_ms <= now_ms())
			finish(state.first, ASK_IGNORED);
		if (fds[3].revents & POLLIN)
			take_call();
		else if (fds[3].revents) {
			/* Nobody is left under the filter. */
			close(state.listener);
			state.listener = -1;
		}
		if (state.listener < 0 && state.ended)
			_exit(0);
	}
}

static _Noreturn void run_program(int supervisor, char **command,
				  const sigset_t *mask)
{
	int32_t listener;
	int code;

	sigprocmask(SIG_SETMASK, mask, NULL);
	listener = install_filter();
	if (send_with(supervisor, &listener, sizeof(listener), &listener,
		      listener < 0 ? 0 : 1))
		_exit(126);
	if (listener >= 0)
		close(listener);
	execvp(command[0], command);
	code = errno;
	fprintf(stderr, "natbinder: %s: %s\n", command[0], strerror(code));
	_exit(code == ENOENT ? 127 : 126);
}

static void allocate(void)
{
	struct seccomp_notif_sizes sizes;

	if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes))
		memset(&sizes, 0, sizeof(sizes));
	state.call_size = sizes.seccomp_notif > sizeof(*state.call) ?
				  sizes.seccomp_notif :
				  sizeof(*state.call);
	state.reply_size = sizes.seccomp_notif_resp > sizeof(*state.reply) ?
				   sizes.seccomp_notif_resp :
				   sizeof(*state.reply);
	state.call = malloc(state.call_size);
	state.reply = malloc(state.reply_size);
	if (state.call == NULL || state.reply == NULL)
		_exit(126);
}

/* Signals of the terminal are for the program, and so are those to the group. */
static void ignore_signals(void)
{
	static const int ignored[] = { SIGHUP,	SIGINT,	 SIGQUIT, SIGTERM,
				       SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1,
				       SIGUSR2, SIGPIPE, SIGALRM };
	sigset_t children;

	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	sigprocmask(SIG_SETMASK, &children, NULL);
	state.signals = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* A reader of the program's output must not wait for this process' end. */
static void let_go_of_terminal(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	if (chdir("/"))
		return;
}

static void find_network(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd >= 0) {
		state.network = network_of(fd);
		close(fd);
	}
}

void answer_for(int listener, const char *socket, unsigned int wait_ms)
{
	int keep[2];

	state.listener = listener;
	state.launcher = -1;
	state.socket = socket;
	state.wait_ms = wait_ms;
	/* There is no program of ours whose end is to be told. */
	state.ended = true;
	allocate();
	ignore_signals();
	keep[0] = state.signals;
	keep[1] = listener;
	close_all_but(keep, 2);
	let_go_of_terminal();
	find_network();
	serve();
}

void supervise(int launcher, const char *socket, unsigned int wait_ms,
	       char **command, const void *signal_mask)
{
	struct program_event started = { .what = PROGRAM_STARTED };
	int pair[2], keep[3], pidfd;
	int32_t result;

	state.launcher = launcher;
	state.socket = socket;
	state.wait_ms = wait_ms;
	/* What daemonises stays below us: Yama allows a look at those alone. */
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	allocate();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		_exit(126);
	state.program = fork();
	if (state.program < 0)
		_exit(126);
	if (state.program == 0)
		run_program(pair[1], command, signal_mask);
	close(pair[1]);
	ignore_signals();
	pidfd = (int)syscall(SYS_pidfd_open, state.program, 0);
	if (receive_with(pair[0], &result, sizeof(result), &state.listener) !=
	    sizeof(result))
		result = -EPIPE;
	if (result < 0 && result != -EBUSY && result != -EPIPE)
		fprintf(stderr,
			"natbinder: no ports will be mapped: this system does not let bind() be watched: %s\n",
			strerror(-result));
	close(pair[0]);
	(void)send_with(launcher, &started, sizeof(started), &pidfd,
			pidfd < 0 ? 0 : 1);
	close(pidfd);
	keep[0] = launcher;
	keep[1] = state.signals;
	keep[2] = state.listener;
	close_all_but(keep, state.listener < 0 ? 2 : 3);
	let_go_of_terminal();
	find_network();
	serve();
}
