// SPDX-License-Identifier: Apache-2.0
#include "pump-account.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

/* Unused rate that may be made up for at once. */
#define BURST_MS 100.0

struct pump_account {
	atomic_uint references;
	pthread_mutex_t lock;
	double bytes_per_second;
	double credit;
	double at_ms;
	_Atomic double most_bytes;
	/* Whether there is a rate: the lock is not taken otherwise. */
	atomic_bool has_rate;
};

double pump_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

struct pump_account *pump_account_new(void)
{
	struct pump_account *account = calloc(1, sizeof(*account));

	if (account == NULL)
		return NULL;
	atomic_init(&account->references, 1);
	pthread_mutex_init(&account->lock, NULL);
	account->at_ms = pump_now_ms();
	return account;
}

void pump_account_get(struct pump_account *account)
{
	atomic_fetch_add(&account->references, 1);
}

void pump_account_put(struct pump_account *account)
{
	if (atomic_fetch_sub(&account->references, 1) > 1)
		return;
	pthread_mutex_destroy(&account->lock);
	free(account);
}

static double burst(const struct pump_account *account)
{
	double bytes = account->bytes_per_second * BURST_MS / 1e3;

	return bytes > 1 ? bytes : 1;
}

static void refill(struct pump_account *account)
{
	double now = pump_now_ms();
	double most = burst(account);

	account->credit += (now - account->at_ms) * account->bytes_per_second /
			   1e3;
	account->at_ms = now;
	if (account->credit > most)
		account->credit = most;
}

void pump_account_set(struct pump_account *account, double bytes_per_second,
		      double most_bytes)
{
	bool had_rate = atomic_load(&account->has_rate);

	pthread_mutex_lock(&account->lock);
	refill(account);
	account->bytes_per_second = bytes_per_second;
	if (!had_rate || account->credit > burst(account))
		account->credit = burst(account);
	pthread_mutex_unlock(&account->lock);
	atomic_store(&account->has_rate, bytes_per_second > 0);
	atomic_store(&account->most_bytes, most_bytes);
}

bool pump_account_spend(struct pump_account *account, double bytes, bool urgent)
{
	bool may;

	if (!atomic_load(&account->has_rate))
		return true;
	pthread_mutex_lock(&account->lock);
	refill(account);
	may = account->credit > (urgent ? -burst(account) : 0);
	if (may)
		account->credit -= bytes;
	pthread_mutex_unlock(&account->lock);
	return may;
}

double pump_account_wait_ms(struct pump_account *account)
{
	double wait = 0;

	if (!atomic_load(&account->has_rate))
		return 0;
	pthread_mutex_lock(&account->lock);
	refill(account);
	if (account->credit <= 0)
		wait = (1 - account->credit) * 1e3 / account->bytes_per_second;
	pthread_mutex_unlock(&account->lock);
	return wait;
}

double pump_account_most_bytes(const struct pump_account *account)
{
	return atomic_load(&account->most_bytes);
}

bool pump_account_has_rate(const struct pump_account *account)
{
	return atomic_load(&account->has_rate);
}
