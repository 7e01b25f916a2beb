/* SPDX-License-Identifier: MIT */
/*
 * exerciser: random work on a few files, compared with a model in memory.
 *
 *	exerciser [-b BELOW [-r]] DIRECTORY SEED COUNT
 *
 * Each operation is done twice: on a file, and on an array of bytes. What is read, by a call or through a mapping, must
 * be what the array has. One process with one thread does the same operations for the same seed, wherever it runs.
 *
 * -b BELOW  after every fsync and msync, and at the end, the file of that name in BELOW must have the bytes as well;
 * -r        they are there with their letters turned by rot13.
 *
 * The end is a line for each kind of operation, "NAME DONE LACKING": how many were done, and how many the file system
 * does not have. A difference is told with the seed, the operations before it and the bytes; the exit status is then 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 5
#define ROOM (256 * 1024)       /* bytes a file can have */
#define LENGTH_MAX (64 * 1024)  /* of one operation */
#define PAGE 4096
#define HISTORY 20
#define SHOWN 16                /* bytes around a difference */

struct file {
	char name[8];
	int fd;
	bool direct;                    /* @fd is O_DIRECT: whole pages only */
	int other, access;              /* another open of it, and for what; -1 for none */
	unsigned char *map;             /* ROOM bytes, MAP_SHARED; or NULL */
	size_t size;
	unsigned char bytes[ROOM];      /* the model; zero from @size on */
};

struct step {
	uint64_t number;
	const char *verb;
	char text[112];
};

static struct file files[FILES];
static struct step history[HISTORY];
static uint64_t seed, number, random_state;
static const char *above, *below;
static bool turned;
static unsigned char io[ROOM + PAGE] __attribute__((aligned(PAGE)));

/* ---- what goes wrong ---- */

static void report_history(void)
{
	fprintf(stderr, "the last operations:\n");
	for (uint64_t n = number < HISTORY ? 0 : number - HISTORY + 1; n <= number; n++) {
		const struct step *s = &history[n % HISTORY];

		fprintf(stderr, "  %" PRIu64 " %s %s\n", s->number, s->verb ? s->verb : "-", s->text);
	}
}

static void fail(const struct file *f, const char *what, const char *why)
{
	fprintf(stderr, "exerciser: seed %" PRIu64 ", operation %" PRIu64 ", '%s/%s' of %zu bytes: %s: %s\n", seed, number,
		above, f->name, f->size, what, why);
	report_history();
	exit(1);
}

static void fail_errno(const struct file *f, const char *what)
{
	fail(f, what, strerror(errno));
}

static void fail_count(const struct file *f, const char *what, long want, long got)
{
	char why[96];

	snprintf(why, sizeof(why), "expected %ld, got %ld%s%s", want, got, got < 0 ? ": " : "",
		 got < 0 ? strerror(errno) : "");
	fail(f, what, why);
}

static void show(const char *word, const unsigned char *bytes, size_t at, size_t len)
{
	fprintf(stderr, "  %-8s at %zu:", word, at);
	for (size_t n = at; n < len && n < at + SHOWN; n++)
		fprintf(stderr, " %02x", bytes[n]);
	fprintf(stderr, "\n");
}

/* @got must be @want; both begin at @offset of the file. */
static void compare(const struct file *f, const char *what, const unsigned char *want, const unsigned char *got, size_t len,
		    size_t offset)
{
	size_t first = 0, differ = 0;
	char why[128];

	if (!memcmp(want, got, len))
		return;
	while (want[first] == got[first])
		first++;
	for (size_t n = first; n < len; n++)
		differ += want[n] != got[n];
	snprintf(why, sizeof(why), "%zu bytes differ of %zu from %zu on, the first at offset %zu", differ, len, offset,
		 offset + first);
	show("expected", want, first, len);
	show("got", got, first, len);
	fail(f, what, why);
}

static void on_bus_error(int signal_number)
{
	(void)signal_number;
	fprintf(stderr, "exerciser: seed %" PRIu64 ", operation %" PRIu64 ": SIGBUS from a mapping\n", seed, number);
	report_history();
	_exit(1);
}

/* ---- chance ---- */

static uint64_t random_next(void)       /* splitmix64 */
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* 0..count-1 */
static size_t pick(size_t count)
{
	return random_next() % count;
}

static bool one_in(size_t count)
{
	return pick(count) == 0;
}

struct range {
	size_t offset, length;
};

/* Not empty, within @limit bytes (at least 1); small and page-aligned ones are frequent. */
static struct range pick_range(size_t limit, bool pages)
{
	struct range r = { pick(limit), 1 + pick((size_t)1 << pick(17)) };

	if (pages || one_in(4))
		r.offset = r.offset / PAGE * PAGE;
	if (pages || one_in(8))
		r.length = (r.length + PAGE - 1) / PAGE * PAGE;
	if (r.length > LENGTH_MAX)
		r.length = LENGTH_MAX;
	if (r.offset + r.length > limit)
		r.length = limit - r.offset;
	return r;
}

/* Where something is to be written: mostly within the file. */
static struct range pick_target(const struct file *f, bool pages)
{
	return pick_range(f->size > PAGE && !one_in(8) && !pages ? f->size : ROOM, pages);
}

static void fill(unsigned char *to, size_t len)
{
	for (size_t n = 0; n < len; n += 8) {
		uint64_t word = random_next();

		memcpy(to + n, &word, len - n < 8 ? len - n : 8);
	}
}

/* ---- the model ---- */

static void model_write(struct file *f, const void *bytes, size_t len, size_t offset)
{
	memmove(f->bytes + offset, bytes, len);
	if (offset + len > f->size)
		f->size = offset + len;
}

static void model_resize(struct file *f, size_t size)
{
	if (size < f->size)
		memset(f->bytes + size, 0, f->size - size);
	f->size = size;
}

static size_t model_has(const struct file *f, struct range r)
{
	return r.offset >= f->size ? 0 : r.length < f->size - r.offset ? r.length : f->size - r.offset;
}

static size_t whole_pages(size_t size)
{
	return (size + PAGE - 1) / PAGE * PAGE;
}

/* ---- checks ---- */

static const char *path_of(const char *directory, const struct file *f)
{
	static char path[4200];

	snprintf(path, sizeof(path), "%s/%s", directory, f->name);
	return path;
}

static void turn(unsigned char *bytes, size_t len)
{
	for (size_t n = 0; n < len; n++) {
		unsigned char c = bytes[n];

		if ((c >= 'a' && c <= 'm') || (c >= 'A' && c <= 'M'))
			bytes[n] = c + 13;
		else if ((c >= 'n' && c <= 'z') || (c >= 'N' && c <= 'Z'))
			bytes[n] = c - 13;
	}
}

/* All bytes of the file in @directory, opened anew. */
static void check_file(const struct file *f, const char *directory, const char *what, bool turn_it)
{
	int fd = open(path_of(directory, f), O_RDONLY);
	ssize_t n = fd < 0 ? -1 : pread(fd, io, ROOM + PAGE, 0);

	if (n != (ssize_t)f->size)
		fail_count(f, what, f->size, n);
	close(fd);
	if (turn_it)
		turn(io, n);
	compare(f, what, f->bytes, io, n, 0);
}

static void check_below(const struct file *f)
{
	if (below)
		check_file(f, below, "the file below", turned);
}

static void check_size(const struct file *f)
{
	struct stat s;

	if (fstat(f->fd, &s) < 0)
		fail_errno(f, "fstat");
	if (s.st_size != (off_t)f->size)
		fail_count(f, "size by fstat", f->size, s.st_size);
}

/* ---- operations: 0, or a negative errno: the file system has no such thing ---- */

static void note(const char *form, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *form, ...)
{
	struct step *s = &history[number % HISTORY];
	size_t used = strlen(s->text);
	va_list args;

	va_start(args, form);
	vsnprintf(s->text + used, sizeof(s->text) - used, form, args);
	va_end(args);
}

static int reader(const struct file *f)
{
	return f->other >= 0 && f->access != O_WRONLY && one_in(2) ? f->other : f->fd;
}

static int writer(const struct file *f)
{
	return f->other >= 0 && f->access != O_RDONLY && one_in(2) ? f->other : f->fd;
}

static int do_read(struct file *f)
{
	struct range r = pick_range(ROOM, f->direct);
	size_t want = model_has(f, r);
	ssize_t n;

	note("%zu+%zu", r.offset, r.length);
	n = pread(reader(f), io, r.length, r.offset);
	if (n != (ssize_t)want)
		fail_count(f, "read", want, n);
	compare(f, "read", f->bytes + r.offset, io, n, r.offset);
	return 0;
}

static int do_write(struct file *f)
{
	struct range r = pick_target(f, f->direct);
	ssize_t n;

	note("%zu+%zu", r.offset, r.length);
	fill(io, r.length);
	n = pwrite(writer(f), io, r.length, r.offset);
	if (n != (ssize_t)r.length)
		fail_count(f, "write", r.length, n);
	model_write(f, io, n, r.offset);
	return 0;
}

static int do_append(struct file *f)
{
	size_t len = 1 + pick(8192);
	ssize_t n;

	if (f->direct || f->size + len > ROOM)
		return do_read(f);
	note("%zu+%zu", f->size, len);
	fill(io, len);
	if (fcntl(f->fd, F_SETFL, O_APPEND) < 0)
		fail_errno(f, "O_APPEND");
	lseek(f->fd, pick(ROOM), SEEK_SET);
	n = write(f->fd, io, len);
	if (n != (ssize_t)len)
		fail_count(f, "append", len, n);
	if (lseek(f->fd, 0, SEEK_CUR) != (off_t)(f->size + len))
		fail(f, "append", "the file's position is not its end");
	if (fcntl(f->fd, F_SETFL, 0) < 0)
		fail_errno(f, "no O_APPEND");
	model_write(f, io, n, f->size);
	return 0;
}

static int do_truncate(struct file *f)
{
	size_t size = one_in(4) ? pick(ROOM / PAGE) * PAGE : one_in(16) ? 0 : pick(ROOM);
	bool by_path = one_in(2);

	note("to %zu by %s", size, by_path ? "path" : "file");
	if ((by_path ? truncate(path_of(above, f), size) : ftruncate(writer(f), size)) < 0)
		fail_errno(f, "truncate");
	model_resize(f, size);
	return 0;
}

static void map(struct file *f)
{
	if (f->map)
		return;
	note(" new");
	f->map = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	if (f->map == MAP_FAILED)
		fail_errno(f, "mmap");
}

static void unmap(struct file *f)
{
	if (f->map && munmap(f->map, ROOM) < 0)
		fail_errno(f, "munmap");
	f->map = NULL;
}

/* The last page can be read to its end, and is empty from the end of the file on. */
static int do_map_read(struct file *f)
{
	struct range r = pick_range(whole_pages(f->size) + !f->size, false);

	if (!f->size)
		return do_read(f);
	note("%zu+%zu", r.offset, r.length);
	map(f);
	compare(f, "read by a mapping", f->bytes + r.offset, f->map + r.offset, r.length, r.offset);
	if (one_in(16))
		unmap(f);
	return 0;
}

static int do_map_write(struct file *f)
{
	struct range r = pick_range(f->size + !f->size, false);

	if (!f->size)
		return do_write(f);
	note("%zu+%zu", r.offset, r.length);
	map(f);
	fill(io, r.length);
	memcpy(f->map + r.offset, io, r.length);
	model_write(f, io, r.length, r.offset);
	if (one_in(16))
		unmap(f);
	return 0;
}

static int do_msync(struct file *f)
{
	bool wait = one_in(4);

	if (!f->size)
		return do_read(f);
	map(f);
	note("%s", wait ? "wait" : "start");
	if (msync(f->map, whole_pages(f->size), wait ? MS_SYNC : MS_ASYNC) < 0)
		fail_errno(f, "msync");
	if (wait)
		check_below(f);
	return 0;
}

static int reserve(struct file *f, int mode, struct range r)
{
	note("%zu+%zu mode %d", r.offset, r.length, mode);
	if (fallocate(writer(f), mode, r.offset, r.length) < 0) {
		if (errno == EOPNOTSUPP)
			return -errno;
		fail_errno(f, "fallocate");
	}
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		memset(f->bytes + r.offset, 0, model_has(f, r));
	if (!(mode & FALLOC_FL_KEEP_SIZE) && r.offset + r.length > f->size)
		model_resize(f, r.offset + r.length);
	return 0;
}

static int do_allocate(struct file *f)
{
	return reserve(f, one_in(2) ? FALLOC_FL_KEEP_SIZE : 0, pick_target(f, false));
}

static int do_punch(struct file *f)
{
	return reserve(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pick_target(f, false));
}

static int do_zero(struct file *f)
{
	return reserve(f, FALLOC_FL_ZERO_RANGE | (one_in(2) ? FALLOC_FL_KEEP_SIZE : 0), pick_target(f, false));
}

static bool overlap(size_t a, size_t b, size_t len)
{
	return a < b + len && b < a + len;
}

static int do_copy(struct file *f)
{
	struct file *from = &files[pick(FILES)];
	struct range r = pick_range(from->size + !from->size, false);
	loff_t in = r.offset, out = pick(ROOM - r.length + 1);
	ssize_t n;

	if (!from->size || (from == f && overlap(in, out, r.length)))
		return do_read(f);
	note("%zu from %s %zu to %zu", r.length, from->name, r.offset, (size_t)out);
	n = copy_file_range(reader(from), &in, writer(f), &out, r.length, 0);
	if (n < 0 && (errno == EOPNOTSUPP || errno == EXDEV || ((f->direct || from->direct) && errno == EINVAL)))
		return -errno;
	if (n < 1 || n > (ssize_t)r.length)
		fail_count(f, "copy_file_range", r.length, n);
	model_write(f, from->bytes + r.offset, n, out - n);
	return 0;
}

static void file_open(struct file *f, int flags)
{
	f->direct = flags & O_DIRECT;
	f->fd = open(path_of(above, f), O_RDWR | flags, 0644);
	if (f->fd < 0)
		fail_errno(f, "open");
	if (flags & O_TRUNC)
		model_resize(f, 0);
}

static int do_reopen(struct file *f)
{
	int flags = (one_in(3) ? O_DIRECT : 0) | (one_in(16) ? O_TRUNC : 0);
	bool gone = one_in(2);

	note("%s%s%s", gone ? "unmapped " : "", flags & O_DIRECT ? "O_DIRECT " : "", flags & O_TRUNC ? "O_TRUNC" : "");
	if (gone)
		unmap(f);
	if (close(f->fd) < 0)
		fail_errno(f, "close");
	file_open(f, flags);
	return 0;
}

static void other_close(struct file *f)
{
	if (f->other >= 0 && close(f->other) < 0)
		fail_errno(f, "close of the other");
	f->other = -1;
}

/* Two opens of a file, each for something else, need not end in the order in which they began. */
static int do_other(struct file *f)
{
	static const char *const words[] = { [O_RDONLY] = "to read", [O_WRONLY] = "to write", [O_RDWR] = "for both" };

	if (f->other >= 0 && one_in(2)) {
		note("closed");
		other_close(f);
		return 0;
	}
	other_close(f);
	f->access = pick(3);
	note("%s", words[f->access]);
	f->other = open(path_of(above, f), f->access);
	if (f->other < 0)
		fail_errno(f, "another open");
	return 0;
}

static int do_fsync(struct file *f)
{
	bool data = one_in(2);

	note("%s", data ? "data" : "all");
	if ((data ? fdatasync(writer(f)) : fsync(writer(f))) < 0)
		fail_errno(f, "fsync");
	check_below(f);
	return 0;
}

/* Pages that are clean leave memory: the next read comes from the file system. */
static int do_drop(struct file *f)
{
	errno = posix_fadvise(f->fd, 0, 0, POSIX_FADV_DONTNEED);
	if (errno)
		fail_errno(f, "POSIX_FADV_DONTNEED");
	return 0;
}

static int do_whole(struct file *f)
{
	check_file(f, above, "the whole file", false);
	return 0;
}

static struct verb {
	const char *name;
	int (*run)(struct file *f);
	unsigned weight;                /* of 1000 */
	uint64_t done, lacking;
} verbs[] = {
	{ "read", do_read, 220 },
	{ "write", do_write, 210 },
	{ "append", do_append, 60 },
	{ "truncate", do_truncate, 50 },
	{ "map_read", do_map_read, 120 },
	{ "map_write", do_map_write, 110 },
	{ "msync", do_msync, 5 },
	{ "allocate", do_allocate, 25 },
	{ "punch", do_punch, 30 },
	{ "zero", do_zero, 25 },
	{ "copy", do_copy, 40 },
	{ "reopen", do_reopen, 40 },
	{ "other", do_other, 40 },
	{ "fsync", do_fsync, 2 },
	{ "drop", do_drop, 18 },
	{ "whole", do_whole, 5 },
};
#define VERBS (sizeof(verbs) / sizeof(*verbs))

static struct verb *pick_verb(void)
{
	size_t at = pick(1000), n = 0;

	while (n < VERBS - 1 && at >= verbs[n].weight)
		at -= verbs[n++].weight;
	return &verbs[n];
}

static void step(void)
{
	struct file *f = &files[pick(FILES)];
	struct verb *v = pick_verb();

	history[number % HISTORY] = (struct step){ .number = number, .verb = v->name };
	note("%s%s ", f->name, f->direct ? " direct" : "");
	if (v->run(f) < 0) {
		v->lacking++;
		note(" (lacking)");
	} else {
		v->done++;
	}
	if (one_in(8))
		check_size(f);
}

static void begin(void)
{
	for (int n = 0; n < FILES; n++) {
		snprintf(files[n].name, sizeof(files[n].name), "f%d", n);
		files[n].other = -1;
		file_open(&files[n], O_CREAT | O_TRUNC);
	}
}

/* A mapping's pages may be on their way down until it is gone and the file is synced. */
static void end(void)
{
	for (int n = 0; n < FILES; n++) {
		struct file *f = &files[n];

		check_size(f);
		unmap(f);
		other_close(f);
		if (fsync(f->fd) < 0)
			fail_errno(f, "fsync at the end");
		if (close(f->fd) < 0)
			fail_errno(f, "close at the end");
		check_file(f, above, "the whole file at the end", false);
		check_below(f);
	}
	for (size_t n = 0; n < VERBS; n++)
		printf("%s %" PRIu64 " %" PRIu64 "\n", verbs[n].name, verbs[n].done, verbs[n].lacking);
}

int main(int argc, char **argv)
{
	uint64_t count;
	int option;

	while ((option = getopt(argc, argv, "b:r")) != -1) {
		if (option == 'b')
			below = optarg;
		else if (option == 'r')
			turned = true;
		else
			return 2;
	}
	if (argc - optind != 3) {
		fprintf(stderr, "usage: exerciser [-b BELOW [-r]] DIRECTORY SEED COUNT\n");
		return 2;
	}
	above = argv[optind];
	random_state = seed = strtoull(argv[optind + 1], NULL, 10);
	count = strtoull(argv[optind + 2], NULL, 10);
	signal(SIGBUS, on_bus_error);
	begin();
	for (number = 0; number < count; number++)
		step();
	end();
	return 0;
}
