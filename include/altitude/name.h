/* SPDX-License-Identifier: MIT */
/*
 * Names on demand: what an operation is about, as a path from the volume's root, in the names this instance sees.
 * Right at the moment of the call under concurrent renames of any ancestor. Costs nothing until asked.
 * Source: FltGetFileNameInformation, FltGetDestinationFileNameInformation.
 */
#ifndef ALTITUDE_NAME_H
#define ALTITUDE_NAME_H

#include <altitude/filter.h>

/**
 * "/a/b": of the entry for operations with a name, of the node for all others ("/" for the root). The entry views of this
 * instance and of those below are applied, higher ones' are not. From a pre- or post-operation, or while the operation is pended.
 * Returns the length, or -ENOENT (no name left: unlinked, or a file that never had one), -ENAMETOOLONG, -ENOMEM.
 */
int alt_op_path(const struct alt_op *op, struct alt_instance *in, char *buf, size_t size);

/** The second path: RENAME's new one, LINK's node. -EINVAL for other operations. */
int alt_op_other_path(const struct alt_op *op, struct alt_instance *in, char *buf, size_t size);

/** Path of a node, seen from this instance. */
int alt_node_path_seen(struct alt_instance *in, const struct alt_node *node, char *buf, size_t size);

/** Make one line of text of a path whatever bytes its names hold: control characters become '?'. Returns @path. */
char *alt_path_text(char *path);

#endif
