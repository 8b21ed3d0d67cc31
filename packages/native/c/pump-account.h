/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISTHMUS_PUMP_ACCOUNT_H
#define ISTHMUS_PUMP_ACCOUNT_H

#include <stdbool.h>

/*
 * What all splices of one allocation share, joined sockets and datagrams: the
 * rate and the limits. Counted references.
 */
struct pump_account;

struct pump_account *pump_account_new(void);
void pump_account_get(struct pump_account *account);
void pump_account_put(struct pump_account *account);

/*
 * @bytes_per_second: of all joins and datagrams together, 0: no limit
 * @most_bytes: of each splice, both ways together, 0: no limit
 */
void pump_account_set(struct pump_account *account, double bytes_per_second,
		      double most_bytes);

/*
 * Whether @bytes may pass now; they are paid for then. Whoever comes while
 * there is credit may take more than there is. @urgent takes up to a burst
 * ahead of others.
 */
bool pump_account_spend(struct pump_account *account, double bytes,
			bool urgent);

/* Milliseconds until there is credit. */
double pump_account_wait_ms(struct pump_account *account);

/* Of each splice; 0: no limit. */
double pump_account_most_bytes(const struct pump_account *account);

bool pump_account_has_rate(const struct pump_account *account);

/* CLOCK_MONOTONIC. */
double pump_now_ms(void);

#endif
