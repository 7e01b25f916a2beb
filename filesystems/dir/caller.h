/* SPDX-License-Identifier: MIT */
/*
 * Owns: acting as the caller while something is created or written: ids, groups, umask of this thread alone.
 * Never: leaves a thread with other ids than it had; changes any other thread.
 * Hands to: names.c, file.c, attr.c.
 */
#ifndef DIR_CALLER_H
#define DIR_CALLER_H

#include "node.h"

/** What caller_leave() has to undo. All zero: nothing. */
struct caller {
	const struct dir_volume *volume;
	bool uid, gid, groups, umask;
};

/**
 * Take on the ids and groups of the operation's caller, when the server is root, and its umask.
 * Until caller_leave(), safe after a failure too, which SCOPED_CALLER does at the end of the scope.
 */
int caller_enter(struct caller *caller, const struct alt_op *op);

/**
 * The same for what changes the data of an open file, @fd, up to @end: the file system below decides by the ids who gets the
 * last of the space, and what becomes of set-user-id and set-group-id. Ids that decide nothing are left as they are: changing
 * them twice costs as much as a small write. Where they are the server's own, this clears what the kernel asks to be cleared.
 */
int caller_enter_writer(struct caller *caller, const struct alt_op *op, int fd, int64_t end);

/**
 * Give up, in this thread and those it starts, the right to exceed quotas (CAP_SYS_RESOURCE), which other ids leave. Root
 * itself, through the volume, does not exceed those of others either.
 */
void caller_prepare(void);

void caller_leave(struct caller *caller);

/** Whether the operation's caller is root, or of @group by any of its groups. */
bool caller_has_group(const struct alt_op *op, gid_t group);

/** Permissions to create with: the umask taken off where the thread has no umask of its own. */
uint32_t caller_mode(const struct caller *caller, const struct alt_op *op);

#define SCOPED_CALLER __attribute__((cleanup(caller_leave))) struct caller

#endif
