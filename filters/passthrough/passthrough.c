/* SPDX-License-Identifier: MIT */
/*
 * passthrough: the same pre- and post-operation for everything; changes nothing.
 * The counts say whether each operation that went down came up again.
 */
#include <altitude/filter.h>

#include <stdatomic.h>

struct passthrough {
	atomic_ullong pre, post, drained;
};

static enum alt_pre passthrough_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	struct passthrough *p = alt_instance_data(in);

	(void)op;
	(void)ctx;
	atomic_fetch_add(&p->pre, 1);
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_post passthrough_post(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	struct passthrough *p = alt_instance_data(in);

	(void)ctx;
	atomic_fetch_add(&p->post, 1);
	if (op->flags & ALT_OP_DRAINING)
		atomic_fetch_add(&p->drained, 1);
	return ALT_POST_FINISHED;
}

static void passthrough_stats(struct alt_instance *in, struct alt_report *to)
{
	struct passthrough *p = alt_instance_data(in);

	alt_report_line(to, "pre %llu", atomic_load(&p->pre));
	alt_report_line(to, "post %llu", atomic_load(&p->post));
	alt_report_line(to, "drained %llu", atomic_load(&p->drained));
}

static const struct alt_callback callbacks[] = {
	{ ALT_OP_ALL, passthrough_pre, passthrough_post, 0 },
	{ .code = ALT_OP_END }
};

static const struct alt_filter_registration registration = {
	.size = sizeof(registration),
	.name = "passthrough",
	.altitude = "370030",
	.callbacks = callbacks,
	.instance_size = sizeof(struct passthrough),
	.stats = passthrough_stats,
};

ALT_FILTER(registration);
