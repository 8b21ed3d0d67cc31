// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The SYN-ACKs of test/vectors/syn-ack.json, which is the argument. */
#include "check.h"
#include "segments.h"

static const char *line;

static const char *field(const char *name)
{
	static char key[64];
	const char *found;

	snprintf(key, sizeof(key), "\"%s\":", name);
	found = strstr(line, key);
	if (!found) {
		printf("# no field %s in %s\n", name, line);
		exit(EXIT_FAILURE);
	}
	found += strlen(key);
	return *found == '"' ? found + 1 : found;
}

static int hex(const char *name, __u8 *out, int most)
{
	const char *at = field(name);
	unsigned int byte;
	int length = 0;

	for (; length < most && *at != '"' && sscanf(at, "%2x", &byte) == 1;
	     at += 2)
		out[length++] = (__u8)byte;
	return length;
}

static __u32 number(const char *name, int base)
{
	return strtoul(field(name), NULL, base);
}

static struct ist_offer offer_of(const char *options, const char *flags)
{
	__u8 buffer[IST_TCP_OPTIONS_BUFFER] = {};
	int length = hex(options, buffer, IST_TCP_OPTIONS_MAX);
	struct ist_offer offer;

	ist_offer_parse(&offer, buffer, length, number(flags, 10));
	return offer;
}

TEST(vector)
{
	__u8 should[IST_SYN_ACK_BYTES], is[IST_SYN_ACK_BYTES];
	struct ist_offer to = offer_of("to", "toFlags");
	struct ist_offer from = offer_of("from", "fromFlags");
	struct ist_answer answer;

	CHECK_EQUAL(hex("bytes", should, sizeof(should)), sizeof(should));
	ist_answer_plan(&answer, &to, &from, number("defaultMss", 10),
			number("mssLimit", 10));
	ist_syn_ack_build(is, number("fromIsn", 16), number("toIsn", 16) + 1,
			  number("fromWindow", 10), &answer);
	CHECK(!memcmp(is, should, sizeof(is)));
}

int main(int argc, char **argv)
{
	static char buffer[4096];
	FILE *file = argc > 1 ? fopen(argv[1], "r") : NULL;
	int count = 0;

	if (!file) {
		printf("not ok vectors: no file\n");
		return EXIT_FAILURE;
	}
	while (fgets(buffer, sizeof(buffer), file)) {
		const char *end;

		if (strncmp(buffer, "{\"name\"", 7))
			continue;
		line = buffer;
		failed_checks = 0;
		test_vector();
		end = strchr(field("name"), '"');
		printf("%s vector: %.*s\n", failed_checks ? "not ok" : "ok",
		       (int)(end - field("name")), field("name"));
		failed_tests += !!failed_checks;
		count++;
	}
	fclose(file);
	printf("%s vectors were found\n", count ? "ok" : "not ok");
	return count ? RESULT() : EXIT_FAILURE;
}
