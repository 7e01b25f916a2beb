/* SPDX-License-Identifier: MIT */
/*
 * One mark of fanotify(7) on the whole file system below: no cost for a directory or a file that is known, and nothing to
 * race with. For root.
 *
 * Data that is changed through the volume is passed over by the mount it was done in: files are opened for writing in a mount
 * of the server's own, a private copy of the one below; its writes are not reported, and neither are those that pass through
 * to a file opened there.
 */
#include "hear.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define HANDLES 1024u            /* handles whose key is remembered */
#define MOVED 1024u              /* directories that were renamed last */
#define HANDLE_SIZE 48u          /* a longer one is looked at each time */

/* What moves is told by FAN_RENAME. */
static const uint64_t events_wanted = FAN_CREATE | FAN_DELETE | FAN_RENAME | (EVENTS_SELF & ~FAN_MOVE_SELF) | FAN_ONDIR;

struct handle_known {
	unsigned size;               /* of the handle's bytes; 0: empty */
	int type;
	unsigned char bytes[HANDLE_SIZE];
	struct alt_key key;
};

struct whole {
	int root;                    /* the directory in a mount of our own */
	int below;                   /* and in the one that is served */
	pthread_mutex_t lock;
	struct handle_known moved[MOVED]; /* [lock] by key */
	int copied;                  /* id of the mount that is a copy of */
	struct handle_known known[HANDLES];
};

static struct handle_known *handle_slot(struct whole *own, const struct file_handle *h)
{
	uint64_t hash = h->handle_type;

	for (unsigned i = 0; i < h->handle_bytes; i++)
		hash = (hash ^ h->f_handle[i]) * 0x100000001b3u;
	return &own->known[(hash ^ hash >> 32) % HANDLES];
}

static bool whole_key(struct dir_watch *w, struct file_handle *h, struct alt_key *ret)
{
	struct whole *own = w->own;
	struct handle_known *k = handle_slot(own, h);
	struct stat st;
	int fd, r;

	if (k->size == h->handle_bytes && k->type == h->handle_type && !memcmp(k->bytes, h->f_handle, k->size)) {
		*ret = k->key;
		return true;
	}
	fd = open_by_handle_at(own->root, h, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return false; /* it is gone: nobody can ask for it by a name any more */
	r = fstat(fd, &st);
	close(fd);
	if (r < 0)
		return false;
	*ret = (struct alt_key){ .id = st.st_ino, .dev = st.st_dev };
	if (h->handle_bytes && h->handle_bytes <= HANDLE_SIZE) {
		k->size = h->handle_bytes;
		k->type = h->handle_type;
		memcpy(k->bytes, h->f_handle, k->size);
		k->key = *ret;
	}
	return true;
}

static struct handle_known *moved_slot(struct whole *own, struct alt_key key)
{
	return &own->moved[(key.id * 0x9e3779b97f4a7c15u >> 32) % MOVED];
}

static void whole_moved(struct dir_watch *w, struct file_handle *h)
{
	struct whole *own = w->own;
	struct alt_key key;

	if (!whole_key(w, h, &key) || !h->handle_bytes || h->handle_bytes > HANDLE_SIZE)
		return;
	pthread_mutex_lock(&own->lock);
	*moved_slot(own, key) = *handle_slot(own, h);
	pthread_mutex_unlock(&own->lock);
}

/* In the mount that is served: between two mounts no name can be moved. */
static int whole_find(struct dir_watch *w, struct alt_key key)
{
	union { struct file_handle h; char room[sizeof(struct file_handle) + HANDLE_SIZE]; } u;
	struct whole *own = w->own;
	const struct handle_known *k = moved_slot(own, key);
	bool known;
	int fd;

	pthread_mutex_lock(&own->lock);
	known = k->size && k->key.id == key.id && k->key.dev == key.dev;
	u.h.handle_bytes = k->size;
	u.h.handle_type = k->type;
	memcpy(u.h.f_handle, k->bytes, k->size);
	pthread_mutex_unlock(&own->lock);
	fd = known ? open_by_handle_at(own->below, &u.h, O_PATH | O_CLOEXEC) : -1;
	return fd < 0 ? -ESTALE : fd;
}

static bool whole_gone(struct dir_watch *w, struct file_handle *h)
{
	int fd = open_by_handle_at(((struct whole *)w->own)->root, h, O_PATH | O_CLOEXEC);
	struct stat st;
	bool gone;

	if (fd < 0)
		return errno == ESTALE;
	gone = fstat(fd, &st) == 0 && !st.st_nlink;
	close(fd);
	return gone;
}

static int whole_reopen(struct dir_watch *w, int fd, int flags)
{
	union { struct file_handle h; char room[sizeof(struct file_handle) + MAX_HANDLE_SZ]; } u;
	const struct whole *own = w->own;
	int mount_id, r;

	u.h.handle_bytes = MAX_HANDLE_SZ;
	/* A handle means something in its own file system only: not of one that is mounted further down. */
	if (name_to_handle_at(fd, "", &u.h, &mount_id, AT_EMPTY_PATH) < 0 || mount_id != own->copied)
		return -EOPNOTSUPP;
	/* The mount that is served may have become read-only since. */
	if (faccessat(fd, "", W_OK, AT_EACCESS | AT_EMPTY_PATH) < 0 && errno == EROFS)
		return -EROFS;
	r = open_by_handle_at(own->root, &u.h, flags);
	return r < 0 ? -errno : r;
}

/* A descriptor for reading, in a new mount that nobody else is in. @ret_copied  id of the mount it is a copy of */
static int mount_own(int root, int *ret_copied)
{
	struct { struct file_handle h; char room[MAX_HANDLE_SZ]; } u = { .h.handle_bytes = MAX_HANDLE_SZ };
	int tree, fd;

	if (name_to_handle_at(root, "", &u.h, ret_copied, AT_EMPTY_PATH) < 0)
		return -1;
	tree = open_tree(root, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (tree < 0)
		return -1;
	fd = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	close(tree);
	return fd;
}

static const char *whole_begin(struct dir_watch *w)
{
	struct whole *own = w->own = calloc(1, sizeof(*own));

	if (!own)
		return "no memory";
	pthread_mutex_init(&own->lock, NULL);
	own->below = fd_open(w->volume->names, w->volume->root->fd, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own->root = mount_own(w->volume->root->fd, &own->copied);
	if (own->root >= 0 && own->below >= 0)
		w->events = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME_TARGET | FAN_NONBLOCK | FAN_CLOEXEC, O_RDONLY);
	if (w->events < 0 ||
	    fanotify_mark(w->events, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, events_wanted, own->root, ".") < 0 ||
	    fanotify_mark(w->events, FAN_MARK_ADD | FAN_MARK_MOUNT | FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY,
			  FAN_MODIFY | FAN_CLOSE_WRITE, own->root, ".") < 0)
		return errno == EPERM ? "only root may hear of them" : strerror(errno);
	return NULL;
}

static void whole_end(struct dir_watch *w)
{
	struct whole *own = w->own;

	if (!own)
		return;
	if (own->root >= 0)
		close(own->root);
	if (own->below >= 0)
		close(own->below);
	pthread_mutex_destroy(&own->lock);
	free(own);
}

const struct hearing hearing_whole = {
	.begin = whole_begin,
	.end = whole_end,
	.key = whole_key,
	.gone = whole_gone,
	.moved = whole_moved,
	.find = whole_find,
	.reopen = whole_reopen,
};
