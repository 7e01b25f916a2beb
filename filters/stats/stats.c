/* SPDX-License-Identifier: MIT */
/* stats: how often, with how many errors, how long. A line for each operation seen: see "altitude stats". */
#include <altitude/kit/text.h>

#include <stdatomic.h>

struct counter {
	atomic_ullong count, errors, total_us, max_us;
};

static enum alt_pre stats_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	uint64_t *start = alt_op_alloc(op, sizeof(*start));

	(void)in;
	if (start)
		*start = alt_now_us();
	*ctx = start;
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_post stats_post(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	struct counter *c = (struct counter *)alt_instance_data(in) + op->code;
	unsigned long long us = ctx ? alt_now_us() - *(uint64_t *)ctx : 0, max = atomic_load(&c->max_us);

	if (op->flags & ALT_OP_DRAINING)
		return ALT_POST_FINISHED;
	atomic_fetch_add(&c->count, 1);
	atomic_fetch_add(&c->errors, op->status < 0);
	atomic_fetch_add(&c->total_us, us);
	while (us > max && !atomic_compare_exchange_weak(&c->max_us, &max, us))
		;
	return ALT_POST_FINISHED;
}

static void stats_report(struct alt_instance *in, struct alt_report *to)
{
	struct counter *c = alt_instance_data(in);

	for (int code = 1; code < ALT_OP_COUNT; code++) {
		if (!atomic_load(&c[code].count))
			continue;
		alt_report_line(to, "%s %llu %llu %llu %llu", alt_op_name(code),
				atomic_load(&c[code].count), atomic_load(&c[code].errors),
				atomic_load(&c[code].total_us), atomic_load(&c[code].max_us));
	}
}

static const struct alt_callback callbacks[] = {
	{ ALT_OP_ALL, stats_pre, stats_post, 0 },
	{ .code = ALT_OP_END }
};

static const struct alt_filter_registration registration = {
	.size = sizeof(registration),
	.name = "stats",
	.altitude = "370045",
	.callbacks = callbacks,
	.instance_size = ALT_OP_COUNT * sizeof(struct counter),
	.stats = stats_report,
};

ALT_FILTER(registration);
