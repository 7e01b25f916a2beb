/* SPDX-License-Identifier: MIT */
/*
 * What a manifest says of groups and altitudes and cannot mean. A group is no rule: it decides when a filter starts, and its
 * altitude alone where it stands. But who names both means them to agree.
 */
#ifndef CONTROL_LINT_H
#define CONTROL_LINT_H

#include "module/module.h"

/* @say is called with a line for each: a group that is none, an altitude that is none or outside of the group. How many. */
int manifest_lint(const struct manifest *m, void (*say)(void *arg, const char *text), void *arg);

#endif
