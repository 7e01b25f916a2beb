/* SPDX-License-Identifier: MIT */
/*
 * mem: the smallest complete file system, the model for authors. Everything lives in memory.
 *
 * The bytes of all files are in one sparse memfd: each inode owns SLOT bytes of it, so that holes and
 * allocation are the kernel's work. Names and extended attributes are lists of items.
 *
 * One lock per volume, taken by mem_serve() around every handler. An inode lives while it has a name or
 * the engine knows it: from the answer that tells of it until forget; open files keep it known.
 * Permissions, sticky directories and loops in rename are the kernel's business.
 */
#include <altitude/filesystem.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define SLOT (1ll << 40)                    /* bytes: the largest file */
#define SLOTS ((1ll << 23) - 1)             /* as many as a memfd has room for */
#define MIN(a, b) ((a) < (b) ? (a) : (b))

/* An entry of a directory, or an extended attribute whose value stands behind the struct. */
struct item {
	TAILQ_ENTRY(item) next;
	int64_t cookie;                     /* grows along the list; never given twice */
	struct inode *inode;
	size_t size;                        /* bytes of the value */
	char name[256];
};
TAILQ_HEAD(items, item);

struct inode {
	LIST_ENTRY(inode) next;             /* in live or spare */
	int64_t base;                       /* of its bytes in the memfd; kept when spare */
	bool known;                         /* by the engine */
	struct alt_attr attr;
	struct items names, xattrs;
	struct inode *parent;               /* of a directory; the root is its own */
};

struct mem {
	pthread_mutex_t lock;               /* guards all below */
	LIST_HEAD(, inode) live, spare;
	int fd;                             /* the memfd */
	int64_t slots, ino, cookie;         /* the last ones given */
	uint64_t limit, files;              /* bytes; live inodes */
};

typedef int handler(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op);

static struct alt_time now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME_COARSE, &ts);
	return (struct alt_time){ ts.tv_sec, ts.tv_nsec };
}

/* Items. */

static struct item *item_find(struct items *list, const char *name)
{
	struct item *e;

	TAILQ_FOREACH(e, list, next)
		if (!strcmp(e->name, name))
			break;
	return e;
}

static void item_insert(struct mem *m, struct items *list, struct item *e, const char *name)
{
	e->cookie = ++m->cookie;
	strncpy(e->name, name, sizeof(e->name) - 1);
	e->name[sizeof(e->name) - 1] = 0;
	TAILQ_INSERT_TAIL(list, e, next);
}

static struct item *item_add(struct mem *m, struct items *list, const char *name, const void *value, size_t size)
{
	struct item *e = calloc(1, sizeof(*e) + size);

	if (!e)
		return NULL;
	if (size)
		memcpy(e + 1, value, size);
	e->size = size;
	item_insert(m, list, e, name);
	return e;
}

static void item_remove(struct items *list, struct item *e)
{
	if (e)
		TAILQ_REMOVE(list, e, next);
	free(e);
}

/* Inodes. */

static struct inode *inode_new(struct mem *m, uint32_t mode, uint32_t uid, uint32_t gid)
{
	struct inode *i = LIST_FIRST(&m->spare);
	struct alt_time t = now();

	if (i)
		LIST_REMOVE(i, next);
	else if (m->slots == SLOTS || !(i = calloc(1, sizeof(*i))))
		return NULL;
	else
		i->base = m->slots++ * SLOT;
	i->attr = (struct alt_attr){ .ino = ++m->ino, .mode = mode, .nlink = S_ISDIR(mode) ? 2 : 1,
				     .uid = uid, .gid = gid, .atime = t, .mtime = t, .ctime = t, .btime = t };
	TAILQ_INIT(&i->names);
	TAILQ_INIT(&i->xattrs);
	LIST_INSERT_HEAD(&m->live, i, next);
	m->files++;
	return i;
}

static void inode_resize(struct mem *m, struct inode *i, int64_t size)
{
	fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, i->base + size, SLOT - size);
	i->attr.size = size;
	i->attr.mtime = i->attr.ctime = now();
}

/* Ends when nobody has use for it. */
static void inode_put(struct mem *m, struct inode *i)
{
	if (i->attr.nlink || i->known)
		return;
	inode_resize(m, i, 0);
	while (!TAILQ_EMPTY(&i->xattrs))
		item_remove(&i->xattrs, TAILQ_FIRST(&i->xattrs));
	LIST_REMOVE(i, next);
	LIST_INSERT_HEAD(&m->spare, i, next);
	m->files--;
}

static void inode_kill_suidgid(struct inode *i)
{
	if (S_ISDIR(i->attr.mode))
		return;
	i->attr.mode &= ~(S_ISUID | (i->attr.mode & S_IXGRP ? S_ISGID : 0));
	item_remove(&i->xattrs, item_find(&i->xattrs, "security.capability"));
}

static int64_t inode_blocks(struct mem *m, struct inode *i)
{
	int64_t at = i->base, hole, bytes = 0;

	while (i->attr.size && (at = lseek(m->fd, at, SEEK_DATA)) >= 0 && at < i->base + SLOT) {
		hole = lseek(m->fd, at, SEEK_HOLE);
		bytes += hole - at;
		at = hole;
	}
	return bytes / 512;
}

static int answer(struct mem *m, struct inode *i, struct alt_entry *entry)
{
	i->attr.blocks = S_ISREG(i->attr.mode) ? inode_blocks(m, i) : 0;
	i->known = true;
	*entry = (struct alt_entry){ .key.id = i->attr.ino, .attr = i->attr, .data = i };
	return 0;
}

/* Bytes that may still be stored. */
static uint64_t room(struct mem *m)
{
	struct stat st;

	return fstat(m->fd, &st) < 0 ? 0 : m->limit - MIN(m->limit, st.st_blocks * 512ull);
}

/* Names. */

/* An entry leads to another inode, or to none. */
static void name_set(struct inode *dir, struct item *e, struct inode *i)
{
	dir->attr.mtime = dir->attr.ctime = now();
	dir->attr.nlink -= e->inode && S_ISDIR(e->inode->attr.mode);
	e->inode = i;
	if (!i)
		return;
	i->attr.ctime = now();
	dir->attr.nlink += S_ISDIR(i->attr.mode);
	i->parent = dir;
}

static int name_add(struct mem *m, struct inode *dir, const char *name, struct inode *i)
{
	struct item *e = item_find(&dir->names, name);

	if (e || !dir->attr.nlink)
		return e ? -EEXIST : -ENOENT;
	e = item_add(m, &dir->names, name, NULL, 0);
	if (!e)
		return -ENOSPC;
	name_set(dir, e, i);
	return 0;
}

/* Take an entry away; a directory must be empty and of the kind that is asked for. */
static int name_remove(struct mem *m, struct inode *dir, struct item *e, bool want_dir)
{
	struct inode *i = e->inode;

	if (!S_ISDIR(i->attr.mode) != !want_dir)
		return want_dir ? -ENOTDIR : -EISDIR;
	if (!TAILQ_EMPTY(&i->names))
		return -ENOTEMPTY;
	name_set(dir, e, NULL);
	item_remove(&dir->names, e);
	i->attr.nlink = want_dir ? 0 : i->attr.nlink - 1;
	i->attr.ctime = now();
	inode_put(m, i);
	return 0;
}

static int mem_lookup(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	struct item *e = item_find(&i->names, p->name);

	return e ? answer(m, e->inode, &op->r.entry) : -ENOENT;
}

/* MKNOD, MKDIR, SYMLINK, CREATE, TMPFILE. */
static int mem_make(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	uint32_t type = op->code == ALT_OP_MKDIR ? S_IFDIR | (i->attr.mode & S_ISGID) :
			op->code == ALT_OP_SYMLINK ? S_IFLNK | 0777 :
			op->code == ALT_OP_MKNOD && p->mode & S_IFMT ? p->mode & S_IFMT : S_IFREG;
	struct inode *new = inode_new(m, type | (type == (S_IFLNK | 0777) ? 0 : p->mode & 07777), op->caller.uid,
				      i->attr.mode & S_ISGID ? i->attr.gid : op->caller.gid);
	size_t len = op->code == ALT_OP_SYMLINK ? strlen(p->target) : 0;
	int r = 0;

	if (!new)
		return -ENOSPC;
	new->attr.rdev = p->rdev;
	new->attr.size = len;
	if (len && pwrite(m->fd, p->target, len, new->base) != (ssize_t)len)
		r = -ENOSPC;
	if (!r && op->code != ALT_OP_TMPFILE)
		r = name_add(m, i, p->name, new);
	if (r < 0 || op->code == ALT_OP_TMPFILE)
		new->attr.nlink = 0;
	if (r < 0)
		inode_put(m, new);
	return r < 0 ? r : answer(m, new, &op->r.entry);
}

static int mem_link(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	struct inode *old = alt_node_data(p->other);
	int r = name_add(m, i, p->name, old);

	if (r < 0)
		return r;
	old->attr.nlink++;
	return answer(m, old, &op->r.entry);
}

/* UNLINK, RMDIR. */
static int mem_unlink(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	struct item *e = item_find(&i->names, p->name);

	return e ? name_remove(m, i, e, op->code == ALT_OP_RMDIR) : -ENOENT;
}

static int mem_rename(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	struct inode *dir = alt_node_data(p->other), *moved;
	struct item *from = item_find(&i->names, p->name), *to = item_find(&dir->names, p->new_name);
	bool exchange = p->flags & RENAME_EXCHANGE;
	int r = p->flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE) ? -EINVAL :
		!from || (exchange && !to) || !dir->attr.nlink ? -ENOENT :
		to && p->flags & RENAME_NOREPLACE ? -EEXIST : 0;

	if (r < 0 || (to && from->inode == to->inode))
		return r;
	moved = from->inode;
	if (exchange) {
		name_set(i, from, to->inode);
		name_set(dir, to, moved);
		return 0;
	}
	if (to && (r = name_remove(m, dir, to, S_ISDIR(moved->attr.mode))) < 0)
		return r;
	name_set(i, from, NULL);
	TAILQ_REMOVE(&i->names, from, next);
	item_insert(m, &dir->names, from, p->new_name);
	name_set(dir, from, moved);
	return 0;
}

static int mem_readdir(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	struct alt_entry full, *plus = p->bits & ALT_PARAM_PLUS ? &full : NULL;
	struct item *e;

	i->attr.atime = now();
	if (p->offset < 1 && !alt_dirent_add(op, ".", i->attr.ino, DT_DIR, 1, NULL))
		return 0;
	if (p->offset < 2 && !alt_dirent_add(op, "..", i->parent->attr.ino, DT_DIR, 2, NULL))
		return 0;
	TAILQ_FOREACH(e, &i->names, next) {
		if (e->cookie <= p->offset)
			continue;
		if (plus)
			answer(m, e->inode, plus);
		if (!alt_dirent_add(op, e->name, e->inode->attr.ino, IFTODT(e->inode->attr.mode), e->cookie, plus))
			break;
	}
	return 0;
}

/* Attributes. */

/* GETATTR, SETATTR. */
static int mem_attr(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	uint32_t valid = op->code == ALT_OP_SETATTR ? p->valid : 0;
	const struct alt_attr *new = &p->attr;
	struct alt_attr *a = &i->attr;

	if (valid & ALT_ATTR_SIZE && new->size > SLOT)
		return -EFBIG;
	if (valid & ALT_ATTR_SIZE)
		inode_resize(m, i, new->size);
	if (valid & (ALT_ATTR_KILL_SUIDGID | ALT_ATTR_UID | ALT_ATTR_GID))
		inode_kill_suidgid(i);
	a->mode = valid & ALT_ATTR_MODE ? (a->mode & S_IFMT) | (new->mode & 07777) : a->mode;
	a->uid = valid & ALT_ATTR_UID ? new->uid : a->uid;
	a->gid = valid & ALT_ATTR_GID ? new->gid : a->gid;
	if (valid & (ALT_ATTR_ATIME | ALT_ATTR_ATIME_NOW))
		a->atime = valid & ALT_ATTR_ATIME_NOW ? now() : new->atime;
	if (valid & (ALT_ATTR_MTIME | ALT_ATTR_MTIME_NOW))
		a->mtime = valid & ALT_ATTR_MTIME_NOW ? now() : new->mtime;
	if (op->code == ALT_OP_SETATTR)
		a->ctime = valid & ALT_ATTR_CTIME ? new->ctime : now();
	return answer(m, i, &op->r.entry);
}

static int mem_statfs(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	uint64_t left = room(m) / 4096;

	op->r.statfs = (struct alt_statfs){ m->limit / 4096, left, left, SLOTS, SLOTS - m->files, 4096, 4096, 255 };
	return 0;
}

/* Add to the bytes of the answer; without room the size alone is wanted. */
static int put(struct alt_op *op, const void *data, size_t size)
{
	if (op->p->size && op->r.size + size > op->p->size)
		return -ERANGE;
	if (op->p->size)
		memcpy((char *)op->p->buf + op->r.size, data, size);
	op->r.size += size;
	return 0;
}

/* GETXATTR, SETXATTR, REMOVEXATTR. */
static int mem_xattr(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	struct item *x = item_find(&i->xattrs, p->name);
	bool set = op->code == ALT_OP_SETXATTR;

	if (strncmp(p->name, "user.", 5) && strncmp(p->name, "trusted.", 8) && strncmp(p->name, "security.", 9))
		return -EOPNOTSUPP;
	if (!x && (!set || p->flags & XATTR_REPLACE))
		return -ENODATA;
	if (op->code == ALT_OP_GETXATTR)
		return put(op, x + 1, x->size);
	if (set && x && p->flags & XATTR_CREATE)
		return -EEXIST;
	if (set && !item_add(m, &i->xattrs, p->name, p->buf, p->size))
		return -ENOSPC;
	item_remove(&i->xattrs, x);
	i->attr.ctime = now();
	return 0;
}

static int mem_listxattr(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	struct item *x;
	int r = 0;

	TAILQ_FOREACH(x, &i->xattrs, next)
		if (!r && (!op->caller.uid || strncmp(x->name, "trusted.", 8)))
			r = put(op, x->name, strlen(x->name) + 1);
	return r;
}

/* Data. */

static int mem_open(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	if (p->flags & O_TRUNC)
		inode_resize(m, i, 0);
	if (p->bits & ALT_PARAM_KILL_SUIDGID)
		inode_kill_suidgid(i);
	return 0;
}

/* READ, READLINK. */
static int mem_read(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	int64_t left = i->attr.size - MIN((uint64_t)p->offset, i->attr.size);
	ssize_t n = pread(m->fd, p->buf, MIN(p->size, (size_t)left), i->base + p->offset);

	if (n < 0)
		return -errno;
	op->r.size = n;
	i->attr.atime = now();
	return 0;
}

static int mem_write(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	ssize_t n;

	if (p->offset >= SLOT || room(m) < p->size)
		return p->offset >= SLOT ? -EFBIG : -ENOSPC;
	n = pwrite(m->fd, p->buf, MIN((int64_t)p->size, SLOT - p->offset), i->base + p->offset);
	if (n < 0)
		return -errno;
	op->r.size = n;
	if (i->attr.size < (uint64_t)p->offset + n)
		i->attr.size = p->offset + n;
	i->attr.mtime = i->attr.ctime = now();
	return mem_open(m, i, &(struct alt_params){ .bits = p->bits }, op);
}

static int mem_fallocate(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	uint32_t zero = FALLOC_FL_ZERO_RANGE, punch = FALLOC_FL_PUNCH_HOLE, keep = FALLOC_FL_KEEP_SIZE;
	uint64_t end = p->offset + p->length;

	if (p->flags & ~(zero | punch | keep))
		return -EOPNOTSUPP;
	if (end > SLOT || (!(p->flags & punch) && p->length > room(m)))
		return end > SLOT ? -EFBIG : -ENOSPC;
	if (p->flags & (zero | punch) && fallocate(m->fd, punch | keep, i->base + p->offset, p->length))
		return -errno;
	if (!(p->flags & punch) && fallocate(m->fd, keep, i->base + p->offset, p->length))
		return -errno;
	if (!(p->flags & keep) && end > i->attr.size)
		i->attr.size = end;
	i->attr.mtime = i->attr.ctime = now();
	return 0;
}

static int mem_lseek(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	int64_t size = i->attr.size, at = p->offset < 0 || p->offset >= size ? -1 :
			lseek(m->fd, i->base + p->offset, p->whence) - i->base;

	if (at < 0 || (at >= size && p->whence == SEEK_DATA))
		return -ENXIO;
	op->r.offset = MIN(at, size);
	return 0;
}

/* The volume. */

static int mem_mount(struct alt_volume *volume, const char *arg, struct alt_error *err)
{
	struct mem *m = calloc(1, sizeof(*m));
	struct inode *root = m ? inode_new(m, S_IFDIR | 0755, geteuid(), getegid()) : NULL;

	if (root)
		m->fd = memfd_create("altitude-mem", MFD_CLOEXEC);
	if (!root || m->fd < 0 || ftruncate(m->fd, SLOT * SLOTS) < 0) {
		if (root && m->fd >= 0)
			close(m->fd);
		free(root);
		free(m);
		return alt_error_set(err, -ENOMEM, "mem: no memory for the volume");
	}
	pthread_mutex_init(&m->lock, NULL);
	m->limit = (uint64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / 2;
	m->cookie = 2;                      /* 1 and 2 are "." and ".." */
	root->parent = root;
	root->known = true;
	alt_volume_set_data(volume, m);
	alt_volume_set_root(volume, (struct alt_key){ .id = root->attr.ino }, root);
	return 0;
}

static void mem_forget(struct alt_volume *volume, struct alt_key key, void *data)
{
	struct mem *m = alt_volume_data(volume);
	struct inode *i = data;

	pthread_mutex_lock(&m->lock);
	i->known = false;
	inode_put(m, i);
	pthread_mutex_unlock(&m->lock);
}

static void mem_unmount(struct alt_volume *volume)
{
	struct mem *m = alt_volume_data(volume);
	struct inode *i;

	while ((i = LIST_FIRST(&m->live))) {
		while (!TAILQ_EMPTY(&i->names))
			item_remove(&i->names, TAILQ_FIRST(&i->names));
		i->attr.nlink = i->known = 0;
		inode_put(m, i);
	}
	while ((i = LIST_FIRST(&m->spare))) {
		LIST_REMOVE(i, next);
		free(i);
	}
	close(m->fd);
	free(m);
}

static handler *const handlers[ALT_OP_COUNT] = {
	[ALT_OP_LOOKUP] = mem_lookup,           [ALT_OP_GETATTR] = mem_attr,
	[ALT_OP_SETATTR] = mem_attr,         [ALT_OP_READLINK] = mem_read,
	[ALT_OP_MKNOD ... ALT_OP_SYMLINK] = mem_make, [ALT_OP_LINK] = mem_link,
	[ALT_OP_UNLINK ... ALT_OP_RMDIR] = mem_unlink, [ALT_OP_RENAME] = mem_rename,
	[ALT_OP_CREATE ... ALT_OP_TMPFILE] = mem_make, [ALT_OP_OPEN] = mem_open,
	[ALT_OP_READ] = mem_read,               [ALT_OP_WRITE] = mem_write,
	[ALT_OP_READDIR] = mem_readdir,         [ALT_OP_LISTXATTR] = mem_listxattr,
	[ALT_OP_GETXATTR ... ALT_OP_SETXATTR] = mem_xattr, [ALT_OP_REMOVEXATTR] = mem_xattr,
	[ALT_OP_FALLOCATE] = mem_fallocate,     [ALT_OP_LSEEK] = mem_lseek,
	[ALT_OP_STATFS] = mem_statfs,
};

static int mem_serve(struct alt_op *op)
{
	struct mem *m = alt_volume_data(op->volume);
	int r;

	pthread_mutex_lock(&m->lock);
	r = handlers[op->code](m, alt_node_data(op->node), op->p, op);
	pthread_mutex_unlock(&m->lock);
	return r;
}

static const struct alt_filesystem_registration registration = {
	.size = sizeof(registration),
	.name = "mem",
	.mount = mem_mount,
	.unmount = mem_unmount,
	.forget = mem_forget,
	.ops = {
		[ALT_OP_LOOKUP ... ALT_OP_SETATTR] = mem_serve,
		[ALT_OP_READLINK ... ALT_OP_WRITE] = mem_serve,
		[ALT_OP_READDIR] = mem_serve,
		[ALT_OP_GETXATTR ... ALT_OP_REMOVEXATTR] = mem_serve,
		[ALT_OP_FALLOCATE ... ALT_OP_LSEEK] = mem_serve,
		[ALT_OP_STATFS] = mem_serve,
	},
};

ALT_FILESYSTEM(registration);
