/* SPDX-License-Identifier: MIT */
/*
 * One fanotify mark on the whole file system below: no cost for a directory or a file that is known, and nothing to
 * race with. An event names the directory by a handle and the entry by its name.
 *
 * What is done through the volume is no news to the kernel, and is passed over: names by the process that did it, data by
 * the mount it was done in. Files are opened for writing in a mount of the server's own, a private copy of the one below;
 * its writes are not reported, and neither are those that pass through to a file opened there.
 *
 * A mapping is told to nobody. So of a file that is open for reading and writing through the volume, which can be mapped,
 * no attributes are remembered.
 */
#include "watch.h"

#include <altitude/log.h>
#include <altitude/notify.h>

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVENTS_SIZE 65536u
#define HANDLES 1024u            /* handles whose key is remembered */
#define HANDLE_SIZE 48u          /* a longer one is looked at each time */
#define EVENTS_MANY 64u          /* at once */
#define REST_US 1000u            /* after many events, or only our own: each is not worth a wake-up */

#define EVENTS_SELF (FAN_ATTRIB | FAN_MODIFY | FAN_CLOSE_WRITE)

static const uint64_t events_wanted = FAN_CREATE | FAN_DELETE | FAN_RENAME | EVENTS_SELF | FAN_ONDIR;

struct handle_known {
	unsigned size;               /* of the handle's bytes; 0: empty */
	int type;
	unsigned char bytes[HANDLE_SIZE];
	struct alt_key key;
};

struct dir_watch {
	struct dir_volume *volume;
	struct alt_volume *alt;
	int events;                  /* from fanotify_init(2) */
	int own;                     /* the directory in a mount of our own */
	int copied;                  /* id of the mount that is a copy of */
	int mounts;                  /* /proc/self/mountinfo */
	int stop;                    /* eventfd */
	dev_t dev;                   /* the file system that is heard */
	char root[PATH_MAX];         /* resolved */
	uint64_t mounted;            /* what is mounted below the root, as a hash */
	pid_t pid;                   /* the server's */
	pthread_t thread;
	struct handle_known known[HANDLES];
	char buf[EVENTS_SIZE];
};

/* ---- lifetimes ---- */

void watch_lifetime(struct dir_volume *volume, struct alt_entry *entry)
{
	const struct dir_watch *w = volume->watch;

	if (!w)
		return;
	if (entry->key.dev != w->dev)
		entry->entry_ttl_ms = entry->attr_ttl_ms = ALT_TTL_NONE;
	else if (S_ISREG(entry->attr.mode) && pin_is_mappable(volume, entry->key))
		entry->attr_ttl_ms = ALT_TTL_NONE;
}

/* Attributes first stop to be remembered, then those that are remembered are taken back: nothing slips between. */
void watch_mappable_begins(struct dir_pin *pin, bool fresh)
{
	const struct dir_watch *w = pin->volume->watch;

	if (w && !atomic_fetch_add(&pin->mappable, 1) && !fresh)
		alt_notify_node(w->alt, pin->key, false);
}

/* An answer that is on its way may be older than the last mapped write: it is taken back. */
void watch_mappable_ends(struct dir_pin *pin)
{
	const struct dir_watch *w = pin->volume->watch;

	if (w && atomic_fetch_sub(&pin->mappable, 1) == 1)
		alt_notify_node(w->alt, pin->key, false);
}

int watch_reopen(const struct dir_volume *volume, int fd, int flags)
{
	union { struct file_handle h; char room[sizeof(struct file_handle) + MAX_HANDLE_SZ]; } u;
	int mount_id, r;

	if (!volume->watch)
		return -EOPNOTSUPP;
	u.h.handle_bytes = MAX_HANDLE_SZ;
	/* A handle means something in its own file system only: not of one that is mounted further down. */
	if (name_to_handle_at(fd, "", &u.h, &mount_id, AT_EMPTY_PATH) < 0 || mount_id != volume->watch->copied)
		return -EOPNOTSUPP;
	r = open_by_handle_at(volume->watch->own, &u.h, flags);
	return r < 0 ? -errno : r;
}

bool watch_listing(const struct dir_pin *pin)
{
	const struct dir_watch *w = pin->volume->watch;

	return w && pin->key.dev == w->dev;
}

/* ---- events ---- */

static struct handle_known *handle_slot(struct dir_watch *w, const struct file_handle *h)
{
	uint64_t hash = h->handle_type;

	for (unsigned i = 0; i < h->handle_bytes; i++)
		hash = (hash ^ h->f_handle[i]) * 0x100000001b3u;
	return &w->known[(hash ^ hash >> 32) % HANDLES];
}

static bool handle_key(struct dir_watch *w, struct file_handle *h, struct alt_key *ret)
{
	struct handle_known *k = handle_slot(w, h);
	struct stat st;
	int fd, r;

	if (k->size == h->handle_bytes && k->type == h->handle_type && !memcmp(k->bytes, h->f_handle, k->size)) {
		*ret = k->key;
		return true;
	}
	fd = open_by_handle_at(w->own, h, O_PATH | O_CLOEXEC);
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

/* Whether a file has no name any more. */
static bool handle_gone(struct dir_watch *w, struct file_handle *h)
{
	int fd = open_by_handle_at(w->own, h, O_PATH | O_CLOEXEC);
	struct stat st;
	bool gone;

	if (fd < 0)
		return errno == ESTALE;
	gone = fstat(fd, &st) == 0 && !st.st_nlink;
	close(fd);
	return gone;
}

/* What an event says of whom. */
struct told {
	bool has_dir, has_new, has_self;
	bool gone;                   /* FAN_DELETE: it was the last name of a file */
	struct alt_key dir, new_dir, self;
	const char *name, *new_name;
};

static void told_parse(struct dir_watch *w, const struct fanotify_event_metadata *m, struct told *t)
{
	char *at = (char *)m + m->metadata_len, *end = (char *)m + m->event_len;

	memset(t, 0, sizeof(*t));
	while (end - at >= (long)sizeof(struct fanotify_event_info_fid)) {
		struct fanotify_event_info_fid *info = (void *)at;
		struct file_handle *h = (void *)info->handle;
		const char *name = (char *)h->f_handle + h->handle_bytes;

		switch (info->hdr.info_type) {
		case FAN_EVENT_INFO_TYPE_FID:
			if (m->mask & EVENTS_SELF)
				t->has_self = handle_key(w, h, &t->self);
			if (m->mask & FAN_DELETE && !(m->mask & FAN_ONDIR))
				t->gone = handle_gone(w, h);
			break;
		case FAN_EVENT_INFO_TYPE_DFID_NAME:
		case FAN_EVENT_INFO_TYPE_OLD_DFID_NAME:
			t->has_dir = handle_key(w, h, &t->dir);
			t->name = name;
			break;
		case FAN_EVENT_INFO_TYPE_NEW_DFID_NAME:
			t->has_new = handle_key(w, h, &t->new_dir);
			t->new_name = name;
			break;
		}
		at += info->hdr.len;
	}
}

/* A directory names itself with "." */
static bool is_itself(const struct told *t)
{
	return !strcmp(t->name, ".");
}

static void event_tell(struct dir_watch *w, const struct fanotify_event_metadata *m)
{
	struct told t;

	told_parse(w, m, &t);
	if (m->mask & FAN_RENAME && t.has_dir && t.has_new) {
		alt_notify_rename(w->alt, t.dir, t.name, t.new_dir, t.new_name);
		return;
	}
	if (m->mask & (FAN_CREATE | FAN_DELETE | FAN_RENAME)) {
		if (t.has_dir && !is_itself(&t))
			(t.gone ? alt_notify_delete : alt_notify_entry)(w->alt, t.dir, t.name);
		if (t.has_new)
			alt_notify_entry(w->alt, t.new_dir, t.new_name);
	}
	if (m->mask & EVENTS_SELF) {
		if (t.has_self)
			alt_notify_node(w->alt, t.self, m->mask & (FAN_MODIFY | FAN_CLOSE_WRITE));
		else if (t.has_dir && is_itself(&t))
			alt_notify_node(w->alt, t.dir, false);
	}
}

/* Whether to rest before the next look. */
static bool events_read(struct dir_watch *w)
{
	ssize_t n = read(w->events, w->buf, sizeof(w->buf));
	struct fanotify_event_metadata *m = (void *)w->buf;
	unsigned count = 0, own = 0;

	for (; n > 0 && FAN_EVENT_OK(m, n); m = FAN_EVENT_NEXT(m, n), count++) {
		if (m->mask & FAN_Q_OVERFLOW)
			alt_notify_lost(w->alt);
		else if (m->pid == w->pid)
			own++;
		else
			event_tell(w, m);
	}
	return count > EVENTS_MANY || (count && own == count);
}

/* ---- what is mounted below ---- */

static uint64_t mounts_hash(struct dir_watch *w)
{
	size_t len = strlen(w->root);
	uint64_t hash = 0xcbf29ce484222325u;
	char *line = NULL;
	size_t room = 0;
	FILE *f;

	lseek(w->mounts, 0, SEEK_SET);
	f = fdopen(dup(w->mounts), "r");
	while (f && getline(&line, &room, f) > 0) {
		char point[PATH_MAX];

		if (sscanf(line, "%*s %*s %*s %*s %4095s", point) != 1 || strncmp(point, w->root, len) ||
		    (len > 1 && point[len] != '/'))
			continue;
		for (const char *c = line; *c; c++)
			hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
	}
	free(line);
	if (f)
		fclose(f);
	return hash;
}

static void mounts_look(struct dir_watch *w)
{
	uint64_t now = mounts_hash(w);

	if (now != w->mounted)
		alt_notify_lost(w->alt);
	w->mounted = now;
}

static void *watch_main(void *arg)
{
	struct dir_watch *w = arg;
	struct pollfd fds[] = { { w->stop, POLLIN }, { w->events, POLLIN }, { w->mounts, POLLPRI } };

	while (poll(fds, 3, -1) < 0 || !fds[0].revents) {
		if (fds[1].revents && events_read(w))
			usleep(REST_US);
		if (fds[2].revents)
			mounts_look(w);
	}
	return NULL;
}

/* ---- beginning and end ---- */

static void watch_free(struct dir_watch *w)
{
	const int fds[] = { w->events, w->own, w->mounts, w->stop };

	for (int i = 0; i < 4; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(w);
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

/* NULL, or why it cannot be. */
static const char *watch_open(struct dir_watch *w)
{
	struct stat st;

	if (!w->volume->local)
		return "a file system of this kind does not tell of all its changes";
	w->own = mount_own(w->volume->root->fd, &w->copied);
	if (w->own >= 0)
		w->events = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME_TARGET | FAN_NONBLOCK | FAN_CLOEXEC, O_RDONLY);
	if (w->events < 0 || fstat(w->own, &st) < 0 || !realpath(fd_path(w->volume->root->fd).text, w->root) ||
	    fanotify_mark(w->events, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, events_wanted, w->own, ".") < 0 ||
	    fanotify_mark(w->events, FAN_MARK_ADD | FAN_MARK_MOUNT | FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY,
			  FAN_MODIFY | FAN_CLOSE_WRITE, w->own, ".") < 0)
		return errno == EPERM ? "only root may hear of them" : strerror(errno);
	w->dev = st.st_dev;
	w->mounts = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	w->stop = eventfd(0, EFD_CLOEXEC);
	if (w->mounts < 0 || w->stop < 0)
		return strerror(errno);
	w->mounted = mounts_hash(w);
	return NULL;
}

void watch_start(struct dir_volume *volume, struct alt_volume *alt, const char *root)
{
	struct dir_watch *w = volume->privileged ? calloc(1, sizeof(*w)) : NULL;
	const char *why = "no memory";

	if (!volume->privileged)
		return; /* as its man page says: only root may hear of changes */
	if (w) {
		w->volume = volume;
		w->alt = alt;
		w->pid = getpid();
		w->events = w->own = w->mounts = w->stop = -1;
		why = watch_open(w);
		volume->watch = w;      /* before the first event */
		if (!why && pthread_create(&w->thread, NULL, watch_main, w))
			why = "no thread";
	}
	if (!why) {
		alt_volume_set_watched(alt, true);
		return;
	}
	volume->watch = NULL;
	if (w)
		watch_free(w);
	alt_log(LOG_NOTICE, "dir:%s: changes made beside the volume are not heard of (%s); names and attributes are asked for "
		"each time", root, why);
}

void watch_stop(struct dir_volume *volume)
{
	struct dir_watch *w = volume->watch;

	if (!w)
		return;
	eventfd_write(w->stop, 1);
	pthread_join(w->thread, NULL);
	volume->watch = NULL;
	watch_free(w);
}
