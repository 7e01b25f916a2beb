/* SPDX-License-Identifier: MIT */
/*
 * A message from the kernel, taken apart:
 *
 *   fuse_in_header (40) | fixed struct of the opcode | names, each with its NUL | data | extensions
 *
 * The message is trusted as little as a packet from a network: a cursor hands out bytes and refuses
 * what is not there. Fixed structs are copied, as a message may lie at any address.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto.h"
#include "wire.h"

/* From 6.15 the kernel lets names through up to here; what is over 255 the file system refuses. */
#define NAME_LIMIT (PATH_MAX - 1)

/* What the kernel has room for in the answer of READLINK. */
#define LINK_LIMIT (PATH_MAX - 1)

#define NSEC_MAX 999999999u

#define VALID_KNOWN \
	(FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_SIZE | FATTR_ATIME | FATTR_MTIME | FATTR_FH | \
	 FATTR_ATIME_NOW | FATTR_MTIME_NOW | FATTR_CTIME | FATTR_KILL_SUIDGID)

static_assert((int)ALT_ATTR_CTIME == FATTR_CTIME &&
		      (int)ALT_ATTR_KILL_SUIDGID == FATTR_KILL_SUIDGID &&
		      (int)ALT_ATTR_FILE == FATTR_FH && (int)ALT_ATTR_MTIME_NOW == FATTR_MTIME_NOW,
	      "SETATTR bits");
static_assert(sizeof(struct wire_forget) == sizeof(struct fuse_forget_one), "FORGET pairs");

struct cursor {
	char *at, *end;
};

union fixed {
	struct fuse_forget_in forget;
	struct fuse_batch_forget_in batch;
	struct fuse_getattr_in getattr;
	struct wire_statx_in statx;
	struct fuse_setattr_in setattr;
	struct fuse_mknod_in mknod;
	struct fuse_mkdir_in mkdir;
	struct fuse_rename_in rename;
	struct fuse_rename2_in rename2;
	struct fuse_link_in link;
	struct fuse_open_in open;
	struct fuse_create_in create;
	struct fuse_release_in release;
	struct fuse_flush_in flush;
	struct fuse_read_in read;
	struct fuse_write_in write;
	struct fuse_fsync_in fsync;
	struct fuse_setxattr_in setxattr;
	struct fuse_getxattr_in getxattr;
	struct fuse_lk_in lk;
	struct fuse_access_in access;
	struct fuse_init_in init;
	struct fuse_interrupt_in interrupt;
	struct fuse_bmap_in bmap;
	struct fuse_ioctl_in ioctl;
	struct fuse_poll_in poll;
	struct fuse_fallocate_in fallocate;
	struct fuse_lseek_in lseek;
	struct fuse_copy_file_range_in copy;
};

static size_t left(const struct cursor *c)
{
	return (size_t)(c->end - c->at);
}

static int take_data(struct cursor *c, size_t size, void **ret)
{
	if (size > left(c))
		return -EPROTO;
	*ret = size ? c->at : NULL;
	c->at += size;
	return 0;
}

static int take_string(struct cursor *c, size_t limit, const char **ret)
{
	char *nul = left(c) ? memchr(c->at, '\0', left(c)) : NULL;

	if (!nul || nul == c->at || (size_t)(nul - c->at) > limit)
		return -EPROTO;
	*ret = c->at;
	c->at = nul + 1;
	return 0;
}

static int take_entry(struct cursor *c, const char **ret)
{
	const char *name;

	if (take_string(c, NAME_LIMIT, &name) < 0)
		return -EPROTO;
	if (strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
		return -EPROTO;
	*ret = name;
	return 0;
}

static void set_fh(struct wire_request *rq, uint64_t fh)
{
	rq->fh = fh;
	rq->has_fh = true;
}

static int set_range(struct alt_params *p, uint64_t offset, uint64_t length)
{
	if (offset > INT64_MAX || length > INT64_MAX - offset)
		return -EPROTO;
	p->offset = (int64_t)offset;
	return 0;
}

/* Entries and attributes */

static int get_entry(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	return take_entry(c, &rq->params.name);
}

static int get_forget(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	rq->single = (struct wire_forget){ rq->nodeid, in->forget.nlookup };
	rq->forgets = &rq->single;
	rq->forget_count = 1;
	return 0;
}

static int get_batch_forget(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	if (in->batch.count > left(c) / sizeof(struct fuse_forget_one))
		return -EPROTO;
	rq->forgets = c->at;
	rq->forget_count = in->batch.count;
	return 0;
}

static int get_getattr(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	if (in->getattr.getattr_flags & FUSE_GETATTR_FH)
		set_fh(rq, in->getattr.fh);
	return 0;
}

static int get_statx(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	if (in->statx.getattr_flags & FUSE_GETATTR_FH)
		set_fh(rq, in->statx.fh);
	return 0;
}

static void set_times(struct alt_attr *a, const struct fuse_setattr_in *in)
{
	a->atime = (struct alt_time){ (int64_t)in->atime, in->atimensec };
	a->mtime = (struct alt_time){ (int64_t)in->mtime, in->mtimensec };
	a->ctime = (struct alt_time){ (int64_t)in->ctime, in->ctimensec };
}

static bool setattr_sound(const struct fuse_setattr_in *in)
{
	return !((in->valid & FATTR_ATIME && in->atimensec > NSEC_MAX) ||
		 (in->valid & FATTR_MTIME && in->mtimensec > NSEC_MAX) ||
		 (in->valid & FATTR_CTIME && in->ctimensec > NSEC_MAX) ||
		 (in->valid & FATTR_SIZE && in->size > INT64_MAX));
}

static int get_setattr(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	const struct fuse_setattr_in *s = &in->setattr;
	struct alt_params *p = &rq->params;

	if (!setattr_sound(s))
		return -EPROTO;
	p->valid = s->valid & VALID_KNOWN;
	p->attr.mode = s->mode;
	p->attr.uid = s->uid;
	p->attr.gid = s->gid;
	p->attr.size = s->size;
	set_times(&p->attr, s);
	if (s->valid & FATTR_LOCKOWNER)
		p->lock.owner = s->lock_owner;
	if (s->valid & FATTR_FH)
		set_fh(rq, s->fh);
	return 0;
}

static int get_access(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	rq->params.mode = in->access.mask;
	return 0;
}

static int get_readlink(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	rq->params.size = LINK_LIMIT;
	return 0;
}

/* The tree */

static int get_mknod(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	rq->params.mode = in->mknod.mode;
	rq->params.umask = in->mknod.umask;
	rq->params.rdev = in->mknod.rdev;
	return take_entry(c, &rq->params.name);
}

static int get_mkdir(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	rq->params.mode = (in->mkdir.mode & ~(uint32_t)S_IFMT) | S_IFDIR;
	rq->params.umask = in->mkdir.umask;
	return take_entry(c, &rq->params.name);
}

static int get_symlink(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	if (take_entry(c, &rq->params.name) < 0)
		return -EPROTO;
	return take_string(c, LINK_LIMIT, &rq->params.target);
}

static int get_link(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	rq->other_nodeid = in->link.oldnodeid;
	return take_entry(c, &rq->params.name);
}

static int get_rename(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	rq->other_nodeid = in->rename.newdir;
	if (take_entry(c, &rq->params.name) < 0)
		return -EPROTO;
	return take_entry(c, &rq->params.new_name);
}

static int get_rename2(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	rq->params.flags = in->rename2.flags;
	return get_rename(in, c, rq);
}

static_assert(offsetof(struct fuse_rename2_in, newdir) == offsetof(struct fuse_rename_in, newdir),
	      "rename");

/* Open files */

static void set_open(struct alt_params *p, uint32_t flags, uint32_t open_flags)
{
	p->flags = flags;
	if (open_flags & FUSE_OPEN_KILL_SUIDGID)
		p->bits |= ALT_PARAM_KILL_SUIDGID;
}

static int get_tmpfile(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	struct alt_params *p = &rq->params;

	set_open(p, in->create.flags, in->create.open_flags);
	p->mode = in->create.mode;
	p->umask = in->create.umask;
	if (!(p->mode & S_IFMT))
		p->mode |= S_IFREG;
	return 0;               /* a name follows, "/": it means nothing */
}

static int get_create(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	get_tmpfile(in, c, rq);
	return take_entry(c, &rq->params.name);
}

static int get_open(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	set_open(&rq->params, in->open.flags, in->open.open_flags);
	return 0;
}

static void set_read(const struct fuse_read_in *in, struct wire_request *rq)
{
	set_fh(rq, in->fh);
	rq->params.size = in->size;
	rq->params.flags = in->flags;
	if (in->read_flags & FUSE_READ_LOCKOWNER)
		rq->params.lock.owner = in->lock_owner;
}

static int get_read(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	set_read(&in->read, rq);
	return set_range(&rq->params, in->read.offset, in->read.size);
}

static int get_readdir(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	set_read(&in->read, rq);
	rq->params.offset = (int64_t)in->read.offset;   /* a cookie: any value */
	rq->plus = rq->params.bits & ALT_PARAM_PLUS;
	return 0;
}

static uint32_t write_bits(uint32_t flags)
{
	return (flags & FUSE_WRITE_CACHE ? ALT_PARAM_WRITEBACK : 0) |
	       (flags & FUSE_WRITE_KILL_SUIDGID ? ALT_PARAM_KILL_SUIDGID : 0);
}

static int get_write(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	struct alt_params *p = &rq->params;

	set_fh(rq, in->write.fh);
	p->size = in->write.size;
	p->flags = in->write.flags;
	p->bits |= write_bits(in->write.write_flags);
	if (in->write.write_flags & FUSE_WRITE_LOCKOWNER)
		p->lock.owner = in->write.lock_owner;
	if (set_range(p, in->write.offset, in->write.size) < 0)
		return -EPROTO;
	return take_data(c, p->size, &p->buf);
}

static int get_flush(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	set_fh(rq, in->flush.fh);
	rq->params.lock.owner = in->flush.lock_owner;
	return 0;
}

static int get_release(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	set_fh(rq, in->release.fh);
	rq->params.flags = in->release.flags;
	rq->params.lock.owner = in->release.lock_owner;
	if (in->release.release_flags & FUSE_RELEASE_FLOCK_UNLOCK)
		rq->params.bits |= ALT_PARAM_FLOCK;
	return 0;
}

static int get_fsync(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	set_fh(rq, in->fsync.fh);
	if (in->fsync.fsync_flags & FUSE_FSYNC_FDATASYNC)
		rq->params.bits |= ALT_PARAM_DATASYNC;
	return 0;
}

static int get_fallocate(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	set_fh(rq, in->fallocate.fh);
	rq->params.flags = in->fallocate.mode;
	rq->params.length = in->fallocate.length;
	return set_range(&rq->params, in->fallocate.offset, in->fallocate.length);
}

static int get_lseek(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	set_fh(rq, in->lseek.fh);
	rq->params.offset = (int64_t)in->lseek.offset;  /* negative: the file system's ENXIO */
	rq->params.whence = in->lseek.whence;
	return in->lseek.whence == SEEK_DATA || in->lseek.whence == SEEK_HOLE ? 0 : -EPROTO;
}

static int get_copy(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	struct alt_params *p = &rq->params;

	set_fh(rq, in->copy.fh_in);
	rq->other_nodeid = in->copy.nodeid_out;
	rq->other_fh = in->copy.fh_out;
	p->length = in->copy.len;
	p->flags = (uint32_t)in->copy.flags;
	if (in->copy.off_out > INT64_MAX)
		return -EPROTO;
	p->offset_out = (int64_t)in->copy.off_out;
	return set_range(p, in->copy.off_in, 0);
}

/* Extended attributes */

static int get_xattr_name(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	return take_string(c, NAME_LIMIT, &rq->params.name);
}

static int get_listxattr(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	rq->params.size = in->getxattr.size;
	return 0;
}

static int get_getxattr(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	rq->params.size = in->getxattr.size;
	return get_xattr_name(in, c, rq);
}

static int get_setxattr(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	struct alt_params *p = &rq->params;

	p->size = in->setxattr.size;
	p->flags = in->setxattr.flags;
	if (in->setxattr.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID)
		p->bits |= ALT_PARAM_ACL_KILL_SGID;
	if (get_xattr_name(in, c, rq) < 0)
		return -EPROTO;
	return take_data(c, p->size, &p->buf);
}

/* Locks and the rest */

static bool lock_sound(const struct fuse_file_lock *lk)
{
	return lk->start <= lk->end && lk->end <= INT64_MAX &&
	       (lk->type == F_RDLCK || lk->type == F_WRLCK || lk->type == F_UNLCK);
}

static int get_lk(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	const struct fuse_file_lock *lk = &in->lk.lk;

	if (!lock_sound(lk))
		return -EPROTO;
	set_fh(rq, in->lk.fh);
	rq->params.lock = (struct alt_lock){
		.start = lk->start,
		.end = lk->end,
		.owner = in->lk.owner,
		.type = lk->type,
		.pid = lk->pid,
	};
	if (in->lk.lk_flags & FUSE_LK_FLOCK)
		rq->params.bits |= ALT_PARAM_FLOCK;
	return 0;
}

static int get_ioctl(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	struct alt_params *p = &rq->params;

	set_fh(rq, in->ioctl.fh);
	p->cmd = in->ioctl.cmd;
	p->arg = in->ioctl.arg;
	p->flags = in->ioctl.flags;
	p->size = in->ioctl.in_size;
	p->out_size = in->ioctl.out_size;
	if (in->ioctl.flags & FUSE_IOCTL_DIR)
		p->bits |= ALT_PARAM_DIR;
	return take_data(c, p->size, &p->buf);
}

static int get_poll(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	set_fh(rq, in->poll.fh);
	rq->params.cmd = in->poll.events;
	rq->params.arg = in->poll.kh;
	rq->params.flags = in->poll.flags;
	return 0;
}

static int get_bmap(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	rq->params.arg = in->bmap.block;
	rq->params.size = in->bmap.blocksize;
	return 0;
}

static int get_interrupt(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	rq->victim = in->interrupt.unique;
	return 0;
}

static int get_init(const union fixed *in, struct cursor *c, struct wire_request *rq)
{
	uint32_t flags2 = 0;

	if (in->init.flags & FUSE_INIT_EXT) {
		if (left(c) < sizeof(flags2))
			return -EPROTO;
		memcpy(&flags2, c->at, sizeof(flags2));
	}
	rq->init = (struct wire_init){
		.major = in->init.major,
		.minor = in->init.minor,
		.max_readahead = in->init.max_readahead,
		.flags = in->init.flags | (uint64_t)flags2 << 32,
	};
	return 0;
}

struct layout {
	enum wire_kind kind;
	enum alt_op_code code;
	uint32_t bits;           /* of the parameters, from the start */
	size_t fixed;            /* bytes of the opcode's struct */
	int (*get)(const union fixed *in, struct cursor *c, struct wire_request *rq);
};

#define OP(code_, member, get_) \
	{ \
		.kind = WIRE_OP, .code = ALT_OP_##code_, \
		.fixed = sizeof(((union fixed *)0)->member), .get = get_ \
	}
#define OP_BITS(code_, member, get_, bits_) \
	{ \
		.kind = WIRE_OP, .code = ALT_OP_##code_, \
		.fixed = sizeof(((union fixed *)0)->member), .get = get_, .bits = bits_ \
	}
#define OP_BARE(code_, get_) { .kind = WIRE_OP, .code = ALT_OP_##code_, .get = get_ }
#define OTHER(kind_, member, get_) \
	{ \
		.kind = kind_, .fixed = sizeof(((union fixed *)0)->member), .get = get_ \
	}

/* Of the first 7.6: flags2 and the rest of the struct came later, and get_init() looks for them. */
#define INIT_SHORT offsetof(struct fuse_init_in, flags2)

static const struct layout layouts[] = {
	[FUSE_LOOKUP] = OP_BARE(LOOKUP, get_entry),
	[FUSE_FORGET] = OTHER(WIRE_FORGET, forget, get_forget),
	[FUSE_BATCH_FORGET] = OTHER(WIRE_FORGET, batch, get_batch_forget),
	[FUSE_GETATTR] = OP(GETATTR, getattr, get_getattr),
	[FUSE_STATX] = OP_BITS(GETATTR, statx, get_statx, ALT_PARAM_BTIME),
	[FUSE_SETATTR] = OP(SETATTR, setattr, get_setattr),
	[FUSE_ACCESS] = OP(ACCESS, access, get_access),
	[FUSE_READLINK] = OP_BARE(READLINK, get_readlink),
	[FUSE_MKNOD] = OP(MKNOD, mknod, get_mknod),
	[FUSE_MKDIR] = OP(MKDIR, mkdir, get_mkdir),
	[FUSE_SYMLINK] = OP_BARE(SYMLINK, get_symlink),
	[FUSE_LINK] = OP(LINK, link, get_link),
	[FUSE_UNLINK] = OP_BARE(UNLINK, get_entry),
	[FUSE_RMDIR] = OP_BARE(RMDIR, get_entry),
	[FUSE_RENAME] = OP(RENAME, rename, get_rename),
	[FUSE_RENAME2] = OP(RENAME, rename2, get_rename2),
	[FUSE_CREATE] = OP(CREATE, create, get_create),
	[FUSE_TMPFILE] = OP(TMPFILE, create, get_tmpfile),
	[FUSE_OPEN] = OP(OPEN, open, get_open),
	[FUSE_READ] = OP(READ, read, get_read),
	[FUSE_WRITE] = OP(WRITE, write, get_write),
	[FUSE_FLUSH] = OP(FLUSH, flush, get_flush),
	[FUSE_RELEASE] = OP(RELEASE, release, get_release),
	[FUSE_FSYNC] = OP(FSYNC, fsync, get_fsync),
	[FUSE_OPENDIR] = OP(OPENDIR, open, get_open),
	[FUSE_READDIR] = OP(READDIR, read, get_readdir),
	[FUSE_READDIRPLUS] = OP_BITS(READDIR, read, get_readdir, ALT_PARAM_PLUS),
	[FUSE_RELEASEDIR] = OP(RELEASEDIR, release, get_release),
	[FUSE_FSYNCDIR] = OP(FSYNCDIR, fsync, get_fsync),
	[FUSE_GETXATTR] = OP(GETXATTR, getxattr, get_getxattr),
	[FUSE_SETXATTR] = OP(SETXATTR, setxattr, get_setxattr),
	[FUSE_LISTXATTR] = OP(LISTXATTR, getxattr, get_listxattr),
	[FUSE_REMOVEXATTR] = OP_BARE(REMOVEXATTR, get_xattr_name),
	[FUSE_GETLK] = OP(GETLK, lk, get_lk),
	[FUSE_SETLK] = OP(SETLK, lk, get_lk),
	[FUSE_SETLKW] = OP_BITS(SETLK, lk, get_lk, ALT_PARAM_WAIT),
	[FUSE_FALLOCATE] = OP(FALLOCATE, fallocate, get_fallocate),
	[FUSE_LSEEK] = OP(LSEEK, lseek, get_lseek),
	[FUSE_COPY_FILE_RANGE] = OP(COPY_FILE_RANGE, copy, get_copy),
	[FUSE_COPY_FILE_RANGE_64] = OP(COPY_FILE_RANGE, copy, get_copy),
	[FUSE_IOCTL] = OP(IOCTL, ioctl, get_ioctl),
	[FUSE_POLL] = OP(POLL, poll, get_poll),
	[FUSE_BMAP] = OP(BMAP, bmap, get_bmap),
	[FUSE_STATFS] = OP_BARE(STATFS, NULL),
	[FUSE_SYNCFS] = OP_BARE(SYNCFS, NULL),
	[FUSE_INIT] = { .kind = WIRE_INIT, .fixed = INIT_SHORT, .get = get_init },
	[FUSE_INTERRUPT] = OTHER(WIRE_INTERRUPT, interrupt, get_interrupt),
	[FUSE_DESTROY] = { .kind = WIRE_DESTROY },
	[FUSE_NOTIFY_REPLY] = { .kind = WIRE_NOREPLY },
};

static const struct layout unsupported = { .kind = WIRE_UNSUPPORTED };

static const struct layout *layout_find(uint32_t opcode)
{
	const struct layout *l;

	if (opcode >= sizeof(layouts) / sizeof(layouts[0]))
		return &unsupported;
	l = &layouts[opcode];
	return l->kind == WIRE_OP && !l->code ? &unsupported : l;
}

static int get_groups(const char *at, size_t size, struct wire_request *rq)
{
	uint32_t count;

	if (size < sizeof(count))
		return -EPROTO;
	memcpy(&count, at, sizeof(count));
	if (count > (size - sizeof(count)) / sizeof(uint32_t))
		return -EPROTO;
	if (!count)
		return 0;
	memcpy(&rq->supp_group, at + sizeof(count), sizeof(uint32_t));
	rq->has_supp_group = true;
	return 0;
}

/* Each extension says its own size, and is padded: the whole is in units of 8 bytes. */
static int get_extensions(const char *at, size_t size, struct wire_request *rq)
{
	struct wire_ext_header h;

	while (size >= sizeof(h)) {
		memcpy(&h, at, sizeof(h));
		if (h.size < sizeof(h) || h.size > size)
			return -EPROTO;
		if (h.type == FUSE_EXT_GROUPS &&
		    get_groups(at + sizeof(h), h.size - sizeof(h), rq) < 0)
			return -EPROTO;
		at += FUSE_REC_ALIGN((size_t)h.size);
		size -= FUSE_REC_ALIGN((size_t)h.size);
	}
	return 0;
}

static int get_body(const struct layout *l, struct cursor *c, struct wire_request *rq)
{
	union fixed in;

	if (l->fixed > left(c))
		return -EPROTO;
	memset(&in, 0, sizeof(in));
	memcpy(&in, c->at, l->fixed);
	c->at += l->fixed;
	return l->get ? l->get(&in, c, rq) : 0;
}

static void get_header(const struct fuse_in_header *h, const struct layout *l,
		       struct wire_request *rq)
{
	rq->kind = l->kind;
	rq->code = l->code;
	rq->params.bits = l->bits;
	rq->opcode = h->opcode;
	rq->unique = h->unique;
	rq->nodeid = h->nodeid;
	rq->caller = (struct alt_caller){ .pid = h->pid, .uid = h->uid, .gid = h->gid };
}

int wire_decode(void *msg, size_t len, struct wire_request *ret)
{
	struct fuse_in_header h;
	const struct layout *l;
	struct cursor c;
	size_t ext;

	memset(ret, 0, sizeof(*ret));
	if (len < sizeof(h))
		return -EPROTO;
	memcpy(&h, msg, sizeof(h));
	l = layout_find(h.opcode);
	get_header(&h, l, ret);
	ext = (size_t)h.total_extlen * 8;
	if (h.len != len || ext > len - sizeof(h))
		return -EPROTO;

	c.at = (char *)msg + sizeof(h);
	c.end = (char *)msg + len - ext;
	if (get_extensions(c.end, ext, ret) < 0)
		return -EPROTO;
	return get_body(l, &c, ret);
}

uint32_t wire_client(const void *msg, size_t len)
{
	struct fuse_in_header h;

	if (len < sizeof(h))
		return 0;
	memcpy(&h, msg, sizeof(h));
	return h.pid;
}

bool wire_is_awaited(const void *msg, size_t len)
{
	struct fuse_in_header h = { 0 };

	if (len >= sizeof(h))
		memcpy(&h, msg, sizeof(h));
	return h.opcode != FUSE_RELEASE && h.opcode != FUSE_RELEASEDIR;
}
