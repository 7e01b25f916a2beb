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
#include <sys/stat.h>
#include <unistd.h>

#define REST_US 1000u            /* after many events, or only our own: each is not worth a wake-up */

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
	struct dir_watch *w = volume->watch;

	return w && w->way->reopen ? w->way->reopen(w, fd, flags) : -EOPNOTSUPP;
}

uint64_t watch_names(struct dir_pin *dir)
{
	const struct dir_watch *w = dir->volume->watch;

	return w && dir->key.dev == w->dev;
}

uint32_t watch_ttl(const struct dir_volume *volume, uint64_t heard)
{
	return volume->watch && !heard ? ALT_TTL_NONE : ALT_TTL_DEFAULT;
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
	const int fds[] = { w->events, w->mounts, w->stop };

	if (w->way)
		w->way->end(w);
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(w);
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
	w->way = &hearing_whole;
	why = w->way->begin(w);
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
	struct dir_watch *w = volume->privileged ? calloc(1, sizeof(*w)) : NULL;
	const char *why = "no memory";

	if (!volume->privileged)
		return; /* as its man page says: only root may hear of changes */
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
