// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Both ends of a splice, segment by segment, with no stack between the script
 * and the wire:
 *
 *   wire NAMESPACE LOCAL PORT REMOTE PORT NAMESPACE LOCAL PORT REMOTE PORT
 *
 * The first five words are end `a`, the others end `b`. Local addresses should
 * be nobody's, so that no stack answers what comes for them. The script comes
 * on standard input, a line a step:
 *
 *   a > FLAGS WORD...        a sends a segment
 *   b < FLAGS WORD...        the next segment at b is this one
 *   a > udp WORD...          a sends a datagram
 *   b < udp WORD...
 *   a > icmp TYPE CODE ...   a sends an error about what came to it last
 *   b < icmp TYPE CODE ...   an error about something of b's comes
 *   b - [MS]                 nothing comes for so long (300)
 *   wait MS
 *
 * FLAGS are of SAFRPEW (E is ECE, W is CWR) or `.` for none; P is not looked at
 * in what comes. Words: `seq N`, `ack N`, `win N`, `len N` (payload), `ttl N`,
 * `mtu N` of an error, `opt LIST` with mss=N, ws=N, sack, ts=VALUE:ECHO and
 * kindN for any other one, `bad` for a wrong checksum, `port N` for another
 * local port. Of datagrams, `sum N` is the checksum as it stands there, and
 * `cancel` makes the payload such that at the other end the sum is zero, which
 * is to be sent as 65535. Of what comes, only words that are given are looked
 * at, except that without `len` there is no payload, and that without `bad` all
 * checksums and the payload are right.
 *
 * Status 0 when all came as it should and nothing else; 1 tells what did not.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <net/ethernet.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PACKET_BYTES	4096
#define WAIT_MS		10000
#define SILENCE_MS	300
#define HOPS		64
#define QUOTED_BYTES	8

/* An end, whose addresses are 16 bytes of which IPv4 takes the first four. */
struct end {
	char name;
	int family;
	uint8_t local[16], remote[16];
	uint16_t local_port, remote_port;
	int in, out;
	/* What came last, for errors about it. */
	uint8_t last[PACKET_BYTES];
	int last_length;
};

enum kind { TCP, UDP, ICMP };

/* A step of the script, or a packet in its words. */
struct segment {
	enum kind kind;
	bool bad, cancel;
	char flags[16];
	char options[256];
	int type, code;
	/* -1 where nothing is said. */
	int64_t seq, ack, window, length, hops, mtu, port, sum;
};

static int line_number;

static void die(const char *what)
{
	printf("line %d: %s: %s\n", line_number, what, strerror(errno));
	exit(1);
}

static int64_t now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

static void put16(uint8_t *at, uint16_t value)
{
	at[0] = value >> 8;
	at[1] = value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value);
}

static uint16_t get16(const uint8_t *at)
{
	return at[0] << 8 | at[1];
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static uint32_t sum_of(const uint8_t *bytes, int length, uint32_t sum)
{
	for (int i = 0; i < length; i++)
		sum += i & 1 ? bytes[i] : bytes[i] << 8;
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static int address_bytes(const struct end *end)
{
	return end->family == AF_INET ? 4 : 16;
}

static int header_bytes(const struct end *end)
{
	return end->family == AF_INET ? 20 : 40;
}

static int icmp_protocol(const struct end *end)
{
	return end->family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6;
}

/* Of what stands in front of the header behind IP's, for its checksum. */
static uint32_t pseudo_sum(const struct end *end, const uint8_t *ip,
			   int protocol, int length)
{
	int at = end->family == AF_INET ? 12 : 8;

	if (protocol == IPPROTO_ICMP)
		return 0;
	return sum_of(ip + at, 2 * address_bytes(end), protocol + length);
}

/* Of everything behind the IP header. */
static uint16_t checksum(const struct end *end, const uint8_t *ip, int protocol,
			 const uint8_t *data, int length)
{
	return ~fold(sum_of(data, length,
			    pseudo_sum(end, ip, protocol, length)));
}

/*
 * Whether a checksum is right. One that is left to a network card, which there
 * is none of, is as far as the stack is to go.
 */
static bool is_right(const struct end *end, const uint8_t *ip, int protocol,
		     int length, bool left)
{
	const uint8_t *data = ip + header_bytes(end);
	int at = protocol == IPPROTO_UDP ? 6 : 16;

	if (left)
		return get16(data + at) ==
		       fold(pseudo_sum(end, ip, protocol, length));
	if (protocol == IPPROTO_UDP && !get16(data + at))
		return end->family == AF_INET;
	return !checksum(end, ip, protocol, data, length);
}

/* The IP header of @length bytes behind it, which are there already. */
static void write_ip(const struct end *end, uint8_t *ip, int protocol,
		     int length, int hops)
{
	memset(ip, 0, header_bytes(end));
	if (end->family == AF_INET) {
		ip[0] = 0x45;
		put16(ip + 2, 20 + length);
		put16(ip + 6, 0x4000);
		ip[8] = hops;
		ip[9] = protocol;
		memcpy(ip + 12, end->local, 4);
		memcpy(ip + 16, end->remote, 4);
		put16(ip + 10, ~fold(sum_of(ip, 20, 0)));
	} else {
		ip[0] = 0x60;
		put16(ip + 4, length);
		ip[6] = protocol;
		ip[7] = hops;
		memcpy(ip + 8, end->local, 16);
		memcpy(ip + 24, end->remote, 16);
	}
}

static void transmit(const struct end *end, const uint8_t *packet, int length)
{
	struct sockaddr_storage to = { .ss_family = end->family };

	if (end->family == AF_INET)
		memcpy(&((struct sockaddr_in *)&to)->sin_addr, end->remote, 4);
	else
		memcpy(&((struct sockaddr_in6 *)&to)->sin6_addr, end->remote,
		       16);
	if (sendto(end->out, packet, length, 0, (void *)&to,
		   end->family == AF_INET ? sizeof(struct sockaddr_in) :
					    sizeof(struct sockaddr_in6)) < 0)
		die("send");
}

static const char FLAGS[] = "FSRPAUEW";

/* Return: bytes of options, a multiple of four. */
static int write_options(uint8_t *at, const char *list)
{
	char text[256], *rest = text, *word;
	uint8_t *start = at;

	snprintf(text, sizeof(text), "%s", list);
	while ((word = strsep(&rest, ","))) {
		unsigned int one, two;

		if (sscanf(word, "mss=%u", &one) == 1) {
			memcpy(at, (uint8_t[]){ 2, 4, one >> 8, one }, 4);
			at += 4;
		} else if (sscanf(word, "ws=%u", &one) == 1) {
			memcpy(at, (uint8_t[]){ 3, 3, one }, 3);
			at += 3;
		} else if (!strcmp(word, "sack")) {
			memcpy(at, (uint8_t[]){ 4, 2 }, 2);
			at += 2;
		} else if (sscanf(word, "ts=%u:%u", &one, &two) == 2) {
			memcpy(at, (uint8_t[]){ 8, 10 }, 2);
			put32(at + 2, one);
			put32(at + 6, two);
			at += 10;
		} else if (sscanf(word, "kind%u", &one) == 1) {
			/* MPTCP's, the longest of those that are tried. */
			memset(at, 0, 12);
			at[0] = one;
			at[1] = one == 34 ? 2 : 12;
			at += at[1];
		} else if (*word) {
			printf("line %d: option %s?\n", line_number, word);
			exit(1);
		}
	}
	while ((at - start) % 4)
		*at++ = 1;
	return at - start;
}

static void read_options(char *list, const uint8_t *at, int length)
{
	char *to = list;

	*to = 0;
	while (length > 0 && *at) {
		int size = *at == 1 ? 1 : length > 1 ? at[1] : 0;

		if (!size || size > length) {
			sprintf(to, "broken");
			return;
		}
		if (*at != 1 && to != list)
			*to++ = ',';
		if (*at == 2 && size == 4)
			to += sprintf(to, "mss=%u", get16(at + 2));
		else if (*at == 3 && size == 3)
			to += sprintf(to, "ws=%u", at[2]);
		else if (*at == 4 && size == 2)
			to += sprintf(to, "sack");
		else if (*at == 8 && size == 10)
			to += sprintf(to, "ts=%u:%u", get32(at + 2),
				      get32(at + 6));
		else if (*at != 1)
			to += sprintf(to, "kind%u", *at);
		at += size;
		length -= size;
	}
}

static void send_segment(const struct end *end, const struct segment *segment)
{
	uint8_t packet[PACKET_BYTES], *tcp = packet + header_bytes(end);
	int payload = segment->length > 0 ? segment->length : 0, length;
	int options = write_options(tcp + 20, segment->options);

	memset(tcp, 0, 20);
	put16(tcp, segment->port >= 0 ? segment->port : end->local_port);
	put16(tcp + 2, end->remote_port);
	put32(tcp + 4, segment->seq > 0 ? segment->seq : 0);
	put32(tcp + 8, segment->ack > 0 ? segment->ack : 0);
	tcp[12] = (20 + options) << 2;
	for (int i = 0; i < 8; i++)
		if (strchr(segment->flags, FLAGS[i]))
			tcp[13] |= 1 << i;
	put16(tcp + 14, segment->window >= 0 ? segment->window : 65535);
	for (int i = 0; i < payload; i++)
		tcp[20 + options + i] = i;
	length = 20 + options + payload;
	write_ip(end, packet, IPPROTO_TCP, length,
		 segment->hops >= 0 ? segment->hops : HOPS);
	put16(tcp + 16, checksum(end, packet, IPPROTO_TCP, tcp, length) ^
				segment->bad);
	transmit(end, packet, header_bytes(end) + length);
}

/* @far is the other end, where the datagram arrives from @far's remote end. */
static void send_udp(const struct end *end, const struct end *far,
		     const struct segment *segment)
{
	uint8_t packet[PACKET_BYTES], *udp = packet + header_bytes(end);
	int payload = segment->length > 0 ? segment->length : 0;
	int length = 8 + payload;
	uint16_t sum;

	put16(udp, segment->port >= 0 ? segment->port : end->local_port);
	put16(udp + 2, end->remote_port);
	put16(udp + 4, length);
	put16(udp + 6, 0);
	for (int i = 0; i < payload; i++)
		udp[8 + i] = i;
	if (segment->cancel) {
		uint32_t there = IPPROTO_UDP + length + length +
				 far->remote_port + far->local_port;

		put16(udp + 8, 0);
		there = sum_of(far->local, address_bytes(far), there);
		there = sum_of(far->remote, address_bytes(far), there);
		put16(udp + 8, ~fold(sum_of(udp + 8, payload, there)));
	}
	write_ip(end, packet, IPPROTO_UDP, length,
		 segment->hops >= 0 ? segment->hops : HOPS);
	sum = checksum(end, packet, IPPROTO_UDP, udp, length);
	put16(udp + 6, segment->sum >= 0 ? segment->sum : sum ? sum : 0xffff);
	transmit(end, packet, header_bytes(end) + length);
}

static void send_icmp(const struct end *end, const struct segment *segment)
{
	uint8_t packet[PACKET_BYTES], *icmp = packet + header_bytes(end);
	int quoted = header_bytes(end) + QUOTED_BYTES;
	int length = 8 + quoted;

	if (!end->last_length) {
		printf("line %d: nothing came that an error could be about\n",
		       line_number);
		exit(1);
	}
	memset(icmp, 0, 8);
	icmp[0] = segment->type;
	icmp[1] = segment->code;
	if (segment->mtu >= 0)
		put32(icmp + 4, segment->mtu);
	memcpy(icmp + 8, end->last, quoted);
	if (segment->seq >= 0)
		put32(icmp + 8 + header_bytes(end) + 4, segment->seq);
	write_ip(end, packet, icmp_protocol(end), length, HOPS);
	put16(icmp + 2,
	      checksum(end, packet, icmp_protocol(end), icmp, length));
	transmit(end, packet, header_bytes(end) + length);
}

/* Whether @ip comes from, or with @own goes to, the other end of @end's leg. */
static bool is_between(const struct end *end, const uint8_t *ip, bool own)
{
	int at = end->family == AF_INET ? 12 : 8, size = address_bytes(end);

	return !memcmp(ip + at, own ? end->local : end->remote, size) &&
	       !memcmp(ip + at + size, own ? end->remote : end->local, size);
}

static int protocol_of(const struct end *end, const uint8_t *ip)
{
	return ip[end->family == AF_INET ? 9 : 6];
}

static void read_tcp(const struct end *end, const uint8_t *ip, int length,
		     struct segment *segment)
{
	const uint8_t *tcp = ip + header_bytes(end);
	int options = (tcp[12] >> 4) * 4 - 20, count = 0;

	for (int i = 0; i < 8; i++)
		if (tcp[13] & 1 << i)
			segment->flags[count++] = FLAGS[i];
	segment->seq = get32(tcp + 4);
	segment->ack = get32(tcp + 8);
	segment->window = get16(tcp + 14);
	segment->length = length - 20 - options;
	segment->port = get16(tcp + 2);
	read_options(segment->options, tcp + 20, options);
	for (int i = 0; i < segment->length; i++)
		if (tcp[20 + options + i] != (uint8_t)i)
			segment->bad = true;
}

static void read_udp(const struct end *end, const uint8_t *ip, int length,
		     struct segment *segment)
{
	const uint8_t *udp = ip + header_bytes(end);

	segment->kind = UDP;
	segment->seq = -1;
	segment->length = length - 8;
	segment->port = get16(udp + 2);
	segment->sum = get16(udp + 6);
	if (get16(udp + 4) != length)
		segment->bad = true;
	/* Behind the word that `cancel` writes. */
	for (int i = 2; i < segment->length; i++)
		if (udp[8 + i] != (uint8_t)i)
			segment->bad = true;
}

static void read_icmp(const struct end *end, const uint8_t *ip,
		      struct segment *segment)
{
	const uint8_t *icmp = ip + header_bytes(end), *quoted = icmp + 8;
	const uint8_t *transport = quoted + header_bytes(end);

	segment->kind = ICMP;
	segment->type = icmp[0];
	segment->code = icmp[1];
	segment->mtu = get32(icmp + 4);
	segment->length = 0;
	segment->seq = get32(transport + 4);
	segment->port = get16(transport);
	/* A stack believes it only when the quoted packet is one of its own. */
	if (!is_between(end, quoted, true) ||
	    get16(transport + 2) != end->remote_port)
		segment->bad = true;
}

/* Of ICMP: neither a question nor an answer. */
static bool is_error(const struct end *end, const uint8_t *ip)
{
	uint8_t type = ip[header_bytes(end)];

	if (end->family == AF_INET6)
		return type < 128;
	return type == 3 || type == 11 || type == 12;
}

/* Return: false when the packet is none of the script's. */
static bool read_packet(struct end *end, const uint8_t *ip, int size, bool left,
			struct segment *segment)
{
	int length, protocol;

	if (size < header_bytes(end) + 8 || !is_between(end, ip, false))
		return false;
	length = end->family == AF_INET ? get16(ip + 2) - 20 : get16(ip + 4);
	protocol = protocol_of(end, ip);
	if (length > size - header_bytes(end) ||
	    (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP &&
	     protocol != icmp_protocol(end)))
		return false;
	memset(segment, 0, sizeof(*segment));
	segment->ack = segment->window = segment->mtu = segment->sum = -1;
	segment->hops = ip[end->family == AF_INET ? 8 : 7];
	if (protocol == IPPROTO_TCP)
		read_tcp(end, ip, length, segment);
	else if (protocol == IPPROTO_UDP)
		read_udp(end, ip, length, segment);
	else if (is_error(end, ip))
		read_icmp(end, ip, segment);
	else
		return false;
	if (!is_right(end, ip, protocol, length, left) ||
	    (end->family == AF_INET && fold(sum_of(ip, 20, 0)) != 0xffff))
		segment->bad = true;
	memcpy(end->last, ip, size);
	end->last_length = size;
	return true;
}

/* @left: whether the stack left the checksum to the network card. */
static ssize_t take(const struct end *end, uint8_t *packet, bool *left)
{
	struct iovec vector = { packet, PACKET_BYTES };
	char control[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
	struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	ssize_t size = recvmsg(end->in, &message, 0);
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	if (size > 0 && header) {
		struct tpacket_auxdata auxiliary;

		memcpy(&auxiliary, CMSG_DATA(header), sizeof(auxiliary));
		*left = auxiliary.tp_status & TP_STATUS_CSUMNOTREADY;
	}
	return size;
}

/* Return: whether a packet for the script came in time. */
static bool receive(struct end *end, int ms, struct segment *segment)
{
	int64_t until = now_ms() + ms;

	for (;;) {
		struct pollfd wait = { .fd = end->in, .events = POLLIN };
		int64_t left = until - now_ms();
		uint8_t packet[PACKET_BYTES];
		bool left_sum = false;
		ssize_t size;

		if (poll(&wait, 1, left > 0 ? left : 0) <= 0)
			return false;
		size = take(end, packet, &left_sum);
		if (size > 0 &&
		    read_packet(end, packet, size, left_sum, segment))
			return true;
	}
}

static const char *show(const struct segment *segment)
{
	static char text[512];

	if (segment->kind == UDP)
		sprintf(text, "udp len %lld port %lld ttl %lld sum %lld%s",
			(long long)segment->length, (long long)segment->port,
			(long long)segment->hops, (long long)segment->sum,
			segment->bad ? " bad" : "");
	else if (segment->kind == ICMP)
		sprintf(text, "icmp %d %d seq %lld port %lld mtu %lld%s",
			segment->type, segment->code, (long long)segment->seq,
			(long long)segment->port, (long long)segment->mtu,
			segment->bad ? " bad" : "");
	else
		sprintf(text,
			"%s seq %lld ack %lld win %lld len %lld ttl %lld port %lld opt %s%s",
			*segment->flags ? segment->flags : ".",
			(long long)segment->seq, (long long)segment->ack,
			(long long)segment->window, (long long)segment->length,
			(long long)segment->hops, (long long)segment->port,
			segment->options, segment->bad ? " bad" : "");
	return text;
}

static bool differs(int64_t wanted, int64_t got)
{
	return wanted >= 0 && wanted != got;
}

static bool same_flags(const char *wanted, const char *got)
{
	for (int i = 0; i < 8; i++)
		if (FLAGS[i] != 'P' &&
		    !strchr(wanted, FLAGS[i]) != !strchr(got, FLAGS[i]))
			return false;
	return true;
}

static void expect(struct end *end, const struct segment *wanted,
		   const char *line)
{
	struct segment got;

	if (!receive(end, WAIT_MS, &got)) {
		printf("line %d: nothing came: %s\n", line_number, line);
		exit(1);
	}
	if (got.bad != wanted->bad || got.kind != wanted->kind ||
	    (wanted->kind == ICMP &&
	     (got.type != wanted->type || got.code != wanted->code)) ||
	    !same_flags(wanted->flags, got.flags) ||
	    differs(wanted->seq, got.seq) || differs(wanted->ack, got.ack) ||
	    differs(wanted->window, got.window) ||
	    differs(wanted->hops, got.hops) || differs(wanted->mtu, got.mtu) ||
	    differs(wanted->port, got.port) || differs(wanted->sum, got.sum) ||
	    got.length != (wanted->length > 0 ? wanted->length : 0) ||
	    (*wanted->options && strcmp(wanted->options, got.options))) {
		printf("line %d: %s\ncame: %s\n", line_number, line,
		       show(&got));
		exit(1);
	}
}

static void expect_nothing(struct end *end, int ms)
{
	struct segment got;

	if (receive(end, ms, &got)) {
		printf("line %d: at %c nothing should have come but this: %s\n",
		       line_number, end->name, show(&got));
		exit(1);
	}
}

static void parse_segment(struct segment *segment, char *rest)
{
	char *word;

	*segment = (struct segment){ .seq = -1, .ack = -1, .window = -1,
				     .length = -1, .hops = -1, .mtu = -1,
				     .port = -1, .sum = -1 };
	word = strsep(&rest, " ");
	if (!strcmp(word, "icmp")) {
		segment->kind = ICMP;
		segment->type = atoi(strsep(&rest, " "));
		segment->code = atoi(strsep(&rest, " "));
	} else if (!strcmp(word, "udp")) {
		segment->kind = UDP;
	} else {
		snprintf(segment->flags, sizeof(segment->flags), "%s", word);
	}
	while ((word = strsep(&rest, " "))) {
		static const char *const names[] = { "seq", "ack", "win", "len",
						     "ttl", "mtu", "port",
						     "sum" };
		int64_t *const values[] = { &segment->seq, &segment->ack,
					    &segment->window, &segment->length,
					    &segment->hops, &segment->mtu,
					    &segment->port, &segment->sum };
		bool known = false;

		if (!strcmp(word, "bad"))
			known = segment->bad = true;
		if (!strcmp(word, "cancel"))
			known = segment->cancel = true;
		if (!strcmp(word, "opt")) {
			snprintf(segment->options, sizeof(segment->options),
				 "%s", strsep(&rest, " "));
			known = true;
		}
		for (int i = 0; i < 8 && !known; i++) {
			known = !strcmp(word, names[i]);
			if (known)
				*values[i] = strtoll(strsep(&rest, " "), NULL,
						     0);
		}
		if (!known) {
			printf("line %d: %s?\n", line_number, word);
			exit(1);
		}
	}
}

static void run_line(struct end *ends, const char *line)
{
	char text[512], *rest = text, *name, *what;
	struct segment segment;
	struct end *end;

	snprintf(text, sizeof(text), "%s", line);
	name = strsep(&rest, " ");
	what = strsep(&rest, " ");
	if (!strcmp(name, "wait")) {
		usleep(1000 * atoi(what));
		return;
	}
	end = &ends[*name == 'b'];
	if (*what == '-') {
		expect_nothing(end, rest ? atoi(rest) : SILENCE_MS);
		return;
	}
	parse_segment(&segment, rest);
	if (*what == '<')
		expect(end, &segment, line);
	else if (segment.kind == ICMP)
		send_icmp(end, &segment);
	else if (segment.kind == UDP)
		send_udp(end, &ends[end == ends], &segment);
	else
		send_segment(end, &segment);
}

static void parse_address(int *family, uint8_t *bytes, const char *text)
{
	*family = strchr(text, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(*family, text, bytes) != 1) {
		printf("not an address: %s\n", text);
		exit(1);
	}
}

static void open_end(struct end *end, char name, char **words)
{
	char path[256];
	int namespace, on = 1;

	end->name = name;
	parse_address(&end->family, end->local, words[1]);
	end->local_port = atoi(words[2]);
	parse_address(&end->family, end->remote, words[3]);
	end->remote_port = atoi(words[4]);
	snprintf(path, sizeof(path), "/run/netns/%s", words[0]);
	namespace = open(path, O_RDONLY);
	if (namespace < 0 || setns(namespace, CLONE_NEWNET))
		die(path);
	close(namespace);
	end->in = socket(AF_PACKET, SOCK_DGRAM,
			 htons(end->family == AF_INET ? ETH_P_IP : ETH_P_IPV6));
	end->out = socket(end->family, SOCK_RAW, IPPROTO_RAW);
	if (end->in < 0 || end->out < 0 ||
	    setsockopt(end->in, SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)))
		die("socket");
}

int main(int argc, char **argv)
{
	static struct end ends[2];
	char line[512];

	if (argc != 11) {
		printf("see the top of wire.c for what it takes\n");
		return 1;
	}
	open_end(&ends[0], 'a', argv + 1);
	open_end(&ends[1], 'b', argv + 6);
	while (fgets(line, sizeof(line), stdin)) {
		line_number++;
		line[strcspn(line, "\n")] = 0;
		if (*line)
			run_line(ends, line);
	}
	line_number++;
	expect_nothing(&ends[0], SILENCE_MS);
	expect_nothing(&ends[1], 0);
	return 0;
}
