/* SPDX-License-Identifier: MIT */
/*
 * The compiled stack: for each operation, who is to be called, from high to low. Immutable; attaching and
 * detaching build a new one and swap the volume's pointer. An operation copies its row when it begins and counts
 * itself into each instance of the row, so that the compiled stack can go at once and a detach knows whom to await.
 */
#ifndef STACK_COMPILED_H
#define STACK_COMPILED_H

#include "base/base.h"
#include "stack/stack.h"

/* Operations come to it: attached, also while it is asked whether it lets go. */
static inline bool instance_serves(const struct alt_instance *in)
{
	int state = atomic_load(&in->state);

	return state == INSTANCE_ATTACHED || state == INSTANCE_ASKED;
}

struct stack_row {
	int count;
	struct stack_entry {
		struct alt_instance *in;
		alt_pre_fn *pre;
		alt_post_fn *post;
		uint32_t flags;
		bool slow;               /* it says that its pre may block, or have its thread wait */
	} *entries;
};

struct stack {
	struct stack_row rows[ALT_OP_COUNT];
};

struct stack_volume {
	pthread_mutex_t lock;            /* one attach or detach at a time; never held across a module's callback */
	pthread_cond_t changed;
	struct alt_instance *top;        /* [lock] top first */
	struct alt_instance *going;      /* [lock] those that have left it, until nothing of them is left */
	struct gate gate;
};

/* Build from the list. NULL without memory. Called with sv->lock. */
struct stack *stack_compile_locked(struct stack_volume *sv);
void stack_free(struct stack *s);
uint64_t stack_interest(const struct stack *s);

/* Copy the row of op into its frames and count in. 0 or -ENOMEM. */
int stack_enter(struct op *op, struct alt_instance *below);
/* Wait until no operation may call @in, which is detaching: its frames that wait are taken from their operations. May sleep. */
void stack_drain(struct alt_instance *in);
/* One operation less that may call @in. */
void stack_leave(struct alt_instance *in);

#endif
