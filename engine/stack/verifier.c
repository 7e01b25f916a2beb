/* SPDX-License-Identifier: MIT */
/*
 * Who breaks the contract of an operation is named at once, in the log. With ALTITUDE_VERIFY that is the end of the process:
 * there is no going on with an operation nobody owns.
 */
#include "stack/dispatch.h"
#include <altitude/log.h>

#include <stdlib.h>

bool verifying(void)
{
	return getenv("ALTITUDE_VERIFY");
}

void op_broken_by(const struct op *op, const char *filter, const char *what)
{
	alt_log(LOG_ERR, "verifier: %s '%s' broke the contract of operation '%s': %s",
		filter ? "filter" : "file system", filter ? filter : op->pub.volume->fs->name, alt_op_name(op->pub.code), what);
	if (verifying())
		abort();
}

void op_broken(const struct op *op, const struct alt_instance *in, const char *what)
{
	op_broken_by(op, in ? in->name : NULL, what);
}

const struct alt_instance *op_in_turn(const struct op *op)
{
	bool filters = (op->phase == PHASE_DOWN || op->phase == PHASE_UP) && op->at >= 0 && op->at < op->nframes;

	return filters ? op->frames[op->at].in : NULL;
}
