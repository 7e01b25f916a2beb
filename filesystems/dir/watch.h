/* SPDX-License-Identifier: MIT */
/*
 * Owns: hearing of changes made below beside the volume, and saying for how long an answer stays right.
 * Never: answers an operation. Never says "for a day" of something it would not hear of.
 * Hands to: the engine's notices.
 */
#ifndef DIR_WATCH_H
#define DIR_WATCH_H

#include "node.h"

/**
 * Begin to hear: root of the whole file system, others of what is remembered. When it cannot be (another kind of file system)
 * the volume goes on without: nothing is then remembered, and one line in the log says why.
 * @root  the directory's path, as the user gave it
 */
void watch_start(struct dir_volume *volume, struct alt_volume *alt, const char *root);
void watch_stop(struct dir_volume *volume);

/**
 * The names of a directory are about to be looked at. Not 0 when each change of them is heard of from now on, so that they,
 * those that are not there and the listing may be remembered.
 */
uint64_t watch_names(struct dir_pin *dir);

/** The lifetime of what was looked at since @heard was said of it. */
uint32_t watch_ttl(const struct dir_volume *volume, uint64_t heard);

/** How an inode is looked at, so that no change of it after that is missed. */
struct watch_look {
	int fd;                      /* for statx(2), with... */
	const char *name;
	uint64_t heard;              /* of its attributes, as from watch_names() */
};

/** Begin to look at @name in @dirfd ("" for @dirfd itself). Returns 0 or -errno; then it is over. */
int watch_look(const struct dir_volume *volume, int dirfd, const char *name, struct watch_look *ret);
/** It was looked at: give back what that took. */
void watch_looked(int dirfd, struct watch_look *look);

/**
 * Set the lifetimes of an answer, and data when the kernel gets to know the node by it.
 * @names  what was heard of the directory it has its name in; 0: it is not asked by a name
 * @heard  of its own attributes
 */
void watch_remember(struct dir_volume *volume, uint64_t names, uint64_t heard, struct alt_entry *entry);
/** That of a file which may have been opened since: shorten it. */
void watch_lifetime(struct dir_volume *volume, struct alt_entry *entry);
/** It is not answered after all. */
void watch_drop(struct alt_entry *entry);
/** The kernel has forgotten a node; its data comes back. */
void watch_forget(struct alt_volume *volume, struct alt_key key, void *data);

/** Open (O_PATH) a directory that was renamed beside the volume, wherever it is by now: maybe outside of the tree; or -ESTALE. */
int watch_moved(const struct dir_volume *volume, struct alt_key key);
/** Let what happened up to now be heard. At most for some milliseconds: names may change faster than anybody hears of. */
void watch_await(const struct dir_volume *volume);

/** A file is opened for reading and writing, so that it can be mapped; @fresh: it was made by this. */
void watch_mappable_begins(struct dir_pin *pin, bool fresh);
/** Such an open is over. */
void watch_mappable_ends(struct dir_pin *pin);

/** Whether there is a mount whose writes are not reported. */
bool watch_reopens(const struct dir_volume *volume);
/**
 * Open the file that @fd is anew, in the mount whose writes are not reported, with the server's rights.
 * Returns a descriptor, -EOPNOTSUPP when there is no such mount, -EROFS when that one or the one that is served may not be
 * written, or -errno.
 */
int watch_reopen(const struct dir_volume *volume, int fd, int flags);

#endif
