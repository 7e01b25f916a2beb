/* SPDX-License-Identifier: MIT */
/*
 * owns      one well-formed message of each opcode
 * never     leaves tests: test_wire and fuzz_wire start from them
 * hands to  wire_decode
 */
#ifndef WIRE_TEST_SAMPLE_H
#define WIRE_TEST_SAMPLE_H

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wire/proto.h>
#include <wire/wire.h>

struct sample {
	uint32_t opcode;
	enum wire_kind kind;
	enum alt_op_code code;
	const void *fixed;
	size_t fixed_size;
	const char *tail;        /* names and data */
	size_t tail_size;
};

#define FIXED(type, ...) \
	.fixed = &(const struct type){ __VA_ARGS__ }, .fixed_size = sizeof(struct type)
#define TAIL(text) .tail = text, .tail_size = sizeof(text) - 1
#define SAMPLE(opcode_, code_, ...) \
	{ .opcode = FUSE_##opcode_, .kind = WIRE_OP, .code = ALT_OP_##code_, __VA_ARGS__ }
#define SAMPLE_OTHER(opcode_, kind_, ...) { .opcode = FUSE_##opcode_, .kind = kind_, __VA_ARGS__ }

#define SAMPLE_LOCK { .start = 10, .end = INT64_MAX, .type = F_WRLCK, .pid = 77 }
#define SAMPLE_COPY \
	.fh_in = 3, .off_in = 10, .nodeid_out = 8, .fh_out = 4, .off_out = 20, .len = 4096

static const struct sample samples[] = {
	SAMPLE(LOOKUP, LOOKUP, TAIL("name\0")),
	SAMPLE(GETATTR, GETATTR, FIXED(fuse_getattr_in, .getattr_flags = FUSE_GETATTR_FH, .fh = 3)),
	SAMPLE(STATX, GETATTR,
	       FIXED(wire_statx_in, .getattr_flags = FUSE_GETATTR_FH, .fh = 3, .sx_mask = 0xfff)),
	SAMPLE(SETATTR, SETATTR,
	       FIXED(fuse_setattr_in,
		     .valid = FATTR_SIZE | FATTR_FH | FATTR_MTIME | FATTR_LOCKOWNER |
			      FATTR_KILL_SUIDGID,
		     .fh = 3, .size = 1000, .lock_owner = 55, .mtime = 12345, .mtimensec = 678)),
	SAMPLE(ACCESS, ACCESS, FIXED(fuse_access_in, .mask = R_OK | X_OK)),
	SAMPLE(READLINK, READLINK, .tail_size = 0),
	SAMPLE(MKNOD, MKNOD,
	       FIXED(fuse_mknod_in, .mode = S_IFBLK | 0666, .rdev = 0x801, .umask = 022),
	       TAIL("n\0")),
	SAMPLE(MKDIR, MKDIR, FIXED(fuse_mkdir_in, .mode = 0777, .umask = 022), TAIL("dir\0")),
	SAMPLE(SYMLINK, SYMLINK, TAIL("link\0../target\0")),
	SAMPLE(LINK, LINK, FIXED(fuse_link_in, .oldnodeid = 8), TAIL("again\0")),
	SAMPLE(UNLINK, UNLINK, TAIL("gone\0")),
	SAMPLE(RMDIR, RMDIR, TAIL("gone\0")),
	SAMPLE(RENAME, RENAME, FIXED(fuse_rename_in, .newdir = 8), TAIL("old\0new\0")),
	SAMPLE(RENAME2, RENAME, FIXED(fuse_rename2_in, .newdir = 8, .flags = 1),
	       TAIL("old\0new\0")),
	SAMPLE(CREATE, CREATE,
	       FIXED(fuse_create_in, .flags = O_RDWR, .mode = 0644, .umask = 077,
		     .open_flags = FUSE_OPEN_KILL_SUIDGID),
	       TAIL("file\0")),
	SAMPLE(TMPFILE, TMPFILE, FIXED(fuse_create_in, .flags = O_RDWR, .mode = S_IFREG | 0600),
	       TAIL("/\0")),
	SAMPLE(OPEN, OPEN,
	       FIXED(fuse_open_in, .flags = O_WRONLY | O_TRUNC,
		     .open_flags = FUSE_OPEN_KILL_SUIDGID)),
	SAMPLE(READ, READ,
	       FIXED(fuse_read_in, .fh = 3, .offset = 4096, .size = 512,
		     .read_flags = FUSE_READ_LOCKOWNER, .lock_owner = 55, .flags = O_RDONLY)),
	SAMPLE(WRITE, WRITE,
	       FIXED(fuse_write_in, .fh = 3, .offset = 4096, .size = 5, .lock_owner = 55,
		     .write_flags =
			     FUSE_WRITE_LOCKOWNER | FUSE_WRITE_CACHE | FUSE_WRITE_KILL_SUIDGID,
		     .flags = O_RDWR),
	       TAIL("12345")),
	SAMPLE(FLUSH, FLUSH, FIXED(fuse_flush_in, .fh = 3, .lock_owner = 55)),
	SAMPLE(RELEASE, RELEASE,
	       FIXED(fuse_release_in, .fh = 3, .release_flags = FUSE_RELEASE_FLOCK_UNLOCK,
		     .lock_owner = 55)),
	SAMPLE(FSYNC, FSYNC, FIXED(fuse_fsync_in, .fh = 3, .fsync_flags = FUSE_FSYNC_FDATASYNC)),
	SAMPLE(OPENDIR, OPENDIR, FIXED(fuse_open_in, .flags = O_DIRECTORY)),
	SAMPLE(READDIR, READDIR, FIXED(fuse_read_in, .fh = 3, .offset = 7, .size = 4096)),
	SAMPLE(READDIRPLUS, READDIR,
	       FIXED(fuse_read_in, .fh = 3, .offset = UINT64_MAX, .size = 4096)),
	SAMPLE(RELEASEDIR, RELEASEDIR, FIXED(fuse_release_in, .fh = 3)),
	SAMPLE(FSYNCDIR, FSYNCDIR, FIXED(fuse_fsync_in, .fh = 3)),
	SAMPLE(GETXATTR, GETXATTR, FIXED(fuse_getxattr_in, .size = 64), TAIL("user.a/b\0")),
	SAMPLE(SETXATTR, SETXATTR,
	       FIXED(fuse_setxattr_in, .size = 3, .flags = 1,
		     .setxattr_flags = FUSE_SETXATTR_ACL_KILL_SGID),
	       TAIL("user.a\0xyz")),
	SAMPLE(LISTXATTR, LISTXATTR, FIXED(fuse_getxattr_in, .size = 0)),
	SAMPLE(REMOVEXATTR, REMOVEXATTR, TAIL("user.a\0")),
	SAMPLE(GETLK, GETLK, FIXED(fuse_lk_in, .fh = 3, .owner = 55, .lk = SAMPLE_LOCK)),
	SAMPLE(SETLK, SETLK,
	       FIXED(fuse_lk_in, .fh = 3, .owner = 55, .lk = SAMPLE_LOCK,
		     .lk_flags = FUSE_LK_FLOCK)),
	SAMPLE(SETLKW, SETLK, FIXED(fuse_lk_in, .fh = 3, .owner = 55, .lk = SAMPLE_LOCK)),
	SAMPLE(FALLOCATE, FALLOCATE,
	       FIXED(fuse_fallocate_in, .fh = 3, .offset = 10, .length = 90, .mode = 3)),
	SAMPLE(LSEEK, LSEEK, FIXED(fuse_lseek_in, .fh = 3, .offset = 10, .whence = SEEK_HOLE)),
	SAMPLE(COPY_FILE_RANGE, COPY_FILE_RANGE, FIXED(fuse_copy_file_range_in, SAMPLE_COPY)),
	SAMPLE(COPY_FILE_RANGE_64, COPY_FILE_RANGE, FIXED(fuse_copy_file_range_in, SAMPLE_COPY)),
	SAMPLE(IOCTL, IOCTL,
	       FIXED(fuse_ioctl_in, .fh = 3, .flags = FUSE_IOCTL_DIR, .cmd = 0x6601, .arg = 0x1234,
		     .in_size = 4, .out_size = 8),
	       TAIL("abcd")),
	SAMPLE(POLL, POLL, FIXED(fuse_poll_in, .fh = 3, .kh = 99, .flags = 1, .events = 5)),
	SAMPLE(BMAP, BMAP, FIXED(fuse_bmap_in, .block = 6, .blocksize = 512)),
	SAMPLE(STATFS, STATFS, .tail_size = 0),
	SAMPLE(SYNCFS, SYNCFS, FIXED(fuse_syncfs_in, .padding = 0)),
	SAMPLE_OTHER(INIT, WIRE_INIT,
		     FIXED(fuse_init_in, .major = 7, .minor = 45, .max_readahead = 131072,
			   .flags = FUSE_INIT_EXT | FUSE_BIG_WRITES, .flags2 = 1u << 5)),
	SAMPLE_OTHER(FORGET, WIRE_FORGET, FIXED(fuse_forget_in, .nlookup = 2)),
	SAMPLE_OTHER(BATCH_FORGET, WIRE_FORGET, FIXED(fuse_batch_forget_in, .count = 2),
		     TAIL("\2\0\0\0\0\0\0\0"
			  "\1\0\0\0\0\0\0\0"
			  "\3\0\0\0\0\0\0\0"
			  "\4\0\0\0\0\0\0\0")),
	SAMPLE_OTHER(INTERRUPT, WIRE_INTERRUPT, FIXED(fuse_interrupt_in, .unique = 44)),
	SAMPLE_OTHER(DESTROY, WIRE_DESTROY, .tail_size = 0),
	SAMPLE_OTHER(NOTIFY_REPLY, WIRE_NOREPLY, FIXED(fuse_notify_retrieve_in, .size = 0)),
	SAMPLE_OTHER(SETUPMAPPING, WIRE_UNSUPPORTED, FIXED(fuse_setupmapping_in, .fh = 3)),
	SAMPLE_OTHER(REMOVEMAPPING, WIRE_UNSUPPORTED, FIXED(fuse_removemapping_in, .count = 0)),
};

#define SAMPLE_COUNT (sizeof(samples) / sizeof(samples[0]))
#define SAMPLE_MAX 512           /* bytes of the longest, with room to grow */

/** Write the message to @out (SAMPLE_MAX bytes); returns its length. */
static inline size_t sample_build(const struct sample *s, void *out)
{
	struct fuse_in_header h = {
		.len = (uint32_t)(sizeof(h) + s->fixed_size + s->tail_size),
		.opcode = s->opcode,
		.unique = 42,
		.nodeid = 5,
		.uid = 1000,
		.gid = 100,
		.pid = 4321,
	};
	char *at = out;

	memcpy(at, &h, sizeof(h));
	if (s->fixed_size)
		memcpy(at + sizeof(h), s->fixed, s->fixed_size);
	if (s->tail_size)
		memcpy(at + sizeof(h) + s->fixed_size, s->tail, s->tail_size);
	return h.len;
}

#endif
