/* SPDX-License-Identifier: MIT */
/*
 * A detaching instance is taken out of the operations that are under way, by moving its frames that are WAITING, or OWED, to
 * OVER: the operation meets a frame that is over and goes by.
 *
 * An operation above the instance goes by it. One below is waited for, since its post may have bytes to turn back;
 * only a wait for a lock, which may have no end, gets its post early.
 */
#include "stack/dispatch.h"
#include <altitude/log.h>

#include <time.h>

#define REPORT_LOOKS 300 /* of 10 ms each: every three seconds a drain says what it waits for */

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

/*
 * The post an instance is owed runs early, on a copy whose result is unknown: it may only free. The operation goes on
 * meanwhile, and may end: the copy has what never changes, and references of its own.
 */
static struct op *drain_copy_locked(const struct op *op)
{
	struct op *copy = op_new(op->pub.volume);

	if (!copy)
		return NULL;
	copy->pub.code = op->pub.code;
	copy->pub.flags = ALT_OP_DRAINING | ALT_OP_POST;
	copy->pub.caller = op->pub.caller;
	copy->pub.node = op->pub.node;
	alt_node_ref(copy->pub.node);
	if (op_is_endless(op)) {
		copy->pub.file = op->pub.file;
		atomic_fetch_add(&copy->pub.file->refs, 1);
	}
	return copy;
}

static void frame_drain(const struct op *op, struct op_frame *f, struct op *copy)
{
	/* Since it was looked at, one that waited may have been called, and be owed a post it must get at its time. */
	if (frame_claim(f, FRAME_WAITING, FRAME_OVER)) {
		stack_leave(f->in);
	} else if (op_is_endless(op) && frame_claim(f, FRAME_OWED, FRAME_IN_POST)) {
		copy->pub.p = f->params;
		if (f->post && f->post(&copy->pub, f->in, f->ctx) != ALT_POST_FINISHED)
			op_broken(op, f->in, "a post-operation that is to drain keeps the operation");
		frame_over(f);
	}
}

static struct op *op_with_frame_locked(struct alt_volume *v, const struct alt_instance *in, struct op_frame **ret)
{
	for (struct op *op = v->inflight; op; op = op->next) {
		for (int i = 0; i < op->nframes; i++) {
			int state = atomic_load(&op->frames[i].state);

			if (op->frames[i].in != in ||
			    (state != FRAME_WAITING && !(state == FRAME_OWED && op_is_endless(op))))
				continue;
			*ret = &op->frames[i];
			return op;
		}
	}
	return NULL;
}

static void frames_drain(struct alt_instance *in)
{
	struct alt_volume *v = in->volume;
	struct op_frame *f = NULL;
	struct op *op, *copy;

	for (;;) {
		pthread_mutex_lock(&v->inflight_lock);
		op = op_with_frame_locked(v, in, &f);
		copy = op ? drain_copy_locked(op) : NULL;
		if (copy)
			alt_op_ref(&op->pub);
		pthread_mutex_unlock(&v->inflight_lock);
		if (!copy)
			return; /* none there, or no memory: the caller looks again */
		frame_drain(op, f, copy);
		op_end(copy);
		alt_op_unref(&op->pub);
	}
}

/* Who is being waited for, in words a person can act on. */
static void drain_report(struct alt_instance *in)
{
	struct alt_volume *v = in->volume;

	pthread_mutex_lock(&v->inflight_lock);
	for (struct op *op = v->inflight; op; op = op->next) {
		const char *where = v->fs->name;
		bool ours = false;

		for (int i = 0; i < op->nframes; i++) {
			int state = atomic_load(&op->frames[i].state);

			ours = ours || (op->frames[i].in == in && state != FRAME_OVER);
			if (state == FRAME_IN_PRE || state == FRAME_IN_POST)
				where = op->frames[i].in->name;
		}
		if (ours)
			alt_log(LOG_WARNING, "detaching '%s' from '%s' waits for '%s' of process %u, which is inside '%s'",
				in->name, v->name, alt_op_name(op->pub.code), op->pub.caller.pid, where);
	}
	pthread_mutex_unlock(&v->inflight_lock);
}

/* A leave that read the state just before it changed signals nobody: hence the look every 10 ms, which also drains anew. */
void stack_drain(struct alt_instance *in)
{
	struct stack_volume *sv = in->volume->sv;
	struct timespec until;
	int looks = 0;

	while (atomic_load(&in->ops)) {
		frames_drain(in);
		if (looks++ % REPORT_LOOKS == REPORT_LOOKS - 1)
			drain_report(in);
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
