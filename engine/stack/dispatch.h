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

/* A wait for a lock: nobody may wait for it. */
static inline bool op_is_endless(const struct op *op)
{
	return op->pub.code == ALT_OP_SETLK && (op->rq.params.bits & ALT_PARAM_WAIT);
}

/* verifier.c. @in or @filter NULL: the file system did it. */
void op_broken(const struct op *op, const struct alt_instance *in, const char *what);
void op_broken_by(const struct op *op, const char *filter, const char *what);
/* Whose turn it is; NULL: the file system's. */
const struct alt_instance *op_in_turn(const struct op *op);
/* What is dear to find out is looked for only then. */
bool verifying(void);

/* params.c. After a pre: what it changed and declared goes down; what it only changed has no effect. */
void params_commit(struct op *op);

#endif
