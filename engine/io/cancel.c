/* SPDX-License-Identifier: MIT */
/*
 * Cancelling: the caller gave up (INTERRUPT), or the instance that holds the operation goes.
 * Whoever takes the routine out of the record under the lock owns it: it is called once or never.
 */
#include "io/io.h"
#include "base/base.h"
#include <altitude/log.h>

#include <errno.h>
#include <poll.h>

#define REPORT_LOOKS 5000 /* of 1 ms each */

int alt_op_set_cancel(struct alt_op *pub, void (*cancel)(struct alt_op *, void *), void *arg)
{
	struct op *op = (struct op *)pub;
	int r = 0;

	pthread_mutex_lock(&pub->volume->inflight_lock);
	if (atomic_load(&op->cancelled)) {
		r = -EINTR;
	} else {
		op->cancel = cancel;
		op->cancel_arg = arg;
	}
	pthread_mutex_unlock(&pub->volume->inflight_lock);
	return r;
}

bool alt_op_clear_cancel(struct alt_op *pub)
{
	struct op *op = (struct op *)pub;
	bool had;

	pthread_mutex_lock(&pub->volume->inflight_lock);
	had = op->cancel;
	op->cancel = NULL;
	pthread_mutex_unlock(&pub->volume->inflight_lock);
	return had;
}

bool alt_op_cancelled(const struct alt_op *pub)
{
	return atomic_load(&((struct op *)pub)->cancelled);
}

void alt_op_extend(struct alt_op *pub, uint32_t timeout_ms)
{
	struct op *op = (struct op *)pub;

	/* What a filter asks itself has no deadline, and no number to answer the kernel by. */
	if (op->unique && pub->volume->timeout_ms)
		atomic_store(&op->deadline_ms, now_ms() + timeout_ms);
}

static void cancel_unlock(struct op *op, struct alt_volume *v)
{
	void (*cancel)(struct alt_op *, void *) = op->cancel;
	void *arg = op->cancel_arg;
	unsigned turn;

	op->cancel = NULL;
	atomic_store(&op->cancelled, true);
	alt_op_ref(&op->pub);
	turn = gate_enter(&v->cancels); /* before it can be over */
	pthread_mutex_unlock(&v->inflight_lock);
	if (cancel)
		cancel(&op->pub, arg);
	alt_op_unref(&op->pub);
	gate_leave(&v->cancels, turn);
}

void cancels_wait(struct alt_volume *v)
{
	pthread_mutex_lock(&v->cancels_lock);
	gate_wait(&v->cancels);
	pthread_mutex_unlock(&v->cancels_lock);
}

void op_cancel(struct op *op)
{
	pthread_mutex_lock(&op->pub.volume->inflight_lock);
	cancel_unlock(op, op->pub.volume);
}

static void follow(struct alt_op *op, void *arg)
{
	struct op *sub = arg;

	op_cancel(sub);
	alt_op_unref(&sub->pub);
}

void op_follow(struct op *op, struct op *sub)
{
	alt_op_ref(&sub->pub);
	if (alt_op_set_cancel(&op->pub, follow, sub) < 0)
		follow(&op->pub, sub);
}

void op_followed(struct op *op, struct op *sub)
{
	if (alt_op_clear_cancel(&op->pub))
		alt_op_unref(&sub->pub);
}

static bool interrupt(struct alt_volume *v, uint64_t unique, bool early)
{
	pthread_mutex_lock(&v->inflight_lock);
	for (struct op *op = v->inflight; op; op = op->next) {
		if (op->unique != unique)
			continue;
		cancel_unlock(op, v);
		return true;
	}
	/* The oldest goes: most are of operations that were over. No number comes twice. */
	if (early)
		v->early[v->early_count++ % IO_EARLY_MAX] = unique;
	pthread_mutex_unlock(&v->inflight_lock);
	return false;
}

bool op_interrupt(struct alt_volume *v, uint64_t unique)
{
	return interrupt(v, unique, false);
}

void op_interrupt_early(struct alt_volume *v, uint64_t unique)
{
	interrupt(v, unique, true);
}

static void inflight_report(struct alt_volume *v)
{
	pthread_mutex_lock(&v->inflight_lock);
	for (struct op *op = v->inflight; op; op = op->next)
		alt_log(LOG_WARNING, "the end of '%s' waits for '%s' of process %u, kept by a filter or by file system '%s'",
			v->name, alt_op_name(op->pub.code), op->pub.caller.pid, v->fs->name);
	pthread_mutex_unlock(&v->inflight_lock);
}

void op_cancel_all(struct alt_volume *v)
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
			if (looks % REPORT_LOOKS == 0)
				inflight_report(v);
			poll(NULL, 0, 1);
		}
	}
}
