/* SPDX-License-Identifier: MIT */
/*
 * Kit: attributes, for a file system that keeps each node's struct alt_attr itself. The rules are the kernel's:
 * what a new node begins with, what SETATTR means, what a change of the bytes does to set-user-id.
 *
 * No locks and no memory of their own: the caller holds whatever guards the record.
 */
#ifndef ALTITUDE_KIT_ATTR_H
#define ALTITUDE_KIT_ATTR_H

#include <altitude/kit/time.h>
#include <altitude/op.h>

#include <sys/stat.h>

/** A record with type, permissions and owner; all four times are now; everything else is 0, @ino and @nlink too. */
static inline struct alt_attr alt_attr_make(uint32_t mode, uint32_t uid, uint32_t gid)
{
	struct alt_time now = alt_time_now();

	return (struct alt_attr){ .mode = mode, .uid = uid, .gid = gid,
				  .atime = now, .mtime = now, .ctime = now, .btime = now };
}

/**
 * What the node begins with that @op (MKNOD MKDIR SYMLINK CREATE TMPFILE) makes in directory @dir: as alt_attr_make(),
 * with the caller as owner; a set-group-id directory gives its group, and to directories the bit itself.
 */
static inline struct alt_attr alt_attr_new(const struct alt_op *op, const struct alt_attr *dir)
{
	uint32_t mode = op->p->mode & 07777, type = S_IFREG, sgid = dir->mode & S_ISGID;
	struct alt_attr a;

	if (op->code == ALT_OP_MKNOD && op->p->mode & S_IFMT)
		type = op->p->mode & S_IFMT;
	if (op->code == ALT_OP_MKDIR)
		type = S_IFDIR | sgid;
	if (op->code == ALT_OP_SYMLINK) {
		type = S_IFLNK;
		mode = 0777;
	}
	a = alt_attr_make(type | mode, op->caller.uid, sgid ? dir->gid : op->caller.gid);
	a.rdev = op->code == ALT_OP_MKNOD ? op->p->rdev : 0;
	return a;
}

/**
 * Clear set-user-id, and set-group-id where the group may execute (elsewhere it asks for mandatory locks). Not of
 * directories. For ALT_PARAM_KILL_SUIDGID; see also alt_xattr_drop_capability().
 */
static inline void alt_attr_kill_suidgid(struct alt_attr *a)
{
	if (!S_ISDIR(a->mode))
		a->mode &= ~(S_ISUID | (a->mode & S_IXGRP ? S_ISGID : 0u));
}

/**
 * Do to @a what SETATTR with @p asks, ctime included. The size and the mtime of its change are the file system's,
 * which has the bytes: it does them first, for the caller may set another mtime in the same call.
 */
static inline void alt_attr_set(struct alt_attr *a, const struct alt_params *p)
{
	struct alt_time now = alt_time_now();

	if (p->valid & (ALT_ATTR_KILL_SUIDGID | ALT_ATTR_UID | ALT_ATTR_GID))
		alt_attr_kill_suidgid(a);
	if (p->valid & ALT_ATTR_MODE)
		a->mode = (a->mode & S_IFMT) | (p->attr.mode & 07777);
	if (p->valid & ALT_ATTR_UID)
		a->uid = p->attr.uid;
	if (p->valid & ALT_ATTR_GID)
		a->gid = p->attr.gid;
	if (p->valid & (ALT_ATTR_ATIME | ALT_ATTR_ATIME_NOW))
		a->atime = p->valid & ALT_ATTR_ATIME_NOW ? now : p->attr.atime;
	if (p->valid & (ALT_ATTR_MTIME | ALT_ATTR_MTIME_NOW))
		a->mtime = p->valid & ALT_ATTR_MTIME_NOW ? now : p->attr.mtime;
	a->ctime = p->valid & ALT_ATTR_CTIME ? p->attr.ctime : now;
}

#endif
