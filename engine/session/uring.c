/* SPDX-License-Identifier: MIT */
/*
 * The second transport: fuse-over-io_uring, Linux 6.14 and its switch enable_uring.
 *
 * The kernel keeps one queue for each possible CPU and gives a request to the queue of the CPU its caller runs on. One thread
 * pinned to each CPU we may use has a ring of its own, and in it the entries of its CPU's queue; queues of CPUs we may not use
 * are shared out. An entry is a pair of buffers that goes to and fro:
 *
 *        REGISTER -> at the kernel -> a request lies in the buffers -> served -> the answer lies there -> COMMIT_AND_FETCH -+
 *                         ^                                                                                                |
 *                         +------------------------------------------------------------------------------------------------+
 *
 * Only the ring's own thread submits. An operation that was kept and is completed by another thread writes its answer into the
 * entry, hands the entry over, and wakes the ring's thread through an eventfd.
 *
 * The kernel forgets an INTERRUPT when the signal comes after the request was given to an entry and before it is copied there.
 * So callers of what stays out for long are looked at now and then: see sweep() in ring.c.
 *
 * There is no stealing: a request waits for the thread of its queue. What blocks for long goes to workers, as everywhere.
 *
 * /dev/fuse goes on beside it, with one thread: INIT, FORGET, INTERRUPT and notifications never come over the ring. The order
 * matters: once INIT's answer says "ring", the kernel holds everything back until each queue has an entry. So threads and rings
 * are made before that answer (uring_begin) and register after it (uring_go).
 *
 * The end: every thread says that it serves no more (uring_quiet) while it still commits what others complete; when nothing
 * is in flight any more the threads go (uring_end).
 */
#include "session/uring.h"
#include <altitude/log.h>

#include <errno.h>
#include <string.h>

#ifdef HAVE_LIBURING
#include "session/ring.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define DEPTH_DEFAULT 32         /* memory is taken when it is used */

/* Queues are numbered as CPUs, from 0 to the last possible one. */
static unsigned queues_count(void)
{
	unsigned first = 0, last = 0, most = 0;
	FILE *f = fopen("/sys/devices/system/cpu/possible", "re");
	int n;

	while (f && (n = fscanf(f, "%u-%u%*[,\n]", &first, &last)) > 0) {
		if (n == 1)
			last = first;
		most = last > most ? last : most;
		if (n == 1 && fscanf(f, "%*[,\n]") < 0)
			break;
	}
	if (f)
		fclose(f);
	else
		most = sysconf(_SC_NPROCESSORS_CONF) - 1;
	return most + 1;
}

static void uring_free(struct uring *u)
{
	for (unsigned i = 0; i < u->count; i++)
		ring_free(&u->rings[i]);
	pthread_cond_destroy(&u->changed);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

static struct uring *uring_new(struct session *s, size_t payload)
{
	unsigned count = CPU_COUNT(&s->cpus), at = 0;
	struct uring *u = calloc(1, sizeof *u + (count ? count : 1) * sizeof u->rings[0]);

	if (!u)
		return NULL;
	u->s = s;
	u->payload = (payload + RING_PAGE - 1) / RING_PAGE * RING_PAGE;
	u->depth = s->volume->ring_depth ? s->volume->ring_depth : DEPTH_DEFAULT;
	u->queues = queues_count();
	pthread_mutex_init(&u->lock, NULL);
	pthread_cond_init(&u->changed, NULL);
	for (int cpu = 0; cpu < CPU_SETSIZE && at < count; cpu++)
		if (CPU_ISSET(cpu, &s->cpus))
			u->rings[at++] = (struct ring){ .u = u, .cpu = cpu, .wake_fd = -1 };
	u->count = at;
	for (at = 0; at < u->count; at++)
		pthread_mutex_init(&u->rings[at].lock, NULL);
	return u;
}

static void order_give(struct uring *u, enum order order)
{
	pthread_mutex_lock(&u->lock);
	u->order = order;
	pthread_cond_broadcast(&u->changed);
	pthread_mutex_unlock(&u->lock);
}

static void threads_join(struct uring *u)
{
	for (unsigned i = 0; i < u->threads; i++)
		pthread_join(u->rings[i].thread, NULL);
}

int uring_begin(struct session *s, size_t payload)
{
	struct uring *u = uring_new(s, payload);
	int r = u && u->count ? 0 : -ENOMEM;

	for (unsigned i = 0; !r && i < u->count; i++)
		r = ring_fill(&u->rings[i], i);
	for (unsigned i = 0; !r && i < u->count; i++) {
		r = -pthread_create(&u->rings[i].thread, NULL, ring_main, &u->rings[i]);
		u->threads += !r;
	}
	if (u) {
		pthread_mutex_lock(&u->lock);
		while (u->ready < u->threads)
			pthread_cond_wait(&u->changed, &u->lock);
		if (!r)
			r = u->error;
		pthread_mutex_unlock(&u->lock);
	}
	if (!r) {
		atomic_store(&s->uring, u);
		return 0;
	}
	if (u) {
		order_give(u, ORDER_END);
		threads_join(u);
		uring_free(u);
	}
	return r;
}

void uring_go(struct session *s, bool agreed)
{
	order_give(atomic_load(&s->uring), agreed ? ORDER_GO : ORDER_END);
}

void uring_stop(struct session *s)
{
	struct uring *u = atomic_load(&s->uring);

	for (unsigned i = 0; u && i < u->count; i++)
		ring_wake(&u->rings[i]);
}

bool uring_quiet(struct session *s, unsigned wait_ms)
{
	struct uring *u = atomic_load(&s->uring);
	struct timespec until;
	bool quiet;

	if (!u)
		return true;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += wait_ms * 1000000l;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&u->lock);
	if (u->quiet < u->threads)
		pthread_cond_timedwait(&u->changed, &u->lock, &until);
	quiet = u->quiet == u->threads;
	pthread_mutex_unlock(&u->lock);
	return quiet;
}

void uring_end(struct session *s)
{
	struct uring *u = atomic_exchange(&s->uring, NULL);

	if (!u)
		return;
	atomic_store(&u->ending, true);
	for (unsigned i = 0; i < u->count; i++)
		ring_wake(&u->rings[i]);
	threads_join(u);
	uring_free(u);
}

#else /* without liburing */

int uring_begin(struct session *s, size_t payload)
{
	return -ENOSYS;
}

void uring_go(struct session *s, bool agreed)
{
}

void uring_stop(struct session *s)
{
}

bool uring_quiet(struct session *s, unsigned wait_ms)
{
	return true;
}

void uring_end(struct session *s)
{
}

int uring_answer(struct entry *e, const struct iovec *iov, int count)
{
	return -ENOSYS;
}

#endif

static bool built_in(void)
{
#ifdef HAVE_LIBURING
	return true;
#else
	return false;
#endif
}

bool uring_agree(struct session *s, bool offered, size_t payload)
{
	const char *name = s->volume->name;
	int r = 0;

	if (!s->volume->uring)
		return false;
	if (!built_in())
		alt_log(LOG_NOTICE, "'%s': transport=uring is not in this build (liburing was missing); served over /dev/fuse", name);
	else if (!offered)
		alt_log(LOG_NOTICE, "'%s': transport=uring is not offered by the kernel (Linux 6.14, and as root 'echo Y "
			">/sys/module/fuse/parameters/enable_uring'); served over /dev/fuse", name);
	else if ((r = uring_begin(s, payload)) < 0)
		alt_log(LOG_NOTICE, "'%s': transport=uring: no ring can be made (%s); served over /dev/fuse", name, strerror(-r));
	else
		return true;
	herd_begin(s, 1, s->volume->threads);
	return false;
}
