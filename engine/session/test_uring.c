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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "session/session.h"
#include "wire/proto.h"

#define SWITCH "/sys/module/fuse/parameters/enable_uring"
#define MOUNTS 100

static char place[] = "/tmp/altitude-uring-XXXXXX", before[8];
static FILE *alone;              /* the switch: the machine has one */

static int empty_getattr(struct alt_op *op)
{
	op->r.entry.attr = (struct alt_attr){ .ino = 1, .mode = S_IFDIR | 0755, .nlink = 2 };
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
	.ops = { [ALT_OP_GETATTR] = empty_getattr },
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

/* A life of one mount; @rings: how many there were. */
static void live(unsigned round, unsigned *rings)
{
	struct alt_error err = { 0 };
	struct alt_volume *v;
	struct session *s;
	struct stat st;
	char data[80], link[300], path[300];
	struct dirent *e;
	DIR *d;
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	snprintf(data, sizeof data, "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	assert_int_equal(mount("test", place, "fuse.altitude", MS_NOSUID | MS_NODEV, data), 0);
	assert_int_equal(volume_new("empty:", &empty, "", option_uring(), &v, &err), 0);
	assert_int_equal(stack_volume_init(v), 0);
	assert_int_equal(session_start(v, fd, &s, &err), 0);
	assert_int_equal(stat(place, &st), 0);
	*rings = 0;
	d = opendir("/proc/self/fd");
	while ((e = readdir(d))) {
		ssize_t n;

		snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
		n = readlink(path, link, sizeof link - 1);
		link[n > 0 ? n : 0] = 0;
		*rings += strstr(link, "io_uring") != NULL;
	}
	closedir(d);
	/* Every other time the session ends while it is mounted. */
	if (round % 2)
		session_free(s);
	assert_int_equal(umount2(place, MNT_DETACH), 0);
	if (!(round % 2)) {
		struct pollfd p = { .fd = session_end_fd(s), .events = POLLIN };

		assert_int_equal(poll(&p, 1, -1), 1);
		session_free(s);
	}
	stack_volume_fini(v);
	volume_free(v);
}

static void a_hundred_mounts_leave_nothing(void **state)
{
	unsigned rings, fds, threads;

	(void)state;
	live(0, &rings);
	if (!rings) {
		print_message("[  note    ] no ring here: the kernel or the build has none\n");
		skip();
	}
	fds = entries("/proc/self/fd");
	threads = entries("/proc/self/task");
	for (unsigned i = 0; i < MOUNTS; i++) {
		live(i, &rings);
		assert_true(rings >= 1);
	}
	assert_int_equal(entries("/proc/self/fd"), fds);
	assert_int_equal(entries("/proc/self/task"), threads);
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

static void needs_the_switch(void **state)
{
	(void)state;
	if (geteuid() != 0 || !*before || !text_write(SWITCH, "Y")) {
		print_message("[  note    ] needs root and %s\n", SWITCH);
		skip();
	}
	a_hundred_mounts_leave_nothing(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "a_hundred_mounts_leave_nothing", needs_the_switch, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests(tests, begin, end);
}
