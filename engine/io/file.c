/* SPDX-License-Identifier: MIT */
#include "io/slot.h"

#include <poll.h>

struct alt_file *file_new(struct alt_node *n, uint32_t flags)
{
	uint64_t number;
	struct alt_file *f = slot_new(n->volume, &n->volume->file_slots, &number);

	if (!f)
		return NULL;
	f->number = number;
	f->node = n;
	f->flags = flags;
	alt_node_ref(n);
	atomic_store(&f->refs, 1); /* from here on it can be found */
	return f;
}

struct alt_file *file_get(struct alt_volume *v, uint64_t number)
{
	struct alt_file *f;
	uint32_t refs;

	pthread_mutex_lock(&v->slots_lock);
	f = slot_find_locked(&v->file_slots, number);
	refs = f ? atomic_load(&f->refs) : 0;
	while (refs && !atomic_compare_exchange_weak(&f->refs, &refs, refs + 1))
		;
	pthread_mutex_unlock(&v->slots_lock);
	return refs ? f : NULL;
}

void file_unref(struct alt_file *f)
{
	struct alt_volume *v;

	if (!f || atomic_fetch_sub(&f->refs, 1) != 1)
		return;
	v = f->node->volume;
	if (f->shared) {
		f->shared = false;
		atomic_store(&f->refs, 1);
		v->run(op_release(f, ALT_OP_GENERATED));
		return;
	}
	contexts_drop(&f->contexts, v, NULL); /* first: whoever looks for contexts finds them by the slot */
	slot_hide(v, &v->file_slots, f->number);
	alt_node_unref(f->node);
	slot_free(v, &v->file_slots, f->number);
}

static void released(struct op *op)
{
	file_unref(op->pub.file); /* the opener's reference */
	op_end(op);
}

/* Nobody is there to be told of a failure, and the owner would keep what it holds for ever: memory is waited for. */
struct op *op_release(struct alt_file *f, uint32_t flags)
{
	struct op *op;

	while (!(op = op_generated(f->directory ? ALT_OP_RELEASEDIR : ALT_OP_RELEASE, f->node, f)))
		poll(NULL, 0, 1);
	op->pub.flags = flags;
	op->rq.params.flags = f->flags;
	op->done = released;
	return op;
}

void file_abandon(struct alt_file *f)
{
	struct alt_volume *v = f->node->volume;

	if (v->run)
		v->run(op_release(f, 0));
	else
		file_unref(f);
}

struct alt_node *alt_file_node(const struct alt_file *f)
{
	return f->node;
}

uint32_t alt_file_flags(const struct alt_file *f)
{
	return f->flags;
}

void *alt_file_data(const struct alt_file *f)
{
	return f->data;
}

void alt_file_set_data(struct alt_file *f, void *data)
{
	f->data = data;
}
