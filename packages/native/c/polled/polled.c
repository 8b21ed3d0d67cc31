// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "polled.h"

napi_value polled_refuse(napi_env env, const char *message)
{
	napi_throw_type_error(env, NULL, message);
	return NULL;
}

napi_value polled_number(napi_env env, int value)
{
	napi_value result;

	return napi_create_int32(env, value, &result) == napi_ok ? result :
								   NULL;
}

void polled_put(struct polled *polled)
{
	if (--polled->holders == 0)
		free(polled);
}

static void forget_values(struct polled *polled)
{
	for (size_t i = 0; i < polled->kind->values; i++)
		if (polled->values[i] != NULL)
			napi_delete_reference(polled->env, polled->values[i]);
	if (polled->context != NULL)
		napi_async_destroy(polled->env, polled->context);
}

static void on_closed(uv_handle_t *handle)
{
	struct polled *polled = handle->data;

	forget_values(polled);
	/* The environment may be gone when this returns. */
	napi_remove_async_cleanup_hook(polled->cleanup);
	polled_put(polled);
}

void polled_close(struct polled *polled)
{
	if (polled->closing)
		return;
	polled->closing = true;
	if (polled->kind->on_close != NULL)
		polled->kind->on_close(polled);
	uv_close((uv_handle_t *)&polled->poll, on_closed);
	/* libuv has taken it out of its poll set by now. */
	close(polled->fd);
	polled->fd = -1;
}

static void cleanup(napi_async_cleanup_hook_handle handle, void *data)
{
	(void)handle;
	polled_close(data);
}

static void finalize(napi_env env, void *data, void *hint)
{
	(void)env;
	(void)hint;
	polled_close(data);
	polled_put(data);
}

void polled_call(struct polled *polled, napi_ref function, size_t count,
		 const napi_value *arguments)
{
	napi_env env = polled->env;
	napi_value receiver, value, error;

	if (napi_create_object(env, &receiver) != napi_ok ||
	    napi_get_reference_value(env, function, &value) != napi_ok)
		return;
	if (napi_make_callback(env, polled->context, receiver, value, count,
			       arguments, NULL) != napi_pending_exception)
		return;
	if (napi_get_and_clear_last_exception(env, &error) == napi_ok)
		napi_fatal_exception(env, error);
}

void polled_turn(struct polled *polled, int most, bool (*take)(void *source),
		 void *source)
{
	/* JavaScript may let go of everything meanwhile. */
	polled->holders++;
	for (int i = 0; i < most && !polled->closing; i++) {
		napi_handle_scope scope;
		bool more;

		if (napi_open_handle_scope(polled->env, &scope) != napi_ok)
			break;
		more = take(source);
		napi_close_handle_scope(polled->env, scope);
		if (!more)
			break;
	}
	polled_put(polled);
}

static bool hold_values(struct polled *polled, const napi_value *values)
{
	napi_env env = polled->env;
	napi_value name;

	for (size_t i = 0; i < polled->kind->values; i++)
		if (napi_create_reference(env, values[i], 1,
					  &polled->values[i]) != napi_ok)
			return false;
	return napi_create_string_utf8(env, polled->kind->name,
				       NAPI_AUTO_LENGTH, &name) == napi_ok &&
	       napi_async_init(env, NULL, name, &polled->context) == napi_ok &&
	       napi_add_async_cleanup_hook(env, cleanup, polled,
					   &polled->cleanup) == napi_ok;
}

napi_value polled_open(napi_env env, const struct polled_kind *kind, int fd,
		       const napi_value *values)
{
	struct polled *polled;
	napi_value external;
	uv_loop_t *loop;

	if (fd < 0)
		return polled_number(env, fd);
	polled = calloc(1, kind->size);
	if (polled == NULL) {
		close(fd);
		return polled_number(env, -ENOMEM);
	}
	polled->env = env;
	polled->fd = fd;
	polled->kind = kind;
	if (napi_get_uv_event_loop(env, &loop) != napi_ok ||
	    !hold_values(polled, values))
		goto fail;
	if (uv_poll_init(loop, &polled->poll, fd)) {
		napi_remove_async_cleanup_hook(polled->cleanup);
		goto fail;
	}
	polled->poll.data = polled;
	polled->holders = 1;
	if (uv_poll_start(&polled->poll, UV_READABLE, kind->on_readable) ||
	    napi_create_external(env, polled, finalize, NULL, &external) !=
		    napi_ok) {
		polled_close(polled);
		return polled_refuse(env, "the socket cannot be watched");
	}
	polled->holders++;
	if (napi_type_tag_object(env, external, &kind->tag) != napi_ok)
		return polled_refuse(env, "the socket cannot be marked");
	return external;

fail:
	forget_values(polled);
	free(polled);
	close(fd);
	return polled_refuse(env, "the socket cannot be set up");
}

napi_value polled_init(napi_env env, napi_value exports,
		       const struct polled_kind *kind,
		       const struct addon_function *functions, size_t count)
{
	/* They only read it. */
	return addon_add_functions(env, exports, functions, count,
				   (void *)kind) ?
		       exports :
		       NULL;
}

void *polled_arguments(napi_env env, napi_callback_info info, size_t count,
		       napi_value *values)
{
	const struct polled_kind *kind;
	size_t passed = count;
	bool ours = false;
	void *data, *object;

	if (napi_get_cb_info(env, info, &passed, values, NULL, &data) !=
	    napi_ok)
		return NULL;
	kind = data;
	if (passed != count ||
	    napi_check_object_type_tag(env, values[0], &kind->tag, &ours) !=
		    napi_ok ||
	    !ours ||
	    napi_get_value_external(env, values[0], &object) != napi_ok) {
		polled_refuse(env, kind->mismatch);
		return NULL;
	}
	return object;
}

napi_value polled_close_function(napi_env env, napi_callback_info info)
{
	napi_value value;
	struct polled *polled = polled_arguments(env, info, 1, &value);

	if (polled != NULL)
		polled_close(polled);
	return NULL;
}
