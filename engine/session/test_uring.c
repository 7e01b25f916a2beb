/* SPDX-License-Identifier: MIT */
/* A process that mounts over the ring again and again is afterwards what it was: no descriptor, thread or memory stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failing.h"
#include "session/session.h"
#include "wire/proto.h"

#define SWITCH "/sys/module/fuse/parameters/enable_uring"
#define MOUNTS 100

static char place[] = "/tmp/altitude-uring-XXXXXX", before[8];
static FILE *alone;              /* the switch: the machine has one */

static _Atomic unsigned opens, releases;

static int empty_getattr(struct alt_op *op)
{
	op->r.entry.attr = (struct alt_attr){ .ino = 1, .mode = S_IFDIR | 0755, .nlink = 2 };
	return 0;
}

static int empty_opendir(struct alt_op *op)
{
	(void)op;
	opens++;
	return 0;
}

static int empty_releasedir(struct alt_op *op)
{
	(void)op;
	releases++;
	return 0;
}

static int empty_mount(struct alt_volume *volume, const char *arg, struct alt_error *err)
{
	(void)arg;
	(void)err;
	alt_volume_set_root(volume, (struct alt_key){ .id = 1 }, NULL);
	return 0;
}

static const struct alt_filesystem_registration empty = {
	.size = sizeof(empty),
	.name = "empty",
	.mount = empty_mount,
	.ops = {
		[ALT_OP_GETATTR] = empty_getattr,
		[ALT_OP_OPENDIR] = empty_opendir,
		[ALT_OP_RELEASEDIR] = empty_releasedir,
	},
};

static unsigned entries(const char *path)
{
	DIR *d = opendir(path);
	unsigned count = 0;

	assert_non_null(d);
	while (readdir(d))
		count++;
	closedir(d);
	return count;
}

static bool text_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 && write(fd, text, strlen(text)) > 0;

	if (fd >= 0)
		close(fd);
	return good;
}

static struct io_option *option_uring(void)
{
	struct io_option *o = calloc(2, sizeof *o);

	o->key = strdup("transport");
	o->value = strdup("uring");
	return o;
}

struct life { struct alt_volume *v; struct session *s; };

static void life_begin(struct life *l)
{
	struct alt_error err = { 0 };
	struct stat st;
	char data[80];
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	snprintf(data, sizeof data, "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	assert_int_equal(mount("test", place, "fuse.altitude", MS_NOSUID | MS_NODEV, data), 0);
	assert_int_equal(volume_new("empty:", &empty, "", option_uring(), &l->v, &err), 0);
	assert_int_equal(stack_volume_init(l->v), 0);
	assert_int_equal(session_start(l->v, fd, &l->s, &err), 0);
	assert_int_equal(stat(place, &st), 0);
}

/* Every other time the session ends while it is mounted. */
static void life_end(struct life *l, bool mounted)
{
	if (mounted)
		session_free(l->s);
	assert_int_equal(umount2(place, MNT_DETACH), 0);
	if (!mounted) {
		struct pollfd p = { .fd = session_end_fd(l->s), .events = POLLIN };

		assert_int_equal(poll(&p, 1, -1), 1);
		session_free(l->s);
	}
	stack_volume_fini(l->v);
	volume_free(l->v);
}

static unsigned rings_count(void)
{
	char link[300], path[300];
	unsigned rings = 0;
	struct dirent *e;
	DIR *d = opendir("/proc/self/fd");

	while ((e = readdir(d))) {
		ssize_t n;

		snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
		n = readlink(path, link, sizeof link - 1);
		link[n > 0 ? n : 0] = 0;
		rings += strstr(link, "io_uring") != NULL;
	}
	closedir(d);
	return rings;
}

/* A life of one mount; @rings: how many there were. */
static void live_once(unsigned round, unsigned *rings)
{
	struct life l;

	life_begin(&l);
	*rings = rings_count();
	life_end(&l, round % 2);
}

static void a_hundred_mounts_leave_nothing(void **state)
{
	unsigned rings, fds, threads;

	(void)state;
	live_once(0, &rings);
	if (!rings) {
		print_message("[  note    ] no ring here: the kernel or the build has none\n");
		skip();
	}
	fds = entries("/proc/self/fd");
	threads = entries("/proc/self/task");
	for (unsigned i = 0; i < MOUNTS; i++) {
		live_once(i, &rings);
		assert_true(rings >= 1);
	}
	assert_int_equal(entries("/proc/self/fd"), fds);
	assert_int_equal(entries("/proc/self/task"), threads);
}

/* The kernel gives what is asked on one CPU to one ring: the answer to the second question comes after the first was served. */
static void a_release_waits_for_memory(void **state)
{
	cpu_set_t before, one;
	struct stat st;
	struct life l;
	long had;
	int d;

	(void)state;
	if (!FAILING)
		skip();
	life_begin(&l);
	sched_getaffinity(0, sizeof before, &before);
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	if (rings_count() && !sched_setaffinity(0, sizeof one, &one)) {
		opens = releases = 0;
		d = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(d >= 0);
		assert_int_equal(opens, 1);
		had = refused;
		of_size = sizeof(struct op);
		close(d);
		while (refused == had)
			sched_yield();
		of_size = 0;
		assert_int_equal(stat(place, &st), 0);
		assert_int_equal(releases, 1);
		sched_setaffinity(0, sizeof before, &before);
	}
	life_end(&l, true);
}

static int begin(void **state)
{
	(void)state;
	alone = fopen(SWITCH, "re");
	if (alone && (flock(fileno(alone), LOCK_EX) < 0 || !fgets(before, sizeof before, alone)))
		*before = 0;
	return mkdtemp(place) ? 0 : -1;
}

static int end(void **state)
{
	(void)state;
	if (*before)
		text_write(SWITCH, before);
	if (alone)
		fclose(alone);
	return rmdir(place);
}

static bool has_switch(void)
{
	if (geteuid() == 0 && *before && text_write(SWITCH, "Y"))
		return true;
	print_message("[  note    ] needs root and %s\n", SWITCH);
	return false;
}

static void hundred_with_the_switch(void **state)
{
	if (!has_switch())
		skip();
	a_hundred_mounts_leave_nothing(state);
}

static void release_with_the_switch(void **state)
{
	if (!has_switch())
		skip();
	a_release_waits_for_memory(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "a_hundred_mounts_leave_nothing", hundred_with_the_switch, NULL, NULL, NULL },
		{ "a_release_waits_for_memory", release_with_the_switch, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests(tests, begin, end);
}
