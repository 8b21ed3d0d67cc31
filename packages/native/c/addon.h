/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISTHMUS_ADDON_H
#define ISTHMUS_ADDON_H

#include <node_api.h>

#include "functions.h"

/*
 * Each part of the add-on has one of these: it makes the object that the
 * part's TypeScript sees, or leaves an exception pending and returns NULL.
 * All state belongs to the environment it was made in, so that the add-on
 * can be loaded in several threads.
 */
napi_value aead_init(napi_env env);
napi_value pump_init(napi_env env);
napi_value datagrams_init(napi_env env);
napi_value udp_init(napi_env env);

struct pump_account;

/* The account that JavaScript has, or NULL with an exception pending. */
struct pump_account *pump_account_of(napi_env env, napi_value value);

#endif
