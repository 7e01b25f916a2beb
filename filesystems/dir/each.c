/* SPDX-License-Identifier: MIT */
/*
 * A mark of fanotify(7) for each inode of which something is remembered: what an ordinary user may do (Linux 5.17), and root in
 * a container. A mark on a directory tells of its names too.
 *
 * Marks on directories alone would be fewer, and tell of their children. But a change is told to the directory it was made
 * through: a file that gets a second name elsewhere is told to nobody, and neither is what is written by that name.
 *
 * An inode is marked before it is looked at, so nothing slips between. Its handle has the generation of its number, so what
 * is in the table is that very inode, marked, and not another that has the number by now. An inode without a mark has no
 * lifetimes: what may not be read, and all others when there are no more marks (fs.fanotify.max_user_marks).
 *
 * To take one mark away takes a path, which nobody has of an inode that the kernel has forgotten. So marks are kept, which
 * also spares making them again, and all are given back at once when most of them are of no use: everything begins anew,
 * by the number of the generation.
 *
 * Our own changes are told by the process, as for root: of others the number is withheld. That counts for data as well, as all
 * of a user's goes through the server. inotify(7), which is there where fanotify is not, cannot tell them: what was made through
 * the volume would be forgotten at once, and with it the path of who has stepped into it (getcwd(2) is then refused).
 */
#include "hear.h"

#include <altitude/log.h>
#include <altitude/notify.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HANDLE_SIZE 24u          /* ext4, F2FS 8; XFS, tmpfs 12; Btrfs 20 */
#define ENDED 64u                /* files whose last name went, until its directory's event comes */
#define IDLE_MOST 8192u          /* marks nobody needs, beside as many as are needed */
#define RENEW_MS 60000           /* not more often for want of marks */

static const uint64_t events_of_file = EVENTS_SELF | FAN_DELETE_SELF;
static const uint64_t events_of_directory = FAN_CREATE | FAN_DELETE | FAN_RENAME | FAN_ATTRIB | FAN_MOVE_SELF |
	FAN_DELETE_SELF | FAN_ONDIR;

struct handle {
	uint8_t size;                /* of its bytes */
	int type;
	unsigned char bytes[HANDLE_SIZE];
};

struct marked {
	struct marked *next;         /* [lock] in its bucket */
	struct handle handle;
	struct alt_key key;
};

struct each {
	int mount_id;                /* where the handles mean something */
	_Atomic uint64_t generation; /* from 1; another: all marks were given back since */
	_Atomic size_t known;        /* nodes the kernel was told of by a name */
	pthread_mutex_t lock;
	struct marked **table;       /* [lock] */
	size_t buckets;              /* [lock] */
	_Atomic size_t count;        /* written under lock */
	bool poor;                   /* [lock] there were no more marks; said once */
	int64_t renewed_ms;          /* [lock] when there were none last */
	struct handle ended[ENDED];  /* the watch's thread alone */
	unsigned ended_at;
};

static bool handle_same(const struct handle *a, const struct handle *b)
{
	return a->size == b->size && a->type == b->type && !memcmp(a->bytes, b->bytes, a->size);
}

static bool handle_from(const struct file_handle *h, struct handle *ret)
{
	if (!h->handle_bytes || h->handle_bytes > HANDLE_SIZE)
		return false;
	*ret = (struct handle){ .size = h->handle_bytes, .type = h->handle_type };
	memcpy(ret->bytes, h->f_handle, h->handle_bytes);
	return true;
}

/* Of what lies in the mount that is served: elsewhere the same handle is another inode. */
static bool handle_of(const struct each *own, int fd, struct handle *ret)
{
	union { struct file_handle h; char room[sizeof(struct file_handle) + MAX_HANDLE_SZ]; } u;
	int mount_id;

	u.h.handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(fd, "", &u.h, &mount_id, AT_EMPTY_PATH) < 0 || mount_id != own->mount_id)
		return false;
	return handle_from(&u.h, ret);
}

/* ---- what is marked ---- */

static size_t bucket_of(const struct handle *h, size_t buckets)
{
	uint64_t hash = 0xcbf29ce484222325u;

	for (unsigned i = 0; i < h->size; i++)
		hash = (hash ^ h->bytes[i]) * 0x100000001b3u;
	return (hash ^ hash >> 32) & (buckets - 1);
}

/* There must be buckets. */
static struct marked **marked_at_locked(struct each *own, const struct handle *h)
{
	struct marked **at = &own->table[bucket_of(h, own->buckets)];

	while (*at && !handle_same(&(*at)->handle, h))
		at = &(*at)->next;
	return at;
}

static bool table_grow_locked(struct each *own)
{
	size_t buckets = own->buckets ? own->buckets * 2 : 64;
	struct marked **table = calloc(buckets, sizeof(*table));

	if (!table)
		return own->buckets; /* longer chains, still right */
	for (size_t i = 0; i < own->buckets; i++) {
		for (struct marked *m = own->table[i], *next; m; m = next) {
			struct marked **at = &table[bucket_of(&m->handle, buckets)];

			next = m->next;
			m->next = *at;
			*at = m;
		}
	}
	free(own->table);
	own->table = table;
	own->buckets = buckets;
	return true;
}

static bool table_has(struct each *own, const struct handle *h, struct alt_key *ret)
{
	struct marked *m;

	pthread_mutex_lock(&own->lock);
	m = own->buckets ? *marked_at_locked(own, h) : NULL;
	if (m)
		*ret = m->key;
	pthread_mutex_unlock(&own->lock);
	return m;
}

/* What was marked in @generation; false when that is over, or without memory. */
static bool table_add(struct each *own, const struct handle *h, struct alt_key key, uint64_t generation)
{
	struct marked *m = malloc(sizeof(*m));
	bool good;

	if (!m)
		return false;
	*m = (struct marked){ .handle = *h, .key = key };
	pthread_mutex_lock(&own->lock);
	good = generation == atomic_load(&own->generation) && (own->count < own->buckets || table_grow_locked(own));
	if (good) {
		struct marked **at = marked_at_locked(own, h);

		if (!*at) {
			*at = m;
			own->count++;
			m = NULL;
		}
	}
	pthread_mutex_unlock(&own->lock);
	free(m);
	return good;
}

static void table_remove(struct each *own, const struct handle *h)
{
	struct marked *m = NULL, **at;

	pthread_mutex_lock(&own->lock);
	if (own->buckets && *(at = marked_at_locked(own, h))) {
		m = *at;
		*at = m->next;
		own->count--;
	}
	pthread_mutex_unlock(&own->lock);
	free(m);
}

static void table_clear_locked(struct each *own)
{
	for (size_t i = 0; i < own->buckets; i++) {
		for (struct marked *m = own->table[i], *next; m; m = next) {
			next = m->next;
			free(m);
		}
	}
	free(own->table);
	own->table = NULL;
	own->buckets = own->count = 0;
}

/*
 * Who marks meanwhile does so in a generation that is over before it is added. Answers of the old one that are on their way are
 * taken back with all others.
 */
static void renew_locked(struct dir_watch *w)
{
	struct each *own = w->own;

	atomic_fetch_add(&own->generation, 1);
	fanotify_mark(w->events, FAN_MARK_FLUSH, 0, AT_FDCWD, NULL);
	table_clear_locked(own);
	atomic_fetch_add(&own->generation, 1);
	alt_notify_lost(w->alt);
}

/* ---- marks ---- */

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ll + now.tv_nsec / 1000000;
}

/* No more marks: those who use the volume now get them, those who used it once have had them. */
static void marks_out(struct dir_watch *w)
{
	struct each *own = w->own;
	int64_t now = now_ms();
	bool say;

	pthread_mutex_lock(&own->lock);
	say = !own->poor;
	own->poor = true;
	if (now - own->renewed_ms >= RENEW_MS) {
		own->renewed_ms = now;
		renew_locked(w);
	}
	pthread_mutex_unlock(&own->lock);
	if (say)
		alt_log(LOG_NOTICE, "dir:%s: no more marks for files and directories (sysctl fs.fanotify.max_user_marks); of those without, "
			"names and attributes are asked for each time", w->root);
}

static bool mark_add(struct dir_watch *w, int fd, mode_t mode)
{
	uint64_t events = S_ISDIR(mode) ? events_of_directory : events_of_file;

	if (fanotify_mark(w->events, FAN_MARK_ADD, events, AT_FDCWD, fd_path(fd).text) == 0)
		return true;
	if (errno == ENOSPC) {
		marks_out(w);
		errno = ENOSPC;
	}
	return false;
}

static uint64_t each_mark(struct dir_watch *w, int fd)
{
	struct each *own = w->own;
	uint64_t generation = atomic_load(&own->generation);
	struct alt_key key;
	struct handle h;
	struct stat st;

	if (!handle_of(own, fd, &h))
		return 0;
	if (table_has(own, &h, &key))
		return generation;
	if (fstat(fd, &st) < 0 || !mark_add(w, fd, st.st_mode))
		return 0;
	key = (struct alt_key){ .id = st.st_ino, .dev = st.st_dev };
	return table_add(own, &h, key, generation) ? generation : 0;
}

static bool each_holds(struct dir_watch *w, uint64_t generation)
{
	return generation == atomic_load(&((struct each *)w->own)->generation);
}

static bool mostly_idle(const struct each *own)
{
	return atomic_load(&own->count) > 2 * atomic_load(&own->known) + IDLE_MOST;
}

static void each_known(struct dir_watch *w, bool more)
{
	struct each *own = w->own;

	if (more) {
		atomic_fetch_add(&own->known, 1);
		return;
	}
	atomic_fetch_sub(&own->known, 1);
	if (!mostly_idle(own))
		return;
	pthread_mutex_lock(&own->lock);
	if (mostly_idle(own))
		renew_locked(w);
	pthread_mutex_unlock(&own->lock);
}

/* ---- events ---- */

static bool each_key(struct dir_watch *w, struct file_handle *h, struct alt_key *ret)
{
	struct handle handle;

	return handle_from(h, &handle) && table_has(w->own, &handle, ret);
}

/* The mark went with the last name; what is still open is marked anew when it is looked at. */
static void each_ended(struct dir_watch *w, struct file_handle *h)
{
	struct each *own = w->own;
	struct handle *ended = &own->ended[own->ended_at];

	if (!handle_from(h, ended))
		return;
	own->ended_at = (own->ended_at + 1) % ENDED;
	table_remove(own, ended);
}

/* The end of a file comes before the event of its directory, unless it is open. Then it is known only if it is open here. */
static bool each_gone(struct dir_watch *w, struct file_handle *h)
{
	const struct each *own = w->own;
	struct handle handle;
	struct alt_key key;

	if (!handle_from(h, &handle))
		return false;
	for (unsigned i = 0; i < ENDED; i++)
		if (handle_same(&own->ended[i], &handle))
			return true;
	return table_has(w->own, &handle, &key) && pin_is_unlinked(w->volume, key);
}

/* ---- beginning and end ---- */

static const char *each_begin(struct dir_watch *w)
{
	struct { struct file_handle h; char room[MAX_HANDLE_SZ]; } u = { .h.handle_bytes = MAX_HANDLE_SZ };
	struct each *own = w->own = calloc(1, sizeof(*own));

	if (!own)
		return "no memory";
	pthread_mutex_init(&own->lock, NULL);
	own->generation = 1;
	own->renewed_ms = now_ms() - RENEW_MS;
	if (name_to_handle_at(w->volume->root->fd, "", &u.h, &own->mount_id, AT_EMPTY_PATH) < 0)
		return strerror(errno);
	w->events = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME_TARGET | FAN_NONBLOCK | FAN_CLOEXEC, O_RDONLY);
	if (w->events < 0)
		return errno == EPERM ? "fanotify is not open to users" : strerror(errno);
	/* What the directory itself lacks, what is in it may have, now or later. */
	if (!each_mark(w, w->volume->root->fd) && errno != EACCES && errno != ENOSPC && errno != ENOMEM)
		return strerror(errno);
	return NULL;
}

static void each_end(struct dir_watch *w)
{
	struct each *own = w->own;

	if (!own)
		return;
	table_clear_locked(own);
	pthread_mutex_destroy(&own->lock);
	free(own);
}

const struct hearing hearing_each = {
	.begin = each_begin,
	.end = each_end,
	.mark = each_mark,
	.holds = each_holds,
	.known = each_known,
	.key = each_key,
	.gone = each_gone,
	.ended = each_ended,
};
