/* SPDX-License-Identifier: MIT */
/* What is told of a file in an answer: who it is, its attributes, and for how long they are right. */
#include "watch.h"

#include <errno.h>
#include <sys/stat.h>

static struct alt_time time_of(struct statx_timestamp t)
{
	return (struct alt_time){ .sec = t.tv_sec, .nsec = t.tv_nsec };
}

/* The kernel's 32 bits: new_encode_dev(). */
static uint32_t dev_encode(uint32_t major, uint32_t minor)
{
	return (minor & 0xff) | (major << 8) | ((minor & ~0xffu) << 12);
}

uint64_t ino_told(const struct dir_volume *volume, struct alt_key key)
{
	return key.dev == volume->root->key.dev ? key.id : key.id ^ key.dev * 0x9e3779b97f4a7c15u;
}

static void entry_set(const struct dir_volume *volume, struct alt_entry *entry, const struct statx *x)
{
	struct dir_identity of = identity_of(volume, x);

	entry->key = of.key;
	entry->generation = of.generation;
	entry->fresh = false;
	entry->attr = (struct alt_attr){
		.ino = ino_told(volume, of.key), .size = x->stx_size, .blocks = x->stx_blocks,
		.atime = time_of(x->stx_atime), .mtime = time_of(x->stx_mtime),
		.ctime = time_of(x->stx_ctime),
		.mode = x->stx_mode, .nlink = x->stx_nlink, .uid = x->stx_uid, .gid = x->stx_gid,
		.rdev = dev_encode(x->stx_rdev_major, x->stx_rdev_minor), .blksize = x->stx_blksize,
	};
	if (x->stx_mask & STATX_BTIME)
		entry->attr.btime = time_of(x->stx_btime);
}

int entry_fill(struct dir_volume *volume, int dirfd, const char *name, uint64_t heard, struct alt_entry *entry)
{
	struct watch_look look;
	struct statx x;
	int r = watch_look(volume, dirfd, name, &look);

	if (r < 0)
		return r;
	if (statx(look.fd, look.name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
		  STATX_BASIC_STATS | STATX_BTIME, &x) < 0)
		r = -errno;
	watch_looked(dirfd, &look);
	if (r < 0)
		return r;
	entry_set(volume, entry, &x);
	watch_remember(volume, heard, look.heard, entry);
	return 0;
}
