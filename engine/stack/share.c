/* SPDX-License-Identifier: MIT */
/*
 * The open files that requests without a handle are served by: opened when one is needed first, with the server's rights,
 * since the kernel has checked those of whoever asks. See io/shared.c for how long they stay.
 */
#include "stack/dispatch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

struct need { struct alt_node *node; enum share_want want; uint32_t flags; struct alt_file **file; };

/* What @op has yet to be given. */
static bool lacks(struct op *op, struct need *ret)
{
	struct alt_params *p = &op->rq.params;

	*ret = (struct need){ op->pub.node, SHARE_READ, 0, &op->pub.file };
	if (op->keep_node)
		*ret = (struct need){ op->keep_node, SHARE_ANY, 0, &op->keep };
	else if (op->pub.code == ALT_OP_WRITE)
		*ret = (struct need){ op->pub.node, SHARE_WRITE, p->flags, &op->pub.file };
	else if (op->pub.code == ALT_OP_FALLOCATE)
		ret->want = SHARE_WRITE;
	else if (op->pub.code == ALT_OP_FSYNC)
		ret->want = SHARE_ANY;
	else if (op->pub.code == ALT_OP_COPY_FILE_RANGE && op->pub.file)
		*ret = (struct need){ p->other, SHARE_WRITE, 0, &p->other_file };
	return !*ret->file;
}

/* Some errors are worth another try: with fewer files open; to write what nobody may read. */
static bool try_again(struct op *op, const struct need *need, int error)
{
	uint32_t try = error == -EMFILE || error == -ENFILE ? SHARE_TRIED_FEWER :
		       error == -EACCES && need->want == SHARE_ANY ? SHARE_TRIED_WRITE : 0;

	if (!try || (op->share_tried & try))
		return false;
	op->share_tried |= try;
	if (try == SHARE_TRIED_FEWER)
		shared_shrink(op->pub.volume, 0);
	return true;
}

void share_opened(struct op *op, struct op *open)
{
	int r = open->pub.status;
	struct need need;

	lacks(op, &need);
	if (!r) {
		*need.file = open->pub.file;
		open->pub.file = open->pub.r.file = NULL;
		shared_add(*need.file);
		op->share_tried = 0;
	} else if (!try_again(op, &need, r)) {
		op->share_error = r;
	}
}

/* Two that come at the same time may both open it; the file that is used less is closed as others are. */
int share_give(struct op *op, struct op **ret)
{
	struct need need;
	struct op *open;

	while (!op->share_error && lacks(op, &need)) {
		bool writes = need.want == SHARE_WRITE || (op->share_tried & SHARE_TRIED_WRITE);

		*need.file = shared_find(need.node, need.want, need.flags);
		if (*need.file)
			continue;
		open = op_generated(ALT_OP_OPEN, need.node, NULL);
		if (!open)
			return -ENOMEM;
		open->pub.flags |= op->pub.flags & (ALT_OP_FAST | ALT_OP_REISSUED);
		open->rq.params.flags = writes ? O_WRONLY | (need.flags & SHARE_FLAGS) : O_RDONLY;
		*ret = open;
		return 1;
	}
	return op->share_error;
}

bool share_keeps(struct op *op)
{
	const struct alt_params *p = op->pub.p;
	struct alt_node *n = NULL;

	if (op->pub.code == ALT_OP_UNLINK)
		n = node_child(op->pub.node, p->name);
	else if (op->pub.code == ALT_OP_RENAME && !(p->flags & (RENAME_EXCHANGE | RENAME_NOREPLACE)))
		n = node_child(p->other, p->new_name);
	if (!n)
		return false;
	if (n->rec.type == S_IFREG && atomic_load(&n->rec.lookups) && n->owner->ops[ALT_OP_OPEN])
		op->keep_node = n;
	else
		alt_node_unref(n);
	return op->keep_node;
}
