// SPDX-License-Identifier: Apache-2.0
/*
 * natbinder run: three processes. The launcher, which the caller waits for and
 * signals, stands for the program; the supervisor answers the program's calls,
 * and stays as long as anybody whom the program has started.
 *
 *   launcher - supervisor - program - ...
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <poll.h>
#include <unistd.h>

#include "run.h"

#define SOCKET_VARIABLE "ISTHMUS_NATBINDER_SOCKET"
#define WAIT_VARIABLE "ISTHMUS_NATBINDER_WAIT_MS"
#define USUAL_WAIT_MS 500
#define MOST_WAIT_MS 10000
#define STATUS_USAGE 2

static const char usage[] =
	"usage: natbinder run [--socket PATH] [--wait MS] [--] PROGRAM [ARGUMENTS]\n"
	"Runs a program whose ports are mapped on the gateway.\n"
	"       natbinder containers [--socket PATH] [--wait MS] PATH\n"
	"Does the same for containers whose runtime calls at that Unix socket.\n";

/* Ends as the program has ended. */
static _Noreturn void end_like(int status)
{
	struct rlimit none = { 0 };
	sigset_t all;

	if (WIFEXITED(status))
		_exit(WEXITSTATUS(status));
	/* The program has left a core if anybody has. */
	setrlimit(RLIMIT_CORE, &none);
	signal(WTERMSIG(status), SIG_DFL);
	sigfillset(&all);
	sigprocmask(SIG_UNBLOCK, &all, NULL);
	raise(WTERMSIG(status));
	_exit(128 + WTERMSIG(status));
}

static void pass_signal(int signals, int program)
{
	struct signalfd_siginfo info;

	if (read(signals, &info, sizeof(info)) != sizeof(info))
		return;
	/* The kernel sends the terminal's to the whole group itself. */
	if (info.ssi_code == SI_KERNEL || info.ssi_signo == SIGCHLD)
		return;
	syscall(SYS_pidfd_send_signal, program, info.ssi_signo, NULL, 0);
}

static _Noreturn void launch(int supervisor, int signals)
{
	int program = -1, passed;
	struct program_event event;
	ssize_t size;

	for (;;) {
		struct pollfd fds[] = {
			{ .fd = supervisor, .events = POLLIN },
			/* They wait until it is known where they go. */
			{ .fd = program < 0 ? -1 : signals, .events = POLLIN },
		};

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			_exit(126);
		if (fds[1].revents & POLLIN)
			pass_signal(signals, program);
		if (!fds[0].revents)
			continue;
		size = receive_with(supervisor, &event, sizeof(event), &passed);
		if (size != sizeof(event)) {
			fputs("natbinder: the supervisor has died\n", stderr);
			_exit(126);
		}
		if (event.what == PROGRAM_STARTED)
			program = passed;
		else if (event.what == PROGRAM_STOPPED)
			/* So that the shell sees its job stop. */
			kill(getpid(), SIGSTOP);
		else
			end_like(event.status);
	}
}

/* Whether natbinder is there, and sees this process' binds by itself. */
static bool is_covered(const char *path, unsigned int wait_ms)
{
	struct ask_request request = {
		.version = ASK_VERSION,
		.what = ASK_COVER,
		.pid = (uint32_t)getpid(),
	};
	struct ask_reply reply = { 0 };
	struct pollfd daemon = { .fd = connect_daemon(path), .events = POLLIN };
	bool is_told;

	if (daemon.fd < 0)
		return false;
	is_told = !send_with(daemon.fd, &request, sizeof(request), NULL, 0) &&
		  poll(&daemon, 1, (int)wait_ms) == 1 &&
		  recv(daemon.fd, &reply, sizeof(reply), 0) == sizeof(reply);
	close(daemon.fd);
	return is_told && reply.version == ASK_VERSION &&
	       reply.answer == ASK_SUCCEEDED;
}

static _Noreturn void become(char **command)
{
	int code;

	execvp(command[0], command);
	code = errno;
	fprintf(stderr, "natbinder: %s: %s\n", command[0], strerror(code));
	exit(code == ENOENT ? 127 : 126);
}

static bool read_wait(const char *text, unsigned int *wait_ms)
{
	unsigned long value = USUAL_WAIT_MS;
	char *end = "";

	if (text != NULL && *text != '\0')
		value = strtoul(text, &end, 10);
	*wait_ms = (unsigned int)value;
	return *end == '\0' && value <= MOST_WAIT_MS;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "wait", required_argument, NULL, 'w' },
		{ "containers", no_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	const char *socket = getenv(SOCKET_VARIABLE);
	const char *wait = getenv(WAIT_VARIABLE);
	bool for_containers = false;
	unsigned int wait_ms;
	sigset_t before, all;
	int pair[2], option, signals, keep[2];
	pid_t supervisor;

	while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (option == 'h') {
			fputs(usage, stdout);
			return 0;
		}
		if (option == 's') {
			socket = optarg;
		} else if (option == 'w') {
			wait = optarg;
		} else if (option == 'c') {
			for_containers = true;
		} else {
			fputs(usage, stderr);
			return STATUS_USAGE;
		}
	}
	if (optind == argc || (for_containers && optind != argc - 1) ||
	    !read_wait(wait, &wait_ms)) {
		fputs(usage, stderr);
		return STATUS_USAGE;
	}
	socket = socket && *socket ? socket : NULL;
	if (for_containers)
		serve_containers(argv[optind], socket, wait_ms);
	if (is_covered(socket, wait_ms))
		become(argv + optind);
	/* None gets lost between here and the program. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		perror("natbinder");
		return 126;
	}
	supervisor = fork();
	if (supervisor < 0) {
		perror("natbinder");
		return 126;
	}
	if (supervisor == 0) {
		close(pair[0]);
		supervise(pair[1], socket, wait_ms, argv + optind, &before);
	}
	signals = signalfd(-1, &all, SFD_CLOEXEC);
	keep[0] = pair[0];
	keep[1] = signals;
	close_all_but(keep, 2);
	launch(pair[0], signals);
}
