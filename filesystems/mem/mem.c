/* SPDX-License-Identifier: MIT */
/*
 * mem: the smallest complete file system, the model for authors. Everything lives in memory.
 *
 *   volume --- heap: the bytes of all files and symbolic links (kit/bytes.h)
 *          \-- inodes: attributes, the names in a directory (each leads to an inode), extended attributes
 *
 * 1. One lock guards the whole volume. mem_serve() takes it around every handler; forget takes it too.
 * 2. An inode lives while it has a link or a reference. Links are counted in link_count() alone. A
 *    reference goes out with every answered entry, in answer(), and comes back by forget. An open file
 *    keeps its node and with it the reference, so nothing is counted for open files.
 *
 * Permissions, sticky directories and loops in rename are the kernel's business.
 */
#include <altitude/filesystem.h>
#include <altitude/kit/attr.h>
#include <altitude/kit/bytes.h>
#include <altitude/kit/dirent.h>
#include <altitude/kit/names.h>
#include <altitude/kit/xattr.h>

#include <pthread.h>
#include <stdio.h>
#include <sys/queue.h>

struct inode {
	LIST_ENTRY(inode) next;
	uint64_t refs;                      /* entries answered and not yet forgotten */
	uint64_t parent;                    /* number; of directories */
	struct alt_attr attr;
	struct alt_bytes bytes;
	struct alt_names names, xattrs;     /* a name's data is its inode */
};

struct mem {
	pthread_mutex_t lock;               /* guards all of the volume */
	LIST_HEAD(, inode) inodes;
	struct alt_heap heap;
	uint64_t ino;                       /* the last number given */
};

typedef int handler(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op);

/* Inodes */

static struct inode *inode_new(struct mem *m, struct alt_attr attr)
{
	struct inode *i = calloc(1, sizeof(*i));

	if (!i || alt_bytes_init(&m->heap, &i->bytes) < 0) {
		free(i);
		return NULL;
	}
	i->attr = attr;
	i->attr.ino = ++m->ino;
	LIST_INSERT_HEAD(&m->inodes, i, next);
	return i;
}

/* End an inode that nobody has use for any more; NULL is fine. */
static void inode_put(struct mem *m, struct inode *i)
{
	if (!i || i->attr.nlink || i->refs)
		return;
	alt_bytes_fini(&m->heap, &i->bytes);
	alt_names_clear(&i->names);
	alt_names_clear(&i->xattrs);
	LIST_REMOVE(i, next);
	free(i);
}

/* What follows a change of the bytes, unless its result @r is an error: that is then the answer. */
static int inode_changed(struct inode *i, ssize_t r, uint32_t bits)
{
	if (r < 0)
		return r;
	i->attr.size = i->bytes.size;
	i->attr.blocks = i->bytes.used / 512;
	i->attr.mtime = i->attr.ctime = alt_time_now();
	alt_xattr_drop_capability(&i->xattrs);
	if (bits & ALT_PARAM_KILL_SUIDGID)
		alt_attr_kill_suidgid(&i->attr);
	return 0;
}

/* Hand out a reference. */
static int answer(struct inode *i, struct alt_entry *entry)
{
	i->refs++;
	*entry = (struct alt_entry){ .key.id = i->attr.ino, .attr = i->attr, .data = i };
	return 0;
}

/* Names */

/* A directory is linked by its own "." too, and links its parent by "..". */
static void link_count(struct inode *dir, struct inode *i, int sign)
{
	bool is_dir = S_ISDIR(i->attr.mode);

	i->attr.nlink += is_dir ? 2 * sign : sign;
	dir->attr.nlink += is_dir ? sign : 0;
	dir->attr.mtime = dir->attr.ctime = i->attr.ctime = alt_time_now();
}

/* Lead a name to another inode, or to none. */
static void name_set(struct inode *dir, struct alt_name *name, struct inode *i)
{
	if (name->data)
		link_count(dir, name->data, -1);
	name->data = i;
	if (!i)
		return;
	link_count(dir, i, 1);
	i->parent = dir->attr.ino;
}

static int name_add(struct inode *dir, const char *text, struct inode *i)
{
	struct alt_name *name = alt_names_find(&dir->names, text);

	if (name || !dir->attr.nlink)
		return name ? -EEXIST : -ENOENT;
	name = alt_names_put(&dir->names, text, NULL, 0);
	if (!name)
		return -ENOSPC;
	name_set(dir, name, i);
	return 0;
}

static void name_remove(struct mem *m, struct inode *dir, struct alt_name *name)
{
	struct inode *i = name->data;

	name_set(dir, name, NULL);
	alt_names_remove(&dir->names, name);
	inode_put(m, i);
}

/* Whether an inode may lose a name to what is, or is not, a directory. */
static int name_check(struct inode *i, bool want_dir)
{
	if (!S_ISDIR(i->attr.mode) != !want_dir)
		return want_dir ? -ENOTDIR : -EISDIR;
	return i->names.first ? -ENOTEMPTY : 0;
}

static int mem_lookup(struct mem *m, struct inode *dir, const struct alt_params *p, struct alt_op *op)
{
	struct alt_name *name = alt_names_find(&dir->names, p->name);

	return name ? answer(name->data, &op->r.entry) : -ENOENT;
}

/* MKNOD, MKDIR, SYMLINK, CREATE, TMPFILE */
static int mem_make(struct mem *m, struct inode *dir, const struct alt_params *p, struct alt_op *op)
{
	struct inode *i = inode_new(m, alt_attr_new(op, &dir->attr));
	int r = i ? 0 : -ENOSPC;

	if (!r && op->code == ALT_OP_SYMLINK)
		r = inode_changed(i, alt_bytes_write(&m->heap, &i->bytes, p->target, strlen(p->target), 0), 0);
	if (!r && op->code != ALT_OP_TMPFILE)
		r = name_add(dir, p->name, i);
	if (!r)
		return answer(i, &op->r.entry);
	inode_put(m, i);
	return r;
}

static int mem_link(struct mem *m, struct inode *dir, const struct alt_params *p, struct alt_op *op)
{
	struct inode *i = alt_node_data(p->other);
	int r = name_add(dir, p->name, i);

	return r < 0 ? r : answer(i, &op->r.entry);
}

/* UNLINK, RMDIR */
static int mem_unlink(struct mem *m, struct inode *dir, const struct alt_params *p, struct alt_op *op)
{
	struct alt_name *name = alt_names_find(&dir->names, p->name);
	int r = name ? name_check(name->data, op->code == ALT_OP_RMDIR) : -ENOENT;

	if (!r)
		name_remove(m, dir, name);
	return r;
}

static int mem_rename(struct mem *m, struct inode *dir, const struct alt_params *p, struct alt_op *op)
{
	struct inode *to_dir = alt_node_data(p->other);
	struct alt_name *from = alt_names_find(&dir->names, p->name);
	struct alt_name *to = alt_names_find(&to_dir->names, p->new_name);
	struct inode *moved = from ? from->data : NULL, *old = to ? to->data : NULL;
	bool exchange = p->flags & RENAME_EXCHANGE;
	int r = p->flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE) ? -EINVAL :
		!from || (exchange && !to) ? -ENOENT :
		to && p->flags & RENAME_NOREPLACE ? -EEXIST : 0;

	if (r < 0 || moved == old)
		return r;               /* two names of one file: rename(2) does nothing */
	if (!exchange)
		r = old ? name_check(old, S_ISDIR(moved->attr.mode)) : name_add(to_dir, p->new_name, moved);
	if (r < 0)
		return r;
	if (old)
		name_set(to_dir, to, moved);
	if (exchange)
		name_set(dir, from, old);
	else
		name_remove(m, dir, from);
	inode_put(m, old);
	return 0;
}

static int mem_readdir(struct mem *m, struct inode *dir, const struct alt_params *p, struct alt_op *op)
{
	struct alt_entry room, *plus = p->bits & ALT_PARAM_PLUS ? &room : NULL;
	struct alt_name *name = alt_names_after(&dir->names, p->offset);
	bool more = alt_dirent_dots(op, dir->attr.ino, dir->parent);

	dir->attr.atime = alt_time_now();
	for (; name && more; name = name->next) {
		struct inode *i = name->data;

		if (plus)
			answer(i, plus);
		more = alt_dirent_add(op, name->text, i->attr.ino, IFTODT(i->attr.mode), name->cookie, plus);
		if (plus && !more)
			i->refs--;      /* not taken, so never forgotten */
	}
	return 0;
}

/* Attributes */

static int mem_getattr(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	op->r.entry.attr = i->attr;
	return 0;
}

static int mem_setattr(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	int r = 0;

	if (p->valid & ALT_ATTR_SIZE)
		r = inode_changed(i, alt_bytes_resize(&m->heap, &i->bytes, p->attr.size), 0);
	if (r < 0)
		return r;
	alt_attr_set(&i->attr, p);
	return mem_getattr(m, i, p, op);
}

/* GETXATTR, SETXATTR, LISTXATTR, REMOVEXATTR */
static int mem_xattr(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	return alt_xattr_serve(op, &i->xattrs, &i->attr.ctime);
}

static int mem_statfs(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	op->r.statfs = alt_heap_statfs(&m->heap);
	return 0;
}

/* Data */

static int mem_open(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	return p->flags & O_TRUNC ? inode_changed(i, alt_bytes_resize(&m->heap, &i->bytes, 0), p->bits) : 0;
}

/* READ, READLINK */
static int mem_read(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	ssize_t n = alt_bytes_read(&m->heap, &i->bytes, p->buf, p->size, p->offset);

	if (n < 0)
		return n;
	op->r.size = n;
	i->attr.atime = p->flags & O_NOATIME ? i->attr.atime : alt_time_now();
	return 0;
}

static int mem_write(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	ssize_t n = alt_bytes_write(&m->heap, &i->bytes, p->buf, p->size, p->offset);

	op->r.size = n < 0 ? 0 : n;
	return inode_changed(i, n, p->bits);
}

static int mem_fallocate(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	return inode_changed(i, alt_bytes_allocate(&m->heap, &i->bytes, p->flags, p->offset, p->length), p->bits);
}

static int mem_lseek(struct mem *m, struct inode *i, const struct alt_params *p, struct alt_op *op)
{
	op->r.offset = alt_bytes_seek(&m->heap, &i->bytes, p->offset, p->whence);
	return op->r.offset < 0 ? op->r.offset : 0;
}

/* The volume */

static int mem_mount(struct alt_volume *volume, const char *arg, struct alt_error *err)
{
	struct mem *m = calloc(1, sizeof(*m));
	struct inode *root = NULL;

	if (m && alt_heap_init(&m->heap, 0) == 0)
		root = inode_new(m, alt_attr_make(S_IFDIR | 0755, geteuid(), getegid()));
	if (!root) {
		if (m)
			alt_heap_fini(&m->heap);
		free(m);
		return alt_error_set(err, -ENOMEM, "mem: no memory, or no file descriptor, for the volume");
	}
	pthread_mutex_init(&m->lock, NULL);
	root->attr.nlink = 2;
	root->parent = root->attr.ino;
	root->refs = 1;
	alt_volume_set_data(volume, m);
	alt_volume_set_watched(volume, true);   /* nothing changes but by the volume */
	alt_volume_set_root(volume, (struct alt_key){ .id = root->attr.ino }, root);
	return 0;
}

static void mem_forget(struct alt_volume *volume, struct alt_key key, void *data)
{
	struct mem *m = alt_volume_data(volume);
	struct inode *i = data;

	pthread_mutex_lock(&m->lock);
	i->refs--;
	inode_put(m, i);
	pthread_mutex_unlock(&m->lock);
}

static void mem_unmount(struct alt_volume *volume)
{
	struct mem *m = alt_volume_data(volume);
	struct inode *i;

	while ((i = LIST_FIRST(&m->inodes))) {
		i->attr.nlink = i->refs = 0;
		inode_put(m, i);
	}
	alt_heap_fini(&m->heap);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

/* Every operation that is served: X(operation, handler). */
/* clang-format off */
#define OPERATIONS(X) \
	X(LOOKUP, lookup)       X(GETATTR, getattr)     X(SETATTR, setattr)     X(READLINK, read) \
	X(MKNOD, make)          X(MKDIR, make)          X(SYMLINK, make)        X(LINK, link) \
	X(UNLINK, unlink)       X(RMDIR, unlink)        X(RENAME, rename)       X(CREATE, make) \
	X(TMPFILE, make)        X(OPEN, open)           X(READ, read)           X(WRITE, write) \
	X(READDIR, readdir)     X(GETXATTR, xattr)      X(SETXATTR, xattr)      X(LISTXATTR, xattr) \
	X(REMOVEXATTR, xattr)   X(FALLOCATE, fallocate) X(LSEEK, lseek)         X(STATFS, statfs)
/* clang-format on */
#define HANDLER(operation, name) [ALT_OP_##operation] = mem_##name,
#define SERVE(operation, name) [ALT_OP_##operation] = mem_serve,

static handler *const handlers[ALT_OP_COUNT] = { OPERATIONS(HANDLER) };

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
	.ops = { OPERATIONS(SERVE) },
};

ALT_FILESYSTEM(registration);
