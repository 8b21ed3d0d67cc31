// SPDX-License-Identifier: Apache-2.0
/*
 * As much of a TURN client as it takes to pass load through a TURN server that
 * asks for no credentials: channels for datagrams (RFC 8656), connections for
 * TCP (RFC 6062). It waits for each answer, and gives up by ending the program.
 */
#ifndef LOAD_TURN_H
#define LOAD_TURN_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define TURN_COOKIE 0x2112A442u
#define TURN_HEADER_BYTES 20
#define TURN_MOST_BYTES 512
#define TURN_CHANNEL 0x4000
#define TURN_CHANNEL_HEADER_BYTES 4

enum turn_method {
	TURN_ALLOCATE = 0x003,
	TURN_CHANNEL_BIND = 0x009,
	TURN_CONNECT = 0x00a,
	TURN_CONNECTION_BIND = 0x00b,
	TURN_SUCCESS = 0x100,
};

enum turn_attribute {
	TURN_CHANNEL_NUMBER = 0x00c,
	TURN_XOR_PEER_ADDRESS = 0x012,
	TURN_REQUESTED_TRANSPORT = 0x019,
	TURN_CONNECTION_ID = 0x02a,
};

struct turn_message {
	uint8_t bytes[TURN_MOST_BYTES];
	size_t length;
};

static void turn_u16(uint8_t *at, uint16_t value)
{
	at[0] = value >> 8;
	at[1] = value;
}

static void turn_u32(uint8_t *at, uint32_t value)
{
	turn_u16(at, value >> 16);
	turn_u16(at + 2, value);
}

static void turn_begin(struct turn_message *message, uint16_t method)
{
	memset(message, 0, sizeof(*message));
	turn_u16(message->bytes, method);
	turn_u32(message->bytes + 4, TURN_COOKIE);
	turn_u32(message->bytes + 8, random());
	message->length = TURN_HEADER_BYTES;
}

/* Attributes here are whole words. */
static uint8_t *turn_add(struct turn_message *message, uint16_t type,
			 uint16_t length)
{
	uint8_t *at = message->bytes + message->length;

	turn_u16(at, type);
	turn_u16(at + 2, length);
	message->length += 4 + length;
	turn_u16(message->bytes + 2, message->length - TURN_HEADER_BYTES);
	return at + 4;
}

static void turn_add_u32(struct turn_message *message, uint16_t type,
			 uint32_t value)
{
	turn_u32(turn_add(message, type, 4), value);
}

static void turn_add_peer(struct turn_message *message,
			  const struct sockaddr_in *peer)
{
	uint8_t *at = turn_add(message, TURN_XOR_PEER_ADDRESS, 8);

	at[1] = 1; /* IPv4 */
	turn_u16(at + 2, ntohs(peer->sin_port) ^ (TURN_COOKIE >> 16));
	turn_u32(at + 4, ntohl(peer->sin_addr.s_addr) ^ TURN_COOKIE);
}

/* Sends a request, and leaves the answer in its place. */
static void turn_ask(int sock, struct turn_message *message)
{
	uint16_t method = message->bytes[0] << 8 | message->bytes[1];
	uint16_t answered;
	ssize_t size;

	if (send(sock, message->bytes, message->length, MSG_NOSIGNAL) < 0) {
		perror("load: TURN request");
		exit(1);
	}
	size = recv(sock, message->bytes, TURN_HEADER_BYTES,
		    MSG_PEEK | MSG_WAITALL);
	/* No more than the answer: bytes of a connection may follow it. */
	if (size >= TURN_HEADER_BYTES) {
		size = TURN_HEADER_BYTES + (message->bytes[2] << 8 |
					    message->bytes[3]);
		size = recv(sock, message->bytes,
			    size < TURN_MOST_BYTES ? size : TURN_MOST_BYTES,
			    MSG_WAITALL);
	}
	answered = message->bytes[0] << 8 | message->bytes[1];
	if (size < TURN_HEADER_BYTES || answered != (method | TURN_SUCCESS)) {
		fprintf(stderr, "load: TURN request %#x: %zd bytes, %#x\n",
			method, size, answered);
		exit(1);
	}
	message->length = size;
}

static uint32_t turn_find_u32(const struct turn_message *message, uint16_t type)
{
	const uint8_t *at = message->bytes + TURN_HEADER_BYTES;
	const uint8_t *end = message->bytes + message->length;

	while (at + 8 <= end) {
		uint16_t length = at[2] << 8 | at[3];

		if ((at[0] << 8 | at[1]) == type)
			return (uint32_t)at[4] << 24 | at[5] << 16 |
			       at[6] << 8 | at[7];
		at += 4 + ((length + 3) & ~3);
	}
	fprintf(stderr, "load: TURN answer without attribute %#x\n", type);
	exit(1);
}

static void turn_allocate(int sock, uint8_t transport)
{
	struct turn_message message;

	turn_begin(&message, TURN_ALLOCATE);
	turn_add_u32(&message, TURN_REQUESTED_TRANSPORT,
		     (uint32_t)transport << 24);
	turn_ask(sock, &message);
}

/* Makes a channel to the peer of a socket that is connected to the server. */
static void turn_open_channel(int sock, const struct sockaddr_in *peer)
{
	struct turn_message message;

	turn_allocate(sock, IPPROTO_UDP);
	turn_begin(&message, TURN_CHANNEL_BIND);
	turn_add_u32(&message, TURN_CHANNEL_NUMBER,
		     (uint32_t)TURN_CHANNEL << 16);
	turn_add_peer(&message, peer);
	turn_ask(sock, &message);
}

/* The header of what goes through the channel. */
static void turn_frame(uint8_t *header, uint16_t length)
{
	turn_u16(header, TURN_CHANNEL);
	turn_u16(header + 2, length);
}

/*
 * Has the server connect to the peer. Both sockets are connected to the server;
 * from then on `data` carries the bytes, for as long as `control` is open.
 */
static void turn_connect(int control, int data, const struct sockaddr_in *peer)
{
	struct turn_message message;
	uint32_t id;

	turn_allocate(control, IPPROTO_TCP);
	turn_begin(&message, TURN_CONNECT);
	turn_add_peer(&message, peer);
	turn_ask(control, &message);
	id = turn_find_u32(&message, TURN_CONNECTION_ID);
	turn_begin(&message, TURN_CONNECTION_BIND);
	turn_add_u32(&message, TURN_CONNECTION_ID, id);
	turn_ask(data, &message);
}

#endif
