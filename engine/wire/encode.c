/* SPDX-License-Identifier: MIT */
/*
 * Answers and notifications for the kernel:
 *
 *   fuse_out_header (16) | fixed struct of the opcode | data
 *
 * Every byte written is set, padding too: what is on our stack is nobody's business. An answer of
 * the wrong length is refused by the kernel and its caller then sleeps for ever, so lengths are
 * checked here.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "proto.h"
#include "wire.h"

#define BLKSIZE_DEFAULT 4096
#define NAME_LIMIT 255
#define ERRNO_LIMIT 512          /* the kernel takes smaller ones only */

#define SX_BASIC 0x7ffu          /* STATX_BASIC_STATS */
#define SX_BTIME 0x800u          /* STATX_BTIME */

#define OPEN_KNOWN \
	(ALT_OPEN_DIRECT | ALT_OPEN_KEEP_CACHE | ALT_OPEN_NONSEEKABLE | ALT_OPEN_CACHE_DIR | \
	 ALT_OPEN_STREAM | ALT_OPEN_NOFLUSH | ALT_OPEN_PARALLEL)

static_assert((int)ALT_OPEN_DIRECT == FOPEN_DIRECT_IO &&
		      (int)ALT_OPEN_KEEP_CACHE == FOPEN_KEEP_CACHE &&
		      (int)ALT_OPEN_NONSEEKABLE == FOPEN_NONSEEKABLE &&
		      (int)ALT_OPEN_CACHE_DIR == FOPEN_CACHE_DIR &&
		      (int)ALT_OPEN_STREAM == FOPEN_STREAM &&
		      (int)ALT_OPEN_NOFLUSH == FOPEN_NOFLUSH &&
		      (int)ALT_OPEN_PARALLEL == FOPEN_PARALLEL_DIRECT_WRITES,
	      "open answer");
static_assert(sizeof(struct fuse_out_header) + sizeof(struct wire_statx_out) <= WIRE_FIXED_MAX,
	      "STATX");
static_assert(sizeof(struct fuse_out_header) + sizeof(struct fuse_entry_out) +
			      sizeof(struct wire_open_out) <=
		      WIRE_FIXED_MAX,
	      "CREATE");

struct answer {
	const struct wire_request *rq;
	const struct alt_op *op;
	const struct wire_reply *rp;
};

static size_t put_header(void *out, uint64_t unique, int error, size_t body)
{
	struct fuse_out_header h = {
		.len = (uint32_t)(sizeof(h) + body),
		.error = error,
		.unique = unique,
	};

	memcpy(out, &h, sizeof(h));
	return h.len;
}

static char *body_of(void *out)
{
	return (char *)out + sizeof(struct fuse_out_header);
}

#define PUT(out, value) (memcpy(out, &(value), sizeof(value)), sizeof(value))

/* Parts that several answers share */

static void put_ttl(uint32_t ttl_ms, uint32_t fallback_ms, uint64_t *sec, uint32_t *nsec)
{
	if (ttl_ms == ALT_TTL_DEFAULT)
		ttl_ms = fallback_ms;
	if (ttl_ms == ALT_TTL_NONE)
		ttl_ms = 0;
	*sec = ttl_ms / 1000;
	*nsec = ttl_ms % 1000 * 1000000;
}

static struct fuse_attr attr_of(const struct alt_attr *a, const struct wire_reply *rp)
{
	return (struct fuse_attr){
		.ino = a->ino ? a->ino : rp->attr_ino,
		.size = a->size,
		.blocks = a->blocks,
		.atime = (uint64_t)a->atime.sec,
		.mtime = (uint64_t)a->mtime.sec,
		.ctime = (uint64_t)a->ctime.sec,
		.atimensec = a->atime.nsec,
		.mtimensec = a->mtime.nsec,
		.ctimensec = a->ctime.nsec,
		.mode = a->mode,
		.nlink = a->nlink,
		.uid = a->uid,
		.gid = a->gid,
		.rdev = a->rdev,
		.blksize = a->blksize ? a->blksize : BLKSIZE_DEFAULT,
	};
}

static struct fuse_entry_out entry_of(const struct alt_entry *e, const struct wire_reply *rp)
{
	struct fuse_entry_out o = { .nodeid = rp->nodeid, .generation = rp->generation };

	put_ttl(e->entry_ttl_ms, rp->entry_ttl_ms, &o.entry_valid, &o.entry_valid_nsec);
	put_ttl(e->attr_ttl_ms, rp->attr_ttl_ms, &o.attr_valid, &o.attr_valid_nsec);
	o.attr = attr_of(&e->attr, rp);
	return o;
}

static struct wire_sx_time time_of(const struct alt_time *t)
{
	return (struct wire_sx_time){ .tv_sec = t->sec, .tv_nsec = t->nsec };
}

/* The kernel's 32-bit device number: minor in bits 0-7 and 20-31, major in 8-19. */
static uint32_t dev_major(uint32_t dev)
{
	return dev >> 8 & 0xfff;
}

static uint32_t dev_minor(uint32_t dev)
{
	return (dev & 0xff) | (dev >> 12 & 0xfff00);
}

static struct wire_statx statx_of(const struct alt_attr *a, const struct wire_reply *rp)
{
	return (struct wire_statx){
		.mask = SX_BASIC | SX_BTIME,
		.blksize = a->blksize ? a->blksize : BLKSIZE_DEFAULT,
		.nlink = a->nlink,
		.uid = a->uid,
		.gid = a->gid,
		.mode = (uint16_t)a->mode,
		.ino = a->ino ? a->ino : rp->attr_ino,
		.size = a->size,
		.blocks = a->blocks,
		.atime = time_of(&a->atime),
		.btime = time_of(&a->btime),
		.ctime = time_of(&a->ctime),
		.mtime = time_of(&a->mtime),
		.rdev_major = dev_major(a->rdev),
		.rdev_minor = dev_minor(a->rdev),
	};
}

/* Fixed parts, one for each kind of answer */

static size_t put_entry(const struct answer *x, void *out)
{
	struct fuse_entry_out o = entry_of(&x->op->r.entry, x->rp);

	return PUT(out, o);
}

static size_t put_lookup(const struct answer *x, void *out)
{
	struct fuse_entry_out o = { .nodeid = 0 };

	if (x->op->r.node)
		return put_entry(x, out);
	put_ttl(x->op->r.entry.entry_ttl_ms, x->rp->entry_ttl_ms, &o.entry_valid, &o.entry_valid_nsec);
	return PUT(out, o);
}

static size_t put_open(const struct answer *x, void *out)
{
	struct wire_open_out o = {
		.fh = x->rp->fh,
		.open_flags = x->op->r.open & OPEN_KNOWN,
		.backing_id = x->rp->backing_id,
	};

	if (o.backing_id)
		o.open_flags |= FOPEN_PASSTHROUGH;
	return PUT(out, o);
}

static size_t put_create(const struct answer *x, void *out)
{
	size_t size = put_entry(x, out);

	return size + put_open(x, (char *)out + size);
}

static size_t put_statx(const struct answer *x, void *out)
{
	const struct alt_entry *e = &x->op->r.entry;
	struct wire_statx_out o = { .stat = statx_of(&e->attr, x->rp) };

	put_ttl(e->attr_ttl_ms, x->rp->attr_ttl_ms, &o.attr_valid, &o.attr_valid_nsec);
	return PUT(out, o);
}

static size_t put_attr(const struct answer *x, void *out)
{
	const struct alt_entry *e = &x->op->r.entry;
	struct fuse_attr_out o = { .attr = attr_of(&e->attr, x->rp) };

	if (x->rq->opcode == FUSE_STATX)
		return put_statx(x, out);
	put_ttl(e->attr_ttl_ms, x->rp->attr_ttl_ms, &o.attr_valid, &o.attr_valid_nsec);
	return PUT(out, o);
}

static size_t put_written(const struct answer *x, void *out)
{
	struct fuse_write_out o = { .size = (uint32_t)x->op->r.size };

	return PUT(out, o);
}

static size_t put_copied(const struct answer *x, void *out)
{
	struct wire_copy_file_range_out o = { .bytes_copied = x->op->r.size };

	return x->rq->opcode == FUSE_COPY_FILE_RANGE_64 ? PUT(out, o) : put_written(x, out);
}

static size_t put_xattr(const struct answer *x, void *out)
{
	struct fuse_getxattr_out o = { .size = (uint32_t)x->op->r.size };

	return x->rq->params.size ? 0 : PUT(out, o);
}

static size_t put_lock(const struct answer *x, void *out)
{
	const struct alt_lock *lock = &x->op->r.lock;
	struct fuse_lk_out o = {
		.lk = { .start = lock->start,
			.end = lock->end,
			.type = lock->type,
			.pid = lock->pid },
	};

	return PUT(out, o);
}

static size_t put_lseek(const struct answer *x, void *out)
{
	struct fuse_lseek_out o = { .offset = (uint64_t)x->op->r.offset };

	return PUT(out, o);
}

static size_t put_bmap(const struct answer *x, void *out)
{
	struct fuse_bmap_out o = { .block = (uint64_t)x->op->r.offset };

	return PUT(out, o);
}

static size_t put_ioctl(const struct answer *x, void *out)
{
	struct fuse_ioctl_out o = { .result = x->op->r.value };

	return PUT(out, o);
}

static size_t put_poll(const struct answer *x, void *out)
{
	struct fuse_poll_out o = { .revents = (uint32_t)x->op->r.value };

	return PUT(out, o);
}

static size_t put_statfs(const struct answer *x, void *out)
{
	const struct alt_statfs *s = &x->op->r.statfs;
	struct fuse_statfs_out o = {
		.st = {
			.blocks = s->blocks, .bfree = s->bfree, .bavail = s->bavail,
			.files = s->files, .ffree = s->ffree,
			.bsize = s->bsize, .namelen = s->namelen, .frsize = s->frsize,
		},
	};

	return PUT(out, o);
}

/* How many bytes the kernel has room for; the answer may not say more */

static uint64_t room_size(const struct wire_request *rq)
{
	return rq->params.size;
}

static uint64_t room_xattr(const struct wire_request *rq)
{
	return rq->params.size ? rq->params.size : UINT32_MAX;
}

static uint64_t room_ioctl(const struct wire_request *rq)
{
	return rq->params.out_size;
}

static uint64_t room_copy(const struct wire_request *rq)
{
	if (rq->opcode == FUSE_COPY_FILE_RANGE && rq->params.length > UINT32_MAX)
		return UINT32_MAX;
	return rq->params.length;
}

enum tail { TAIL_NONE, TAIL_BUF, TAIL_DIR };

struct form {
	size_t (*put)(const struct answer *x, void *out);
	uint64_t (*room)(const struct wire_request *rq);
	enum tail tail;
	int excess;              /* error when there is no room */
};

static const struct form forms[ALT_OP_COUNT] = {
	[ALT_OP_LOOKUP] = { .put = put_lookup },
	[ALT_OP_GETATTR] = { .put = put_attr },
	[ALT_OP_SETATTR] = { .put = put_attr },
	[ALT_OP_READLINK] = { .room = room_size, .tail = TAIL_BUF, .excess = -EIO },
	[ALT_OP_MKNOD] = { .put = put_entry },
	[ALT_OP_MKDIR] = { .put = put_entry },
	[ALT_OP_SYMLINK] = { .put = put_entry },
	[ALT_OP_LINK] = { .put = put_entry },
	[ALT_OP_CREATE] = { .put = put_create },
	[ALT_OP_TMPFILE] = { .put = put_create },
	[ALT_OP_OPEN] = { .put = put_open },
	[ALT_OP_READ] = { .room = room_size, .tail = TAIL_BUF, .excess = -EIO },
	[ALT_OP_WRITE] = { .put = put_written, .room = room_size, .excess = -EIO },
	[ALT_OP_OPENDIR] = { .put = put_open },
	[ALT_OP_READDIR] = { .room = room_size, .tail = TAIL_DIR, .excess = -EIO },
	[ALT_OP_GETXATTR] = { .put = put_xattr,
			      .room = room_xattr,
			      .tail = TAIL_BUF,
			      .excess = -ERANGE },
	[ALT_OP_LISTXATTR] = { .put = put_xattr,
			       .room = room_xattr,
			       .tail = TAIL_BUF,
			       .excess = -ERANGE },
	[ALT_OP_GETLK] = { .put = put_lock },
	[ALT_OP_LSEEK] = { .put = put_lseek },
	[ALT_OP_COPY_FILE_RANGE] = { .put = put_copied, .room = room_copy, .excess = -EIO },
	[ALT_OP_IOCTL] = { .put = put_ioctl, .room = room_ioctl, .tail = TAIL_BUF, .excess = -EIO },
	[ALT_OP_POLL] = { .put = put_poll },
	[ALT_OP_BMAP] = { .put = put_bmap },
	[ALT_OP_STATFS] = { .put = put_statfs },
};

size_t wire_encode_error(uint64_t unique, int error, void *fixed)
{
	if (error > 0 || error <= -ERRNO_LIMIT)
		error = -EIO;
	return put_header(fixed, unique, error, 0);
}

static int error_only(uint64_t unique, int error, void *fixed, struct iovec iov[2])
{
	iov[0] = (struct iovec){ fixed, wire_encode_error(unique, error, fixed) };
	return 1;
}

/* A question for the size of an attribute is answered by the fixed part alone. */
static bool has_tail(const struct form *f, const struct wire_request *rq)
{
	return f->tail != TAIL_NONE && !(f->room == room_xattr && !rq->params.size);
}

int wire_encode(const struct wire_request *rq, const struct alt_op *op, const struct wire_reply *rp,
		const void *data, size_t data_size, void *fixed, struct iovec iov[2])
{
	const struct form *f =
		(unsigned)op->code < ALT_OP_COUNT ? &forms[op->code] : &forms[ALT_OP_END];
	struct answer x = { rq, op, rp };
	size_t body, size = f->tail == TAIL_DIR ? data_size : op->r.size;

	if (op->status)
		return error_only(rq->unique, op->status, fixed, iov);
	if (f->room && size > f->room(rq))
		return error_only(rq->unique, f->excess, fixed, iov);

	body = f->put ? f->put(&x, body_of(fixed)) : 0;
	iov[0] = (struct iovec){ fixed, sizeof(struct fuse_out_header) + body };
	if (!size || !has_tail(f, rq)) {
		put_header(fixed, rq->unique, 0, body);
		return 1;
	}
	put_header(fixed, rq->unique, 0, body + size);
	iov[1] = (struct iovec){ f->tail == TAIL_DIR ? (void *)data : op->p->buf, size };
	return 2;
}

/* Directory entries */

size_t wire_dirent_size(size_t name_len, bool plus)
{
	return FUSE_DIRENT_ALIGN((plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET) +
				 name_len);
}

void wire_dirent_put(void *out, const char *name, size_t name_len, uint64_t ino, unsigned type,
		     int64_t next, bool plus, const struct alt_entry *e,
		     const struct wire_reply *rp)
{
	struct fuse_dirent d = {
		.ino = ino, .off = (uint64_t)next, .namelen = (uint32_t)name_len, .type = type
	};
	size_t used = wire_dirent_size(0, plus), total = wire_dirent_size(name_len, plus);
	struct fuse_entry_out o = { .nodeid = 0 };
	char *at = out;

	if (plus) {
		if (e && rp->nodeid)
			o = entry_of(e, rp);
		at += PUT(at, o);
	}
	memcpy(at, &d, sizeof(d));
	memcpy((char *)out + used, name, name_len);
	memset((char *)out + used + name_len, 0, total - used - name_len);
}

/* INIT and notifications */

size_t wire_encode_init(uint64_t unique, const struct wire_init_answer *a, void *fixed)
{
	uint64_t flags = a->flags >> 32 ? a->flags | FUSE_INIT_EXT : a->flags;
	struct wire_init_out o = {
		.major = WIRE_MAJOR,
		.minor = WIRE_MINOR,
		.max_readahead = a->max_readahead,
		.flags = (uint32_t)flags,
		.max_background = a->max_background,
		.congestion_threshold = a->congestion_threshold,
		.max_write = a->max_write,
		.time_gran = a->time_gran,
		.max_pages = a->max_pages,
		.flags2 = (uint32_t)(flags >> 32),
		.max_stack_depth = a->max_stack_depth,
	};

	return put_header(fixed, unique, 0, PUT(body_of(fixed), o));
}

/* A notification is an answer to nothing, its code in the place of the error. */
static size_t put_notify(int code, size_t body, void *out)
{
	return put_header(out, 0, code, body);
}

size_t wire_notify_inode(uint64_t nodeid, int64_t off, int64_t len, void *out)
{
	struct fuse_notify_inval_inode_out o = { .ino = nodeid, .off = off, .len = len };

	return put_notify(FUSE_NOTIFY_INVAL_INODE, PUT(body_of(out), o), out);
}

/* A fixed part, then a name and a zero byte. */
static size_t put_named(int code, const void *fixed, size_t fixed_size, const char *name, size_t name_len, void *out)
{
	char *at = body_of(out);

	if (!name_len || name_len > NAME_LIMIT)
		return 0;
	memcpy(at, fixed, fixed_size);
	memcpy(at + fixed_size, name, name_len);
	at[fixed_size + name_len] = '\0';
	return put_notify(code, fixed_size + name_len + 1, out);
}

size_t wire_notify_entry(uint64_t parent, const char *name, size_t name_len, bool expire_only,
			 void *out)
{
	struct fuse_notify_inval_entry_out o = {
		.parent = parent,
		.namelen = (uint32_t)name_len,
		.flags = expire_only ? FUSE_EXPIRE_ONLY : 0,
	};

	return put_named(FUSE_NOTIFY_INVAL_ENTRY, &o, sizeof(o), name, name_len, out);
}

size_t wire_notify_delete(uint64_t parent, uint64_t child, const char *name, size_t name_len, void *out)
{
	struct fuse_notify_delete_out o = { .parent = parent, .child = child, .namelen = (uint32_t)name_len };

	return put_named(FUSE_NOTIFY_DELETE, &o, sizeof(o), name, name_len, out);
}

size_t wire_notify_epoch(void *out)
{
	return put_notify(FUSE_NOTIFY_INC_EPOCH, 0, out);
}

size_t wire_notify_poll(uint64_t kh, void *out)
{
	struct fuse_notify_poll_wakeup_out o = { .kh = kh };

	return put_notify(FUSE_NOTIFY_POLL, PUT(body_of(out), o), out);
}
