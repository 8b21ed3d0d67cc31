/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * As much of a test framework as these tests need: TEST(name) { CHECK(...); }
 * and one RUN(name) each in main(). A line is printed for each test, in the
 * manner of TAP.
 */
#ifndef _IST_TEST_CHECK_H
#define _IST_TEST_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed_tests;
static int failed_checks;

#define TEST(name) static void test_##name(void)

#define CHECK(condition)						\
	do {								\
		if (!(condition)) {					\
			printf("# %s:%d: %s\n", __FILE__, __LINE__,	\
			       #condition);				\
			failed_checks++;				\
		}							\
	} while (0)

#define CHECK_EQUAL(is, should)						\
	do {								\
		unsigned long long _is = (is), _should = (should);	\
									\
		if (_is != _should) {					\
			printf("# %s:%d: %s is %llx, not %llx\n",	\
			       __FILE__, __LINE__, #is, _is, _should);	\
			failed_checks++;				\
		}							\
	} while (0)

#define RUN(name)							\
	do {								\
		failed_checks = 0;					\
		test_##name();						\
		printf("%s %s\n", failed_checks ? "not ok" : "ok", #name);	\
		failed_tests += !!failed_checks;			\
	} while (0)

#define RESULT() (failed_tests ? EXIT_FAILURE : EXIT_SUCCESS)

#endif /* _IST_TEST_CHECK_H */
