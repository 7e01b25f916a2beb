/* SPDX-License-Identifier: MIT */
/*
 * owns      what is measured: the rows, how each is prepared, timed and looked at afterwards
 * never     mounts anything, nor compares; one call measures one row in one directory
 * hands to  bench.py, as one line of JSON
 *
 * A row has three steps, each a run of the program of its own:
 *
 *	prepare   in the directory below, before the contender is mounted: it has seen none of it
 *	measure   through the contender
 *	check     in the directory below again, after the contender is gone: what it left there
 *
 * "seen" and "left" are digests of what came through and of what is there. All contenders must agree on both.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLOCK 4096u
#define MIB (1u << 20)

struct bench {
	const char *dir;         /* where this step works */
	const char *data;        /* tree.tar and repo.tar */
	size_t file_size;        /* bytes, of the file read and written; a multiple of MIB */
	unsigned files;          /* names */
	unsigned folders;        /* they are spread over */
	double least;            /* seconds a row that can be repeated goes on */

	/* what a row answers */
	double seconds;
	double work;             /* in units of the row */
	uint64_t seen;           /* digest */
};

enum row_unit { ROW_MIB, ROW_OPS, ROW_RUNS };

struct row {
	const char *name;
	enum row_unit unit;
	const char *what;        /* a line for people */
	bool needs_root;         /* caches are dropped */
	void (*prepare)(struct bench *b);
	void (*measure)(struct bench *b);
	uint64_t (*check)(struct bench *b);
};

extern const struct row rows[];  /* the last has no name */

/* help.c */
double now(void);
_Noreturn void die(const char *what, ...);  /* with errno; says why the row was not measured */
uint64_t mix(uint64_t digest, const void *bytes, size_t size);
uint64_t mix_number(uint64_t digest, uint64_t number);
void path(char *to, size_t size, const struct bench *b, const char *format, ...);
void make_clean(const struct bench *b);
void drop_caches(void);

/* Digest of everything below b->dir: names, kinds, modes, sizes and contents; the order does not matter. */
uint64_t tree_digest(struct bench *b);

/* data.c */
void data_prepare(struct bench *b);
uint64_t data_check_all(struct bench *b);
uint64_t data_check_some(struct bench *b);
void data_read(struct bench *b);
void data_write(struct bench *b);
void data_random_read(struct bench *b);
void data_random_write(struct bench *b);
void data_direct_read(struct bench *b);
void data_direct_write(struct bench *b);

/* names.c */
void names_folders(struct bench *b);
void names_files(struct bench *b);
void names_create(struct bench *b);
void names_stat_first(struct bench *b);
void names_stat_warm(struct bench *b);
void names_stat_cold(struct bench *b);
void names_open_close(struct bench *b);
void names_list_first(struct bench *b);
void names_list_warm(struct bench *b);
void names_rename(struct bench *b);
void names_unlink(struct bench *b);
void names_chmod(struct bench *b);
void names_getxattr(struct bench *b);

/* trees.c */
void tree_prepare(struct bench *b);
void tree_prepare_repo(struct bench *b);
void tree_untar(struct bench *b);
void tree_remove(struct bench *b);
void tree_find_cold(struct bench *b);
void tree_grep_cold(struct bench *b);
void tree_git_status(struct bench *b);

#endif
