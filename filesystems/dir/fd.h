/* SPDX-License-Identifier: MIT */
/*
 * Owns: what is done to the file that a descriptor stands for, an O_PATH descriptor too, which most calls refuse.
 * Never: follows a symbolic link, nor walks a path: what the descriptor is of is what is meant.
 */
#ifndef DIR_FD_H
#define DIR_FD_H

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/** The way through /proc, for the calls that take a path and nothing else. Dear: 4 us more than the call itself. */
struct fd_path {
	char text[32];
};

static inline struct fd_path fd_path(int fd)
{
	struct fd_path p;

	snprintf(p.text, sizeof(p.text), "/proc/self/fd/%d", fd);
	return p;
}

/**
 * The directory of this process' descriptors, for those below. Opened after the last fork(2), for it is of the process
 * that opens it. A descriptor, or -errno: /proc is not mounted.
 */
int fd_names_open(void);

/* All with the rights of the thread; 0 or more, or -errno. @names is from fd_names_open(). */

int fd_open(int names, int fd, int flags);
int fd_chmod(int names, int fd, mode_t mode);
/** @mode as access(2)'s, with the effective ids. */
int fd_access(int names, int fd, int mode);
/** A new name for the file, O_TMPFILE's too. */
int fd_link(int names, int fd, int dirfd, const char *name);
ssize_t fd_getxattr(int names, int fd, const char *name, void *value, size_t size);
int fd_setxattr(int names, int fd, const char *name, const void *value, size_t size, int flags);
int fd_removexattr(int names, int fd, const char *name);
ssize_t fd_listxattr(int names, int fd, char *list, size_t size);

#endif
