/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISTHMUS_BPF_H
#define ISTHMUS_BPF_H

#include <bpf/libbpf.h>

#include "../polled/polled.h"

/* Each throws when the value is another thing. */
struct bpf_object *object_of(napi_env env, napi_value value);
bool text_of(napi_env env, napi_value value, char *text, size_t size);
bool bytes_of(napi_env env, napi_value value, void **data, size_t *size);

/* events.c, send.c: put their functions on the exports */
napi_value events_init(napi_env env, napi_value exports);
bool send_init(napi_env env, napi_value exports);

#endif
