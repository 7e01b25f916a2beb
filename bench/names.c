/* SPDX-License-Identifier: MIT */
/*
 * Many small files: what a name costs. Files are numbered and spread over folders, so that neighbours in time are not
 * neighbours in a directory. Rows that can be repeated go on for a least time; the others do each name once.
 */
#include "bench.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static void name_of(char *to, size_t size, const struct bench *b, const char *kind, unsigned n)
{
	path(to, size, b, "folder%02u/%s%06u", n % b->folders, kind, n);
}

void names_folders(struct bench *b)
{
	char name[BLOCK];

	for (unsigned n = 0; n < b->folders; n++) {
		path(name, sizeof name, b, "folder%02u", n);
		if (mkdir(name, 0755))
			die("%s", name);
	}
}

static void create_one(struct bench *b, unsigned n)
{
	char name[BLOCK];
	int fd;

	name_of(name, sizeof name, b, "file", n);
	fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 || close(fd))
		die("create");
}

/* The size is the number's, so that an answer about another file does not pass. */
static void make_one(struct bench *b, unsigned n)
{
	char name[BLOCK];

	create_one(b, n);
	name_of(name, sizeof name, b, "file", n);
	if (truncate(name, n))
		die("truncate");
}

static void stat_one(struct bench *b, unsigned n)
{
	char name[BLOCK];
	struct stat st;

	name_of(name, sizeof name, b, "file", n);
	if (lstat(name, &st))
		die("stat");
	b->seen = mix_number(mix_number(b->seen, st.st_mode), st.st_size);
}

static void open_one(struct bench *b, unsigned n)
{
	char name[BLOCK];
	int fd;

	name_of(name, sizeof name, b, "file", n);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die("open");
	close(fd);
}

static void rename_one(struct bench *b, unsigned n)
{
	char name[BLOCK], other[BLOCK];

	name_of(name, sizeof name, b, "file", n);
	name_of(other, sizeof other, b, "moved", n);
	if (rename(name, other))
		die("rename");
}

static void unlink_one(struct bench *b, unsigned n)
{
	char name[BLOCK];

	name_of(name, sizeof name, b, "file", n);
	if (unlink(name))
		die("unlink");
}

static void chmod_one(struct bench *b, unsigned n)
{
	char name[BLOCK];

	name_of(name, sizeof name, b, "file", n);
	if (chmod(name, 0600))
		die("chmod");
}

/* Nobody remembers what is not there: one request, with the least to do below. */
static void getxattr_one(struct bench *b, unsigned n)
{
	char name[BLOCK];

	name_of(name, sizeof name, b, "file", n);
	if (getxattr(name, "user.none", NULL, 0) >= 0 || errno != ENODATA)
		die("getxattr");
}

static void each(struct bench *b, void (*one)(struct bench *b, unsigned n))
{
	for (unsigned n = 0; n < b->files; n++)
		one(b, n);
}

static void timed(struct bench *b, void (*one)(struct bench *b, unsigned n))
{
	double start = now();

	each(b, one);
	b->seconds = now() - start;
	b->work = b->files;
}

/* The digest is that of one pass, whatever their number. */
static void timed_again(struct bench *b, void (*pass)(struct bench *b))
{
	uint64_t first = 0;
	double start, work = 0;

	start = now();
	do {
		b->seen = 1;
		b->work = 0;
		pass(b);
		work += b->work;
		if (first && b->seen != first)
			die("a second pass saw something else");
		first = b->seen;
	} while (now() - start < b->least);
	b->seconds = now() - start;
	b->work = work;
}

void names_files(struct bench *b)
{
	names_folders(b);
	each(b, make_one);
}

void names_create(struct bench *b)
{
	timed(b, create_one);
}

void names_stat_first(struct bench *b)
{
	b->seen = 1;
	timed(b, stat_one);
}

static void stat_pass(struct bench *b)
{
	each(b, stat_one);
	b->work = b->files;
}

void names_stat_warm(struct bench *b)
{
	stat_pass(b);
	timed_again(b, stat_pass);
}

void names_stat_cold(struct bench *b)
{
	stat_pass(b);
	drop_caches();
	names_stat_first(b);
}

static void open_pass(struct bench *b)
{
	each(b, open_one);
	b->work = b->files;
}

void names_open_close(struct bench *b)
{
	stat_pass(b);
	timed_again(b, open_pass);
}

static void list_pass(struct bench *b)
{
	uint64_t sum = 0, count = 0;
	char name[BLOCK];
	struct dirent *d;

	for (unsigned n = 0; n < b->folders; n++) {
		DIR *dir;

		path(name, sizeof name, b, "folder%02u", n);
		dir = opendir(name);
		if (!dir)
			die("opendir");
		while ((d = readdir(dir))) {
			if (d->d_name[0] == '.')
				continue;
			sum += mix(1, d->d_name, strlen(d->d_name));
			count++;
		}
		closedir(dir);
	}
	b->seen = mix_number(sum, count);
	b->work = count;
}

void names_list_first(struct bench *b)
{
	double start = now();

	list_pass(b);
	b->seconds = now() - start;
}

/* Twice before: what remembers listings does so when it sees that one is wanted again. */
void names_list_warm(struct bench *b)
{
	list_pass(b);
	list_pass(b);
	timed_again(b, list_pass);
}

void names_rename(struct bench *b)
{
	stat_pass(b);
	timed(b, rename_one);
}

void names_unlink(struct bench *b)
{
	stat_pass(b);
	timed(b, unlink_one);
}

void names_getxattr(struct bench *b)
{
	stat_pass(b);
	timed(b, getxattr_one);
}

void names_chmod(struct bench *b)
{
	stat_pass(b);
	timed(b, chmod_one);
}
