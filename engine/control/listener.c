/* SPDX-License-Identifier: MIT */
/* Communication ports, the side of the program that is asked. */
#include "base/base.h"
#include "wire/packet.h"
#include <altitude/listener.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A message that came while an answer was waited for. */
struct kept { STAILQ_ENTRY(kept) next; struct alt_port_header h; char data[]; };

struct alt_listener {
	int fd;
	uint64_t calls;
	unsigned long late;
	STAILQ_HEAD(, kept) kept;        /* oldest first */
	char packet[ALT_PORT_PAYLOAD_MAX];
};

static int greet(struct alt_listener *l, const char *port, const void *context, size_t size, struct alt_error *err)
{
	struct alt_port_header h = { 0 };
	int r = packet_send(l->fd, ALT_PORT_CONNECT, 1, 0, context, size, 0);

	if (r == -EMSGSIZE)
		return alt_error_set(err, r, "port '%s': a context has at most %d bytes", port, ALT_PORT_PAYLOAD_MAX);
	if (!r)
		r = packet_receive(l->fd, &h, NULL, 0, 0);
	if (r < 0)
		return alt_error_set(err, -EPIPE, "port '%s' closed the connection; it lets in root and its server's user", port);
	if (h.kind != ALT_PORT_ACCEPT)
		return alt_error_set(err, -EPROTO, "port '%s' is none of Altitude's", port);
	if (h.status)
		return alt_error_set(err, h.status, h.status == -EUSERS ? "port '%s' has as many listeners as it takes" :
				     "port '%s' does not let this program in: %s", port, strerror(-h.status));
	return 0;
}

static int dial(struct alt_listener *l, const char *port, struct alt_error *err)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	char dir[RUNTIME_DIRECTORY_MAX + 1];
	int r = runtime_directory(dir, sizeof dir, err);

	if (r < 0)
		return r;
	if (strlen(port) > ALT_PORT_NAME_MAX || strchr(port, '/'))
		return alt_error_set(err, -ENOENT, "there is no port '%s': a name has at most %d bytes and no '/'", port, ALT_PORT_NAME_MAX);
	snprintf(a.sun_path, sizeof a.sun_path, "%s/%s.port", dir, port);
	l->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (l->fd < 0 || connect(l->fd, (struct sockaddr *)&a, sizeof a) < 0)
		return alt_error_set(err, errno == ECONNREFUSED ? -ENOENT : -errno, "there is no port '%s' (%s): %s; is the filter attached?",
				     port, a.sun_path, strerror(errno));
	return 0;
}

int alt_listener_connect(const char *port, const void *context, size_t size, struct alt_listener **ret,
			 struct alt_error *err)
{
	struct alt_listener *l = calloc(1, sizeof *l);
	int r;

	*ret = NULL;
	if (!l)
		return alt_error_set(err, -ENOMEM, "port '%s': no memory", port);
	l->fd = -1;
	STAILQ_INIT(&l->kept);
	r = dial(l, port, err);
	if (!r)
		r = greet(l, port, context, size, err);
	if (r < 0)
		alt_listener_close(l);
	else
		*ret = l;
	return r;
}

int alt_listener_fd(const struct alt_listener *l)
{
	return l->fd;
}

/* The next message that is not about a late reply. */
static int next(struct alt_listener *l, struct alt_port_header *h, int flags)
{
	int r;

	while ((r = packet_receive(l->fd, h, l->packet, sizeof l->packet, flags)) == 0 && h->kind == ALT_PORT_LATE)
		l->late++;
	return r == -EPROTO ? -EPIPE : r;
}

static long hand_out(struct alt_listener *l, const struct alt_port_header *h, const void *data, void *buf, size_t size,
		     uint64_t *ret_id)
{
	*ret_id = h->kind == ALT_PORT_ASK ? h->id : 0;
	if (h->size > size) {
		if (*ret_id)
			alt_listener_reply(l, *ret_id, -EMSGSIZE, NULL, 0);
		return -EMSGSIZE;
	}
	if (h->size)
		memcpy(buf, data, h->size);
	return h->size;
}

long alt_listener_get(struct alt_listener *l, uint64_t *ret_id, void *buf, size_t size, int timeout_ms)
{
	struct kept *k = STAILQ_FIRST(&l->kept);
	uint64_t until = now_ms() + timeout_ms;
	struct alt_port_header h;
	long r;

	if (k) {
		STAILQ_REMOVE_HEAD(&l->kept, next);
		r = hand_out(l, &k->h, k->data, buf, size, ret_id);
		free(k);
		return r;
	}
	while ((r = next(l, &h, MSG_DONTWAIT)) == -EAGAIN || (!r && h.kind != ALT_PORT_ASK && h.kind != ALT_PORT_TELL)) {
		uint64_t now = now_ms();
		struct pollfd p = { l->fd, POLLIN };

		if (timeout_ms >= 0 && now >= until)
			return -ETIMEDOUT;
		poll(&p, 1, timeout_ms < 0 ? -1 : (int)(until - now));
	}
	if (r < 0)
		return r;
	return hand_out(l, &h, l->packet, buf, size, ret_id);
}

int alt_listener_reply(struct alt_listener *l, uint64_t id, int status, const void *data, size_t size)
{
	return packet_send(l->fd, ALT_PORT_REPLY, id, status, data, size, 0);
}

long alt_listener_call(struct alt_listener *l, const void *in, size_t size, void *out, size_t room)
{
	uint64_t id = ++l->calls;
	struct alt_port_header h;
	int r = packet_send(l->fd, ALT_PORT_CALL, id, 0, in, size, 0);

	while (!r && !(r = next(l, &h, 0))) {
		struct kept *k;

		if (h.kind == ALT_PORT_ANSWER && h.id == id) {
			if (h.status < 0)
				return h.status;
			if (h.size < room)
				room = h.size;
			if (room)
				memcpy(out, l->packet, room);
			return room;
		}
		if (h.kind != ALT_PORT_ASK && h.kind != ALT_PORT_TELL)
			continue;
		k = malloc(sizeof *k + h.size);
		if (!k)
			return -ENOMEM;
		k->h = h;
		memcpy(k->data, l->packet, h.size);
		STAILQ_INSERT_TAIL(&l->kept, k, next);
	}
	return r;
}

unsigned long alt_listener_late(const struct alt_listener *l)
{
	return l->late;
}

void alt_listener_close(struct alt_listener *l)
{
	struct kept *k;

	if (!l)
		return;
	while ((k = STAILQ_FIRST(&l->kept))) {
		STAILQ_REMOVE_HEAD(&l->kept, next);
		free(k);
	}
	if (l->fd >= 0)
		close(l->fd);
	free(l);
}
