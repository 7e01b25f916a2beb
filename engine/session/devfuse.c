/* SPDX-License-Identifier: MIT */
/* /dev/fuse: a session's beginning, its clock and its end. herd.c has the threads that serve. */
#include "session/uring.h"
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#define LOOK_MS 10               /* whether the notifier is through */

int session_send(struct session *s, const struct iovec *iov, int count)
{
	if (s->answer)
		return s->answer(s->answer_arg, iov, count);
	return writev(s->fd, iov, count) < 0 ? -errno : 0;
}

int session_answer(struct session *s, struct op *op, const struct iovec *iov, int count)
{
	return op->carrier ? uring_answer(op->carrier, iov, count) : session_send(s, iov, count);
}

void session_stop(struct session *s)
{
	uint64_t one = 1;

	atomic_store(&s->stopping, true);
	herd_stop(s);
	uring_stop(s);
	if (s->stop_fd >= 0 && write(s->stop_fd, &one, sizeof one) < 0)
		return; /* full: it is readable already */
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
				session_answer(s, op, &iov, 1);
				op_cancel(op);
				alt_op_unref(&op->pub);
			}
		} while (op);
	}
	return NULL;
}

static void fds_close(struct session *s)
{
	const int fds[] = { s->fd, s->stop_fd, s->park_fd, s->nap_fd };

	for (int i = 0; i < 4; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* What is asked from here on is refused; what is said, and nobody waits for, is not heard. */
static void refuse(struct session *s, void *message)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	struct wire_request rq;
	char fixed[WIRE_FIXED_MAX];
	struct iovec iov = { fixed, 0 };
	ssize_t n;

	poll(&p, 1, LOOK_MS);
	n = read(s->fd, message, IO_MESSAGE_MAX);
	if (n <= 0)
		return;
	wire_decode(message, n, &rq);
	iov.iov_len = wire_encode_error(rq.unique, -ENOTCONN, fixed);
	session_send(s, &iov, 1);
}

/*
 * The notifier may be inside the kernel, waiting for a lock of a directory. Who has that waits for an answer, from a session in
 * which nobody serves any more.
 */
static void notifier_await(struct session *s)
{
	void *message = NULL;

	while (!notifier_over(s)) {
		if (!message)
			message = malloc(IO_MESSAGE_MAX);
		if (message)
			refuse(s, message);
		else
			poll(NULL, 0, 1);
	}
	free(message);
}

int session_start(struct alt_volume *v, int fd, struct session **ret, struct alt_error *err)
{
	struct session *s = calloc(1, sizeof *s);
	int why;

	if (!s) {
		close(fd);
		return alt_error_set(err, -ENOMEM, "no memory to serve '%s'", v->name);
	}
	s->volume = v;
	s->fd = fd;
	pthread_mutex_init(&s->aside_lock, NULL);
	sched_getaffinity(0, sizeof s->cpus, &s->cpus);
	s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	s->park_fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	s->nap_fd = eventfd(0, EFD_CLOEXEC);
	if (s->stop_fd < 0 || s->park_fd < 0 || s->nap_fd < 0)
		goto fail;
	if (notifier_start(s) < 0)
		alt_volume_set_watched(v, false);
	if (herd_begin(s, 0, v->uring ? 1 : v->threads) < 0)
		goto fail;
	/* Without the one, who is inside something slow would hold up all others; without the other, nothing ends in time. */
	s->has_monitor = !pthread_create(&s->monitor, NULL, herd_monitor, s);
	s->has_clock = v->timeout_ms && !pthread_create(&s->clock, NULL, clock_main, s);
	if (!s->has_monitor || (v->timeout_ms && !s->has_clock)) {
		session_free(s);
		return alt_error_set(err, -EAGAIN, "cannot start the threads that serve '%s': %s", v->name, strerror(EAGAIN));
	}
	*ret = s;
	return 0;
fail:
	why = errno;
	notifier_stop(s);
	notifier_await(s);
	fds_close(s);
	free(s);
	return alt_error_set(err, -EAGAIN, "cannot start the threads that serve '%s': %s", v->name, strerror(why));
}

int session_end_fd(const struct session *s)
{
	return s->stop_fd;
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
	op_cancel_all(s->volume);
	herd_join(s);
	while (!uring_quiet(s, 10))
		op_cancel_all(s->volume);
	op_cancel_all(s->volume);
	notifier_await(s);
	uring_end(s);
	herd_join(s); /* a ring that was refused has made it grow */
	fds_close(s);
	free(s);
}
