/* SPDX-License-Identifier: MIT */
/* trace: one line for each finished operation: name, path, result, microseconds. */
#include <altitude/kit/text.h>

#include <altitude/log.h>
#include <limits.h>

static enum alt_pre trace_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	uint64_t *start = alt_op_alloc(op, sizeof(*start));

	(void)in;
	if (!start)
		return ALT_PRE_SUCCESS_NO_CALLBACK;
	*start = alt_now_us();
	*ctx = start;
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_post trace_post(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	uint64_t us = alt_now_us() - *(uint64_t *)ctx;
	char path[PATH_MAX], result[32], line[PATH_MAX + 128];
	FILE *file = alt_instance_data(in);

	if (op->flags & ALT_OP_DRAINING)
		return ALT_POST_FINISHED;
	snprintf(line, sizeof(line), "%s %s %s %llu", alt_op_name(op->code), alt_path_or_why(op, in, path, sizeof(path)),
		 alt_result_text(op, result, sizeof(result)), (unsigned long long)us);
	if (file)
		fprintf(file, "%s\n", line);
	else
		alt_log(LOG_DEBUG, "%s", line);
	return ALT_POST_FINISHED;
}

static int trace_setup(struct alt_instance *in, uint32_t flags, struct alt_error *err)
{
	FILE *file;
	int r = alt_lines_open(in, "trace", &file, err);

	(void)flags;
	alt_instance_set_data(in, file);
	return r;
}

static void trace_teardown_complete(struct alt_instance *in, uint32_t reason)
{
	FILE *file = alt_instance_data(in);

	(void)reason;
	if (file)
		fclose(file);
}

static const struct alt_option options[] = {
	{ "file", "PATH", "append the lines to this file (default: the log)" },
	{ NULL, NULL, NULL }
};

static const struct alt_callback callbacks[] = {
	{ ALT_OP_ALL, trace_pre, trace_post, 0 },
	{ .code = ALT_OP_END }
};

static const struct alt_filter_registration registration = {
	.size = sizeof(registration),
	.name = "trace",
	.altitude = "370040",
	.options = options,
	.callbacks = callbacks,
	.setup = trace_setup,
	.teardown_complete = trace_teardown_complete,
};

ALT_FILTER(registration);
