/* SPDX-License-Identifier: MIT */
/*
 * A node is known by (inode, device) and reached by its path, unless it has a pin.
 *
 * A path leads nowhere while somebody beside the volume renames a directory in it faster than the names here follow. Then the
 * directory itself is opened by the handle that the event of its rename told, and what is below it by its name in there.
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
#include <unistd.h>

#define RESOLVE_TRIES 3          /* while names change below */
#define RESOLVE_MOST 1000        /* while they are moved through the volume too */
#define PATH_LONGEST (1u << 20)
#define FOLLOW_DEEP 64           /* parents that are found by their names in turn */
#define TREE_DEEP 1024           /* and how deep what was moved may be */

/*
 * -ESTALE: while it was looked up it was moved to where @dirfd is not above it, which the kernel calls -EXDEV. A path made of names
 * leads nowhere else.
 */
static int open_beneath(int dirfd, const char *path)
{
	struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	int fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));

	if (fd < 0)
		return errno == EXDEV ? -ESTALE : -errno;
	return fd;
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
