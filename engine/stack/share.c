/* SPDX-License-Identifier: MIT */
/*
 * The open files that requests without a handle are served by: opened when one is needed first, with the server's rights,
 * since the kernel has checked those of whoever asks. See io/shared.c for how long they stay.
 */
#include "stack/compiled.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

static int share_open(struct alt_node *n, uint32_t flags, struct alt_file **ret)
{
	int r = stack_open(n, NULL, flags, ret);

	if (r == -EMFILE || r == -ENFILE) {
		shared_shrink(n->volume, 0);
		r = stack_open(n, NULL, flags, ret);
	}
	return r;
}

/* Two that come at the same time may both open it; the file that is used less is closed as others are. */
static int share_get(struct alt_node *n, enum share_want want, uint32_t flags, struct alt_file **ret)
{
	struct alt_file *f = shared_find(n, want, flags);
	int r = 0;

	if (!f) {
		r = share_open(n, want == SHARE_WRITE ? O_WRONLY | (flags & SHARE_FLAGS) : O_RDONLY, &f);
		if (r == -EACCES && want == SHARE_ANY)
			r = share_open(n, O_WRONLY, &f);
		if (r < 0)
			return r;
		shared_add(f);
	}
	*ret = f;
	return 0;
}

int stack_share(struct op *op)
{
	struct alt_params *p = &op->rq.params;
	struct alt_node *n = op->pub.node;
	int r;

	switch (op->pub.code) {
	case ALT_OP_WRITE:
		return share_get(n, SHARE_WRITE, p->flags, &op->pub.file);
	case ALT_OP_FALLOCATE:
		return share_get(n, SHARE_WRITE, 0, &op->pub.file);
	case ALT_OP_FSYNC:
		return share_get(n, SHARE_ANY, 0, &op->pub.file);
	case ALT_OP_COPY_FILE_RANGE:
		r = share_get(n, SHARE_READ, 0, &op->pub.file);
		return r < 0 ? r : share_get(p->other, SHARE_WRITE, 0, &p->other_file);
	default:
		return share_get(n, SHARE_READ, 0, &op->pub.file);
	}
}

void stack_keep(struct op *op)
{
	const struct alt_params *p = op->pub.p;
	struct alt_node *n = NULL;

	if (op->pub.code == ALT_OP_UNLINK)
		n = node_child(op->pub.node, p->name);
	else if (op->pub.code == ALT_OP_RENAME && !(p->flags & (RENAME_EXCHANGE | RENAME_NOREPLACE)))
		n = node_child(p->other, p->new_name);
	if (!n)
		return;
	/* One that cannot be opened is unlinked all the same. */
	if (n->rec.type == S_IFREG && atomic_load(&n->rec.lookups) && n->owner->ops[ALT_OP_OPEN])
		share_get(n, SHARE_ANY, 0, &op->keep);
	alt_node_unref(n);
}
