/* SPDX-License-Identifier: MIT */
/*
 * Owns: pins (one O_PATH descriptor per inode in use), their table and cache.
 * Never: knows where in the tree an inode is.
 */
#ifndef DIR_PIN_H
#define DIR_PIN_H

#include <altitude/filesystem.h>

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#define PIN_BUCKETS 1024u
#define PIN_CACHED 64u

struct dir_volume;
struct lock_owner;
struct statx;

/** What an inode is known by. */
struct dir_identity {
	struct alt_key key;
	uint32_t generation;
	mode_t type;
};

static inline bool key_same(struct alt_key a, struct alt_key b)
{
	return a.id == b.id && a.dev == b.dev;
}

struct dir_identity identity_of(const struct dir_volume *volume, const struct statx *x);
/** 0 or -errno. */
int identity_of_fd(const struct dir_volume *volume, int fd, struct dir_identity *ret);

/** An inode in use: by a handler, an open file, or the cache of directories. */
struct dir_pin {
	struct alt_key key;
	uint32_t generation;             /* of the inode number; 0: not known */
	struct dir_volume *volume;
	struct dir_pin *next;            /* [volume.lock] in its bucket */
	unsigned refs;                   /* [volume.lock] */
	bool cached;                     /* [volume.lock] the cache holds one of the references */
	uint64_t used;                   /* [volume.lock] when the cache was last asked for it */
	mode_t type;                     /* S_IFMT part of its mode */
	int fd;                          /* O_PATH */
	pthread_mutex_t lock;
	struct lock_owner *owners;       /* [lock] who has byte-range locks, owner.c */
	_Atomic unsigned mappable;       /* opens for reading and writing, watch.c */
	_Atomic uint64_t heard;          /* since when each change is heard of, watch.c; 0: not asked yet */
};

/** With a reference for the caller; NULL when there is none of this key. */
struct dir_pin *pin_find(struct dir_volume *volume, struct alt_key key);
/** The one there is, or a new one of @fd, an O_PATH descriptor. Takes @fd, also on failure. 0 or -ENOMEM. */
int pin_add(struct dir_volume *volume, int fd, const struct dir_identity *of, struct dir_pin **ret);
/** The pin of what @fd is; the table opens its own descriptor, @fd stays the caller's. */
int pin_of_fd(struct dir_volume *volume, int fd, struct dir_pin **ret);
/** The same of what @entry tells of @fd; takes @fd, also on failure. */
int pin_of_entry(struct dir_volume *volume, int fd, const struct alt_entry *entry, struct dir_pin **ret);

void pin_ref(struct dir_pin *pin);
void pin_put(struct dir_pin *pin);

/** Let the cache forget a directory that was removed. */
void pin_uncache(struct dir_volume *volume, struct alt_key key);

/** Whether the file of this key is open for reading and writing. */
bool pin_is_mappable(struct dir_volume *volume, struct alt_key key);

/** Whether the file of this key is in use and has no name any more. */
bool pin_is_unlinked(struct dir_volume *volume, struct alt_key key);

/** Empty the cache, so that a volume can end. */
void pin_uncache_all(struct dir_volume *volume);

static inline void pin_putp(struct dir_pin **pin)
{
	if (*pin)
		pin_put(*pin);
}

#define SCOPED_PIN __attribute__((cleanup(pin_putp))) struct dir_pin *

#endif
