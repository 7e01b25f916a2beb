/* SPDX-License-Identifier: MIT */
/* "altitude doctor": what this kernel and this machine offer, what is missing, and what to do about it. */
#include "cli.h"
#include "control/lint.h"
#include "wire/proto.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/mount.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

static int missing, told;
static bool as_json;

/* A path in @text may hold any byte. */
static void tell(const char *state, const char *what, const char *text)
{
	char *shown = shown_text(text);
	json_t *one;

	if (as_json) {
		one = json_pack("{s:s,s:s,s:s}", "state", state, "what", what, "text", shown ? shown : "");
		fputs(told++ ? ",\n  " : "[\n  ", stdout);
		json_dumpf(one, stdout, 0);
		json_decref(one);
	} else {
		printf("  %-8s %-22s %s\n", state, what, shown ? shown : "");
	}
	free(shown);
}

static void fine(const char *what, const char *text)
{
	tell("ok", what, text);
}

static void note(const char *what, const char *text)
{
	tell("note", what, text);
}

static void lacking(const char *what, const char *text)
{
	missing++;
	tell("MISSING", what, text);
}

static const char *file_line(const char *path, char *buf, size_t size)
{
	FILE *f = fopen(path, "re");

	*buf = 0;
	if (f) {
		if (fgets(buf, size, f))
			buf[strcspn(buf, "\n")] = 0;
		fclose(f);
	}
	return buf;
}

static void check_kernel(void)
{
	struct utsname u;
	char text[200];

	uname(&u);
	snprintf(text, sizeof text, "%s %s", u.sysname, u.release);
	fine("kernel", text);
}

static void check_device(void)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		close(fd);
		fine("/dev/fuse", "open to you");
	} else if (errno == ENOENT || errno == ENODEV) {
		lacking("/dev/fuse", "the kernel has no FUSE driver here: as root, 'modprobe fuse'");
	} else {
		lacking("/dev/fuse", "not open to you: as root, 'chmod 666 /dev/fuse' (Debian's default), or work as root");
	}
}

static void check_helper(void)
{
	if (geteuid() == 0)
		fine("right to mount", "root mounts directly");
	else if (!system("command -v fusermount3 >/dev/null 2>&1"))
		fine("right to mount", "through fusermount3");
	else
		lacking("right to mount", "fusermount3 is not there: install the package fuse3");
}

static void check_allow_other(void)
{
	if (geteuid() == 0 || !system("grep -qs '^user_allow_other' /etc/fuse.conf"))
		fine("--allow-other", "may be used");
	else
		note("--allow-other", "root must first write 'user_allow_other' into /etc/fuse.conf");
}

/* ---- what the driver offers: asked by mounting in a mount namespace of our own, reading INIT, and going ---- */

static const struct { uint64_t flag; const char *name, *use, *absent; } features[] = {
	{ FUSE_HANDLE_KILLPRIV_V2, "killpriv v2", "small writes without asking for attributes" },
	{ FUSE_DO_READDIRPLUS, "readdirplus", "listings that bring attributes along" },
	{ FUSE_PARALLEL_DIROPS, "parallel directories", "lookups in one directory side by side" },
	{ FUSE_POSIX_ACL, "POSIX ACLs", "checked by the kernel" },
	{ FUSE_CACHE_SYMLINKS, "cached links", "" },
	{ FUSE_CREATE_SUPP_GROUP, "groups on create", "a new file's group is right" },
	{ FUSE_PASSTHROUGH, "passthrough", "reads and writes at the speed of the backing file (Linux 6.9)" },
	{ FUSE_OVER_IO_URING, "io_uring transport", "with -o transport=uring",
	  "as root, 'echo Y >/sys/module/fuse/parameters/enable_uring' (Linux 6.14)" },
	{ FUSE_REQUEST_TIMEOUT, "request timeout", "by the kernel (Linux 6.16)" },
};

static int init_read(char *buf, size_t size)
{
	struct pollfd p = { .events = POLLIN };
	char data[80];
	int n;

	p.fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (p.fd < 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	snprintf(data, sizeof data, "fd=%d,rootmode=40000,user_id=0,group_id=0", p.fd);
	if (mount("altitude-doctor", "/tmp", "fuse.altitude", MS_NOSUID | MS_NODEV, data) < 0)
		return -errno;
	n = poll(&p, 1, 5000) > 0 ? read(p.fd, buf, size) : -EIO;
	umount2("/tmp", MNT_DETACH);
	return n;
}

static void features_print(char *message, int len)
{
	struct wire_request rq;
	char text[200];

	if (wire_decode(message, len, &rq) < 0 || rq.kind != WIRE_INIT) {
		note("FUSE protocol", "the driver's first message was not understood");
		return;
	}
	snprintf(text, sizeof text, "%u.%u", rq.init.major, rq.init.minor);
	fine("FUSE protocol", text);
	for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
		snprintf(text, sizeof text, rq.init.flags & features[i].flag ? "%s" : "not offered: %s",
			 rq.init.flags & features[i].flag || !features[i].absent ? features[i].use : features[i].absent);
		(rq.init.flags & features[i].flag ? fine : note)(features[i].name, text);
	}
}

static void check_driver(void)
{
	static _Alignas(8) char buf[1 << 17];
	int n, status;
	pid_t pid;

	if (geteuid() != 0) {
		note("FUSE protocol", "asking the driver for its features needs root: 'sudo altitude doctor'");
		return;
	}
	fflush(stdout);
	pid = fork();
	if (!pid) {
		n = init_read(buf, sizeof buf);
		if (n > 0)
			features_print(buf, n);
		else
			note("FUSE protocol", "this machine allows no mount here");
		fflush(stdout);
		_exit(0);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
}

static void check_limits(void)
{
	char buf[64], text[160];

	if (*file_line("/proc/sys/fs/fuse/max_pages_limit", buf, sizeof buf)) {
		snprintf(text, sizeof text, "%s pages in one request (fs.fuse.max_pages_limit)", buf);
		fine("request size", text);
	}
	if (*file_line("/proc/sys/fs/fuse/default_request_timeout", buf, sizeof buf)) {
		snprintf(text, sizeof text, "%s seconds by default (fs.fuse.default_request_timeout)", buf);
		(atoi(buf) ? note : fine)("kernel's timeout", atoi(buf) ? text : "none by default");
	}
}

/* Whether it is allowed, with @more flags, to hear as file system dir does. */
static bool hears(unsigned more)
{
	int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME_TARGET | FAN_CLOEXEC | more, O_RDONLY), saved = errno;

	if (fd >= 0)
		close(fd);
	errno = saved;
	return fd >= 0;
}

/* What file system dir does to hear of changes made beside a volume: only who has CAP_SYS_ADMIN has no limit of marks. */
static void check_changes(void)
{
	const char *what = "changes below", *where = "ext4, XFS, Btrfs, F2FS and tmpfs";
	char text[200], most[32];

	if (!hears(0)) {
		snprintf(text, sizeof text, "not heard of (%s), and asked for each time: this needs fanotify and Linux 5.17", strerror(errno));
		note(what, text);
	} else if (geteuid() == 0 && hears(FAN_UNLIMITED_MARKS)) {
		snprintf(text, sizeof text, "heard of on %s: names and attributes are remembered", where);
		fine(what, text);
	} else {
		snprintf(text, sizeof text, "heard of on %s, of up to %s files and directories (fs.fanotify.max_user_marks)", where,
			 file_line("/proc/sys/fs/fanotify/max_user_marks", most, sizeof most));
		fine(what, text);
	}
}

static void check_runtime(void)
{
	struct alt_error err = { 0 };
	char dir[96];

	if (runtime_directory(dir, sizeof dir, &err) < 0)
		lacking("runtime directory", err.text);
	else
		fine("runtime directory", dir);
}

static void lint_note(void *arg, const char *text)
{
	note("registry", text);
}

static void check_registry(void)
{
	const char *dir = registry_directory();
	struct alt_error err = { 0 };
	struct manifest **list;
	char text[300];
	size_t count;
	int odd = 0;

	if (registry_read(dir, &list, &count, &err) < 0) {
		lacking("registry", err.text);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		odd += manifest_lint(list[i], lint_note, NULL);
		manifest_free(list[i]);
	}
	free(list);
	snprintf(text, sizeof text, "%zu manifest%s in %s", count, count == 1 ? "" : "s", dir);
	if (!odd)
		fine("registry", text);
}

static int run_doctor(const struct cli_args *a)
{
	as_json = cli_has(a, 'j');
	check_kernel();
	check_device();
	check_helper();
	check_allow_other();
	check_driver();
	check_limits();
	check_changes();
	check_runtime();
	check_registry();
	puts(as_json ? "\n]" : missing ? "\nSomething is missing; the lines above say what to do." : "\nNothing is missing.");
	return missing ? 1 : 0;
}
static const struct cli_option options[] = { { 'j', "json", NULL, "as JSON" }, { 0 } };
const struct cli_command cli_doctor = {
	.name = "doctor", .operands = "", .summary = "Tell what this machine offers, what is missing, and what to do",
	.options = options, .run = run_doctor,
};
