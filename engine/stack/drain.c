/* SPDX-License-Identifier: MIT */
/*
 * A detaching instance is taken out of the operations that are under way, by moving its frames that are WAITING, or OWED, to
 * OVER: the operation meets a frame that is over and goes by.
 *
 *   above the instance                     the operation goes by it, at once
 *   below, a wait for a lock               it may have no end: its post runs early, at once
 *   below, and it stays there              its post runs early after a second. What most end in is a moment, and whoever read
 *                                          through the instance reads the whole answer through it
 *   below, with parameters it changed      awaited: what went down as the instance made it comes up through it
 *   kept by the instance itself            awaited: teardown-start was there to end it
 *
 * What is awaited for long is told of, and then cancelled.   Source: the drain of FltDetachVolume, which runs posts early at
 * once, and cancels at once what has swapped buffers.
 */
#include "stack/dispatch.h"
#include <altitude/log.h>

#include <time.h>

/* In looks of 10 ms each. */
#define EARLY_LOOKS 100   /* from then on, posts run early */
#define REPORT_LOOKS 300  /* so often a drain says what it waits for */
#define CANCEL_LOOKS 900  /* from then on, what is waited for is cancelled */

void stack_leave(struct alt_instance *in)
{
	struct stack_volume *sv = in->volume->sv;
	bool awaited = atomic_load(&in->state) == INSTANCE_TEARDOWN;

	if (atomic_fetch_sub(&in->ops, 1) == 1 && awaited) {
		pthread_mutex_lock(&sv->lock);
		pthread_cond_broadcast(&sv->changed);
		pthread_mutex_unlock(&sv->lock);
	}
}

/* An operation that has not come down to the instance has nothing to do with it. */
static void waiting_drain(struct alt_instance *in)
{
	struct alt_volume *v = in->volume;
	unsigned taken = 0;

	pthread_mutex_lock(&v->inflight_lock);
	for (struct op *op = v->inflight; op; op = op->next)
		for (int i = 0; i < op->nframes; i++)
			taken += op->frames[i].in == in && frame_claim(&op->frames[i], FRAME_WAITING, FRAME_OVER);
	pthread_mutex_unlock(&v->inflight_lock);
	while (taken--)
		stack_leave(in);
}

void drain_meet(struct op *op)
{
	pthread_mutex_lock(&op->pub.volume->inflight_lock);
	pthread_mutex_unlock(&op->pub.volume->inflight_lock);
}

static struct op *owed_claim_locked(struct alt_instance *in, bool early, struct op_frame **ret)
{
	for (struct op *op = in->volume->inflight; op; op = op->next) {
		for (int i = 0; i < op->nframes; i++) {
			struct op_frame *f = &op->frames[i];

			if (f->in != in || atomic_load(&f->state) != FRAME_OWED)
				continue;
			if (!op_is_endless(op) && (!early || f->changed))
				continue;
			if (!frame_claim(f, FRAME_OWED, FRAME_IN_POST))
				continue;
			*ret = f;
			return op;
		}
	}
	return NULL;
}

/*
 * The post an instance is owed runs early, on a copy whose result is unknown: it may only free. The operation goes on
 * meanwhile, and may end: the copy has what never changes, and references of its own.
 */
static void copy_fill_locked(struct op *copy, struct op *op, const struct op_frame *f)
{
	copy->pub.code = op->pub.code;
	copy->pub.flags = ALT_OP_DRAINING | ALT_OP_POST;
	copy->pub.caller = op->pub.caller;
	copy->pub.p = f->params;
	copy->pub.node = op->pub.node;
	alt_node_ref(copy->pub.node);
	if (op->pub.file && !op_opens(op)) {
		copy->pub.file = op->pub.file;
		atomic_fetch_add(&copy->pub.file->refs, 1);
	}
	if (op->rq.params.other) {
		copy->rq.params.other = op->rq.params.other;
		alt_node_ref(copy->rq.params.other);
	}
	if (op->rq.params.other_file) {
		copy->rq.params.other_file = op->rq.params.other_file;
		atomic_fetch_add(&copy->rq.params.other_file->refs, 1);
	}
	alt_op_ref(&op->pub); /* the parameters are in its memory */
}

/* false: no more, or no memory, and the caller looks again. */
static bool owed_drain(struct alt_instance *in, bool early)
{
	struct alt_volume *v = in->volume;
	struct op *op, *copy = op_new(v);
	struct op_frame *f;

	if (!copy)
		return false;
	pthread_mutex_lock(&v->inflight_lock);
	op = owed_claim_locked(in, early, &f);
	if (op)
		copy_fill_locked(copy, op, f);
	pthread_mutex_unlock(&v->inflight_lock);
	if (op) {
		if (f->post && f->post(&copy->pub, in, f->ctx) != ALT_POST_FINISHED)
			op_broken(op, in, "a post-operation that is to drain keeps the operation");
		frame_over(f);
		alt_op_unref(&op->pub);
	}
	op_end(copy);
	return op;
}

static bool waits_for_locked(const struct alt_instance *in, const struct op *op, const char **where)
{
	bool ours = false;

	*where = in->volume->fs->name;
	for (int i = 0; i < op->nframes; i++) {
		int state = atomic_load(&op->frames[i].state);

		ours = ours || (op->frames[i].in == in && state != FRAME_OVER);
		if (state == FRAME_IN_PRE || state == FRAME_IN_POST)
			*where = op->frames[i].in->name;
	}
	return ours;
}

/* Who is being waited for, in words a person can act on. */
static void drain_report(struct alt_instance *in)
{
	struct alt_volume *v = in->volume;
	const char *where;

	pthread_mutex_lock(&v->inflight_lock);
	for (struct op *op = v->inflight; op; op = op->next)
		if (waits_for_locked(in, op, &where))
			alt_log(LOG_WARNING, "detaching '%s' from '%s' waits for '%s' of process %u, which is inside '%s'",
				in->name, v->name, alt_op_name(op->pub.code), op->pub.caller.pid, where);
	pthread_mutex_unlock(&v->inflight_lock);
}

/* What its caller could give up too: not a filter's own. Nobody hears of it when the page cache's write fails, or a release. */
static bool may_give_up(const struct op *op)
{
	static const uint64_t never = 1ull << ALT_OP_RELEASE | 1ull << ALT_OP_RELEASEDIR | 1ull << ALT_OP_FLUSH;

	return !(op->pub.flags & ALT_OP_GENERATED) && !(op->rq.params.bits & ALT_PARAM_WRITEBACK) && !(never >> op->pub.code & 1);
}

static void drain_cancel(struct alt_instance *in)
{
	struct alt_volume *v = in->volume;
	const char *where;
	struct op *op;

	do {
		pthread_mutex_lock(&v->inflight_lock);
		for (op = v->inflight; op; op = op->next)
			if (waits_for_locked(in, op, &where) && may_give_up(op) && !atomic_load(&op->cancelled))
				break;
		if (op)
			alt_op_ref(&op->pub);
		pthread_mutex_unlock(&v->inflight_lock);
		if (op) {
			op_cancel(op);
			alt_op_unref(&op->pub);
		}
	} while (op);
}

/* A leave that read the state just before it changed signals nobody: hence the look every 10 ms, which also drains anew. */
void stack_drain(struct alt_instance *in)
{
	struct stack_volume *sv = in->volume->sv;
	struct timespec until;

	for (unsigned looks = 0; atomic_load(&in->ops); looks++) {
		waiting_drain(in);
		while (owed_drain(in, looks >= EARLY_LOOKS))
			;
		if (looks % REPORT_LOOKS == REPORT_LOOKS - 1)
			drain_report(in);
		if (looks >= CANCEL_LOOKS)
			drain_cancel(in);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += 10000000;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		pthread_mutex_lock(&sv->lock);
		if (atomic_load(&in->ops))
			pthread_cond_timedwait(&sv->changed, &sv->lock, &until);
		pthread_mutex_unlock(&sv->lock);
	}
}
