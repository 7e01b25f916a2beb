/* SPDX-License-Identifier: MIT */
#include "control/control.h"
#include "module/module.h"
#include <altitude/ntstatus.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define FULL_MS 100              /* nobody is let in, when there is no descriptor or no memory for who comes */

struct control {
	int fd, stop_fd;
	char path[108];
	pthread_t thread;
	_Atomic int busy;                /* connections being served */
};

/* An answer is whole: one without what there was no memory for would be a wrong one. */
static void *memory(size_t size)
{
	void *p;

	while (!(p = malloc(size ? size : 1)))
		poll(NULL, 0, 1);
	return p;
}

/* ---- commands: each fills @out, or explains in @err ---- */

typedef int command_fn(struct server *s, json_t *in, json_t *out, struct alt_error *err);

static const char *text_of(json_t *in, const char *key)
{
	return json_string_value(json_object_get(in, key));
}

static int needed(json_t *in, const char *key, const char **ret, struct alt_error *err)
{
	*ret = text_of(in, key);
	return *ret ? 0 : alt_error_set(err, -EINVAL, "the message lacks the text \"%s\"", key);
}

static json_t *safe_string(const char *s)
{
	json_t *j = json_string(s);
	char *copy;

	if (j)
		return j;
	/* Names may hold any byte; JSON may not. */
	copy = strcpy(memory(strlen(s) + 1), s);
	for (char *c = copy; *c; c++)
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	j = json_string(copy);
	free(copy);
	return j;
}

static void point_drop_locked(struct server *s, int i)
{
	free(s->points[i]);
	for (; i + 1 < SERVER_POINTS_MAX; i++) {
		s->points[i] = s->points[i + 1];
		s->point_ids[i] = s->point_ids[i + 1];
	}
	s->points[SERVER_POINTS_MAX - 1] = NULL;
}

/* How many there are; one that was taken away with umount(8) is not counted any more. */
static int points_count_locked(struct server *s)
{
	int n = 0;

	while (n < SERVER_POINTS_MAX && s->points[n]) {
		if (mount_is_there(s->points[n], s->point_ids[n]))
			n++;
		else
			point_drop_locked(s, n);
	}
	return n;
}

static int do_volumes(struct server *s, json_t *in, json_t *out, struct alt_error *err)
{
	json_t *points = json_array();

	pthread_mutex_lock(&s->lock);
	for (int i = 0, n = points_count_locked(s); i < n; i++)
		if (mount_id(s->points[i]) == s->point_ids[i]) /* else another mount covers it, and has the name */
			json_array_append_new(points, safe_string(s->points[i]));
	pthread_mutex_unlock(&s->lock);
	json_object_set_new(out, "name", safe_string(s->volume->name));
	json_object_set_new(out, "filesystem", json_string(s->volume->fs->name));
	json_object_set_new(out, "points", points);
	json_object_set_new(out, "pid", json_integer(getpid()));
	return 0;
}

static void instance_add(struct alt_instance *in, void *arg)
{
	json_t *o = json_object();

	json_object_set_new(o, "filter", json_string(in->filter->name));
	json_object_set_new(o, "volume", safe_string(in->volume->name));
	json_object_set_new(o, "altitude", json_string(in->altitude));
	json_object_set_new(o, "instance", safe_string(in->name));
	json_object_set_new(o, "frame", json_integer(0));
	json_object_set_new(o, "features", json_integer(filter_features(in->filter->reg)));
	json_object_set_new(o, "ops", json_integer(atomic_load(&in->ops)));
	json_array_append_new(arg, o);
}

static int do_instances(struct server *s, json_t *in, json_t *out, struct alt_error *err)
{
	json_t *list = json_array(), *one;
	bool detached;
	size_t i;

	pthread_mutex_lock(&s->lock);
	detached = !points_count_locked(s);
	pthread_mutex_unlock(&s->lock);
	stack_each(s->volume, instance_add, list);
	json_array_foreach(list, i, one)
		json_object_set_new(one, "detached", json_boolean(detached));
	json_object_set_new(out, "instances", list);
	return 0;
}

static int do_filters(struct server *s, json_t *in, json_t *out, struct alt_error *err)
{
	json_t *list = json_array();

	pthread_mutex_lock(&s->lock);
	for (struct alt_filter *f = s->filters; f; f = f->next) {
		json_t *o = json_object();

		json_object_set_new(o, "filter", json_string(f->name));
		json_object_set_new(o, "instances", json_integer(atomic_load(&f->instances)));
		json_object_set_new(o, "altitude", json_string(f->reg->altitude ? f->reg->altitude : ""));
		json_object_set_new(o, "frame", json_integer(0));
		json_array_append_new(list, o);
	}
	pthread_mutex_unlock(&s->lock);
	json_object_set_new(out, "filters", list);
	return 0;
}

static int do_load(struct server *s, json_t *in, json_t *out, struct alt_error *err)
{
	const char *name;
	int r = needed(in, "filter", &name, err);

	return r < 0 ? r : server_load(s, name, err);
}

static int do_unload(struct server *s, json_t *in, json_t *out, struct alt_error *err)
{
	const char *name;
	int r = needed(in, "filter", &name, err);

	return r < 0 ? r : server_unload(s, name, json_is_true(json_object_get(in, "mandatory")), err);
}

static int do_attach(struct server *s, json_t *in, json_t *out, struct alt_error *err)
{
	struct io_option *options;
	const char *name;
	int r = needed(in, "filter", &name, err);

	if (r < 0)
		return r;
	options = options_parse(text_of(in, "options"), ':');
	if (!options)
		return -ENOMEM;
	r = server_attach(s, name, text_of(in, "instance"), text_of(in, "altitude"), options, ALT_SETUP_MANUAL, err);
	if (!r)
		json_object_set_new(out, "bypassing", json_integer(server_bypass(s, name)));
	return r;
}

static int do_detach(struct server *s, json_t *in, json_t *out, struct alt_error *err)
{
	const char *name;
	int r = needed(in, "filter", &name, err);

	return r < 0 ? r : stack_detach(s->volume, name, text_of(in, "instance"), ALT_TEARDOWN_MANUAL, err);
}

struct report {
	struct alt_report to;
	json_t *lines;
};

static void line_add(struct alt_report *to, const char *text)
{
	json_array_append_new(((struct report *)to)->lines, safe_string(text));
}

/* How many told something, or -errno. */
static int report(struct server *s, bool watch, json_t *out)
{
	struct report r = { { line_add }, json_array() };
	int n = stack_report(s->volume, watch, &r.to);

	json_object_set_new(out, "lines", r.lines);
	return n;
}

static int do_watch(struct server *s, json_t *in, json_t *out, struct alt_error *err)
{
	int n = report(s, true, out);

	if (n < 0)
		return n;
	json_object_set_new(out, "watchers", json_integer(n));
	return 0;
}

static int do_stats(struct server *s, json_t *in, json_t *out, struct alt_error *err)
{
	json_t *counts = json_object();
	struct volume_live live;
	int n;

	for (int i = 1; i < ALT_OP_COUNT; i++)
		json_object_set_new(counts, alt_op_name(i), json_integer(atomic_load(&s->volume->counts[i])));
	n = report(s, false, out);
	volume_live(s->volume, &live);
	json_object_set_new(out, "operations", counts);
	json_object_set_new(out, "live", json_pack("{s:I,s:I,s:I}", "nodes", (json_int_t)live.nodes, "files",
						   (json_int_t)live.files, "operations", (json_int_t)live.operations));
	return n < 0 ? n : 0;
}

static int do_mount_add(struct server *s, json_t *in, json_t *out, struct alt_error *err)
{
	const char *target;
	char *point;
	int n, r = needed(in, "target", &target, err);

	if (r < 0)
		return r;
	point = strcpy(memory(strlen(target) + 1), target); /* before there is a mount that nobody would take away */
	pthread_mutex_lock(&s->lock);
	n = points_count_locked(s);
	if (!n)
		r = alt_error_set(err, -ENODEV, "'%s' has no mounting point left to be seen through; mount it anew", s->volume->name);
	else if (n == SERVER_POINTS_MAX)
		r = alt_error_set(err, -ENOSPC, "'%s' has %d mounting points already", s->volume->name, n);
	else
		r = mount_add(s->points[0], target, &s->point_ids[n], err);
	if (!r) {
		s->points[n] = point;
		point = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	free(point);
	return r;
}

/* Without a point of that name, the volume's name was given: the last point goes. */
static int do_unmount(struct server *s, json_t *in, json_t *out, struct alt_error *err)
{
	const char *target = text_of(in, "target");
	bool lazy = json_is_true(json_object_get(in, "lazy"));
	int i, n, r;

	pthread_mutex_lock(&s->lock);
	n = points_count_locked(s);
	for (i = 0; i < n - 1 && !(target && !strcmp(s->points[i], target)); i++)
		;
	if (!n)
		r = alt_error_set(err, -EINVAL, "'%s' is not mounted any more", s->volume->name);
	else if (mount_id(s->points[i]) != s->point_ids[i])
		r = alt_error_set(err, -EBUSY, "the mounting point '%s' of '%s' is covered by another mount; unmount that first",
				  s->points[i], s->volume->name);
	else
		r = mount_remove(s->points[i], lazy, err);
	if (!r) {
		point_drop_locked(s, i);
		json_object_set_new(out, "last", json_boolean(n == 1 && !lazy));
		json_object_set_new(out, "pid", json_integer(getpid()));
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

static const struct { const char *name; command_fn *fn; } commands[] = {
	{ "volumes", do_volumes }, { "instances", do_instances }, { "filters", do_filters }, { "load", do_load },
	{ "unload", do_unload }, { "attach", do_attach }, { "detach", do_detach }, { "watch", do_watch },
	{ "stats", do_stats }, { "mount-add", do_mount_add }, { "unmount", do_unmount },
};

static int dispatch(struct server *s, json_t *in, json_t *out, struct alt_error *err)
{
	const char *cmd;
	int r = json_is_object(in) ? needed(in, "cmd", &cmd, err) : alt_error_set(err, -EINVAL, "the message is not a JSON object");

	if (r < 0)
		return r;
	if (json_integer_value(json_object_get(in, "v")) != CONTROL_VERSION)
		return alt_error_set(err, -EPROTO, "this server speaks version %d of the control messages", CONTROL_VERSION);
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (!strcmp(commands[i].name, cmd))
			return commands[i].fn(s, in, out, err);
	return alt_error_set(err, -EINVAL, "this server has no command '%.64s'", cmd);
}

static void explain(json_t *out, int r, const struct alt_error *err)
{
	char status[16];

	json_object_set_new(out, "error", safe_string(err->code ? err->text : strerror(-r)));
	json_object_set_new(out, "errno", json_integer(-r));
	if (!err->status)
		return;
	snprintf(status, sizeof status, "0x%08X", err->status);
	json_object_set_new(out, "status", json_string(status));
	json_object_set_new(out, "status_name", json_string(alt_status_name(err->status)));
}

json_t *control_answer(struct server *s, const char *message, size_t len)
{
	struct alt_error err = { 0 };
	json_t *in = json_loadb(message, len, JSON_REJECT_DUPLICATES, NULL), *out = json_object();
	int r = in ? dispatch(s, in, out, &err) : alt_error_set(&err, -EINVAL, "the message is not JSON");

	json_object_set_new(out, "v", json_integer(CONTROL_VERSION));
	json_object_set_new(out, "ok", json_boolean(!r));
	if (r)
		explain(out, r < 0 ? r : -EIO, &err);
	json_decref(in);
	return out;
}

/* ---- the socket ---- */

struct connection { struct server *s; int fd; };

/* Answers may be longer than a packet: they go as many, the last one is shorter than the limit. */
static void answer_send(int fd, const char *text)
{
	size_t len = strlen(text) + 1, n;

	do {
		n = len < CONTROL_MESSAGE_MAX ? len : CONTROL_MESSAGE_MAX;
		if (send(fd, text, n, MSG_NOSIGNAL) < 0)
			return;
		text += n;
		len -= n;
	} while (n == CONTROL_MESSAGE_MAX);
}

static bool peer_allowed(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof peer;

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) && (peer.uid == 0 || peer.uid == geteuid());
}

/* Somebody has something to say; not when he keeps silent for long, or the server ends. */
static bool connection_wait(const struct connection *c)
{
	struct pollfd p[2] = { { .fd = c->fd, .events = POLLIN }, { .fd = c->s->control->stop_fd, .events = POLLIN } };
	int r;

	do
		r = poll(p, 2, 10000);
	while (r < 0 && errno == EINTR);
	return r > 0 && !p[1].revents;
}

static void *connection_main(void *arg)
{
	struct connection *c = arg;
	struct timeval patience = { .tv_sec = 10 };
	char *message = malloc(CONTROL_MESSAGE_MAX);
	ssize_t n;

	setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	while (message && connection_wait(c) && (n = recv(c->fd, message, CONTROL_MESSAGE_MAX, 0)) > 0) {
		json_t *out = control_answer(c->s, message, n);
		char *text = out ? json_dumps(out, JSON_COMPACT) : NULL;

		json_decref(out);
		if (text)
			answer_send(c->fd, text);
		free(text);
	}
	free(message);
	close(c->fd);
	atomic_fetch_sub(&c->s->control->busy, 1);
	free(c);
	return NULL;
}

static void *control_main(void *arg)
{
	struct server *s = arg;
	struct control *ctl = s->control;
	struct pollfd p[2] = { { .fd = ctl->fd, .events = POLLIN }, { .fd = ctl->stop_fd, .events = POLLIN } };

	while (poll(p, 2, -1) >= 0 || errno == EINTR) {
		struct connection *c;
		pthread_t t;
		int fd;

		if (p[1].revents)
			return NULL;
		fd = accept4(ctl->fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
				poll(p + 1, 1, FULL_MS);
			continue;
		}
		c = peer_allowed(fd) && atomic_load(&ctl->busy) < 64 ? malloc(sizeof *c) : NULL;
		if (!c) {
			close(fd);
			continue;
		}
		*c = (struct connection){ s, fd };
		atomic_fetch_add(&ctl->busy, 1);
		if (pthread_create(&t, NULL, connection_main, c)) {
			atomic_fetch_sub(&ctl->busy, 1);
			close(fd);
			free(c);
		} else {
			pthread_detach(t);
		}
	}
	return NULL;
}

int control_start(struct server *s, struct alt_error *err)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct control *ctl = calloc(1, sizeof *ctl);
	char dir[96];
	int r = ctl ? runtime_directory(dir, sizeof dir, err) : -ENOMEM;

	if (r < 0) {
		free(ctl);
		return r;
	}
	json_set_alloc_funcs(memory, free);
	snprintf(ctl->path, sizeof ctl->path, "%s/%d.sock", dir, getpid());
	/* Under its name only when it listens: one that refuses is taken for a dead server's, and cleaned away. */
	snprintf(a.sun_path, sizeof a.sun_path, "%s/%d.new", dir, getpid());
	unlink(a.sun_path);
	ctl->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ctl->stop_fd = eventfd(0, EFD_CLOEXEC);
	s->control = ctl;
	if (ctl->fd < 0 || ctl->stop_fd < 0 || bind(ctl->fd, (struct sockaddr *)&a, sizeof a) < 0 ||
	    listen(ctl->fd, 128) < 0 || rename(a.sun_path, ctl->path) < 0 || pthread_create(&ctl->thread, NULL, control_main, s)) {
		r = alt_error_set(err, -EIO, "cannot open the control socket '%s': %s", ctl->path, strerror(errno));
		close(ctl->fd);
		close(ctl->stop_fd);
		unlink(a.sun_path);
		unlink(ctl->path);
		free(ctl);
		s->control = NULL;
		return r;
	}
	return 0;
}

void control_stop(struct server *s)
{
	struct control *ctl = s->control;
	uint64_t one = 1;

	if (!ctl)
		return;
	unlink(ctl->path);
	if (write(ctl->stop_fd, &one, sizeof one) == sizeof one)
		pthread_join(ctl->thread, NULL);
}

void control_free(struct server *s)
{
	struct control *ctl = s->control;

	if (!ctl)
		return;
	while (atomic_load(&ctl->busy))
		poll(NULL, 0, 1);
	close(ctl->fd);
	close(ctl->stop_fd);
	free(ctl);
	s->control = NULL;
}
