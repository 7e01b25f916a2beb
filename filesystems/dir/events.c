/* SPDX-License-Identifier: MIT */
/*
 * What an event of fanotify(7) says, and who is to be told. It names a directory by a handle and an entry by its name.
 *
 * What is done through the volume is no news to the kernel, and is passed over by the process that did it.
 */
#include "hear.h"

#include <altitude/notify.h>

#include <string.h>
#include <unistd.h>

#define EVENTS_MANY 64u          /* at once: each is not worth a wake-up */

/* What an event says of whom. */
struct told {
	bool has_dir, has_new, has_self;
	bool gone;                   /* FAN_DELETE: it was the last name of a file */
	struct alt_key dir, new_dir, self;
	const char *name, *new_name;
};

/* A directory names itself with "." */
static bool is_itself(const char *name)
{
	return !strcmp(name, ".");
}

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
			if (m->mask & (EVENTS_SELF | FAN_DELETE_SELF | FAN_RENAME))
				t->has_self = w->way->key(w, h, &t->self);
			if (m->mask & FAN_DELETE && !(m->mask & FAN_ONDIR))
				t->gone = w->way->gone(w, h);
			if (m->mask & FAN_DELETE_SELF)
				w->way->ended(w, h);
			if (m->mask & FAN_RENAME && m->mask & FAN_ONDIR && w->way->moved)
				w->way->moved(w, h);
			break;
		case FAN_EVENT_INFO_TYPE_DFID_NAME:
		case FAN_EVENT_INFO_TYPE_OLD_DFID_NAME:
			t->has_dir = w->way->key(w, h, &t->dir);
			t->name = name;
			if (m->mask & FAN_DELETE_SELF && is_itself(name))
				w->way->ended(w, h);
			break;
		case FAN_EVENT_INFO_TYPE_NEW_DFID_NAME:
			t->has_new = w->way->key(w, h, &t->new_dir);
			t->new_name = name;
			break;
		}
		at += info->hdr.len;
	}
}

/*
 * The last name went, and the mark with it, though somebody may still have the file open by a name that went before. Who looked
 * at it since took it for marked.
 */
static void ended_tell(struct dir_watch *w, const struct fanotify_event_metadata *m, const struct told *t)
{
	if (m->mask & FAN_DELETE_SELF && t->has_self)
		alt_notify_node(w->alt, t->self, false);
}

static void event_tell(struct dir_watch *w, const struct fanotify_event_metadata *m)
{
	struct told t;

	told_parse(w, m, &t);
	if (m->mask & FAN_RENAME && t.has_dir && t.has_new) {
		alt_notify_rename(w->alt, t.dir, t.name, t.new_dir, t.new_name, t.has_self ? &t.self : NULL);
	} else if (m->mask & (FAN_CREATE | FAN_DELETE | FAN_RENAME)) {
		if (t.has_dir && !is_itself(t.name))
			(t.gone ? alt_notify_delete : alt_notify_entry)(w->alt, t.dir, t.name);
		if (t.has_new)
			alt_notify_entry(w->alt, t.new_dir, t.new_name);
	}
	/* Its time of change is another, also for who knows it by another of its names. */
	if (m->mask & FAN_RENAME && t.has_self)
		alt_notify_node(w->alt, t.self, false);
	if (m->mask & EVENTS_SELF) {
		if (t.has_self)
			alt_notify_node(w->alt, t.self, m->mask & (FAN_MODIFY | FAN_CLOSE_WRITE));
		else if (t.has_dir && is_itself(t.name))
			alt_notify_node(w->alt, t.dir, false);
	}
	ended_tell(w, m, &t);
}

/* The kernel knows, but for the end of a mark. */
static void event_own(struct dir_watch *w, const struct fanotify_event_metadata *m)
{
	struct told t;

	if (!(m->mask & FAN_DELETE_SELF))
		return;
	told_parse(w, m, &t);
	ended_tell(w, m, &t);
}

bool events_read(struct dir_watch *w)
{
	struct fanotify_event_metadata *m = (void *)w->buf;
	unsigned count = 0, own = 0;
	ssize_t n;

	atomic_store(&w->reading, true);
	n = read(w->events, w->buf, sizeof(w->buf));

	for (; n > 0 && FAN_EVENT_OK(m, n); m = FAN_EVENT_NEXT(m, n), count++) {
		bool ours = m->pid == w->pid;

		own += ours;
		if (m->mask & FAN_Q_OVERFLOW)
			alt_notify_lost(w->alt);
		else
			(ours ? event_own : event_tell)(w, m);
	}
	atomic_store(&w->reading, false);
	return count > EVENTS_MANY || (count && own == count);
}
