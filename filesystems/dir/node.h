/* SPDX-License-Identifier: MIT */
/*
 * Owns: how a node is reached below, and what a volume and an open file are here.
 * Never: follows a symbolic link, leaves the tree, keeps a descriptor for a node that is merely
 * known.
 * Hands to: names.c, attr.c, file.c, list.c, xattr.c, lock.c, which work on a pin's descriptor.
 */
#ifndef DIR_NODE_H
#define DIR_NODE_H

#include "fd.h"
#include "pin.h"

#include <altitude/filesystem.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#define LOCKED_BITS 65536u

struct lock_wait;
struct dir_watch;

struct dir_volume {
	/* Lock order: wait_lock, pin.lock, lock. */
	pthread_mutex_t lock;
	struct dir_pin *table[PIN_BUCKETS];      /* [lock] */
	struct dir_pin *cache[PIN_CACHED];       /* [lock] directories used last */
	uint64_t clock;                          /* [lock] */
	struct dir_pin *root;
	int names;                               /* of the process' descriptors, fd.h */
	bool privileged;                         /* served as root: acts with the caller's ids */
	gid_t gid, *groups;                      /* the server's own, to go back to */
	int group_count;
	struct dir_watch *watch;         /* hears of changes below; NULL: nobody does */

	bool local;                      /* below, close(2) has nothing to say, and a time of birth stays: no network file system */
	_Atomic uint8_t locked[LOCKED_BITS / 8]; /* by a hash of the key: a byte-range lock was asked for, lock.c */

	pthread_mutex_t wait_lock;
	pthread_cond_t wait_cond;
	struct lock_wait *waits;                 /* [wait_lock] oldest first; wait.c */
	pthread_t waiter;                        /* [wait_lock] runs when waiting */
	bool waiting, stopping;                  /* [wait_lock] */
	bool kicked;                     /* [wait_lock] a lock was dropped: try again at once */
};

/** What an open file or directory is to this file system. */
struct dir_file {
	int fd;
	struct dir_pin *pin;
	bool mappable;                   /* opened for reading and writing */
	bool flocked;                    /* [pin.lock] a flock(2) lock was asked for */
	bool unflushed;                  /* nobody tells of each close(2) */
	uint64_t *lockers;               /* [pin.lock] owners that locked through an unflushed one; owner.c */
	unsigned locker_count;           /* [pin.lock] */
	struct dir_list *list;           /* directories: where the listing is, list.c */
};

static inline struct dir_volume *dir_volume(const struct alt_op *op)
{
	return alt_volume_data(op->volume);
}

/** The open file of an operation, or NULL. */
static inline struct dir_file *dir_file(const struct alt_op *op)
{
	return op->file ? alt_file_data(op->file) : NULL;
}

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
