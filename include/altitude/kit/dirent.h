/* SPDX-License-Identifier: MIT */
/*
 * Kit: answering READDIR.
 */
#ifndef ALTITUDE_KIT_DIRENT_H
#define ALTITUDE_KIT_DIRENT_H

#include <altitude/op.h>

#include <dirent.h>

/**
 * Begin the answer of READDIR with "." and "..", as far as the reader has not had them: their cookies are 1 and 2, so
 * those of the entries that follow are 3 and up (as kit/names.h gives them).
 * @ino, @parent  numbers of the directory and of its parent; the root is its own
 * Returns false when the answer is full.
 */
static inline bool alt_dirent_dots(struct alt_op *op, uint64_t ino, uint64_t parent)
{
	return (op->p->offset >= 1 || alt_dirent_add(op, ".", ino, DT_DIR, 1, NULL)) &&
	       (op->p->offset >= 2 || alt_dirent_add(op, "..", parent, DT_DIR, 2, NULL));
}

#endif
