/* SPDX-License-Identifier: MIT */
#ifndef MOUNT_HOLDERS_H
#define MOUNT_HOLDERS_H

#include <stddef.h>

/*
 * Who holds a mount busy: "vim (pid 12), bash (pid 15)". Compares the paths of links in /proc, so that the mount itself
 * is never touched. Returns how many processes there are; those of other users are seen by root alone.
 */
int mount_holders(const char *target, char *buf, size_t size);

#endif
