/* SPDX-License-Identifier: MIT */
/*
 * owns      the names and layouts of FUSE 7.39 to 7.45 that <linux/fuse.h> of 7.38 lacks
 * never     holds code
 * hands to  decode and encode
 *
 * Enumerators of newer headers are macros here and structs have our prefix, so that a newer header
 * does not clash.
 */
#ifndef WIRE_PROTO_H
#define WIRE_PROTO_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/fuse.h>

#define WIRE_MAJOR 7
#define WIRE_MINOR 45
#define WIRE_MINOR_EPOCHS 44     /* FUSE_NOTIFY_INC_EPOCH */

#ifndef FUSE_STATX
#define FUSE_STATX 52
#endif
#ifndef FUSE_COPY_FILE_RANGE_64
#define FUSE_COPY_FILE_RANGE_64 53
#endif

#ifndef FUSE_CREATE_SUPP_GROUP
#define FUSE_CREATE_SUPP_GROUP (1ULL << 34)
#endif
#ifndef FUSE_DIRECT_IO_ALLOW_MMAP
#define FUSE_DIRECT_IO_ALLOW_MMAP (1ULL << 36)
#endif
#ifndef FUSE_PASSTHROUGH
#define FUSE_PASSTHROUGH (1ULL << 37)
#endif
#ifndef FUSE_NO_EXPORT_SUPPORT
#define FUSE_NO_EXPORT_SUPPORT (1ULL << 38)
#endif
#ifndef FUSE_HAS_RESEND
#define FUSE_HAS_RESEND (1ULL << 39)
#endif
#ifndef FUSE_ALLOW_IDMAP
#define FUSE_ALLOW_IDMAP (1ULL << 40)
#endif
#ifndef FUSE_OVER_IO_URING
#define FUSE_OVER_IO_URING (1ULL << 41)
#endif
#ifndef FUSE_REQUEST_TIMEOUT
#define FUSE_REQUEST_TIMEOUT (1ULL << 42)
#endif

/** Set in the id of a request that is sent again after FUSE_NOTIFY_RESEND; the answer keeps it. */
#ifndef FUSE_UNIQUE_RESEND
#define FUSE_UNIQUE_RESEND (1ULL << 63)
#endif

#ifndef FOPEN_PASSTHROUGH
#define FOPEN_PASSTHROUGH (1 << 7)
#endif

#ifndef FUSE_NOTIFY_RESEND
#define FUSE_NOTIFY_RESEND 7
#endif
#ifndef FUSE_NOTIFY_INC_EPOCH
#define FUSE_NOTIFY_INC_EPOCH 8
#endif
#ifndef FUSE_NOTIFY_PRUNE
#define FUSE_NOTIFY_PRUNE 9
#endif

#ifndef FUSE_EXT_GROUPS
#define FUSE_EXT_GROUPS 32
#endif

/** Before each extension; @size counts this header and the padding to 8 bytes. */
struct wire_ext_header {
	uint32_t size;
	uint32_t type;           /* 0..31: a security context header, 32: groups */
};

struct wire_supp_groups {
	uint32_t nr_groups;
	uint32_t groups[];
};

struct wire_init_out {
	uint32_t major, minor;
	uint32_t max_readahead;
	uint32_t flags;
	uint16_t max_background;
	uint16_t congestion_threshold;
	uint32_t max_write;
	uint32_t time_gran;
	uint16_t max_pages;
	uint16_t map_alignment;
	uint32_t flags2;
	uint32_t max_stack_depth;
	uint16_t request_timeout;
	uint16_t unused[11];
};

struct wire_open_out {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing_id;
};

struct wire_statx_in {
	uint32_t getattr_flags;
	uint32_t reserved;
	uint64_t fh;
	uint32_t sx_flags;
	uint32_t sx_mask;
};

struct wire_sx_time {
	int64_t tv_sec;
	uint32_t tv_nsec;
	int32_t reserved;
};

struct wire_statx {
	uint32_t mask;
	uint32_t blksize;
	uint64_t attributes;
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint16_t mode;
	uint16_t spare0[1];
	uint64_t ino;
	uint64_t size;
	uint64_t blocks;
	uint64_t attributes_mask;
	struct wire_sx_time atime, btime, ctime, mtime;
	uint32_t rdev_major, rdev_minor;
	uint32_t dev_major, dev_minor;
	uint64_t spare2[14];
};

struct wire_statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec;
	uint32_t flags;
	uint64_t spare[2];
	struct wire_statx stat;
};

struct wire_copy_file_range_out {
	uint64_t bytes_copied;
};

struct wire_notify_prune_out {
	uint32_t count;
	uint32_t padding;
	uint64_t spare;
};

/* Passthrough, 7.40: which descriptor holds the bytes of a file. */
struct fuse_backing_map { int32_t fd; uint32_t flags; uint64_t padding; };
#define FUSE_DEV_IOC_BACKING_OPEN _IOW(FUSE_DEV_IOC_MAGIC, 1, struct fuse_backing_map)
#define FUSE_DEV_IOC_BACKING_CLOSE _IOW(FUSE_DEV_IOC_MAGIC, 2, uint32_t)

static_assert(sizeof(struct fuse_in_header) == 40, "in header");
static_assert(sizeof(struct fuse_out_header) == 16, "out header");
static_assert(sizeof(struct fuse_attr) == 88, "attr");
static_assert(sizeof(struct fuse_entry_out) == 128, "entry_out");
static_assert(sizeof(struct fuse_attr_out) == 104, "attr_out");
static_assert(sizeof(struct fuse_setattr_in) == 88, "setattr_in");
static_assert(sizeof(struct fuse_create_in) == 16, "create_in");
static_assert(sizeof(struct fuse_read_in) == 40, "read_in");
static_assert(sizeof(struct fuse_write_in) == 40, "write_in");
static_assert(sizeof(struct fuse_setxattr_in) == 16, "setxattr_in");
static_assert(sizeof(struct fuse_lk_in) == 48, "lk_in");
static_assert(sizeof(struct fuse_init_in) == 64, "init_in");
static_assert(sizeof(struct fuse_ioctl_in) == 32, "ioctl_in");
static_assert(sizeof(struct fuse_forget_one) == 16, "forget_one");
static_assert(sizeof(struct fuse_copy_file_range_in) == 56, "copy_file_range_in");
static_assert(sizeof(struct fuse_statfs_out) == 80, "statfs_out");
static_assert(sizeof(struct fuse_dirent) == 24, "dirent");
static_assert(sizeof(struct fuse_direntplus) == 152, "direntplus");
static_assert(sizeof(struct wire_ext_header) == 8, "ext_header");
static_assert(sizeof(struct wire_init_out) == 64, "init_out");
static_assert(offsetof(struct wire_init_out, max_stack_depth) == 36, "init_out.max_stack_depth");
static_assert(sizeof(struct wire_open_out) == 16, "open_out");
static_assert(sizeof(struct wire_statx_in) == 24, "statx_in");
static_assert(sizeof(struct wire_statx) == 256, "statx");
static_assert(sizeof(struct wire_statx_out) == 288, "statx_out");
static_assert(sizeof(struct wire_copy_file_range_out) == 8, "copy_file_range_out");
static_assert(sizeof(struct wire_notify_prune_out) == 16, "notify_prune_out");

#endif
