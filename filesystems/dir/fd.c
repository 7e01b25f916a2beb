/* SPDX-License-Identifier: MIT */
/*
 * "/proc/self/fd/N" of an O_PATH descriptor is the file itself, a symbolic link too, so nothing is followed. Its four
 * components are looked up anew each time; from the directory that is kept open it is one. Where the kernel has a call that
 * takes the descriptor itself, that is tried first.
 */
#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Linux 6.6, and 6.13: the same on every architecture. reference: chmod(2), include/uapi/linux/xattr.h */
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#ifndef SYS_setxattrat
#define SYS_setxattrat 463
#define SYS_getxattrat 464
#define SYS_listxattrat 465
#define SYS_removexattrat 466
#endif

struct xattr_arguments {
	_Alignas(8) uint64_t value;
	uint32_t size, flags;
};

struct name { char text[12]; };

static struct name name_of(int fd)
{
	struct name n;

	snprintf(n.text, sizeof(n.text), "%d", fd);
	return n;
}

static ssize_t answer(ssize_t n)
{
	return n < 0 ? -errno : n;
}

/* Whether a call is there; what the kernel has not is asked for once. */
static bool known(ssize_t r, _Atomic bool *missing)
{
	bool there = r >= 0 || errno != ENOSYS;

	if (!there)
		atomic_store(missing, true);
	return there;
}

int fd_names_open(void)
{
	return answer(open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
}

int fd_open(int names, int fd, int flags)
{
	return answer(openat(names, name_of(fd).text, flags));
}

int fd_access(int names, int fd, int mode)
{
	return answer(faccessat(names, name_of(fd).text, mode, AT_EACCESS));
}

/* With AT_EMPTY_PATH it would take a capability that the caller may not have. */
int fd_link(int names, int fd, int dirfd, const char *name)
{
	return answer(linkat(names, name_of(fd).text, dirfd, name, AT_SYMLINK_FOLLOW));
}

int fd_chmod(int names, int fd, mode_t mode)
{
	static _Atomic bool missing;
	long r;

	if (!atomic_load(&missing)) {
		r = syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH);
		if (known(r, &missing))
			return answer(r);
	}
	return answer(fchmodat(names, name_of(fd).text, mode, 0));
}

static _Atomic bool xattr_missing;

ssize_t fd_getxattr(int names, int fd, const char *name, void *value, size_t size)
{
	struct xattr_arguments a = { .value = (uintptr_t)value, .size = size };
	long r;

	if (!atomic_load(&xattr_missing)) {
		r = syscall(SYS_getxattrat, names, name_of(fd).text, 0, name, &a, sizeof(a));
		if (known(r, &xattr_missing))
			return answer(r);
	}
	return answer(getxattr(fd_path(fd).text, name, value, size));
}

int fd_setxattr(int names, int fd, const char *name, const void *value, size_t size, int flags)
{
	struct xattr_arguments a = { .value = (uintptr_t)value, .size = size, .flags = flags };
	long r;

	if (!atomic_load(&xattr_missing)) {
		r = syscall(SYS_setxattrat, names, name_of(fd).text, 0, name, &a, sizeof(a));
		if (known(r, &xattr_missing))
			return answer(r);
	}
	return answer(setxattr(fd_path(fd).text, name, value, size, flags));
}

int fd_removexattr(int names, int fd, const char *name)
{
	long r;

	if (!atomic_load(&xattr_missing)) {
		r = syscall(SYS_removexattrat, names, name_of(fd).text, 0, name);
		if (known(r, &xattr_missing))
			return answer(r);
	}
	return answer(removexattr(fd_path(fd).text, name));
}

ssize_t fd_listxattr(int names, int fd, char *list, size_t size)
{
	long r;

	if (!atomic_load(&xattr_missing)) {
		r = syscall(SYS_listxattrat, names, name_of(fd).text, 0, list, size);
		if (known(r, &xattr_missing))
			return answer(r);
	}
	return answer(listxattr(fd_path(fd).text, list, size));
}
