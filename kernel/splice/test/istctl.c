// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Speaks the ist family by hand, for tests that need nothing else:
 *
 *   istctl new|set ID [WORD...]    source SIDE ADDRESS[/BITS]
 *                                  cell NUMBER MODE PORT0 PORT1 [REMOTE0 REMOTE1]
 *                                  limit NAME VALUE, timeout NAME MS
 *                                  remove NUMBER, lifetime MS
 *   istctl del ID [REASON]
 *   istctl kill SPLICE
 *   istctl allocs|splices|stats    one line each
 *   istctl events SECONDS          one line each, as they come
 *   istctl raw COMMAND HEX         a request with these attributes
 *   istctl repeat SECONDS FILE     the commands in its lines, over and over,
 *                                  whether they are refused or not
 *   istctl tell FILE               the commands in its lines; for each a line
 *                                  "ok" or "ERROR: TEXT @OFFSET", the offset of
 *                                  the attribute in the request, or -; replies
 *                                  stand before it as "reply HEX", attributes
 *                                  alone
 *
 * Status 0, or 1 with the kernel's text.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../../uapi/ist.h"

#define BUFFER_BYTES 65536

static int sock;
static uint16_t family;
static uint32_t group;
static char request[BUFFER_BYTES];
static struct nlmsghdr *message = (struct nlmsghdr *)request;

/* `repeat` goes on and counts, `tell` goes on and tells, instead of showing. */
static enum { SHOW, COUNT, TELL } mode;
static unsigned long done, refused;

static void fail(const char *what)
{
	fprintf(stderr, "istctl: %s\n", what);
	exit(1);
}

static void start(uint16_t type, uint16_t flags, uint8_t command)
{
	struct genlmsghdr *header = NLMSG_DATA(message);

	memset(request, 0, sizeof(request));
	message->nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
	message->nlmsg_type = type;
	message->nlmsg_flags = NLM_F_REQUEST | flags;
	message->nlmsg_seq = 1;
	header->cmd = command;
	header->version = 1;
}

static struct nlattr *put(uint16_t type, const void *data, size_t length)
{
	struct nlattr *attr =
		(void *)(request + NLMSG_ALIGN(message->nlmsg_len));

	if (message->nlmsg_len + length + 64 > sizeof(request))
		fail("the request is too long");
	attr->nla_type = type;
	attr->nla_len = NLA_HDRLEN + length;
	if (length)
		memcpy((char *)attr + NLA_HDRLEN, data, length);
	message->nlmsg_len = NLMSG_ALIGN(message->nlmsg_len) +
			     NLA_ALIGN(attr->nla_len);
	return attr;
}

static struct nlattr *nest(uint16_t type)
{
	return put(type | NLA_F_NESTED, NULL, 0);
}

static void end(struct nlattr *attr)
{
	attr->nla_len = request + message->nlmsg_len - (char *)attr;
}

static void put8(uint16_t type, uint8_t value)
{
	put(type, &value, sizeof(value));
}

static void put16(uint16_t type, uint16_t value)
{
	put(type, &value, sizeof(value));
}

static void put32(uint16_t type, uint32_t value)
{
	put(type, &value, sizeof(value));
}

static void put64(uint16_t type, uint64_t value)
{
	put(type, &value, sizeof(value));
}

static void transmit(void)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };

	if (sendto(sock, request, message->nlmsg_len, 0, (void *)&kernel,
		   sizeof(kernel)) < 0)
		fail(strerror(errno));
}

static const struct nlattr *find(const void *data, int length, uint16_t type)
{
	const struct nlattr *attr = data;

	while (length >= NLA_HDRLEN && attr->nla_len >= NLA_HDRLEN &&
	       attr->nla_len <= length) {
		if ((attr->nla_type & NLA_TYPE_MASK) == type)
			return attr;
		length -= NLA_ALIGN(attr->nla_len);
		attr = (const void *)((const char *)attr +
				      NLA_ALIGN(attr->nla_len));
	}
	return NULL;
}

static const void *data_of(const struct nlattr *attr)
{
	return (const char *)attr + NLA_HDRLEN;
}

static int length_of(const struct nlattr *attr)
{
	return attr->nla_len - NLA_HDRLEN;
}

static uint64_t number(const void *data, int length, uint16_t type)
{
	const struct nlattr *attr = find(data, length, type);
	uint64_t value = 0;

	if (attr)
		memcpy(&value, data_of(attr), length_of(attr));
	return value;
}

static const char *address(const void *data, int length, uint16_t type)
{
	static char text[4][INET6_ADDRSTRLEN];
	static int turn;
	const struct nlattr *attr = find(data, length, type);

	turn = (turn + 1) % 4;
	strcpy(text[turn], "-");
	if (attr)
		inet_ntop(length_of(attr) == 4 ? AF_INET : AF_INET6,
			  data_of(attr), text[turn], sizeof(text[turn]));
	return text[turn];
}

static void show_splice(const void *data, int length)
{
	const struct nlattr *attr = data;
	int rest = length;

	printf("splice id=%" PRIu64 " alloc=%" PRIu64 " cell=%" PRIu64
	       " proto=%" PRIu64 " state=%" PRIu64 " reason=%" PRIu64,
	       number(data, length, IST_A_SPLICE_ID),
	       number(data, length, IST_A_SPLICE_ALLOC),
	       number(data, length, IST_A_SPLICE_CELL),
	       number(data, length, IST_A_SPLICE_PROTO),
	       number(data, length, IST_A_SPLICE_STATE),
	       number(data, length, IST_A_SPLICE_REASON));
	while (rest >= NLA_HDRLEN) {
		if ((attr->nla_type & NLA_TYPE_MASK) == IST_A_SPLICE_LEG) {
			const void *leg = data_of(attr);
			int size = length_of(attr);

			printf(" %s:%" PRIu64 ">%s:%" PRIu64 "=%" PRIu64,
			       address(leg, size, IST_A_LEG_REMOTE),
			       number(leg, size, IST_A_LEG_REMOTE_PORT),
			       address(leg, size, IST_A_LEG_LOCAL),
			       number(leg, size, IST_A_LEG_LOCAL_PORT),
			       number(leg, size, IST_A_LEG_BYTES));
		}
		rest -= NLA_ALIGN(attr->nla_len);
		attr = (const void *)((const char *)attr +
				      NLA_ALIGN(attr->nla_len));
	}
	printf("\n");
}

static void show_alloc(const void *data, int length)
{
	const struct nlattr *attr = data;
	int rest = length, cells = 0, sources = 0;

	while (rest >= NLA_HDRLEN) {
		cells += (attr->nla_type & NLA_TYPE_MASK) == IST_A_ALLOC_CELL;
		if ((attr->nla_type & NLA_TYPE_MASK) == IST_A_ALLOC_SOURCES)
			sources = length_of(attr) / 16;
		rest -= NLA_ALIGN(attr->nla_len);
		attr = (const void *)((const char *)attr +
				      NLA_ALIGN(attr->nla_len));
	}
	printf("alloc id=%" PRIu64 " cells=%d splices=%" PRIu64
	       " sources=%s more=%d\n",
	       number(data, length, IST_A_ALLOC_ID), cells,
	       number(data, length, IST_A_ALLOC_SPLICES),
	       sources ? "yes" : "no",
	       find(data, length, IST_A_ALLOC_MORE) != NULL);
}

static void show_stats(const void *data, int length)
{
	const struct nlattr *attr = data;
	int rest = length;

	printf("stats allocs=%" PRIu64 " cells=%" PRIu64 " halves=%" PRIu64
	       " splices=%" PRIu64 " udp=%" PRIu64 " lingering=%" PRIu64
	       " packets=%" PRIu64 " bytes=%" PRIu64,
	       number(data, length, IST_A_STATS_ALLOCS),
	       number(data, length, IST_A_STATS_CELLS),
	       number(data, length, IST_A_STATS_HALVES),
	       number(data, length, IST_A_STATS_SPLICES),
	       number(data, length, IST_A_STATS_UDP_SPLICES),
	       number(data, length, IST_A_STATS_LINGERING),
	       number(data, length, IST_A_STATS_PACKETS),
	       number(data, length, IST_A_STATS_BYTES));
	while (rest >= NLA_HDRLEN) {
		if ((attr->nla_type & NLA_TYPE_MASK) ==
		    IST_A_STATS_REASON_COUNT) {
			const void *one = data_of(attr);
			int size = length_of(attr);

			printf(" r%" PRIu64 "=%" PRIu64 "/%" PRIu64,
			       number(one, size, IST_A_REASON_COUNT_REASON),
			       number(one, size, IST_A_REASON_COUNT_ENDED),
			       number(one, size, IST_A_REASON_COUNT_PACKETS));
		}
		rest -= NLA_ALIGN(attr->nla_len);
		attr = (const void *)((const char *)attr +
				      NLA_ALIGN(attr->nla_len));
	}
	printf("\n");
}

static void show(const struct nlmsghdr *got)
{
	const struct genlmsghdr *header = NLMSG_DATA(got);
	const void *data = (const char *)header + GENL_HDRLEN;
	int length = got->nlmsg_len - NLMSG_LENGTH(GENL_HDRLEN);

	switch (header->cmd) {
	case IST_CMD_SPLICE_GET:
	case IST_CMD_SPLICE_NTF:
		show_splice(data, length);
		break;
	case IST_CMD_ALLOC_GET:
		show_alloc(data, length);
		break;
	case IST_CMD_STATS_GET:
		show_stats(data, length);
		break;
	case IST_CMD_HALF_NTF:
		printf("half alloc=%" PRIu64 " cell=%" PRIu64 " proto=%" PRIu64
		       " side=%" PRIu64 " from=%s:%" PRIu64 " reason=%" PRIu64
		       "\n",
		       number(data, length, IST_A_HALF_ALLOC),
		       number(data, length, IST_A_HALF_CELL),
		       number(data, length, IST_A_HALF_PROTO),
		       number(data, length, IST_A_HALF_SIDE),
		       address(data, length, IST_A_HALF_REMOTE),
		       number(data, length, IST_A_HALF_REMOTE_PORT),
		       number(data, length, IST_A_HALF_REASON));
		break;
	case IST_CMD_ALLOC_NTF:
		printf("ended alloc=%" PRIu64 " reason=%" PRIu64 "\n",
		       number(data, length, IST_A_ALLOC_ID),
		       number(data, length, IST_A_ALLOC_REASON));
		break;
	}
	fflush(stdout);
}

static void show_bytes(const struct nlmsghdr *got)
{
	const unsigned char *bytes = (const void *)got;

	printf("reply ");
	for (uint32_t i = NLMSG_LENGTH(GENL_HDRLEN); i < got->nlmsg_len; i++)
		printf("%02x", bytes[i]);
	printf("\n");
}

/* Prints the kernel's text. */
static void refuse(const struct nlmsghdr *got)
{
	const struct nlmsgerr *error = NLMSG_DATA(got);
	size_t skip = sizeof(*error);
	const struct nlattr *text = NULL, *offset = NULL;
	int length = 0;

	refused++;
	if (mode == COUNT)
		return;
	if (!(got->nlmsg_flags & NLM_F_CAPPED))
		skip += error->msg.nlmsg_len - sizeof(error->msg);
	if (got->nlmsg_flags & NLM_F_ACK_TLVS) {
		const char *tlvs = (const char *)error + NLMSG_ALIGN(skip);

		length = (const char *)got + got->nlmsg_len - tlvs;
		text = find(tlvs, length, NLMSGERR_ATTR_MSG);
		offset = find(tlvs, length, NLMSGERR_ATTR_OFFS);
		skip = tlvs - (const char *)error;
	}
	fprintf(mode == TELL ? stdout : stderr, "%s%s: %.*s",
		mode == TELL ? "" : "istctl: ", strerror(-error->error),
		text ? length_of(text) : 0,
		text ? (const char *)data_of(text) : "");
	if (mode == TELL) {
		if (offset)
			printf(" @%" PRIu64 "\n",
			       number((const char *)error + skip, length,
				      NLMSGERR_ATTR_OFFS));
		else
			printf(" @-\n");
		return;
	}
	fprintf(stderr, "%s\n", offset ? " (at an attribute)" : "");
	exit(1);
}

/* Reads until the answer is complete. */
static void answer(bool dump)
{
	char buffer[BUFFER_BYTES];

	for (;;) {
		ssize_t size = recv(sock, buffer, sizeof(buffer), 0);
		struct nlmsghdr *got = (void *)buffer;

		if (size < 0)
			fail(strerror(errno));
		for (; NLMSG_OK(got, size); got = NLMSG_NEXT(got, size)) {
			if (got->nlmsg_type == NLMSG_ERROR) {
				struct nlmsgerr *error = NLMSG_DATA(got);

				if (error->error)
					refuse(got);
				else if (mode == TELL)
					printf("ok\n");
				return;
			}
			if (got->nlmsg_type == NLMSG_DONE)
				return;
			if (mode == SHOW)
				show(got);
			else if (mode == TELL)
				show_bytes(got);
			if (!dump && !(message->nlmsg_flags & NLM_F_ACK))
				return;
		}
	}
}

static void resolve(void)
{
	char buffer[BUFFER_BYTES];
	struct nlmsghdr *got = (void *)buffer;
	const struct nlattr *groups, *one;
	const void *data;
	int length;

	start(GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY);
	put(CTRL_ATTR_FAMILY_NAME, IST_FAMILY_NAME, sizeof(IST_FAMILY_NAME));
	transmit();
	if (recv(sock, buffer, sizeof(buffer), 0) < 0 ||
	    got->nlmsg_type == NLMSG_ERROR)
		fail("there is no family ist: the module is not loaded");
	data = (char *)NLMSG_DATA(got) + GENL_HDRLEN;
	length = got->nlmsg_len - NLMSG_LENGTH(GENL_HDRLEN);
	family = number(data, length, CTRL_ATTR_FAMILY_ID);
	groups = find(data, length, CTRL_ATTR_MCAST_GROUPS);
	one = data_of(groups);
	group = number(data_of(one), length_of(one), CTRL_ATTR_MCAST_GRP_ID);
}

static void put_address(uint16_t type, const char *text)
{
	unsigned char bytes[16];

	if (inet_pton(AF_INET, text, bytes) == 1)
		put(type, bytes, 4);
	else if (inet_pton(AF_INET6, text, bytes) == 1)
		put(type, bytes, 16);
	else
		fail("not an address");
}

static void put_source(const char *side, char *prefix)
{
	struct nlattr *source = nest(IST_A_SOURCES_SOURCE);
	char *bits = strchr(prefix, '/');

	if (bits)
		*bits++ = 0;
	put8(IST_A_SOURCE_SIDE, atoi(side));
	put_address(IST_A_SOURCE_ADDRESS, prefix);
	if (bits)
		put8(IST_A_SOURCE_PREFIX, atoi(bits));
	end(source);
}

static const char *const timeouts[] = {
	NULL, "half", "syn-ack", "syn-rcvd", "established", "close-wait",
	"time-wait", "closed", "udp",
};

static const char *const limits[] = {
	NULL, "splices", "idle", "total", "bytes", "rate",
};

static int index_of(const char *const *names, int count, const char *name)
{
	for (int i = 1; i < count; i++)
		if (!strcmp(names[i], name))
			return i;
	fail(name);
	return 0;
}

static void put_member(const char *word, char **words)
{
	int which;

	if (!strcmp(word, "source")) {
		put_source(words[0], words[1]);
	} else if (!strcmp(word, "limit")) {
		which = index_of(limits, 6, words[0]);
		if (which == IST_A_LIMITS_SPLICES)
			put32(which, atoi(words[1]));
		else
			put64(which, atoll(words[1]));
	} else {
		put32(index_of(timeouts, 9, words[0]), atoi(words[1]));
	}
}

/* All of the words of one kind, wherever they stand. */
static void put_nest(uint16_t type, const char *word, int count, char **words)
{
	struct nlattr *attr = NULL;

	for (int i = 0; i + 2 < count; i++)
		if (!strcmp(words[i], word)) {
			if (!attr)
				attr = nest(type);
			put_member(word, words + i + 1);
		}
	if (attr)
		end(attr);
}

static void put_words(int count, char **words)
{
	put_nest(IST_A_ALLOC_SOURCES, "source", count, words);
	put_nest(IST_A_ALLOC_LIMITS, "limit", count, words);
	put_nest(IST_A_ALLOC_TIMEOUTS, "timeout", count, words);
	for (int i = 0; i < count; i++) {
		struct nlattr *inner;

		if (!strcmp(words[i], "source") ||
		    !strcmp(words[i], "limit") ||
		    !strcmp(words[i], "timeout")) {
			i += 2;
		} else if (!strcmp(words[i], "remove")) {
			put32(IST_A_ALLOC_REMOVE_CELL, atoi(words[++i]));
		} else if (!strcmp(words[i], "lifetime")) {
			put64(IST_A_ALLOC_LIFETIME, atoll(words[++i]));
		} else if (!strcmp(words[i], "cell")) {
			const char *mode = words[i + 2];

			inner = nest(IST_A_ALLOC_CELL);
			put32(IST_A_CELL_NUMBER, atoi(words[i + 1]));
			put8(IST_A_CELL_MODE, !strcmp(mode, "pure") ? 1 :
					      !strcmp(mode, "fanout") ? 2 : 0);
			put16(IST_A_CELL_PORT0, atoi(words[i + 3]));
			put16(IST_A_CELL_PORT1, atoi(words[i + 4]));
			i += 4;
			if (!strcmp(mode, "pure")) {
				put16(IST_A_CELL_REMOTE_PORT0,
				      atoi(words[i + 1]));
				put16(IST_A_CELL_REMOTE_PORT1,
				      atoi(words[i + 2]));
				i += 2;
			}
			end(inner);
		} else {
			fail(words[i]);
		}
	}
}

static void listen_for(int seconds)
{
	struct timeval wait = { .tv_sec = 1 };
	time_t until = time(NULL) + seconds;
	char buffer[BUFFER_BYTES];

	if (setsockopt(sock, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group,
		       sizeof(group)))
		fail(strerror(errno));
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	printf("listening\n");
	fflush(stdout);
	while (time(NULL) < until) {
		ssize_t size = recv(sock, buffer, sizeof(buffer), 0);
		struct nlmsghdr *got = (void *)buffer;

		if (size < 0 && errno == ENOBUFS)
			printf("lost\n");
		for (; size > 0 && NLMSG_OK(got, size);
		     got = NLMSG_NEXT(got, size))
			show(got);
	}
}

static void put_hex(const char *hex)
{
	unsigned char *at = (void *)(request + message->nlmsg_len);

	for (; hex[0] && hex[1]; hex += 2) {
		unsigned int byte;

		if (sscanf(hex, "%2x", &byte) != 1)
			fail("not hexadecimal");
		*at++ = byte;
		message->nlmsg_len++;
	}
}

/* One command, as in the list above. */
static void run(int argc, char **argv)
{
	const char *command = argv[0];

	if (argc > 1 && (!strcmp(command, "new") || !strcmp(command, "set"))) {
		start(family, NLM_F_ACK, *command == 'n' ? IST_CMD_ALLOC_NEW :
							   IST_CMD_ALLOC_SET);
		put64(IST_A_ALLOC_ID, strtoull(argv[1], NULL, 0));
		put_words(argc - 2, argv + 2);
	} else if (argc > 1 && !strcmp(command, "del")) {
		start(family, NLM_F_ACK, IST_CMD_ALLOC_DEL);
		put64(IST_A_ALLOC_ID, strtoull(argv[1], NULL, 0));
		if (argc > 2)
			put8(IST_A_ALLOC_REASON, atoi(argv[2]));
	} else if (argc > 1 && !strcmp(command, "kill")) {
		start(family, NLM_F_ACK, IST_CMD_SPLICE_DEL);
		put64(IST_A_SPLICE_ID, strtoull(argv[1], NULL, 0));
	} else if (!strcmp(command, "allocs")) {
		start(family, NLM_F_DUMP, IST_CMD_ALLOC_GET);
	} else if (!strcmp(command, "splices")) {
		start(family, NLM_F_DUMP, IST_CMD_SPLICE_GET);
		if (argc > 1)
			put64(IST_A_SPLICE_ALLOC, strtoull(argv[1], NULL, 0));
	} else if (!strcmp(command, "stats")) {
		start(family, 0, IST_CMD_STATS_GET);
	} else if (argc > 2 && !strcmp(command, "raw")) {
		start(family, NLM_F_ACK, atoi(argv[1]));
		put_hex(argv[2]);
	} else {
		fail("see the top of istctl.c for what it takes");
	}
	transmit();
	answer(message->nlmsg_flags & NLM_F_DUMP);
}

/* Return: false at the end of the file. */
static bool run_line(FILE *file)
{
	static char *line;
	static size_t room;
	char *words[256];
	int count = 0;

	if (getline(&line, &room, file) < 0)
		return false;
	for (char *word = strtok(line, " \n"); word && count < 256;
	     word = strtok(NULL, " \n"))
		words[count++] = word;
	if (count) {
		run(count, words);
		done++;
	}
	return true;
}

static FILE *open_lines(const char *path)
{
	FILE *file = fopen(path, "r");

	if (!file)
		fail(path);
	return file;
}

static void repeat(int seconds, const char *path)
{
	time_t until = time(NULL) + seconds;
	FILE *file = open_lines(path);

	mode = COUNT;
	while (time(NULL) < until)
		if (!run_line(file))
			rewind(file);
	printf("done %lu refused %lu\n", done, refused);
}

static void tell(const char *path)
{
	FILE *file = open_lines(path);

	mode = TELL;
	while (run_line(file))
		;
}

int main(int argc, char **argv)
{
	int on = 1;

	sock = socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC);
	if (sock < 0)
		fail(strerror(errno));
	setsockopt(sock, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
	resolve();
	if (argc > 2 && !strcmp(argv[1], "events"))
		listen_for(atoi(argv[2]));
	else if (argc > 3 && !strcmp(argv[1], "repeat"))
		repeat(atoi(argv[2]), argv[3]);
	else if (argc > 2 && !strcmp(argv[1], "tell"))
		tell(argv[2]);
	else if (argc > 1)
		run(argc - 1, argv + 1);
	else
		fail("see the top of istctl.c for what it takes");
	return 0;
}
