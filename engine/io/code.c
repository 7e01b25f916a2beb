/* SPDX-License-Identifier: MIT */
#include <altitude/op.h>

#include <string.h>

static const char *const names[ALT_OP_COUNT] = {
	[ALT_OP_LOOKUP] = "lookup",
	[ALT_OP_GETATTR] = "getattr",
	[ALT_OP_SETATTR] = "setattr",
	[ALT_OP_ACCESS] = "access",
	[ALT_OP_READLINK] = "readlink",
	[ALT_OP_MKNOD] = "mknod",
	[ALT_OP_MKDIR] = "mkdir",
	[ALT_OP_SYMLINK] = "symlink",
	[ALT_OP_LINK] = "link",
	[ALT_OP_UNLINK] = "unlink",
	[ALT_OP_RMDIR] = "rmdir",
	[ALT_OP_RENAME] = "rename",
	[ALT_OP_CREATE] = "create",
	[ALT_OP_TMPFILE] = "tmpfile",
	[ALT_OP_OPEN] = "open",
	[ALT_OP_READ] = "read",
	[ALT_OP_WRITE] = "write",
	[ALT_OP_FLUSH] = "flush",
	[ALT_OP_RELEASE] = "release",
	[ALT_OP_FSYNC] = "fsync",
	[ALT_OP_OPENDIR] = "opendir",
	[ALT_OP_READDIR] = "readdir",
	[ALT_OP_RELEASEDIR] = "releasedir",
	[ALT_OP_FSYNCDIR] = "fsyncdir",
	[ALT_OP_GETXATTR] = "getxattr",
	[ALT_OP_SETXATTR] = "setxattr",
	[ALT_OP_LISTXATTR] = "listxattr",
	[ALT_OP_REMOVEXATTR] = "removexattr",
	[ALT_OP_GETLK] = "getlk",
	[ALT_OP_SETLK] = "setlk",
	[ALT_OP_FALLOCATE] = "fallocate",
	[ALT_OP_LSEEK] = "lseek",
	[ALT_OP_COPY_FILE_RANGE] = "copy_file_range",
	[ALT_OP_IOCTL] = "ioctl",
	[ALT_OP_POLL] = "poll",
	[ALT_OP_BMAP] = "bmap",
	[ALT_OP_STATFS] = "statfs",
	[ALT_OP_SYNCFS] = "syncfs",
};

const char *alt_op_name(enum alt_op_code code)
{
	return (unsigned)code < ALT_OP_COUNT && names[code] ? names[code] : "?";
}

enum alt_op_code alt_op_find(const char *name)
{
	for (int i = 1; i < ALT_OP_COUNT; i++)
		if (!strcmp(names[i], name))
			return i;
	return ALT_OP_END;
}
