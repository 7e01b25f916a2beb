/* SPDX-License-Identifier: MIT */
/* What every row needs: the clock, the digest, paths, and a clear end. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

void die(const char *what, ...)
{
	int code = errno;
	va_list list;

	va_start(list, what);
	vfprintf(stderr, what, list);
	va_end(list);
	fprintf(stderr, ": %s\n", strerror(code));
	exit(1);
}

/* FNV-1a, eight bytes at a time where there are eight: contents are read twice for each contender. */
uint64_t mix(uint64_t digest, const void *bytes, size_t size)
{
	const unsigned char *p = bytes;

	for (; size >= 8; p += 8, size -= 8) {
		uint64_t word;

		memcpy(&word, p, 8);
		digest = (digest ^ word) * 0x100000001b3;
		digest ^= digest >> 29;
	}
	while (size--)
		digest = (digest ^ *p++) * 0x100000001b3;
	return digest;
}

uint64_t mix_number(uint64_t digest, uint64_t number)
{
	return mix(digest, &number, sizeof number);
}

void path(char *to, size_t size, const struct bench *b, const char *format, ...)
{
	int used = snprintf(to, size, "%s/", b->dir);
	va_list list;

	va_start(list, format);
	used += vsnprintf(to + used, size - used, format, list);
	va_end(list);
	if ((size_t)used >= size) {
		errno = ENAMETOOLONG;
		die("%s", b->dir);
	}
}

/* What was prepared is to be clean: dirty pages and inodes survive drop_caches. Other file systems are not our affair. */
void make_clean(const struct bench *b)
{
	int fd = open(b->dir, O_RDONLY | O_DIRECTORY);

	if (fd < 0 || syncfs(fd))
		die("syncfs");
	close(fd);
}

/* Pages, names and inodes. The servers then hear what was forgotten: give them the time to listen. */
void drop_caches(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);

	if (fd < 0 || write(fd, "3", 1) != 1)
		die("/proc/sys/vm/drop_caches");
	close(fd);
	usleep(200000);
}
