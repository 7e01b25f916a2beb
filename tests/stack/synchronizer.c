/* SPDX-License-Identifier: MIT */
/*
 * synchronizer: a filter of the tests. It wants its post of GETXATTR on the thread of the pre, and counts both, and those posts
 * that came on another one. FLAGS is what it says of it.
 */
#include <altitude/filter.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

static atomic_long pres, posts, strayed;

static enum alt_pre synchronizer_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	(void)op;
	(void)in;
	atomic_fetch_add(&pres, 1);
	*ctx = (void *)(uintptr_t)pthread_self();
	return ALT_PRE_SYNCHRONIZE;
}

static enum alt_post synchronizer_post(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	(void)op;
	(void)in;
	atomic_fetch_add(&posts, 1);
	atomic_fetch_add(&strayed, !pthread_equal((pthread_t)(uintptr_t)ctx, pthread_self()));
	return ALT_POST_FINISHED;
}

static void synchronizer_report(struct alt_instance *in, struct alt_report *to)
{
	(void)in;
	alt_report_line(to, "pres %ld", atomic_load(&pres));
	alt_report_line(to, "posts %ld", atomic_load(&posts));
	alt_report_line(to, "strayed %ld", atomic_load(&strayed));
}

static const struct alt_callback callbacks[] = {
	{ ALT_OP_GETXATTR, synchronizer_pre, synchronizer_post, FLAGS },
	{ .code = ALT_OP_END }
};

static const struct alt_filter_registration registration = {
	.size = sizeof(registration),
	.name = "synchronizer",
	.altitude = "390000",
	.callbacks = callbacks,
	.stats = synchronizer_report,
};

ALT_FILTER(registration);
