/* SPDX-License-Identifier: MIT */
/* rot13: a byte transform. Files read as text above are rot13 below. */
#include <altitude/filter.h>

#include <errno.h>

static void turn(unsigned char *to, const unsigned char *from, size_t size)
{
	for (size_t n = 0; n < size; n++) {
		unsigned char c = from[n], small = c | 0x20;

		to[n] = small < 'a' || small > 'z' ? c : small < 'n' ? c + 13 : c - 13;
	}
}

/* The caller's buffer is not ours to change: those below get a copy. */
static enum alt_pre rot13_pre_write(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	struct alt_params *p = alt_op_edit(op);
	void *copy = alt_op_alloc(op, op->p->size ? op->p->size : 1);

	(void)in;
	(void)ctx;
	if (!p || !copy) {
		op->status = -ENOMEM;
		return ALT_PRE_COMPLETE;
	}
	turn(copy, op->p->buf, op->p->size);
	p->buf = copy;
	alt_op_dirty(op);
	return ALT_PRE_SUCCESS_NO_CALLBACK;
}

static enum alt_post rot13_post_read(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	(void)in;
	(void)ctx;
	if (op->status == 0 && !(op->flags & ALT_OP_DRAINING))
		turn(op->p->buf, op->p->buf, op->r.size);
	return ALT_POST_FINISHED;
}

static const struct alt_callback callbacks[] = {
	{ .code = ALT_OP_WRITE, .pre = rot13_pre_write },
	{ .code = ALT_OP_READ, .post = rot13_post_read },
	{ .code = ALT_OP_END }
};

static const struct alt_filter_registration registration = {
	.size = sizeof(registration),
	.name = "rot13",
	.altitude = "141000",
	.callbacks = callbacks,
};

ALT_FILTER(registration);
