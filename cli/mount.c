/* SPDX-License-Identifier: MIT */
/* "altitude mount": becomes the server of one volume. */
#include "cli.h"
#include "base/base.h"
#include "mount/place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILTERS_MAX 64

struct plan {
	struct server_plan p;
	struct server_filter filters[FILTERS_MAX];
	struct cli_spec specs[FILTERS_MAX];
	char fs[PATH_MAX], arg[PATH_MAX], target[PATH_MAX];
	char *options;                   /* of the file system, comma separated */
};

/* Of mount(8), with no meaning here, and those that are ours to obey. */
static bool mount_flag(struct plan *plan, const char *o)
{
	static const char *const ignored[] = { "rw", "exec", "suid", "dev", "auto", "noauto", "user", "nouser", "users", "owner",
		"noowner", "group", "nogroup", "defaults", "_netdev", "nofail", "async", "nosync", "atime", "noatime", "diratime",
		"nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime", "silent", "loud",
		"nomand", "noiversion", "allow_root" };
	static const char *const begun[] = { "x-", "X-", "comment=", "user=" };
	struct { const char *name; bool *flag; } known[] = {
		{ "ro", &plan->p.mount.read_only }, { "allow_other", &plan->p.mount.allow_other },
		{ "default_permissions", &plan->p.mount.default_permissions }, { "nonempty", &plan->p.mount.nonempty },
		{ "noexec", &plan->p.mount.noexec }, { "nosuid", &plan->p.mount.nosuid }, { "nodev", &plan->p.mount.nodev },
	};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (!strcmp(known[i].name, o))
			return *known[i].flag = true;
	for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
		if (!strcmp(ignored[i], o))
			return true;
	for (size_t i = 0; i < sizeof begun / sizeof *begun; i++)
		if (!strncmp(begun[i], o, strlen(begun[i])))
			return true;
	return false;
}

static int filter_add(const struct cli_args *a, struct plan *plan, const char *text)
{
	int n = plan->p.filter_count;
	struct cli_spec *spec = &plan->specs[n];

	if (n == FILTERS_MAX)
		return cli_wrong(a, "more than %d filters", FILTERS_MAX);
	if (cli_spec_parse(text, spec) < 0)
		return cli_wrong(a, "--filter '%s' names no filter: NAME[@ALTITUDE][:option=value...]", text);
	plan->filters[n] = (struct server_filter){ spec->filter, NULL, spec->altitude, spec->options };
	plan->p.filter_count++;
	return 0;
}

/* "ro=yes": a switch of mount(8) that is given a value, which the file system would be told of as an option it does not know. */
static bool switch_valued(struct plan *plan, const char *o, char name[32])
{
	size_t len = strcspn(o, "=");

	if (!o[len] || len >= 32)
		return false;
	memcpy(name, o, len);
	name[len] = 0;
	return mount_flag(plan, name);
}

static int option_add(const struct cli_args *a, struct plan *plan, const char *o)
{
	char *more, name[32];

	if (!*o || mount_flag(plan, o))
		return 0;
	if (switch_valued(plan, o, name))
		return cli_wrong(a, "option '%s' takes no value: say '%s', not '%s'", name, name, o);
	if (!strcmp(o, "filter"))
		return cli_wrong(a, "option 'filter' needs a value: filter=NAME[@ALTITUDE][:option=value...]");
	if (!strncmp(o, "filter=", 7))
		return filter_add(a, plan, o + 7);
	if (asprintf(&more, "%s%s%s", plan->options ? plan->options : "", plan->options ? "," : "", o) < 0)
		return 1;
	free(plan->options);
	plan->options = more;
	return 0;
}

static int options_split(const struct cli_args *a, struct plan *plan, const char *text)
{
	char *copy = strdup(text), *at = copy, *one;
	int r = copy ? 0 : 1;

	while (!r && (one = strsep(&at, ",")))
		r = option_add(a, plan, one);
	free(copy);
	return r;
}

static bool is_directory(const char *path)
{
	struct statx st;

	return !place_stat(path, &st) && S_ISDIR(st.stx_mode);
}

static int source_wrong(const struct cli_args *a, const char *source)
{
	const char *target = cli_operand(a, 1);
	bool place = is_directory(source);

	if (place && strchr(target, ':') && !is_directory(target))
		return cli_wrong(a, "'%s' is not FS:ARG; the file system comes first: 'altitude mount %s %s'", source, target, source);
	if (*source && *source != ':' && (place || strchr(source, '/')))
		return cli_wrong(a, "'%s' is not FS:ARG; do you mean 'dir:%s'?", source, source);
	if (*source && *source != ':')
		return cli_wrong(a, "'%s' is not FS:ARG; do you mean '%s:'?", source, source);
	return cli_wrong(a, "'%s' is not FS:ARG, as in dir:/srv or mem:", source);
}

/* "dir:/srv". An argument that names something here is made absolute: the server leaves this directory. */
static int source_split(const struct cli_args *a, struct plan *plan, const char *source)
{
	const char *colon = strchr(source, ':');
	size_t len = colon ? (size_t)(colon - source) : 0;

	if (!len || len >= sizeof plan->fs)
		return source_wrong(a, source);
	memcpy(plan->fs, source, len);
	if (strlen(colon + 1) >= sizeof plan->arg)
		return cli_wrong(a, "'%.40s...': the argument has %zu bytes, and may have %zu", source, strlen(colon + 1),
				 sizeof plan->arg - 1);
	if (!colon[1] || colon[1] == '/' || !realpath(colon + 1, plan->arg))
		strcpy(plan->arg, colon + 1);
	plan->p.filesystem = plan->fs;
	plan->p.arg = plan->arg;
	return 0;
}

/* A dead mount there cannot be resolved; mount_new() cleans it away. */
int cli_place(const struct cli_args *a, const char *word, char *path, size_t size)
{
	if (!*word)
		return cli_wrong(a, "'' is no directory to mount at");
	mount_path(word, path, size);
	if (*path)
		return 0;
	cli_tell("altitude %s: mounting point '%s': %s%s", a->command->name, word, strerror(errno),
		 errno == ENOENT ? "; make the directory first (mkdir)" : "");
	return 1;
}

static int plan_read(const struct cli_args *a, struct plan *plan)
{
	const char *timeout = cli_value(a, 't'), *target = cli_operand(a, 1);
	char more[64];
	int r = source_split(a, plan, cli_operand(a, 0));

	plan->p.mount.default_permissions = true;
	plan->p.mount.allow_other = cli_has(a, 'a') || geteuid() == 0;
	plan->p.mount.read_only = cli_has(a, 'r');
	plan->p.filters = plan->filters;
	for (int i = 0; !r && i < a->count; i++) {
		if (a->given[i].letter == 'f')
			r = filter_add(a, plan, a->given[i].value);
		else if (a->given[i].letter == 'o')
			r = options_split(a, plan, a->given[i].value);
	}
	if (!r && timeout) {
		snprintf(more, sizeof more, "timeout_ms=%.40s", timeout);
		r = option_add(a, plan, more);
	}
	if (r)
		return r;
	plan->p.options = options_parse(plan->options, ',');
	if (!plan->p.options) {
		cli_tell("altitude mount: no memory for the options");
		return 1;
	}
	plan->p.target = plan->target;
	return cli_place(a, target, plan->target, sizeof plan->target);
}

static void plan_free(struct plan *plan)
{
	options_free(plan->p.options);
	free(plan->options);
	for (int i = 0; i < plan->p.filter_count; i++)
		cli_spec_free(&plan->specs[i]);
	free(plan);
}

/* Type=notify of a systemd unit. */
static void systemd_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd;

	if (!path || !*path || strlen(path) >= sizeof to.sun_path)
		return;
	strcpy(to.sun_path, path);
	if (*path == '@')
		*to.sun_path = 0;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to,
	       offsetof(struct sockaddr_un, sun_path) + strlen(path));
	close(fd);
}

/* A lock, a pipe or a file of who started it is not to be kept for the life of the server. */
static void inherited_close(int kept)
{
	if (kept > 3)
		close_range(3, kept - 1, 0);
	close_range(kept + 1, UINT_MAX, 0);
}

/* The first process waits until the volume is there, and ends with the right code. */
static int background(int *ready_fd)
{
	int pipe_fd[2], status;
	char byte;
	pid_t pid;

	if (pipe2(pipe_fd, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		inherited_close(pipe_fd[1]);
		*ready_fd = pipe_fd[1];
		return 0;
	}
	close(pipe_fd[1]);
	if (read(pipe_fd[0], &byte, 1) == 1)
		_exit(0);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		fprintf(stderr, "altitude mount: the server was ended by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
	_exit(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1);
}

/* Alone from here on: no terminal, no directory held. */
static void detach(int ready_fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	log_background();
	if (chdir("/") < 0)
		perror("altitude mount: chdir");
	if (write(ready_fd, "", 1) != 1)
		perror("altitude mount: telling that the volume is ready");
	close(ready_fd);
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

static int serve(const struct cli_args *a, struct plan *plan)
{
	struct alt_error err = { 0 };
	struct server server;
	int ready_fd = -1;

	if (!cli_has(a, 'F') && background(&ready_fd) < 0) {
		fprintf(stderr, "altitude mount: cannot start the server: %s\n", strerror(errno));
		return 1;
	}
	if (server_open(&server, &plan->p, &err) < 0)
		return cli_fail(a, &err);
	systemd_notify("READY=1");
	if (ready_fd >= 0)
		detach(ready_fd);
	server_serve(&server);
	return 0;
}

static int run_mount(const struct cli_args *a)
{
	struct plan *plan = calloc(1, sizeof *plan);
	int r;

	if (!plan)
		return 1;
	if (cli_has(a, 'V'))
		setenv("ALTITUDE_VERIFY", "1", 1);
	r = plan_read(a, plan);
	if (!r)
		r = serve(a, plan);
	plan_free(plan);
	return r;
}

static const struct cli_option options[] = {
	{ 'f', "filter", "NAME[@ALT][:OPT=VAL...]", "attach a filter; may be given many times" },
	{ 'o', "option", "OPT[=VAL],...", "an option of the file system, or of mount(8)" },
	{ 'F', "foreground", NULL, "stay; Ctrl-C unmounts" },
	{ 'a', "allow-other", NULL, "let other users in (the default for root)" },
	{ 'r', "read-only", NULL, "refuse every change" },
	{ 't', "timeout-ms", "N", "answer a request with an error after so many milliseconds" },
	{ 'V', "verify", NULL, "stop at the first breach of the filters' contract, and name who did it" },
	{ 0 }
};
const struct cli_command cli_mount = {
	.name = "mount", .operands = "FS:ARG DIR", .summary = "Make a file system visible at a directory, with filters above it",
	.min = 2, .max = 2, .options = options,
	.more = "Each filter stands at its altitude, whatever the order of the options. Examples:\n"
		"  altitude mount dir:/srv /mnt\n"
		"  altitude mount --filter activity_monitor --filter stats dir:/srv /mnt\n"
		"  altitude mount --filter content_screener@320500:name=*.exe mem: /mnt\n",
	.run = run_mount,
};
