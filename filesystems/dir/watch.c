/* SPDX-License-Identifier: MIT */
/*
 * What is remembered of the volume, for how long, and the thread that hears. How it hears is one of the ways of hear.h.
 *
 * A mapping is told to nobody. So of a file that is open for reading and writing through the volume, which can be mapped,
 * no attributes are remembered.
 */
#include "hear.h"

#include <altitude/log.h>
#include <altitude/notify.h>

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define AWAIT_US 200u
#define AWAIT_TIMES 50u
#define REST_US 1000u            /* after many events, or only our own: each is not worth a wake-up */

/* ---- lifetimes ---- */

static bool is_heard(struct dir_watch *w, uint64_t heard)
{
	return heard && (!w->way->mark || w->way->holds(w, heard));
}

uint64_t watch_names(struct dir_pin *dir)
{
	struct dir_watch *w = dir->volume->watch;
	uint64_t heard;

	if (!w || dir->key.dev != w->dev)
		return 0;
	if (!w->way->mark)
		return 1;
	heard = atomic_load(&dir->heard);
	if (is_heard(w, heard))
		return heard;
	heard = w->way->mark(w, dir->fd);
	atomic_store(&dir->heard, heard);
	return heard;
}

uint32_t watch_ttl(const struct dir_volume *volume, uint64_t heard)
{
	return !volume->watch || is_heard(volume->watch, heard) ? ALT_TTL_DEFAULT : ALT_TTL_NONE;
}

/* Mark and look are to meet the same inode, so it is held by a descriptor; without one it is looked at unheard. */
int watch_look(const struct dir_volume *volume, int dirfd, const char *name, struct watch_look *ret)
{
	struct dir_watch *w = volume->watch;

	*ret = (struct watch_look){ .fd = dirfd, .name = name, .heard = w != NULL };
	if (!w || !w->way->mark)
		return 0;
	if (*name) {
		int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

		if (fd < 0 && errno == ENOENT)
			return -ENOENT;
		ret->heard = 0;
		if (fd < 0)
			return 0;
		ret->fd = fd;
		ret->name = "";
	}
	ret->heard = w->way->mark(w, ret->fd);
	return 0;
}

void watch_looked(int dirfd, struct watch_look *look)
{
	if (look->fd != dirfd)
		close(look->fd);
}

void watch_remember(struct dir_volume *volume, uint64_t names, uint64_t heard, struct alt_entry *entry)
{
	struct dir_watch *w = volume->watch;

	entry->data = NULL;
	entry->entry_ttl_ms = watch_ttl(volume, names);
	entry->attr_ttl_ms = watch_ttl(volume, heard);
	watch_lifetime(volume, entry);
	if (names && w && w->way->known) {
		w->way->known(w, true);
		entry->data = w;
	}
}

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

void watch_drop(struct alt_entry *entry)
{
	struct dir_watch *w = entry->data;

	if (w)
		w->way->known(w, false);
	entry->data = NULL;
}

void watch_forget(struct alt_volume *volume, struct alt_key key, void *data)
{
	struct dir_watch *w = data;

	(void)volume;
	(void)key;
	w->way->known(w, false);
}

int watch_moved(const struct dir_volume *volume, struct alt_key key)
{
	struct dir_watch *w = volume->watch;

	return w && w->way->find && key.dev == w->dev ? w->way->find(w, key) : -ESTALE;
}

void watch_await(const struct dir_volume *volume)
{
	struct dir_watch *w = volume->watch;
	int left;

	for (unsigned i = 0; w && i < AWAIT_TIMES; i++) {
		if (ioctl(w->events, FIONREAD, &left) < 0 || (!left && !atomic_load(&w->reading)))
			return;
		usleep(AWAIT_US);
	}
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

bool watch_reopens(const struct dir_volume *volume)
{
	return volume->watch && volume->watch->way->reopen;
}

int watch_reopen(const struct dir_volume *volume, int fd, int flags)
{
	return watch_reopens(volume) ? volume->watch->way->reopen(volume->watch, fd, flags) : -EOPNOTSUPP;
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

static void way_end(struct dir_watch *w)
{
	if (w->way)
		w->way->end(w);
	if (w->events >= 0)
		close(w->events);
	w->way = NULL;
	w->own = NULL;
	w->events = -1;
}

static void watch_free(struct dir_watch *w)
{
	way_end(w);
	if (w->mounts >= 0)
		close(w->mounts);
	if (w->stop >= 0)
		close(w->stop);
	free(w);
}

/* The first that can be; NULL, or why the last cannot. */
static const char *way_choose(struct dir_watch *w)
{
	static const struct hearing *const ways[] = { &hearing_whole, &hearing_each };
	const char *why = NULL;

	for (size_t i = !w->volume->privileged; i < sizeof(ways) / sizeof(*ways); i++) {
		way_end(w);
		w->way = ways[i];
		why = w->way->begin(w);
		if (!why)
			break;
	}
	return why;
}

/* NULL, or why it cannot be. */
static const char *watch_open(struct dir_watch *w)
{
	const char *why;
	struct stat st;

	if (!w->volume->local)
		return "a file system of this kind does not tell of all its changes";
	if (fstat(w->volume->root->fd, &st) < 0 || !realpath(fd_path(w->volume->root->fd).text, w->root))
		return strerror(errno);
	w->dev = st.st_dev;
	why = way_choose(w);
	if (why)
		return why;
	w->mounts = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	w->stop = eventfd(0, EFD_CLOEXEC);
	if (w->mounts < 0 || w->stop < 0)
		return strerror(errno);
	w->mounted = mounts_hash(w);
	return NULL;
}

void watch_start(struct dir_volume *volume, struct alt_volume *alt, const char *root)
{
	struct dir_watch *w = calloc(1, sizeof(*w));
	const char *why = "no memory";

	if (w) {
		w->volume = volume;
		w->alt = alt;
		w->pid = getpid();
		w->events = w->mounts = w->stop = -1;
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
