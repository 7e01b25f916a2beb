/* SPDX-License-Identifier: MIT */
/* readonly: nothing above it can change what is below. */
#include <altitude/filter.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/ioctl.h>

static enum alt_pre readonly_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	(void)in;
	(void)ctx;
	if (op->code == ALT_OP_OPEN && (op->p->flags & O_ACCMODE) == O_RDONLY && !(op->p->flags & O_TRUNC))
		return ALT_PRE_SUCCESS_NO_CALLBACK;
	if (op->code == ALT_OP_IOCTL && !(_IOC_DIR(op->p->cmd) & _IOC_WRITE))
		return ALT_PRE_SUCCESS_NO_CALLBACK;
	op->status = -EROFS;
	return ALT_PRE_COMPLETE;
}

#define PRE(code) { ALT_OP_##code, readonly_pre, NULL, 0 }
static const struct alt_callback callbacks[] = {
	PRE(OPEN), PRE(SETATTR), PRE(MKNOD), PRE(MKDIR), PRE(SYMLINK), PRE(LINK), PRE(UNLINK),
	PRE(RMDIR), PRE(RENAME), PRE(CREATE), PRE(TMPFILE), PRE(WRITE), PRE(SETXATTR),
	PRE(REMOVEXATTR), PRE(FALLOCATE), PRE(COPY_FILE_RANGE), PRE(IOCTL),
	{ .code = ALT_OP_END }
};

static const struct alt_filter_registration registration = {
	.size = sizeof(registration),
	.name = "readonly",
	.altitude = "85000",
	.callbacks = callbacks,
};

ALT_FILTER(registration);
