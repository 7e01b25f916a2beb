/* SPDX-License-Identifier: MIT */
/*
 * delay: parks chosen operations for a time, without holding a thread. A caller that gives up is let go at
 * once; detaching lets all of them go on.
 *
 * Who takes an operation from the queue under the lock, having got its cancel routine back, finishes it.
 * A cancel routine that has begun waits for the lock before it finishes the operation, so what is in the
 * queue is alive.
 */
#include <altitude/filter.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

struct parked {
	TAILQ_ENTRY(parked) next;
	struct alt_op *op;
	struct delay *delay;
	struct timespec due;
	bool queued;
};
TAILQ_HEAD(queue, parked);

struct delay {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_t timer;
	struct queue queue;                 /* [lock] in the order of due */
	bool closing, stop;                 /* [lock] */
	uint64_t count, cancelled;          /* [lock] */
	uint64_t ops;                       /* a bit for each code */
	uint64_t ms;
};

static void queue_remove(struct queue *queue, struct parked *p)
{
	TAILQ_REMOVE(queue, p, next);
	p->queued = false;
}

static void delay_cancel(struct alt_op *op, void *arg)
{
	struct parked *p = arg;
	struct delay *d = p->delay;

	pthread_mutex_lock(&d->lock);
	if (p->queued)
		queue_remove(&d->queue, p);
	d->cancelled++;
	pthread_mutex_unlock(&d->lock);
	op->status = -EINTR;
	alt_op_resume_pre(op, ALT_PRE_COMPLETE, NULL);
}

/* Take from the queue what is due (or everything) and is not being cancelled. */
static void queue_take_locked(struct delay *d, const struct timespec *now, struct queue *ret)
{
	struct parked *p;

	while ((p = TAILQ_FIRST(&d->queue))) {
		if (now && (p->due.tv_sec > now->tv_sec ||
			    (p->due.tv_sec == now->tv_sec && p->due.tv_nsec > now->tv_nsec)))
			break;
		queue_remove(&d->queue, p);
		if (alt_op_clear_cancel(p->op))
			TAILQ_INSERT_TAIL(ret, p, next);
	}
}

/* The record is the operation's memory: it may be gone as soon as the operation goes on. */
static void queue_resume(struct queue *queue)
{
	struct parked *p;

	while ((p = TAILQ_FIRST(queue))) {
		TAILQ_REMOVE(queue, p, next);
		alt_op_resume_pre(p->op, ALT_PRE_SUCCESS_NO_CALLBACK, NULL);
	}
}

static void *delay_timer(void *arg)
{
	struct queue due = TAILQ_HEAD_INITIALIZER(due);
	struct delay *d = arg;
	struct timespec now;

	pthread_mutex_lock(&d->lock);
	while (!d->stop) {
		struct parked *first = TAILQ_FIRST(&d->queue);
		struct timespec until;

		if (first) {
			until = first->due;         /* the record may go while we wait */
			pthread_cond_clockwait(&d->wake, &d->lock, CLOCK_MONOTONIC, &until);
		} else {
			pthread_cond_wait(&d->wake, &d->lock);
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
		queue_take_locked(d, &now, &due);
		pthread_mutex_unlock(&d->lock);
		queue_resume(&due);
		pthread_mutex_lock(&d->lock);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

static void parked_due(struct parked *p, uint64_t ms)
{
	clock_gettime(CLOCK_MONOTONIC, &p->due);
	p->due.tv_sec += ms / 1000;
	p->due.tv_nsec += ms % 1000 * 1000000;
	if (p->due.tv_nsec >= 1000000000) {
		p->due.tv_sec++;
		p->due.tv_nsec -= 1000000000;
	}
}

static enum alt_pre delay_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	struct delay *d = alt_instance_data(in);
	enum alt_pre answer = ALT_PRE_PENDING;
	struct parked *p;

	(void)ctx;
	if (!(d->ops >> op->code & 1) || !(p = alt_op_alloc(op, sizeof(*p))))
		return ALT_PRE_SUCCESS_NO_CALLBACK;
	*p = (struct parked){ .op = op, .delay = d };
	pthread_mutex_lock(&d->lock);
	if (d->closing) {
		answer = ALT_PRE_SUCCESS_NO_CALLBACK;
	} else if (alt_op_set_cancel(op, delay_cancel, p) < 0) {
		op->status = -EINTR;
		answer = ALT_PRE_COMPLETE;
	} else {
		parked_due(p, d->ms);
		p->queued = true;
		TAILQ_INSERT_TAIL(&d->queue, p, next);
		d->count++;
		pthread_cond_signal(&d->wake);
	}
	pthread_mutex_unlock(&d->lock);
	return answer;
}

static void delay_stats(struct alt_instance *in, void (*line)(void *arg, const char *text), void *arg)
{
	struct delay *d = alt_instance_data(in);
	uint64_t count, cancelled;
	char text[64];

	pthread_mutex_lock(&d->lock);
	count = d->count;
	cancelled = d->cancelled;
	pthread_mutex_unlock(&d->lock);
	snprintf(text, sizeof(text), "delayed %llu", (unsigned long long)count);
	line(arg, text);
	snprintf(text, sizeof(text), "cancelled %llu", (unsigned long long)cancelled);
	line(arg, text);
}

/* "read;write" as a set of bits, one for each code. */
static int parse_ops(const char *text, uint64_t *ret, struct alt_error *err)
{
	char word[32];
	size_t len;

	for (*ret = 0; *text; text += len + (text[len] == ';')) {
		enum alt_op_code code;

		len = strcspn(text, ";");
		snprintf(word, sizeof(word), "%.*s", (int)len, text);
		code = alt_op_find(word);
		if (code == ALT_OP_END)
			return alt_error_set(err, -EINVAL, "delay: op '%s' is no operation", word);
		*ret |= 1ull << code;
	}
	return *ret ? 0 : alt_error_set(err, -EINVAL, "delay: say which operations: op=NAME");
}

static int delay_start(struct delay *d, struct alt_instance *in, struct alt_error *err)
{
	const char *ops = alt_instance_option(in, "op");
	int r = parse_ops(ops ? ops : "", &d->ops, err);

	if (!r)
		r = alt_instance_option_u64(in, "ms", 100, &d->ms, err);
	if (!r && d->ms > 86400000)
		r = alt_error_set(err, -EINVAL, "delay: ms is at most 86400000, a day");
	if (!r && (r = -pthread_create(&d->timer, NULL, delay_timer, d)))
		alt_error_set(err, r, "delay: cannot start a thread");
	return r;
}

static int delay_setup(struct alt_instance *in, uint32_t flags, struct alt_error *err)
{
	struct delay *d = calloc(1, sizeof(*d));
	int r;

	(void)flags;
	if (!d)
		return alt_error_set(err, -ENOMEM, "delay: no memory");
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->wake, NULL);
	TAILQ_INIT(&d->queue);
	r = delay_start(d, in, err);
	if (r < 0) {
		free(d);
		return r;
	}
	alt_instance_set_data(in, d);
	alt_instance_set_report(in, delay_stats, NULL);
	return 0;
}

static void delay_teardown_start(struct alt_instance *in, uint32_t reason)
{
	struct queue all = TAILQ_HEAD_INITIALIZER(all);
	struct delay *d = alt_instance_data(in);

	(void)reason;
	pthread_mutex_lock(&d->lock);
	d->closing = true;
	queue_take_locked(d, NULL, &all);
	pthread_mutex_unlock(&d->lock);
	queue_resume(&all);
}

static void delay_teardown_complete(struct alt_instance *in, uint32_t reason)
{
	struct delay *d = alt_instance_data(in);

	(void)reason;
	pthread_mutex_lock(&d->lock);
	d->stop = true;
	pthread_cond_signal(&d->wake);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->timer, NULL);
	pthread_cond_destroy(&d->wake);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static const struct alt_option options[] = {
	{ "op", "NAME", "operations that wait, several with ';' between (needed)" },
	{ "ms", "N", "milliseconds (default: 100)" },
	{ NULL, NULL, NULL }
};

#define PRE(code) { ALT_OP_##code, delay_pre, NULL, 0 }
static const struct alt_callback callbacks[] = {
	PRE(LOOKUP), PRE(GETATTR), PRE(SETATTR), PRE(ACCESS), PRE(READLINK), PRE(MKNOD),
	PRE(MKDIR), PRE(SYMLINK), PRE(LINK), PRE(UNLINK), PRE(RMDIR), PRE(RENAME),
	PRE(CREATE), PRE(TMPFILE), PRE(OPEN), PRE(READ), PRE(WRITE), PRE(FLUSH),
	PRE(RELEASE), PRE(FSYNC), PRE(OPENDIR), PRE(READDIR), PRE(RELEASEDIR), PRE(FSYNCDIR),
	PRE(GETXATTR), PRE(SETXATTR), PRE(LISTXATTR), PRE(REMOVEXATTR), PRE(GETLK),
	PRE(SETLK), PRE(FALLOCATE), PRE(LSEEK), PRE(COPY_FILE_RANGE), PRE(IOCTL), PRE(POLL),
	PRE(BMAP), PRE(STATFS), PRE(SYNCFS),
	{ .code = ALT_OP_END }
};

static const struct alt_filter_registration registration = {
	.size = sizeof(registration),
	.name = "delay",
	.altitude = "370055",
	.options = options,
	.callbacks = callbacks,
	.setup = delay_setup,
	.teardown_start = delay_teardown_start,
	.teardown_complete = delay_teardown_complete,
};

ALT_FILTER(registration);
