/* SPDX-License-Identifier: MIT */
/* What one side of a volume shows of a path, as a line of text: two sides agree when the lines are the same. */
#ifndef EXACT_LOOK_H
#define EXACT_LOOK_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LOOK_SIZE 1024
#define LOOK_BYTES 65536        /* of a file's content */

struct side {
	const char *path;
	int fd;                 /* of the directory */
};

static inline uint64_t look_hash(uint64_t hash, const void *bytes, size_t len)
{
	for (const unsigned char *at = bytes, *end = at + len; at < end; at++)
		hash = (hash ^ *at) * 0x100000001b3u;
	return hash;
}

/* What an open file has, for a line. */
static inline void look_fd(int fd, char *out, size_t room)
{
	static char bytes[LOOK_BYTES];
	ssize_t n = pread(fd, bytes, sizeof(bytes), 0);

	if (n < 0)
		snprintf(out, room, " read: errno %d", errno);
	else
		snprintf(out, room, " bytes %zd:%016llx", n, (unsigned long long)look_hash(0xcbf29ce484222325u, bytes, n));
}

static inline void look_content(const struct side *s, const char *name, char *out, size_t room)
{
	int fd = openat(s->fd, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0) {
		snprintf(out, room, " open: errno %d", errno);
		return;
	}
	look_fd(fd, out, room);
	close(fd);
}

/* The order of a listing is the file system's own business: a sum has none. */
static inline void look_listing(const struct side *s, const char *name, char *out, size_t room)
{
	int fd = openat(s->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	uint64_t sum = 0;
	unsigned count = 0;

	if (!dir) {
		snprintf(out, room, " list: errno %d", errno);
		return;
	}
	for (struct dirent *d; (d = readdir(dir)); count++)
		sum += look_hash(0xcbf29ce484222325u + d->d_type, d->d_name, strlen(d->d_name));
	closedir(dir);
	snprintf(out, room, " entries %u:%016llx", count, (unsigned long long)sum);
}

static inline void look_xattrs(const struct side *s, const char *name, char *out, size_t room)
{
	static const char *const names[] = { "user.exact", "system.posix_acl_access", "system.posix_acl_default" };
	char path[PATH_MAX], value[512];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%s", s->path, name);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		size_t used = strlen(out);

		n = lgetxattr(path, names[i], value, sizeof(value));
		snprintf(out + used, room - used, " %zd:%016llx", n < 0 ? -(ssize_t)errno : n,
			 n < 0 ? 0ull : (unsigned long long)look_hash(0, value, n));
	}
	n = llistxattr(path, value, sizeof(value));
	snprintf(out + strlen(out), room - strlen(out), " names %zd:%016llx", n < 0 ? -(ssize_t)errno : n,
		 n < 0 ? 0ull : (unsigned long long)look_hash(0, value, n));
}

static inline void look_stat(const struct stat *st, char *out, size_t room)
{
	snprintf(out, room, "ino %llu mode %o links %llu owner %u:%u size %lld mtime %lld.%09ld ctime %lld.%09ld",
		 (unsigned long long)st->st_ino, st->st_mode, (unsigned long long)st->st_nlink, st->st_uid, st->st_gid,
		 (long long)st->st_size, (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, (long long)st->st_ctim.tv_sec,
		 st->st_ctim.tv_nsec);
}

/* @deep: extended attributes and ACLs as well */
static inline void look(const struct side *s, const char *name, bool deep, char out[LOOK_SIZE])
{
	struct stat st;
	size_t used;

	if (fstatat(s->fd, *name ? name : ".", &st, AT_SYMLINK_NOFOLLOW) < 0) {
		snprintf(out, LOOK_SIZE, "errno %d", errno);
		return;
	}
	look_stat(&st, out, LOOK_SIZE);
	used = strlen(out);
	if (S_ISREG(st.st_mode)) {
		look_content(s, name, out + used, LOOK_SIZE - used);
	} else if (S_ISDIR(st.st_mode)) {
		look_listing(s, *name ? name : ".", out + used, LOOK_SIZE - used);
	} else if (S_ISLNK(st.st_mode)) {
		char to[256];
		ssize_t n = readlinkat(s->fd, name, to, sizeof(to));

		snprintf(out + used, LOOK_SIZE - used, " -> %.*s", n < 0 ? 0 : (int)n, to);
	}
	if (deep && !S_ISLNK(st.st_mode))
		look_xattrs(s, name, out, LOOK_SIZE);
}

#endif
