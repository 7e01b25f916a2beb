/* SPDX-License-Identifier: MIT */
/*
 * Owns: acting as the caller while something is created: ids, groups, umask of this thread alone.
 * Never: leaves a thread with other ids than it had; changes any other thread.
 * Hands to: names.c, file.c, attr.c.
 */
#ifndef DIR_CALLER_H
#define DIR_CALLER_H

#include "node.h"

/** What caller_leave() has to undo. All zero: nothing. */
struct caller {
	const struct dir_volume *volume;
	bool ids, groups, umask;
};

/**
 * Take on the ids and groups of the operation's caller, when the server is root, and its umask.
 * Until caller_leave(), safe after a failure too, which SCOPED_CALLER does at the end of the scope.
 */
int caller_enter(struct caller *caller, const struct alt_op *op);
void caller_leave(struct caller *caller);

/** Whether the operation's caller is root, or of @group by any of its groups. */
bool caller_has_group(const struct alt_op *op, gid_t group);

/** Permissions to create with: the umask taken off where the thread has no umask of its own. */
uint32_t caller_mode(const struct caller *caller, const struct alt_op *op);

#define SCOPED_CALLER __attribute__((cleanup(caller_leave))) struct caller

#endif
