/* SPDX-License-Identifier: MIT */
/* What is seen rather than done: names on their way down, attributes and entries on their way up, whatever the operation. */
#include "stack/dispatch.h"

#include <errno.h>
#include <string.h>

int view_names(struct op *op, const struct op_frame *f)
{
	const struct alt_filter_registration *reg = f->in->filter->reg;
	struct alt_params *p;
	int r;

	if (!op->pub.p->name || (op->pub.code >= ALT_OP_GETXATTR && op->pub.code <= ALT_OP_REMOVEXATTR))
		return 0;
	p = alt_op_edit(&op->pub);
	for (int i = 0; p && i < 2; i++) {
		const char **name = i ? &p->new_name : &p->name;
		char *lower = *name ? alt_op_alloc(&op->pub, 256) : NULL;

		if (!*name)
			break;
		if (!lower)
			return -ENOMEM;
		r = reg->name_down(f->in, i ? p->other : op->pub.node, *name, lower);
		if (r < 0)
			return r;
		*name = lower;
	}
	if (!p)
		return -ENOMEM;
	alt_op_dirty(&op->pub);
	return 0;
}

/* The file system's reference to an entry's node goes back. */
static void dirent_drop(const struct op *op, struct op_dirent *d)
{
	const struct alt_filesystem_registration *owner = op->pub.node->owner;

	if (d->has_entry && d->entry.data && owner->forget)
		owner->forget(op->pub.volume, d->entry.key, d->entry.data);
	d->has_entry = false;
}

/* Entries have no more room than their names take. */
static int dirent_rename(struct op *op, struct op_dirent **at, const char *name)
{
	struct op_dirent *old = *at, *d;

	if (!strcmp(old->name, name))
		return 0;
	d = op_dirent_new(op, old, NULL, name);
	if (!d)
		return -ENOMEM;
	d->next_entry = old->next_entry;
	*at = d;
	return 0;
}

/* Returns the cookie of the last entry seen, hidden or not; 0: there was none. */
static int64_t view_entries(struct op *op, const struct op_frame *f)
{
	const struct alt_filter_registration *reg = f->in->filter->reg;
	struct op_dirent **at = &op->dirents, *d;
	int64_t last = 0;

	while ((d = *at)) {
		last = d->next;
		if (reg->attributes && d->has_entry)
			reg->attributes(f->in, NULL, &d->entry.attr);
		if (reg->entry && strcmp(d->name, ".") && strcmp(d->name, "..")) {
			char name[256];

			strcpy(name, d->name);
			if (!reg->entry(f->in, op->pub.node, name)) {
				*at = d->next_entry;
				dirent_drop(op, d);
				continue;
			}
			/* The node is known by its lower name: under this one it is to be looked up. */
			dirent_drop(op, d);
			if (dirent_rename(op, at, name) < 0)
				op->pub.status = -ENOMEM;
		}
		at = &(*at)->next_entry;
	}
	op->dirents_tail = at;
	return last;
}

/* What the caller asked for, from @offset on: its own, in another piece. NULL without memory. */
static struct op *listing_more(struct op *op, const struct op_frame *f, int64_t offset)
{
	struct op *more = op_generated(ALT_OP_READDIR, op->pub.node, op->pub.file);

	if (!more)
		return NULL;
	more->pub.flags = op->pub.flags & (ALT_OP_FAST | ALT_OP_REISSUED);
	more->pub.caller = op->pub.caller;
	more->rq.params = *f->params;
	more->rq.plus = op->rq.plus;
	more->rq.params.offset = offset;
	return more;
}

/* An empty answer is the end of the directory: while all that came is hidden, what follows is asked for. */
static struct op *view_listing(struct op *op, const struct op_frame *f)
{
	struct op *more = NULL;
	int64_t last = view_entries(op, f);

	if (last && !op->dirents) {
		more = listing_more(op, f, last);
		if (!more)
			op->pub.status = -ENOMEM;
	}
	return more;
}

void view_more(struct op *op, struct op *more)
{
	if (more->pub.status < 0)
		op->pub.status = more->pub.status;
	op_dirents_take(op, more);
}

struct op *view_answer(struct op *op, const struct op_frame *f)
{
	const struct alt_filter_registration *reg = f->in->filter->reg;

	if (op->pub.status < 0)
		return NULL;
	if (op->pub.code == ALT_OP_READDIR)
		return view_listing(op, f);
	if (reg->attributes && op->pub.r.entry.attr.mode)
		reg->attributes(f->in, op->pub.r.node ? op->pub.r.node : op->pub.node, &op->pub.r.entry.attr);
	return NULL;
}
