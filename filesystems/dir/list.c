/* SPDX-License-Identifier: MIT */
/*
 * Listing a directory. The cookies are those of the file system below, so a listing goes on at the
 * right place however the directory changes; the buffer is only kept while the reader goes straight
 * on.
 */
#include "watch.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LIST_SIZE 32768u

struct dir_list {
	pthread_mutex_t lock;
	int64_t at;              /* [lock] cookie of the next entry in the buffer */
	size_t used, filled;     /* [lock] */
	_Alignas(struct dirent64) char buf[LIST_SIZE]; /* [lock] from getdents64(2) */
};

static struct dir_list *list_new(void)
{
	struct dir_list *list = malloc(sizeof(*list));

	if (!list)
		return NULL;
	pthread_mutex_init(&list->lock, NULL);
	list->at = 0;
	list->used = list->filled = 0;
	return list;
}

void list_free(struct dir_list *list)
{
	if (!list)
		return;
	pthread_mutex_destroy(&list->lock);
	free(list);
}

static int file_open_list(struct alt_op *op, struct dir_pin *pin)
{
	int fd = openat(pin->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dir_file *file;

	if (fd < 0)
		return -errno;
	file = file_new(fd, pin);
	if (!file) {
		close(fd);
		return -ENOMEM;
	}
	file->list = list_new();
	if (!file->list) {
		file_free(file);
		return -ENOMEM;
	}
	alt_file_set_data(op->file, file);
	if (watch_names(pin))
		op->r.open |= ALT_OPEN_CACHE_DIR;
	return 0;
}

int dir_opendir(struct alt_op *op)
{
	SCOPED_PIN pin = NULL;
	int r = pin_get(dir_volume(op), op->node, &pin);

	if (r < 0)
		return r;
	return S_ISDIR(pin->type) ? file_open_list(op, pin) : -ENOTDIR;
}

static int list_seek(struct dir_list *list, int fd, int64_t offset)
{
	/* Offset 0 is a rewind: the reader wants what is there now. */
	if (offset && offset == list->at)
		return 0;
	if (lseek(fd, offset, SEEK_SET) < 0)
		return -errno;
	list->at = offset;
	list->used = list->filled = 0;
	return 0;
}

/* The next entry, or NULL at the end. */
static int list_peek(struct dir_list *list, int fd, struct dirent64 **ret)
{
	*ret = NULL;
	if (list->used == list->filled) {
		long n = syscall(SYS_getdents64, fd, list->buf, LIST_SIZE);

		if (n < 0)
			return -errno;
		list->used = 0;
		list->filled = n;
		if (n == 0)
			return 0;
	}
	*ret = (struct dirent64 *)(list->buf + list->used);
	return 0;
}

static bool name_is_dots(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

static bool list_give_name(struct alt_op *op, const struct dirent64 *d)
{
	struct alt_key key = { .id = d->d_ino, .dev = dir_file(op)->pin->key.dev };

	return alt_dirent_add(op, d->d_name, ino_told(dir_volume(op), key), d->d_type, d->d_off, NULL);
}

/*
 * Returns false when the answer is full. An entry that vanished meanwhile was there when the directory was read: without it,
 * what is renamed to and fro would be listed by neither name.
 */
static bool list_give(struct alt_op *op, int fd, uint64_t heard, const struct dirent64 *d)
{
	struct alt_entry entry;

	if (!(op->p->bits & ALT_PARAM_PLUS) || name_is_dots(d->d_name))
		return list_give_name(op, d);
	memset(&entry, 0, sizeof(entry));
	if (entry_fill(dir_volume(op), fd, d->d_name, heard, &entry) < 0)
		return list_give_name(op, d);
	if (alt_dirent_add(op, d->d_name, entry.attr.ino, IFTODT(entry.attr.mode), d->d_off, &entry))
		return true;
	watch_drop(&entry);
	return false;
}

static int list_read(struct alt_op *op, struct dir_list *list, int fd, uint64_t heard)
{
	struct dirent64 *d;
	int given = 0, r = list_seek(list, fd, op->p->offset);

	while (r == 0) {
		r = list_peek(list, fd, &d);
		if (r < 0 || !d || !list_give(op, fd, heard, d))
			break;
		list->used += d->d_reclen;
		list->at = d->d_off;
		given++;
	}
	return given ? 0 : r; /* an error waits for the next call when there is something to tell */
}

int dir_readdir(struct alt_op *op)
{
	struct dir_file *file = dir_file(op);
	int r;

	pthread_mutex_lock(&file->list->lock);
	r = list_read(op, file->list, file->fd, watch_names(file->pin));
	pthread_mutex_unlock(&file->list->lock);
	return r;
}

int dir_releasedir(struct alt_op *op)
{
	struct dir_file *file = dir_file(op);

	if (!file)
		return 0;
	alt_file_set_data(op->file, NULL);
	file_free(file);
	return 0;
}

int dir_fsyncdir(struct alt_op *op)
{
	return dir_fsync(op);
}
