/* SPDX-License-Identifier: MIT */
/*
 * Locks. A byte-range lock belongs to an owner, so each owner on an inode has an open file
 * description of its own and locks with it (F_OFD_SETLK): two clients conflict as two processes do,
 * and so does a process that works below. flock(2) locks go on the open file's own descriptor and
 * leave with it.
 *
 * A lock goes when its owner closes the file, any descriptor of it: the kernel tells by FLUSH. To be told of each close of
 * each file costs a request; so a file is opened without until a lock was first asked of it. A lock taken through such an
 * early open goes with the last descriptor of that open, or when its owner is dead and somebody else wants it.
 */
#include "lock.h"

#include <errno.h>

static unsigned locked_bit(struct alt_key key)
{
	return (key.id ^ (key.dev << 40)) * 0x9e3779b97f4a7c15u >> 48;
}

bool lock_is_unlikely(struct dir_volume *volume, struct alt_key key)
{
	unsigned bit = locked_bit(key);

	return volume->local && key.dev == volume->root->key.dev && !(atomic_load(&volume->locked[bit / 8]) >> bit % 8 & 1);
}

/* From here on: before the lock is there. */
static void lock_expect(struct dir_volume *volume, struct alt_key key)
{
	unsigned bit = locked_bit(key);

	atomic_fetch_or(&volume->locked[bit / 8], 1u << bit % 8);
}

void lock_drop(struct dir_pin *pin, uint64_t owner)
{
	if (owner_drop(pin, owner))
		lock_kick(pin->volume);
}

void lock_release(struct dir_file *file)
{
	if (owners_release(file))
		lock_kick(file->pin->volume);
}

int dir_setlk(struct alt_op *op)
{
	struct dir_file *file = dir_file(op);
	uint32_t type = op->p->lock.type;
	int r;

	if (!(op->p->bits & ALT_PARAM_FLOCK))
		lock_expect(dir_volume(op), file->pin->key);
	r = lock_attempt(op);
	if (r == -EAGAIN && op->p->bits & ALT_PARAM_WAIT)
		return lock_wait(op, file->pin);
	/* Turning a write lock into a read lock lets others in as well. */
	if (r == 0 && type != F_WRLCK)
		lock_kick(dir_volume(op));
	return r;
}
