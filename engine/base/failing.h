/* SPDX-License-Identifier: MIT */
/*
 * owns      the memory of a test's process: chosen allocations fail, and what there is is counted
 * never     leaves tests; is included twice in one program
 * hands to  libc
 */
#ifndef BASE_FAILING_H
#define BASE_FAILING_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FAILING 0                /* the sanitizer's has other work to do: the test is skipped */
#else
#define FAILING 1
#endif

#define UNUSED __attribute__((unused))

static UNUSED _Atomic bool armed; /* allocations count */
static UNUSED _Atomic long counted; /* since the story began */
static UNUSED long first, many;  /* those that fail */
static UNUSED _Atomic long live; /* pieces there are */
static UNUSED _Atomic size_t of_size; /* not 0: those of so many bytes fail too */
static UNUSED _Atomic long refused; /* how many have failed */

static UNUSED bool fails(size_t size)
{
	long n = atomic_load(&armed) ? atomic_fetch_add(&counted, 1) : -1;
	bool is = (n >= 0 && n >= first && n < first + many) || (size && size == atomic_load(&of_size));

	atomic_fetch_add(&refused, is);
	return is;
}

#if FAILING
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *p);

static void *got(void *p)
{
	if (p)
		atomic_fetch_add(&live, 1);
	else
		errno = ENOMEM;
	return p;
}

void *malloc(size_t size)
{
	return got(fails(size) ? NULL : __libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
	return got(fails(count * size) ? NULL : __libc_calloc(count, size));
}

void *aligned_alloc(size_t align, size_t size)
{
	return got(fails(size) ? NULL : __libc_memalign(align, size));
}

void *realloc(void *p, size_t size)
{
	if (!p)
		return malloc(size);
	if (!fails(size))
		return __libc_realloc(p, size);
	errno = ENOMEM;
	return NULL;
}

void free(void *p)
{
	if (p)
		atomic_fetch_sub(&live, 1);
	__libc_free(p);
}
#endif

#endif
