/* SPDX-License-Identifier: MIT */
/*
 * Owns: what the ways of hearing share, and what each has to bring.
 * Never: seen outside of watch.c, events.c and the ways.
 * Hands to: events.c, which knows what an event of fanotify(7) says.
 */
#ifndef DIR_HEAR_H
#define DIR_HEAR_H

#include "watch.h"

#include <limits.h>
#include <sys/fanotify.h>

#define EVENTS_SIZE 65536u
#define EVENTS_SELF (FAN_ATTRIB | FAN_MODIFY | FAN_CLOSE_WRITE | FAN_MOVE_SELF)

struct dir_watch;

/** A way to hear of changes. key(), gone() and ended() are called by the watch's own thread, others by any. */
struct hearing {
	/** Open w->events. Returns NULL, or why it cannot be; end() is called in both cases. */
	const char *(*begin)(struct dir_watch *w);
	void (*end)(struct dir_watch *w);

	/**
	 * From now on each change of what @fd is is heard of, also of the names in a directory. Returns the generation in which
	 * that is so, or 0 when it cannot be. NULL: all is heard of anyway.
	 */
	uint64_t (*mark)(struct dir_watch *w, int fd);
	/** Whether what was marked in a generation still is. */
	bool (*holds)(struct dir_watch *w, uint64_t generation);
	/** The kernel is told of a node by a name (@more), or has forgotten one. May be NULL. */
	void (*known)(struct dir_watch *w, bool more);

	/** The inode a handle of an event means; false when it is gone, or nothing is remembered of it. */
	bool (*key)(struct dir_watch *w, struct file_handle *h, struct alt_key *ret);
	/** Whether a file has no name any more; false when that cannot be known. */
	bool (*gone)(struct dir_watch *w, struct file_handle *h);

	/** FAN_DELETE_SELF, also by ourselves: the inode has no mark any more. May be NULL. */
	void (*ended)(struct dir_watch *w, struct file_handle *h);

	/** A directory has got another name, or another place, from somebody else. May be NULL. */
	void (*moved)(struct dir_watch *w, struct file_handle *h);
	/** Open a directory that has: as watch_moved(). NULL: that cannot be. Any thread. */
	int (*find)(struct dir_watch *w, struct alt_key key);

	/** Open anew what @fd is, unheard: as watch_reopen(). NULL: there is no such thing. */
	int (*reopen)(struct dir_watch *w, int fd, int flags);
};

struct dir_watch {
	const struct hearing *way;
	void *own;                   /* what the way keeps */
	struct dir_volume *volume;
	struct alt_volume *alt;
	int events;                  /* from fanotify_init(2) */
	int mounts;                  /* /proc/self/mountinfo */
	int stop;                    /* eventfd */
	dev_t dev;                   /* the file system that is heard */
	char root[PATH_MAX];         /* resolved */
	uint64_t mounted;            /* what is mounted below the root, as a hash */
	pid_t pid;                   /* the server's */
	pthread_t thread;
	_Atomic bool reading;        /* the thread has taken events, and not told of all */
	_Alignas(8) char buf[EVENTS_SIZE];
};

/** Read what there is and tell the kernel. Returns whether to rest before the next look. */
bool events_read(struct dir_watch *w);

extern const struct hearing hearing_whole, hearing_each;

#endif
