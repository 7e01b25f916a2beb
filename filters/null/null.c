/* SPDX-License-Identifier: MIT */
/*
 * null: the template of a filter. It sees nothing, so it costs nothing.
 *
 * To write yours: copy the folder, put your name in place of "null" here and in the manifest, choose an
 * altitude ("altitude groups" lists them), then add to the table what you want to see:
 *
 *	static enum alt_pre yours_pre_open(struct alt_op *op, struct alt_instance *in, void **ctx)
 *	{
 *		return ALT_PRE_SUCCESS_NO_CALLBACK;     (WITH_CALLBACK when the post is wanted too)
 *	}
 *
 *	{ ALT_OP_OPEN, .pre = yours_pre_open },
 *
 * Delete what you do not need: "callbacks" when the table is empty, "query_teardown" when detaching is
 * always welcome. Other members: instance_size, setup and teardown, options, stats, load, the view callbacks.
 */
#include <altitude/filter.h>

static const struct alt_callback callbacks[] = {
	/* one line for each operation */
	{ .code = ALT_OP_END }
};

static const struct alt_filter_registration registration = {
	.size = sizeof(registration),
	.name = "null",
	.altitude = "370020",
	.callbacks = callbacks,
};

ALT_FILTER(registration);
