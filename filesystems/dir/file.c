/* SPDX-License-Identifier: MIT */
/*
 * Open files. The descriptor below is opened without O_APPEND: the page cache writes at offsets,
 * and an appending descriptor would put its pages at the end. A write that is to append says so
 * itself (RWF_APPEND). O_DIRECT stays above: the buffers of a request are not aligned as it wants.
 */
#include "caller.h"
#include "watch.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FLAGS_BELOW (O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC | O_NOATIME)

struct dir_file *file_new(int fd, struct dir_pin *pin)
{
	struct dir_file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	pin_ref(pin);
	file->fd = fd;
	file->pin = pin;
	return file;
}

void file_free(struct dir_file *file)
{
	if (!file)
		return;
	list_free(file->list);
	lock_release(file);
	close(file->fd);
	if (file->mappable)
		watch_mappable_ends(file->pin);
	pin_put(file->pin);
	free(file);
}

static int flags_below(uint32_t flags)
{
	return (flags & FLAGS_BELOW) | O_NONBLOCK | O_CLOEXEC;
}

/* Make @fd the open file's; takes @fd, also on failure. */
static int file_set(struct alt_op *op, struct alt_file *to, int fd, mode_t mode, struct dir_pin *pin)
{
	struct dir_file *file = file_new(fd, pin);

	if (!file) {
		close(fd);
		return -ENOMEM;
	}
	file->mappable = (op->p->flags & O_ACCMODE) == O_RDWR;
	if (file->mappable)
		watch_mappable_begins(pin, op->code != ALT_OP_OPEN);
	file->unflushed = lock_is_unlikely(dir_volume(op), pin->key);
	if (file->unflushed)
		op->r.open |= ALT_OPEN_NOFLUSH;
	alt_file_set_data(to, file);
	/* What a write does to set-user-id and set-group-id depends on who writes: such a write is to come here. */
	if (!(mode & (S_ISUID | S_ISGID)))
		alt_op_set_backing(op, fd);
	return 0;
}

/*
 * The file @fd is, opened anew with the server's rights; for writing in the mount whose writes are not reported. Whether the
 * file system is read-only is for the mount to say that is served.
 */
static int reopen(const struct dir_volume *volume, int fd, int flags)
{
	int r = (flags & O_ACCMODE) == O_RDONLY ? -EOPNOTSUPP : watch_reopen(volume, fd, flags);

	if (r != -EOPNOTSUPP && r != -ESTALE && r != -EROFS)
		return r;
	return fd_open(volume->names, fd, flags);
}

int dir_open(struct alt_op *op)
{
	SCOPED_PIN pin = NULL;
	int flags = flags_below(op->p->flags);
	struct stat st;
	int r = pin_get(dir_volume(op), op->node, &pin);

	if (r < 0)
		return r;
	/* Anything else is the kernel's to open: it knew a file, whose inode is another thing's by now. */
	if (!S_ISREG(pin->type))
		return -ESTALE;
	if (op->p->bits & ALT_PARAM_KILL_SUIDGID)
		r = attr_kill_suidgid(op, pin->fd);
	if (r == 0)
		r = reopen(dir_volume(op), pin->fd, flags);
	if (r == -EPERM && op->p->flags & O_APPEND) /* an append-only file (chattr +a) is opened so or not at all */
		r = reopen(dir_volume(op), pin->fd, flags | O_APPEND);
	if (r < 0)
		return r;
	return file_set(op, op->file, r, fstat(r, &st) < 0 ? S_ISUID : st.st_mode, pin);
}

/* Open by name as the caller; @flags are below's. */
static int open_as_caller(struct alt_op *op, int dirfd, const char *name, int flags)
{
	SCOPED_CALLER caller;
	int r = caller_enter(&caller, op);

	if (r < 0)
		return r;
	r = openat(dirfd, name, flags, caller_mode(&caller, op) & 07777);
	return r < 0 ? -errno : r;
}

/*
 * Answer with a file that was opened by its name, or made: @fresh; takes @fd, and @pinned, another descriptor of it, or -1.
 * @heard  watch_names() of the directory, before it had the file
 */
static int answer_new(struct alt_op *op, uint64_t heard, int fd, int pinned, bool fresh)
{
	SCOPED_PIN pin = NULL;
	struct alt_entry *entry = &op->r.entry;
	int r = entry_fill(dir_volume(op), fd, "", heard, entry);

	entry->fresh = fresh;
	if (r == 0 && !S_ISREG(entry->attr.mode))
		r = -ESTALE; /* something else took the name meanwhile */
	if (r < 0 && pinned >= 0)
		close(pinned);
	if (r == 0)
		r = pinned < 0 ? pin_of_fd(dir_volume(op), fd, &pin) : pin_of_entry(dir_volume(op), pinned, entry, &pin);
	if (r < 0)
		close(fd);
	else
		r = file_set(op, op->r.file, fd, entry->attr.mode, pin);
	if (r < 0)
		watch_drop(entry);
	else
		watch_lifetime(dir_volume(op), entry); /* now that it is open */
	return r;
}

/* What is surely new is the caller's to write, and is opened for that as any file is. */
static int create_new(struct alt_op *op, uint64_t heard, int dirfd, int flags)
{
	bool writes = watch_reopens(dir_volume(op)) && (flags & O_ACCMODE) != O_RDONLY;
	int made = open_as_caller(op, dirfd, op->p->name, (writes ? (flags & ~(O_ACCMODE | O_TRUNC)) : flags) | O_EXCL), fd;

	if (made < 0 || !writes)
		return made < 0 ? made : answer_new(op, heard, made, -1, true);
	fd = reopen(dir_volume(op), made, flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW));
	if (fd < 0)
		close(made);
	return fd < 0 ? fd : answer_new(op, heard, fd, made, true);
}

int dir_create(struct alt_op *op)
{
	SCOPED_PIN dir = NULL;
	const char *name = op->p->name;
	int flags = flags_below(op->p->flags) | O_CREAT | O_NOFOLLOW | (op->p->flags & O_EXCL);
	uint64_t heard;
	int r;

	if (!strcmp(name, ".") || !strcmp(name, "..") || strchr(name, '/'))
		return -EINVAL;
	r = pin_get(dir_volume(op), op->node, &dir);
	if (r < 0)
		return r;
	heard = watch_names(dir);
	r = create_new(op, heard, dir->fd, flags);
	if (r != -EEXIST || flags & O_EXCL)
		return r;
	r = open_as_caller(op, dir->fd, name, flags);
	return r < 0 ? r : answer_new(op, heard, r, -1, false);
}

int dir_tmpfile(struct alt_op *op)
{
	SCOPED_PIN dir = NULL;
	int flags = (flags_below(op->p->flags) & ~O_TRUNC) | O_TMPFILE | (op->p->flags & O_EXCL);
	int r = pin_get(dir_volume(op), op->node, &dir);

	if (r == 0)
		r = open_as_caller(op, dir->fd, ".", flags);
	return r < 0 ? r : answer_new(op, 0, r, -1, true);
}

/* The page cache reads the page around a small write, of a file opened for writing only too. */
static ssize_t read_aside(const struct dir_file *file, const struct alt_params *p)
{
	int fd = fd_open(file->pin->volume->names, file->pin->fd, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0) {
		errno = -fd;
		return -1;
	}
	n = pread(fd, p->buf, p->size, p->offset);
	close(fd);
	return n;
}

int dir_read(struct alt_op *op)
{
	struct dir_file *file = dir_file(op);
	ssize_t n = pread(file->fd, op->p->buf, op->p->size, op->p->offset);

	if (n < 0 && errno == EBADF)
		n = read_aside(file, op->p);
	if (n < 0)
		return -errno;
	op->r.size = n;
	return 0;
}

int dir_write(struct alt_op *op)
{
	const struct alt_params *p = op->p;
	struct dir_file *file = dir_file(op);
	struct iovec iov = { .iov_base = p->buf, .iov_len = p->size };
	bool append = p->flags & O_APPEND && !(p->bits & ALT_PARAM_WRITEBACK);
	SCOPED_CALLER caller;
	int r = caller_enter_writer(&caller, op, file->fd, append ? INT64_MAX : (int64_t)(p->offset + p->size));
	ssize_t n;

	if (r < 0)
		return r;
	n = pwritev2(file->fd, &iov, 1, p->offset, append ? RWF_APPEND : 0);
	if (n < 0)
		return -errno;
	op->r.size = n;
	return 0;
}

/* Closing a copy brings out what the file system below kept for close(2): EIO, ENOSPC, EDQUOT. */
int dir_flush(struct alt_op *op)
{
	struct dir_file *file = dir_file(op);
	int copy;

	if (!file)
		return 0;
	lock_drop(file->pin, op->p->lock.owner);
	copy = dup(file->fd);
	if (copy < 0)
		return 0; /* out of descriptors says nothing about the data */
	return close(copy) < 0 ? -errno : 0;
}

int dir_release(struct alt_op *op)
{
	struct dir_file *file = dir_file(op);

	if (!file)
		return 0;
	if (op->p->lock.owner)
		lock_drop(file->pin, op->p->lock.owner);
	alt_file_set_data(op->file, NULL);
	file_free(file);
	return 0;
}

int dir_fsync(struct alt_op *op)
{
	struct dir_file *file = dir_file(op);
	int r = op->p->bits & ALT_PARAM_DATASYNC ? fdatasync(file->fd) : fsync(file->fd);

	return r < 0 ? -errno : 0;
}

int dir_fallocate(struct alt_op *op)
{
	const struct alt_params *p = op->p;
	SCOPED_CALLER caller;
	int fd = dir_file(op)->fd, r = caller_enter_writer(&caller, op, fd, INT64_MAX);

	if (r < 0)
		return r;
	return fallocate(fd, p->flags, p->offset, p->length) < 0 ? -errno : 0;
}

int dir_lseek(struct alt_op *op)
{
	off_t at = lseek(dir_file(op)->fd, op->p->offset, op->p->whence);

	if (at < 0)
		return -errno;
	op->r.offset = at;
	return 0;
}

int dir_copy_file_range(struct alt_op *op)
{
	const struct alt_params *p = op->p;
	struct dir_file *to = alt_file_data(p->other_file);
	off_t in = p->offset, out = p->offset_out;
	SCOPED_CALLER caller;
	int r = caller_enter_writer(&caller, op, to->fd, INT64_MAX);
	ssize_t n;

	if (r < 0)
		return r;
	n = copy_file_range(dir_file(op)->fd, &in, to->fd, &out, p->length, 0);

	if (n < 0)
		return -errno;
	op->r.size = n;
	return 0;
}

/* What lsattr and chattr use. Anything else could mean memory of the caller that is not here. */
static const struct {
	uint32_t cmd;
	size_t in, out;
} ioctls[] = {
	{ FS_IOC_GETFLAGS, 0, sizeof(uint32_t) },
	{ FS_IOC_SETFLAGS, sizeof(uint32_t), 0 },
	{ FS_IOC_GETVERSION, 0, sizeof(uint32_t) }, /* whatever its number says */
	{ FS_IOC_FSGETXATTR, 0, sizeof(struct fsxattr) },
	{ FS_IOC_FSSETXATTR, sizeof(struct fsxattr), 0 },
};

int dir_ioctl(struct alt_op *op)
{
	const struct alt_params *p = op->p;
	char buf[sizeof(struct fsxattr) + sizeof(long)] = { 0 };
	size_t i = 0, count = sizeof(ioctls) / sizeof(*ioctls);

	while (i < count && ioctls[i].cmd != p->cmd)
		i++;
	if (i == count)
		return -ENOTTY;
	if (p->size < ioctls[i].in || p->out_size < ioctls[i].out)
		return -EINVAL;
	memcpy(buf, p->buf, ioctls[i].in);
	if (ioctl(dir_file(op)->fd, p->cmd, buf) < 0)
		return -errno;
	if (ioctls[i].out)
		memcpy(p->buf, buf, ioctls[i].out);
	op->r.size = ioctls[i].out;
	op->r.value = 0;
	return 0;
}
