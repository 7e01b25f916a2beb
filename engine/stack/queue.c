/* SPDX-License-Identifier: MIT */
/*
 * Cancel-safe queues.
 *
 * Two may want an operation at once: who takes it out, and its cancel routine. The taker has it when it gets the
 * routine back (alt_op_clear_cancel); a routine that has begun waits for the queue's lock before it ends the
 * operation, so whatever is in the list is alive.
 */
#include <altitude/filter.h>
#include <altitude/queue.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>

struct entry {
	TAILQ_ENTRY(entry) next;
	struct alt_queue *queue;
	struct alt_op *op;
	void *data;
	bool listed;                     /* [queue->lock] */
};

struct alt_queue {
	pthread_mutex_t lock;            /* taken before an operation's cancel lock */
	TAILQ_HEAD(, entry) entries;     /* [lock] oldest first */
	unsigned count;                  /* [lock] */
	bool disabled;                   /* [lock] */
	alt_queue_cancelled_fn *cancelled;
	void *arg;
};

static void end_interrupted(struct alt_op *op, void *arg, void *data)
{
	op->status = -EINTR;
	alt_op_resume_pre(op, ALT_PRE_COMPLETE, NULL);
}

struct alt_queue *alt_queue_new(alt_queue_cancelled_fn *cancelled, void *arg)
{
	struct alt_queue *q = calloc(1, sizeof *q);

	if (!q)
		return NULL;
	pthread_mutex_init(&q->lock, NULL);
	TAILQ_INIT(&q->entries);
	q->cancelled = cancelled ? cancelled : end_interrupted;
	q->arg = arg;
	return q;
}

void alt_queue_free(struct alt_queue *q)
{
	if (!q)
		return;
	pthread_mutex_destroy(&q->lock);
	free(q);
}

static void entry_remove_locked(struct alt_queue *q, struct entry *e)
{
	TAILQ_REMOVE(&q->entries, e, next);
	e->listed = false;
	q->count--;
}

static void entry_cancel(struct alt_op *op, void *arg)
{
	struct entry *e = arg;
	struct alt_queue *q = e->queue;

	pthread_mutex_lock(&q->lock);
	if (e->listed)
		entry_remove_locked(q, e);
	pthread_mutex_unlock(&q->lock);
	q->cancelled(op, q->arg, e->data);
}

int alt_queue_insert(struct alt_queue *q, struct alt_op *op, void *data)
{
	struct entry *e = alt_op_alloc(op, sizeof *e);
	int r = 0;

	if (!e)
		return -ENOMEM;
	*e = (struct entry){ .queue = q, .op = op, .data = data };
	pthread_mutex_lock(&q->lock);
	if (q->disabled)
		r = -ESHUTDOWN;
	else
		r = alt_op_set_cancel(op, entry_cancel, e);
	if (!r) {
		TAILQ_INSERT_TAIL(&q->entries, e, next);
		e->listed = true;
		q->count++;
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

struct alt_op *alt_queue_take(struct alt_queue *q, alt_queue_match_fn *match, void *arg, void **ret_data)
{
	struct entry *e, *following;
	struct alt_op *op = NULL;

	pthread_mutex_lock(&q->lock);
	for (e = TAILQ_FIRST(&q->entries); e && !op; e = following) {
		following = TAILQ_NEXT(e, next);
		if (match && !match(e->op, e->data, arg))
			continue;
		entry_remove_locked(q, e);
		if (!alt_op_clear_cancel(e->op))
			continue;                /* its routine has begun, and ends it */
		op = e->op;
		if (ret_data)
			*ret_data = e->data;
	}
	pthread_mutex_unlock(&q->lock);
	return op;
}

void alt_queue_disable(struct alt_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->disabled = true;
	pthread_mutex_unlock(&q->lock);
}

void alt_queue_enable(struct alt_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->disabled = false;
	pthread_mutex_unlock(&q->lock);
}

unsigned alt_queue_count(struct alt_queue *q)
{
	unsigned n;

	pthread_mutex_lock(&q->lock);
	n = q->count;
	pthread_mutex_unlock(&q->lock);
	return n;
}
