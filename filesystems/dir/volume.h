/* SPDX-License-Identifier: MIT */
/* What a volume is to this file system, and what an open file is. */
#ifndef DIR_VOLUME_H
#define DIR_VOLUME_H

#include "pin.h"

#include <altitude/filesystem.h>

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

#endif
