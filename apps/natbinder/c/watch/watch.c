// SPDX-License-Identifier: Apache-2.0
/*
 * natbinder-watch: loads the programs of watch.bpf.c, takes commands on its
 * standard input and writes events to its standard output until its input
 * ends. Nothing is pinned: when this process is gone, so are its programs, and
 * bind() is as ever.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "watch.h"
#include "watch.skel.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
/* Commands that are read at a time; any number may come. */
#define COMMANDS 256

static struct watch_bpf *programs;
static __u64 missed;

static _Noreturn void fail(const char *what, int code)
{
	fprintf(stderr, "%s: %s\n", what, strerror(code < 0 ? -code : code));
	exit(1);
}

/* The daemon has gone where it does not read any more. */
static void write_all(const void *bytes, size_t size)
{
	while (size > 0) {
		ssize_t written = write(STDOUT_FILENO, bytes, size);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			exit(0);
		bytes = (const char *)bytes + written;
		size -= (size_t)written;
	}
}

static void say(enum watch_what what)
{
	struct watch_event event = { .what = (__u8)what };

	write_all(&event, sizeof(event));
}

static int pass_on(void *context, void *event, size_t size)
{
	(void)context;
	if (size == sizeof(struct watch_event))
		write_all(event, size);
	return 0;
}

static __u64 own_network(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	__u64 cookie = 0;
	socklen_t size = sizeof(cookie);

	if (fd < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size))
		fail("the network namespace", errno);
	close(fd);
	return cookie;
}

/* Where the system has its control groups of version 2. */
static int open_group(const char *name)
{
	char line[4096], path[8192], point[4096], kind[64];
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	bool is_found = false;
	int fd;

	if (mounts == NULL)
		fail("/proc/self/mountinfo", errno);
	while (!is_found && fgets(line, sizeof(line), mounts)) {
		const char *rest = strstr(line, " - ");

		is_found = rest != NULL &&
			   sscanf(rest, " - %63s", kind) == 1 &&
			   !strcmp(kind, "cgroup2") &&
			   sscanf(line, "%*s %*s %*s %*s %4095s", point) == 1;
	}
	fclose(mounts);
	if (!is_found)
		fail("no control groups of version 2 are mounted", ENOENT);
	snprintf(path, sizeof(path), "%s/%s", point, name);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		fail(path, errno);
	return fd;
}

static void add_rule(const char *text)
{
	struct watch_rule *rule;
	char program[sizeof(rule->program)] = "", uid[16] = "", map[2] = "";

	if (programs->rodata->rule_count == WATCH_MOST_RULES)
		fail("rules", E2BIG);
	rule = (struct watch_rule *)&programs->rodata
		       ->rules[programs->rodata->rule_count++];
	/* MAP/UID/PROGRAM: the name may have anything in it. */
	if (sscanf(text, "%1[01]/%15[0-9*]/%15[^\n]", map, uid, program) != 3)
		fail(text, EINVAL);
	rule->map = map[0] == '1';
	rule->any_uid = uid[0] == '*';
	rule->uid = (__u32)strtoul(uid, NULL, 10);
	rule->any_program = !strcmp(program, "*");
	memcpy(rule->program, program, sizeof(program));
}

static const char *read_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "cgroup", required_argument, NULL, 'c' },
		{ "daemon", required_argument, NULL, 'd' },
		{ "ipv4-only", no_argument, NULL, '4' },
		{ "rule", required_argument, NULL, 'r' },
		{ 0 },
	};
	const char *group = "";
	int option;

	programs->rodata->dual_stack = true;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'c')
			group = optarg;
		else if (option == 'd')
			programs->rodata->daemon_pid =
				(__u32)strtoul(optarg, NULL, 10);
		else if (option == '4')
			programs->rodata->dual_stack = false;
		else if (option == 'r')
			add_rule(optarg);
		else
			exit(2);
	}
	return group;
}

static void attach(int group)
{
	struct {
		const struct bpf_program *program;
		struct bpf_link **link;
	} all[] = {
		/* What a socket asked for is known before it is told of. */
		{ programs->progs.at_close, &programs->links.at_close },
		{ programs->progs.after_bind4, &programs->links.after_bind4 },
		{ programs->progs.after_bind6, &programs->links.after_bind6 },
		{ programs->progs.before_bind4, &programs->links.before_bind4 },
		{ programs->progs.before_bind6, &programs->links.before_bind6 },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		*all[i].link = bpf_program__attach_cgroup(all[i].program, group);
		if (*all[i].link == NULL)
			fail("attaching to the control group", errno);
	}
}

/* Sockets that have their ports and have not been told of. */
static void list(void)
{
	struct bpf_link *link =
		bpf_program__attach_iter(programs->progs.each_file, NULL);
	struct watch_event found[64];
	int fd;

	if (link == NULL)
		fail("listing open files", errno);
	fd = bpf_iter_create(bpf_link__fd(link));
	if (fd < 0)
		fail("listing open files", errno);
	for (;;) {
		ssize_t size = read(fd, found, sizeof(found));

		if (size < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (size < 0)
			fail("listing open files", errno);
		if (size == 0)
			break;
		write_all(found, (size_t)size);
	}
	close(fd);
	bpf_link__destroy(link);
	say(WATCH_LISTED);
}

static void obey(const struct watch_command *command)
{
	__u32 key = (__u32)command->protocol << 16 | command->port;
	__u8 value = 1;
	int map = bpf_map__fd(programs->maps.held);

	if (command->what == WATCH_HOLD)
		(void)bpf_map_update_elem(map, &key, &value, BPF_ANY);
	else if (command->what == WATCH_FREE)
		(void)bpf_map_delete_elem(map, &key);
}

/* Ends this process with its input. */
static void take_commands(void)
{
	static struct watch_command commands[COMMANDS];
	static size_t have;
	size_t whole;
	ssize_t size = read(STDIN_FILENO, (char *)commands + have,
			    sizeof(commands) - have);

	if (size < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (size <= 0)
		exit(0);
	have += (size_t)size;
	whole = have / sizeof(commands[0]);
	for (size_t i = 0; i < whole; i++)
		obey(&commands[i]);
	have -= whole * sizeof(commands[0]);
	memmove(commands, &commands[whole], have);
}

/* Sockets that could not be told of are not marked as told: they are found. */
static void make_up_for_missed(void)
{
	if (programs->bss->missed == missed)
		return;
	missed = programs->bss->missed;
	say(WATCH_MISSED);
	list();
}

static _Noreturn void serve(struct ring_buffer *ring)
{
	struct pollfd fds[] = {
		{ .fd = STDIN_FILENO, .events = POLLIN },
		{ .fd = ring_buffer__epoll_fd(ring), .events = POLLIN },
	};

	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			fail("poll", errno);
		if (fds[0].revents)
			take_commands();
		if (fds[1].revents) {
			ring_buffer__consume(ring);
			make_up_for_missed();
		}
	}
}

static int print_error(enum libbpf_print_level level, const char *format,
		       va_list arguments)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, arguments) : 0;
}

int main(int argc, char **argv)
{
	struct ring_buffer *ring;
	struct stat space, group;
	int error, group_fd;

	libbpf_set_print(print_error);
	programs = watch_bpf__open();
	if (programs == NULL)
		fail("the BPF programs", errno);
	group_fd = open_group(read_options(argc, argv));
	if (fstat(group_fd, &group))
		fail("the control group", errno);
	programs->rodata->group = group.st_ino;
	if (stat("/proc/self/ns/pid", &space))
		fail("/proc/self/ns/pid", errno);
	programs->rodata->pid_space = (__u32)space.st_ino;
	programs->rodata->network = own_network();
	error = watch_bpf__load(programs);
	if (error)
		fail("loading the BPF programs", error);
	ring = ring_buffer__new(bpf_map__fd(programs->maps.events), pass_on,
				NULL, NULL);
	if (ring == NULL)
		fail("the ring of events", errno);
	attach(group_fd);
	say(WATCH_READY);
	list();
	serve(ring);
}
