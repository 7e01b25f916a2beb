/* SPDX-License-Identifier: MIT */
/* A place in the tree of files that may lie in a mount which does not answer. */
#ifndef MOUNT_PLACE_H
#define MOUNT_PLACE_H

#include <sys/stat.h>
#include <sys/types.h>

/*
 * statx(2) of what is there now, not of what the kernel remembers. Links are followed. 0 or -errno; -ETIMEDOUT when who
 * serves the place does not answer for some seconds.
 */
int place_stat(const char *path, struct statx *ret);

/* The process that has this connection of FUSE open, the minor number of its mounts' device; 0: none is seen, or the kernel
 * does not tell (before Linux 6.16). A user sees the user's own. */
pid_t place_server(unsigned connection);

#endif
