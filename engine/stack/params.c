/* SPDX-License-Identifier: MIT */
/*
 * The parameters of an operation under change: a pre edits a copy, which is seen below it when it was said so. Each frame
 * remembers what it was called with, and its post sees the same.
 */
#include "stack/dispatch.h"

#include <string.h>

struct alt_params *alt_op_edit(struct alt_op *pub)
{
	struct op *op = (struct op *)pub;

	if (pub->flags & ALT_OP_POST) {
		op_broken(op, op_in_turn(op), "parameters edited on the way up, where nobody sees them");
		return NULL;
	}
	if (!op->edit) {
		op->edit = alt_op_alloc(pub, sizeof *op->edit);
		if (op->edit)
			memcpy(op->edit, pub->p, sizeof *op->edit); /* with what lies between the members: see params_commit() */
	}
	return op->edit;
}

void alt_op_dirty(struct alt_op *pub)
{
	struct op *op = (struct op *)pub;

	if (op->edit)
		pub->flags |= ALT_OP_DIRTY;
	else
		op_broken(op, op_in_turn(op), "made dirty without an edit");
}

void params_commit(struct op *op)
{
	if (op->pub.flags & ALT_OP_DIRTY) {
		op->pub.p = op->edit;
		op->frames[op->at].changed = true;
	} else if (verifying() && memcmp(op->edit, op->pub.p, sizeof *op->edit)) {
		op_broken(op, op_in_turn(op), "parameters changed, and not declared (alt_op_dirty)");
	}
	op->edit = NULL;
	op->pub.flags &= ~(uint32_t)ALT_OP_DIRTY;
}
