/* SPDX-License-Identifier: MIT */
#include "control/control.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_MS 5000

static char *answer_receive(int fd)
{
	char *text = NULL;
	size_t len = 0;
	ssize_t n;

	do {
		char *more = realloc(text, len + CONTROL_MESSAGE_MAX + 1);

		if (!more)
			break;
		text = more;
		n = recv(fd, text + len, CONTROL_MESSAGE_MAX, 0);
		if (n <= 0)
			break;
		len += n;
		if (n < CONTROL_MESSAGE_MAX) {
			text[len] = 0;
			return text;
		}
	} while (len < 64u << 20);
	free(text);
	return NULL;
}

void (*control_waits)(json_t *request);

/* A list is not held up by a server that is stopped or hangs; what was asked of one server takes the time it takes. */
static bool answer_comes(int fd, json_t *request, bool list)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	while (!poll(&p, 1, PATIENCE_MS)) {
		if (list)
			return false;
		if (control_waits)
			control_waits(request);
	}
	return true;
}

/* @silent gets the server's process number when it does not answer in time; NULL: it is waited for. */
static json_t *ask_path(const char *path, json_t *request, char **silent)
{
	static const struct timeval patience = { .tv_sec = PATIENCE_MS / 1000 };
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	char *text, *answer = NULL;
	bool late;
	json_t *out;

	if (fd < 0)
		return NULL;
	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience); /* of connect(2) too */
	if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
		if (errno == ECONNREFUSED)
			unlink(path); /* its server is gone */
		late = errno == EAGAIN;
		text = NULL;
	} else {
		text = json_dumps(request, JSON_COMPACT);
		late = text && send(fd, text, strlen(text), MSG_NOSIGNAL) < 0 && errno == EAGAIN;
		late = late || (text && !answer_comes(fd, request, silent));
		if (text && !late)
			answer = answer_receive(fd);
	}
	if (late && silent && asprintf(silent, "%d", atoi(strrchr(path, '/') + 1)) < 0)
		*silent = NULL;
	close(fd);
	out = answer ? json_loads(answer, 0, NULL) : NULL;
	free(answer);
	free(text);
	return out;
}

/* Of a server that was killed before it listened. */
static void leftover_clean(const char *path, const char *name)
{
	pid_t pid = atoi(name);

	if (pid > 0 && kill(pid, 0) < 0 && errno == ESRCH)
		unlink(path);
}

static int each_socket(bool (*fn)(const char *path, void *arg), void *arg, struct alt_error *err)
{
	char dir[96], path[PATH_MAX];
	struct dirent **names;
	int n, r = runtime_directory(dir, sizeof dir, err);
	bool on = true;

	if (r < 0)
		return r;
	n = scandir(dir, &names, NULL, versionsort);
	for (int i = 0; i < n; i++) {
		const char *dot = strrchr(names[i]->d_name, '.');

		snprintf(path, sizeof path, "%s/%s", dir, names[i]->d_name);
		if (on && dot && !strcmp(dot, ".sock"))
			on = fn(path, arg);
		else if (dot && !strcmp(dot, ".new"))
			leftover_clean(path, names[i]->d_name);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	return 0;
}

static void silent_note(struct alt_error *err, char *pid)
{
	if (pid)
		alt_error_set(err, -ETIMEDOUT, "the server of process %s does not answer: it is stopped, or hangs; 'kill -CONT %s' lets it go on, "
			      "'kill -KILL %s' ends it", pid, pid, pid);
	free(pid);
}

struct all { json_t *request; void (*fn)(json_t *, void *); void *arg; int count; struct alt_error *err; };

static bool all_one(const char *path, void *arg)
{
	struct all *a = arg;
	char *silent = NULL;
	json_t *answer = ask_path(path, a->request, &silent);

	silent_note(a->err, silent);
	if (answer) {
		a->fn(answer, a->arg);
		a->count++;
	}
	json_decref(answer);
	return true;
}

int control_ask_all(json_t *request, void (*fn)(json_t *answer, void *arg), void *arg, struct alt_error *err)
{
	struct all a = { request, fn, arg, 0, err };
	int r;

	json_object_set_new(request, "v", json_integer(CONTROL_VERSION));
	r = each_socket(all_one, &a, err);
	return r < 0 ? r : a.count;
}

struct one { const char *where; char real[PATH_MAX], path[PATH_MAX], points[300]; int count; struct alt_error silent; };

/* A place where each volume that fits can be named: its first mounting point. */
static void point_note(struct one *o, const char *point)
{
	size_t at = strlen(o->points);

	if (point)
		snprintf(o->points + at, sizeof o->points - at, "%s%s", at ? ", " : "", point);
}

static bool one_match(const char *path, void *arg)
{
	struct one *o = arg;
	char *silent = NULL;
	json_t *ask = json_pack("{s:i,s:s}", "v", CONTROL_VERSION, "cmd", "volumes"), *answer = ask_path(path, ask, &silent);
	const char *name = json_string_value(json_object_get(answer, "name"));
	json_t *point;
	bool match = answer && (!o->where || (name && !strcmp(name, o->where)));
	size_t i;

	silent_note(&o->silent, silent);
	json_array_foreach(json_object_get(answer, "points"), i, point)
		match = match || !strcmp(json_string_value(point), o->real);
	if (match) {
		snprintf(o->path, sizeof o->path, "%s", path);
		o->count++;
		point_note(o, json_string_value(json_array_get(json_object_get(answer, "points"), 0)));
	}
	json_decref(ask);
	json_decref(answer);
	return true;
}

static void which_explain(const struct one *o, struct alt_error *err)
{
	if (!o->count && o->silent.code)
		alt_error_set(err, -ETIMEDOUT, "no server that answers has the volume '%s'; %s", o->where ? o->where : "", o->silent.text);
	else if (!o->count && o->where)
		alt_error_set(err, -ENOENT, "no volume '%s' is mounted by a server of yours; see 'altitude volumes'", o->where);
	else if (!o->count)
		alt_error_set(err, -ENOENT, "no volume is mounted by a server of yours; 'altitude mount' makes one");
	else if (o->where)
		alt_error_set(err, -ENOTUNIQ, "'%s' is the name of %d volumes; name a mounting point: %s", o->where, o->count, o->points);
	else
		alt_error_set(err, -ENOTUNIQ, "%d volumes are mounted; name one: %s", o->count, o->points);
}

json_t *control_ask(const char *where, json_t *request, struct alt_error *err)
{
	struct one o = { .where = where };
	json_t *answer;

	if (where)
		mount_path(where, o.real, sizeof o.real);
	if (each_socket(one_match, &o, err) < 0)
		return NULL;
	if (o.count != 1) {
		which_explain(&o, err);
		return NULL;
	}
	json_object_set_new(request, "v", json_integer(CONTROL_VERSION));
	answer = ask_path(o.path, request, NULL);
	if (!answer)
		alt_error_set(err, -EIO, "the server of '%s' did not answer", where ? where : "the volume");
	return answer;
}
