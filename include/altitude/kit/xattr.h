/* SPDX-License-Identifier: MIT */
/*
 * Kit: extended attributes.
 */
#ifndef ALTITUDE_KIT_XATTR_H
#define ALTITUDE_KIT_XATTR_H

#include <altitude/kit/names.h>
#include <altitude/kit/time.h>
#include <altitude/op.h>

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

/**
 * Add @size bytes to what GETXATTR or LISTXATTR answers: a value in one call, a list one name (with its final 0) a call.
 * A caller without room (p->size 0) wants the size alone: then bytes are counted and @data is not read.
 * Returns 0, or -ERANGE when the room is too small.
 */
static inline int alt_xattr_add(struct alt_op *op, const void *data, size_t size)
{
	if (op->p->size && (op->r.size > op->p->size || size > op->p->size - op->r.size))
		return -ERANGE;
	if (op->p->size && size)
		memcpy((char *)op->p->buf + op->r.size, data, size);
	op->r.size += size;
	return 0;
}

/** true for user.*, trusted.* and security.*: what needs no meaning to be kept. ACLs (system.*) need one. */
static inline bool alt_xattr_plain(const char *name)
{
	return !strncmp(name, "user.", 5) || !strncmp(name, "trusted.", 8) || !strncmp(name, "security.", 9);
}

/* trusted.* is nobody's business but root's; the kernel checks this for single attributes, not in lists. */
static inline int alt_xattr_list(struct alt_op *op, const struct alt_names *set)
{
	int r = 0;

	for (struct alt_name *x = set->first; x && !r; x = x->next)
		if (!op->caller.uid || strncmp(x->text, "trusted.", 8))
			r = alt_xattr_add(op, x->text, strlen(x->text) + 1);
	return r;
}

static inline int alt_xattr_set(struct alt_op *op, struct alt_names *set)
{
	struct alt_name *x = alt_names_find(set, op->p->name);

	if (!x && op->p->flags & XATTR_REPLACE)
		return -ENODATA;
	if (x && op->p->flags & XATTR_CREATE)
		return -EEXIST;
	return alt_names_put(set, op->p->name, op->p->buf, op->p->size) ? 0 : -ENOSPC;
}

/**
 * What a write or a truncation by open(2) does to a program's attributes, whoever asks: its capabilities end. At chown(2)
 * and truncate(2) the kernel removes them itself.
 */
static inline void alt_xattr_drop_capability(struct alt_names *set)
{
	alt_names_remove(set, alt_names_find(set, "security.capability"));
}

/**
 * Serve GETXATTR, SETXATTR, LISTXATTR or REMOVEXATTR from attributes that are kept in memory.
 * @set    the node's attributes: text and value of each name
 * @ctime  the node's time of change, for SETXATTR and REMOVEXATTR
 * Returns 0 or
 *   -EOPNOTSUPP  not a plain attribute
 *   -ENODATA, -EEXIST, -ERANGE  as in setxattr(2), getxattr(2)
 *   -ENOSPC      no memory
 * The caller holds what guards both.
 */
static inline int alt_xattr_serve(struct alt_op *op, struct alt_names *set, struct alt_time *ctime)
{
	struct alt_name *x;
	int r;

	if (op->code == ALT_OP_LISTXATTR)
		return alt_xattr_list(op, set);
	if (!alt_xattr_plain(op->p->name))
		return -EOPNOTSUPP;
	if (op->code == ALT_OP_SETXATTR) {
		r = alt_xattr_set(op, set);
		if (!r)
			*ctime = alt_time_now();
		return r;
	}
	x = alt_names_find(set, op->p->name);
	if (!x)
		return -ENODATA;
	if (op->code == ALT_OP_GETXATTR)
		return alt_xattr_add(op, alt_name_value(x), x->size);
	alt_names_remove(set, x);
	*ctime = alt_time_now();
	return 0;
}

#endif
