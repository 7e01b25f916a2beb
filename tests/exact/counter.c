/* SPDX-License-Identifier: MIT */
/* counter: a filter of the tests. It adds up the bytes of every write, copy and allocation that succeeded. */
#include <altitude/filter.h>

#include <stdatomic.h>

static atomic_llong sums[ALT_OP_COUNT];

static enum alt_pre counter_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	(void)op;
	(void)in;
	(void)ctx;
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_post counter_post(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	(void)in;
	(void)ctx;
	if (op->status == 0)
		atomic_fetch_add(&sums[op->code], op->code == ALT_OP_FALLOCATE ? op->p->length : (long long)op->r.size);
	return ALT_POST_FINISHED;
}

static void counter_report(struct alt_instance *in, struct alt_report *to)
{
	static const enum alt_op_code codes[] = { ALT_OP_WRITE, ALT_OP_COPY_FILE_RANGE, ALT_OP_FALLOCATE };

	(void)in;
	for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
		alt_report_line(to, "%s %lld", alt_op_name(codes[i]), atomic_load(&sums[codes[i]]));
}

static const struct alt_callback callbacks[] = {
	{ ALT_OP_WRITE, counter_pre, counter_post, 0 },
	{ ALT_OP_FALLOCATE, counter_pre, counter_post, 0 },
	{ ALT_OP_COPY_FILE_RANGE, counter_pre, counter_post, 0 },
	{ .code = ALT_OP_END }
};

static const struct alt_filter_registration registration = {
	.size = sizeof(registration),
	.name = "counter",
	.altitude = "370001",
	.callbacks = callbacks,
	.stats = counter_report,
};

ALT_FILTER(registration);
