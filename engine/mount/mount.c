/* SPDX-License-Identifier: MIT */
/* mount(2) for who may; fusermount3, which is set-user-id, for everybody else. */
#include "mount/mount.h"
#include "base/base.h"
#include "mount/holders.h"
#include "mount/place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEVICE "/dev/fuse"
#define SHOWS_ALREADY "shows a volume already ('altitude unmount' ends it)"

static bool may_mount(void)
{
	return geteuid() == 0;
}

static int program_run(char *const argv[], int comm_fd)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (!pid) {
		if (comm_fd >= 0) {
			char text[16];

			fcntl(comm_fd, F_SETFD, 0);
			snprintf(text, sizeof text, "%d", comm_fd);
			setenv("_FUSE_COMMFD", text, 1);
		}
		execvp(argv[0], argv);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return -ENOENT;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EPERM;
}

static int fd_receive(int sock)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *c;
	int fd;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) <= 0)
		return -EIO;
	c = CMSG_FIRSTHDR(&msg);
	if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof fd))
		return -EIO;
	memcpy(&fd, CMSG_DATA(c), sizeof fd);
	return fd;
}

/* fusermount3 takes a comma for the next option. */
static void option_escape(const char *s, char *out, size_t size)
{
	size_t at = 0;

	for (; *s && at + 3 < size; s++) {
		if (*s == ',' || *s == '\\')
			out[at++] = '\\';
		out[at++] = *s;
	}
	out[at] = 0;
}

static int mount_helper(const char *source, const char *target, const struct mount_options *o, int *ret_fd, struct alt_error *err)
{
	char name[1024], options[1400];
	char *argv[] = { "fusermount3", "-o", options, "--", (char *)target, NULL };
	int pair[2], r, fd;

	option_escape(source, name, sizeof name);
	snprintf(options, sizeof options, "fsname=%s,subtype=altitude%s%s%s%s%s", name,
		 o->allow_other ? ",allow_other" : "", o->default_permissions ? ",default_permissions" : "",
		 o->read_only ? ",ro" : "", o->noexec ? ",noexec" : "", ",nosuid,nodev");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return alt_error_set(err, -errno, "cannot talk to fusermount3: %s", strerror(errno));
	r = program_run(argv, pair[0]);
	close(pair[0]);
	fd = r < 0 ? r : fd_receive(pair[1]);
	close(pair[1]);
	if (r == -ENOENT)
		return alt_error_set(err, r, "fusermount3 is not there; install the package fuse3, or mount as root");
	if (fd < 0)
		return alt_error_set(err, fd, "fusermount3 would not mount on '%s' (its reason is above)%s", target,
				     access(DEVICE, R_OK | W_OK) ? "; " DEVICE " is not open to you: chmod 666 " DEVICE " as root" : "");
	*ret_fd = fd;
	return 0;
}

static int mount_direct(const char *source, const char *target, const struct mount_options *o, int *ret_fd, struct alt_error *err)
{
	unsigned long flags = MS_NOSUID * o->nosuid | MS_NODEV * o->nodev | MS_RDONLY * o->read_only | MS_NOEXEC * o->noexec;
	char data[256];
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return alt_error_set(err, -errno, "cannot open %s: %s; load the module with 'modprobe fuse'", DEVICE, strerror(errno));
	snprintf(data, sizeof data, "fd=%d,rootmode=40000,user_id=%u,group_id=%u%s%s", fd, geteuid(), getegid(),
		 o->allow_other ? ",allow_other" : "", o->default_permissions ? ",default_permissions" : "");
	if (mount(source, target, "fuse.altitude", flags, data) < 0) {
		int r = -errno;

		close(fd);
		return alt_error_set(err, r, "cannot mount '%s' on '%s': %s", source, target, strerror(-r));
	}
	*ret_fd = fd;
	return 0;
}

struct seen {
	int id;                              /* of the mount that is visible there; -ENOENT: none of ours */
	unsigned connection;                 /* of FUSE */
	bool wanted;                         /* the one that was asked for is there, be it covered */
};

/* mountinfo writes blanks and backslashes of a path as octal numbers. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (*s == '\\' && s[1] && s[2] && s[3]) {
			*to++ = (s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0');
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = 0;
}

/* Without touching what is there. */
static struct seen mounts_at(const char *target, int wanted)
{
	char *line = NULL, path[PATH_MAX], real[PATH_MAX];
	FILE *f = fopen("/proc/self/mountinfo", "re");
	struct seen seen = { .id = -ENOENT };
	unsigned connection;
	size_t room = 0;
	int id;

	mount_path(target, real, sizeof real);
	while (f && getline(&line, &room, f) > 0) {
		const char *type = strstr(line, " - ");

		if (sscanf(line, "%d %*d %*u:%u %*s %4095s", &id, &connection, path) != 3 || !type)
			continue;
		unescape(path);
		/* The last one covers those before. */
		if (strcmp(path, real))
			continue;
		seen.id = strncmp(type + 3, "fuse.altitude ", 14) ? -ENOENT : id;
		seen.connection = connection;
		seen.wanted = seen.wanted || seen.id == wanted;
	}
	free(line);
	if (f)
		fclose(f);
	return seen;
}

int mount_id(const char *target)
{
	return mounts_at(target, 0).id;
}

bool mount_is_there(const char *target, int id)
{
	return mounts_at(target, id).wanted;
}

/* What is there already may be hidden only by who says so; the bind of another point knows no such option. */
static int covers(const char *target, const char *what, bool may_say, struct alt_error *err)
{
	return alt_error_set(err, -ENOTEMPTY, "mounting point '%s' %s; choose an empty directory%s", target, what,
			     may_say ? ", or cover it with -o nonempty" : "");
}

/*
 * What is there once dead mounts, which may lie on one another, are cleaned away. The kernel remembers attributes of a volume
 * whose server is gone: they are asked for anew. 0 or -errno.
 */
static int target_stat(const char *target, struct statx *st)
{
	int r;

	while ((r = place_stat(target, st)) < 0) {
		if (r != -ENOTCONN)
			return r;
		if ((may_mount() ? umount2(target, MNT_DETACH) : mount_remove(target, true, NULL)) < 0)
			return -ENOTCONN;
		fprintf(stderr, "altitude: '%s' held a dead mount whose server is gone; it was cleaned away\n", target);
	}
	return 0;
}

/* What to do about a target that cannot be looked at. */
static int target_explain(const char *target, int code, struct alt_error *err)
{
	struct seen seen = mounts_at(target, 0);
	pid_t server = code == -ETIMEDOUT && seen.id >= 0 ? place_server(seen.connection) : 0;

	if (server)
		return alt_error_set(err, code, "mounting point '%s' shows a volume whose server, process %d, does not answer: it is stopped, "
				     "or hangs; 'kill -CONT %d' lets it go on, 'kill -KILL %d' ends it", target, server, server, server);
	if (code == -ETIMEDOUT)
		return alt_error_set(err, code, "mounting point '%s': who serves what is there does not answer; end that server, or detach "
				     "what it shows with 'umount --lazy'", target);
	return alt_error_set(err, code, "mounting point '%s': %s%s", target, strerror(-code),
			     code == -ENOENT ? "; make the directory first (mkdir)" : "");
}

/* @o NULL: for one more point of a volume. */
static int target_check(const char *target, const struct mount_options *o, struct alt_error *err)
{
	struct dirent *e;
	struct statx st;
	int entries = 0, r = target_stat(target, &st);
	DIR *d;

	if (r < 0)
		return target_explain(target, r, err);
	if (!S_ISDIR(st.stx_mode))
		return alt_error_set(err, -ENOTDIR, "mounting point '%s' is not a directory", target);
	if (o && o->nonempty)
		return 0;
	if (mount_is_ours(target))
		return covers(target, SHOWS_ALREADY, o, err);
	d = opendir(target);
	if (!d)
		return alt_error_set(err, -errno, "mounting point '%s': %s", target, strerror(errno));
	while ((e = readdir(d)))
		entries += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(d);
	if (entries)
		return covers(target, "is not empty", o, err);
	return 0;
}

/*
 * One mounts at a time: nobody comes between who looked at a place and his mount there, whose number is then what is visible.
 * Others of this user wait; who has another runtime directory is not kept off. -1: not to be had.
 */
static int turn_begin(void)
{
	char path[RUNTIME_DIRECTORY_MAX + 1];
	int fd = runtime_directory(path, sizeof path, NULL) < 0 ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	while (fd >= 0 && flock(fd, LOCK_EX) < 0 && errno == EINTR)
		;
	return fd;
}

static void turn_end(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* What took its time to be looked at may have been mounted on meanwhile. */
static int target_check_again(const char *target, const struct mount_options *o, struct alt_error *err)
{
	return (o && o->nonempty) || !mount_is_ours(target) ? 0 : covers(target, SHOWS_ALREADY, o, err);
}

int mount_new(const char *source, const char *target, const struct mount_options *o, int *ret_fd, int *ret_id, struct alt_error *err)
{
	int turn, r = target_check(target, o, err);

	if (r < 0)
		return r;
	turn = turn_begin();
	r = target_check_again(target, o, err);
	if (!r)
		r = (may_mount() ? mount_direct : mount_helper)(source, target, o, ret_fd, err);
	if (!r)
		*ret_id = mount_id(target);
	turn_end(turn);
	if (r < 0)
		return r;
	fcntl(*ret_fd, F_SETFL, fcntl(*ret_fd, F_GETFL) | O_NONBLOCK);
	fcntl(*ret_fd, F_SETFD, FD_CLOEXEC);
	return 0;
}

int mount_add(const char *mounted, const char *target, int *ret_id, struct alt_error *err)
{
	int turn, r = target_check(target, NULL, err);

	if (r < 0)
		return r;
	turn = turn_begin();
	r = target_check_again(target, NULL, err);
	if (!r && mount(mounted, target, NULL, MS_BIND, NULL) < 0)
		r = alt_error_set(err, -errno, "cannot show '%s' at '%s' too: %s%s", mounted, target, strerror(errno),
				  errno == EPERM ? "; only root may add a mounting point" : "");
	if (!r)
		*ret_id = mount_id(target);
	turn_end(turn);
	return r;
}

static const char *name_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

void mount_path(const char *where, char *buf, size_t size)
{
	char copy[PATH_MAX], parent[PATH_MAX], *slash;
	const char *name = copy;

	if ((size_t)snprintf(copy, sizeof copy, "%s", where) >= sizeof copy) {
		errno = ENAMETOOLONG;
		*buf = 0;
		return;
	}
	for (size_t n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--)
		copy[n - 1] = 0;
	slash = strrchr(copy, '/');
	/* "..", "/", and a symbolic link to the place are resolved whole. What it is is asked with readlink(2): lstat(2)
	 * of a mounting point waits for its server, which may be the one that asks, before it serves. */
	if (!strcmp(name_of(copy), "") || !strcmp(name_of(copy), ".") || !strcmp(name_of(copy), "..") ||
	    readlink(copy, parent, sizeof parent) >= 0) {
		snprintf(buf, size, "%s", realpath(copy, parent) ? parent : "");
		return;
	}
	if (slash) {
		*slash = 0;
		name = slash + 1;
	}
	if (!realpath(slash ? *copy ? copy : "/" : ".", parent)) {
		*buf = 0;
	} else if ((size_t)snprintf(buf, size, "%s/%s", strcmp(parent, "/") ? parent : "", name) >= size) {
		errno = ENAMETOOLONG;
		*buf = 0;
	}
}

int mount_remove(const char *target, bool lazy, struct alt_error *err)
{
	char *argv[] = { "fusermount3", lazy ? "-uzq" : "-uq", "--", (char *)target, NULL };
	char who[400];
	int r;

	if (may_mount())
		r = umount2(target, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) < 0 ? -errno : 0;
	else
		r = program_run(argv, -1);
	if (!r)
		return 0;
	if (mount_holders(target, who, sizeof who) > 0)
		return alt_error_set(err, -EBUSY, "'%s' is in use by %s; end them, or detach it with --lazy", target, who);
	if (r == -EINVAL)
		return alt_error_set(err, r, "'%s' is not a mounting point", target);
	return alt_error_set(err, r, "cannot unmount '%s': %s", target, strerror(-r));
}
