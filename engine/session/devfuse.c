/* SPDX-License-Identifier: MIT */
/*
 * /dev/fuse and the polling herd.
 *
 * One thread pinned to each CPU, all waiting in poll(2) on the same non-blocking descriptor. Poll wakes every waiter,
 * and the one on the client's own CPU, which needs no interrupt from another, reads the request first; the others find
 * EAGAIN and go back. A request is served inline by the thread that read it.
 *
 * A thread inside something slow is replaced, never waited for: when nobody is left in poll and no request was taken
 * for a tick, the monitor starts a spare, which leaves again after some idle seconds.
 */
#include "session/internal.h"
#include "base/base.h"
#include <altitude/log.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#define TICK_MS 10
#define SPARE_IDLE_MS 5000

int session_send(struct session *s, const struct iovec *iov, int count)
{
	if (s->answer) {
		s->answer(s->answer_arg, iov, count);
		return 0;
	}
	return writev(s->fd, iov, count) < 0 ? -errno : 0;
}

void session_stop(struct session *s)
{
	uint64_t one = 1;

	atomic_store(&s->stopping, true);
	if (s->stop_fd >= 0 && write(s->stop_fd, &one, sizeof one) < 0)
		return; /* full: it is readable already */
}

/* 0: none there; 1: served; -1: the connection is over. */
static int take(struct session *s, struct op **op, void **message)
{
	ssize_t n;

	if (!*message)
		*message = malloc(IO_MESSAGE_MAX);
	if (!*op)
		*op = op_new(s->volume);
	if (!*op || !*message)
		return 0;
	n = read(s->fd, *message, IO_MESSAGE_MAX);
	if (n < 0)
		return errno == ENODEV || errno == ECONNABORTED || errno == EBADF ? -1 : 0;
	if (n == 0)
		return -1;
	atomic_fetch_add(&s->taken, 1);

	/* A message lives in its operation; it comes back unless the operation is kept by somebody. */
	(*op)->message = *message;
	alt_op_ref(&(*op)->pub);
	serve(s, *op, n);
	*message = NULL;
	if (atomic_load(&(*op)->refs) == 1) {
		*message = (*op)->message;
		(*op)->message = NULL;
	}
	alt_op_unref(&(*op)->pub);
	*op = NULL;
	return 1;
}

static void herd_loop(struct session *s, bool spare)
{
	struct pollfd p[2] = { { .fd = s->fd, .events = POLLIN }, { .fd = s->stop_fd, .events = POLLIN } };
	void *message = NULL;
	struct op *op = NULL;
	int r = 0;

	while (!atomic_load(&s->stopping)) {
		while ((r = take(s, &op, &message)) > 0)
			;
		if (r < 0)
			break;
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
	herd_loop(a.s, a.cpu < 0);
	atomic_store(&a.s->used[a.slot], 2);
	return NULL;
}

static int herd_start(struct session *s, int cpu)
{
	struct herd_arg *a = malloc(sizeof *a);
	int slot, r;

	for (slot = 0; slot < HERD_MAX; slot++) {
		int over = 2;

		if (atomic_compare_exchange_strong(&s->used[slot], &over, 0))
			pthread_join(s->threads[slot], NULL);
		if (!atomic_load(&s->used[slot]))
			break;
	}
	if (!a || slot == HERD_MAX) {
		free(a);
		return -EAGAIN;
	}
	*a = (struct herd_arg){ s, slot, cpu };
	atomic_store(&s->used[slot], 1);
	r = pthread_create(&s->threads[slot], NULL, herd_main, a);
	if (r) {
		atomic_store(&s->used[slot], 0);
		free(a);
	}
	return -r;
}

static void *monitor_main(void *arg)
{
	struct session *s = arg;
	struct pollfd p = { .fd = s->stop_fd, .events = POLLIN };
	uint64_t seen = 0;
	bool quiet = true;

	for (;;) {
		bool busy = !atomic_load(&s->idle);
		uint64_t taken = atomic_load(&s->taken);

		if (busy && !quiet && taken == seen)
			herd_start(s, -1);
		seen = taken;
		quiet = !busy;
		if (poll(&p, 1, TICK_MS) > 0)
			return NULL;
	}
}

static struct op *expired_locked(struct alt_volume *v, uint64_t now)
{
	for (struct op *op = v->inflight; op; op = op->next) {
		uint64_t deadline = atomic_load(&op->deadline_ms);

		if (deadline && now >= deadline && !atomic_exchange(&op->answered, 1))
			return op;
	}
	return NULL;
}

/* The kernel gets its error; the handler runs on and its late answer is dropped. */
static void *clock_main(void *arg)
{
	struct session *s = arg;
	struct pollfd p = { .fd = s->stop_fd, .events = POLLIN };
	struct alt_volume *v = s->volume;

	while (poll(&p, 1, v->timeout_ms / 4 + 1) == 0) {
		struct op *op;

		do {
			char fixed[WIRE_FIXED_MAX];
			struct iovec iov = { fixed, 0 };

			pthread_mutex_lock(&v->inflight_lock);
			op = expired_locked(v, now_ms());
			if (op)
				alt_op_ref(&op->pub);
			pthread_mutex_unlock(&v->inflight_lock);
			if (op) {
				iov.iov_len = wire_encode_error(op->unique, -ETIMEDOUT, fixed);
				session_send(s, &iov, 1);
				op_cancel(op);
				alt_op_unref(&op->pub);
			}
		} while (op);
	}
	return NULL;
}

int session_start(struct alt_volume *v, int fd, struct session **ret, struct alt_error *err)
{
	struct session *s = calloc(1, sizeof *s);
	cpu_set_t cpus;
	int started = 0;

	if (!s) {
		close(fd);
		return alt_error_set(err, -ENOMEM, "no memory to serve '%s'", v->name);
	}
	s->volume = v;
	s->fd = fd;
	s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	if (s->stop_fd < 0)
		goto fail;
	CPU_ZERO(&cpus);
	sched_getaffinity(0, sizeof cpus, &cpus);
	for (int cpu = 0; cpu < CPU_SETSIZE && started < HERD_MAX / 2; cpu++)
		if (CPU_ISSET(cpu, &cpus) && !herd_start(s, cpu))
			started++;
	if (!started)
		goto fail;
	s->has_monitor = !pthread_create(&s->monitor, NULL, monitor_main, s);
	if (notifier_start(s) < 0)
		alt_volume_set_watched(v, false);
	if (v->timeout_ms)
		s->has_clock = !pthread_create(&s->clock, NULL, clock_main, s);
	*ret = s;
	return 0;
fail:
	if (s->stop_fd >= 0)
		close(s->stop_fd);
	close(fd);
	free(s);
	return alt_error_set(err, -EAGAIN, "cannot start the threads that serve '%s': %s", v->name, strerror(errno));
}

int session_end_fd(const struct session *s)
{
	return s->stop_fd;
}

static void inflight_report(struct alt_volume *v)
{
	pthread_mutex_lock(&v->inflight_lock);
	for (struct op *op = v->inflight; op; op = op->next)
		alt_log(LOG_WARNING, "the end of '%s' waits for '%s' of process %u, kept by a filter or by file system '%s'",
			v->name, alt_op_name(op->pub.code), op->pub.caller.pid, v->fs->name);
	pthread_mutex_unlock(&v->inflight_lock);
}

/* Operations somebody keeps are cancelled and awaited: after this, no module holds one. */
static void inflight_end(struct alt_volume *v)
{
	for (unsigned looks = 1;; looks++) {
		struct op *op;

		pthread_mutex_lock(&v->inflight_lock);
		for (op = v->inflight; op && atomic_load(&op->cancelled); op = op->next)
			;
		if (op)
			alt_op_ref(&op->pub);
		bool empty = !v->inflight;

		pthread_mutex_unlock(&v->inflight_lock);
		if (op) {
			op_cancel(op);
			alt_op_unref(&op->pub);
		} else if (empty) {
			return;
		} else {
			if (looks % 5000 == 0)
				inflight_report(v);
			poll(NULL, 0, 1);
		}
	}
}

void session_free(struct session *s)
{
	if (!s)
		return;
	session_stop(s);
	notifier_stop(s);
	if (s->has_monitor)
		pthread_join(s->monitor, NULL);
	if (s->has_clock)
		pthread_join(s->clock, NULL);
	inflight_end(s->volume);
	for (int i = 0; i < HERD_MAX; i++)
		if (atomic_load(&s->used[i]))
			pthread_join(s->threads[i], NULL);
	inflight_end(s->volume);
	if (s->fd >= 0)
		close(s->fd);
	if (s->stop_fd >= 0)
		close(s->stop_fd);
	free(s);
}
