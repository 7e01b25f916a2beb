/* SPDX-License-Identifier: MIT */
/* A server's life: from a plan to a mounted volume, and to its end, whoever brings it. */
#include "control/control.h"
#include "control/lint.h"
#include "module/module.h"
#include <altitude/log.h>
#include <altitude/ntstatus.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

static void signals_block(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, set, NULL);
}

static void limit_raise(int which)
{
	struct rlimit limit;

	if (!getrlimit(which, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(which, &limit);
	}
}

/*
 * Modes come from callers, umask applied; the server's own would take bits away once more. How large a file may become is
 * limited for callers as well: where it is for the server, they get EFBIG, not its end.
 */
static void process_prepare(void)
{
	sigset_t set;

	signals_block(&set);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	umask(0);
	limit_raise(RLIMIT_NOFILE);
	limit_raise(RLIMIT_FSIZE);
}

static int volume_open(struct server *s, struct server_plan *plan, struct alt_error *err)
{
	struct io_option *options = plan->options;
	char *name;
	int r;

	plan->options = NULL;
	r = module_load(plan->filesystem, ALT_MODULE_FILESYSTEM, &s->module, err);
	if (r < 0) {
		options_free(options);
		return r;
	}
	module_set_state(s->module, MODULE_FILTERING);
	if (asprintf(&name, "%s:%s", module_name(s->module), plan->arg) < 0) {
		options_free(options);
		return -ENOMEM;
	}
	r = volume_new(name, module_descriptor(s->module)->registration, plan->arg, options, &s->volume, err);
	free(name);
	return r < 0 ? r : stack_volume_init(s->volume);
}

/*
 * What the registry attaches to every new volume, in start order. A filter of start type boot or system guards the
 * volume: without it there is no mount. One of type auto is missed with a word in the log.
 */
static int manifest_attach(struct server *s, const struct manifest *m, struct alt_error *err)
{
	int r = 0;

	for (size_t i = 0; !r && i < m->instance_count; i++) {
		const struct manifest_instance *in = &m->instances[i];
		struct io_option *none;

		if (in->flags & MANIFEST_NO_AUTOMATIC)
			continue;
		none = options_parse(NULL, 0);
		r = !none ? alt_error_set(err, -ENOMEM, "no memory") :
			    server_attach(s, m->name, in->name, in->altitude, none, ALT_SETUP_AUTOMATIC | ALT_SETUP_NEWLY_MOUNTED, err);
		if (r < 0 && err->status == STATUS_FLT_DO_NOT_ATTACH)
			r = 0; /* it declined this volume, as it may */
	}
	return r;
}

static void lint_log(void *arg, const char *text)
{
	alt_log(LOG_WARNING, "%s", text);
}

static int registry_attach(struct server *s, struct alt_error *err)
{
	struct manifest **list;
	size_t count;
	int r = registry_read(registry_directory(), &list, &count, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++) {
		struct alt_error own = { 0 };
		int one = 0;

		if (!r && list[i]->start <= START_AUTO && !strcmp(list[i]->kind, "filter")) {
			manifest_lint(list[i], lint_log, NULL);
			one = manifest_attach(s, list[i], &own);
		}
		if (one < 0 && list[i]->start == START_AUTO)
			alt_log(LOG_WARNING, "filter '%s' does not start: %s", list[i]->name, own.text);
		else if (one < 0)
			r = alt_error_set(err, one, "filter '%s' (start type boot or system) does not start: %s", list[i]->name, own.text);
		manifest_free(list[i]);
	}
	free(list);
	return r;
}

static int filters_attach(struct server *s, const struct server_plan *plan, struct alt_error *err)
{
	for (int i = 0; i < plan->filter_count; i++) {
		const struct server_filter *f = &plan->filters[i];
		struct io_option *options = options_parse(f->options, ':');
		int r = options ? server_attach(s, f->filter, f->instance, f->altitude, options, ALT_SETUP_NEWLY_MOUNTED, err) : -ENOMEM;

		if (r < 0)
			return r;
	}
	return 0;
}

static int volume_mount(struct server *s, const struct server_plan *plan, struct alt_error *err)
{
	int fd, r;

	s->points[0] = strdup(plan->target);
	r = s->points[0] ? mount_new(s->volume->name, plan->target, &plan->mount, &fd, &s->point_ids[0], err) : -ENOMEM;
	if (r < 0)
		return r;
	r = session_start(s->volume, fd, &s->session, err);
	if (r < 0)
		mount_remove(plan->target, true, NULL);
	return r;
}

/* In reverse, and whatever is still there. */
static void points_remove(struct server *s)
{
	struct alt_error err;

	for (int i = SERVER_POINTS_MAX - 1; i >= 0; i--) {
		if (!s->points[i] || mount_id(s->points[i]) != s->point_ids[i])
			continue;
		err = (struct alt_error){ 0 };
		if (mount_remove(s->points[i], false, &err) == 0)
			continue;
		alt_log(LOG_WARNING, "%s; it is detached all the same, its open files end", err.text);
		mount_remove(s->points[i], true, NULL);
	}
}

int server_open(struct server *s, struct server_plan *plan, struct alt_error *err)
{
	int r;

	memset(s, 0, sizeof *s);
	pthread_mutex_init(&s->change, NULL);
	pthread_mutex_init(&s->lock, NULL);
	process_prepare();
	r = volume_open(s, plan, err);
	if (!r)
		r = registry_attach(s, err);
	if (!r)
		r = filters_attach(s, plan, err);
	if (!r)
		r = volume_mount(s, plan, err);
	if (!r) {
		r = control_start(s, err);
		if (r < 0)
			points_remove(s);
	}
	if (r < 0)
		server_fini(s);
	return alt_error_set(err, r, "no memory to serve '%s:%s'", plan->filesystem, plan->arg);
}

void server_serve(struct server *s)
{
	struct pollfd p[2] = { { .fd = session_end_fd(s->session), .events = POLLIN }, { .events = POLLIN } };
	sigset_t set;

	signals_block(&set);
	p[1].fd = signalfd(-1, &set, SFD_CLOEXEC);
	while (poll(p, 2, -1) < 0 && errno == EINTR)
		;
	/* Ended from outside, a point may be left that nobody serves any more; ended by a signal, all are. */
	points_remove(s);
	close(p[1].fd);
	control_stop(s);
	/* A command may wait for an operation that a filter keeps: the end of the session lets it go. */
	session_free(s->session);
	s->session = NULL;
	control_free(s);
	server_fini(s);
}
