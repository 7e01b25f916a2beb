/* SPDX-License-Identifier: MIT */
/* What those share who have a part in the walk of an operation. dispatch.c takes its steps. */
#ifndef STACK_DISPATCH_H
#define STACK_DISPATCH_H

#include "stack/compiled.h"

enum phase { PHASE_SHARE, PHASE_DOWN, PHASE_SERVE, PHASE_UP, PHASE_DONE };

/*
 * Each frame of an operation has a state; whoever moves it owns the call:
 *
 *        WAITING --> IN_PRE --> OWED --> IN_POST --> OVER
 *           |           |         |
 *           |           +---------|--------------> OVER   (no post wanted)
 *           +--> OVER (drained)   +--> OVER (drained: the post ran early, on a copy)
 */
enum frame_state { FRAME_WAITING, FRAME_IN_PRE, FRAME_OWED, FRAME_IN_POST, FRAME_OVER };

static inline bool frame_claim(struct op_frame *f, int from, int to)
{
	return atomic_compare_exchange_strong(&f->state, &from, to);
}

static inline void frame_over(struct op_frame *f)
{
	atomic_store(&f->state, FRAME_OVER);
	stack_leave(f->in);
}

/* What is answered below it is seen otherwise above. */
static inline bool frame_shows(const struct op_frame *f)
{
	return f->in->filter->reg->attributes || f->in->filter->reg->entry;
}

/* A wait for a lock: nobody may wait for it. */
static inline bool op_is_endless(const struct op *op)
{
	return op->pub.code == ALT_OP_SETLK && (op->rq.params.bits & ALT_PARAM_WAIT);
}

/* Its answer is an open file, which is there when its owner has been asked. */
static inline bool op_opens(const struct op *op)
{
	static const uint64_t opens = 1ull << ALT_OP_OPEN | 1ull << ALT_OP_OPENDIR | 1ull << ALT_OP_CREATE | 1ull << ALT_OP_TMPFILE;

	return opens >> op->pub.code & 1;
}

/* verifier.c. @in or @filter NULL: the file system did it. */
void op_broken(const struct op *op, const struct alt_instance *in, const char *what);
void op_broken_by(const struct op *op, const char *filter, const char *what);
/* Whose turn it is; NULL: the file system's. */
const struct alt_instance *op_in_turn(const struct op *op);
/* What is dear to find out is looked for only then. */
bool verifying(void);

/* drain.c. On its way up @op has met a frame whose post a drain has claimed: do not end before the drain has its references. */
void drain_meet(struct op *op);

/* params.c. After a pre that has edited: what it changed and declared goes down; what it only changed has no effect. */
void params_commit(struct op *op);

/* view.c. The names that go down, where the filter translates them, in parameters that are edited. 0 or -errno. */
int view_names(struct op *op, const struct op_frame *f);
/*
 * The answer becomes what is seen above the frame, which shows it: NULL, done. Or an operation that is to be run below it
 * first, done and done_arg to be filled: what it brings is handed to view_more(), and view_answer() is asked again.
 */
struct op *view_answer(struct op *op, const struct op_frame *f);
void view_more(struct op *op, struct op *more);

/*
 * share.c. Give @op, which came without a handle, the shared file (COPY_FILE_RANGE: both) that serves it; or the one it keeps. 0,
 * -errno, or 1: *ret is to be run from the top first, done and done_arg to be filled. It is handed to share_opened(), and
 * share_give() is asked again.
 */
int share_give(struct op *op, struct op **ret);
void share_opened(struct op *op, struct op *open);
/* @op may take a node's last name: while it can still be opened, there is to be an open file of it. */
bool share_keeps(struct op *op);

#endif
