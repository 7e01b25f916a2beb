/* SPDX-License-Identifier: MIT */
/*
 * Operations: one request in flight. Windows calls it callback data, the kernel a FUSE request.
 *
 * An operation travels down the stack of filters, is served by its node's owner, and travels back up.
 * Filters and file systems see the same record. The table of every operation with its system call and
 * its IRP_MJ_* counterpart is docs/operations.md.
 */
#ifndef ALTITUDE_OP_H
#define ALTITUDE_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct alt_volume;
struct alt_instance;
struct alt_node;
struct alt_file;

/** One code per verb of the Linux VFS. READDIR covers readdirplus, GETATTR statx, SETLK the waiting form. */
enum alt_op_code {
	ALT_OP_END = 0,          /* ends a table of callbacks */
	ALT_OP_LOOKUP,
	ALT_OP_GETATTR,
	ALT_OP_SETATTR,
	ALT_OP_ACCESS,
	ALT_OP_READLINK,
	ALT_OP_MKNOD,
	ALT_OP_MKDIR,
	ALT_OP_SYMLINK,
	ALT_OP_LINK,
	ALT_OP_UNLINK,
	ALT_OP_RMDIR,
	ALT_OP_RENAME,
	ALT_OP_CREATE,           /* open(O_CREAT) of a name that was not there */
	ALT_OP_TMPFILE,
	ALT_OP_OPEN,
	ALT_OP_READ,
	ALT_OP_WRITE,
	ALT_OP_FLUSH,            /* each close(2) of a descriptor */
	ALT_OP_RELEASE,          /* the last reference to a file is gone; cannot fail */
	ALT_OP_FSYNC,
	ALT_OP_OPENDIR,
	ALT_OP_READDIR,
	ALT_OP_RELEASEDIR,       /* cannot fail */
	ALT_OP_FSYNCDIR,
	ALT_OP_GETXATTR,
	ALT_OP_SETXATTR,
	ALT_OP_LISTXATTR,
	ALT_OP_REMOVEXATTR,
	ALT_OP_GETLK,
	ALT_OP_SETLK,
	ALT_OP_FALLOCATE,
	ALT_OP_LSEEK,            /* SEEK_DATA and SEEK_HOLE only */
	ALT_OP_COPY_FILE_RANGE,
	ALT_OP_IOCTL,
	ALT_OP_POLL,
	ALT_OP_BMAP,
	ALT_OP_STATFS,
	ALT_OP_SYNCFS,
	ALT_OP_COUNT,
	ALT_OP_ALL = ALT_OP_COUNT, /* in a table of callbacks: each operation that has no line of its own */
};

/** Answer of a file system's handler: the operation is answered later, by alt_op_complete(). */
#define ALT_PENDING 1

struct alt_time {
	int64_t sec;             /* since 1970 */
	uint32_t nsec;           /* 0..999999999 */
};

/** Attributes of a node, as in statx(2). */
struct alt_attr {
	uint64_t ino;            /* 0: the engine gives the node's number */
	uint64_t size;           /* bytes */
	uint64_t blocks;         /* of 512 bytes */
	struct alt_time atime, mtime, ctime, btime;
	uint32_t mode;           /* type and permissions, as in st_mode */
	uint32_t nlink;
	uint32_t uid, gid;
	uint32_t rdev;           /* device of a special file, as the kernel writes it: minor in bits 0-7 and 20-31, major in 8-19 */
	uint32_t blksize;        /* bytes; 0: 4096 */
};

/** Which fields of params.attr SETATTR changes. Values are the kernel's FATTR_*. */
enum alt_attr_valid {
	ALT_ATTR_MODE = 1u << 0,
	ALT_ATTR_UID = 1u << 1,
	ALT_ATTR_GID = 1u << 2,
	ALT_ATTR_SIZE = 1u << 3,
	ALT_ATTR_ATIME = 1u << 4,
	ALT_ATTR_MTIME = 1u << 5,
	ALT_ATTR_FILE = 1u << 6,         /* by an open file (ftruncate): op->file is set */
	ALT_ATTR_ATIME_NOW = 1u << 7,
	ALT_ATTR_MTIME_NOW = 1u << 8,
	ALT_ATTR_CTIME = 1u << 10,
	ALT_ATTR_KILL_SUIDGID = 1u << 11,/* clear set-user-id, set-group-id and capabilities as well */
};

/**
 * A file system's own, lasting name for a node: two answers with the same key, type and generation are one node.
 * A file system with inode numbers puts the number in @id and the device (or 0) in @dev.
 */
struct alt_key {
	uint64_t id;
	uint64_t dev;
};

/**
 * What LOOKUP, CREATE, MKNOD, MKDIR, SYMLINK, LINK, TMPFILE and each READDIR entry answer.
 *
 * A negative entry is a name the kernel remembers not to be there. LOOKUP answers it as success (0) with attr.mode 0 and data
 * NULL; entry_ttl_ms says for how long. It has no node: r.node stays NULL, and a post-operation of LOOKUP must expect that.
 * -ENOENT says only that the name is not there. Above the highest filter the engine makes a negative entry of it where names
 * are remembered anyway: when the volume has a lifetime (option "ttl_ms"), or when the file system tells of every change
 * (alt_volume_set_watched) and no filter wants LOOKUP; not in the root when the kernel is older than Linux 6.16, which could not
 * take it back. So -ENOENT is the right answer, unless the lifetime is a special one.
 */
struct alt_entry {
	struct alt_key key;
	struct alt_attr attr;
	void *data;              /* the file system's private pointer; one reference, given back by forget */
	uint32_t generation;     /* another one for another file that has the key later; 0: no key comes again */
	bool fresh;              /* CREATE TMPFILE: made this moment, so whatever is known by its key is of the past */
	uint32_t entry_ttl_ms;   /* how long the kernel may remember the name; the engine's default when ALT_TTL_DEFAULT */
	uint32_t attr_ttl_ms;
};
#define ALT_TTL_DEFAULT 0u          /* the volume's lifetime (option "ttl_ms") */
#define ALT_TTL_NONE UINT32_MAX     /* ask again each time */

/** A byte-range or whole-file lock. */
struct alt_lock {
	uint64_t start, end;     /* inclusive; end = INT64_MAX: to the end of the file */
	uint64_t owner;          /* cookie of the lock's owner */
	uint32_t type;           /* F_RDLCK, F_WRLCK, F_UNLCK */
	uint32_t pid;
};

/** Answer of STATFS, as in statvfs(3). */
struct alt_statfs {
	uint64_t blocks, bfree, bavail, files, ffree;
	uint32_t bsize, frsize, namelen;
};

/**
 * What is asked. One flat record, so that a field has one name whatever the operation; the list says who uses it.
 * Callbacks see it as const. A filter that wants those below to see other values takes a copy
 * (alt_op_edit), changes it, and says so (alt_op_dirty).
 */
struct alt_params {
	const char *name;        /* entry in op->node: LOOKUP MKNOD MKDIR SYMLINK LINK UNLINK RMDIR RENAME CREATE;
				  * attribute: *XATTR. Never empty, no '/' in entries, 1..255 bytes of any other value */
	const char *new_name;    /* RENAME: entry in @other */
	const char *target;      /* SYMLINK: text of the link */
	struct alt_node *other;  /* RENAME: new parent; LINK: the node that gets the name; COPY_FILE_RANGE: target */
	struct alt_file *other_file; /* COPY_FILE_RANGE: target */
	void *buf;               /* READ READLINK GETXATTR LISTXATTR: room for @size bytes to fill (NULL when size is 0);
				  * WRITE SETXATTR: @size bytes, not to be changed; IOCTL: in and out */
	size_t size;             /* bytes of @buf; READDIR: bytes the kernel has room for */
	size_t out_size;         /* IOCTL: room for the answer in @buf */
	int64_t offset;          /* READ WRITE FALLOCATE LSEEK COPY_FILE_RANGE: bytes; READDIR: cookie of the last entry, 0 first */
	int64_t offset_out;      /* COPY_FILE_RANGE */
	uint64_t length;         /* FALLOCATE COPY_FILE_RANGE: bytes */
	uint32_t flags;          /* OPEN OPENDIR CREATE TMPFILE: open(2); RENAME: renameat2(2); SETXATTR: setxattr(2);
				  * FALLOCATE: mode; READ WRITE: the file's open(2) flags at this time */
	uint32_t mode;           /* MKNOD MKDIR CREATE TMPFILE: type and permissions, umask not yet applied when @umask is not 0;
				  * ACCESS: R_OK W_OK X_OK */
	uint32_t umask;          /* of the caller; 0 unless the file system set ALT_FS_UMASK */
	uint32_t rdev;           /* MKNOD; as in struct alt_attr */
	uint32_t whence;         /* LSEEK */
	uint32_t valid;          /* SETATTR: enum alt_attr_valid */
	uint32_t cmd;            /* IOCTL; POLL: events */
	uint64_t arg;            /* IOCTL: the pointer as a number; BMAP: block */
	uint32_t bits;           /* enum alt_param_bits */
	struct alt_attr attr;    /* SETATTR: new values */
	struct alt_lock lock;    /* GETLK SETLK; owner also in READ WRITE FLUSH RELEASE */
};

enum alt_param_bits {
	ALT_PARAM_PLUS = 1u << 0,        /* READDIR: attributes of each entry are wanted */
	ALT_PARAM_WAIT = 1u << 1,        /* SETLK: wait for the lock (F_SETLKW) */
	ALT_PARAM_FLOCK = 1u << 2,       /* SETLK, RELEASE: a flock(2) lock */
	ALT_PARAM_DATASYNC = 1u << 3,    /* FSYNC FSYNCDIR */
	ALT_PARAM_KILL_SUIDGID = 1u << 4,/* OPEN with O_TRUNC, CREATE, WRITE: clear set-user-id, set-group-id, capabilities */
	ALT_PARAM_WRITEBACK = 1u << 5,   /* WRITE: by the page cache, no calling process (paging write). A READ by the
				  * page cache is not marked: the kernel does not tell it from another */
	ALT_PARAM_ACL_KILL_SGID = 1u << 6,/* SETXATTR of an ACL: clear set-group-id */
	ALT_PARAM_BTIME = 1u << 7,       /* GETATTR: statx(2) asked for the time of birth too */
	ALT_PARAM_DIR = 1u << 8,         /* IOCTL: on a directory */
};

/** What is answered, beside the status. Filled by the owner; seen and changed by post-operations. */
struct alt_result {
	struct alt_entry entry;  /* names and attributes; GETATTR and SETATTR fill entry.attr and entry.attr_ttl_ms only */
	struct alt_node *node;   /* the entry's node, set by the engine before the first post-operation */
	struct alt_file *file;   /* CREATE TMPFILE: the new open file, made by the engine before the file system is asked */
	size_t size;             /* bytes: READ WRITE READLINK GETXATTR LISTXATTR COPY_FILE_RANGE IOCTL */
	int64_t offset;          /* LSEEK; BMAP: block */
	int32_t value;           /* IOCTL: result; POLL: events ready */
	struct alt_lock lock;    /* GETLK */
	struct alt_statfs statfs;
	uint32_t open;           /* OPEN OPENDIR CREATE TMPFILE: enum alt_open */
};

/** How an open file is to be cached. */
enum alt_open {
	ALT_OPEN_DIRECT = 1u << 0,       /* no page cache */
	ALT_OPEN_KEEP_CACHE = 1u << 1,   /* cached pages of earlier opens are still right */
	ALT_OPEN_NONSEEKABLE = 1u << 2,  /* lseek(2), pread(2) and pwrite(2) are refused */
	ALT_OPEN_CACHE_DIR = 1u << 3,    /* OPENDIR: the listing may be remembered; only if changes are told of (notify.h) */
	ALT_OPEN_STREAM = 1u << 4,       /* the same, and the file has no position: reads and writes do not wait for each other */
	ALT_OPEN_NOFLUSH = 1u << 5,      /* close(2) needs no FLUSH; the engine takes it back while a filter has FLUSH callbacks,
					  * and for a cached file that is open for writing */
	ALT_OPEN_PARALLEL = 1u << 6,     /* direct writes within the size may run together */
};

/** The process that asks. */
struct alt_caller {
	uint32_t pid;            /* 0: none (the page cache, or outside of the server's namespace) */
	uint32_t uid, gid;
};

enum alt_op_flags {
	ALT_OP_FAST = 1u << 1,           /* taken inline: a filter that must block answers ALT_PRE_DISALLOW_FASTIO */
	ALT_OP_GENERATED = 1u << 16,     /* made by a filter (FLTFL_CALLBACK_DATA_GENERATED_IO) */
	ALT_OP_REISSUED = 1u << 17,      /* sent again on a worker after DISALLOW_FASTIO */
	ALT_OP_DRAINING = 1u << 18,      /* in a post-operation: a copy, the true result is unknown; only free */
	ALT_OP_POST = 1u << 19,          /* on its way up */
	ALT_OP_DIRTY = 1u << 31,         /* parameters below are not the caller's */
};

/** One operation. The engine's own record surrounds it. */
struct alt_op {
	enum alt_op_code code;           /* never changes */
	uint32_t flags;                  /* enum alt_op_flags; the engine writes */
	struct alt_caller caller;
	struct alt_volume *volume;
	struct alt_node *node;           /* what it is about; the parent directory for operations with a name */
	struct alt_file *file;           /* the open file, or NULL */
	const struct alt_params *p;      /* parameters as the present callback may see them */
	int status;                      /* 0 or -errno; a pre-operation sets it with ALT_PRE_COMPLETE */
	struct alt_result r;             /* [whoever owns the op at the time] */
};

/** Name of a code in small letters ("read"), or "?" when unknown. */
const char *alt_op_name(enum alt_op_code code);

/** Code of such a name, or ALT_OP_END. */
enum alt_op_code alt_op_find(const char *name);

/**
 * A writable copy of the parameters, for those below; the first call in a callback makes it, later calls
 * give the same one. It has no effect until alt_op_dirty(). Only from a pre-operation (also a pended one).
 * Returns NULL without memory, and from a post-operation.   Source: FltSetCallbackDataDirty.
 */
struct alt_params *alt_op_edit(struct alt_op *op);

/** Put the copy in force: lower filters (pre and post) and the file system see it; the caller's post does not. */
void alt_op_dirty(struct alt_op *op);

/**
 * Memory that lives as long as the operation; freed by the engine on every path, drained and cancelled ones too.
 * NULL without memory. The buffer a filter swaps in comes from here.
 */
void *alt_op_alloc(struct alt_op *op, size_t size);

/**
 * Take the answer's place: finish an operation whose handler answered ALT_PENDING.
 * @status  0 or -errno
 * Any thread, also before the handler has returned; exactly once.
 */
void alt_op_complete(struct alt_op *op, int status);

/**
 * Say who is to be called when the caller gives up (signal, death, deadline, detach) while the operation is pended.
 * @cancel  called at most once, from any thread, no lock held; usually completes with -EINTR
 * Returns 0, or -EINTR when the caller has given up already: @cancel will not be called.
 */
int alt_op_set_cancel(struct alt_op *op, void (*cancel)(struct alt_op *op, void *arg), void *arg);

/**
 * Take the cancel routine back before completing. true: it was not called and will not be; the operation is yours.
 * false: it is running or has run, and owns the operation.
 */
bool alt_op_clear_cancel(struct alt_op *op);

/** true when the caller has given up; long work may end with -EINTR. */
bool alt_op_cancelled(const struct alt_op *op);

/** More time before the volume's request timeout: @timeout_ms from now. Nothing happens where there is none. */
void alt_op_extend(struct alt_op *op, uint32_t timeout_ms);

/** Keep an operation's record from being used again while a pointer to it is held outside of a callback. */
void alt_op_ref(struct alt_op *op);
void alt_op_unref(struct alt_op *op);

/**
 * Supplementary groups of the caller, read now from /proc (a pid alone is reused: right while the caller waits).
 * Returns how many there are, at most @max are stored; -ESRCH when the caller is gone.
 */
int alt_caller_groups(const struct alt_op *op, uint32_t *groups, int max);

/** Short name of the caller's program (comm), always terminated; "?" when gone. */
void alt_caller_name(const struct alt_op *op, char *buf, size_t size);

/** Path of the caller's executable. 0, -ESRCH or -ENAMETOOLONG. */
int alt_caller_exe(const struct alt_op *op, char *buf, size_t size);

/** A pidfd of the caller, the descriptor is yours; -ESRCH when it is gone. */
int alt_caller_pidfd(const struct alt_op *op);

/**
 * Add an entry to the answer of READDIR.
 * @name    1..255 bytes
 * @type    DT_*
 * @next    cookie from which the entry after this one is read; never 0
 * @entry   for ALT_PARAM_PLUS: its key and attributes; NULL otherwise (then only @ino and @type are known)
 * Returns true, or false when the answer is full: stop, and do not count this entry as given.
 */
bool alt_dirent_add(struct alt_op *op, const char *name, uint64_t ino, unsigned type, int64_t next,
		    const struct alt_entry *entry);

#endif
