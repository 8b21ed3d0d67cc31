/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISTHMUS_POLLED_H
#define ISTHMUS_POLLED_H

#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "../functions.h"

/*
 * A descriptor that libuv watches for JavaScript, which has it as an external.
 *
 * Lifetime: it has two holders, the external and the libuv handle, and more
 * where polled_put() is called more often. polled_close() may be called by
 * JavaScript (in its own callback, too), by the external's finalizer and by
 * the environment's cleanup; what it has is given back once libuv has let go
 * of it. Nothing of JavaScript is called after polled_close().
 */

/* Values of JavaScript that one may hold. */
#define POLLED_MOST_VALUES 3

/* The first member of what an add-on makes of it. */
struct polled {
	napi_env env;
	uv_poll_t poll;
	/* -1 when it is closed. */
	int fd;
	bool closing;
	int holders;
	const struct polled_kind *kind;
	napi_ref values[POLLED_MOST_VALUES];
	napi_async_context context;
	napi_async_cleanup_hook_handle cleanup;
};

/* An add-on has one. */
struct polled_kind {
	/* Bytes of what begins with the struct polled. */
	size_t size;
	/* Tells ours from the externals of other add-ons. */
	napi_type_tag tag;
	/* For tools that show what JavaScript waits for. */
	const char *name;
	/* Says that an argument is another thing. */
	const char *mismatch;
	size_t values;
	/* The handle's data is the object. */
	uv_poll_cb on_readable;
	/* Called once, before the descriptor is closed; may be NULL. */
	void (*on_close)(struct polled *polled);
};

/*
 * Takes a descriptor and holds @values. Returns the external, a number when
 * the descriptor is a negative errno, or NULL with an exception pending.
 */
napi_value polled_open(napi_env env, const struct polled_kind *kind, int fd,
		       const napi_value *values);

void polled_close(struct polled *polled);

/*
 * One turn of the loop: calls @take, each time in a handle scope, until there
 * is nothing more to take from @source, JavaScript has closed @polled, or it
 * was called @most times.
 */
void polled_turn(struct polled *polled, int most, bool (*take)(void *source),
		 void *source);

/* Lets go of it; the last holder frees it. */
void polled_put(struct polled *polled);

/*
 * Calls a function that it holds; what that throws becomes an uncaught
 * exception.
 */
void polled_call(struct polled *polled, napi_ref function, size_t count,
		 const napi_value *arguments);

/* Puts the add-on's functions on its exports. */
napi_value polled_init(napi_env env, napi_value exports,
		       const struct polled_kind *kind,
		       const struct addon_function *functions, size_t count);

/*
 * Reads @count arguments of such a function, the first of which is an open or
 * closed object of the add-on, or throws.
 */
void *polled_arguments(napi_env env, napi_callback_info info, size_t count,
		       napi_value *values);

/* The function that closes its argument; a second time it does nothing. */
napi_value polled_close_function(napi_env env, napi_callback_info info);

/* Throws a TypeError. */
napi_value polled_refuse(napi_env env, const char *message);

napi_value polled_number(napi_env env, int value);

#endif
