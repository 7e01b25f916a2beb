/* SPDX-License-Identifier: MIT */
/*
 * Waiting for a lock. A client that waits costs no thread: one thread per volume tries all waiting locks in turn, at
 * once when a lock is dropped through us, else after 1 to 50 ms, since nobody says when a lock
 * below is dropped.
 */
#include "lock.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define WAIT_SHORTEST_MS 1u
#define WAIT_LONGEST_MS 50u
#define WAIT_PATIENCE_MS (24u * 3600u * 1000u)

struct lock_wait {
	struct lock_wait *next;          /* [wait_lock] */
	struct dir_volume *volume;
	struct alt_op *op;               /* referenced */
	struct dir_pin *pin;             /* referenced */
	int refs;                        /* [wait_lock] the waiter's and the cancel routine's */
	bool cancelled;                  /* [wait_lock] */
	int status;                      /* the waiter's */
};

void lock_kick(struct dir_volume *volume)
{
	pthread_mutex_lock(&volume->wait_lock);
	volume->kicked = true;
	pthread_cond_signal(&volume->wait_cond);
	pthread_mutex_unlock(&volume->wait_lock);
}

static void wait_put(struct lock_wait *wait)
{
	struct dir_volume *volume = wait->volume;
	bool last;

	pthread_mutex_lock(&volume->wait_lock);
	last = --wait->refs == 0;
	pthread_mutex_unlock(&volume->wait_lock);
	if (last)
		free(wait);
}

/*
 * The caller has given up. This owns the operation now and hands it to the waiter to complete.
 * Not touching the volume after the lock is let go: with the completion it may end.
 */
static void wait_cancel(struct alt_op *op, void *arg)
{
	struct lock_wait *wait = arg;
	struct dir_volume *volume = wait->volume;
	bool last;

	(void)op;
	pthread_mutex_lock(&volume->wait_lock);
	wait->cancelled = true;
	last = --wait->refs == 0;
	pthread_cond_broadcast(&volume->wait_cond);
	pthread_mutex_unlock(&volume->wait_lock);
	if (last)
		free(wait);
}

/* Make sure the cancel routine is not about to come; it only ever does one short thing. */
static void wait_claim(struct lock_wait *wait)
{
	struct dir_volume *volume = wait->volume;

	if (alt_op_clear_cancel(wait->op)) {
		wait_put(wait); /* for the routine that will not be called */
		return;
	}
	pthread_mutex_lock(&volume->wait_lock);
	while (!wait->cancelled)
		pthread_cond_wait(&volume->wait_cond, &volume->wait_lock);
	pthread_mutex_unlock(&volume->wait_lock);
}

static void wait_finish(struct lock_wait *wait)
{
	struct alt_op *op = wait->op;
	int status = wait->status;

	wait_claim(wait);
	pin_put(wait->pin);
	wait_put(wait);
	alt_op_complete(op, status);
	alt_op_unref(op);
}

/* Try all; those that are through are taken out and answered in a list. */
static struct lock_wait *waits_try_locked(struct dir_volume *volume)
{
	struct lock_wait **at = &volume->waits, *done = NULL, *wait;

	while ((wait = *at)) {
		wait->status = wait->cancelled ? -EINTR : lock_attempt(wait->op);
		if (wait->status == -EAGAIN) {
			at = &wait->next;
			continue;
		}
		*at = wait->next;
		wait->next = done;
		done = wait;
	}
	return done;
}

static void wait_sleep_locked(struct dir_volume *volume, unsigned ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += ms * 1000000l;
	until.tv_sec += until.tv_nsec / 1000000000l;
	until.tv_nsec %= 1000000000l;
	pthread_cond_timedwait(&volume->wait_cond, &volume->wait_lock, &until);
}

/* Sleep until there is a reason to try; returns for how long to sleep the next time. */
static unsigned waiter_rest_locked(struct dir_volume *volume, unsigned ms)
{
	if (!volume->waits && !volume->stopping)
		pthread_cond_wait(&volume->wait_cond, &volume->wait_lock);
	else if (!volume->kicked && !volume->stopping)
		wait_sleep_locked(volume, ms);
	if (volume->kicked) {
		volume->kicked = false;
		return WAIT_SHORTEST_MS;
	}
	return ms * 2 < WAIT_LONGEST_MS ? ms * 2 : WAIT_LONGEST_MS;
}

static void *waiter_run(void *arg)
{
	struct dir_volume *volume = arg;
	unsigned ms = WAIT_SHORTEST_MS;

	pthread_mutex_lock(&volume->wait_lock);
	while (!volume->stopping) {
		struct lock_wait *done = waits_try_locked(volume), *next;

		if (!done) {
			ms = waiter_rest_locked(volume, ms);
			continue;
		}
		pthread_mutex_unlock(&volume->wait_lock);
		for (; done; done = next) {
			next = done->next;
			wait_finish(done);
		}
		pthread_mutex_lock(&volume->wait_lock);
	}
	pthread_mutex_unlock(&volume->wait_lock);
	return NULL;
}

static int waiter_start_locked(struct dir_volume *volume)
{
	int r;

	if (volume->waiting)
		return 0;
	r = pthread_create(&volume->waiter, NULL, waiter_run, volume);
	volume->waiting = r == 0;
	return r ? -ENOLCK : 0;
}

void lock_stop(struct dir_volume *volume)
{
	bool waiting;

	pthread_mutex_lock(&volume->wait_lock);
	volume->stopping = true;
	waiting = volume->waiting;
	pthread_cond_broadcast(&volume->wait_cond);
	pthread_mutex_unlock(&volume->wait_lock);
	if (waiting)
		pthread_join(volume->waiter, NULL);
}

/* First come, first served. */
static void wait_queue_locked(struct dir_volume *volume, struct lock_wait *wait)
{
	struct lock_wait **at = &volume->waits;

	while (*at)
		at = &(*at)->next;
	*at = wait;
	volume->kicked = true;
	pthread_cond_signal(&volume->wait_cond);
}

static struct lock_wait *wait_new(struct alt_op *op, struct dir_pin *pin)
{
	struct lock_wait *wait = calloc(1, sizeof(*wait));

	if (!wait)
		return NULL;
	wait->volume = dir_volume(op);
	wait->op = op;
	wait->pin = pin;
	wait->refs = 2;
	return wait;
}

int lock_wait(struct alt_op *op, struct dir_pin *pin)
{
	struct dir_volume *volume = dir_volume(op);
	struct lock_wait *wait;
	int r;

	pthread_mutex_lock(&volume->wait_lock);
	r = waiter_start_locked(volume);
	pthread_mutex_unlock(&volume->wait_lock);
	if (r < 0)
		return r;
	wait = wait_new(op, pin);
	if (!wait)
		return -ENOMEM;
	alt_op_extend(op, WAIT_PATIENCE_MS);
	r = alt_op_set_cancel(op, wait_cancel, wait);
	if (r < 0) {
		free(wait);
		return r;
	}
	alt_op_ref(op);
	pin_ref(pin);
	pthread_mutex_lock(&volume->wait_lock);
	wait_queue_locked(volume, wait);
	pthread_mutex_unlock(&volume->wait_lock);
	return ALT_PENDING;
}
