// SPDX-License-Identifier: Apache-2.0
/*
 * ktls WAY MIB: moves bytes from one TCP connection to another, over loopback,
 * as a daemon does between a service and a leg, and prints the nanoseconds that
 * this took without those of the ends, and all of them. What arrives is
 * compared with what was sent. Ways:
 *
 *   splice, copy                     neither side is sealed
 *   seal, open                       AES-256-GCM by OpenSSL, in this program
 *   ktls-seal, ktls-seal-splice      by the kernel, after recv() or splice(2)
 *   ktls-open, ktls-open-splice
 *
 * Sealed sides carry records of TLS 1.3. One thread does everything in turn.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tls.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RECORD_BYTES 16384
#define HEADER_BYTES 5
#define TAG_BYTES 16
/* Behind the content, sealed with it: what kind it is. */
#define TYPE_BYTES 1
#define SEALED_BYTES (HEADER_BYTES + RECORD_BYTES + TYPE_BYTES + TAG_BYTES)
#define RECORDS 4
#define CHUNK_BYTES (RECORDS * RECORD_BYTES)
#define ROOM_BYTES (RECORDS * SEALED_BYTES)
#define APPLICATION_DATA 23
#define SOCKET_BUFFER_BYTES (4 << 20)

static const uint8_t key[32] = "not a secret: only for measuring";
static const uint8_t iv[12] = "one of these";

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Sealing in this program */

static EVP_CIPHER_CTX *context;
static uint64_t sequence;

static void next_nonce(uint8_t nonce[12])
{
	memcpy(nonce, iv, 12);
	for (int i = 0; i < 8; i++)
		nonce[4 + i] ^= (uint8_t)(sequence >> (56 - 8 * i));
	sequence++;
}

static void seal_record(const uint8_t *content, uint8_t *record)
{
	const unsigned int sealed = RECORD_BYTES + TYPE_BYTES + TAG_BYTES;
	const uint8_t header[HEADER_BYTES] = { APPLICATION_DATA, 3, 3,
					       sealed >> 8, sealed & 0xff };
	const uint8_t type = APPLICATION_DATA;
	uint8_t nonce[12], *body = record + HEADER_BYTES;
	int size;

	next_nonce(nonce);
	memcpy(record, header, sizeof(header));
	if (!EVP_EncryptInit_ex(context, NULL, NULL, NULL, nonce) ||
	    !EVP_EncryptUpdate(context, NULL, &size, header, sizeof(header)) ||
	    !EVP_EncryptUpdate(context, body, &size, content, RECORD_BYTES) ||
	    !EVP_EncryptUpdate(context, body + RECORD_BYTES, &size, &type, 1) ||
	    !EVP_EncryptFinal_ex(context, body + RECORD_BYTES + 1, &size) ||
	    !EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG_BYTES,
				 body + RECORD_BYTES + 1))
		die("sealing");
}

static void open_record(const uint8_t *record, uint8_t *content)
{
	const uint8_t *body = record + HEADER_BYTES;
	uint8_t nonce[12], tag[TAG_BYTES], type = 0;
	int size;

	next_nonce(nonce);
	memcpy(tag, body + RECORD_BYTES + 1, sizeof(tag));
	if (!EVP_DecryptInit_ex(context, NULL, NULL, NULL, nonce) ||
	    !EVP_DecryptUpdate(context, NULL, &size, record, HEADER_BYTES) ||
	    !EVP_DecryptUpdate(context, content, &size, body, RECORD_BYTES) ||
	    !EVP_DecryptUpdate(context, &type, &size, body + RECORD_BYTES, 1) ||
	    !EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG_BYTES,
				 tag) ||
	    EVP_DecryptFinal_ex(context, &type, &size) != 1)
		die("opening");
}

static void prepare_cipher(bool seals)
{
	context = EVP_CIPHER_CTX_new();
	if (context == NULL ||
	    !EVP_CipherInit_ex(context, EVP_aes_256_gcm(), NULL, key, NULL,
			       seals))
		die("AES-256-GCM");
}

/* Sealing in the kernel */

static void give_to_kernel(int sock, int direction)
{
	struct tls12_crypto_info_aes_gcm_256 info = {
		.info = { TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_256 },
	};

	memcpy(info.key, key, sizeof(info.key));
	memcpy(info.salt, iv, sizeof(info.salt));
	memcpy(info.iv, iv + sizeof(info.salt), sizeof(info.iv));
	if (setsockopt(sock, SOL_TCP, TCP_ULP, "tls", sizeof("tls")) ||
	    setsockopt(sock, SOL_TLS, direction, &info, sizeof(info)))
		die("kTLS");
}

/* Connections */

static void connection(int ends[2])
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	const int on = 1, bytes = SOCKET_BUFFER_BYTES;
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t size = sizeof(address);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ends[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&address, size) ||
	    listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&address, &size) ||
	    connect(ends[0], (struct sockaddr *)&address, size))
		die("connecting");
	ends[1] = accept(listener, NULL, NULL);
	if (ends[1] < 0)
		die("accept");
	close(listener);
	for (int i = 0; i < 2; i++) {
		setsockopt(ends[i], SOL_TCP, TCP_NODELAY, &on, sizeof(on));
		setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
		setsockopt(ends[i], SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
		fcntl(ends[i], F_SETFL, O_NONBLOCK);
	}
}

static bool would_block(ssize_t count)
{
	return count < 0 && errno == EAGAIN;
}

static void send_all(int sock, const uint8_t *bytes, size_t count)
{
	while (count > 0) {
		ssize_t sent = send(sock, bytes, count, MSG_NOSIGNAL);

		if (sent < 0 && !would_block(sent))
			die("send");
		if (sent < 0)
			continue;
		bytes += sent;
		count -= (size_t)sent;
	}
}

/* Ways. Each moves what there is, and says whether that was anything. */

static int from, to, pipe_ends[2];
static uint8_t buffer[ROOM_BYTES], other[ROOM_BYTES];
static size_t kept, piped;

static bool copy(void)
{
	ssize_t count = recv(from, buffer, CHUNK_BYTES, 0);

	if (count < 0 && !would_block(count))
		die("recv");
	if (count > 0)
		send_all(to, buffer, (size_t)count);
	return count > 0;
}

static bool through_pipe(void)
{
	ssize_t count = splice(from, NULL, pipe_ends[1], NULL, CHUNK_BYTES,
			       SPLICE_F_NONBLOCK);

	if (count < 0 && !would_block(count))
		die("splice from");
	if (count > 0)
		piped += (size_t)count;
	while (piped > 0) {
		ssize_t sent = splice(pipe_ends[0], NULL, to, NULL, piped,
				      SPLICE_F_NONBLOCK);

		if (sent < 0 && !would_block(sent))
			die("splice to");
		if (sent > 0)
			piped -= (size_t)sent;
	}
	return count > 0;
}

/* Turns pieces of IN bytes into pieces of OUT bytes by this program's cipher. */
static bool by_records(size_t in, size_t out,
		       void (*turn)(const uint8_t *, uint8_t *))
{
	ssize_t count = recv(from, buffer + kept, RECORDS * in - kept, 0);
	size_t records;

	if (count < 0 && !would_block(count))
		die("recv");
	if (count <= 0)
		return false;
	kept += (size_t)count;
	records = kept / in;
	for (size_t i = 0; i < records; i++)
		turn(buffer + i * in, other + i * out);
	send_all(to, other, records * out);
	kept -= records * in;
	memmove(buffer, buffer + records * in, kept);
	return true;
}

static bool seal(void)
{
	return by_records(RECORD_BYTES, SEALED_BYTES, seal_record);
}

static bool open_sealed(void)
{
	return by_records(SEALED_BYTES, RECORD_BYTES, open_record);
}

static const struct way {
	const char *name;
	bool (*move)(void);
	/* Whose side carries records, and who makes or opens them. */
	bool is_sealed_from, is_sealed_to, by_kernel;
} ways[] = {
	{ "splice", through_pipe, false, false, false },
	{ "copy", copy, false, false, false },
	{ "seal", seal, false, true, false },
	{ "open", open_sealed, true, false, false },
	{ "ktls-seal", copy, false, true, true },
	{ "ktls-seal-splice", through_pipe, false, true, true },
	{ "ktls-open", copy, true, false, true },
	{ "ktls-open-splice", through_pipe, true, false, true },
};

static void run(const struct way *way, size_t bytes)
{
	static uint8_t sent[CHUNK_BYTES], got[CHUNK_BYTES];
	int near_ends[2], far_ends[2];
	int64_t started, moving = 0;
	size_t arrived = 0;

	connection(near_ends);
	connection(far_ends);
	if (pipe2(pipe_ends, O_NONBLOCK) < 0 ||
	    fcntl(pipe_ends[1], F_SETPIPE_SZ, 1 << 20) < 0)
		die("pipe");
	from = near_ends[1];
	to = far_ends[0];
	/* The ends have the kernel's records always: they are not counted. */
	if (way->is_sealed_from)
		give_to_kernel(near_ends[0], TLS_TX);
	if (way->is_sealed_to)
		give_to_kernel(far_ends[1], TLS_RX);
	if (way->by_kernel && way->is_sealed_from)
		give_to_kernel(from, TLS_RX);
	if (way->by_kernel && way->is_sealed_to)
		give_to_kernel(to, TLS_TX);
	if (!way->by_kernel && (way->is_sealed_from || way->is_sealed_to))
		prepare_cipher(way->is_sealed_to);
	started = now_ns();
	while (arrived < bytes) {
		for (size_t i = 0; i < CHUNK_BYTES; i++)
			sent[i] = (uint8_t)(arrived / CHUNK_BYTES + i * 7 + (i >> 8));
		send_all(near_ends[0], sent, CHUNK_BYTES);
		for (size_t in = 0; in < CHUNK_BYTES;) {
			int64_t before = now_ns();
			ssize_t count;

			while (way->move())
				;
			moving += now_ns() - before;
			count = recv(far_ends[1], got + in, CHUNK_BYTES - in, 0);
			if (count < 0 && !would_block(count))
				die("recv at the end");
			if (count > 0)
				in += (size_t)count;
		}
		if (memcmp(sent, got, CHUNK_BYTES) != 0) {
			fprintf(stderr, "other bytes arrived\n");
			exit(1);
		}
		arrived += CHUNK_BYTES;
	}
	printf("%lld %lld\n", (long long)moving, (long long)(now_ns() - started));
}

int main(int argc, char **argv)
{
	for (size_t i = 0; argc == 3 && i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (strcmp(ways[i].name, argv[1]) != 0)
			continue;
		run(&ways[i], (size_t)atoi(argv[2]) << 20);
		return 0;
	}
	fprintf(stderr, "usage: ktls WAY MIB\n");
	return 2;
}
