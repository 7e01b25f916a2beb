/* SPDX-License-Identifier: MIT */
/*
 * Changes that are not made through the volume, told to the kernel so that what it remembers is never wrong.
 * All return at once; the kernel is told from a thread of its own. Any thread, also inside an operation.
 * A node the kernel does not know is passed over.
 */
#ifndef ALTITUDE_NOTIFY_H
#define ALTITUDE_NOTIFY_H

#include <altitude/node.h>

/** Attributes of a node changed; with @data its bytes too. */
void alt_notify_node(struct alt_volume *volume, struct alt_key key, bool data);
/** An entry came, went, or is another one now; also its directory's attributes, and those of the node that had the name. */
void alt_notify_entry(struct alt_volume *volume, struct alt_key parent, const char *name);
/**
 * An entry went, and was the last name of its file: as alt_notify_entry(), and who watches the file hears of its end
 * (inotify(7), IN_DELETE_SELF). Not for directories, and not while the file has another name.
 */
void alt_notify_delete(struct alt_volume *volume, struct alt_key parent, const char *name);
/**
 * An entry moved: what is inside it stays reachable by its new path.
 * @moved  what it was, so that what has the name through the volume since then keeps it; NULL: not known
 */
void alt_notify_rename(struct alt_volume *volume, struct alt_key from, const char *name, struct alt_key to, const char *new_name,
		       const struct alt_key *moved);
/** Changes were missed: everything is to be asked for again. */
void alt_notify_lost(struct alt_volume *volume);

#endif
