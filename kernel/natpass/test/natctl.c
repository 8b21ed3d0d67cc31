// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The daemon's part of the family nat_pass, by rules:
 *
 *   natctl [-4] [-b BYTES] [-w MS] [-x FROM-TO[/PROTO]]... serve \
 *       FROM-TO=ANSWER[:MS]...
 *     registers, prints what it is told, and answers by the first rule that
 *     fits: succeeded, failed, ignored, or silent. :MS is how long it thinks,
 *     one bind after the other. -4 leaves IPv6 alone, -b is the size of its
 *     buffer, -w is what a bind waits, -x excludes. Registers anew on SIGHUP,
 *     with IPv6.
 *   natctl dump
 *   natctl say register|unregister|succeeded|failed|ignored [SEQ]
 *     from a socket that is not registered; prints what the kernel says
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../uapi/natpass.h"

#define MOST_RULES 16

struct rule {
	unsigned int from, to, ms;
	int command; /* zero for none */
};

static const char *const states[] = { "waiting", "succeeded", "failed",
				      "ignored" };
static struct rule rules[MOST_RULES];
static int rule_count;
static volatile sig_atomic_t anew;
static int fd, family;

static struct {
	struct nlmsghdr nlh;
	struct genlmsghdr genl;
	char attrs[8192];
} request;

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "natctl: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void begin(int type, int command, int flags)
{
	memset(&request, 0, NLMSG_LENGTH(GENL_HDRLEN));
	request.nlh.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
	request.nlh.nlmsg_type = type;
	request.nlh.nlmsg_flags = NLM_F_REQUEST | flags;
	request.nlh.nlmsg_seq = 1;
	request.genl.cmd = command;
	request.genl.version = 1;
}

static struct nlattr *put(int type, const void *data, size_t length)
{
	struct nlattr *attr = (void *)((char *)&request + request.nlh.nlmsg_len);

	attr->nla_type = type;
	attr->nla_len = NLA_HDRLEN + length;
	if (length)
		memcpy((char *)attr + NLA_HDRLEN, data, length);
	request.nlh.nlmsg_len += NLA_ALIGN(attr->nla_len);
	return attr;
}

static void ask(void)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };

	if (sendto(fd, &request, request.nlh.nlmsg_len, 0, (void *)&kernel,
		   sizeof(kernel)) < 0)
		die("sendto");
}

/* Attributes by type; those of a type above the last are left out. */
static void parse(struct nlmsghdr *nlh, struct nlattr **tb, int last)
{
	char *at = (char *)nlh + NLMSG_LENGTH(GENL_HDRLEN);
	char *end = (char *)nlh + nlh->nlmsg_len;

	memset(tb, 0, sizeof(*tb) * (last + 1));
	while (end - at >= NLA_HDRLEN) {
		struct nlattr *attr = (void *)at;
		int type = attr->nla_type & NLA_TYPE_MASK;

		if (type <= last)
			tb[type] = attr;
		at += NLA_ALIGN(attr->nla_len);
	}
}

static uint32_t number(const struct nlattr *attr)
{
	const char *data = (const char *)attr + NLA_HDRLEN;
	uint32_t u32 = 0;
	uint16_t u16;

	if (!attr)
		return 0;
	switch (attr->nla_len - NLA_HDRLEN) {
	case 1:
		return (uint8_t)*data;
	case 2:
		memcpy(&u16, data, sizeof(u16));
		return u16;
	default:
		memcpy(&u32, data, sizeof(u32));
		return u32;
	}
}

static void find_family(void)
{
	struct nlattr *tb[CTRL_ATTR_MAX + 1];
	char buffer[8192];
	struct nlmsghdr *nlh = (void *)buffer;

	begin(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 0);
	put(CTRL_ATTR_FAMILY_NAME, NAT_PASS_FAMILY_NAME,
	    sizeof(NAT_PASS_FAMILY_NAME));
	ask();
	if (recv(fd, buffer, sizeof(buffer), 0) < 0)
		die("recv");
	if (nlh->nlmsg_type == NLMSG_ERROR) {
		errno = -((struct nlmsgerr *)NLMSG_DATA(nlh))->error;
		die("family");
	}
	parse(nlh, tb, CTRL_ATTR_MAX);
	family = number(tb[CTRL_ATTR_FAMILY_ID]);
}

static void print_port(const char *what, struct nlattr **tb)
{
	const struct nlattr *address = tb[NAT_PASS_A_PORT_ADDRESS];
	char text[INET6_ADDRSTRLEN] = "-";

	printf("%s seq=%u proto=%u port=%u", what,
	       number(tb[NAT_PASS_A_PORT_SEQ]),
	       number(tb[NAT_PASS_A_PORT_PROTOCOL]),
	       number(tb[NAT_PASS_A_PORT_PORT]));
	if (address) {
		inet_ntop(number(tb[NAT_PASS_A_PORT_FAMILY]),
			  (const char *)address + NLA_HDRLEN, text,
			  sizeof(text));
		printf(" address=%s pid=%u uid=%u comm=%s state=%s sockets=%u",
		       text, number(tb[NAT_PASS_A_PORT_PID]),
		       number(tb[NAT_PASS_A_PORT_UID]),
		       (const char *)tb[NAT_PASS_A_PORT_COMM] + NLA_HDRLEN,
		       states[number(tb[NAT_PASS_A_PORT_STATE])],
		       number(tb[NAT_PASS_A_PORT_SOCKETS]));
	}
	putchar('\n');
	fflush(stdout);
}

static void answer(uint32_t seq, unsigned int port)
{
	int n;

	for (n = 0; n < rule_count; n++) {
		if (port < rules[n].from || port > rules[n].to)
			continue;
		usleep(rules[n].ms * 1000);
		if (rules[n].command) {
			begin(family, rules[n].command, NLM_F_ACK);
			put(NAT_PASS_A_PORT_SEQ, &seq, sizeof(seq));
			ask();
		}
		return;
	}
}

static void error_of(const struct nlmsghdr *nlh)
{
	const struct nlmsgerr *error = NLMSG_DATA(nlh);
	const char *at = (const char *)(error + 1), *end;

	if (!error->error) {
		puts("ok");
	} else {
		printf("refused: %s", strerror(-error->error));
		if (!(nlh->nlmsg_flags & NLM_F_CAPPED))
			at += error->msg.nlmsg_len - sizeof(error->msg);
		end = (const char *)nlh + nlh->nlmsg_len;
		while (nlh->nlmsg_flags & NLM_F_ACK_TLVS &&
		       end - at >= NLA_HDRLEN) {
			const struct nlattr *attr = (const void *)at;

			if (attr->nla_type == NLMSGERR_ATTR_MSG)
				printf(": %s", at + NLA_HDRLEN);
			at += NLA_ALIGN(attr->nla_len);
		}
		putchar('\n');
	}
	fflush(stdout);
}

/* One datagram. Returns false at the end of a dump. */
static bool take(bool answers)
{
	static char buffer[65536];
	struct nlattr *tb[NAT_PASS_A_PORT_MAX + 1];
	struct nlmsghdr *nlh = (void *)buffer;
	ssize_t length = recv(fd, buffer, sizeof(buffer), 0);

	if (length < 0 && errno == ENOBUFS) {
		puts("overrun");
		fflush(stdout);
		return true;
	}
	if (length < 0 && errno == EINTR)
		return true;
	if (length < 0)
		die("recv");
	for (; NLMSG_OK(nlh, length); nlh = NLMSG_NEXT(nlh, length)) {
		struct genlmsghdr *genl = NLMSG_DATA(nlh);

		if (nlh->nlmsg_type == NLMSG_DONE)
			return false;
		if (nlh->nlmsg_type == NLMSG_ERROR) {
			error_of(nlh);
			/* A dump that was refused is over. */
			if (!answers)
				return false;
			continue;
		}
		parse(nlh, tb, NAT_PASS_A_PORT_MAX);
		print_port(genl->cmd == NAT_PASS_CMD_PORT_BIND	? "bind" :
			   genl->cmd == NAT_PASS_CMD_PORT_CLOSE ? "close" :
								  "port",
			   tb);
		if (answers && genl->cmd == NAT_PASS_CMD_PORT_BIND)
			answer(number(tb[NAT_PASS_A_PORT_SEQ]),
			       number(tb[NAT_PASS_A_PORT_PORT]));
	}
	return true;
}

static int command_of(const char *word)
{
	static const char *const words[] = { "register", "unregister",
					     "succeeded", "failed", "ignored" };
	int n;

	for (n = 0; n < 5; n++)
		if (!strncmp(word, words[n], strlen(words[n])))
			return NAT_PASS_CMD_REGISTER + n;
	return 0;
}

static void exclude(const char *text)
{
	unsigned int from, to, proto = 0;
	struct nlattr *nest;
	uint16_t port;
	uint8_t u8;

	if (sscanf(text, "%u-%u/%u", &from, &to, &proto) < 2)
		die(text);
	nest = put(NAT_PASS_A_POLICY_EXCLUSION | NLA_F_NESTED, NULL, 0);
	port = from;
	put(NAT_PASS_A_EXCLUSION_PORT, &port, sizeof(port));
	port = to;
	put(NAT_PASS_A_EXCLUSION_TO, &port, sizeof(port));
	u8 = proto;
	if (proto)
		put(NAT_PASS_A_EXCLUSION_PROTOCOL, &u8, sizeof(u8));
	nest->nla_len =
		(char *)&request + request.nlh.nlmsg_len - (char *)nest;
}

static void hang_up(int signal)
{
	anew = signal;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = hang_up };
	bool dual_stack = true;
	uint32_t value;
	int option, bytes, one = 1;

	fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC);
	setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof(one));
	setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one));
	sigaction(SIGHUP, &action, NULL);
	find_family();
	begin(family, NAT_PASS_CMD_REGISTER, NLM_F_ACK);
	while ((option = getopt(argc, argv, "4b:w:x:")) != -1) {
		if (option == '4') {
			dual_stack = false;
		} else if (option == 'b') {
			bytes = atoi(optarg);
			setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes,
				   sizeof(bytes));
		} else if (option == 'w') {
			value = atoi(optarg);
			put(NAT_PASS_A_POLICY_WAIT, &value, sizeof(value));
		} else if (option == 'x') {
			exclude(optarg);
		} else {
			return 2;
		}
	}
	if (dual_stack)
		put(NAT_PASS_A_POLICY_DUAL_STACK, NULL, 0);
	argv += optind;
	argc -= optind;
	if (argc > 0 && !strcmp(argv[0], "dump")) {
		begin(family, NAT_PASS_CMD_PORT_GET, NLM_F_DUMP);
		ask();
		while (take(false))
			;
		return 0;
	}
	if (argc > 1 && !strcmp(argv[0], "say")) {
		begin(family, command_of(argv[1]), NLM_F_ACK);
		value = argc > 2 ? atoi(argv[2]) : 0;
		if (value)
			put(NAT_PASS_A_PORT_SEQ, &value, sizeof(value));
		ask();
		take(false);
		return 0;
	}
	if (argc < 1 || strcmp(argv[0], "serve"))
		return 2;
	for (; rule_count < argc - 1 && rule_count < MOST_RULES; rule_count++) {
		struct rule *rule = &rules[rule_count];
		char word[32];

		if (sscanf(argv[rule_count + 1], "%u-%u=%31[a-z]:%u",
			   &rule->from, &rule->to, word, &rule->ms) < 3)
			return 2;
		rule->command = command_of(word);
	}
	ask();
	for (;;) {
		take(true);
		if (anew) {
			anew = 0;
			begin(family, NAT_PASS_CMD_REGISTER, NLM_F_ACK);
			put(NAT_PASS_A_POLICY_DUAL_STACK, NULL, 0);
			ask();
		}
	}
}
