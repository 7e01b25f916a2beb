/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing one large file. Each block of 4 KiB begins with its own number, and every read looks for it: a
 * contender that answers fast and wrong is found out while it is timed, at the cost of one comparison a block.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OLD 0x6f6c64u    /* second word of a block: who wrote it */
#define NEW 0x6e6577u
#define STRIDE 16        /* operations between two looks at the clock */

static char *room(size_t size)
{
	char *buf = aligned_alloc(BLOCK, size);

	if (!buf)
		die("memory");
	memset(buf, 'x', size);
	return buf;
}

static void stamp(char *block, uint64_t number, uint64_t who)
{
	memcpy(block, &number, 8);
	memcpy(block + 8, &who, 8);
}

static void expect(const char *block, uint64_t number)
{
	uint64_t found;

	memcpy(&found, block, 8);
	if (found != number) {
		errno = EBADMSG;
		die("block %llu reads as block %llu", (unsigned long long)number, (unsigned long long)found);
	}
}

static int data_open(struct bench *b, int flags)
{
	char name[BLOCK];
	int fd;

	path(name, sizeof name, b, "data");
	fd = open(name, flags | O_CLOEXEC, 0644);
	if (fd < 0)
		die("open of a data file%s", flags & O_DIRECT ? " with O_DIRECT" : "");
	return fd;
}

/* Once over the whole file. */
static void fill(struct bench *b, int fd, uint64_t who)
{
	char *buf = room(MIB);

	for (size_t at = 0; at < b->file_size; at += MIB) {
		for (size_t n = 0; n < MIB; n += BLOCK)
			stamp(buf + n, (at + n) / BLOCK, who);
		if (pwrite(fd, buf, MIB, at) != MIB)
			die("write of 1 MiB");
	}
	free(buf);
}

static void swallow(struct bench *b, int fd)
{
	char *buf = room(MIB);

	for (size_t at = 0; at < b->file_size; at += MIB) {
		if (pread(fd, buf, MIB, at) != MIB)
			die("read of 1 MiB");
		for (size_t n = 0; n < MIB; n += BLOCK)
			expect(buf + n, (at + n) / BLOCK);
	}
	free(buf);
}

void data_prepare(struct bench *b)
{
	int fd = data_open(b, O_RDWR | O_CREAT);

	fill(b, fd, OLD);
	if (fsync(fd))
		die("fsync");
	close(fd);
}

/* How many blocks are new; the others are the old ones, and each is where it belongs. */
static uint64_t count_new(struct bench *b)
{
	int fd = data_open(b, O_RDONLY);
	uint64_t blocks = b->file_size / BLOCK, found = 0, who;
	char *buf = room(BLOCK);
	struct stat st;

	if (fstat(fd, &st) || (size_t)st.st_size != b->file_size)
		die("the size of the data file");
	for (uint64_t n = 0; n < blocks; n++) {
		if (pread(fd, buf, BLOCK, n * BLOCK) != BLOCK)
			die("read of 4 KiB");
		expect(buf, n);
		memcpy(&who, buf + 8, 8);
		found += who == NEW;
		if (who != NEW && who != OLD) {
			errno = EBADMSG;
			die("block %llu", (unsigned long long)n);
		}
	}
	close(fd);
	free(buf);
	return found;
}

uint64_t data_check_all(struct bench *b)
{
	return count_new(b);
}

/* Which blocks were written is the affair of chance and of speed: that some were is all that can be compared. */
uint64_t data_check_some(struct bench *b)
{
	return count_new(b) > 0;
}

void data_read(struct bench *b)
{
	double start = now();
	int fd = data_open(b, O_RDONLY);

	swallow(b, fd);
	close(fd);
	b->seconds = now() - start;
	b->work = b->file_size / MIB;
	b->seen = b->file_size;
}

void data_write(struct bench *b)
{
	double start = now();
	int fd = data_open(b, O_WRONLY);

	fill(b, fd, NEW);
	if (close(fd))
		die("close");
	b->seconds = now() - start;
	b->work = b->file_size / MIB;
}

static uint64_t next(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 24;
}

static void at_random(struct bench *b, int flags)
{
	bool writing = (flags & O_ACCMODE) == O_RDWR;
	int fd = data_open(b, flags), warm = data_open(b, O_RDONLY);
	uint64_t blocks = b->file_size / BLOCK, state = 77, count = 0;
	char *buf = room(BLOCK);
	double start;

	if (!(flags & O_DIRECT))
		swallow(b, warm);
	close(warm);
	start = now();
	do {
		for (int n = 0; n < STRIDE; n++) {
			uint64_t block = next(&state) % blocks;

			if (writing) {
				stamp(buf, block, NEW);
				if (pwrite(fd, buf, BLOCK, block * BLOCK) != BLOCK)
					die("write of 4 KiB");
			} else {
				if (pread(fd, buf, BLOCK, block * BLOCK) != BLOCK)
					die("read of 4 KiB");
				expect(buf, block);
			}
		}
		count += STRIDE;
	} while (now() - start < b->least);
	b->seconds = now() - start;
	b->work = count;
	if (close(fd))
		die("close");
	free(buf);
}

void data_random_read(struct bench *b)
{
	at_random(b, O_RDONLY);
}

void data_random_write(struct bench *b)
{
	at_random(b, O_RDWR);
}

void data_direct_read(struct bench *b)
{
	at_random(b, O_RDONLY | O_DIRECT);
}

void data_direct_write(struct bench *b)
{
	at_random(b, O_RDWR | O_DIRECT);
}
