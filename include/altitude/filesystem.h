/* SPDX-License-Identifier: MIT */
/*
 * File systems: the code at the bottom of the stack. A module fills one table; filesystems/mem is the model.
 *
 * A handler takes one operation, reads op->p and fills op->r:
 *   returns 0, -errno, or ALT_PENDING when alt_op_complete() will be called (also before the return).
 * Handlers run on any thread, several at a time, also for one node. No engine lock is held.
 * Without a handler OPEN, OPENDIR, RELEASE, RELEASEDIR, FLUSH, FSYNC, FSYNCDIR, ACCESS, SYNCFS and STATFS (with zeroes) succeed;
 * CREATE, MKNOD, MKDIR, SYMLINK, LINK, UNLINK, RMDIR, RENAME, SETATTR and WRITE answer -EPERM, IOCTL -ENOTTY, all else -EOPNOTSUPP.
 *
 * On a volume without opens ("open=no") FLUSH, GETLK and SETLK never come; OPEN comes from the engine, with no caller
 * (uid 0, pid 0), O_RDONLY or O_WRONLY and perhaps O_APPEND, O_SYNC or O_DSYNC, for a file that all then share. It may be
 * released and opened again between any two operations of one user.
 */
#ifndef ALTITUDE_FILESYSTEM_H
#define ALTITUDE_FILESYSTEM_H

#include <altitude/error.h>
#include <altitude/module.h>
#include <altitude/node.h>
#include <altitude/op.h>

typedef int alt_handler(struct alt_op *op);

enum alt_filesystem_flags {
	ALT_FS_UMASK = 1u << 0,      /* wants mode and umask apart (default ACLs); else the umask is applied already */
	ALT_FS_ACL = 1u << 1,        /* keeps POSIX ACLs as system.posix_acl_* attributes; the kernel checks them */
	ALT_FS_LOCKS = 1u << 2,      /* serves GETLK and SETLK; else the kernel keeps locks itself */
	ALT_FS_SLOW = 1u << 3,       /* handlers may block for long: served by worker threads */
};

struct alt_filesystem_registration {
	size_t size;                 /* sizeof *this */
	const char *name;
	uint32_t flags;              /* enum alt_filesystem_flags */
	const struct alt_option *options; /* of "-o", ends with a NULL name; NULL: none */

	/**
	 * Begin to serve. @arg is what stands behind the colon in "FS:ARG". Must call alt_volume_set_root().
	 * Returns 0 or -errno with @err explained; then unmount is not called.
	 */
	int (*mount)(struct alt_volume *volume, const char *arg, struct alt_error *err);

	/** The last operation is over, every file released, every node forgotten. May be NULL. */
	void (*unmount)(struct alt_volume *volume);

	/**
	 * One reference to @data comes back: every entry answered with a @data (and the root's) hands one over, and each
	 * is given back exactly once, at the latest before unmount. May be NULL.
	 */
	void (*forget)(struct alt_volume *volume, struct alt_key key, void *data);

	alt_handler *ops[ALT_OP_COUNT];
};

/**
 * Say, in OPEN, CREATE or TMPFILE of a regular file, which descriptor holds its very bytes. When no filter wants the data
 * and the kernel can (Linux 6.9, root), reads, writes and maps of the open file go straight to it. The descriptor stays
 * the file system's; it must last as long as the open file. The kernel opens it anew with the caller's flags.
 */
void alt_op_set_backing(struct alt_op *op, int fd);

/**
 * Promise to tell of every change that is not made through the volume (notify.h): names and attributes are then
 * remembered for a day instead of not at all. May be taken back at any time. Any thread.
 */
void alt_volume_set_watched(struct alt_volume *volume, bool watched);

#define ALT_FILESYSTEM(registration) ALT_MODULE(ALT_MODULE_FILESYSTEM, registration)

#endif
