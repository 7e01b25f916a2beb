/* SPDX-License-Identifier: MIT */
/*
 * Nodes, open files and volumes as modules see them: borrowed pointers, valid while the operation
 * (or the reference) that gave them lasts. Any thread.
 */
#ifndef ALTITUDE_NODE_H
#define ALTITUDE_NODE_H

#include <altitude/op.h>

struct alt_key alt_node_key(const struct alt_node *node);
uint32_t alt_node_generation(const struct alt_node *node);        /* of the entry it was made for; the root's is 0... */
#define ALT_GENERATION_PAST UINT32_MAX                            /* ...until a fresh one has its key */
uint64_t alt_node_number(const struct alt_node *node);            /* what the kernel calls it */
uint32_t alt_node_type(const struct alt_node *node);              /* S_IFMT part of its mode: a node never changes it */
void *alt_node_data(const struct alt_node *node);                 /* the file system's private pointer */
struct alt_volume *alt_node_volume(const struct alt_node *node);
bool alt_node_is_root(const struct alt_node *node);
void alt_node_ref(struct alt_node *node);
void alt_node_unref(struct alt_node *node);

/**
 * One path of a node from the volume's root ("/a/b", "/" for the root), right at the moment of the call,
 * under concurrent renames of any ancestor too; in the file system's own names (filters use name.h).
 * @node may have several (hard links): the one it was last found by.
 * Returns the length, or -ENOENT (no name left), -ENAMETOOLONG, -EINVAL.
 */
int alt_node_path(const struct alt_node *node, char *buf, size_t size);

/**
 * The directory that the last part of such a path is in; @name gets that part, room for NAME_MAX + 1 bytes.
 * Returns a new reference, or NULL: the root, or no name left.
 */
struct alt_node *alt_node_parent(const struct alt_node *node, char *name);

/**
 * A rename below and its names here follow one another. A file system that did not find what a path says asks whether that may
 * be why: it counts the renames made through the volume, and tells whether one is between the two.
 */
uint64_t alt_volume_moves(const struct alt_volume *volume, bool *ret_moving);

/** Path of the entry @name in directory @dir. */
int alt_node_path_at(const struct alt_node *dir, const char *name, char *buf, size_t size);

struct alt_node *alt_file_node(const struct alt_file *file);
uint32_t alt_file_flags(const struct alt_file *file);             /* open(2) flags */
void *alt_file_data(const struct alt_file *file);
void alt_file_set_data(struct alt_file *file, void *data);        /* the file system's, in OPEN or CREATE */

const char *alt_volume_name(const struct alt_volume *volume);
void *alt_volume_data(const struct alt_volume *volume);
void alt_volume_set_data(struct alt_volume *volume, void *data);
struct alt_node *alt_volume_root(const struct alt_volume *volume);

/** Value of a mount option ("-o name=value"), NULL when not given; "" for one without value. */
const char *alt_volume_option(const struct alt_volume *volume, const char *name);

/** Say what the root is; once, from the file system's mount function. */
void alt_volume_set_root(struct alt_volume *volume, struct alt_key key, void *data);

#endif
