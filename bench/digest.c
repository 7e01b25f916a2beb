/* SPDX-License-Identifier: MIT */
/*
 * What is below a directory, as one number. Inode numbers and times are left out: they differ from run to run. So are the
 * sizes of directories, which the file system below chooses.
 */
#include "bench.h"

#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t sum;
static size_t skip;      /* bytes of the path that name the directory itself */

static uint64_t content(const char *name, uint64_t digest)
{
	static char buf[MIB];
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		die("%s", name);
	while ((n = read(fd, buf, sizeof buf)) > 0)
		digest = mix(digest, buf, n);
	if (n < 0)
		die("%s", name);
	close(fd);
	return digest;
}

static int entry(const char *name, const struct stat *st, int type, struct FTW *ftw)
{
	uint64_t digest = mix(1, name + skip, strlen(name + skip));
	char target[BLOCK];
	ssize_t n;

	(void)ftw;
	if (type == FTW_NS || type == FTW_DNR)
		die("%s", name);
	digest = mix_number(digest, st->st_mode);
	if (S_ISREG(st->st_mode))
		digest = content(name, mix_number(digest, st->st_size));
	if (S_ISLNK(st->st_mode)) {
		n = readlink(name, target, sizeof target);
		if (n < 0)
			die("%s", name);
		digest = mix(digest, target, n);
	}
	sum += digest;
	return 0;
}

uint64_t tree_digest(struct bench *b)
{
	sum = 0;
	skip = strlen(b->dir);
	if (nftw(b->dir, entry, 32, FTW_PHYS))
		die("%s", b->dir);
	return sum;
}
