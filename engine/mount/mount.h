/* SPDX-License-Identifier: MIT */
/*
 * owns      mounting points: where a volume is visible, how it comes there and leaves
 * never     reads or writes the descriptor it hands out
 * hands to  session, which serves the descriptor
 */
#ifndef MOUNT_MOUNT_H
#define MOUNT_MOUNT_H

#include <altitude/error.h>
#include <stdbool.h>
#include <stddef.h>

struct mount_options {
	bool allow_other;                    /* root: on by default, the caller says */
	bool default_permissions;
	bool read_only, noexec, nosuid, nodev;
	bool nonempty;                       /* cover a directory that is not empty */
};

/*
 * Make @source visible at the directory @target as type fuse.altitude: mount(2) when allowed, else fusermount3.
 * Gives the open, non-blocking, close-on-exec /dev/fuse descriptor, and the mount's number as of mount_id().
 * A dead mount found at the place is detached first (one line on stderr). Errors explained: -ENOENT, -ENOTDIR, -ENOTEMPTY, -EACCES...
 */
int mount_new(const char *source, const char *target, const struct mount_options *o, int *ret_fd, int *ret_id, struct alt_error *err);
/* Another mounting point of a mounted volume (bind; needs the right to mount). */
int mount_add(const char *mounted, const char *target, int *ret_id, struct alt_error *err);
/* The kernel's number of the fuse.altitude mount that is visible at @target, without touching it; -ENOENT when there is none. */
int mount_id(const char *target);
/* Is the mount of this number at @target, be it visible or covered by a later one? */
bool mount_is_there(const char *target, int id);
static inline bool mount_is_ours(const char *target) { return mount_id(target) >= 0; }
/* The path of a mounting point without touching the mount, which may be dead: only its parent is resolved. "" when it cannot be. */
void mount_path(const char *where, char *buf, size_t size);
/* Unmount; @lazy detaches a busy one. -EBUSY explained with who holds it (program and pid). */
int mount_remove(const char *target, bool lazy, struct alt_error *err);

#endif
