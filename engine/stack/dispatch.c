/* SPDX-License-Identifier: MIT */
/*
 * The walk of one operation. Not a recursion but a small machine over the operation's own record, so that it can stop
 * at any place and go on from another thread.
 *
 *   (SHARE ->) DOWN --pre--> DOWN ... --> SERVE --> UP --post--> UP ... --> DONE
 *          |                                 ^
 *          +--complete, refused, no memory---+
 *
 * dispatch.h has the states of the frames it goes by.
 *
 * Pending: a callback that keeps the operation and whoever resumes it race. One of them finds the other's mark:
 *        RUNNING --return of the callback--> PENDED   then the resumer runs the machine
 *        RUNNING --resume--> RESUMED                  then the returning thread goes on
 * Anything else is a second completion, and the verifier's business.
 */
#include "stack/dispatch.h"
#include <altitude/log.h>

#include <errno.h>
#include <poll.h>
#include <string.h>

enum pend { PEND_NONE, PEND_RUNNING, PEND_PENDED, PEND_AWAITED, PEND_RESUMED };

static void run(struct op *op);
static bool up_go_on(struct op *op);

/* By its node's owner, past all filters. */
static void serve_alone(struct op *op)
{
	op->phase = PHASE_SERVE;
	op_begin(op);
	run(op);
}

/* ---- pending ---- */

static void pend_begin(struct op *op)
{
	atomic_store(&op->pend, PEND_RUNNING);
}

/* The callback gave the operation back itself: nobody may resume it. */
static void pend_not(struct op *op, const struct alt_instance *in)
{
	if (atomic_exchange(&op->pend, PEND_NONE) == PEND_RESUMED)
		op_broken(op, in, "completed, and not kept");
}

/* Somebody above wants its post on this thread; a wait for a lock has no end and is never synchronized. */
static bool synchronized(const struct op *op)
{
	if (op_is_endless(op))
		return false;
	for (int i = 0; i < op->nframes; i++)
		if (op->frames[i].sync && atomic_load(&op->frames[i].state) == FRAME_OWED)
			return true;
	return false;
}

/*
 * The callback kept the operation. true: it is resumed, go on; false: it is somebody else's now. Its name is noted before: a
 * second completion may come when the instance has gone.
 */
static bool pend_keep(struct op *op, const struct alt_instance *in)
{
	bool stay = synchronized(op);
	int was = PEND_RUNNING;

	strncpy(op->keeper, in ? in->name : "", sizeof op->keeper - 1);
	if (!stay)
		return !atomic_compare_exchange_strong(&op->pend, &was, PEND_PENDED);
	sem_init(&op->resumed, 0, 0);
	if (atomic_compare_exchange_strong(&op->pend, &was, PEND_AWAITED))
		while (sem_wait(&op->resumed) < 0)
			;
	return true;
}

/* true: the machine is to be run by the caller. @filters: only filters have a reason to call */
static bool pend_resume(struct op *op, bool filters)
{
	int was = atomic_exchange(&op->pend, PEND_RESUMED);

	if (was == PEND_AWAITED)
		sem_post(&op->resumed);
	if (was == PEND_RUNNING || was == PEND_AWAITED)
		return false;
	if (was == PEND_PENDED)
		return true;
	if (op->keeper[0])
		op_broken_by(op, op->keeper, "completed twice");
	else
		op_broken(op, filters ? op_in_turn(op) : NULL, "completed twice, or never kept");
	return false;
}

/* ---- down ---- */

static void turn_round(struct op *op, int status)
{
	op->pub.status = status;
	op->phase = PHASE_UP;
}

static bool never_fails(const struct op *op)
{
	return op->pub.code == ALT_OP_RELEASE || op->pub.code == ALT_OP_RELEASEDIR;
}

/*
 * It waits on the thread it was called on. Where that one serves, everybody whose requests come to it may wait with it, and
 * over a ring nobody replaces it: the next ones are called on workers.
 */
static void synchronize_learn(const struct op *op, struct alt_instance *in)
{
	uint64_t bit = 1ull << op->pub.code;

	if (op_is_endless(op) || !(op->pub.flags & ALT_OP_FAST) || (atomic_fetch_or(&in->synchronizes, bit) & bit))
		return;
	alt_log(LOG_NOTICE, "filter '%s' synchronizes '%s' and does not say so: give its callback ALT_CALLBACK_SYNCHRONIZES",
		in->filter->name, alt_op_name(op->pub.code));
}

static bool is_status(int status)
{
	return status <= 0 && status > -512;
}

/* What a filter made of the status. Success of an open, or of what makes a node, is the owner's to give: only it has made one. */
static void status_check(struct op *op, const struct alt_instance *in)
{
	static const uint64_t nodes = 1ull << ALT_OP_MKNOD | 1ull << ALT_OP_MKDIR | 1ull << ALT_OP_SYMLINK | 1ull << ALT_OP_LINK;

	if (never_fails(op)) {
		if (op->pub.status)
			op_broken(op, in, "it cannot fail");
		op->pub.status = 0;
	} else if (!is_status(op->pub.status)) {
		op_broken(op, in, "its status is neither 0 nor -errno");
		op->pub.status = -EIO;
	} else if (!op->pub.status && !op->opened && op_opens(op)) {
		op_broken(op, in, "open succeeded without an open file; a filter may complete it only with an error");
		op->pub.status = -EIO;
	} else if (!op->pub.status && !op->pub.r.node && (nodes >> op->pub.code & 1)) {
		op_broken(op, in, "success without a node; a filter may complete it only with an error");
		op->pub.status = -EIO;
	}
}

/* What the pre decided, at once or when it was resumed. */
static void pre_decided(struct op *op, struct op_frame *f, int decision, void *ctx)
{
	int r;

	if (op->edit)
		params_commit(op);
	if (ctx && (decision == ALT_PRE_SUCCESS_NO_CALLBACK || decision == ALT_PRE_COMPLETE || !f->post))
		op_broken(op, f->in, "a completion context, and no post-operation to free it");
	else if (decision == ALT_PRE_SYNCHRONIZE && !f->post)
		op_broken(op, f->in, "synchronized, and no post-operation that would run on this thread");
	switch (decision) {
	case ALT_PRE_SYNCHRONIZE:
	case ALT_PRE_SUCCESS_WITH_CALLBACK:
		f->ctx = ctx;
		f->sync = decision == ALT_PRE_SYNCHRONIZE && f->post;
		if (f->sync)
			synchronize_learn(op, f->in);
		/* fall through */
	case ALT_PRE_SUCCESS_NO_CALLBACK:
		if (decision == ALT_PRE_SUCCESS_NO_CALLBACK)
			f->post = NULL;
		r = f->in->filter->reg->name_down ? view_names(op, f) : 0;
		if (r < 0)
			turn_round(op, r);
		else if (op->edit)
			params_commit(op);
		if (f->post || frame_shows(f))
			atomic_store(&f->state, FRAME_OWED);
		else
			frame_over(f);
		break;
	case ALT_PRE_COMPLETE:
		r = op->pub.status;
		status_check(op, f->in);
		frame_over(f);
		if (!r || !never_fails(op))
			turn_round(op, op->pub.status);
		break;
	default:
		op_broken(op, f->in, decision == ALT_PRE_DISALLOW_FASTIO ? "DISALLOW_FASTIO for an operation that may block" :
								       "unknown answer of a pre-operation");
		frame_over(f);
		if (!never_fails(op))
			turn_round(op, -EIO);
	}
	op->at++;
	if (op->phase == PHASE_UP)
		op->at--;
}

/*
 * What may block for long goes on where nobody's next request waits behind it. Without a worker it goes on here:
 * slower for others, still right.
 */
static void worker_run(void *arg)
{
	run(arg);
}

static bool to_worker(struct op *op)
{
	op->pub.flags = (op->pub.flags & ~(uint32_t)ALT_OP_FAST) | ALT_OP_REISSUED;
	if (synchronized(op))
		return true; /* a post above is to run on this thread, which waits anyway */
	return !workers_give(op->pub.volume, worker_run, op);
}

/* Asked again from a worker. FAST is off the second time; a filter that says it again would ask for ever. */
static bool pre_again(struct op *op, struct op_frame *f)
{
	op->edit = NULL;
	op->pub.flags &= ~(uint32_t)ALT_OP_DIRTY;
	if (!(op->pub.flags & ALT_OP_FAST)) {
		pre_decided(op, f, ALT_PRE_DISALLOW_FASTIO, NULL);
		return true;
	}
	atomic_store(&f->state, FRAME_WAITING);
	return to_worker(op);
}

static bool step_down(struct op *op)
{
	struct op_frame *f = &op->frames[op->at];
	void *ctx = NULL;
	int decision;

	if (op->at == op->nframes) {
		op->phase = PHASE_SERVE;
		return true;
	}
	if (!frame_claim(f, FRAME_WAITING, FRAME_IN_PRE)) {
		op->at++;
		return true;
	}
	f->params = op->pub.p;
	if (!f->pre) {
		pre_decided(op, f, ALT_PRE_SUCCESS_WITH_CALLBACK, NULL);
		return true;
	}
	op->pub.status = 0;
	if (f->slow && (op->pub.flags & ALT_OP_FAST)) {
		atomic_store(&f->state, FRAME_WAITING);
		return to_worker(op);
	}
	pend_begin(op);
	decision = f->pre(&op->pub, f->in, &ctx);
	if (decision == ALT_PRE_DISALLOW_FASTIO) {
		pend_not(op, f->in);
		return pre_again(op, f);
	}
	if (decision == ALT_PRE_PENDING) {
		if (!pend_keep(op, f->in))
			return false;
		decision = op->decision;
		ctx = op->decision_ctx;
	} else {
		pend_not(op, f->in);
	}
	pre_decided(op, f, decision, ctx);
	return true;
}

void alt_op_resume_pre(struct alt_op *pub, enum alt_pre decision, void *ctx)
{
	struct op *op = (struct op *)pub;

	if (decision != ALT_PRE_SUCCESS_WITH_CALLBACK && decision != ALT_PRE_SUCCESS_NO_CALLBACK && decision != ALT_PRE_COMPLETE)
		op_broken(op, op_in_turn(op), "resumed with an answer that cannot be given later");
	alt_op_clear_cancel(pub);
	op->decision = decision;
	op->decision_ctx = ctx;
	if (!pend_resume(op, true))
		return;
	pre_decided(op, &op->frames[op->at], decision, ctx);
	run(op);
}

/* ---- serve ---- */

/* What a file system without the handler answers; see filesystem.h. */
static int absent(struct op *op)
{
	switch (op->pub.code) {
	case ALT_OP_OPEN: case ALT_OP_OPENDIR: case ALT_OP_RELEASE: case ALT_OP_RELEASEDIR: case ALT_OP_FLUSH:
	case ALT_OP_FSYNC: case ALT_OP_FSYNCDIR: case ALT_OP_ACCESS: case ALT_OP_STATFS: case ALT_OP_SYNCFS:
		return 0;
	case ALT_OP_IOCTL:
		return -ENOTTY;
	case ALT_OP_CREATE: case ALT_OP_MKNOD: case ALT_OP_MKDIR: case ALT_OP_SYMLINK: case ALT_OP_LINK:
	case ALT_OP_UNLINK: case ALT_OP_RMDIR: case ALT_OP_RENAME: case ALT_OP_SETATTR: case ALT_OP_WRITE:
		return -EPERM;
	default:
		return -EOPNOTSUPP;
	}
}

/* The file that was opened is not handed on. What is to be run releases it, and takes its reference. */
static struct op *open_undo(struct op *op)
{
	struct alt_file *file = op->pub.r.file;

	op->opened = false;
	op->pub.r.file = NULL;
	if (op->pub.file == file)
		op->pub.file = NULL;
	return op_release(file, ALT_OP_GENERATED);
}

static void served(struct op *op, int status)
{
	if (!is_status(status)) {
		op_broken(op, NULL, "the handler's answer is neither 0, -errno nor ALT_PENDING");
		status = -EIO;
	}
	op->pub.status = never_fails(op) ? 0 : status;
	op_settle(op);
	if (op->pub.status < 0 && op->opened)
		serve_alone(open_undo(op)); /* no filter has seen it succeed */
	if (op->pub.code == ALT_OP_RENAME)
		atomic_fetch_add(&op->pub.volume->moves_over, 1);
	op->phase = PHASE_UP;
	op->at = op->nframes - 1;
}

static bool step_serve(struct op *op)
{
	alt_handler *handler = op->pub.node->owner->ops[op->pub.code];
	int r;

	if ((op->pub.node->owner->flags & ALT_FS_SLOW) && (op->pub.flags & ALT_OP_FAST))
		return to_worker(op);
	if (atomic_load(&op->pub.volume->no_open) && !op->keep_node && share_keeps(op)) {
		op->phase = PHASE_SHARE;
		return true;
	}
	r = op_file_make(op);
	if (r < 0) {
		served(op, r);
		return true;
	}
	if (op->pub.code == ALT_OP_RENAME)
		atomic_fetch_add(&op->pub.volume->moves_begun, 1);
	pend_begin(op);
	r = handler ? handler(&op->pub) : absent(op);
	if (r == ALT_PENDING) {
		if (!pend_keep(op, NULL))
			return false;
		r = op->completed;
	} else {
		pend_not(op, NULL);
	}
	served(op, r);
	return true;
}

void alt_op_complete(struct alt_op *pub, int status)
{
	struct op *op = (struct op *)pub;

	alt_op_clear_cancel(pub);
	op->completed = status;
	if (!pend_resume(op, false))
		return;
	served(op, status);
	run(op);
}

/* ---- up ---- */

/*
 * The post is over. One that turns a success into a failure does not undo what was done; an open it refused is
 * released by those who opened it, below.   Source: FltCancelFileOpen.
 */
static void post_over(struct op *op, struct op_frame *f)
{
	status_check(op, f->in);
	if (op->pub.status < 0 && op->opened)
		stack_run(open_undo(op), f->in);
	frame_over(f);
	op->at--;
}

static void looked(struct op *more)
{
	struct op *op = more->done_arg;

	op_followed(op, more);
	view_more(op, more);
	op_end(more);
	if (pend_resume(op, false) && up_go_on(op))
		run(op);
}

/*
 * What is seen above the frame. When that takes another operation, who answers it may be the one that brought us here, so nobody
 * waits for it. false: it goes on when it is there.
 */
static bool up_look(struct op *op, const struct op_frame *f)
{
	struct op *more;

	while ((more = view_answer(op, f))) {
		more->done = looked;
		more->done_arg = op;
		pend_begin(op);
		op_follow(op, more);
		stack_run(more, f->in);
		if (!pend_keep(op, NULL))
			return false;
	}
	return true;
}

/* The frame in turn: what is seen above it, then its post. false: it is somebody else's now. */
static bool up_go_on(struct op *op)
{
	struct op_frame *f = &op->frames[op->at];
	int answer;

	if (frame_shows(f) && !up_look(op, f))
		return false;
	if (f->post) {
		pend_begin(op);
		answer = f->post(&op->pub, f->in, f->ctx);
		if (answer != ALT_POST_FINISHED && answer != ALT_POST_MORE_PROCESSING)
			op_broken(op, f->in, "unknown answer of a post-operation");
		if (answer != ALT_POST_MORE_PROCESSING)
			pend_not(op, f->in);
		else if (!pend_keep(op, f->in))
			return false;
	}
	post_over(op, f);
	return true;
}

static bool step_up(struct op *op)
{
	struct op_frame *f;

	if (op->at < 0) {
		op->phase = PHASE_DONE;
		return true;
	}
	f = &op->frames[op->at];
	if (!frame_claim(f, FRAME_OWED, FRAME_IN_POST)) {
		if (atomic_load(&f->state) == FRAME_IN_POST)
			drain_meet(op);
		op->at--;
		return true;
	}
	op->pub.p = f->params;
	op->pub.flags |= ALT_OP_POST;
	return up_go_on(op);
}

void alt_op_resume_post(struct alt_op *pub)
{
	struct op *op = (struct op *)pub;

	alt_op_clear_cancel(pub);
	if (!pend_resume(op, true))
		return;
	post_over(op, &op->frames[op->at]);
	run(op);
}

/* ---- the machine ---- */

static void opened(struct op *open)
{
	struct op *op = open->done_arg;

	if (!op->keep_node)
		op_followed(op, open);
	share_opened(op, open);
	op_end(open);
	if (pend_resume(op, false))
		run(op);
}

/*
 * What it came without is found or opened first. One that wants to keep a file was to be served already, and is, also when the
 * file cannot be opened; but who has it open does not lose it because there was no memory just now.
 */
static bool step_share(struct op *op)
{
	struct op *open;
	int r = share_give(op, &open);

	if (r > 0) {
		open->done = opened;
		open->done_arg = op;
		pend_begin(op);
		if (!op->keep_node) /* which others have open */
			op_follow(op, open);
		stack_run(open, NULL);
		return pend_keep(op, NULL); /* and looks what is still missing */
	}
	op->phase = op->keep_node ? PHASE_SERVE : PHASE_DOWN;
	if (r < 0 && !op->keep_node) {
		turn_round(op, r);
		op->at = -1;
	} else if (r == -ENOMEM) {
		op->pub.status = r;
		op->phase = PHASE_UP;
		op->at = op->nframes - 1;
	}
	return true;
}

/* Below the place where the operation turned round, frames wait for a pre that will never come. */
static void frames_sweep(struct op *op)
{
	for (int i = 0; i < op->nframes; i++)
		if (frame_claim(&op->frames[i], FRAME_WAITING, FRAME_OVER))
			stack_leave(op->frames[i].in);
}

static void run(struct op *op)
{
	for (;;) {
		bool on = true;

		switch (op->phase) {
		case PHASE_SHARE:
			on = step_share(op);
			break;
		case PHASE_DOWN:
			on = step_down(op);
			break;
		case PHASE_SERVE:
			on = step_serve(op);
			break;
		case PHASE_UP:
			on = step_up(op);
			break;
		case PHASE_DONE:
			frames_sweep(op);
			op->pub.p = &op->rq.params;
			op->done(op);
			return;
		}
		if (!on)
			return;
	}
}

void stack_run(struct op *op, struct alt_instance *below)
{
	int r;

	while ((r = stack_enter(op, below)) < 0 && never_fails(op))
		poll(NULL, 0, 1); /* for memory: who has seen the open sees its end */
	op_begin(op);
	op->phase = op->shares ? PHASE_SHARE : PHASE_DOWN;
	if (r < 0) {
		turn_round(op, r);
		op->at = -1;
	}
	run(op);
}
