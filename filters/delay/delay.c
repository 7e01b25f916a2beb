/* SPDX-License-Identifier: MIT */
/*
 * delay: parks chosen operations for a time, without holding a thread. A caller that gives up is let go at
 * once; detaching lets all of them go on.
 */
#include <altitude/filter.h>
#include <altitude/kit/ops.h>
#include <altitude/queue.h>

#include <errno.h>
#include <fnmatch.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct delay {
	struct alt_queue *queue;            /* in the order of due; each with its struct timespec */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_t timer;
	bool stop;                          /* [lock] */
	uint64_t count, cancelled;          /* [lock] */
	uint64_t ops;                       /* a bit for each code */
	uint64_t ms;
	const char *name;                   /* pattern of the files, or NULL */
};

static void delay_cancelled(struct alt_op *op, void *arg, void *data)
{
	struct delay *d = arg;

	(void)data;
	pthread_mutex_lock(&d->lock);
	d->cancelled++;
	pthread_mutex_unlock(&d->lock);
	if (op->code == ALT_OP_RELEASE || op->code == ALT_OP_RELEASEDIR) {
		alt_op_resume_pre(op, ALT_PRE_SUCCESS_NO_CALLBACK, NULL); /* never fails: the file must be closed */
		return;
	}
	op->status = -EINTR;
	alt_op_resume_pre(op, ALT_PRE_COMPLETE, NULL);
}

/* The first in the queue decides for all behind it; @arg learns when it is due. */
static bool is_due(const struct alt_op *op, void *data, void *arg)
{
	struct timespec *first = arg, now;

	(void)op;
	if (first->tv_sec || first->tv_nsec)
		return false;
	clock_gettime(CLOCK_MONOTONIC, &now);
	*first = *(struct timespec *)data;
	return first->tv_sec < now.tv_sec || (first->tv_sec == now.tv_sec && first->tv_nsec <= now.tv_nsec);
}

/* Let go on what is due; false: nothing waits. @ret  when the next one is due. */
static bool delay_resume_due(struct delay *d, struct timespec *ret)
{
	struct alt_op *op;

	do {
		*ret = (struct timespec){ 0 };
		op = alt_queue_take(d->queue, is_due, ret, NULL);
		if (op)
			alt_op_resume_pre(op, ALT_PRE_SUCCESS_NO_CALLBACK, NULL);
	} while (op);
	return ret->tv_sec || ret->tv_nsec;
}

static void *delay_timer(void *arg)
{
	struct delay *d = arg;
	struct timespec next;
	uint64_t seen;

	pthread_mutex_lock(&d->lock);
	while (!d->stop) {
		bool waits;

		seen = d->count;
		pthread_mutex_unlock(&d->lock);
		waits = delay_resume_due(d, &next);
		pthread_mutex_lock(&d->lock);
		if (waits)
			pthread_cond_clockwait(&d->wake, &d->lock, CLOCK_MONOTONIC, &next);
		else
			while (!d->stop && d->count == seen)
				pthread_cond_wait(&d->wake, &d->lock);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

static struct timespec after(uint64_t ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += ms % 1000 * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	return t;
}

static bool is_chosen(const struct delay *d, const struct alt_op *op)
{
	char path[4096], *slash;

	if (!(d->ops >> op->code & 1))
		return false;
	if (!d->name)
		return true;
	if (alt_node_path(op->node, path, sizeof(path)) < 0)
		return false;
	slash = strrchr(path, '/');
	return !fnmatch(d->name, op->p->name && *op->p->name ? op->p->name : slash ? slash + 1 : path, 0);
}

static enum alt_pre delay_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	struct delay *d = alt_instance_data(in);
	struct timespec *due;
	int r;

	(void)ctx;
	if (!is_chosen(d, op) || !(due = alt_op_alloc(op, sizeof(*due))))
		return ALT_PRE_SUCCESS_NO_CALLBACK;
	pthread_mutex_lock(&d->lock);           /* or a later one could be first in the queue */
	*due = after(d->ms);
	r = alt_queue_insert(d->queue, op, due);
	if (!r) {
		d->count++;
		pthread_cond_signal(&d->wake);
	}
	pthread_mutex_unlock(&d->lock);
	if (!r)
		return ALT_PRE_PENDING;
	if (r != -EINTR)
		return ALT_PRE_SUCCESS_NO_CALLBACK; /* detaching, or no memory: no delay */
	op->status = r;
	return ALT_PRE_COMPLETE;
}

static void delay_stats(struct alt_instance *in, struct alt_report *to)
{
	struct delay *d = alt_instance_data(in);
	unsigned long long count, cancelled;

	pthread_mutex_lock(&d->lock);
	count = d->count;
	cancelled = d->cancelled;
	pthread_mutex_unlock(&d->lock);
	alt_report_line(to, "delayed %llu", count);
	alt_report_line(to, "cancelled %llu", cancelled);
}

static int delay_start(struct delay *d, struct alt_instance *in, struct alt_error *err)
{
	const char *ops = alt_instance_option(in, "op");
	int r = alt_ops_parse("delay", ops ? ops : "", &d->ops, err);

	if (!r)
		r = alt_instance_option_u64(in, "ms", 100, &d->ms, err);
	if (!r && d->ms > 86400000)
		r = alt_error_set(err, -EINVAL, "delay: ms is at most 86400000, a day");
	d->name = alt_instance_option(in, "name");
	if (d->name && !*d->name)
		d->name = NULL;
	if (!r && (r = -pthread_create(&d->timer, NULL, delay_timer, d)))
		alt_error_set(err, r, "delay: cannot start a thread");
	return r;
}

static void delay_end(struct delay *d)
{
	alt_queue_free(d->queue);
	pthread_cond_destroy(&d->wake);
	pthread_mutex_destroy(&d->lock);
}

static int delay_setup(struct alt_instance *in, uint32_t flags, struct alt_error *err)
{
	struct delay *d = alt_instance_data(in);
	int r;

	(void)flags;
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->wake, NULL);
	d->queue = alt_queue_new(delay_cancelled, d);
	r = d->queue ? delay_start(d, in, err) : alt_error_set(err, -ENOMEM, "delay: no memory");
	if (r < 0)
		delay_end(d);
	return r;
}

static void delay_teardown_start(struct alt_instance *in, uint32_t reason)
{
	struct delay *d = alt_instance_data(in);
	struct alt_op *op;

	(void)reason;
	alt_queue_disable(d->queue);
	while ((op = alt_queue_take(d->queue, NULL, NULL, NULL)))
		alt_op_resume_pre(op, ALT_PRE_SUCCESS_NO_CALLBACK, NULL);
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
	delay_end(d);
}

static const struct alt_option options[] = {
	{ "op", "NAME", "operations that wait, several with ';' between (needed)" },
	{ "ms", "N", "milliseconds (default: 100)" },
	{ "name", "GLOB", "only of files with such a name (default: all)" },
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
	.instance_size = sizeof(struct delay),
	.setup = delay_setup,
	.teardown_start = delay_teardown_start,
	.teardown_complete = delay_teardown_complete,
	.stats = delay_stats,
};

ALT_FILTER(registration);
