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
 * then remembered, and one line in the log says why.
 * @root  the directory's path, as the user gave it
 */
void watch_start(struct dir_volume *volume, struct alt_volume *alt, const char *root);
void watch_stop(struct dir_volume *volume);

/** An answer about @entry: shorten the lifetimes of what would change unheard. */
void watch_lifetime(struct dir_volume *volume, struct alt_entry *entry);

/** A file is opened for writing; @fresh: it was made by this. */
void watch_writer_begins(struct dir_pin *pin, bool fresh);
/** Such an open is over. */
void watch_writer_ends(struct dir_pin *pin);

#endif
