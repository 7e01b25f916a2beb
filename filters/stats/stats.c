/* SPDX-License-Identifier: MIT */
/* stats: how often, with how many errors, how long. A line for each operation seen: see "altitude stats". */
#include <altitude/filter.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

struct counter {
	atomic_ullong count, errors, total_us, max_us;
};

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

static enum alt_pre stats_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	uint64_t *start = alt_op_alloc(op, sizeof(*start));

	(void)in;
	if (start)
		*start = now_us();
	*ctx = start;
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_post stats_post(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	struct counter *c = (struct counter *)alt_instance_data(in) + op->code;
	unsigned long long us = ctx ? now_us() - *(uint64_t *)ctx : 0, max = atomic_load(&c->max_us);

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

static int stats_setup(struct alt_instance *in, uint32_t flags, struct alt_error *err)
{
	struct counter *c = calloc(ALT_OP_COUNT, sizeof(*c));

	(void)flags;
	if (!c)
		return alt_error_set(err, -ENOMEM, "stats: no memory");
	alt_instance_set_data(in, c);
	return 0;
}

static void stats_teardown_complete(struct alt_instance *in, uint32_t reason)
{
	(void)reason;
	free(alt_instance_data(in));
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
	.setup = stats_setup,
	.teardown_complete = stats_teardown_complete,
	.stats = stats_report,
};

ALT_FILTER(registration);
