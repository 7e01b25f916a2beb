/* SPDX-License-Identifier: MIT */
/* The parts of locking: owner.c knows what is locked, wait.c waits, lock.c serves the requests. */
#ifndef DIR_LOCK_H
#define DIR_LOCK_H

#include "node.h"

/** Lock or unlock, as the operation says: 0, -EAGAIN when somebody has it, or -errno. Never waits. */
int lock_attempt(const struct alt_op *op);
/** Drop every byte-range lock of an owner. Returns whether there was such an owner. */
bool owner_drop(struct dir_pin *pin, uint64_t id);
/** Drop what was locked through a file that is closed for good. Returns whether there was anything. */
bool owners_release(struct dir_file *file);

/** The lock of @op, on @pin, is somebody else's: ALT_PENDING, or -errno. */
int lock_wait(struct alt_op *op, struct dir_pin *pin);
/** A lock was dropped: those that wait are worth trying again. */
void lock_kick(struct dir_volume *volume);

#endif
