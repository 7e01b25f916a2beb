/* SPDX-License-Identifier: MIT */
/*
 * Contexts: a filter's own data hung on a node, an open file, an instance or a volume. Reference counted; the cleanup runs
 * exactly once, when the last reference goes.   Source: FltAllocateContext and its kin.
 *
 * Of a node, of a file and of the instance itself each instance has one. That of a volume is the filter's: all its instances
 * there share it.
 *
 * Allocate gives 1; a successful set adds the object's; get adds the caller's. The caller always releases its own,
 * whether or not set succeeded. An object's reference goes when the object does, or with the instance, after its
 * teardown_complete; a volume's with the last instance of the filter. So no cleanup may use what a teardown_complete has freed.
 */
#ifndef ALTITUDE_CONTEXT_H
#define ALTITUDE_CONTEXT_H

#include <altitude/node.h>

/** @size bytes, zeroed. @cleanup may be NULL; it must not ask for the object's contexts. NULL without memory. */
void *alt_context_new(size_t size, void (*cleanup)(void *context));
void alt_context_ref(void *context);
void alt_context_unref(void *context);      /* NULL is fine */

enum alt_context_set { ALT_CONTEXT_REPLACE = 0, ALT_CONTEXT_KEEP = 1 };

/**
 * Hang @context on the object.
 * @old  when not NULL: with REPLACE the one that was there, handed over; with KEEP the one that is there, referenced
 * Returns 0, -EEXIST (KEEP and something is there), -EALREADY (@context hangs somewhere already),
 * -ESHUTDOWN (the instance is going).
 */
int alt_node_set_context(struct alt_instance *in, struct alt_node *node, enum alt_context_set mode, void *context, void **old);
int alt_file_set_context(struct alt_instance *in, struct alt_file *file, enum alt_context_set mode, void *context, void **old);
int alt_instance_set_context(struct alt_instance *in, enum alt_context_set mode, void *context, void **old);
int alt_volume_set_context(struct alt_instance *in, enum alt_context_set mode, void *context, void **old);

/** The context, referenced; NULL when there is none. */
void *alt_node_get_context(struct alt_instance *in, struct alt_node *node);
void *alt_file_get_context(struct alt_instance *in, struct alt_file *file);
void *alt_instance_get_context(struct alt_instance *in);
void *alt_volume_get_context(struct alt_instance *in);

/** Unlink: the object's reference is handed to the caller (release it); NULL when there is none. */
void *alt_node_delete_context(struct alt_instance *in, struct alt_node *node);
void *alt_file_delete_context(struct alt_instance *in, struct alt_file *file);
void *alt_instance_delete_context(struct alt_instance *in);
void *alt_volume_delete_context(struct alt_instance *in);

#endif
