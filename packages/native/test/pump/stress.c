// SPDX-License-Identifier: Apache-2.0
/*
 * Joins many pairs of loopback sockets, with clients that write, read slowly,
 * end and reset as chance has it, and checks that each gets a prefix of what
 * its peer wrote, all of it where it sees a clean end. Half of the pairs meet
 * over a sealed leg between two joins. Run under sanitizers.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../c/pump-engine.h"

#define PAIRS 40
#define ROUNDS 6
#define CHUNK 70000

struct client {
	int fd;
	struct client *peer;
	size_t to_write;
	size_t written;
	size_t received;
	bool ends_by_reset;
	bool has_ended;		/* wrote all, and its FIN or RST */
	bool saw_end;		/* FIN of the other */
	bool is_gone;
};

static unsigned char expected(size_t at, int salt)
{
	return (unsigned char)(at * 31 + (at >> 8) * 7 + (size_t)salt);
}

static void check(bool is_good, const char *what)
{
	if (is_good)
		return;
	fprintf(stderr, "failed: %s (%s)\n", what, strerror(errno));
	abort();
}

static void no_wake(void *data)
{
	(void)data;
}

static int listen_here(struct sockaddr_in *address)
{
	socklen_t size = sizeof(*address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	memset(address, 0, sizeof(*address));
	address->sin_family = AF_INET;
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	check(fd >= 0 && bind(fd, (struct sockaddr *)address, size) == 0 &&
		      listen(fd, PAIRS * 2) == 0 &&
		      getsockname(fd, (struct sockaddr *)address, &size) == 0,
	      "listening");
	return fd;
}

/* A client's socket, and the one that is joined. */
static int dial(int listener, const struct sockaddr_in *address, int *accepted)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	check(fd >= 0 && connect(fd, (const struct sockaddr *)address,
				 sizeof(*address)) == 0,
	      "connecting");
	*accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	check(*accepted >= 0, "accepting");
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void finish(struct client *client)
{
	struct linger reset = { .l_onoff = 1 };

	client->has_ended = true;
	if (!client->ends_by_reset) {
		shutdown(client->fd, SHUT_WR);
		return;
	}
	setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(client->fd);
	client->is_gone = true;
}

static void write_some(struct client *client, int salt)
{
	static unsigned char bytes[CHUNK];
	size_t count = client->to_write - client->written;
	ssize_t sent;

	if (count > CHUNK)
		count = CHUNK;
	for (size_t i = 0; i < count; i++)
		bytes[i] = expected(client->written + i, salt);
	sent = send(client->fd, bytes, count, MSG_NOSIGNAL);
	if (sent > 0)
		client->written += (size_t)sent;
	else if (sent < 0 && errno != EAGAIN) {
		close(client->fd);
		client->is_gone = true;
		return;
	}
	if (client->written == client->to_write)
		finish(client);
}

static void read_some(struct client *client, int salt)
{
	static unsigned char bytes[CHUNK];
	size_t most = (size_t)(rand() % CHUNK) + 1;
	ssize_t count = recv(client->fd, bytes, most, 0);

	if (count == 0) {
		client->saw_end = true;
		check(client->received == client->peer->to_write,
		      "a clean end comes after everything");
		check(!client->peer->ends_by_reset, "a reset is no clean end");
	} else if (count > 0) {
		for (ssize_t i = 0; i < count; i++)
			check(bytes[i] ==
				      expected(client->received + (size_t)i,
					       salt),
			      "the bytes are the peer's");
		client->received += (size_t)count;
	} else if (errno != EAGAIN) {
		close(client->fd);
		client->is_gone = true;
	}
}

static bool is_over(const struct client *client)
{
	return client->is_gone || (client->has_ended && client->saw_end);
}

static void play(struct client *clients, size_t count)
{
	struct pollfd polled[PAIRS * 2];

	for (;;) {
		size_t living = 0;

		for (size_t i = 0; i < count; i++) {
			struct client *client = &clients[i];
			short events = client->saw_end ? 0 : POLLIN;

			if (!client->has_ended)
				events |= POLLOUT;
			polled[i].fd = is_over(client) ? -1 : client->fd;
			polled[i].events = events;
			polled[i].revents = 0;
			living += !is_over(client);
		}
		if (living == 0)
			return;
		check(poll(polled, count, 20000) > 0, "something moves");
		for (size_t i = 0; i < count; i++) {
			struct client *client = &clients[i];

			if (polled[i].fd < 0 || client->is_gone)
				continue;
			if (polled[i].revents & (POLLIN | POLLERR | POLLHUP))
				read_some(client, (int)((i ^ 1) & 1));
			if (!client->is_gone && !client->has_ended &&
			    (polled[i].revents & POLLOUT))
				write_some(client, (int)(i & 1));
		}
	}
}

static void await_ends(struct pump *pump, size_t left)
{
	while (left > 0) {
		struct pump_ended ended[16];
		size_t count = pump_take_ended(pump, ended, 16);

		left -= count;
		for (size_t i = 0; i < count; i++)
			check(ended[i].end != PUMP_BAD_RECORD,
			      "all records are good");
		if (count == 0)
			usleep(1000);
	}
}

/* Joins the two directly, or over a sealed leg. Returns the joins' number. */
static size_t join_pair(struct pump *pump, struct pump_account *account,
			int listener, const struct sockaddr_in *address,
			const struct pump_leg ends[2], int64_t *slot)
{
	struct pump_leg near[2] = { ends[0], { 0 } };
	struct pump_leg far[2] = { ends[1], { 0 } };
	struct leg_state state = {
		.suite = rand() % 2 ? AEAD_AES_256_GCM : AEAD_CHACHA20_POLY1305,
		/* Less than one read of many makes, and more. */
		.records_per_key = (uint64_t)(rand() % 40) + 1,
		.send = { .secret = { (uint8_t)rand() } },
		.receive = { .secret = { (uint8_t)rand(), 1 } },
	};
	struct leg_state mirrored = state;

	if (rand() % 2) {
		*slot = pump_join(pump, account, ends, NULL);
		check(*slot >= 0, "joining");
		return 1;
	}
	near[1].fd = dial(listener, address, &far[1].fd);
	mirrored.send = state.receive;
	mirrored.receive = state.send;
	*slot = pump_join(pump, account, near, &state);
	check(*slot >= 0 && pump_join(pump, account, far, &mirrored) >= 0,
	      "joining");
	return 2;
}

static void round_of(struct pump *pump, struct pump_account *account,
		     int listener, const struct sockaddr_in *address,
		     bool some_are_told)
{
	struct client clients[PAIRS * 2];
	size_t joins = 0;

	memset(clients, 0, sizeof(clients));
	for (size_t pair = 0; pair < PAIRS; pair++) {
		struct pump_leg legs[2] = { { 0 }, { 0 } };
		int64_t slot;

		for (size_t side = 0; side < 2; side++) {
			struct client *client = &clients[2 * pair + side];

			client->fd = dial(listener, address, &legs[side].fd);
			client->peer = &clients[2 * pair + !side];
			client->to_write = (size_t)(rand() % (rand() % 8 == 0 ? 3000000 : 200000));
			client->ends_by_reset = rand() % 5 == 0;
		}
		joins += join_pair(pump, account, listener, address, legs,
				   &slot);
		if (some_are_told && pair % 4 == 0)
			pump_end(pump, (uint32_t)slot);
	}
	play(clients, PAIRS * 2);
	for (size_t i = 0; i < PAIRS * 2; i++) {
		if (!clients[i].is_gone)
			close(clients[i].fd);
	}
	await_ends(pump, joins);
}

/*
 * Records as they are, or with one byte another, in pieces as chance has it:
 * what comes out is what went in, or the beginning of it and then an error.
 */
static void open_changed(struct aead_contexts *contexts)
{
	static unsigned char content[CHUNK], sealed[2 * CHUNK],
		piece[2 * CHUNK], heard[CHUNK];
	struct leg_state ours = { .records_per_key = (uint64_t)(rand() % 5) + 1,
				  .suite = (enum aead_suite)(rand() % 2) };
	struct leg_records *sealer = leg_records_new(contexts, &ours);
	struct leg_records *opener = leg_records_new(contexts, &ours);
	size_t count = 0, size = 0, from = 0, to = 0, got = 0, changed;
	struct leg_opened opened = { 0 };

	check(sealer != NULL && opener != NULL, "keys");
	while (count < CHUNK) {
		size_t part = (size_t)(rand() % (rand() % 2 ? 40 : CHUNK)) + 1;

		if (part > CHUNK - count)
			part = CHUNK - count;
		/* Many small ones would not fit the room for all. */
		if (size + leg_records_room(part) + 100 > sizeof(sealed))
			break;
		for (size_t i = 0; i < part; i++)
			content[count + i] = expected(count + i, 0);
		size += leg_records_seal(sealer, content + count, part,
					 sealed + size);
		count += part;
	}
	size += leg_records_seal_end(sealer, sealed + size);
	changed = rand() % 4 == 0 ? size : (size_t)rand() % size;
	if (changed < size)
		sealed[changed] ^= (unsigned char)(1 << rand() % 8);
	while (to < size && !opened.is_bad) {
		to += (size_t)(rand() % (rand() % 2 ? 40 : CHUNK)) + 1;
		if (to > size)
			to = size;
		memcpy(piece, sealed + from, to - from);
		opened = leg_records_open(opener, piece, to - from);
		check(got + opened.content_bytes <= count, "no more comes out");
		if (opened.content_bytes > 0)
			memcpy(heard + got, opened.content,
			       opened.content_bytes);
		got += opened.content_bytes;
		from += opened.used;
	}
	check(memcmp(heard, content, got) == 0, "what comes out went in");
	if (changed == size)
		check(opened.has_ended && !opened.is_bad && got == count,
		      "good records");
	else
		check(!opened.has_ended, "a changed byte is no good record");
	leg_records_free(sealer);
	leg_records_free(opener);
}

/* Whoever gave its sockets away may have descriptors of them still. */
static void end_before_others(struct pump *pump, struct pump_account *account,
			      int listener, const struct sockaddr_in *address)
{
	struct pump_leg legs[2] = { { 0 }, { 0 } };
	int clients[2], others[2];
	int64_t slot;

	for (int side = 0; side < 2; side++) {
		clients[side] = dial(listener, address, &legs[side].fd);
		others[side] = dup(legs[side].fd);
		check(others[side] >= 0, "duplicating");
	}
	slot = pump_join(pump, account, legs, NULL);
	check(slot >= 0, "joining");
	pump_end(pump, (uint32_t)slot);
	await_ends(pump, 1);
	/* What comes now is no news of a join. */
	for (int turn = 0; turn < 20; turn++) {
		for (int side = 0; side < 2; side++)
			check(send(clients[side], "x", 1, MSG_NOSIGNAL) == 1,
			      "the connection stands");
		usleep(1000);
	}
	for (int side = 0; side < 2; side++) {
		close(others[side]);
		close(clients[side]);
	}
}

/* Reads until there are so many in all. */
static void read_up_to(int fd, size_t *received, size_t count)
{
	static unsigned char bytes[CHUNK];

	while (*received < count) {
		struct pollfd polled = { .fd = fd, .events = POLLIN };
		ssize_t got;

		check(poll(&polled, 1, 20000) == 1, "bytes come");
		got = recv(fd, bytes, sizeof(bytes), 0);
		check(got > 0, "bytes");
		*received += (size_t)got;
	}
}

/* What waits for minutes at one rate goes at once when there is none. */
static void lift_rate(struct pump *pump, struct pump_account *account,
		      int listener, const struct sockaddr_in *address)
{
	static unsigned char bytes[2 * CHUNK];
	struct pump_leg legs[2] = { { .early = bytes,
				      .early_bytes = sizeof(bytes) },
				    { 0 } };
	size_t received = 0;
	int clients[2];

	pump_account_set(account, 100, 0);
	for (int side = 0; side < 2; side++)
		clients[side] = dial(listener, address, &legs[side].fd);
	check(pump_join(pump, account, legs, NULL) >= 0, "joining");
	read_up_to(clients[1], &received, 1);
	usleep(10000);
	check(received < sizeof(bytes), "the rate is kept to");
	pump_account_set(account, 0, 0);
	read_up_to(clients[1], &received, sizeof(bytes));
	for (int side = 0; side < 2; side++)
		close(clients[side]);
	await_ends(pump, 1);
}

int main(void)
{
	struct pump_account *account = pump_account_new();
	struct pump *pump = pump_new(3, no_wake, NULL);
	struct sockaddr_in address;
	struct aead_contexts *contexts = aead_contexts_get();
	int listener = listen_here(&address);

	srand(7);
	check(contexts != NULL, "ciphers");
	for (int turn = 0; turn < 60; turn++)
		open_changed(contexts);
	aead_contexts_put(contexts);
	check(account != NULL && pump != NULL, "starting");
	for (int turn = 0; turn < ROUNDS; turn++) {
		/* The last with a rate. */
		pump_account_set(account, turn == ROUNDS - 1 ? 60e6 : 0, 0);
		round_of(pump, account, listener, &address, turn % 3 == 2);
	}
	end_before_others(pump, account, listener, &address);
	lift_rate(pump, account, listener, &address);
	/* One that lives when the pump ends. */
	for (int turn = 0; turn < 3; turn++) {
		struct pump_leg legs[2] = { { .early = "early", .early_bytes = 5 },
					    { 0 } };
		struct leg_state state = { .records_per_key = 1 };

		dial(listener, &address, &legs[0].fd);
		dial(listener, &address, &legs[1].fd);
		check(pump_join(pump, account, legs,
				turn == 2 ? &state : NULL) >= 0,
		      "joining");
		if (turn == 1)
			pump_reset_all(pump);
	}
	pump_free(pump);
	pump_account_put(account);
	close(listener);
	puts("ok");
	return 0;
}
