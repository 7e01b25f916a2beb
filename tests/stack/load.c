/* SPDX-License-Identifier: MIT */
/*
 * load: attaches and detaches filters through the control socket, as fast as it goes, while others read, write, wait and
 * change names above.
 *
 *   load SOCKET MNT KEEP strict|turning CYCLES SEED
 *
 * In MNT: "letters", "held" and "digits", BLOCKS blocks of what pattern() says, and "slow", which a filter parks. What "w0" and
 * "w1" must hold at the end is written to the same names in the directory KEEP.
 *
 * strict   Filters that change no byte come and go: every byte read above is the one that was written.
 * turning  A rot13 comes and goes as well. Digits are still the same; a block of letters is turned whole or not at all,
 *          because an operation sees all of a change of the stack or nothing of it. Whoever attached it sees "held", which
 *          is open all the time and whose pages the kernel keeps, turned soon after, and turned back after the detach.
 *
 * Ends with 0 and one line of counts; or with 1 and what was wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BLOCK 4096
#define BLOCKS 16
#define CYCLERS 2
#define FOLLOW_LOOKS 300000      /* half a minute: as good as never */

static const char *socket_path, *mnt, *keep;
static bool turning;
static unsigned seed0;
static long cycles;
static atomic_bool stop;
static atomic_long reads, writes, names, waits, interrupted, cycled, followed;
static char letters[BLOCKS][BLOCK], digits[BLOCKS][BLOCK];

static void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "load (seed %u): ", seed0);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	_exit(1);
}

static char turn(char c)
{
	char small = c | 0x20;

	return small < 'a' || small > 'z' ? c : small < 'n' ? c + 13 : c - 13;
}

static int open_at(const char *dir, const char *name, int flags)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, flags | O_CLOEXEC, 0644);
	if (fd < 0)
		fail("open %s: %s", path, strerror(errno));
	return fd;
}

static void *block_new(void)
{
	void *p = NULL;

	if (posix_memalign(&p, BLOCK, BLOCK))
		fail("no memory");
	return p;
}

/* Is it what is wanted, whole, or, where that is allowed, the whole of it turned? */
static void compare(const char *got, const char *want, const char *who, int block)
{
	int i;

	if (!memcmp(got, want, BLOCK))
		return;
	for (i = 0; turning && i < BLOCK && got[i] == turn(want[i]); i++)
		;
	if (i == BLOCK)
		return;
	for (i = 0; got[i] == want[i]; i++)
		;
	fail("%s: block %d differs at byte %d: %02x, not %02x", who, block, i, (unsigned char)got[i], (unsigned char)want[i]);
}

/* ---- those who use the files ---- */

/* The two processors are for those who change the stack as well: what is sought is what happens between, not heat. */
static void breathe(void)
{
	usleep(100);
}

struct user { const char *name; int flags; unsigned seed; char (*want)[BLOCK]; };

static void block_read(int fd, char *buf, int block, const char *who)
{
	ssize_t n = pread(fd, buf, BLOCK, (off_t)block * BLOCK);

	if (n != BLOCK)
		fail("%s: read of block %d gives %zd: %s", who, block, n, n < 0 ? strerror(errno) : "short");
	atomic_fetch_add(&reads, 1);
	breathe();
}

static void *reader(void *arg)
{
	struct user *u = arg;
	char *buf = block_new();

	while (!atomic_load(&stop)) {
		int fd = open_at(mnt, u->name, O_RDONLY | u->flags);

		for (int n = 0; n < 100 && !atomic_load(&stop); n++) {
			int block = rand_r(&u->seed) % BLOCKS;

			block_read(fd, buf, block, u->name);
			if (u->want == digits && memcmp(buf, digits[block], BLOCK))
				fail("%s: block %d differs", u->name, block);
			compare(buf, u->want[block], u->name, block);
		}
		if (close(fd) < 0)
			fail("%s: close: %s", u->name, strerror(errno));
	}
	free(buf);
	return NULL;
}

static void *writer(void *arg)
{
	struct user *u = arg;
	char (*now)[BLOCK] = calloc(BLOCKS, BLOCK), *buf = block_new();
	int fd = open_at(mnt, u->name, O_RDWR | O_CREAT | u->flags), out;

	/* One round through all first, then any. */
	for (long n = 0; n < BLOCKS || !atomic_load(&stop); n++) {
		int block = n < BLOCKS ? n : rand_r(&u->seed) % BLOCKS;

		for (int i = 0; i < BLOCK; i++)
			buf[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,!\n0123456"[rand_r(&u->seed) >> 4 & 63];
		memcpy(now[block], buf, BLOCK);
		if (pwrite(fd, buf, BLOCK, (off_t)block * BLOCK) != BLOCK)
			fail("%s: write of block %d: %s", u->name, block, strerror(errno));
		atomic_fetch_add(&writes, 1);
		block = rand_r(&u->seed) % 2 ? block : rand_r(&u->seed) % (n < BLOCKS ? n + 1 : BLOCKS);
		block_read(fd, buf, block, u->name);
		compare(buf, now[block], u->name, block);
	}
	if (fsync(fd) < 0 || close(fd) < 0)
		fail("%s: end: %s", u->name, strerror(errno));
	out = open_at(keep, u->name, O_WRONLY | O_CREAT | O_TRUNC);
	if (write(out, now, BLOCKS * BLOCK) != BLOCKS * BLOCK)
		fail("%s: cannot keep what it must hold", u->name);
	close(out);
	free(now);
	free(buf);
	return NULL;
}

/* Names come and go; each step has one right answer. */
static void *namer(void *arg)
{
	struct stat st;
	char a[4096], b[4096];

	(void)arg;
	for (unsigned n = 0; !atomic_load(&stop); n++) {
		snprintf(a, sizeof(a), "%s/name%u", mnt, n % 50);
		snprintf(b, sizeof(b), "%s/other%u", mnt, n % 50);
		if (mkdir(a, 0755) < 0 || stat(a, &st) < 0 || !S_ISDIR(st.st_mode))
			fail("mkdir %s: %s", a, strerror(errno));
		if (rename(a, b) < 0)
			fail("rename %s: %s", a, strerror(errno));
		if (!stat(a, &st) || errno != ENOENT)
			fail("%s is still there", a);
		if (rmdir(b) < 0)
			fail("rmdir %s: %s", b, strerror(errno));
		atomic_fetch_add(&names, 1);
		breathe();
	}
	return NULL;
}

/* Opens and reads what a filter parks, and is sent signals meanwhile: an open is interrupted, or gives what is there. */
static void *waiter(void *arg)
{
	char path[4096], *buf = block_new();

	(void)arg;
	snprintf(path, sizeof(path), "%s/slow", mnt);
	while (!atomic_load(&stop)) {
		int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
		ssize_t n;

		atomic_fetch_add(&waits, 1);
		if (fd < 0 && errno != EINTR)
			fail("open slow: %s", strerror(errno));
		if (fd < 0) {
			atomic_fetch_add(&interrupted, 1);
			continue;
		}
		n = pread(fd, buf, BLOCK, 0);
		if (n != BLOCK && errno != EINTR)
			fail("slow: read gives %zd: %s", n, n < 0 ? strerror(errno) : "short");
		if (n == BLOCK)
			compare(buf, letters[0], "slow", 0);
		close(fd);
	}
	free(buf);
	return NULL;
}

static void on_signal(int number)
{
	(void)number;
}

/* ---- those who change the stack ---- */

static const struct kind { const char *filter, *altitude, *options; } kinds[] = {
	{ "null", "390000", "" },
	{ "passthrough", "300000", "" },    /* above rot13, below delay */
	{ "null", "100", "" },
	{ "witness", "200000", "" },
	{ "passthrough", "130000", "" },    /* below rot13 */
	{ "stats", "210000", "" },
	{ "null", "250000", "" },
	{ "witness", "120000", "" },
	{ "passthrough", "395000", "" },    /* above delay: waits for what is parked */
	{ "delay", "310000", "op=read;open:ms=1:name=slow" },
	{ "null", "350000", "" },
	{ "witness", "391000", "" },
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))
static const struct kind turner = { "rot13", "110000", "" };

static void ask(int fd, const char *message)
{
	char answer[4096];
	ssize_t n;

	if (send(fd, message, strlen(message), 0) < 0)
		fail("the server is gone: %s", strerror(errno));
	n = recv(fd, answer, sizeof(answer) - 1, 0);
	answer[n > 0 ? n : 0] = '\0';
	if (n <= 0 || !strstr(answer, "\"ok\":true"))
		fail("%s: %s", message, n < 0 ? strerror(errno) : answer);
}

/*
 * What was open before reads what the stack shows now. Nobody opens the file again, which would have the kernel forget its pages
 * as well. They are forgotten by a thread that is not waited for, so not at once.
 */
static void follow(int fd, bool turned)
{
	static char want[BLOCK], got[BLOCK];     /* of the one that turns */

	for (int i = 0; i < BLOCK; i++)
		want[i] = turned ? turn(letters[0][i]) : letters[0][i];
	for (int looks = 0; looks < FOLLOW_LOOKS; looks++) {
		if (pread(fd, got, BLOCK, 0) != BLOCK)
			fail("held: read: %s", strerror(errno));
		if (!memcmp(got, want, BLOCK)) {
			atomic_fetch_add(&followed, 1);
			return;
		}
		breathe();
	}
	fail("held: still as it was before the filter %s", turned ? "came" : "went");
}

struct cycler { pthread_t thread, victim; int number; };

static void *cycler(void *arg)
{
	struct cycler *c = arg;
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), held = open_at(mnt, "held", O_RDONLY);
	char message[512];

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", socket_path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		fail("%s: %s", socket_path, strerror(errno));
	for (long n = 0; n < cycles / CYCLERS; n++) {
		const struct kind *k = turning && n % 2 ? &turner : &kinds[((turning ? n / 2 : n) + c->number * KINDS / 2) % KINDS];

		/* Several at once may not turn: twice is not at all, which nobody could tell from a lost one. */
		if (k == &turner && c->number)
			k = &kinds[0];
		snprintf(message, sizeof(message), "{\"v\":1,\"cmd\":\"attach\",\"filter\":\"%s\",\"instance\":\"T%d\","
			 "\"altitude\":\"%s.%d\",\"options\":\"%s\"}", k->filter, c->number, k->altitude, c->number + 1, k->options);
		ask(fd, message);
		if (k == &turner)
			follow(held, true);
		snprintf(message, sizeof(message), "{\"v\":1,\"cmd\":\"detach\",\"filter\":\"%s\",\"instance\":\"T%d\"}", k->filter,
			 c->number);
		ask(fd, message);
		if (k == &turner)
			follow(held, false);
		if (n % 32 == 0)
			pthread_kill(c->victim, SIGUSR1);
		atomic_fetch_add(&cycled, 1);
	}
	close(held);
	close(fd);
	return NULL;
}

static void pattern(char (*to)[BLOCK], const char *from, unsigned count)
{
	for (unsigned i = 0; i < BLOCKS * BLOCK; i++)
		to[0][i] = from[(i + i / BLOCK * 7 + i / 100) % count];
}

int main(int argc, char **argv)
{
	struct sigaction act = { .sa_handler = on_signal }; /* no SA_RESTART */
	struct user users[] = {
		{ "letters", O_DIRECT, 1, letters }, { "letters", 0, 2, letters }, { "digits", O_DIRECT, 3, digits },
		{ "w0", O_DIRECT, 4, NULL }, { "w1", 0, 5, NULL },
	};
	enum { USERS = sizeof(users) / sizeof(users[0]) };
	pthread_t threads[USERS + 2];
	struct cycler cyclers[CYCLERS];

	if (argc != 7)
		return 2;
	socket_path = argv[1];
	mnt = argv[2];
	keep = argv[3];
	turning = !strcmp(argv[4], "turning");
	cycles = atol(argv[5]);
	seed0 = strtoul(argv[6], NULL, 0);
	sigaction(SIGUSR1, &act, NULL);
	pattern(letters, "The quick brown fox jumps over the lazy dog; ", 45);
	pattern(digits, "31415926535897932384626433832795", 32);
	for (int i = 0; i < USERS; i++) {
		users[i].seed += seed0 * 16;
		pthread_create(&threads[i], NULL, users[i].want ? reader : writer, &users[i]);
	}
	pthread_create(&threads[USERS], NULL, namer, NULL);
	pthread_create(&threads[USERS + 1], NULL, waiter, NULL);
	for (int i = 0; i < CYCLERS; i++) {
		cyclers[i] = (struct cycler){ .victim = threads[USERS + 1], .number = i };
		pthread_create(&cyclers[i].thread, NULL, cycler, &cyclers[i]);
	}
	for (int i = 0; i < CYCLERS; i++)
		pthread_join(cyclers[i].thread, NULL);
	atomic_store(&stop, true);
	for (int i = 0; i < USERS + 2; i++)
		pthread_join(threads[i], NULL);
	printf("cycles %ld reads %ld writes %ld names %ld waits %ld interrupted %ld followed %ld\n", cycled, reads, writes, names,
	       waits, interrupted, followed);
	return 0;
}
