/* SPDX-License-Identifier: MIT */
/*
 * Kit: bytes in memory, for contents that are kept, made or unpacked here rather than read from elsewhere.
 *
 * A heap holds many of them in one sparse memfd: each has a slot of ALT_BYTES_SLOT, so that holes, allocation and
 * zeroes are the kernel's work and a large empty file costs nothing:
 *
 *   | slot 0: data, hole, data, 0 ... | slot 1: spare, all hole | slot 2: data, 0 ... |  ...
 *
 * What lies past the size of bytes is a hole. A heap has no lock: the caller holds whatever guards it and its bytes.
 */
#ifndef ALTITUDE_KIT_BYTES_H
#define ALTITUDE_KIT_BYTES_H

#include <altitude/op.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALT_BYTES_SLOT (1ll << 40)
#define ALT_BYTES_MAX (ALT_BYTES_SLOT - 1)   /* bytes: the greatest size */
#define ALT_BYTES_COUNT ((1ll << 23) - 1)    /* as many as one heap can hold */

struct alt_heap {
	int fd;                  /* the memfd */
	uint64_t limit;          /* bytes that may be used */
	uint64_t used;           /* bytes that are used, in whole pages */
	int64_t slots;           /* how many were ever given */
	int64_t *spare;          /* those given back; room for all */
	int64_t spares, room;
};

struct alt_bytes {
	int64_t base;            /* of the slot in the memfd; -1: none */
	uint64_t size;           /* bytes; read it, and change it by alt_bytes_resize() */
	uint64_t used;           /* bytes that are stored, in whole pages */
};

/** Begin an empty heap. @limit: bytes; 0: half of the machine's memory. Returns 0 or -errno. */
static inline int alt_heap_init(struct alt_heap *heap, uint64_t limit)
{
	*heap = (struct alt_heap){ .limit = limit, .fd = memfd_create("altitude-heap", MFD_CLOEXEC) };
	if (!limit)
		heap->limit = (uint64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / 2;
	if (heap->fd < 0)
		return -errno;
	return ftruncate(heap->fd, ALT_BYTES_COUNT * ALT_BYTES_SLOT) < 0 ? -errno : 0;
}

/** End a heap and all bytes in it; also one whose begin failed. */
static inline void alt_heap_fini(struct alt_heap *heap)
{
	if (heap->fd >= 0)
		close(heap->fd);
	free(heap->spare);
}

/** Bytes that can still be stored. */
static inline uint64_t alt_heap_left(const struct alt_heap *heap)
{
	return heap->used < heap->limit ? heap->limit - heap->used : 0;
}

/** What STATFS answers when each node has bytes in the heap. */
static inline struct alt_statfs alt_heap_statfs(const struct alt_heap *heap)
{
	uint64_t left = alt_heap_left(heap) / 4096;

	return (struct alt_statfs){ .blocks = heap->limit / 4096, .bfree = left, .bavail = left,
				    .files = ALT_BYTES_COUNT, .ffree = ALT_BYTES_COUNT - heap->slots + heap->spares,
				    .bsize = 4096, .frsize = 4096, .namelen = 255 };
}

/* The kernel counts what the memfd takes; a difference belongs to the bytes that were changed last. */
static inline void alt_bytes_account(struct alt_heap *heap, struct alt_bytes *b)
{
	struct stat st;
	uint64_t used;

	if (fstat(heap->fd, &st) < 0)
		return;
	used = (uint64_t)st.st_blocks * 512;
	b->used += used - heap->used;
	heap->used = used;
}

/* Whether a range can be stored: there is room, or it is stored already. */
static inline int alt_bytes_check(const struct alt_heap *heap, const struct alt_bytes *b, int64_t offset, uint64_t size)
{
	if (offset < 0 || offset > ALT_BYTES_MAX || size > (uint64_t)(ALT_BYTES_MAX - offset))
		return -EFBIG;
	if (size <= alt_heap_left(heap))
		return 0;
	return lseek(heap->fd, b->base + offset, SEEK_HOLE) >= b->base + offset + (int64_t)size ? 0 : -ENOSPC;
}

/** Begin with no bytes. Returns 0 or -ENOSPC. */
static inline int alt_bytes_init(struct alt_heap *heap, struct alt_bytes *b)
{
	int64_t room = heap->room ? heap->room * 2 : 64, *spare;

	*b = (struct alt_bytes){ .base = -1 };
	if (heap->spares) {
		b->base = heap->spare[--heap->spares] * ALT_BYTES_SLOT;
		return 0;
	}
	if (heap->slots == ALT_BYTES_COUNT)
		return -ENOSPC;
	if (heap->slots == heap->room) {
		spare = reallocarray(heap->spare, room, sizeof(*spare));
		if (!spare)
			return -ENOSPC;
		heap->spare = spare;
		heap->room = room;
	}
	b->base = heap->slots++ * ALT_BYTES_SLOT;
	return 0;
}

/** Change the size: bytes past it are gone, and those between an old and a greater new one are zero. 0 or -EFBIG. */
static inline int alt_bytes_resize(struct alt_heap *heap, struct alt_bytes *b, uint64_t size)
{
	int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	if (size > ALT_BYTES_MAX)
		return -EFBIG;
	if (fallocate(heap->fd, punch, b->base + (int64_t)size, ALT_BYTES_SLOT - (int64_t)size) < 0)
		return -errno;
	b->size = size;
	alt_bytes_account(heap, b);
	return 0;
}

/** Give all back. Bytes that never began (base -1) are fine. */
static inline void alt_bytes_fini(struct alt_heap *heap, struct alt_bytes *b)
{
	if (b->base < 0)
		return;
	alt_bytes_resize(heap, b, 0);
	heap->spare[heap->spares++] = b->base / ALT_BYTES_SLOT;
	b->base = -1;
}

/** As pread(2): bytes read, fewer at the end only, or -errno. */
static inline ssize_t alt_bytes_read(const struct alt_heap *heap, const struct alt_bytes *b, void *buf, size_t size,
				     int64_t offset)
{
	uint64_t left = offset >= 0 && (uint64_t)offset < b->size ? b->size - (uint64_t)offset : 0;
	ssize_t n = left ? pread(heap->fd, buf, size < left ? size : left, b->base + offset) : 0;

	return n < 0 ? -errno : n;
}

/** As pwrite(2): bytes written, or -EFBIG, -ENOSPC. */
static inline ssize_t alt_bytes_write(struct alt_heap *heap, struct alt_bytes *b, const void *buf, size_t size,
				      int64_t offset)
{
	ssize_t n = alt_bytes_check(heap, b, offset, size);

	if (n < 0 || !size)
		return n;
	n = pwrite(heap->fd, buf, size, b->base + offset);
	if (n < 0)
		return -errno;
	if (b->size < (uint64_t)(offset + n))
		b->size = (uint64_t)(offset + n);
	alt_bytes_account(heap, b);
	return n;
}

/**
 * As fallocate(2). @mode: 0, or FALLOC_FL_ZERO_RANGE, each with FALLOC_FL_KEEP_SIZE or not, or FALLOC_FL_PUNCH_HOLE with
 * it. Returns 0, -EFBIG, -ENOSPC or -EOPNOTSUPP.
 */
static inline int alt_bytes_allocate(struct alt_heap *heap, struct alt_bytes *b, uint32_t mode, int64_t offset,
				     uint64_t length)
{
	uint32_t zero = FALLOC_FL_ZERO_RANGE, punch = FALLOC_FL_PUNCH_HOLE, keep = FALLOC_FL_KEEP_SIZE;
	int r = alt_bytes_check(heap, b, offset, mode & punch ? 0 : length);

	if (r < 0 || (mode & ~(zero | punch | keep)))
		return r < 0 ? r : -EOPNOTSUPP;
	if (mode & punch && length > (uint64_t)(ALT_BYTES_SLOT - offset))
		length = (uint64_t)(ALT_BYTES_SLOT - offset);
	if (mode & (zero | punch))
		r = fallocate(heap->fd, (int)(punch | keep), b->base + offset, (int64_t)length);
	if (!r && !(mode & punch))
		r = fallocate(heap->fd, (int)keep, b->base + offset, (int64_t)length);
	if (r < 0)
		r = -errno;
	else if (!(mode & (keep | punch)) && b->size < (uint64_t)offset + length)
		b->size = (uint64_t)offset + length;
	alt_bytes_account(heap, b);
	return r;
}

/** As lseek(2) with SEEK_DATA or SEEK_HOLE: an offset or -ENXIO. */
static inline int64_t alt_bytes_seek(const struct alt_heap *heap, const struct alt_bytes *b, int64_t offset, int whence)
{
	int64_t size = (int64_t)b->size, at;

	if (offset < 0 || offset >= size)
		return -ENXIO;
	at = lseek(heap->fd, b->base + offset, whence);
	if (at >= 0 && at < b->base + size)
		return at - b->base;
	return whence == SEEK_HOLE ? size : -ENXIO;
}

#endif
