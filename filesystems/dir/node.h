/* SPDX-License-Identifier: MIT */
/*
 * Owns: how a node is reached below.
 * Never: follows a symbolic link, leaves the tree, keeps a descriptor for a node that is merely
 * known.
 * Hands to: names.c, attr.c, file.c, list.c, xattr.c, lock.c, which work on a pin's descriptor.
 */
#ifndef DIR_NODE_H
#define DIR_NODE_H

#include "fd.h"
#include "volume.h"

#include <altitude/filesystem.h>

#include <fcntl.h>

/**
 * Reach a node: by its pin when it has one, else by its path.
 * @ret  the pin, with a reference for the caller
 * Returns 0, -ESTALE when it is not there any more, or what openat2(2) answered.
 */
int pin_get(struct dir_volume *volume, const struct alt_node *node, struct dir_pin **ret);

/**
 * Key, attributes and lifetimes of @name in @dirfd ("" for @dirfd itself), never following a link.
 * @heard  what watch_names() said of the directory, before the name was looked at; 0: it is not asked by a name
 * Returns 0 or -errno.
 */
int entry_fill(struct dir_volume *volume, int dirfd, const char *name, uint64_t heard, struct alt_entry *entry);

/** The number that is told of an inode: what is mounted further down has numbers of its own, and all is one device above. */
uint64_t ino_told(const struct dir_volume *volume, struct alt_key key);

/** Clear set-user-id and set-group-id as a write by an ordinary user, the operation's caller, does. */
int attr_kill_suidgid(const struct alt_op *op, int fd);

/** Takes a reference on @pin, and @fd when it succeeds; NULL without memory. */
struct dir_file *file_new(int fd, struct dir_pin *pin);
void file_free(struct dir_file *file);
void list_free(struct dir_list *list);

/** Whether an open of the file may go without a FLUSH for each close(2): there are no byte-range locks to drop. */
bool lock_is_unlikely(struct dir_volume *volume, struct alt_key key);
/** The last reference to an open file is gone: drop the locks that were taken through it when nobody told of its closes. */
void lock_release(struct dir_file *file);
/** Drop every byte-range lock of @owner on an inode. */
void lock_drop(struct dir_pin *pin, uint64_t owner);
/** Drop all of them: the inode is no longer in use. */
void lock_drop_all(struct dir_pin *pin);
/** End the thread that serves waiting locks. */
void lock_stop(struct dir_volume *volume);

alt_handler dir_lookup, dir_mknod, dir_mkdir, dir_symlink, dir_link, dir_unlink, dir_rmdir,
	dir_rename, dir_readlink, dir_tmpfile;
alt_handler dir_getattr, dir_setattr, dir_access, dir_statfs, dir_syncfs;
alt_handler dir_create, dir_open, dir_read, dir_write, dir_flush, dir_release, dir_fsync,
	dir_fallocate, dir_lseek, dir_copy_file_range, dir_ioctl;
alt_handler dir_opendir, dir_readdir, dir_releasedir, dir_fsyncdir;
alt_handler dir_getxattr, dir_setxattr, dir_listxattr, dir_removexattr;
alt_handler dir_getlk, dir_setlk;

#endif
