/* SPDX-License-Identifier: MIT */
/*
 * Shared open files, of a volume whose opens the kernel does not tell of (open=no). Requests then name the node alone, and
 * all of its users are served by open files that the engine opened for itself.
 *
 *        opened by the first that needs it --> recent --the oldest of too many--> closed
 *                                                |  ^
 *                    its node lost its last name |  | has a name after all
 *                                                v  |
 *                                               kept --> closed, as all are, when the kernel forgets the node
 *
 * A node without a name cannot be opened again, and is remembered by the kernel for as long as somebody has it open: what
 * was unlinked while open is kept, however long the list.
 *
 * A file is closed, by RELEASE to its owner, with its last reference: an operation inside it is never disturbed.
 */
#include "io/io.h"

#include <fcntl.h>

#define SHARED_MOST 256u /* a file may cost its file system two descriptors; 1024 is what many processes may have */

static bool serves(const struct alt_file *f, enum share_want want, uint32_t flags)
{
	uint32_t mode = f->flags & O_ACCMODE;

	if (want == SHARE_READ)
		return mode != O_WRONLY;
	return mode != O_RDONLY && (want == SHARE_ANY || (f->flags & SHARE_FLAGS) == (flags & SHARE_FLAGS));
}

static void unlink_locked(struct alt_file *f)
{
	struct alt_file **at = &f->node->shared;

	while (*at != f)
		at = &(*at)->share_next;
	*at = f->share_next;
	TAILQ_REMOVE(f->share_list, f, share_link);
	if (f->share_list == &f->node->volume->share_recent)
		f->node->volume->share_count--;
	f->share_list = NULL;
}

static void recent_locked(struct alt_file *f)
{
	struct alt_volume *v = f->node->volume;

	if (f->share_list)
		TAILQ_REMOVE(f->share_list, f, share_link);
	if (f->share_list != &v->share_recent)
		v->share_count++;
	f->share_list = &v->share_recent;
	TAILQ_INSERT_HEAD(f->share_list, f, share_link);
}

static void keep_locked(struct alt_file *f)
{
	struct alt_volume *v = f->node->volume;

	TAILQ_REMOVE(f->share_list, f, share_link);
	v->share_count--;
	f->share_list = &v->share_kept;
	TAILQ_INSERT_HEAD(f->share_list, f, share_link);
}

static bool has_name(const struct alt_node *n)
{
	bool has;

	pthread_rwlock_rdlock(&n->volume->tree);
	has = n->names;
	pthread_rwlock_unlock(&n->volume->tree);
	return has;
}

/* The one to be closed; its reference is the caller's. NULL: there are no more than @most. */
static struct alt_file *oldest_take(struct alt_volume *v, uint32_t most)
{
	struct alt_file *f = NULL;

	pthread_mutex_lock(&v->share_lock);
	while (v->share_count > most) {
		f = TAILQ_LAST(&v->share_recent, share_list);
		if (has_name(f->node)) {
			unlink_locked(f);
			break;
		}
		keep_locked(f);
		f = NULL;
	}
	pthread_mutex_unlock(&v->share_lock);
	return f;
}

void shared_shrink(struct alt_volume *v, uint32_t most)
{
	struct alt_file *f;

	while ((f = oldest_take(v, most)))
		file_unref(f);
}

struct alt_file *shared_find(struct alt_node *n, enum share_want want, uint32_t flags)
{
	struct alt_volume *v = n->volume;
	struct alt_file *f;

	pthread_mutex_lock(&v->share_lock);
	for (f = n->shared; f && !serves(f, want, flags); f = f->share_next)
		;
	if (!f && want == SHARE_ANY)
		f = n->shared;
	if (f) {
		atomic_fetch_add(&f->refs, 1);
		recent_locked(f);
	}
	pthread_mutex_unlock(&v->share_lock);
	return f;
}

void shared_add(struct alt_file *f)
{
	struct alt_node *n = f->node;
	struct alt_volume *v = n->volume;

	pthread_mutex_lock(&v->share_lock);
	f->shared = true;
	atomic_store(&f->released, true); /* it is not the kernel's to release */
	/* Nobody would close what the kernel does not know, or has just forgotten. */
	if (atomic_load(&n->rec.lookups)) {
		if (!f->share_list) {
			atomic_fetch_add(&f->refs, 1);
			f->share_next = n->shared;
			n->shared = f;
		}
		recent_locked(f);
	}
	pthread_mutex_unlock(&v->share_lock);
	shared_shrink(v, SHARED_MOST);
}

void shared_drop(struct alt_node *n)
{
	struct alt_volume *v = n->volume;
	struct alt_file *f;

	do {
		pthread_mutex_lock(&v->share_lock);
		/* The kernel may have been told of it again. */
		f = atomic_load(&n->rec.lookups) ? NULL : n->shared;
		if (f)
			unlink_locked(f);
		pthread_mutex_unlock(&v->share_lock);
		file_unref(f);
	} while (f);
}

void shared_drop_all(struct alt_volume *v)
{
	struct alt_file *f;

	do {
		pthread_mutex_lock(&v->share_lock);
		f = TAILQ_FIRST(&v->share_recent);
		if (!f)
			f = TAILQ_FIRST(&v->share_kept);
		if (f)
			unlink_locked(f);
		pthread_mutex_unlock(&v->share_lock);
		file_unref(f);
	} while (f);
}
