/* SPDX-License-Identifier: MIT */
/* What nodes, their names, and what is told of them need of each other. */
#ifndef IO_NODE_H
#define IO_NODE_H

#include "io/io.h"

static inline bool key_same(struct alt_key a, struct alt_key b)
{
	return a.id == b.id && a.dev == b.dev;
}

/* One more reference, when there still is one. */
bool node_ref_try(struct alt_node *n);
/* It is not found by its key from here on. */
void node_hide(struct alt_node *n);
/* The latest name of @n, which has one, goes; its parent, whose count the caller drops outside of the lock. [volume.tree] */
struct alt_node *name_drop_locked(struct alt_node *n);

#endif
