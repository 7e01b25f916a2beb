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
 * Begin to hear. When it cannot be (no right to, or another kind of file system) the volume goes on without: nothing is
 * then remembered, and one line in the log says why. A user's server may not, and says nothing.
 * @root  the directory's path, as the user gave it
 */
void watch_start(struct dir_volume *volume, struct alt_volume *alt, const char *root);
void watch_stop(struct dir_volume *volume);

/** An answer about @entry: shorten the lifetimes of what would change unheard. */
void watch_lifetime(struct dir_volume *volume, struct alt_entry *entry);

/**
 * The names of a directory are about to be looked at. Not 0 when each change of them is heard of from now on, so that they,
 * those that are not there and the listing may be remembered.
 */
uint64_t watch_names(struct dir_pin *dir);

/** The lifetime of what was looked at since @heard was said of it. */
uint32_t watch_ttl(const struct dir_volume *volume, uint64_t heard);

/** A file is opened for reading and writing, so that it can be mapped; @fresh: it was made by this. */
void watch_mappable_begins(struct dir_pin *pin, bool fresh);
/** Such an open is over. */
void watch_mappable_ends(struct dir_pin *pin);

/**
 * Open the file that @fd is anew, in the mount whose writes are not reported, with the server's rights.
 * Returns a descriptor, -EOPNOTSUPP when there is no such mount, or -errno.
 */
int watch_reopen(const struct dir_volume *volume, int fd, int flags);

#endif
