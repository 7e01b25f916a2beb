/* SPDX-License-Identifier: MIT */
/*
 * Communication ports, the filter's side.
 *
 * A thread of the port takes who comes and what they say. Who asks sends for itself, without waiting for room, and then
 * waits on its own condition for one of: the reply, the deadline, the listener's end, its caller giving up.
 */
#include "base/base.h"
#include "module/module.h"
#include "wire/packet.h"
#include <altitude/log.h>
#include <altitude/ntstatus.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Also those who have not yet said who they are. */
#define SOCKETS_MAX (2 * ALT_PORT_CONNECTIONS_MAX)
#define CLOSED_MS 100            /* nobody is let in, when there is no descriptor or no memory for who comes */

struct connection {
	int fd;
	struct alt_caller peer;
	bool greeted;                    /* let in by the connect handler */
	void *cookie;
	unsigned misses;                 /* [port->lock] questions in a row that it let pass */
};

struct waiter {
	LIST_ENTRY(waiter) next;
	struct alt_port *port;
	struct connection *connection;   /* [port->lock] NULL: it is gone */
	struct alt_port_message *m;
	uint64_t id;
	pthread_cond_t changed;
	bool replied, cancelled;         /* [port->lock] */
	int status;                      /* [port->lock] the listener's */
};

struct alt_port {
	char name[ALT_PORT_NAME_MAX + 1];
	char path[RUNTIME_DIRECTORY_MAX + ALT_PORT_NAME_MAX + 8];
	const struct alt_port_handlers *handlers;
	struct module *module;           /* whose the handlers are; held */
	void *arg;
	unsigned max;
	int wake;                        /* eventfd: look at @stopping and @closing */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t nobody;           /* a waiter left */
	int listening;                   /* [thread] -1: nobody comes in any more */
	struct connection *sockets[SOCKETS_MAX]; /* [lock to change; thread] as they came */
	unsigned count, turn;            /* [lock] */
	LIST_HEAD(, waiter) waiters;     /* [lock] */
	uint64_t ids;                    /* [lock] */
	bool stopping, closing;          /* [lock] */
	char packet[ALT_PORT_PAYLOAD_MAX], answer[ALT_PORT_PAYLOAD_MAX]; /* [thread] */
};

/* ---- asking ---- */

/* The next one that may be asked. */
static struct connection *connection_choose_locked(struct alt_port *p)
{
	for (unsigned i = 0; i < p->count; i++) {
		struct connection *c = p->sockets[(p->turn + i) % p->count];

		if (!c->greeted || c->misses >= ALT_PORT_MISSES)
			continue;
		p->turn = (p->turn + i + 1) % p->count;
		return c;
	}
	return NULL;
}

static void connection_missed_locked(struct alt_port *p, struct connection *c)
{
	if (++c->misses == ALT_PORT_MISSES)
		alt_log(LOG_WARNING, "port '%s': the listener with pid %u did not answer %d times in a row; it is not asked until it answers",
			p->name, c->peer.pid, ALT_PORT_MISSES);
}

static void waiter_cancel(struct alt_op *op, void *arg)
{
	struct waiter *w = arg;
	struct alt_port *p = w->port;

	pthread_mutex_lock(&p->lock);
	w->cancelled = true;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&p->lock);
}

static struct timespec deadline_of(unsigned timeout_ms)
{
	uint64_t at = now_ms() + timeout_ms;

	return (struct timespec){ at / 1000, at % 1000 * 1000000 };
}

/* Why it ended, as m->why. */
static int waiter_wait_locked(struct waiter *w)
{
	struct timespec until = deadline_of(w->m->timeout_ms);
	struct alt_port *p = w->port;

	while (!w->replied && !w->cancelled && w->connection) {
		if (pthread_cond_clockwait(&w->changed, &p->lock, CLOCK_MONOTONIC, &until) == ETIMEDOUT)
			break;
	}
	if (w->replied)
		return w->m->why;
	if (w->cancelled)
		return -EINTR;
	if (!w->connection)
		return -EPIPE;
	connection_missed_locked(p, w->connection);
	return -ETIMEDOUT;
}

static int waiter_ask_locked(struct waiter *w)
{
	struct alt_port *p = w->port;
	struct alt_port_message *m = w->m;
	int r = packet_send(w->connection->fd, ALT_PORT_ASK, w->id, 0, m->data, m->size, MSG_DONTWAIT);

	if (r == -EAGAIN) { /* its queue is full: it does not read */
		connection_missed_locked(p, w->connection);
		return -ETIMEDOUT;
	}
	if (r < 0)
		return r;
	if (m->op && alt_op_set_cancel(m->op, waiter_cancel, w) < 0)
		return -EINTR;
	LIST_INSERT_HEAD(&p->waiters, w, next);
	r = waiter_wait_locked(w);
	/* A cancel routine that has begun uses @w: let it end. */
	if (m->op && !alt_op_clear_cancel(m->op))
		while (!w->cancelled)
			pthread_cond_wait(&w->changed, &p->lock);
	LIST_REMOVE(w, next);
	if (LIST_EMPTY(&p->waiters))
		pthread_cond_broadcast(&p->nobody);
	return r;
}

int alt_port_ask(struct alt_port *p, struct alt_port_message *m)
{
	struct waiter w = { .port = p, .m = m };
	int status = m->otherwise;

	pthread_cond_init(&w.changed, NULL);
	pthread_mutex_lock(&p->lock);
	w.id = ++p->ids;
	w.connection = p->closing ? NULL : connection_choose_locked(p);
	m->why = w.connection ? waiter_ask_locked(&w) : -ENOTCONN;
	if (w.replied)
		status = w.status;
	pthread_mutex_unlock(&p->lock);
	pthread_cond_destroy(&w.changed);
	return status;
}

int alt_port_tell(struct alt_port *p, const void *data, size_t size)
{
	int n = 0;

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < p->count; i++)
		n += p->sockets[i]->greeted &&
		     packet_send(p->sockets[i]->fd, ALT_PORT_TELL, 0, 0, data, size, MSG_DONTWAIT) == 0;
	pthread_mutex_unlock(&p->lock);
	return n;
}

static unsigned greeted_locked(const struct alt_port *p)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->count; i++)
		n += p->sockets[i]->greeted;
	return n;
}

unsigned alt_port_count(struct alt_port *p)
{
	unsigned n;

	pthread_mutex_lock(&p->lock);
	n = greeted_locked(p);
	pthread_mutex_unlock(&p->lock);
	return n;
}

bool alt_port_is_listener(struct alt_port *p, const struct alt_op *op)
{
	uint32_t pids[SOCKETS_MAX];
	unsigned n = 0;
	char path[64];

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < p->count; i++)
		if (p->sockets[i]->greeted)
			pids[n++] = p->sockets[i]->peer.pid;
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < n && op->caller.pid; i++) {
		/* The kernel names the thread that asks. */
		snprintf(path, sizeof path, "/proc/%u/task/%u", pids[i], op->caller.pid);
		if (pids[i] == op->caller.pid || access(path, F_OK) == 0)
			return true;
	}
	return false;
}

/* ---- the port's thread ---- */

static void connection_drop(struct alt_port *p, struct connection *c)
{
	struct waiter *w;
	unsigned i = 0;

	pthread_mutex_lock(&p->lock);
	while (p->sockets[i] != c)
		i++;
	p->count--;
	memmove(p->sockets + i, p->sockets + i + 1, (p->count - i) * sizeof c);
	LIST_FOREACH(w, &p->waiters, next) {
		if (w->connection != c)
			continue;
		w->connection = NULL;
		pthread_cond_signal(&w->changed);
	}
	pthread_mutex_unlock(&p->lock);
	close(c->fd);
	if (c->greeted && p->handlers->disconnect)
		p->handlers->disconnect(p->arg, c->cookie);
	free(c);
}

static int connection_greet(struct alt_port *p, struct connection *c, const struct alt_port_header *h)
{
	bool full;
	int r = 0;

	pthread_mutex_lock(&p->lock);
	full = greeted_locked(p) >= p->max;
	pthread_mutex_unlock(&p->lock);
	if (full)
		r = -EUSERS;
	else if (p->handlers->connect)
		r = p->handlers->connect(p->arg, &c->peer, p->packet, h->size, &c->cookie);
	/* It is the first thing a listener is told: nobody asks it before. */
	pthread_mutex_lock(&p->lock);
	packet_send(c->fd, ALT_PORT_ACCEPT, h->id, r, NULL, 0, MSG_DONTWAIT);
	c->greeted = r == 0;
	pthread_mutex_unlock(&p->lock);
	return r;
}

static void connection_reply(struct alt_port *p, struct connection *c, const struct alt_port_header *h)
{
	struct waiter *w;

	pthread_mutex_lock(&p->lock);
	c->misses = 0;
	LIST_FOREACH(w, &p->waiters, next)
		if (w->connection == c && w->id == h->id && !w->replied)
			break;
	if (w) {
		struct alt_port_message *m = w->m;
		size_t room = m->reply ? m->reply_size : 0;

		if (room)
			memcpy(m->reply, p->packet, h->size < room ? h->size : room);
		m->why = m->reply && h->size > room ? -EMSGSIZE : 0;
		m->reply_size = h->size;
		w->status = h->status <= 0 && h->status > -4096 ? h->status : -EPROTO;
		w->replied = true;
		pthread_cond_signal(&w->changed);
	}
	pthread_mutex_unlock(&p->lock);
	if (!w)
		packet_send(c->fd, ALT_PORT_LATE, h->id, 0, NULL, 0, MSG_DONTWAIT);
}

static int connection_call(struct alt_port *p, struct connection *c, const struct alt_port_header *h)
{
	long n = p->handlers->message ? p->handlers->message(p->arg, c->cookie, p->packet, h->size, p->answer, sizeof p->answer) :
		 -EOPNOTSUPP;

	if (n > (long)sizeof p->answer)
		n = -EOVERFLOW;
	return packet_send(c->fd, ALT_PORT_ANSWER, h->id, n < 0 ? n : 0, p->answer, n < 0 ? 0 : n, MSG_DONTWAIT);
}

/* One packet. Not 0: the connection is at its end. */
static int connection_serve(struct alt_port *p, struct connection *c)
{
	struct alt_port_header h;
	int r = packet_receive(c->fd, &h, p->packet, sizeof p->packet, MSG_DONTWAIT);

	if (r == -EAGAIN)
		return 0;
	if (!r && h.kind == ALT_PORT_CONNECT && !c->greeted)
		return connection_greet(p, c, &h);
	if (!r && h.kind == ALT_PORT_REPLY && c->greeted)
		connection_reply(p, c, &h);
	else if (!r && h.kind == ALT_PORT_CALL && c->greeted)
		return connection_call(p, c, &h);
	else if (!r)
		r = -EPROTO;
	if (r == -EPROTO)
		alt_log(LOG_WARNING, "port '%s': what pid %u sent is no packet of a port; it is sent away", p->name, c->peer.pid);
	return r;
}

/* Whoever has waited the longest to say who it is gives its place up: so many listeners there cannot be. */
static void place_make(struct alt_port *p)
{
	unsigned i = 0;

	if (p->count < SOCKETS_MAX)
		return;
	while (p->sockets[i]->greeted)
		i++;
	connection_drop(p, p->sockets[i]);
}

/* false: it cannot be taken in now, and would be there at the next look as well. */
static bool port_accept(struct alt_port *p)
{
	int fd = accept4(p->listening, NULL, NULL, SOCK_CLOEXEC);
	struct connection *c = NULL;
	struct ucred peer;
	socklen_t size = sizeof peer;

	if (fd < 0)
		return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (peer.uid == 0 || peer.uid == geteuid()))
		c = calloc(1, sizeof *c);
	if (!c) {
		close(fd);
		return true;
	}
	place_make(p);
	c->fd = fd;
	c->peer = (struct alt_caller){ peer.pid, peer.uid, peer.gid };
	pthread_mutex_lock(&p->lock);
	p->sockets[p->count++] = c;
	pthread_mutex_unlock(&p->lock);
	return true;
}

static void port_stop(struct alt_port *p)
{
	if (p->listening < 0)
		return;
	unlink(p->path);
	close(p->listening);
	p->listening = -1;
}

static void *port_main(void *arg)
{
	struct alt_port *p = arg;
	struct connection *polled[SOCKETS_MAX];
	struct pollfd fds[SOCKETS_MAX + 2];
	bool stopping, closing, open = true;
	eventfd_t ignored;

	for (;;) {
		unsigned n = p->count;   /* changed by this thread alone */

		fds[0] = (struct pollfd){ p->wake, POLLIN };
		fds[1] = (struct pollfd){ open ? p->listening : -1, POLLIN };
		for (unsigned i = 0; i < n; i++) {
			polled[i] = p->sockets[i];
			fds[i + 2] = (struct pollfd){ polled[i]->fd, POLLIN };
		}
		if (poll(fds, n + 2, open ? -1 : CLOSED_MS) < 0)
			continue;
		open = true;
		if (fds[0].revents)
			eventfd_read(p->wake, &ignored);
		pthread_mutex_lock(&p->lock);
		stopping = p->stopping;
		closing = p->closing;
		pthread_mutex_unlock(&p->lock);
		if (stopping)
			port_stop(p);
		if (closing)
			break;
		for (unsigned i = 0; i < n; i++)
			if (fds[i + 2].revents && connection_serve(p, polled[i]))
				connection_drop(p, polled[i]);
		if (fds[1].revents && p->listening >= 0)
			open = port_accept(p);
	}
	while (p->count)
		connection_drop(p, p->sockets[p->count - 1]);
	return NULL;
}

/* ---- opening and closing ---- */

static bool name_is_good(const char *name)
{
	size_t n = strlen(name);

	if (!n || n > ALT_PORT_NAME_MAX || *name == '.')
		return false;
	for (const char *c = name; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("-_.", *c))
			return false;
	return true;
}

/* A socket of this name whose server is gone is cleaned away. The directory's lock is held: of two that come, one waits. */
static int path_free(const struct alt_port *p, const struct sockaddr_un *a, struct alt_error *err)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), r = 0;
	struct ucred peer = { 0 };
	socklen_t size = sizeof peer;

	if (fd < 0)
		return alt_error_set(err, -errno, "port '%s': %s", p->name, strerror(errno));
	if (connect(fd, (const struct sockaddr *)a, sizeof *a) == 0 || errno == EAGAIN) {
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
		r = alt_error_status(err, STATUS_OBJECT_NAME_COLLISION,
				     "port '%s' is open already, in the server with pid %d; choose another name", p->name, peer.pid);
	} else {
		unlink(p->path);
	}
	close(fd);
	return r;
}

static int port_listen(struct alt_port *p, struct alt_error *err)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	char dir[RUNTIME_DIRECTORY_MAX + 1];
	int lock, r = runtime_directory(dir, sizeof dir, err);

	if (r < 0)
		return r;
	snprintf(p->path, sizeof p->path, "%s/%s.port", dir, p->name);
	snprintf(a.sun_path, sizeof a.sun_path, "%s", p->path);
	lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lock < 0 || flock(lock, LOCK_EX) < 0) {
		r = alt_error_set(err, -errno, "cannot lock the runtime directory '%s': %s", dir, strerror(errno));
		close(lock);
		return r;
	}
	r = path_free(p, &a, err);
	if (!r) {
		p->listening = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (p->listening < 0 || bind(p->listening, (struct sockaddr *)&a, sizeof a) < 0 || listen(p->listening, SOCKETS_MAX) < 0)
			r = alt_error_set(err, -errno, "cannot open the port '%s': %s", p->path, strerror(errno));
	}
	close(lock);
	return r;
}

static const struct alt_port_handlers no_handlers;

/* As long as the port is open, its thread calls the module: also one that forgets it and is unloaded. */
static void module_keep(struct alt_port *p, bool on)
{
	const struct alt_port_handlers *h = p->handlers;
	const void *code = h->connect ? (const void *)h->connect : (const void *)h->disconnect;
	char who[ALT_PORT_NAME_MAX + 8];

	if (h->message)
		code = (const void *)h->message;
	snprintf(who, sizeof who, "port '%s'", p->name);
	if (on)
		module_hold(p->module = module_of(code), who);
	else
		module_release(p->module, who);
}

int alt_port_open(const char *name, const struct alt_port_handlers *handlers, void *arg, unsigned connections,
		  struct alt_port **ret, struct alt_error *err)
{
	struct alt_port *p;
	int r;

	*ret = NULL;
	if (!name_is_good(name))
		return alt_error_set(err, -EINVAL, "port '%s': a name has 1 to %d letters, digits, '-', '_' and '.'", name, ALT_PORT_NAME_MAX);
	if (!connections || connections > ALT_PORT_CONNECTIONS_MAX)
		return alt_error_set(err, -EINVAL, "port '%s': 1 to %d connections, not %u", name, ALT_PORT_CONNECTIONS_MAX, connections);
	p = calloc(1, sizeof *p);
	if (!p)
		return alt_error_set(err, -ENOMEM, "port '%s': no memory", name);
	strcpy(p->name, name);
	p->handlers = handlers ? handlers : &no_handlers;
	p->arg = arg;
	p->max = connections;
	p->listening = -1;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->nobody, NULL);
	LIST_INIT(&p->waiters);
	p->wake = eventfd(0, EFD_CLOEXEC);
	r = p->wake < 0 ? alt_error_set(err, -errno, "port '%s': %s", name, strerror(errno)) : port_listen(p, err);
	module_keep(p, true);
	if (!r && (r = -pthread_create(&p->thread, NULL, port_main, p)))
		alt_error_set(err, r, "port '%s': cannot start its thread: %s", name, strerror(-r));
	if (!r) {
		*ret = p;
		return 0;
	}
	module_keep(p, false);
	port_stop(p);
	if (p->wake >= 0)
		close(p->wake);
	free(p);
	return r;
}

static void port_tell_thread(struct alt_port *p, bool closing)
{
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	p->closing |= closing;
	pthread_mutex_unlock(&p->lock);
	eventfd_write(p->wake, 1);
}

void alt_port_stop(struct alt_port *p)
{
	port_tell_thread(p, false);
}

void alt_port_close(struct alt_port *p)
{
	if (!p)
		return;
	port_tell_thread(p, true);
	pthread_join(p->thread, NULL);
	pthread_mutex_lock(&p->lock);
	while (!LIST_EMPTY(&p->waiters))
		pthread_cond_wait(&p->nobody, &p->lock);
	pthread_mutex_unlock(&p->lock);
	module_keep(p, false);
	close(p->wake);
	pthread_cond_destroy(&p->nobody);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
