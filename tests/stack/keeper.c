/* SPDX-License-Identifier: MIT */
/*
 * keeper: a filter of the tests that is not done when it is unloaded. With "context" it hangs a context on its instance and keeps a
 * reference; with "port=NAME" it opens a port that nobody closes. Over the port, "context" releases the one and "port" closes
 * the other. VERSION is what it reports.
 */
#include <altitude/context.h>
#include <altitude/filter.h>
#include <altitude/port.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

static void *context;
static struct alt_port *port;
static long cleaned;

static void keeper_cleanup(void *c)
{
	(void)c;
	cleaned++;
}

/* Its own thread cannot close it; and whoever does must not come back here, where nothing may be any more. */
static int port_close_elsewhere(void)
{
	pthread_t thread;
	int r = pthread_create(&thread, NULL, (void *(*)(void *))(void (*)(void))alt_port_close, port);

	if (!r)
		pthread_detach(thread);
	return -r;
}

static long keeper_message(void *arg, void *cookie, const void *in, size_t size, void *out, size_t room)
{
	(void)arg;
	(void)cookie;
	(void)room;
	if (size == 4 && !memcmp(in, "port", 4))
		return port_close_elsewhere();
	alt_context_unref(context);
	context = NULL;
	memcpy(out, &cleaned, sizeof(cleaned));
	return sizeof(cleaned);
}

static const struct alt_port_handlers handlers = { .message = keeper_message };

static void keeper_report(struct alt_instance *in, struct alt_report *to)
{
	(void)in;
	alt_report_line(to, "version %d", VERSION);
}

static int keeper_setup(struct alt_instance *in, uint32_t flags, struct alt_error *err)
{
	const char *name = alt_instance_option(in, "port");

	(void)flags;
	if (alt_instance_option(in, "context") && !context) {
		context = alt_context_new(16, keeper_cleanup);
		if (!context || alt_instance_set_context(in, ALT_CONTEXT_KEEP, context, NULL) < 0)
			return -ENOMEM;
	}
	return name && !port ? alt_port_open(name, &handlers, NULL, 1, &port, err) : 0;
}

/* What hangs on files goes with the instance, whoever has them open. */
static enum alt_pre keeper_pre_read(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	void *c = alt_context_new(16, keeper_cleanup);

	(void)ctx;
	if (c)
		alt_file_set_context(in, op->file, ALT_CONTEXT_KEEP, c, NULL);
	alt_context_unref(c);
	return ALT_PRE_SUCCESS_NO_CALLBACK;
}

static const struct alt_option options[] = {
	{ "context", NULL, "keep a context" },
	{ "port", "NAME", "open a port and leave it" },
	{ NULL, NULL, NULL }
};

static const struct alt_callback callbacks[] = {
	{ ALT_OP_READ, keeper_pre_read, NULL, 0 },
	{ .code = ALT_OP_END }
};

static const struct alt_filter_registration registration = {
	.size = sizeof(registration),
	.name = "keeper",
	.altitude = "1000",
	.options = options,
	.callbacks = callbacks,
	.setup = keeper_setup,
	.stats = keeper_report,
};

ALT_FILTER(registration);
