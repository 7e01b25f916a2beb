/* SPDX-License-Identifier: MIT */
#ifndef MODULE_ELF_H
#define MODULE_ELF_H

#include <altitude/error.h>

/* Whether the open file @fd is a whole shared object: 0, or STATUS_INVALID_PARAMETER. What is in it is not judged. */
int elf_check(int fd, const char *path, struct alt_error *err);

#endif
