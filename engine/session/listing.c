/* SPDX-License-Identifier: MIT */
/*
 * Listings, and whether they bring attributes along.
 *
 * A name with its attributes costs several times as much as the name alone, and a LOOKUP several times that. The kernel asks for
 * attributes at the beginning of each listing, and goes on so while names of the directory are looked at. It is given names
 * alone at first, and few of them: who looks at each name as it comes gets the rest with attributes. While nobody does, they
 * are twice as many each time, which spares a request for each directory. Many read to the end before they look. So the names given alone are counted in their directory, and when one in LOOKED_SHARE of them was looked up,
 * the listings that begin next have attributes; then there is one with names alone again, to see. Each time that they are
 * looked up as well, the next trial is further away.
 *
 * What the kernel keeps of a listing has no attributes to give. While they are wanted, a directory of which it keeps names
 * alone is listed anew, once.
 */
#include "session/internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FIRST_LEAST 4096u        /* bytes of the first answer with names alone: some twenty */
#define FIRST_MOST 65536u
#define LOOKED_SHARE 4u
#define WANTED_LEAST 16u         /* listings */
#define WANTED_MOST 1024u
#define WANTED_GROWS 8u          /* and half of that goes with the next trial */

/* ---- with attributes? ---- */

/* How many names the kernel has without attributes; of what is no directory, whatever the kernel says, a place for nothing. */
static _Atomic uint32_t *bare_of(struct alt_node *n)
{
	static _Atomic uint32_t nothing;

	return n->rec.type == S_IFDIR ? &n->bare : &nothing;
}

static bool wanted_take(struct session *s)
{
	uint32_t left = atomic_load(&s->wanted);

	while (left)
		if (atomic_compare_exchange_weak(&s->wanted, &left, left - 1))
			return true;
	return false;
}

static void wanted_give(struct session *s)
{
	uint32_t next = atomic_load(&s->wanted_next);

	next = next < WANTED_LEAST ? WANTED_LEAST : next;
	atomic_store(&s->first_size, 0);
	atomic_store(&s->wanted, next);
	atomic_store(&s->wanted_next, next < WANTED_MOST / WANTED_GROWS ? next * WANTED_GROWS : WANTED_MOST);
}

/* Two that begin at once may both have the smaller one. */
static uint32_t first_take(struct session *s)
{
	uint32_t size = atomic_load(&s->first_size);

	if (!size)
		size = FIRST_LEAST;
	if (size < FIRST_MOST)
		atomic_store(&s->first_size, size * 2);
	return size;
}

void listing_begin(struct session *s, struct op *op)
{
	struct alt_params *p = &op->rq.params;
	uint32_t size;

	if (p->offset)
		return;
	atomic_store(bare_of(op->pub.node), 0);
	if (!op->rq.plus || wanted_take(s))
		return;
	/* The last trial counts as failed until its names are looked up. */
	atomic_store(&s->wanted_next, atomic_load(&s->wanted_next) / 2);
	p->bits &= ~(uint32_t)ALT_PARAM_PLUS;
	size = first_take(s);
	if (p->size > size)
		p->size = size;
}

void listing_looked(struct session *s, struct alt_node *dir)
{
	uint32_t left = atomic_load(bare_of(dir));

	do
		if (!left)
			return;
	while (!atomic_compare_exchange_weak(bare_of(dir), &left, left > LOOKED_SHARE ? left - LOOKED_SHARE : 0));
	if (left <= LOOKED_SHARE)
		wanted_give(s);
}

bool listing_is_poor(struct session *s, struct alt_node *dir)
{
	return atomic_load(bare_of(dir)) && atomic_load(&s->wanted);
}

/* ---- the answer ---- */

static struct alt_node *dirent_node(struct op *op, struct op_dirent *d)
{
	struct alt_node *n;

	if (!d->has_entry || !d->entry.attr.mode || !strcmp(d->name, ".") || !strcmp(d->name, ".."))
		return NULL;
	n = node_intern(op->pub.volume, &d->entry, op->pub.node->owner);
	d->entry.data = NULL;
	if (n && node_name_bind(op->pub.node, d->name, n) < 0) {
		alt_node_unref(n);
		n = NULL;
	}
	return n;
}

/* Entries that do not fit any more after a view made them longer are read again: each has its own cookie. */
size_t listing_encode(struct session *s, struct op *op, char *out, size_t room, bool deliver)
{
	bool form = op->rq.plus, plus = op->rq.params.bits & ALT_PARAM_PLUS;
	size_t used = 0;
	uint32_t bare = 0;

	for (struct op_dirent *d = op->dirents; d; d = d->next_entry) {
		size_t len = strlen(d->name), size = wire_dirent_size(len, form);
		struct wire_reply rp = { 0 };
		struct alt_node *n = NULL;

		if (deliver && used + size <= room) {
			n = plus ? dirent_node(op, d) : NULL;
			if (n) {
				rp = reply_begin(s, op);
				reply_node(&rp, n);
				node_remember(n, 1);
				notices_missed(op, &d->entry);
				d->told = n->rec.number;
			}
			bare += !plus;
			wire_dirent_put(out + used, d->name, len, d->ino, d->type, d->next, form, &d->entry, &rp);
			used += size;
		} else {
			room = 0;
		}
		if (n)
			alt_node_unref(n);
		else if (d->has_entry && d->entry.data && op->pub.node->owner->forget)
			op->pub.node->owner->forget(op->pub.volume, d->entry.key, d->entry.data);
	}
	atomic_fetch_add(bare_of(op->pub.node), bare);
	return used;
}

void listing_undo(struct op *op)
{
	for (struct op_dirent *d = op->dirents; d; d = d->next_entry)
		if (d->has_entry && d->told)
			node_forget(op->pub.volume, d->told, 1);
}
