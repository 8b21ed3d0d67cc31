// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Gives a fuzz target the files that are named, without libFuzzer. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		FILE *file = fopen(argv[i], "rb");
		uint8_t *data;
		long size;

		if (!file || fseek(file, 0, SEEK_END) || (size = ftell(file)) < 0)
			return EXIT_FAILURE;
		rewind(file);
		/* Exactly as large as the input, so that a byte too far is seen. */
		data = malloc(size ? size : 1);
		if (!data || fread(data, 1, size, file) != (size_t)size)
			return EXIT_FAILURE;
		fclose(file);
		LLVMFuzzerTestOneInput(data, size);
		free(data);
	}
	printf("replayed %d\n", argc - 1);
	return EXIT_SUCCESS;
}
