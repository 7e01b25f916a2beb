/* SPDX-License-Identifier: MIT */
/*
 * Tells the kernel what changed below. A thread of its own: a notice waits for locks that an operation holds, so no thread
 * that serves may ever send one.
 *
 * The kernel makes up a root that nobody may enter, and asks for the true one at the first step into it. An answer that a
 * notice overtakes is thrown away; the caller would be refused by what was made up. So until somebody has been let in, the
 * root's attributes are not remembered, and there is nothing to be told of it.
 */
#include "session/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AGAIN_US 10000u          /* without memory */

static void node_tell(struct session *s, uint64_t number, bool data, unsigned tries)
{
	char out[WIRE_FIXED_MAX + 256];
	struct iovec iov = { out, wire_notify_inode(number, data ? 0 : -1, 0, out) };

	if ((number != IO_ROOT_ID || atomic_load(&s->entered)) && session_send(s, &iov, 1) == -ENOENT)
		notices_again(s->volume, number, data, tries);
}

static void entry_tell(struct session *s, uint64_t parent, const char *name)
{
	char out[WIRE_FIXED_MAX + 256];
	struct iovec iov = { out, wire_notify_entry(parent, name, strlen(name), false, out) };

	if (iov.iov_len)
		session_send(s, &iov, 1);
}

/*
 * Without epochs each name is taken back. What is not there has no name here, but goes with the name of the directory it is not
 * in; in the root, which has none, nothing of the kind is remembered.
 */
static void send_names(struct session *s)
{
	struct notice *n, *next;
	int error;

	for (size_t i = 0; names_at(s->volume, i, &n, &error); i += !error) {
		for (; n; n = next) {
			next = n->next;
			entry_tell(s, n->number, n->name);
			free(n);
		}
		if (error)
			usleep(AGAIN_US);
	}
}

static void send_all(struct session *s, bool data)
{
	char out[WIRE_FIXED_MAX + 256];
	struct iovec iov = { out, wire_notify_epoch(out) };
	uint64_t number;

	if (atomic_load(&s->epochs))
		session_send(s, &iov, 1);
	else
		send_names(s);
	node_tell(s, IO_ROOT_ID, data, 0);
	for (uint32_t i = 0; node_at(s->volume, i, &number); i++)
		if (number)
			node_tell(s, number, data, 0);
}

/* The kernel forgets the name in any case, and takes back the link count of @child when that is what had it. */
static void tell_delete(struct session *s, const struct notice *n)
{
	char out[WIRE_FIXED_MAX + 256];
	struct iovec iov = { out, wire_notify_delete(n->number, n->child, n->name, strlen(n->name), out) };

	if (iov.iov_len)
		session_send(s, &iov, 1);
}

static void *notifier_main(void *arg)
{
	struct session *s = arg;
	struct notice *n;

	while ((n = notices_take(s->volume))) {
		if (n->kind == NOTICE_ENTRY)
			entry_tell(s, n->number, n->name);
		else if (n->kind == NOTICE_DELETE)
			tell_delete(s, n);
		else if (n->kind == NOTICE_NODE)
			node_tell(s, n->number, n->data, n->tries);
		else
			send_all(s, n->data);
	}
	return NULL;
}

int notifier_start(struct session *s)
{
	int r;

	notices_listen(s->volume); /* before the first answer that could be remembered */
	r = pthread_create(&s->notifier, NULL, notifier_main, s);
	s->has_notifier = !r;
	return -r;
}

void notifier_stop(struct session *s)
{
	if (s->has_notifier)
		notices_stop(s->volume);
}

bool notifier_over(struct session *s)
{
	if (s->has_notifier && pthread_tryjoin_np(s->notifier, NULL))
		return false;
	s->has_notifier = false;
	return true;
}
