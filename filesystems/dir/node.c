/* SPDX-License-Identifier: MIT */
/*
 * A node is known by (inode, device) and reached by its path. While it is in use it has a pin: an
 * O_PATH descriptor that follows the inode through renames and unlinks, found by its key. So an
 * open file that was unlinked still answers, and a node nobody uses costs no descriptor. The
 * directories used last stay pinned.
 *
 * A path leads nowhere while somebody beside the volume renames a directory in it faster than the names here follow. Then the
 * directory itself is opened by the handle that the event of its rename told, and what is below it by its name in there.
 *
 * An inode number comes again when its file is gone; ext4 gives it to the next one that is made. The two are told apart by
 * their time of birth, which statx(2) tells along with the rest. It goes by the tick of the file system's clock (some
 * milliseconds): what is made, known, removed and replaced within one is taken for one file, unless it is made through
 * the volume. A pin is never of the past: it keeps its inode, and so the number.
 */
#include "watch.h"

#include <errno.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define RESOLVE_TRIES 3          /* while names change below */
#define RESOLVE_MOST 1000        /* while they are moved through the volume too */
#define PATH_LONGEST (1u << 20)
#define FOLLOW_DEEP 64           /* parents that are found by their names in turn */
#define TREE_DEEP 1024           /* and how deep what was moved may be */

/** What an inode is known by. */
struct dir_identity {
	struct alt_key key;
	uint32_t generation;
	mode_t type;
};

static unsigned key_bucket(struct alt_key key)
{
	uint64_t hash = (key.id ^ (key.dev << 40)) * 0x9e3779b97f4a7c15u;

	return hash >> 54;
}

static bool key_same(struct alt_key a, struct alt_key b)
{
	return a.id == b.id && a.dev == b.dev;
}

static struct dir_pin *table_find_locked(struct dir_volume *volume, struct alt_key key)
{
	struct dir_pin *pin = volume->table[key_bucket(key)];

	while (pin && !key_same(pin->key, key))
		pin = pin->next;
	return pin;
}

static void table_remove_locked(struct dir_pin *pin)
{
	struct dir_pin **at = &pin->volume->table[key_bucket(pin->key)];

	while (*at != pin)
		at = &(*at)->next;
	*at = pin->next;
}

static void pin_free(struct dir_pin *pin)
{
	lock_drop_all(pin);
	close(pin->fd);
	pthread_mutex_destroy(&pin->lock);
	free(pin);
}

/* Returns the pin to free once the lock is let go, or NULL. */
static struct dir_pin *pin_put_locked(struct dir_pin *pin)
{
	if (--pin->refs)
		return NULL;
	table_remove_locked(pin);
	return pin;
}

void pin_ref(struct dir_pin *pin)
{
	pthread_mutex_lock(&pin->volume->lock);
	pin->refs++;
	pthread_mutex_unlock(&pin->volume->lock);
}

void pin_put(struct dir_pin *pin)
{
	struct dir_volume *volume = pin->volume;
	struct dir_pin *last;
	int saved = errno;

	pthread_mutex_lock(&volume->lock);
	last = pin_put_locked(pin);
	pthread_mutex_unlock(&volume->lock);
	if (last)
		pin_free(last);
	errno = saved;
}

static struct dir_pin *cache_drop_locked(struct dir_volume *volume, unsigned slot)
{
	struct dir_pin *pin = volume->cache[slot];

	volume->cache[slot] = NULL;
	if (!pin)
		return NULL;
	pin->cached = false;
	return pin_put_locked(pin);
}

static unsigned cache_oldest_locked(const struct dir_volume *volume)
{
	unsigned oldest = 0;

	for (unsigned i = 0; i < PIN_CACHED; i++) {
		if (!volume->cache[i])
			return i;
		if (volume->cache[i]->used < volume->cache[oldest]->used)
			oldest = i;
	}
	return oldest;
}

/* Returns a pin that was pushed out and is to be freed, or NULL. */
static struct dir_pin *cache_touch_locked(struct dir_volume *volume, struct dir_pin *pin)
{
	struct dir_pin *out;
	unsigned slot;

	/* A descriptor on another file system would keep that from being unmounted. */
	if (!S_ISDIR(pin->type) || !volume->root || pin->key.dev != volume->root->key.dev)
		return NULL;
	pin->used = ++volume->clock;
	if (pin->cached)
		return NULL;
	slot = cache_oldest_locked(volume);
	out = cache_drop_locked(volume, slot);
	volume->cache[slot] = pin;
	pin->cached = true;
	pin->refs++;
	return out;
}

void pin_uncache(struct dir_volume *volume, struct alt_key key)
{
	struct dir_pin *last = NULL;

	pthread_mutex_lock(&volume->lock);
	for (unsigned i = 0; i < PIN_CACHED && !last; i++)
		if (volume->cache[i] && key_same(volume->cache[i]->key, key))
			last = cache_drop_locked(volume, i);
	pthread_mutex_unlock(&volume->lock);
	if (last)
		pin_free(last);
}

void pin_uncache_all(struct dir_volume *volume)
{
	for (unsigned i = 0; i < PIN_CACHED; i++) {
		struct dir_pin *last;

		pthread_mutex_lock(&volume->lock);
		last = cache_drop_locked(volume, i);
		pthread_mutex_unlock(&volume->lock);
		if (last)
			pin_free(last);
	}
}

static struct dir_pin *pin_find(struct dir_volume *volume, struct alt_key key)
{
	struct dir_pin *pin, *out = NULL;

	pthread_mutex_lock(&volume->lock);
	pin = table_find_locked(volume, key);
	if (pin) {
		pin->refs++;
		out = cache_touch_locked(volume, pin);
	}
	pthread_mutex_unlock(&volume->lock);
	if (out)
		pin_free(out);
	return pin;
}

bool pin_is_mappable(struct dir_volume *volume, struct alt_key key)
{
	struct dir_pin *pin;
	bool mappable;

	pthread_mutex_lock(&volume->lock);
	pin = table_find_locked(volume, key);
	mappable = pin && atomic_load(&pin->mappable);
	pthread_mutex_unlock(&volume->lock);
	return mappable;
}

bool pin_is_unlinked(struct dir_volume *volume, struct alt_key key)
{
	SCOPED_PIN pin = pin_find(volume, key);
	struct stat st;

	return pin && fstat(pin->fd, &st) == 0 && !st.st_nlink;
}

static struct dir_pin *pin_new(struct dir_volume *volume, int fd, const struct dir_identity *of)
{
	struct dir_pin *pin = calloc(1, sizeof(*pin));

	if (!pin)
		return NULL;
	pin->volume = volume;
	pin->key = of->key;
	pin->generation = of->generation;
	pin->type = of->type;
	pin->refs = 1;
	pin->fd = fd;
	pthread_mutex_init(&pin->lock, NULL);
	return pin;
}

/* Put a descriptor into the table. Takes @fd, also on failure. */
static int pin_add(struct dir_volume *volume, int fd, const struct dir_identity *of, struct dir_pin **ret)
{
	struct dir_pin *pin = pin_new(volume, fd, of), *there, *out;

	if (!pin) {
		close(fd);
		return -ENOMEM;
	}
	pthread_mutex_lock(&volume->lock);
	there = table_find_locked(volume, pin->key);
	if (there) {
		there->refs++;
	} else {
		pin->next = volume->table[key_bucket(pin->key)];
		volume->table[key_bucket(pin->key)] = pin;
	}
	out = cache_touch_locked(volume, there ? there : pin);
	pthread_mutex_unlock(&volume->lock);

	if (out)
		pin_free(out);
	if (there)
		pin_free(pin);
	*ret = there ? there : pin;
	return 0;
}

/*
 * Neither 0 nor ALT_GENERATION_PAST. Where a time of birth may change while a file lives (a layer that copies it, a network) it
 * says nothing.
 */
static uint32_t generation_of(const struct dir_volume *volume, const struct statx *x, dev_t dev)
{
	uint64_t ns;

	if (!volume->local || !volume->root || dev != volume->root->key.dev || !(x->stx_mask & STATX_BTIME))
		return 0;
	ns = x->stx_btime.tv_sec * 1000000000u + x->stx_btime.tv_nsec;
	ns *= 0x9e3779b97f4a7c15u;
	ns >>= 32;
	return ns && ns != ALT_GENERATION_PAST ? ns : 1;
}

static struct dir_identity identity_of(const struct dir_volume *volume, const struct statx *x)
{
	dev_t dev = makedev(x->stx_dev_major, x->stx_dev_minor);

	return (struct dir_identity){
		.key = { .id = x->stx_ino, .dev = dev },
		.generation = generation_of(volume, x, dev),
		.type = x->stx_mode & S_IFMT,
	};
}

static int identity_of_fd(const struct dir_volume *volume, int fd, struct dir_identity *ret)
{
	struct statx x;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_INO | STATX_BTIME, &x) < 0)
		return -errno;
	*ret = identity_of(volume, &x);
	return 0;
}

int pin_of_fd(struct dir_volume *volume, int fd, struct dir_pin **ret)
{
	struct dir_identity of;
	int path_fd, r = identity_of_fd(volume, fd, &of);

	if (r < 0)
		return r;
	*ret = pin_find(volume, of.key);
	if (*ret)
		return 0;
	path_fd = fd_open(volume->names, fd, O_PATH | O_CLOEXEC);
	if (path_fd < 0)
		return path_fd;
	return pin_add(volume, path_fd, &of, ret);
}

int pin_of_entry(struct dir_volume *volume, int fd, const struct alt_entry *entry, struct dir_pin **ret)
{
	struct dir_identity of = {
		.key = entry->key, .generation = entry->generation, .type = entry->attr.mode & S_IFMT,
	};

	return pin_add(volume, fd, &of, ret);
}

static int open_beneath(int dirfd, const char *path)
{
	struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	int fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

/* Where to cut a path that is too long for one call: before the last '/' that fits. */
static char *path_cut(char *path)
{
	char *cut;

	if (strlen(path) < PATH_MAX)
		return NULL;
	cut = memrchr(path, '/', PATH_MAX - 1);
	if (cut)
		*cut++ = '\0';
	return cut;
}

/* @path is cut to pieces on the way. */
static int path_open(int root, char *path)
{
	int dirfd = root, fd;

	do {
		char *rest = path_cut(path);

		fd = open_beneath(dirfd, path);
		if (dirfd != root)
			close(dirfd);
		dirfd = fd;
		path = rest;
	} while (path && fd >= 0);
	return fd;
}

/* A path of any length: the short ones without memory from the heap. */
static int node_open_long(int root, const struct alt_node *node)
{
	for (size_t size = 4 * PATH_MAX; size <= PATH_LONGEST; size *= 4) {
		char *path = malloc(size);
		int r;

		if (!path)
			return -ENOMEM;
		r = alt_node_path(node, path, size);
		if (r >= 0)
			r = path_open(root, path + 1);
		free(path);
		if (r != -ENAMETOOLONG)
			return r;
	}
	return -ENAMETOOLONG;
}

static int node_open(int root, const struct alt_node *node)
{
	char path[PATH_MAX];
	int r = alt_node_path(node, path, sizeof(path));

	if (r == -ENAMETOOLONG)
		return node_open_long(root, node);
	if (r < 0)
		return r;
	return open_beneath(root, path[1] ? path + 1 : ".");
}

static bool worth_retry(int r)
{
	return r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == -EAGAIN || r == -ESTALE;
}

/* A node of the root's or of before a generation was known has none. */
static bool is_generation_of(const struct alt_node *node, uint32_t generation)
{
	uint32_t of = alt_node_generation(node);

	return !of || of == generation;
}

/* What @fd is, when that is the node. Takes it, also on failure. */
static int pin_of_node(struct dir_volume *volume, int fd, const struct alt_node *node, struct dir_pin **ret)
{
	struct dir_identity of;
	int r;

	if (fd < 0)
		return fd;
	r = identity_of_fd(volume, fd, &of);
	if (r == 0 && !key_same(of.key, alt_node_key(node)))
		r = -ESTALE;
	if (r < 0) {
		close(fd);
		return r;
	}
	return pin_add(volume, fd, &of, ret);
}

static int pin_resolve(struct dir_volume *volume, const struct alt_node *node, struct dir_pin **ret)
{
	return pin_of_node(volume, node_open(volume->root->fd, node), node, ret);
}

/* The inode may be another thing's by now. Its attributes would be an error of the disk to the kernel. */
static int pin_check(const struct alt_node *node, struct dir_pin **ret)
{
	if ((*ret)->type == alt_node_type(node) && is_generation_of(node, (*ret)->generation))
		return 0;
	pin_put(*ret);
	*ret = NULL;
	return -ESTALE;
}

static int pin_try(struct dir_volume *volume, const struct alt_node *node, struct dir_pin **ret)
{
	int r = 0;

	*ret = pin_find(volume, alt_node_key(node));
	if (!*ret)
		r = pin_resolve(volume, node, ret);
	return r < 0 ? r : pin_check(node, ret);
}

/* Whether a directory is in the tree: the way up from it comes to the root. Takes no path, so no rename is in its way. */
static bool is_in_tree(struct dir_volume *volume, int fd)
{
	struct dir_identity of, last = { .key.id = 0 };
	int at = fd;
	bool in = false;

	for (int i = 0; i < TREE_DEEP && at >= 0 && !in && identity_of_fd(volume, at, &of) == 0; i++) {
		int up = -1;

		in = key_same(of.key, volume->root->key);
		if (!in && of.key.dev == volume->root->key.dev && !key_same(of.key, last.key))
			up = openat(at, "..", O_PATH | O_CLOEXEC);
		last = of;
		if (at != fd)
			close(at);
		at = up;
	}
	if (at >= 0 && at != fd)
		close(at);
	return in;
}

/* A directory by what is known of those that were renamed beside the volume. */
static int pin_moved(struct dir_volume *volume, const struct alt_node *node, struct dir_pin **ret)
{
	int fd = alt_node_type(node) == S_IFDIR ? watch_moved(volume, alt_node_key(node)) : -ESTALE;

	if (fd >= 0 && !is_in_tree(volume, fd)) {
		close(fd);
		return -ESTALE;
	}
	return pin_of_node(volume, fd, node, ret);
}

/* Each rename makes a path wrong that leads through it, and the next may come before it is mended: without one then. */
static int pin_follow(struct dir_volume *volume, const struct alt_node *node, unsigned deep, struct dir_pin **ret)
{
	char name[NAME_MAX + 1];
	struct alt_node *parent;
	struct dir_pin *dir;
	int r = 0;

	*ret = pin_find(volume, alt_node_key(node));
	if (!*ret)
		r = pin_moved(volume, node, ret);
	if (r < 0) {
		parent = deep ? alt_node_parent(node, name) : NULL;
		if (!parent)
			return -ESTALE;
		r = pin_follow(volume, parent, deep - 1, &dir);
		alt_node_unref(parent);
		if (r < 0)
			return r;
		r = pin_of_node(volume, open_beneath(dir->fd, name), node, ret);
		pin_put(dir);
	}
	return r < 0 ? r : pin_check(node, ret);
}

/*
 * A rename or an unlink between the path and the open is why once is not enough. One that is made through the volume is done
 * below first: until the names here have followed, no path leads there.
 */
static int pin_get_again(struct dir_volume *volume, const struct alt_node *node, struct dir_pin **ret)
{
	const struct alt_volume *alt = alt_node_volume(node);
	bool moving;
	uint64_t moves = alt_volume_moves(alt, &moving);

	for (unsigned all = 0, quiet = 1; quiet < RESOLVE_TRIES && all < RESOLVE_MOST; all++) {
		uint64_t before = moves;
		bool moved = moving;
		int r;

		if (moving)
			sched_yield();
		r = pin_try(volume, node, ret);
		if (worth_retry(r))
			r = pin_follow(volume, node, FOLLOW_DEEP, ret);
		if (!worth_retry(r))
			return r;
		if (!all)
			watch_await(volume);
		moves = alt_volume_moves(alt, &moving);
		if (!moved && moves == before)
			quiet++;
	}
	return -ESTALE;
}

int pin_get(struct dir_volume *volume, const struct alt_node *node, struct dir_pin **ret)
{
	int r = pin_try(volume, node, ret);

	return worth_retry(r) ? pin_get_again(volume, node, ret) : r;
}

static struct alt_time time_of(struct statx_timestamp t)
{
	return (struct alt_time){ .sec = t.tv_sec, .nsec = t.tv_nsec };
}

/* The kernel's 32 bits: new_encode_dev(). */
static uint32_t dev_encode(uint32_t major, uint32_t minor)
{
	return (minor & 0xff) | (major << 8) | ((minor & ~0xffu) << 12);
}

static void entry_set(const struct dir_volume *volume, struct alt_entry *entry, const struct statx *x)
{
	struct dir_identity of = identity_of(volume, x);

	entry->key = of.key;
	entry->generation = of.generation;
	entry->fresh = false;
	entry->attr = (struct alt_attr){
		.ino = x->stx_ino, .size = x->stx_size, .blocks = x->stx_blocks,
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
