/* SPDX-License-Identifier: MIT */
/*
 * witness: a filter of the tests. It hangs a context on everything it meets, owes a post to every operation, and counts
 * what is given back. The counts are the module's, so the next instance tells what became of the last one.
 */
#include <altitude/context.h>
#include <altitude/filter.h>

#include <stdatomic.h>
#include <stdlib.h>

static atomic_long pres, posts, drains, contexts, cleaned, setups, teardowns;

static void cleanup(void *context)
{
	(void)context;
	atomic_fetch_add(&cleaned, 1);
}

static void *context_new(void)
{
	void *c = alt_context_new(16, cleanup);

	if (c)
		atomic_fetch_add(&contexts, 1);
	return c;
}

/* Get or create, then let go: what hangs there is the object's. */
static void hang(struct alt_instance *in, struct alt_op *op)
{
	void *c = alt_node_get_context(in, op->node);

	if (!c && (c = context_new()))
		alt_node_set_context(in, op->node, ALT_CONTEXT_KEEP, c, NULL);
	alt_context_unref(c);
	c = op->file ? alt_file_get_context(in, op->file) : NULL;
	if (op->file && !c && (c = context_new()))
		alt_file_set_context(in, op->file, ALT_CONTEXT_KEEP, c, NULL);
	alt_context_unref(c);
}

static enum alt_pre witness_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	if (alt_instance_option(in, "quiet"))
		return ALT_PRE_SUCCESS_NO_CALLBACK;
	if (alt_instance_option(in, "changes") && alt_op_edit(op))
		alt_op_dirty(op);
	atomic_fetch_add(&pres, 1);
	hang(in, op);
	*ctx = malloc(8);
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_post witness_post(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	(void)in;
	free(ctx);
	atomic_fetch_add(op->flags & ALT_OP_DRAINING ? &drains : &posts, 1);
	return ALT_POST_FINISHED;
}

static void witness_report(struct alt_instance *in, struct alt_report *to)
{
	(void)in;
	alt_report_line(to, "pres %ld", atomic_load(&pres));
	alt_report_line(to, "posts %ld", atomic_load(&posts));
	alt_report_line(to, "drains %ld", atomic_load(&drains));
	alt_report_line(to, "contexts %ld", atomic_load(&contexts));
	alt_report_line(to, "cleaned %ld", atomic_load(&cleaned));
	alt_report_line(to, "setups %ld", atomic_load(&setups));
	alt_report_line(to, "teardowns %ld", atomic_load(&teardowns));
}

static int witness_setup(struct alt_instance *in, uint32_t flags, struct alt_error *err)
{
	void *c;

	(void)flags;
	(void)err;
	if (alt_instance_option(in, "quiet"))
		return 0;
	c = context_new();
	if (c)
		alt_volume_set_context(in, ALT_CONTEXT_KEEP, c, NULL);
	alt_context_unref(c);
	atomic_fetch_add(&setups, 1);
	return 0;
}

static void witness_teardown_complete(struct alt_instance *in, uint32_t reason)
{
	(void)reason;
	atomic_fetch_add(&teardowns, !alt_instance_option(in, "quiet"));
}

static const struct alt_callback callbacks[] = {
	{ ALT_OP_ALL, witness_pre, witness_post, 0 },
	{ .code = ALT_OP_END }
};

static const struct alt_option options[] = {
	{ "quiet", NULL, "only tell the counts" },
	{ "changes", NULL, "put a copy of the parameters in force: a detach waits for all that is below" },
	{ NULL, NULL, NULL }
};

static const struct alt_filter_registration registration = {
	.size = sizeof(registration),
	.name = "witness",
	.altitude = "1",
	.options = options,
	.callbacks = callbacks,
	.setup = witness_setup,
	.teardown_complete = witness_teardown_complete,
	.stats = witness_report,
};

ALT_FILTER(registration);
