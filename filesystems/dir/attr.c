/* SPDX-License-Identifier: MIT */
/*
 * Attributes of a node and of the volume. The kernel has checked who may change what; this file
 * carries it out in the order the kernel does: what becomes of set-group-id depends on the group a file has had, and what one
 * step clears (set-user-id by chown) the next may set.
 */
#include "caller.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define VALID_TIMES (ALT_ATTR_ATIME | ALT_ATTR_MTIME | ALT_ATTR_ATIME_NOW | ALT_ATTR_MTIME_NOW)

static int attr_answer(struct alt_op *op, int fd)
{
	return entry_fill(dir_volume(op), fd, "", 0, &op->r.entry);
}

int dir_getattr(struct alt_op *op)
{
	struct dir_file *file = dir_file(op);
	SCOPED_PIN pin = NULL;
	int r;

	if (file)
		return attr_answer(op, file->fd);
	r = pin_get(dir_volume(op), op->node, &pin);
	return r < 0 ? r : attr_answer(op, pin->fd);
}

/* Without the right to execute, set-group-id is lost by who is not of the group. */
int attr_kill_suidgid(const struct alt_op *op, int fd)
{
	struct stat st;
	mode_t kill = 0;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return 0;
	kill |= st.st_mode & S_ISUID;
	if (st.st_mode & S_ISGID && (st.st_mode & S_IXGRP || !caller_has_group(op, st.st_gid)))
		kill |= S_ISGID;
	if (!kill)
		return 0;
	return fd_chmod(dir_volume(op)->names, fd, st.st_mode & 07777 & ~kill);
}

static int set_owner(const struct alt_op *op, int fd)
{
	const struct alt_params *p = op->p;
	uid_t uid = p->valid & ALT_ATTR_UID ? p->attr.uid : (uid_t)-1;
	gid_t gid = p->valid & ALT_ATTR_GID ? p->attr.gid : (gid_t)-1;

	return fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static int set_mode(const struct alt_op *op, int fd)
{
	return fd_chmod(dir_volume(op)->names, fd, op->p->attr.mode & 07777);
}

/* An ordinary user may not take a capability away; what one changes takes it away below. */
static int set_kill(const struct alt_op *op, int fd)
{
	int r = dir_volume(op)->privileged ? fd_removexattr(dir_volume(op)->names, fd, "security.capability") : 0;

	if (r < 0 && r != -ENODATA && r != -EOPNOTSUPP)
		return r;
	return attr_kill_suidgid(op, fd);
}

/* ftruncate() counts where a file was opened before its mode forbade writing. */
static int set_size(const struct alt_op *op, int fd)
{
	const struct dir_file *file = dir_file(op);

	if (file && ftruncate(file->fd, op->p->attr.size) == 0)
		return 0;
	if (file && errno != EBADF && errno != EINVAL)
		return -errno;
	return truncate(fd_path(fd).text, op->p->attr.size) < 0 ? -errno : 0;
}

static struct timespec time_to(uint32_t valid, uint32_t now, uint32_t given, struct alt_time t)
{
	if (valid & now)
		return (struct timespec){ .tv_nsec = UTIME_NOW };
	if (valid & given)
		return (struct timespec){ .tv_sec = t.sec, .tv_nsec = t.nsec };
	return (struct timespec){ .tv_nsec = UTIME_OMIT };
}

static int set_times(const struct alt_op *op, int fd)
{
	const struct alt_params *p = op->p;
	struct timespec times[2] = {
		time_to(p->valid, ALT_ATTR_ATIME_NOW, ALT_ATTR_ATIME, p->attr.atime),
		time_to(p->valid, ALT_ATTR_MTIME_NOW, ALT_ATTR_MTIME, p->attr.mtime),
	};

	return utimensat(fd, "", times, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static const struct {
	uint32_t valid;
	int (*set)(const struct alt_op *op, int fd);
} steps[] = {
	{ ALT_ATTR_KILL_SUIDGID, set_kill },
	{ ALT_ATTR_UID | ALT_ATTR_GID, set_owner },
	{ ALT_ATTR_MODE, set_mode },
	{ ALT_ATTR_SIZE, set_size },
	{ VALID_TIMES, set_times },
};

int dir_setattr(struct alt_op *op)
{
	SCOPED_PIN pin = NULL;
	int r = pin_get(dir_volume(op), op->node, &pin);

	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps) && r == 0; i++)
		if (op->p->valid & steps[i].valid)
			r = steps[i].set(op, pin->fd);
	return r < 0 ? r : attr_answer(op, pin->fd);
}

int dir_access(struct alt_op *op)
{
	SCOPED_PIN pin = NULL;
	SCOPED_CALLER caller = { 0 };
	int r = pin_get(dir_volume(op), op->node, &pin);

	if (r == 0)
		r = caller_enter(&caller, op);
	if (r < 0)
		return r;
	return fd_access(dir_volume(op)->names, pin->fd, op->p->mode & (R_OK | W_OK | X_OK));
}

int dir_statfs(struct alt_op *op)
{
	SCOPED_PIN pin = NULL;
	struct statfs s;
	int r = pin_get(dir_volume(op), op->node, &pin);

	if (r == -ESTALE) /* natively what has no name any more still says where it is */
		r = pin_get(dir_volume(op), alt_volume_root(op->volume), &pin);
	if (r < 0)
		return r;
	if (fstatfs(pin->fd, &s) < 0)
		return -errno;
	op->r.statfs = (struct alt_statfs){
		.blocks = s.f_blocks, .bfree = s.f_bfree, .bavail = s.f_bavail,
		.files = s.f_files, .ffree = s.f_ffree,
		.bsize = s.f_bsize, .frsize = s.f_frsize, .namelen = s.f_namelen,
	};
	return 0;
}

int dir_syncfs(struct alt_op *op)
{
	int fd = openat(dir_volume(op)->root->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = syncfs(fd) < 0 ? -errno : 0;
	close(fd);
	return r;
}
