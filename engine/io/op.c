/* SPDX-License-Identifier: MIT */
/* The record of one operation: born, resolved to nodes and files, settled after the owner, ended. */
#include "io/io.h"
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DIRENTS_PIECE 8192u

static const uint8_t fills_room[ALT_OP_COUNT] = {
	[ALT_OP_READ] = 1, [ALT_OP_READLINK] = 1, [ALT_OP_GETXATTR] = 1, [ALT_OP_LISTXATTR] = 1, [ALT_OP_IOCTL] = 1,
};
static const uint8_t makes_file[ALT_OP_COUNT] = {
	[ALT_OP_OPEN] = 1, [ALT_OP_OPENDIR] = 1, [ALT_OP_CREATE] = 1, [ALT_OP_TMPFILE] = 1,
};
static const uint8_t needs_file[ALT_OP_COUNT] = {
	[ALT_OP_READ] = 1, [ALT_OP_WRITE] = 1, [ALT_OP_FLUSH] = 1, [ALT_OP_RELEASE] = 1, [ALT_OP_FSYNC] = 1,
	[ALT_OP_READDIR] = 1, [ALT_OP_RELEASEDIR] = 1, [ALT_OP_FSYNCDIR] = 1, [ALT_OP_GETLK] = 1, [ALT_OP_SETLK] = 1,
	[ALT_OP_FALLOCATE] = 1, [ALT_OP_LSEEK] = 1, [ALT_OP_COPY_FILE_RANGE] = 1, [ALT_OP_IOCTL] = 1, [ALT_OP_POLL] = 1,
};
/* These can be served by a shared file of the node. */
static const uint8_t shares_file[ALT_OP_COUNT] = {
	[ALT_OP_READ] = 1, [ALT_OP_WRITE] = 1, [ALT_OP_FSYNC] = 1, [ALT_OP_FALLOCATE] = 1, [ALT_OP_LSEEK] = 1,
	[ALT_OP_COPY_FILE_RANGE] = 1, [ALT_OP_IOCTL] = 1, [ALT_OP_POLL] = 1,
};
/* These answer an entry: a node comes to be known. */
static const uint8_t makes_entry[ALT_OP_COUNT] = {
	[ALT_OP_LOOKUP] = 1, [ALT_OP_MKNOD] = 1, [ALT_OP_MKDIR] = 1, [ALT_OP_SYMLINK] = 1, [ALT_OP_LINK] = 1,
	[ALT_OP_CREATE] = 1, [ALT_OP_TMPFILE] = 1,
};

/* These are about a directory. */
static const uint8_t needs_directory[ALT_OP_COUNT] = {
	[ALT_OP_LOOKUP] = 1, [ALT_OP_MKNOD] = 1, [ALT_OP_MKDIR] = 1, [ALT_OP_SYMLINK] = 1, [ALT_OP_LINK] = 1, [ALT_OP_UNLINK] = 1,
	[ALT_OP_RMDIR] = 1, [ALT_OP_RENAME] = 1, [ALT_OP_CREATE] = 1, [ALT_OP_TMPFILE] = 1, [ALT_OP_OPENDIR] = 1,
	[ALT_OP_READDIR] = 1,
};

struct op *op_new(struct alt_volume *v)
{
	struct op *op = calloc(1, sizeof *op);

	if (!op)
		return NULL;
	op->pub.volume = v;
	op->pub.p = &op->rq.params;
	op->frames = op->frames_inline;
	op->backing_fd = -1;
	op->dirents_tail = &op->dirents;
	atomic_init(&op->refs, 1);
	return op;
}

struct op *op_new_surely(struct alt_volume *v)
{
	struct op *op;

	while (!(op = op_new(v)))
		poll(NULL, 0, 1);
	return op;
}

struct op *op_generated(enum alt_op_code code, struct alt_node *node, struct alt_file *file)
{
	struct op *op = op_new(node->volume);

	if (!op)
		return NULL;
	op->pub.code = code;
	op->pub.flags = ALT_OP_GENERATED;
	op->pub.node = node;
	op->pub.file = file;
	alt_node_ref(node);
	if (file)
		atomic_fetch_add(&file->refs, 1);
	return op;
}

void alt_op_ref(struct alt_op *pub)
{
	atomic_fetch_add(&((struct op *)pub)->refs, 1);
}

void alt_op_unref(struct alt_op *pub)
{
	struct op *op = (struct op *)pub;

	if (atomic_fetch_sub(&op->refs, 1) != 1)
		return;
	for (struct op_memory *m = op->memory, *next; m; m = next) {
		next = m->next;
		free(m);
	}
	if (op->frames != op->frames_inline)
		free(op->frames);
	free(op->message);
	free(op->room);
	free(op);
}

void *alt_op_alloc(struct alt_op *pub, size_t size)
{
	struct op *op = (struct op *)pub;
	struct op_memory *m = size < SIZE_MAX - sizeof *m ? malloc(sizeof *m + size) : NULL;

	if (!m)
		return NULL;
	m->next = op->memory;
	op->memory = m;
	return m->bytes;
}

static int room_make(struct op *op)
{
	struct alt_params *p = &op->rq.params;
	size_t want = p->size > p->out_size ? p->size : p->out_size;

	if (!fills_room[op->pub.code])
		return 0;
	if (want > IO_DATA_MAX)
		return -EINVAL;
	if (!want)
		return 0;
	op->room = malloc(want);
	if (!op->room)
		return -ENOMEM;
	if (op->pub.code == ALT_OP_IOCTL && p->buf)
		memcpy(op->room, p->buf, p->size);
	p->buf = op->room;
	return 0;
}

static bool is_shared(const struct op *op)
{
	return shares_file[op->pub.code] && op->rq.has_fh && !op->rq.fh && op->pub.node->rec.type == S_IFREG &&
	       atomic_load(&op->pub.volume->no_open);
}

/* Where one file has no handle the other has none. */
static int shared_other_resolve(struct op *op)
{
	struct alt_params *p = &op->rq.params;

	p->other = node_get(op->pub.volume, op->rq.other_nodeid);
	if (!p->other)
		return -ESTALE;
	return op->rq.other_fh || p->other->rec.type != S_IFREG ? -EBADF : 0;
}

static int other_resolve(struct op *op)
{
	struct alt_params *p = &op->rq.params;

	switch (op->pub.code) {
	case ALT_OP_COPY_FILE_RANGE:
		if (op->shares)
			return shared_other_resolve(op);
		p->other_file = file_get(op->pub.volume, op->rq.other_fh);
		if (!p->other_file)
			return -EBADF;
		/* fall through */
	case ALT_OP_RENAME:
	case ALT_OP_LINK:
		p->other = node_get(op->pub.volume, op->rq.other_nodeid);
		if (!p->other)
			return -ESTALE;
		if (op->pub.code == ALT_OP_RENAME && p->other->rec.type != S_IFDIR)
			return -ENOTDIR;
		return op->pub.code == ALT_OP_LINK && p->other->rec.type == S_IFDIR ? -EPERM : 0;
	default:
		return 0;
	}
}

/* The kernel passes names of any length on; no file system of Linux has longer ones than NAME_MAX. */
static int names_check(const struct op *op)
{
	const struct alt_params *p = &op->rq.params;
	bool attribute = op->pub.code >= ALT_OP_GETXATTR && op->pub.code <= ALT_OP_REMOVEXATTR;

	return !attribute && ((p->name && strlen(p->name) > NAME_MAX) || (p->new_name && strlen(p->new_name) > NAME_MAX)) ?
		-ENAMETOOLONG : 0;
}

int op_resolve(struct op *op)
{
	struct alt_volume *v = op->pub.volume;
	enum alt_op_code code = op->rq.code;
	int r;

	op->pub.code = code;
	op->pub.caller = op->rq.caller;
	op->unique = op->rq.unique;
	if (!(v->fs->flags & ALT_FS_UMASK) && op->rq.params.umask) {
		op->rq.params.mode &= ~op->rq.params.umask;
		op->rq.params.umask = 0;
	}
	op->pub.node = node_get(v, op->rq.nodeid);
	if (!op->pub.node)
		return -ESTALE;
	if (needs_directory[code] && op->pub.node->rec.type != S_IFDIR)
		return -ENOTDIR;
	op->shares = is_shared(op);
	if (op->rq.has_fh && !op->shares) {
		op->pub.file = file_get(v, op->rq.fh);
		if (!op->pub.file && needs_file[code])
			return -EBADF;
		if (op->pub.file && op->pub.file->node != op->pub.node)
			return -EBADF;
	} else if (needs_file[code] && !op->shares) {
		return -EBADF;
	}
	r = names_check(op);
	if (!r)
		r = other_resolve(op);
	return r < 0 ? r : room_make(op);
}

void op_begin(struct op *op)
{
	struct alt_volume *v = op->pub.volume;

	op->strangers = atomic_load(&v->strangers);
	if (v->timeout_ms && op->unique)
		atomic_store(&op->deadline_ms, now_ms() + v->timeout_ms);
	pthread_mutex_lock(&v->inflight_lock);
	op->next = v->inflight;
	op->link = &v->inflight;
	if (op->next)
		op->next->link = &op->next;
	v->inflight = op;
	for (unsigned i = 0; op->unique && i < IO_EARLY_MAX && i < v->early_count; i++)
		if (v->early[i] == op->unique)
			atomic_store(&op->cancelled, true);
	pthread_mutex_unlock(&v->inflight_lock);
	atomic_fetch_add_explicit(&v->counts[op->pub.code], 1, memory_order_relaxed);
}

/* An open file the kernel was not given: a filter's post refused it, the answer came too late or was not taken. */
static void opened_drop(struct op *op)
{
	struct alt_file *f = op->pub.r.file;

	if (!f)
		return;
	if (op->pub.file == f)
		op->pub.file = NULL;
	op->pub.r.file = NULL;
	if (op->opened)
		file_abandon(f);
	else
		file_unref(f);
}

/* The last that is done with the volume: who sees the list empty may free it. */
static void op_leave(struct op *op)
{
	struct alt_volume *v = op->pub.volume;

	pthread_mutex_lock(&v->inflight_lock);
	if (op->link) {
		*op->link = op->next;
		if (op->next)
			op->next->link = op->link;
		op->link = NULL;
	}
	pthread_mutex_unlock(&v->inflight_lock);
}

void op_end(struct op *op)
{
	if (op->pub.r.node)
		alt_node_unref(op->pub.r.node);
	if (op->rq.params.other)
		alt_node_unref(op->rq.params.other);
	file_unref(op->rq.params.other_file);
	if (op->keep)
		shared_add(op->keep); /* had it been closed meanwhile, it could not be opened again */
	file_unref(op->keep);
	if (op->keep_node)
		alt_node_unref(op->keep_node);
	opened_drop(op);
	file_unref(op->pub.file);
	if (op->pub.node)
		alt_node_unref(op->pub.node);
	op_leave(op);
	alt_op_unref(&op->pub);
}

static int entry_settle(struct op *op, const struct alt_params *p)
{
	struct alt_op *pub = &op->pub;
	struct alt_node *n;
	int r = 0;

	if (pub->code == ALT_OP_LOOKUP && !pub->r.entry.attr.mode)
		return 0; /* a negative answer, remembered by the kernel */
	n = node_intern(pub->volume, &pub->r.entry, pub->node->owner);
	if (!n)
		return -ENOMEM;
	pub->r.node = n;
	if (pub->code != ALT_OP_TMPFILE)
		r = node_name_bind(pub->node, p->name, n);
	/* A circle: names we remember are older than the file system's. The kernel asks for each of the path again. */
	if (r < 0)
		return r == -EUCLEAN ? -ESTALE : r;
	if (pub->r.file) {
		alt_node_ref(n);
		alt_node_unref(pub->r.file->node);
		pub->r.file->node = n;
	}
	return 0;
}

void op_settle(struct op *op)
{
	struct alt_op *pub = &op->pub;
	const struct alt_params *p = pub->p;
	int r = 0;

	if (op->dirents_short && !op->dirents && !pub->status)
		pub->status = -ENOMEM; /* an empty listing would be the end of the directory */
	if (pub->status < 0)
		return;
	op->opened = pub->r.file;
	if (pub->code == ALT_OP_RMDIR)
		node_bury(pub->node, p->name);
	if (pub->code == ALT_OP_RENAME && !(p->flags & RENAME_EXCHANGE))
		node_bury(p->other, p->new_name);
	if (makes_entry[pub->code])
		r = entry_settle(op, p);
	else if (pub->code == ALT_OP_UNLINK || pub->code == ALT_OP_RMDIR)
		node_name_unbind(pub->node, p->name);
	else if (pub->code == ALT_OP_RENAME)
		r = node_name_move(pub->node, p->name, p->other, p->new_name, p->flags & RENAME_EXCHANGE);
	/* It is done below, whatever we remembered: what would be a circle has no name until it is found by one again. */
	if (r < 0 && r != -EUCLEAN)
		pub->status = r;
}

/* The new file exists before the file system is asked, so that it can hang its data there. */
int op_file_make(struct op *op)
{
	struct alt_file *f;

	if (!makes_file[op->pub.code])
		return 0;
	f = file_new(op->pub.node, op->pub.p->flags);
	if (!f)
		return -ENOMEM;
	f->directory = op->pub.code == ALT_OP_OPENDIR;
	op->pub.r.file = f;
	if (op->pub.code == ALT_OP_OPEN || op->pub.code == ALT_OP_OPENDIR)
		op->pub.file = f;
	return 0;
}

void alt_op_set_backing(struct alt_op *pub, int fd)
{
	((struct op *)pub)->backing_fd = fd;
}

/* Hundreds of entries make one answer: their memory is taken in pieces. */
static void *dirents_alloc(struct op *op, size_t size)
{
	char *p;

	size = (size + alignof(struct op_dirent) - 1) & ~(alignof(struct op_dirent) - 1);
	if (size > (size_t)(op->dirents_room_end - op->dirents_room)) {
		p = alt_op_alloc(&op->pub, DIRENTS_PIECE);
		if (!p)
			return NULL;
		op->dirents_room = p;
		op->dirents_room_end = p + DIRENTS_PIECE;
	}
	p = op->dirents_room;
	op->dirents_room += size;
	return p;
}

struct op_dirent *op_dirent_new(struct op *op, const struct op_dirent *of, const struct alt_entry *entry, const char *name)
{
	size_t record = entry ? sizeof(struct op_dirent) : offsetof(struct op_dirent, entry), size = strlen(name) + 1;
	struct op_dirent *d = dirents_alloc(op, record + size);

	if (!d)
		return NULL;
	memcpy(d, of, offsetof(struct op_dirent, has_entry));
	d->next_entry = NULL;
	d->name = (char *)d + record;
	d->has_entry = entry;
	if (entry) {
		d->entry = *entry;
		d->told = 0;
	}
	memcpy(d->name, name, size);
	return d;
}

void op_dirents_take(struct op *op, struct op *more)
{
	struct op_memory **last = &more->memory;

	while (*last)
		last = &(*last)->next;
	*last = op->memory;
	op->memory = more->memory;
	more->memory = NULL;
	op->dirents = more->dirents;
	op->dirents_tail = more->dirents ? more->dirents_tail : &op->dirents;
	more->dirents = NULL;
}

bool alt_dirent_add(struct alt_op *pub, const char *name, uint64_t ino, unsigned type, int64_t next,
		    const struct alt_entry *entry)
{
	struct op *op = (struct op *)pub;
	size_t len = strlen(name), size = wire_dirent_size(len, op->rq.plus);
	struct op_dirent *d;

	if (!len || len > 255 || op->dirents_size + size > pub->p->size)
		return false;
	d = op_dirent_new(op, &(struct op_dirent){ .ino = ino, .type = type, .next = next }, entry, name);
	if (!d) {
		op->dirents_short = true;
		return false;
	}
	*op->dirents_tail = d;
	op->dirents_tail = &d->next_entry;
	op->dirents_size += size;
	return true;
}
