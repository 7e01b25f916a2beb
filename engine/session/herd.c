/* SPDX-License-Identifier: MIT */
/*
 * The polling herd.
 *
 * One thread pinned to each CPU, all waiting in poll(2) on the same non-blocking descriptor. Poll wakes every waiter,
 * and the one on the client's own CPU, which needs no interrupt from another, reads the request first; the others find
 * EAGAIN and go back. A request is served inline by the thread that read it.
 *
 * Many CPUs make many losers: a thread that is woken for nothing far more often than not, while others wait besides, parks.
 * Whoever takes a request while nobody waits wakes a parked one first. Every now and then, under load, all come back for
 * a while, so that it is the right ones that stay: those on the CPUs where the clients are.
 *
 * Where one CPU's requests are all there are, one thread is enough: see solo.c.
 *
 * A thread inside something slow is replaced, never waited for: when nobody is left in poll and no request was taken
 * for a tick, or what was put aside is still there at the next, the monitor starts a spare, which leaves again after some idle
 * seconds. It naps while there is nothing to do.
 */
#include "session/internal.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TICK_MS 10
#define NAP_TICKS 100            /* without a request, before the monitor naps */
#define GATHER_TICKS 200         /* under load: parked ones come back for a while */
#define LOSSES_MAX 8             /* before a thread parks */
#define WIN_WORTH 2              /* losses that a request makes good */
#define SPARE_IDLE_MS 5000

/* ---- parking ---- */

static void unpark_one(struct session *s)
{
	int n = atomic_load(&s->parked);

	while (n > 0 && !atomic_compare_exchange_weak(&s->parked, &n, n - 1))
		;
	if (n > 0) {
		atomic_fetch_add(&s->grazing, 1);
		eventfd_write(s->park_fd, 1);
	}
}

static void gather(struct session *s)
{
	while (atomic_load(&s->parked) > 0)
		unpark_one(s);
}

/* @left  are to remain, beside those that serve. The descriptor is a semaphore: who was counted is woken once. */
static void park(struct session *s, int left)
{
	int n = atomic_load(&s->grazing);
	eventfd_t token;

	do
		if (n - atomic_load(&s->serving) <= left)
			return;
	while (!atomic_compare_exchange_weak(&s->grazing, &n, n - 1));
	atomic_fetch_add(&s->parked, 1);
	while (!atomic_load(&s->stopping) && eventfd_read(s->park_fd, &token) < 0 && errno == EINTR)
		;
}

void herd_stop(struct session *s)
{
	if (s->park_fd >= 0)
		eventfd_write(s->park_fd, HERD_MAX);
}

/* ---- serving ---- */

/*
 * Nobody waits for a release, but for what comes behind it. So it is put aside until nothing else is there, and who reads on is
 * the thread beside the client.
 */
static bool put_aside(struct session *s, struct op *op, const void *message, size_t n)
{
	void *copy = wire_is_awaited(message, n) ? NULL : malloc(n);
	bool room = false;

	if (!copy)
		return false;
	pthread_mutex_lock(&s->aside_lock);
	if (s->aside_count < ASIDE_MOST) {
		memcpy(copy, message, n);
		op->message = copy;
		s->aside[s->aside_count] = (struct aside){ op, n };
		atomic_store(&s->aside_count, s->aside_count + 1);
		atomic_fetch_add(&s->aside_total, 1);
		room = true;
	}
	pthread_mutex_unlock(&s->aside_lock);
	if (!room)
		free(copy);
	return room;
}

static void serve_aside(struct session *s)
{
	while (atomic_load(&s->aside_count)) {
		struct aside a = { 0 };

		pthread_mutex_lock(&s->aside_lock);
		if (s->aside_count) {
			atomic_store(&s->aside_count, s->aside_count - 1);
			a = s->aside[s->aside_count];
		}
		pthread_mutex_unlock(&s->aside_lock);
		if (a.op)
			serve(s, a.op, a.size);
	}
}

/* 0: none there; 1: served; -1: the connection is over. */
static int take(struct session *s, int slot, struct op **op, void **message)
{
	uint32_t client;
	ssize_t n;

	if (!*message)
		*message = malloc(IO_MESSAGE_MAX);
	if (!*op)
		*op = op_new(s->volume);
	if (!*op || !*message) {
		poll(NULL, 0, 1); /* what there is to read waits as well */
		return 0;
	}
	n = read(s->fd, *message, IO_MESSAGE_MAX);
	if (n < 0)
		return errno == ENODEV || errno == ECONNABORTED || errno == EBADF ? -1 : 0;
	if (n == 0)
		return -1;
	atomic_fetch_add(&s->taken, 1);
	client = wire_client(*message, n);
	if (client) {
		atomic_store_explicit(&s->client, client, memory_order_relaxed);
		atomic_store_explicit(&s->took_last, slot + 1, memory_order_relaxed);
	}
	if (put_aside(s, *op, *message, n)) {
		*op = NULL;
		return 1;
	}
	if (atomic_fetch_add(&s->serving, 1) + 1 >= atomic_load(&s->grazing) && atomic_load(&s->parked) &&
	    !atomic_load(&s->alone))
		unpark_one(s);
	if (atomic_load_explicit(&s->napping, memory_order_relaxed) && atomic_exchange(&s->napping, false))
		eventfd_write(s->nap_fd, 1);

	serve_lent(s, *op, message, n);
	atomic_fetch_sub(&s->serving, 1);
	*op = NULL;
	return 1;
}

static void herd_loop(struct session *s, int slot, bool spare)
{
	struct pollfd p[2] = { { .fd = s->fd, .events = POLLIN }, { .fd = s->stop_fd, .events = POLLIN } };
	void *message = NULL;
	struct op *op = NULL;
	unsigned losses = 0;
	int r = 0, alone;

	while (!atomic_load(&s->stopping)) {
		bool got = false;

		r = 0;
		while (!atomic_load(&s->stopping) && (r = take(s, slot, &op, &message)) > 0)
			got = true;
		serve_aside(s);
		if (r < 0)
			break;
		alone = atomic_load(&s->alone);
		losses = !got ? losses + 1 : losses > WIN_WORTH ? losses - WIN_WORTH : 0;
		if (!spare && (alone ? alone != slot + 1 : losses > LOSSES_MAX)) {
			park(s, alone ? 0 : 2);
			losses = 0;
			continue;
		}
		atomic_fetch_add(&s->idle, 1);
		r = poll(p, 2, spare ? SPARE_IDLE_MS : -1);
		atomic_fetch_sub(&s->idle, 1);
		if ((r == 0 && spare) || p[1].revents)
			break;
		if (r > 0 && (p[0].revents & POLLERR)) {
			r = -1;
			break;
		}
	}
	serve_aside(s);
	if (op)
		alt_op_unref(&op->pub);
	free(message);
	if (r < 0)
		session_stop(s);
}

struct herd_arg { struct session *s; int slot; int cpu; };

static void *herd_main(void *arg)
{
	struct herd_arg a = *(struct herd_arg *)arg;

	free(arg);
	if (a.cpu >= 0) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(a.cpu, &set);
		pthread_setaffinity_np(pthread_self(), sizeof set, &set); /* not allowed: slower, still right */
	}
	atomic_fetch_add(&a.s->grazing, 1);
	herd_loop(a.s, a.slot, a.cpu < 0);
	atomic_fetch_sub(&a.s->grazing, 1);
	atomic_store(&a.s->used[a.slot], 2);
	return NULL;
}

/* @cpu  to be pinned to, -1: a spare */
static int herd_start(struct session *s, int cpu)
{
	struct herd_arg *a = malloc(sizeof *a);
	int slot, r;

	for (slot = 0; slot < HERD_MAX; slot++) {
		int over = 2, unused = 0;

		if (atomic_compare_exchange_strong(&s->used[slot], &unused, 1))
			break;
		if (atomic_compare_exchange_strong(&s->used[slot], &over, 1)) {
			pthread_join(s->threads[slot], NULL);
			break;
		}
	}
	if (!a || slot == HERD_MAX) {
		if (slot < HERD_MAX)
			atomic_store(&s->used[slot], 0);
		free(a);
		return -EAGAIN;
	}
	*a = (struct herd_arg){ s, slot, cpu };
	s->cpu_of[slot] = cpu;
	r = pthread_create(&s->threads[slot], NULL, herd_main, a);
	if (r) {
		atomic_store(&s->used[slot], 0);
		free(a);
	}
	return -r;
}

int herd_begin(struct session *s, unsigned there, unsigned threads)
{
	unsigned started = 0, cpu_count = CPU_COUNT(&s->cpus), seen = 0;

	if (!threads)
		threads = cpu_count < HERD_MAX / 2 ? cpu_count : HERD_MAX / 2;
	while (seen < threads && cpu_count)
		for (int cpu = 0; cpu < CPU_SETSIZE && seen < threads; cpu++)
			if (CPU_ISSET(cpu, &s->cpus) && ++seen > there)
				started += !herd_start(s, cpu);
	return started || there ? 0 : -EAGAIN;
}

void herd_join(struct session *s)
{
	for (int i = 0; i < HERD_MAX; i++)
		if (atomic_load(&s->used[i])) {
			pthread_join(s->threads[i], NULL);
			atomic_store(&s->used[i], 0);
		}
}

/* ---- the monitor ---- */

/* Until a request is taken or the session stops. */
static void nap(struct session *s, uint64_t seen)
{
	struct pollfd p[] = { { .fd = s->stop_fd, .events = POLLIN }, { .fd = s->nap_fd, .events = POLLIN } };
	eventfd_t ignored;

	atomic_store(&s->napping, true);
	if (atomic_load(&s->taken) == seen)
		poll(p, 2, -1);
	atomic_store(&s->napping, false);
	if (p[1].revents)
		eventfd_read(s->nap_fd, &ignored);
}

void *herd_monitor(void *arg)
{
	struct session *s = arg;
	struct pollfd p = { .fd = s->stop_fd, .events = POLLIN };
	struct solo solo = { .next = 4 };
	unsigned still = 0, ticks = 0;
	uint64_t seen = 0, aside = 0;
	bool quiet = true;

	while (poll(&p, 1, TICK_MS) == 0) {
		bool busy = !atomic_load(&s->idle);
		uint64_t taken = atomic_load(&s->taken);
		bool late = atomic_load(&s->aside_count) && atomic_load(&s->aside_total) == aside;

		if (late || (busy && !quiet && taken == seen && !atomic_load(&s->alone)))
			herd_start(s, -1);
		if (solo_look(s, &solo, taken - seen) ||
		    (taken != seen && !atomic_load(&s->alone) && ++ticks % GATHER_TICKS == 0))
			gather(s);
		aside = atomic_load(&s->aside_total);
		still = taken == seen && !busy ? still + 1 : 0;
		seen = taken;
		quiet = !busy;
		if (still >= NAP_TICKS) {
			nap(s, seen);
			still = 0;
		}
	}
	return NULL;
}
