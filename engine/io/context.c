/* SPDX-License-Identifier: MIT */
/* The blob the filter sees follows a header; lists are short (one entry an instance), so they are walked. */
#include "io/io.h"
#include <altitude/log.h>

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

struct contexts_live {
	_Atomic uint32_t count;              /* contexts ever linked and not yet freed, and one for the instance */
	_Atomic bool closed;                 /* the instance is going: nothing more is linked */
	_Atomic uint32_t leaving;            /* unlinked by the engine, whose own reference is not given back yet */
	void (*over)(void *arg);             /* set when the instance gives it up: called with the last one's end */
	void *arg;
};

struct context {
	struct context *next;                /* [volume.contexts_lock] */
	const void *owner;                   /* the instance, or its filter's live: set while linked */
	struct contexts_live *live;          /* of where it hung last */
	_Atomic uint32_t refs;
	void (*cleanup)(void *);
	_Alignas(16) char bytes[];
};

struct contexts_live *contexts_live_new(void)
{
	struct contexts_live *live = calloc(1, sizeof *live);

	if (live)
		atomic_init(&live->count, 1);
	return live;
}

static void live_drop(struct contexts_live *live)
{
	if (atomic_fetch_sub(&live->count, 1) != 1)
		return;
	if (live->over)
		live->over(live->arg);
	free(live);
}

void contexts_close(struct contexts_live *live)
{
	atomic_store(&live->closed, true);
}

uint32_t contexts_verify(const struct contexts_live *live, const char *who)
{
	uint32_t left = live ? atomic_load(&live->count) - 1 : 0;

	if (left && who)
		alt_log(LOG_ERR, "verifier: filter '%s' leaks %u context%s: got or referenced, never released", who, left,
			left == 1 ? "" : "s");
	return left;
}

void contexts_give_up(struct contexts_live *live, void (*over)(void *arg), void *arg)
{
	if (!live)
		return;
	live->over = over;
	live->arg = arg;
	live_drop(live);
}

static struct context *context_of(void *blob)
{
	return (struct context *)((char *)blob - offsetof(struct context, bytes));
}

void *alt_context_new(size_t size, void (*cleanup)(void *))
{
	struct context *c = size <= SIZE_MAX - sizeof *c ? calloc(1, sizeof *c + size) : NULL;

	if (!c)
		return NULL;
	atomic_init(&c->refs, 1);
	c->cleanup = cleanup;
	return c->bytes;
}

void alt_context_ref(void *blob)
{
	atomic_fetch_add(&context_of(blob)->refs, 1);
}

void alt_context_unref(void *blob)
{
	struct context *c;

	if (!blob)
		return;
	c = context_of(blob);
	if (atomic_fetch_sub(&c->refs, 1) != 1)
		return;
	if (c->cleanup)
		c->cleanup(blob);
	if (c->live)
		live_drop(c->live);
	free(c);
}

static struct context **find_locked(struct context **list, const void *owner)
{
	while (*list && (*list)->owner != owner)
		list = &(*list)->next;
	return list;
}

int context_set(struct alt_volume *v, struct context **list, const void *owner, struct contexts_live *live,
		enum alt_context_set mode, void *blob, void **ret_old)
{
	struct context *c = context_of(blob), *old, **at;
	struct contexts_live *was = NULL;
	int r = 0;

	pthread_mutex_lock(&v->contexts_lock);
	at = find_locked(list, owner);
	old = *at;
	if (atomic_load(&live->closed)) {
		r = -ESHUTDOWN;
		old = NULL;
	} else if (c->owner) {
		r = -EALREADY;
		old = NULL;
	} else if (old && mode == ALT_CONTEXT_KEEP) {
		r = -EEXIST;
		if (ret_old)
			atomic_fetch_add(&old->refs, 1);
	} else {
		c->next = old ? old->next : NULL;
		c->owner = owner;
		if (c->live != live) {
			was = c->live;
			c->live = live;
			atomic_fetch_add(&live->count, 1);
		}
		atomic_fetch_add(&c->refs, 1);
		*at = c;
		if (old)
			old->owner = NULL;
	}
	pthread_mutex_unlock(&v->contexts_lock);
	if (was)
		live_drop(was);
	if (old && ret_old)
		*ret_old = old->bytes;
	else if (old && !r)
		alt_context_unref(old->bytes);
	return r;
}

void *context_get(struct alt_volume *v, struct context **list, const void *owner, bool unlink)
{
	struct context *c, **at;

	pthread_mutex_lock(&v->contexts_lock);
	at = find_locked(list, owner);
	c = *at;
	if (c && unlink) {
		*at = c->next;
		c->owner = NULL;
	} else if (c) {
		atomic_fetch_add(&c->refs, 1);
	}
	pthread_mutex_unlock(&v->contexts_lock);
	return c ? c->bytes : NULL;
}

struct context *contexts_unlink(struct context **list, struct alt_volume *v, const void *owner)
{
	struct context *gone = NULL, *c, **at;

	pthread_mutex_lock(&v->contexts_lock);
	for (at = list; *at;) {
		c = *at;
		if (owner && c->owner != owner) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		c->owner = NULL;
		c->next = gone;
		atomic_fetch_add(&c->live->leaving, 1);
		gone = c;
	}
	pthread_mutex_unlock(&v->contexts_lock);
	return gone;
}

void contexts_put(struct context *gone)
{
	struct context *c;

	while ((c = gone)) {
		struct contexts_live *live = c->live;

		gone = c->next;
		alt_context_unref(c->bytes);
		atomic_fetch_sub(&live->leaving, 1); /* until then the instance keeps it: see contexts_settle() */
	}
}

void contexts_drop(struct context **list, struct alt_volume *v, const void *owner)
{
	contexts_put(contexts_unlink(list, v, owner));
}

void contexts_settle(struct contexts_live *live)
{
	while (atomic_load(&live->leaving))
		poll(NULL, 0, 1);
}
