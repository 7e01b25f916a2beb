/* SPDX-License-Identifier: MIT */
/*
 * Operations on a name in a directory. What creates acts as the caller; what removes or moves acts
 * as the server: the kernel has checked directory permissions and sticky bits by then. A whiteout is created, too.
 */
#include "caller.h"
#include "watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* "..", taken literally, would lead out of the tree. */
static int name_check(const char *name)
{
	if (!*name || strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
		return -EINVAL;
	return 0;
}

/* The directory an operation with a name is about. */
static int parent_get(const struct alt_op *op, struct dir_pin **ret)
{
	int r = name_check(op->p->name);

	return r < 0 ? r : pin_get(dir_volume(op), op->node, ret);
}

/* A name that is not there is remembered as well, by the engine, unless it is told not to. */
int dir_lookup(struct alt_op *op)
{
	SCOPED_PIN dir = NULL;
	uint64_t heard;
	int r = parent_get(op, &dir);

	if (r < 0)
		return r;
	heard = watch_names(dir);
	r = entry_fill(dir_volume(op), dir->fd, op->p->name, heard, &op->r.entry);
	if (r == -ENOENT && watch_ttl(dir_volume(op), heard) == ALT_TTL_NONE) {
		op->r.entry = (struct alt_entry){ .entry_ttl_ms = ALT_TTL_NONE };
		return 0;
	}
	return r;
}

/* The other way of dev_encode(). */
static dev_t dev_decode(uint32_t dev)
{
	return makedev((dev & 0xfff00) >> 8, (dev & 0xff) | ((dev >> 12) & 0xfff00));
}

static int make_node(struct alt_op *op, int dirfd, uint32_t mode)
{
	return mknodat(dirfd, op->p->name, mode, dev_decode(op->p->rdev));
}

static int make_dir(struct alt_op *op, int dirfd, uint32_t mode)
{
	return mkdirat(dirfd, op->p->name, mode & 07777);
}

static int make_symlink(struct alt_op *op, int dirfd, uint32_t mode)
{
	(void)mode;
	return symlinkat(op->p->target, dirfd, op->p->name);
}

/*
 * Make a name by @make as the caller, then say what it is. The kernel takes nothing else than what it asked for: when
 * somebody below has put another thing in its place by then, it is to ask again, and finds that.
 */
static int make(struct alt_op *op, mode_t type, int (*make)(struct alt_op *op, int dirfd, uint32_t mode))
{
	SCOPED_PIN dir = NULL;
	uint64_t heard;
	int r = parent_get(op, &dir);

	if (r < 0)
		return r;
	heard = watch_names(dir);
	{
		SCOPED_CALLER caller;

		r = caller_enter(&caller, op);
		if (r < 0)
			return r;
		if (make(op, dir->fd, caller_mode(&caller, op)) < 0)
			return -errno;
	}
	r = entry_fill(dir_volume(op), dir->fd, op->p->name, heard, &op->r.entry);
	if (r < 0 || (op->r.entry.attr.mode & S_IFMT) == type)
		return r;
	watch_drop(&op->r.entry);
	return -ESTALE;
}

int dir_mknod(struct alt_op *op)
{
	return make(op, op->p->mode & S_IFMT ? op->p->mode & S_IFMT : S_IFREG, make_node);
}

int dir_mkdir(struct alt_op *op)
{
	return make(op, S_IFDIR, make_dir);
}

int dir_symlink(struct alt_op *op)
{
	return make(op, S_IFLNK, make_symlink);
}

static int link_as_caller(struct alt_op *op, struct dir_pin *from, struct dir_pin *dir)
{
	SCOPED_CALLER caller;
	int r = caller_enter(&caller, op);

	if (r < 0)
		return r;
	return fd_link(dir_volume(op)->names, from->fd, dir->fd, op->p->name);
}

int dir_link(struct alt_op *op)
{
	SCOPED_PIN dir = NULL;
	SCOPED_PIN from = NULL;
	uint64_t heard;
	int r = parent_get(op, &dir);

	if (r < 0)
		return r;
	r = pin_get(dir_volume(op), op->p->other, &from);
	if (r < 0)
		return r;
	heard = watch_names(dir);
	r = link_as_caller(op, from, dir);
	/* What was linked, not what has the name by now: somebody below may have replaced it. */
	return r < 0 ? r : entry_fill(dir_volume(op), from->fd, "", heard, &op->r.entry);
}

int dir_unlink(struct alt_op *op)
{
	SCOPED_PIN dir = NULL;
	int r = parent_get(op, &dir);

	if (r < 0)
		return r;
	return unlinkat(dir->fd, op->p->name, 0) < 0 ? -errno : 0;
}

int dir_rmdir(struct alt_op *op)
{
	SCOPED_PIN dir = NULL;
	struct alt_entry gone;
	int r = parent_get(op, &dir);

	if (r < 0)
		return r;
	r = entry_fill(dir_volume(op), dir->fd, op->p->name, 0, &gone);
	if (r < 0)
		return r;
	if (unlinkat(dir->fd, op->p->name, AT_REMOVEDIR) < 0)
		return -errno;
	pin_uncache(dir_volume(op), gone.key);
	return 0;
}

int dir_rename(struct alt_op *op)
{
	SCOPED_PIN from = NULL;
	SCOPED_PIN to = NULL;
	SCOPED_CALLER caller = { 0 };
	int r = parent_get(op, &from);

	if (r == 0)
		r = name_check(op->p->new_name);
	if (r == 0)
		r = pin_get(dir_volume(op), op->p->other, &to);
	if (r == 0 && op->p->flags & RENAME_WHITEOUT)
		r = caller_enter(&caller, op);
	if (r < 0)
		return r;
	r = renameat2(from->fd, op->p->name, to->fd, op->p->new_name, op->p->flags);
	return r < 0 ? -errno : 0;
}

int dir_readlink(struct alt_op *op)
{
	SCOPED_PIN pin = NULL;
	ssize_t n;
	int r = pin_get(dir_volume(op), op->node, &pin);

	if (r < 0)
		return r;
	n = readlinkat(pin->fd, "", op->p->buf, op->p->size);
	if (n < 0)
		return -errno;
	op->r.size = n;
	return 0;
}
