/* SPDX-License-Identifier: MIT */
/* What those share who have a part in the walk of an operation. dispatch.c takes its steps. */
#ifndef STACK_DISPATCH_H
#define STACK_DISPATCH_H

#include "stack/compiled.h"

enum phase { PHASE_SHARE, PHASE_DOWN, PHASE_SERVE, PHASE_UP, PHASE_DONE };

/* verifier.c. @in or @filter NULL: the file system did it. */
void op_broken(const struct op *op, const struct alt_instance *in, const char *what);
void op_broken_by(const struct op *op, const char *filter, const char *what);
/* Whose turn it is; NULL: the file system's. */
const struct alt_instance *op_in_turn(const struct op *op);
/* What is dear to find out is looked for only then. */
bool verifying(void);

#endif
