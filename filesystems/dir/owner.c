/* SPDX-License-Identifier: MIT */
/* What is locked of an inode, and by whom: each owner's open file description, and the ranges it has. Nothing here waits. */
#include "lock.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

/** A part of a file an owner has locked; kept to tell GETLK whose it is. */
struct lock_range {
	struct lock_range *next;
	uint64_t start, end;             /* inclusive */
	uint32_t pid;
};

struct lock_owner {
	struct lock_owner *next;
	uint64_t id;
	int fd;                          /* its own open file description */
	bool unflushed;                  /* locked through a file whose closes nobody tells of */
	const struct dir_file *file;     /* by which it locked last; never followed */
	struct lock_range *ranges;
};

static struct lock_owner *owner_find_locked(const struct dir_pin *pin, uint64_t id)
{
	struct lock_owner *owner = pin->owners;

	while (owner && owner->id != id)
		owner = owner->next;
	return owner;
}

static struct lock_owner *owner_by_file_locked(const struct dir_pin *pin, const struct dir_file *file)
{
	struct lock_owner *owner = pin->owners;

	while (owner && owner->file != file)
		owner = owner->next;
	return owner;
}

/* As much access as there is: a write lock asks for a descriptor that can write. */
static int lock_open(const struct dir_pin *pin)
{
	static const int modes[] = { O_RDWR, O_RDONLY, O_WRONLY };
	int fd = -1;

	for (int i = 0; i < 3 && fd < 0; i++)
		fd = fd_open(pin->volume->names, pin->fd, modes[i] | O_NONBLOCK | O_CLOEXEC);
	return fd;
}

static int owner_get_locked(struct dir_pin *pin, uint64_t id, struct lock_owner **ret)
{
	struct lock_owner *owner = owner_find_locked(pin, id);

	if (!owner) {
		owner = calloc(1, sizeof(*owner));
		if (!owner)
			return -ENOMEM;
		owner->id = id;
		owner->fd = lock_open(pin);
		if (owner->fd < 0) {
			int r = owner->fd;

			free(owner);
			return r;
		}
		owner->next = pin->owners;
		pin->owners = owner;
	}
	*ret = owner;
	return 0;
}

static void owner_free(struct lock_owner *owner)
{
	struct lock_range *range;

	while ((range = owner->ranges)) {
		owner->ranges = range->next;
		free(range);
	}
	close(owner->fd); /* and with it every lock */
	free(owner);
}

/* Returns whether there was such an owner. */
static bool owner_drop_locked(struct dir_pin *pin, uint64_t id)
{
	for (struct lock_owner **at = &pin->owners; *at; at = &(*at)->next) {
		struct lock_owner *owner = *at;

		if (owner->id != id)
			continue;
		*at = owner->next;
		owner_free(owner);
		return true;
	}
	return false;
}

/* An owner that has nothing locked keeps no descriptor. */
static void owner_trim_locked(struct dir_pin *pin, struct lock_owner *owner)
{
	if (!owner->ranges)
		owner_drop_locked(pin, owner->id);
}

bool owner_drop(struct dir_pin *pin, uint64_t id)
{
	bool dropped;

	pthread_mutex_lock(&pin->lock);
	dropped = owner_drop_locked(pin, id);
	pthread_mutex_unlock(&pin->lock);
	return dropped;
}

void lock_drop_all(struct dir_pin *pin)
{
	while (pin->owners)
		owner_drop_locked(pin, pin->owners->id);
}

static struct lock_range *range_new(uint64_t start, uint64_t end, uint32_t pid)
{
	struct lock_range *range = malloc(sizeof(*range));

	if (range)
		*range = (struct lock_range){ .start = start, .end = end, .pid = pid };
	return range;
}

/*
 * Take @start..@end out of the ranges. @spare is used when that makes two of one.
 * Returns @spare, or NULL when it was used.
 */
static struct lock_range *ranges_cut(struct lock_owner *owner, uint64_t start, uint64_t end,
				     struct lock_range *spare)
{
	struct lock_range **at = &owner->ranges, *range;

	while ((range = *at)) {
		if (range->end < start || range->start > end) {
			at = &range->next;
		} else if (range->start < start && range->end > end) {
			*spare = (struct lock_range){ range->next, end + 1, range->end,
						      range->pid };
			range->next = spare;
			range->end = start - 1;
			return NULL;
		} else if (range->start < start) {
			range->end = start - 1;
			at = &range->next;
		} else if (range->end > end) {
			range->start = end + 1;
			at = &range->next;
		} else {
			*at = range->next;
			free(range);
		}
	}
	return spare;
}

static void ranges_set(struct lock_owner *owner, const struct alt_lock *lock,
		       struct lock_range *spare, struct lock_range *added)
{
	free(ranges_cut(owner, lock->start, lock->end, spare));
	if (lock->type == F_UNLCK) {
		free(added);
		return;
	}
	added->next = owner->ranges;
	owner->ranges = added;
}

static struct flock flock_of(const struct alt_lock *lock)
{
	bool to_end = lock->end >= INT64_MAX;

	return (struct flock){
		.l_type = lock->type, .l_whence = SEEK_SET, .l_start = lock->start,
		.l_len = to_end ? 0 : (off_t)(lock->end - lock->start + 1),
	};
}

/* The records are made before the lock, so that none is held that is not known. */
static int range_lock_locked(struct dir_pin *pin, struct lock_owner *owner,
			     const struct alt_lock *lock)
{
	struct lock_range *spare = range_new(0, 0, 0);
	struct lock_range *added = range_new(lock->start, lock->end, lock->pid);
	struct flock fl = flock_of(lock);
	int r = spare && added ? 0 : -ENOMEM;

	if (r == 0 && fcntl(owner->fd, F_OFD_SETLK, &fl) < 0)
		r = errno == EACCES ? -EAGAIN : -errno;
	if (r < 0) {
		free(spare);
		free(added);
	} else {
		ranges_set(owner, lock, spare, added);
	}
	owner_trim_locked(pin, owner);
	return r;
}

static int locker_add_locked(struct dir_file *file, struct lock_owner *owner)
{
	uint64_t *more;

	owner->unflushed = true;
	for (unsigned i = 0; i < file->locker_count; i++)
		if (file->lockers[i] == owner->id)
			return 0;
	more = reallocarray(file->lockers, file->locker_count + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	file->lockers = more;
	more[file->locker_count++] = owner->id;
	return 0;
}

/*
 * A file is closed for good. A process has dropped its locks when it closed the file; whoever has one still is the open file
 * itself (F_OFD_SETLK), which no message names. A flock(2) lock would stay with the kernel, which holds the descriptor as
 * long as the data of another open passes through it.
 */
bool owners_release(struct dir_file *file)
{
	struct dir_pin *pin = file->pin;
	struct lock_owner *owner;
	bool dropped;

	pthread_mutex_lock(&pin->lock);
	dropped = file->flocked;
	if (file->flocked)
		flock(file->fd, LOCK_UN);
	while ((owner = owner_by_file_locked(pin, file))) {
		owner_drop_locked(pin, owner->id);
		dropped = true;
	}
	for (unsigned i = 0; i < file->locker_count; i++)
		dropped |= owner_drop_locked(pin, file->lockers[i]);
	pthread_mutex_unlock(&pin->lock);
	free(file->lockers);
	return dropped;
}

/* Drop what the dead left behind; whether there was anything. */
static bool dead_drop_locked(struct dir_pin *pin)
{
	struct lock_owner *owner = pin->owners, *next;
	bool dropped = false;

	for (; owner; owner = next) {
		next = owner->next;
		if (!owner->unflushed || !owner->ranges || kill(owner->ranges->pid, 0) == 0 || errno != ESRCH)
			continue;
		owner_drop_locked(pin, owner->id);
		dropped = true;
	}
	return dropped;
}

static int range_lock(struct dir_file *file, const struct alt_lock *lock)
{
	struct dir_pin *pin = file->pin;
	struct lock_owner *owner;
	int r = 0;

	pthread_mutex_lock(&pin->lock);
	if (lock->type == F_UNLCK && !owner_find_locked(pin, lock->owner))
		goto unlock; /* nothing to drop */
	do {
		r = owner_get_locked(pin, lock->owner, &owner);
		if (r == 0 && file->unflushed)
			r = locker_add_locked(file, owner);
		if (r == 0) {
			owner->file = file;
			r = range_lock_locked(pin, owner, lock);
		}
		else if (r < 0 && (owner = owner_find_locked(pin, lock->owner)))
			owner_trim_locked(pin, owner);
	} while (r == -EAGAIN && dead_drop_locked(pin));
unlock:
	pthread_mutex_unlock(&pin->lock);
	return r;
}

static int whole_lock(struct dir_file *file, uint32_t type)
{
	int how = type == F_RDLCK ? LOCK_SH : type == F_WRLCK ? LOCK_EX : LOCK_UN;

	pthread_mutex_lock(&file->pin->lock);
	file->flocked = true;
	pthread_mutex_unlock(&file->pin->lock);
	return flock(file->fd, how | LOCK_NB) < 0 ? -errno : 0;
}

int lock_attempt(const struct alt_op *op)
{
	if (op->p->bits & ALT_PARAM_FLOCK)
		return whole_lock(dir_file(op), op->p->lock.type);
	return range_lock(dir_file(op), &op->p->lock);
}

/* Who of our own clients has a lock at @start, other than @owner; 0: nobody. */
static uint32_t pid_at_locked(const struct dir_pin *pin, uint64_t owner, uint64_t start)
{
	for (const struct lock_owner *o = pin->owners; o; o = o->next) {
		const struct lock_range *range = o->id == owner ? NULL : o->ranges;

		for (; range; range = range->next)
			if (range->start <= start && start <= range->end)
				return range->pid;
	}
	return 0;
}

static int range_ask_locked(struct alt_op *op, struct dir_pin *pin, struct lock_owner *owner)
{
	const struct alt_lock *asked = &op->p->lock;
	struct flock fl = flock_of(asked);
	uint32_t pid;

	if (fcntl(owner->fd, F_OFD_GETLK, &fl) < 0)
		return -errno;
	op->r.lock = *asked;
	op->r.lock.type = fl.l_type;
	if (fl.l_type == F_UNLCK)
		return 0;
	pid = pid_at_locked(pin, asked->owner, fl.l_start);
	op->r.lock.start = fl.l_start;
	op->r.lock.end = fl.l_len ? (uint64_t)(fl.l_start + fl.l_len - 1) : (uint64_t)INT64_MAX;
	op->r.lock.pid = pid ? pid : fl.l_pid > 0 ? (uint32_t)fl.l_pid : 0;
	return 0;
}

int dir_getlk(struct alt_op *op)
{
	struct dir_pin *pin = dir_file(op)->pin;
	struct lock_owner *owner;
	int r;

	pthread_mutex_lock(&pin->lock);
	r = owner_get_locked(pin, op->p->lock.owner, &owner);
	if (r == 0) {
		r = range_ask_locked(op, pin, owner);
		owner_trim_locked(pin, owner);
	}
	pthread_mutex_unlock(&pin->lock);
	return r;
}
