/* SPDX-License-Identifier: MIT */
/*
 * twosided: changes on both sides of a volume, and how soon each side shows what the other did.
 *
 *	twosided [-p] [-b BATCH] [-s SECONDS] BELOW ABOVE SEED COUNT
 *
 * BELOW is the directory that is served, ABOVE the mounting point. COUNT changes are made, each on a side taken by chance;
 * after each BATCH of them both sides must come to show the same of every name that was touched (look.h), and of open files
 * and mappings that are kept meanwhile. How long that took is told at the end.
 *
 * -p  two processes, each on its side, change the same names at the same time, BATCH changes in all, a quarter of them above;
 *     then all is compared. COUNT must be a multiple of BATCH, and that of 4.
 *     A third looks on all the time from above: at sizes which must be among those that were set, at one that never
 *     shrinks, and at a listing with a file that is renamed to and fro, which must always have it once.
 *
 * The end is lines "NAME NUMBER...". A difference that stays for SECONDS (30) is told with the seed and the last changes.
 */
#include "look.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define HISTORY 24
#define UNIT 512                /* sizes that are sampled are multiples; a write of one never crosses a page */
#define KEPT 4
#define MAPPED 4096

static const char *const names[] = {
	"", "d0", "d1", "d2", "f0", "f1", "f2", "f3", "d0/a", "d0/b", "d0/c", "d1/a", "d1/b", "d1/c", "d2/a", "d2/b", "d2/c"
};
#define NAMES (sizeof(names) / sizeof(*names))
#define ALL ((1u << NAMES) - 1)
#define DIRS 4u                 /* names[1..3] are directories for the most time */

enum { BELOW, ABOVE };
static struct side sides[2];
static uint64_t seed, random_state;
static unsigned soon = 30;
static bool has_xattrs;

/* ---- chance ---- */

static uint64_t random_next(void)       /* splitmix64 */
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static unsigned pick(unsigned count)
{
	return random_next() % count;
}

/* ---- what goes wrong ---- */

static char history[HISTORY][160];
static uint64_t changes;

static void remember(int side, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void remember(int side, const char *format, ...)
{
	char *line = history[changes++ % HISTORY];
	int n = snprintf(line, sizeof(*history), "%" PRIu64 " %s ", changes - 1, side == BELOW ? "below" : "above");
	va_list ap;

	va_start(ap, format);
	vsnprintf(line + n, sizeof(*history) - n, format, ap);
	va_end(ap);
}

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *format, ...)
{
	va_list ap;

	fprintf(stderr, "twosided: seed %" PRIu64 ", change %" PRIu64 ": ", seed, changes);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fprintf(stderr, "\nthe last changes:\n");
	for (uint64_t n = changes < HISTORY ? 0 : changes - HISTORY; n < changes; n++)
		fprintf(stderr, "  %s\n", history[n % HISTORY]);
	exit(1);
}

static uint64_t stale;          /* answers ESTALE above */
static bool alone;              /* each change is made when both sides are the same */
static bool root;               /* others keep their own rights to what they made, or would lose their way */

/*
 * What a native file system answers when two work on the same names. Anything else is told. Two answers more are due to the
 * kernel. It asks again, once, when a path was renamed below under its feet, and gives up the second time. And it begins what it
 * hears of with no rights at all, and throws away an answer that a notice of it overtook: twice in a row, and a user is refused.
 */
static void judge(int side, const char *what, int r)
{
	static const int fine[] = { ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY, EINVAL, ENODATA, ELOOP, EPERM };

	if (r < 0 && (errno == ESTALE || (errno == EACCES && !root)) && side == ABOVE && !alone) {
		stale++;
		return;
	}
	for (size_t i = 0; r < 0 && i < sizeof(fine) / sizeof(*fine); i++)
		if (errno == fine[i])
			return;
	if (r < 0)
		fail("%s %s: %s", side == BELOW ? "below" : "above", what, strerror(errno));
}

/* ---- changes ---- */

static unsigned bit(unsigned n)
{
	return 1u << n;
}

/* Names that show it when @n changes: itself, where it is, and what is in it. */
static unsigned around(unsigned n)
{
	unsigned touched = bit(n) | bit(0);

	if (n >= 1 && n < DIRS)
		touched |= 7u << (8 + 3 * (n - 1));
	if (n >= 8)
		touched |= bit(1 + (n - 8) / 3);
	return touched;
}

static unsigned pick_name(void)
{
	return pick(5) ? 4 + pick(NAMES - 4) : 1 + pick(NAMES - 1);
}

static char data[8192];

static void change_write(const struct side *s, const char *name, int flags, size_t len, off_t at)
{
	int fd = openat(s->fd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);

	judge(s - sides, "open", fd);
	if (fd < 0)
		return;
	memset(data, 'a' + pick(26), len);
	judge(s - sides, "write", flags & O_APPEND ? write(fd, data, len) : pwrite(fd, data, len, at));
	close(fd);
}

static void change_mapped(const struct side *s, const char *name)
{
	int fd = openat(s->fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	char *map;

	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
		map = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (map != MAP_FAILED) {
			map[0] = 'A' + pick(26);
			msync(map, 1, MS_SYNC);
			munmap(map, 1);
		}
	}
	close(fd);
}

static mode_t pick_mode(void)
{
	return (root ? 0600 : 0700) | pick(0100);
}

static int change_owner(const struct side *s, const char *name)
{
	uid_t uid = pick(3), gid = pick(3);

	return fchownat(s->fd, name, root ? uid : getuid(), root ? gid : getgid(), AT_SYMLINK_NOFOLLOW);
}

/* As the kernel has them: a version, then tag, permissions and id of each entry. */
static void change_acl(const char *path, bool named)
{
	struct { uint32_t version; struct { uint16_t tag, perm; uint32_t id; } e[5]; } acl = {
		2, { { 1, 6, -1 }, { 2, 4, 1234 }, { 4, 4, -1 }, { 0x10, 4, -1 }, { 0x20, 0, -1 } }
	};

	if (!root)
		acl.e[0].perm = 7;
	if (!named) {
		acl.e[1] = acl.e[2];
		acl.e[2] = acl.e[4];
	}
	/* refused when there is nothing, or a link */
	lsetxattr(path, "system.posix_acl_access", &acl, named ? 44 : 28, 0);
}

/* One change on one side; the names it touches. @shared: the other side may change the same at the same time. */
static unsigned change(int which, bool shared)
{
	const struct side *s = &sides[which];
	unsigned a = pick_name(), b = pick_name(), size = pick(6000);
	const char *one = names[a], *two = names[b];
	struct timespec times[2] = { { 1000000 + pick(1000), pick(1000) }, { 2000000 + pick(1000), pick(1000) } };
	char path[PATH_MAX], text[64];

	snprintf(path, sizeof(path), "%s/%s", s->path, one);
	switch (pick(22)) {
	case 0: case 1: case 2:
		remember(which, "create %s, %u bytes", one, size);
		change_write(s, one, O_WRONLY | O_CREAT | O_TRUNC, size, 0);
		return around(a);
	case 3: case 4:
		remember(which, "write %s, %u bytes", one, size / 4);
		change_write(s, one, O_WRONLY, size / 4, pick(3000));
		return around(a);
	case 5:
		remember(which, "append %s", one);
		change_write(s, one, O_WRONLY | O_APPEND, 100, 0);
		return around(a);
	case 6:
		remember(which, "truncate %s to %u", one, size);
		if (fstatat(s->fd, one, &(struct stat){ 0 }, AT_SYMLINK_NOFOLLOW) == 0)
			judge(which, "truncate", truncate(path, size));
		return ALL;     /* through a link: wherever it leads */
	case 7: case 8:
		remember(which, "unlink %s", one);
		judge(which, "unlink", unlinkat(s->fd, one, 0));
		return around(a);
	case 9: case 10: case 11:
		remember(which, "rename %s to %s", one, two);
		judge(which, "rename", renameat(s->fd, one, s->fd, two));
		return around(a) | around(b);
	case 12:
		remember(which, "exchange %s and %s", one, two);
		judge(which, "exchange", renameat2(s->fd, one, s->fd, two, RENAME_EXCHANGE));
		return around(a) | around(b);
	case 13:
		remember(which, "link %s to %s", two, one);
		judge(which, "link", linkat(s->fd, one, s->fd, two, 0));
		return around(a) | around(b);
	case 14:
		snprintf(text, sizeof(text), "f%u", pick(4));
		remember(which, "symlink %s -> %s", one, text);
		judge(which, "symlink", symlinkat(text, s->fd, one));
		return around(a);
	case 15: case 16:
		a = pick(3) ? 1 + pick(3) : a;
		remember(which, "mkdir %s", names[a]);
		judge(which, "mkdir", mkdirat(s->fd, names[a], 0755));
		return around(a);
	case 17:
		remember(which, "rmdir %s", one);
		judge(which, "rmdir", unlinkat(s->fd, one, AT_REMOVEDIR));
		return around(a);
	case 18:
		remember(which, "chmod and chown %s", one);
		judge(which, "chmod", fchmodat(s->fd, one, pick_mode(), 0));
		judge(which, "chown", change_owner(s, one));
		return ALL;
	case 19:
		remember(which, "times of %s", one);
		judge(which, "utimensat", utimensat(s->fd, one, times, AT_SYMLINK_NOFOLLOW));
		return around(a);
	case 20:
		snprintf(text, sizeof(text), "%u", size);
		remember(which, "attributes of %s, %s", one, text);
		if (!has_xattrs)
			return bit(a);
		if (pick(3))
			judge(which, "setxattr", lsetxattr(path, "user.exact", text, strlen(text), 0));
		else
			judge(which, "removexattr", lremovexattr(path, "user.exact"));
		change_acl(path, pick(2));
		return ALL;
	default:
		remember(which, shared ? "append %s" : "write %s through a mapping", one);
		if (shared)     /* what shrinks under a mapping is no page of it any more */
			change_write(s, one, O_WRONLY | O_APPEND, 10, 0);
		else
			change_mapped(s, one);
		return around(a);
	}
}

/* ---- comparing ---- */

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

static uint32_t *taken;         /* us until both sides were the same; 0: at the first look */
static size_t taken_count, taken_room;

static void taken_add(uint64_t us)
{
	if (taken_count == taken_room) {
		taken_room = taken_room ? 2 * taken_room : 4096;
		taken = realloc(taken, taken_room * sizeof(*taken));
		if (!taken)
			fail("no memory");
	}
	taken[taken_count++] = us;
}

static bool same(unsigned n, bool deep, char below[LOOK_SIZE], char above[LOOK_SIZE])
{
	look(&sides[BELOW], names[n], deep, below);
	look(&sides[ABOVE], names[n], deep, above);
	return !strcmp(below, above);
}

/* Files that stay open on both sides, and mapped above. */
static struct kept {
	int fd[2];
	const char *map;
} kept[KEPT];

static void kept_drop(struct kept *k)
{
	if (k->map)
		munmap((void *)k->map, MAPPED);
	for (int i = 0; i < 2; i++)
		if (k->fd[i] > 0)
			close(k->fd[i]);
	*k = (struct kept){ 0 };
}

/* Both sides are the same at this moment, so one name is one file. */
static void kept_pick(void)
{
	struct kept *k = &kept[pick(KEPT)];
	const char *name = names[pick_name()];
	int flags = (pick(2) ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	struct stat st;

	kept_drop(k);
	if (fstatat(sides[BELOW].fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return;
	for (int i = 0; i < 2; i++)
		k->fd[i] = openat(sides[i].fd, name, flags);
	if (k->fd[BELOW] < 0 || k->fd[ABOVE] < 0)
		fail("open of %s, which is there: %s", name, strerror(errno));
	k->map = mmap(NULL, MAPPED, PROT_READ, MAP_SHARED, k->fd[ABOVE], 0);
	if (k->map == MAP_FAILED)
		fail("map of %s: %s", name, strerror(errno));
}

static void kept_show(const struct kept *k, int side, char out[LOOK_SIZE])
{
	struct stat st;
	size_t used;

	if (fstat(k->fd[side], &st) < 0)
		fail("fstat of an open file: %s", strerror(errno));
	look_stat(&st, out, LOOK_SIZE);
	used = strlen(out);
	look_fd(k->fd[side], out + used, LOOK_SIZE - used);
}

static bool kept_same(const struct kept *k, char below[LOOK_SIZE], char above[LOOK_SIZE])
{
	char bytes[MAPPED];
	ssize_t n;

	kept_show(k, BELOW, below);
	kept_show(k, ABOVE, above);
	if (strcmp(below, above))
		return false;
	n = pread(k->fd[BELOW], bytes, sizeof(bytes), 0);
	if (n > 0 && memcmp(bytes, k->map, n)) {
		strcat(above, ", but not through its mapping");
		return false;
	}
	return true;
}

/* A change through an open file. */
static unsigned kept_change(int which)
{
	const struct kept *k = &kept[pick(KEPT)];
	unsigned size = pick(6000);

	if (!k->map)
		return change(which, false);
	remember(which, "open file %ld: %u", (long)(k - kept), size);
	memset(data, 'a' + pick(26), size / 4);
	switch (pick(3)) {
	case 0:
		if (ftruncate(k->fd[which], size) < 0 && errno != EINVAL)
			fail("ftruncate: %s", strerror(errno));
		break;
	case 1:
		if (pwrite(k->fd[which], data, size / 4, pick(3000)) < 0 && errno != EBADF)
			fail("pwrite: %s", strerror(errno));
		break;
	default:
		if (fchmod(k->fd[which], pick_mode()) < 0)
			fail("fchmod: %s", strerror(errno));
	}
	return ALL;
}

/* Wait until both sides show the same of the names @touched, then of the open files. */
static void settle(unsigned touched, bool deep)
{
	char below[LOOK_SIZE], above[LOOK_SIZE];
	uint64_t begun = now_us(), end = begun;

	for (unsigned n = 0; n < NAMES + KEPT; n++) {
		bool open = n >= NAMES, differed = false;

		if (open ? !kept[n - NAMES].map : !(touched & bit(n)))
			continue;
		while (!(open ? kept_same(&kept[n - NAMES], below, above) : same(n, deep, below, above))) {
			differed = true;
			if (now_us() - begun > soon * 1000000ull)
				fail("%s '%s' after %u s still\n  below: %s\n  above: %s", open ? "open file" : "name",
				     open ? "" : names[n], soon, below, above);
		}
		if (differed)
			end = now_us();
	}
	taken_add(end - begun);
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void report(void)
{
	size_t at_once = 0;

	qsort(taken, taken_count, sizeof(*taken), by_size);
	while (at_once < taken_count && !taken[at_once])
		at_once++;
	printf("changes %" PRIu64 "\ncompared %zu\nat_once %zu\nmedian_us %u\np99_us %u\nmax_us %u\n", changes, taken_count,
	       at_once, taken[taken_count / 2], taken[taken_count * 99 / 100], taken[taken_count - 1]);
}

/* ---- one process does both ---- */

static void work_alone(uint64_t count, unsigned batch)
{
	for (uint64_t done = 0; done < count;) {
		unsigned touched = bit(pick(NAMES)) | bit(pick(NAMES));
		bool deep = !pick(8);

		for (unsigned i = 0; i < batch && done < count; i++, done++) {
			unsigned change_touched = pick(6) ? change(pick(2), false) : kept_change(pick(2));

			/* everything is looked at now and then; a name or two each time */
			deep |= change_touched == ALL && !pick(4);
			touched |= change_touched;
		}
		settle(pick(16) ? touched : ALL, deep);
		if (!pick(4))
			kept_pick();
	}
	for (int i = 0; i < KEPT; i++)
		kept_drop(&kept[i]);
}

/* ---- a process for each side, and one that looks on ---- */

static struct shared {
	pthread_barrier_t gate;         /* both writers and who compares */
	_Atomic bool over;
	_Atomic uint64_t looks, changes, stale;
} *shared;

/* Sizes of "sized" are multiples of UNIT, "grows" never shrinks; "there" is always one name of two. */
static void sampled_change(int which)
{
	static const char *const there[] = { "s/there", "s/here" };
	int fd;

	snprintf(data, sizeof(data), "s/sized%d", which);
	fd = openat(sides[which].fd, data, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	memset(data, 'x', UNIT);
	if (fd < 0 || ftruncate(fd, pick(16) * UNIT) < 0 || write(fd, data, UNIT) != UNIT)
		fail("a sampled file: %s", strerror(errno));
	close(fd);
	fd = openat(sides[which].fd, which == BELOW ? "s/grows0" : "s/grows1", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, data, UNIT) != UNIT)
		fail("a growing file: %s", strerror(errno));
	close(fd);
	for (int i = 0; which == BELOW && i < 2; i++)
		renameat2(sides[which].fd, there[i], sides[which].fd, there[!i], RENAME_NOREPLACE);
}

static void look_on(void)
{
	off_t grown[2] = { 0, 0 };
	struct stat st;
	char name[32];

	while (!atomic_load(&shared->over)) {
		unsigned found = 0;
		DIR *dir;
		int fd;

		for (int i = 0; i < 2; i++) {
			snprintf(name, sizeof(name), "s/sized%d", i);
			if (fstatat(sides[ABOVE].fd, name, &st, 0) == 0 && st.st_size % UNIT)
				fail("a size of %lld, which nobody set", (long long)st.st_size);
			snprintf(name, sizeof(name), "s/grows%d", i);
			if (fstatat(sides[ABOVE].fd, name, &st, 0) == 0) {
				if (st.st_size < grown[i])
					fail("%s of %lld bytes has %lld now", name, (long long)grown[i], (long long)st.st_size);
				grown[i] = st.st_size;
			}
		}
		fd = openat(sides[ABOVE].fd, "s/dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		dir = fdopendir(fd);
		if (!dir)
			fail("s/dir: %s", strerror(errno));
		for (struct dirent *d; (d = readdir(dir));)
			found += d->d_name[0] != '.';
		closedir(dir);
		if (found != 1)
			fail("a file that is renamed is listed %u times", found);
		atomic_fetch_add(&shared->looks, 1);
		usleep(200);    /* others want to work as well */
	}
}

/* A file goes to and fro in a directory of its own. */
static void dance(void)
{
	static bool back;
	static const char *const ends[] = { "s/dir/here", "s/dir/there" };

	if (renameat(sides[BELOW].fd, ends[back], sides[BELOW].fd, ends[!back]) < 0)
		fail("rename below: %s", strerror(errno));
	back = !back;
}

static void writer(int which, uint64_t count, unsigned batch)
{
	random_state = seed * 2 + which;
	for (uint64_t done = 0; done < count; done += batch) {
		pthread_barrier_wait(&shared->gate);
		for (unsigned i = 0; i < batch; i++) {
			change(which, true);
			if (i % 16 == 0)
				sampled_change(which);
			if (which == BELOW && i % 16 == 8)
				dance();
		}
		pthread_barrier_wait(&shared->gate);
	}
	atomic_fetch_add(&shared->changes, changes);
	atomic_fetch_add(&shared->stale, stale);
}

static pid_t start(void (*work)(int, uint64_t, unsigned), int which, uint64_t count, unsigned batch)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (work)
			work(which, count, batch);
		else
			look_on();
		exit(0);
	}
	return pid;
}

/* One that failed has said why; the others wait for it no longer. */
static void on_child(int signal_number)
{
	int status;
	pid_t pid;

	(void)signal_number;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (status)
			_exit(1);
}

static void work_together(uint64_t count, unsigned batch)
{
	pthread_barrierattr_t attr;
	int fd;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		fail("no memory");
	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&shared->gate, &attr, 3);
	if (mkdirat(sides[BELOW].fd, "s", 0755) < 0 || mkdirat(sides[BELOW].fd, "s/dir", 0755) < 0 ||
	    (fd = openat(sides[BELOW].fd, "s/dir/here", O_CREAT | O_WRONLY | O_CLOEXEC, 0644)) < 0)
		fail("s: %s", strerror(errno));
	close(fd);
	settle(ALL, true);
	signal(SIGCHLD, on_child);
	/* A change costs less below. */
	start(writer, BELOW, count - count / 4, batch - batch / 4);
	start(writer, ABOVE, count / 4, batch / 4);
	start(NULL, 0, 0, 0);
	for (uint64_t done = 0; done < count; done += batch) {
		pthread_barrier_wait(&shared->gate);
		pthread_barrier_wait(&shared->gate);
		settle(ALL, true);
	}
	atomic_store(&shared->over, true);
	signal(SIGCHLD, SIG_DFL);
	for (int status; wait(&status) > 0;)
		if (status)
			exit(1);
	changes = shared->changes;
	printf("looks %" PRIu64 "\nstale %" PRIu64 "\n", shared->looks, shared->stale);
}

int main(int argc, char **argv)
{
	unsigned batch = 1;
	bool processes = false;
	uint64_t count;

	for (int c; (c = getopt(argc, argv, "pb:s:")) != -1;) {
		if (c == 'p')
			processes = true;
		else if (c == 'b')
			batch = strtoul(optarg, NULL, 10);
		else if (c == 's')
			soon = strtoul(optarg, NULL, 10);
		else
			return 2;
	}
	if (argc - optind != 4 || !batch) {
		fprintf(stderr, "usage: twosided [-p] [-b BATCH] [-s SECONDS] BELOW ABOVE SEED COUNT\n");
		return 2;
	}
	for (int i = 0; i < 2; i++) {
		sides[i].path = argv[optind + i];
		sides[i].fd = open(sides[i].path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (sides[i].fd < 0)
			fail("%s: %s", sides[i].path, strerror(errno));
	}
	root = geteuid() == 0;
	seed = random_state = strtoull(argv[optind + 2], NULL, 10);
	count = strtoull(argv[optind + 3], NULL, 10);
	umask(022);
	has_xattrs = fsetxattr(sides[BELOW].fd, "user.exact", "1", 1, 0) == 0;
	alone = !processes && batch == 1;
	if (processes && (count % batch || batch % 4))
		fail("%" PRIu64 " changes are no whole batches", count);
	if (processes)
		work_together(count, batch);
	else
		work_alone(count, batch);
	report();
	return 0;
}
