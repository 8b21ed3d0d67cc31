// SPDX-License-Identifier: Apache-2.0
/*
 * The splice in the traffic control hook (kernel/bpf), for JavaScript;
 * src/bpf/binding.ts says what each function does.
 *
 * Lifetime: an object is an external of JavaScript and closed by its finalizer.
 * Programs that are attached, and with them the maps, stay.
 */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bpf.h"
#include "../../../../kernel/bpf/splice.h"

/* Names our filter among those of others on an interface. */
#define FILTER_HANDLE 0x697374
#define FILTER_PRIORITY 0x4953

/* enum bpf_attach_type, since Linux 6.6. */
#define TCX_INGRESS 46

#define MOST_KEY_BYTES 256
#define MOST_NAME_BYTES 32
#define MOST_FRAME_BYTES 2048
#define MOST_CONSTANT_BYTES 4096
#define ENTRIES_AT_ONCE 4096
#define MOST_OLD_MAPS 64

static const napi_type_tag object_tag = { 0x697374686d757362,
					  0x70666f626a656374 };

struct object {
	struct bpf_object *bpf;
	struct object *next;
};

/* The first line that libbpf says while it works for the one thread that uses it. */
static __thread char said[1024];

static int remember(enum libbpf_print_level level, const char *format,
		    va_list arguments)
{
	if (level == LIBBPF_WARN && said[0] == '\0') {
		vsnprintf(said, sizeof(said), format, arguments);
		said[strcspn(said, "\n")] = '\0';
	}
	return 0;
}

static napi_value fail(napi_env env, const char *what, int err)
{
	char message[sizeof(said) + 128], code[16];

	snprintf(code, sizeof(code), "%d", -err);
	snprintf(message, sizeof(message), "%s: %s%s%s", what, strerror(-err),
		 said[0] ? ": " : "", said);
	napi_throw_error(env, code, message);
	return NULL;
}

static void finalize(napi_env env, void *data, void *hint)
{
	struct object *object = data;

	(void)env;
	(void)hint;
	bpf_object__close(object->bpf);
	free(object);
}

struct bpf_object *object_of(napi_env env, napi_value value)
{
	bool ours = false;
	void *data;

	if (napi_check_object_type_tag(env, value, &object_tag, &ours) !=
		    napi_ok ||
	    !ours || napi_get_value_external(env, value, &data) != napi_ok) {
		polled_refuse(env, "not an object of BPF programs");
		return NULL;
	}
	return ((struct object *)data)->bpf;
}

bool text_of(napi_env env, napi_value value, char *text, size_t size)
{
	size_t length;

	if (napi_get_value_string_utf8(env, value, text, size, &length) ==
		    napi_ok &&
	    length + 1 < size)
		return true;
	polled_refuse(env, "not a text, or too long");
	return false;
}

bool bytes_of(napi_env env, napi_value value, void **data, size_t *size)
{
	napi_typedarray_type type;

	if (napi_get_typedarray_info(env, value, &type, size, data, NULL,
				     NULL) == napi_ok &&
	    type == napi_uint8_array)
		return true;
	polled_refuse(env, "not a Uint8Array");
	return false;
}

/* Takes the maps that an attached program uses, so that state goes on. */
static int take_maps(struct bpf_object *bpf, uint32_t program)
{
	uint32_t ids[MOST_OLD_MAPS];
	struct bpf_prog_info info = {
		.nr_map_ids = MOST_OLD_MAPS,
		.map_ids = (uintptr_t)ids,
	};
	uint32_t size = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(program), err = 0;

	if (fd < 0)
		return fd;
	if (bpf_obj_get_info_by_fd(fd, &info, &size))
		err = -errno;
	close(fd);
	for (uint32_t i = 0; !err && i < info.nr_map_ids; i++) {
		struct bpf_map_info old = { 0 };
		uint32_t old_size = sizeof(old);
		int map_fd = bpf_map_get_fd_by_id(ids[i]);
		struct bpf_map *map;

		if (map_fd < 0)
			return map_fd;
		if (bpf_obj_get_info_by_fd(map_fd, &old, &old_size))
			err = -errno;
		map = err ? NULL : bpf_object__find_map_by_name(bpf, old.name);
		if (map != NULL && strncmp(old.name, "ist_", 4) == 0) {
			if (bpf_map__type(map) != old.type ||
			    bpf_map__key_size(map) != old.key_size ||
			    bpf_map__value_size(map) != old.value_size)
				err = -EPROTO;
			else
				err = bpf_map__reuse_fd(map, map_fd);
		}
		close(map_fd);
	}
	return err;
}

/*
 * Sets ist_loopback_translates, the first of the programs' constants: behind it
 * are those that the compiler made.
 */
static int set_constant(struct bpf_object *bpf, bool translates)
{
	struct bpf_map *map = bpf_object__find_map_by_name(bpf, ".rodata");
	uint8_t constants[MOST_CONSTANT_BYTES];
	const void *initial;
	size_t size;

	initial = map ? bpf_map__initial_value(map, &size) : NULL;
	if (initial == NULL || size > sizeof(constants))
		return -ENOENT;
	memcpy(constants, initial, size);
	memcpy(constants, &translates, sizeof(translates));
	return bpf_map__set_initial_value(map, constants, size);
}

/* How large the tables of splices are, unless they are taken over. */
static int set_room(struct bpf_object *bpf, uint32_t splices)
{
	struct bpf_map *map = bpf_object__find_map_by_name(bpf, "ist_splices");
	struct bpf_map *flows = bpf_object__find_map_by_name(bpf, "ist_flows");
	int err;

	if (splices == 0)
		return 0;
	if (map == NULL || flows == NULL)
		return -ENOENT;
	err = bpf_map__set_max_entries(map, splices);
	return err ? err : bpf_map__set_max_entries(flows, 2 * splices);
}

static napi_value load(napi_env env, napi_callback_info info)
{
	napi_value values[4], external;
	uint32_t program, splices;
	struct object *object;
	size_t count = 4;
	char path[4096];
	bool translates;
	int err;

	if (napi_get_cb_info(env, info, &count, values, NULL, NULL) !=
		    napi_ok ||
	    count != 4 || !text_of(env, values[0], path, sizeof(path)) ||
	    napi_get_value_uint32(env, values[1], &program) != napi_ok ||
	    napi_get_value_bool(env, values[2], &translates) != napi_ok ||
	    napi_get_value_uint32(env, values[3], &splices) != napi_ok)
		return polled_refuse(
			env, "load(path, program, translates, splices)");
	said[0] = '\0';
	object = calloc(1, sizeof(*object));
	if (object == NULL)
		return fail(env, "BPF object", -ENOMEM);
	object->bpf = bpf_object__open_file(path, NULL);
	if (object->bpf == NULL) {
		err = -errno;
		goto err_free;
	}
	err = set_room(object->bpf, splices);
	if (!err && program)
		err = take_maps(object->bpf, program);
	if (!err)
		err = set_constant(object->bpf, translates);
	if (!err)
		err = bpf_object__load(object->bpf);
	if (err)
		goto err_close;
	if (napi_create_external(env, object, finalize, NULL, &external) !=
	    napi_ok) {
		err = -ENOMEM;
		goto err_close;
	}
	if (napi_type_tag_object(env, external, &object_tag) != napi_ok)
		return NULL;
	return external;

err_close:
	bpf_object__close(object->bpf);
err_free:
	free(object);
	return fail(env, "the BPF programs cannot be loaded", err);
}

static bool set_place(napi_env env, napi_value shape, const char *path,
		      uint32_t offset, uint32_t size)
{
	napi_value place, numbers[2];

	if (napi_create_array_with_length(env, 2, &place) != napi_ok ||
	    napi_create_uint32(env, offset, &numbers[0]) != napi_ok ||
	    napi_create_uint32(env, size, &numbers[1]) != napi_ok)
		return false;
	for (uint32_t i = 0; i < 2; i++)
		if (napi_set_element(env, place, i, numbers[i]) != napi_ok)
			return false;
	return napi_set_named_property(env, shape, path, place) == napi_ok;
}

/* Each member that is no struct, by its path: "leg.0.tuple.remote_port". */
static bool add_members(napi_env env, napi_value shape, const struct btf *btf,
			uint32_t type, const char *path, uint32_t offset)
{
	const struct btf_type *t = btf__type_by_id(btf,
						   btf__resolve_type(btf, type));
	const struct btf_array *array;
	const struct btf_type *element;
	char inner[256];

	if (btf_is_composite(t)) {
		const struct btf_member *members = btf_members(t);

		for (uint32_t i = 0; i < btf_vlen(t); i++) {
			snprintf(inner, sizeof(inner), "%s%s%s", path,
				 *path ? "." : "",
				 btf__name_by_offset(btf, members[i].name_off));
			if (!add_members(env, shape, btf, members[i].type,
					 inner,
					 offset + btf_member_bit_offset(t, i) /
							  8))
				return false;
		}
		return true;
	}
	if (btf_is_array(t)) {
		array = btf_array(t);
		element = btf__type_by_id(btf,
					  btf__resolve_type(btf, array->type));
		for (uint32_t i = 0; (btf_is_composite(element) ||
				      btf_is_array(element)) &&
				     i < array->nelems;
		     i++) {
			snprintf(inner, sizeof(inner), "%s.%u", path, i);
			if (!add_members(env, shape, btf, array->type, inner,
					 offset + i * btf__resolve_size(
							      btf,
							      array->type)))
				return false;
		}
	}
	return set_place(env, shape, path, offset, btf__resolve_size(btf, type));
}

static napi_value shape(napi_env env, napi_callback_info info)
{
	napi_value values[2], result;
	struct bpf_object *bpf;
	char name[MOST_NAME_BYTES];
	const struct btf *btf;
	size_t count = 2;
	int type;

	if (napi_get_cb_info(env, info, &count, values, NULL, NULL) !=
		    napi_ok ||
	    count != 2)
		return polled_refuse(env, "shape(object, name)");
	bpf = object_of(env, values[0]);
	if (bpf == NULL || !text_of(env, values[1], name, sizeof(name)))
		return NULL;
	btf = bpf_object__btf(bpf);
	type = btf__find_by_name_kind(btf, name, BTF_KIND_STRUCT);
	if (type < 0)
		return fail(env, name, type);
	if (napi_create_object(env, &result) != napi_ok ||
	    !add_members(env, result, btf, type, "", 0) ||
	    !set_place(env, result, "", 0, btf__resolve_size(btf, type)))
		return NULL;
	return result;
}

/* Reads (object, map, ...) and returns the map. */
static struct bpf_map *map_arguments(napi_env env, napi_callback_info info,
				     size_t count, napi_value *values)
{
	struct bpf_object *bpf;
	char name[MOST_NAME_BYTES];
	struct bpf_map *map;
	size_t passed = count;

	if (napi_get_cb_info(env, info, &passed, values, NULL, NULL) !=
		    napi_ok ||
	    passed != count) {
		polled_refuse(env, "too few arguments");
		return NULL;
	}
	bpf = object_of(env, values[0]);
	if (bpf == NULL || !text_of(env, values[1], name, sizeof(name)))
		return NULL;
	map = bpf_object__find_map_by_name(bpf, name);
	if (map == NULL)
		polled_refuse(env, "there is no such map");
	return map;
}

static bool is_per_cpu(const struct bpf_map *map)
{
	return bpf_map__type(map) == BPF_MAP_TYPE_PERCPU_ARRAY;
}

static size_t value_bytes(const struct bpf_map *map)
{
	size_t size = bpf_map__value_size(map);

	if (!is_per_cpu(map))
		return size;
	return (size + 7) / 8 * 8 * (size_t)libbpf_num_possible_cpus();
}

static bool key_of(napi_env env, const struct bpf_map *map, napi_value value,
		   void **key)
{
	size_t size;

	if (!bytes_of(env, value, key, &size))
		return false;
	if (size == bpf_map__key_size(map))
		return true;
	polled_refuse(env, "the key has another size");
	return false;
}

static napi_value lookup(napi_env env, napi_callback_info info)
{
	napi_value values[3], result;
	struct bpf_map *map = map_arguments(env, info, 3, values);
	void *key, *value;

	if (map == NULL || !key_of(env, map, values[2], &key) ||
	    napi_create_buffer(env, value_bytes(map), &value, &result) !=
		    napi_ok)
		return NULL;
	if (bpf_map_lookup_elem(bpf_map__fd(map), key, value))
		napi_get_null(env, &result);
	return result;
}

static napi_value update(napi_env env, napi_callback_info info)
{
	napi_value values[5];
	struct bpf_map *map = map_arguments(env, info, 5, values);
	void *key, *value;
	uint32_t flags;
	size_t size;

	if (map == NULL || !key_of(env, map, values[2], &key) ||
	    !bytes_of(env, values[3], &value, &size))
		return NULL;
	if (size != value_bytes(map) ||
	    napi_get_value_uint32(env, values[4], &flags) != napi_ok)
		return polled_refuse(env, "the value has another size");
	return polled_number(env, bpf_map_update_elem(bpf_map__fd(map), key,
						      value, flags) ?
					  -errno :
					  0);
}

static napi_value delete(napi_env env, napi_callback_info info)
{
	napi_value values[3];
	struct bpf_map *map = map_arguments(env, info, 3, values);
	void *key;

	if (map == NULL || !key_of(env, map, values[2], &key))
		return NULL;
	return polled_number(
		env, bpf_map_delete_elem(bpf_map__fd(map), key) ? -errno : 0);
}

/* Reads on from where @cursor says, and moves it. */
static napi_value entries(napi_env env, napi_callback_info info)
{
	napi_value values[4], result = NULL, buffer, more;
	struct bpf_map *map = map_arguments(env, info, 4, values);
	uint32_t count = ENTRIES_AT_ONCE;
	size_t key_bytes, data_bytes, size;
	uint8_t *keys, *data, *all;
	void *cursor, *to;
	bool first;
	int err = 0;

	if (map == NULL || !bytes_of(env, values[2], &cursor, &size))
		return NULL;
	if (size < MOST_KEY_BYTES ||
	    napi_get_value_bool(env, values[3], &first) != napi_ok)
		return polled_refuse(env, "entries(object, map, cursor, first)");
	key_bytes = bpf_map__key_size(map);
	data_bytes = value_bytes(map);
	keys = malloc(ENTRIES_AT_ONCE * key_bytes);
	data = malloc(ENTRIES_AT_ONCE * data_bytes);
	said[0] = '\0';
	if (keys == NULL || data == NULL)
		err = -ENOMEM;
	else if (bpf_map_lookup_batch(bpf_map__fd(map), first ? NULL : cursor,
				      cursor, keys, data, &count, NULL))
		err = -errno;
	/* ENOENT: those were the last. */
	if (err && err != -ENOENT) {
		fail(env, "a map cannot be read", err);
	} else if (napi_create_buffer(env, count * (key_bytes + data_bytes),
				      &to, &buffer) == napi_ok) {
		all = to;
		for (uint32_t i = 0; i < count; i++) {
			memcpy(all, keys + i * key_bytes, key_bytes);
			memcpy(all + key_bytes, data + i * data_bytes,
			       data_bytes);
			all += key_bytes + data_bytes;
		}
		if (napi_create_array_with_length(env, 2, &result) != napi_ok ||
		    napi_get_boolean(env, err == 0, &more) != napi_ok ||
		    napi_set_element(env, result, 0, buffer) != napi_ok ||
		    napi_set_element(env, result, 1, more) != napi_ok)
			result = NULL;
	}
	free(keys);
	free(data);
	return result;
}

static napi_value fill(napi_env env, napi_callback_info info)
{
	napi_value values[4];
	struct bpf_map *map = map_arguments(env, info, 4, values);
	size_t key_bytes, data_bytes;
	void *keys, *data;
	uint32_t count;

	if (map == NULL || !bytes_of(env, values[2], &keys, &key_bytes) ||
	    !bytes_of(env, values[3], &data, &data_bytes))
		return NULL;
	count = key_bytes / bpf_map__key_size(map);
	if (count * bpf_map__key_size(map) != key_bytes ||
	    count * value_bytes(map) != data_bytes)
		return polled_refuse(env, "not as many keys as values");
	return polled_number(env, bpf_map_update_batch(bpf_map__fd(map), keys,
						       data, &count, NULL) ?
					  -errno :
					  0);
}

/* Ends as many as one run of the program takes. */
static int end_some(const struct bpf_program *program, const void *ids,
		    uint32_t count, uint32_t reason)
{
	struct {
		struct ist_bpf_end_many head;
		uint64_t ids[IST_END_MOST];
	} command = { .head = { .reason = reason, .count = count } };
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = &command,
		    .data_size_in = sizeof(command.head) + count * sizeof(uint64_t),
		    .repeat = 1);

	memcpy(command.ids, ids, count * sizeof(uint64_t));
	return bpf_prog_test_run_opts(bpf_program__fd(program), &options);
}

/* Reads (object, ids, ...) and returns the map of splices. */
static struct bpf_map *splice_arguments(napi_env env, napi_callback_info info,
					size_t count, napi_value *values,
					struct bpf_object **bpf, void **ids,
					size_t *size)
{
	struct bpf_map *map;
	size_t passed = count;

	if (napi_get_cb_info(env, info, &passed, values, NULL, NULL) !=
		    napi_ok ||
	    passed != count) {
		polled_refuse(env, "too few arguments");
		return NULL;
	}
	*bpf = object_of(env, values[0]);
	if (*bpf == NULL || !bytes_of(env, values[1], ids, size))
		return NULL;
	map = bpf_object__find_map_by_name(*bpf, "ist_splices");
	if (map == NULL)
		polled_refuse(env, "there is no such map");
	return map;
}

/* Id and value of each that is there; with @living those alone that are not over. */
static napi_value collect(napi_env env, const struct bpf_map *map,
			  const void *ids, size_t size, bool living)
{
	size_t total = size / sizeof(uint64_t), used = 0;
	struct ist_bpf_splice splice;
	napi_value result = NULL;
	uint8_t *found;
	uint64_t id;

	found = malloc(total * (sizeof(id) + sizeof(splice)) + 1);
	if (found == NULL)
		return fail(env, "splices", -ENOMEM);
	for (size_t i = 0; i < total; i++) {
		memcpy(&id, (const uint8_t *)ids + i * sizeof(id), sizeof(id));
		if (bpf_map_lookup_elem(bpf_map__fd(map), &id, &splice) ||
		    (living && splice.over))
			continue;
		memcpy(found + used, &id, sizeof(id));
		used += sizeof(id);
		memcpy(found + used, &splice, sizeof(splice));
		used += sizeof(splice);
	}
	napi_create_buffer_copy(env, used, found, NULL, &result);
	free(found);
	return result;
}

static napi_value splices(napi_env env, napi_callback_info info)
{
	struct bpf_object *bpf;
	napi_value values[2];
	struct bpf_map *map;
	size_t size;
	void *ids;

	map = splice_arguments(env, info, 2, values, &bpf, &ids, &size);
	return map ? collect(env, map, ids, size, false) : NULL;
}

static napi_value end_splices(napi_env env, napi_callback_info info)
{
	struct bpf_program *program;
	napi_value values[3], ended;
	struct bpf_object *bpf;
	struct bpf_map *map;
	size_t size, total;
	uint32_t reason;
	void *ids;
	int err = 0;

	map = splice_arguments(env, info, 3, values, &bpf, &ids, &size);
	if (map == NULL)
		return NULL;
	program = bpf_object__find_program_by_name(bpf, "ist_end_many");
	if (program == NULL ||
	    napi_get_value_uint32(env, values[2], &reason) != napi_ok)
		return polled_refuse(env, "there is no such program");
	said[0] = '\0';
	ended = collect(env, map, ids, size, true);
	if (ended == NULL)
		return NULL;
	total = size / sizeof(uint64_t);
	for (size_t done = 0; !err && done < total; done += IST_END_MOST) {
		size_t some = total - done;

		if (some > IST_END_MOST)
			some = IST_END_MOST;
		err = end_some(program, (uint8_t *)ids + done * sizeof(uint64_t),
			       (uint32_t)some, reason);
	}
	return err ? fail(env, "splices cannot be ended", err) : ended;
}

static napi_value run(napi_env env, napi_callback_info info)
{
	napi_value values[4], result, part;
	char name[MOST_NAME_BYTES], out[MOST_FRAME_BYTES];
	struct bpf_program *program;
	struct bpf_object *bpf;
	struct __sk_buff context = { 0 };
	size_t count = 4, size;
	uint32_t ifindex;
	void *data;
	LIBBPF_OPTS(bpf_test_run_opts, options);
	int err;

	if (napi_get_cb_info(env, info, &count, values, NULL, NULL) !=
		    napi_ok ||
	    count != 4)
		return polled_refuse(env, "run(object, program, data, ifindex)");
	bpf = object_of(env, values[0]);
	if (bpf == NULL || !text_of(env, values[1], name, sizeof(name)) ||
	    !bytes_of(env, values[2], &data, &size))
		return NULL;
	program = bpf_object__find_program_by_name(bpf, name);
	if (program == NULL ||
	    napi_get_value_uint32(env, values[3], &ifindex) != napi_ok)
		return polled_refuse(env, "there is no such program");
	context.ifindex = ifindex;
	options.data_in = data;
	options.data_size_in = size;
	options.data_out = out;
	options.data_size_out = sizeof(out);
	options.ctx_in = &context;
	options.ctx_size_in = sizeof(context);
	options.repeat = 1;
	err = bpf_prog_test_run_opts(bpf_program__fd(program), &options);
	if (err)
		return fail(env, name, err);
	if (napi_create_array_with_length(env, 3, &result) != napi_ok ||
	    napi_create_int32(env, (int32_t)options.retval, &part) != napi_ok ||
	    napi_set_element(env, result, 0, part) != napi_ok ||
	    napi_create_buffer_copy(env, options.data_size_out, out, NULL,
				    &part) != napi_ok ||
	    napi_set_element(env, result, 1, part) != napi_ok ||
	    napi_create_uint32(env, options.duration, &part) != napi_ok ||
	    napi_set_element(env, result, 2, part) != napi_ok)
		return NULL;
	return result;
}

static napi_value attach(napi_env env, napi_callback_info info)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, filter, .handle = FILTER_HANDLE,
		    .priority = FILTER_PRIORITY, .flags = BPF_TC_F_REPLACE);
	struct bpf_program *program;
	napi_value values[2];
	struct bpf_object *bpf;
	size_t count = 2;
	int err;

	if (napi_get_cb_info(env, info, &count, values, NULL, NULL) !=
		    napi_ok ||
	    count != 2 ||
	    napi_get_value_int32(env, values[1], &hook.ifindex) != napi_ok)
		return polled_refuse(env, "attach(object, ifindex)");
	bpf = object_of(env, values[0]);
	if (bpf == NULL)
		return NULL;
	program = bpf_object__find_program_by_name(bpf, "ist_splice");
	if (program == NULL)
		return polled_refuse(env, "there is no such program");
	said[0] = '\0';
	err = bpf_tc_hook_create(&hook);
	if (err && err != -EEXIST)
		return polled_number(env, err);
	filter.prog_fd = bpf_program__fd(program);
	return polled_number(env, bpf_tc_attach(&hook, &filter));
}

/* How many there are is not told, only whether. */
static napi_value tcx_filters(napi_env env, napi_callback_info info)
{
	uint32_t ids[1] = { 0 }, flags = 0, found = 1;
	int32_t ifindex;
	size_t count = 1;
	napi_value value;

	if (napi_get_cb_info(env, info, &count, &value, NULL, NULL) !=
		    napi_ok ||
	    count != 1 || napi_get_value_int32(env, value, &ifindex) != napi_ok)
		return polled_refuse(env, "tcxFilters(ifindex)");
	if (bpf_prog_query(ifindex, TCX_INGRESS, 0, &flags, ids, &found))
		return polled_number(env, errno == ENOSPC ? 1 : -errno);
	return polled_number(env, found > 0);
}

static napi_value program_id(napi_env env, napi_callback_info info)
{
	struct bpf_prog_info about = { 0 };
	uint32_t size = sizeof(about);
	struct bpf_program *program;
	struct bpf_object *bpf;
	napi_value value;
	size_t count = 1;

	if (napi_get_cb_info(env, info, &count, &value, NULL, NULL) !=
		    napi_ok ||
	    count != 1)
		return polled_refuse(env, "programId(object)");
	bpf = object_of(env, value);
	if (bpf == NULL)
		return NULL;
	program = bpf_object__find_program_by_name(bpf, "ist_splice");
	if (program == NULL ||
	    bpf_obj_get_info_by_fd(bpf_program__fd(program), &about, &size))
		return polled_number(env, -errno);
	return polled_number(env, (int)about.id);
}

NAPI_MODULE_INIT()
{
	static const struct addon_function functions[] = {
		{ "load", load },
		{ "shape", shape },
		{ "lookup", lookup },
		{ "update", update },
		{ "delete", delete },
		{ "entries", entries },
		{ "fill", fill },
		{ "splices", splices },
		{ "endSplices", end_splices },
		{ "run", run },
		{ "attach", attach },
		{ "tcxFilters", tcx_filters },
		{ "programId", program_id },
	};

	libbpf_set_print(remember);
	if (!addon_add_functions(env, exports, functions,
				 sizeof(functions) / sizeof(functions[0]),
				 NULL))
		return NULL;
	return send_init(env, exports) ? events_init(env, exports) : NULL;
}
