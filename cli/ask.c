/* SPDX-License-Identifier: MIT */
/* The commands that ask a running server. */
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct cli_option json_option[] = { { 'j', "json", NULL, "as JSON" }, { 0 } };

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static const char *number(const json_t *o, const char *key, char *buf)
{
	snprintf(buf, 24, "%lld", (long long)json_integer_value(json_object_get(o, key)));
	return buf;
}

/* The server's own words for what it refused. */
static int refused(const struct cli_args *a, const json_t *answer)
{
	const char *status = text(answer, "status");

	cli_tell(*status ? "altitude %s: %s [%s %s]" : "altitude %s: %s", a->command->name, text(answer, "error"), status,
		 text(answer, "status_name"));
	return 1;
}

/* Once: what is waited for may take any time, and to end the command does not end the wait. */
static void wait_tell(json_t *request)
{
	cli_tell("altitude %s: waits for what is under way inside the filter; the server's log says for whom", text(request, "cmd"));
	control_waits = NULL;
}

/* Ask; NULL after the error is told. @request is taken. */
static json_t *ask(const struct cli_args *a, const char *where, json_t *request)
{
	struct alt_error err = { 0 };
	json_t *answer;

	if (!strcmp(a->command->name, "detach") || !strcmp(a->command->name, "unload"))
		control_waits = wait_tell;
	answer = request ? control_ask(where, request, &err) : NULL;

	json_decref(request);
	if (!answer) {
		cli_fail(a, &err);
		return NULL;
	}
	if (json_is_true(json_object_get(answer, "ok")))
		return answer;
	refused(a, answer);
	json_decref(answer);
	return NULL;
}

static int ask_done(const struct cli_args *a, const char *where, json_t *request)
{
	json_t *answer = ask(a, where, request);

	json_decref(answer);
	return answer ? 0 : 1;
}

/* ---- lists over all servers, or one ---- */

static void lists_join(json_t *answer, void *arg)
{
	json_t *all = arg, *list;
	const char *key;

	json_object_foreach(answer, key, list)
		if (json_is_array(list))
			json_array_extend(all, list);
}

static void answers_join(json_t *answer, void *arg)
{
	json_array_append(arg, answer);
}

static int partial; /* a server did not answer: the list lacks its part */

static json_t *collect(const struct cli_args *a, const char *cmd, void (*join)(json_t *, void *))
{
	json_t *all = json_array(), *request = json_pack("{s:s}", "cmd", cmd), *answer;
	const char *where = cli_operand(a, 0);
	struct alt_error err = { 0 };

	if (where) {
		answer = ask(a, where, request);
		if (answer)
			join(answer, all);
		json_decref(answer);
		if (answer)
			return all;
	} else if (control_ask_all(request, join, all, &err) >= 0) {
		if (err.code)
			cli_fail(a, &err);
		partial = err.code;
		json_decref(request);
		return all;
	} else {
		cli_fail(a, &err);
		json_decref(request);
	}
	json_decref(all);
	return NULL;
}

static int json_print(json_t *list)
{
	json_dumpf(list, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(list);
	return partial ? 1 : 0;
}

static int run_volumes(const struct cli_args *a)
{
	static const char *const head[] = { "Volume Name", "File System", "Mounting Points", ">Server" };
	struct cli_table t = { head, 4, 0, NULL };
	json_t *all = collect(a, "volumes", answers_join), *v, *point;
	size_t i, j, size;
	char pid[24];

	if (!all)
		return 1;
	json_array_foreach(all, i, v) {
		json_object_del(v, "ok");
		json_object_del(v, "v");
	}
	if (cli_has(a, 'j'))
		return json_print(all);
	json_array_foreach(all, i, v) {
		char *points = NULL;
		FILE *to = open_memstream(&points, &size);

		json_array_foreach(json_object_get(v, "points"), j, point)
			if (to)
				fprintf(to, "%s%s", j ? " " : "", json_string_value(point));
		if (to)
			fclose(to);
		cli_table_add(&t, text(v, "name"), text(v, "filesystem"), points, number(v, "pid", pid));
		free(points);
	}
	json_decref(all);
	cli_table_print(&t);
	return partial ? 1 : 0;
}
const struct cli_command cli_volumes = {
	.name = "volumes", .operands = "", .summary = "List the volumes and where they are mounted", .max = 0,
	.options = json_option, .run = run_volumes,
};

static int run_filters(const struct cli_args *a)
{
	static const char *const head[] = { "Filter Name", ">Num Instances", ">Altitude", ">Frame" };
	struct cli_table t = { head, 4, 0, NULL };
	json_t *all = collect(a, "filters", lists_join), *f;
	char instances[24], frame[24];
	size_t i;

	if (!all)
		return 1;
	if (cli_has(a, 'j'))
		return json_print(all);
	json_array_foreach(all, i, f)
		cli_table_add(&t, text(f, "filter"), number(f, "instances", instances), text(f, "altitude"), number(f, "frame", frame));
	json_decref(all);
	cli_table_print(&t);
	return partial ? 1 : 0;
}
const struct cli_command cli_filters = {
	.name = "filters", .operands = "[VOLUME]", .summary = "List the filters in memory", .max = 1,
	.options = json_option, .run = run_filters,
};

static int run_instances(const struct cli_args *a)
{
	static const char *const head[] = { "Filter", "Volume Name", ">Altitude", "Instance Name", ">Frame", "SprtFtrs", "VlStatus" };
	struct cli_table t = { head, 7, 0, NULL };
	json_t *all = collect(a, "instances", lists_join), *in;
	char frame[24], features[16];
	size_t i;

	if (!all)
		return 1;
	if (cli_has(a, 'j'))
		return json_print(all);
	json_array_foreach(all, i, in) {
		snprintf(features, sizeof features, "%08x", (unsigned)json_integer_value(json_object_get(in, "features")));
		cli_table_add(&t, text(in, "filter"), text(in, "volume"), text(in, "altitude"), text(in, "instance"),
			      number(in, "frame", frame), features, json_is_true(json_object_get(in, "detached")) ? "Detached" : "");
	}
	json_decref(all);
	cli_table_print(&t);
	return partial ? 1 : 0;
}
const struct cli_command cli_instances = {
	.name = "instances", .operands = "[VOLUME]", .summary = "List the stack of each volume, highest altitude first", .max = 1,
	.more = "VOLUME is a mounting point or a volume's name; without it, all volumes are listed.\n",
	.options = json_option, .run = run_instances,
};

/* ---- changes ---- */

/* "attach /mnt null": the path of a mounting point is no filter's. Says so, and how it is meant. */
static bool no_filter(const struct cli_args *a)
{
	const char *first = cli_operand(a, 0), *second = cli_operand(a, 1);

	if (!*first)
		return cli_wrong(a, "'' names no filter");
	if (!mount_is_ours(first))
		return false;
	cli_wrong(a, "'%s' is a mounting point, not a filter; the filter comes first: 'altitude %s %s %s'", first, a->command->name,
		  second ? second : "FILTER", first);
	return true;
}

/* The path of a module is made absolute, as by "attach": the server is somewhere else. */
static int run_load(const struct cli_args *a)
{
	struct cli_spec spec;
	int r;

	if (no_filter(a))
		return 2;
	if (cli_spec_parse(cli_operand(a, 0), &spec) < 0 || spec.altitude || spec.options)
		r = cli_wrong(a, "'%s' is more than a filter's name; altitude and options are for 'altitude attach'", cli_operand(a, 0));
	else
		r = ask_done(a, cli_operand(a, 1), json_pack("{s:s,s:s}", "cmd", "load", "filter", spec.filter));
	cli_spec_free(&spec);
	return r;
}
const struct cli_command cli_load = {
	.name = "load", .operands = "FILTER [VOLUME]", .summary = "Load a filter into a volume's server, without attaching it",
	.min = 1, .max = 2,
	.more = "FILTER is a name, or the path of a module. VOLUME may be left out when there is only one.\n",
	.run = run_load,
};

static int run_unload(const struct cli_args *a)
{
	if (no_filter(a))
		return 2;
	return ask_done(a, cli_operand(a, 1), json_pack("{s:s,s:s,s:b}", "cmd", "unload", "filter", cli_operand(a, 0),
							"mandatory", cli_has(a, 'm')));
}
static const struct cli_option unload_options[] = {
	{ 'm', "mandatory", NULL, "tell the filter instead of asking it" }, { 0 }
};
const struct cli_command cli_unload = {
	.name = "unload", .operands = "FILTER [VOLUME]", .summary = "Detach a filter's instances and take it out of memory",
	.min = 1, .max = 2, .options = unload_options, .run = run_unload,
};

static void set_text(json_t *o, const char *key, const char *value)
{
	if (value)
		json_object_set_new(o, key, json_string(value));
}

/* The kernel was told at their open that nobody wants the data: a filter that comes later must not be thought to see it. */
static void bypass_tell(long long files)
{
	if (files)
		cli_tell("altitude attach: %lld file%s open already %s read and written below it; new opens come to it", files,
			 files == 1 ? " that is" : "s that are", files == 1 ? "is" : "are");
}

static int run_attach(const struct cli_args *a)
{
	json_t *request, *answer;
	struct cli_spec spec;

	if (no_filter(a))
		return 2;
	if (cli_spec_parse(cli_operand(a, 0), &spec) < 0)
		return cli_wrong(a, "'%s' names no filter: NAME[@ALTITUDE][:option=value...]", cli_operand(a, 0));
	if (spec.altitude && cli_has(a, 'a') && strcmp(spec.altitude, cli_value(a, 'a'))) {
		cli_wrong(a, "two altitudes, '%s' and '%s'; give one", spec.altitude, cli_value(a, 'a'));
		cli_spec_free(&spec);
		return 2;
	}
	request = json_pack("{s:s}", "cmd", "attach");
	set_text(request, "filter", spec.filter);
	set_text(request, "altitude", cli_has(a, 'a') ? cli_value(a, 'a') : spec.altitude);
	set_text(request, "options", spec.options);
	set_text(request, "instance", cli_value(a, 'i'));
	answer = ask(a, cli_operand(a, 1), request);
	if (answer)
		bypass_tell(json_integer_value(json_object_get(answer, "bypassing")));
	json_decref(answer);
	cli_spec_free(&spec);
	return answer ? 0 : 1;
}
static const struct cli_option attach_options[] = {
	{ 'i', "instance", "NAME", "name of the instance (default: the filter's)" },
	{ 'a', "altitude", "ALTITUDE", "its altitude (default: the filter's)" },
	{ 0 }
};
const struct cli_command cli_attach = {
	.name = "attach", .operands = "FILTER[@ALTITUDE][:OPTION=VALUE...] [VOLUME]",
	.summary = "Attach a filter to a volume in use",
	.min = 1, .max = 2, .options = attach_options, .run = run_attach,
};

static int run_detach(const struct cli_args *a)
{
	json_t *request;

	if (no_filter(a))
		return 2;
	request = json_pack("{s:s,s:s}", "cmd", "detach", "filter", cli_operand(a, 0));
	set_text(request, "instance", cli_operand(a, 2));
	return ask_done(a, cli_operand(a, 1), request);
}
const struct cli_command cli_detach = {
	.name = "detach", .operands = "FILTER [VOLUME [INSTANCE]]", .summary = "Detach a filter from a volume in use",
	.min = 1, .max = 3,
	.more = "Returns when the last operation inside the filter is over. Without INSTANCE, the highest one goes.\n",
	.run = run_detach,
};

/* ---- reports ---- */

static void lines_print(const json_t *answer)
{
	json_t *line;
	size_t i;

	json_array_foreach(json_object_get(answer, "lines"), i, line)
		shown_line(json_string_value(line));
}

static int run_watch(const struct cli_args *a)
{
	struct pollfd reader = { .fd = STDOUT_FILENO };     /* the end of a pipe's reader is told without asking */
	const char *where = cli_operand(a, 0);
	json_t *answer;

	for (;;) {
		answer = ask(a, where, json_pack("{s:s}", "cmd", "watch"));
		if (!answer)
			return 1;
		if (!json_integer_value(json_object_get(answer, "watchers"))) {
			json_decref(answer);
			cli_tell("altitude watch: no filter of this volume keeps a record; 'altitude attach activity_monitor%s%s' does",
				 where ? " " : "", where ? where : "");
			return 1;
		}
		lines_print(answer);
		json_decref(answer);
		if (cli_has(a, '1'))
			return 0;
		fflush(stdout);
		if (ferror(stdout) || poll(&reader, 1, 200) > 0)
			return 0;
	}
}
static const struct cli_option watch_options[] = { { '1', "once", NULL, "what is there now, then end" }, { 0 } };
const struct cli_command cli_watch = {
	.name = "watch", .operands = "[VOLUME]", .summary = "Show operations as they happen (activity_monitor)", .max = 1,
	.options = watch_options, .run = run_watch,
};

static int run_stats(const struct cli_args *a)
{
	json_t *answer = ask(a, cli_operand(a, 0), json_pack("{s:s}", "cmd", "stats")), *count;
	const char *name;

	if (!answer)
		return 1;
	json_object_del(answer, "ok");
	json_object_del(answer, "v");
	if (cli_has(a, 'j'))
		return json_print(answer);
	puts("[operations]");
	json_object_foreach(json_object_get(answer, "operations"), name, count)
		if (json_integer_value(count))
			printf("%-16s %lld\n", name, (long long)json_integer_value(count));
	lines_print(answer);
	json_decref(answer);
	return 0;
}
const struct cli_command cli_stats = {
	.name = "stats", .operands = "[VOLUME]", .summary = "Count what a volume was asked, and what its filters report", .max = 1,
	.options = json_option, .run = run_stats,
};

static int run_groups(const struct cli_args *a)
{
	static const char *const head[] = { "Load Order Group", ">From", ">To", "Purpose" };
	struct cli_table t = { head, 4, 0, NULL };
	json_t *all = json_array(), *g;
	char low[24], high[24];
	size_t i;

	for (const struct load_order_group *l = load_order_groups; l->name; l++)
		json_array_append_new(all, json_pack("{s:s,s:i,s:i,s:s}", "group", l->name, "low", (int)l->low, "high", (int)l->high,
						     "purpose", l->purpose));
	if (cli_has(a, 'j'))
		return json_print(all);
	json_array_foreach(all, i, g)
		cli_table_add(&t, text(g, "group"), number(g, "low", low), number(g, "high", high), text(g, "purpose"));
	json_decref(all);
	cli_table_print(&t);
	return 0;
}
const struct cli_command cli_groups = {
	.name = "groups", .operands = "", .summary = "List the load order groups and their altitudes, top of the stack first",
	.options = json_option, .run = run_groups,
};

/* ---- mounting points ---- */

static int run_mount_add(const struct cli_args *a)
{
	char path[PATH_MAX];
	int r = cli_place(a, cli_operand(a, 1), path, sizeof path);

	if (r)
		return r;
	return ask_done(a, cli_operand(a, 0), json_pack("{s:s,s:s}", "cmd", "mount-add", "target", path));
}
const struct cli_command cli_mount_add = {
	.name = "mount-add", .operands = "VOLUME DIR", .summary = "Show a mounted volume at one more mounting point",
	.min = 2, .max = 2, .more = "Remove it with 'altitude unmount DIR'. Only root may add one.\n", .run = run_mount_add,
};

/* The server ends by itself when nothing shows its volume any more: "unmounted" means that too. */
static void server_await(pid_t pid)
{
	struct pollfd p = { .fd = pidfd_open(pid, 0), .events = POLLIN };

	if (p.fd < 0)
		return;
	poll(&p, 1, 20000);
	close(p.fd);
}

static int run_unmount(const struct cli_args *a)
{
	const char *where = cli_operand(a, 0);
	struct alt_error err = { 0 };
	char path[PATH_MAX];
	json_t *request, *answer;
	bool ok;

	mount_path(where, path, sizeof path);
	request = json_pack("{s:s,s:s,s:b}", "cmd", "unmount", "target", path, "lazy", cli_has(a, 'l'));

	answer = control_ask(where, request, &err);
	json_decref(request);
	/* Nobody serves it, its server was killed; or who does is not to be waited for. */
	if (!answer && (err.code == -ENOENT || (err.code == -ETIMEDOUT && cli_has(a, 'l'))) && mount_is_ours(where)) {
		err = (struct alt_error){ 0 };
		return mount_remove(where, true, &err) < 0 ? cli_fail(a, &err) : 0;
	}
	if (!answer)
		return cli_fail(a, &err);
	ok = json_is_true(json_object_get(answer, "ok"));
	if (!ok)
		refused(a, answer);
	else if (json_is_true(json_object_get(answer, "last")))
		server_await(json_integer_value(json_object_get(answer, "pid")));
	json_decref(answer);
	return !ok;
}
static const struct cli_option unmount_options[] = {
	{ 'l', "lazy", NULL, "detach it now; it ends when the last user lets go" }, { 0 }
};
const struct cli_command cli_unmount = {
	.name = "unmount", .operands = "VOLUME", .summary = "Unmount a volume, and end its server",
	.min = 1, .max = 1, .options = unmount_options,
	.more = "VOLUME is a mounting point or a volume's name. A busy one stays mounted, and is told with who holds it.\n",
	.run = run_unmount,
};
