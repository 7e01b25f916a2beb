/* SPDX-License-Identifier: MIT */
/*
 * Notices wait in a bounded queue. When it is full they become one: forget everything. A missed notice would be a wrong
 * answer; a superfluous one costs a request.
 */
#include "io/node.h"
#include <altitude/notify.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NOTICES_MAX 65536
#define LATER_MAX 1024u          /* nodes that are told again; more, and it is everything */
#define LATER_MS 1024u           /* the longest that one of them waits */
#define STRANGERS 64u            /* keys that were told of last and are no node's */
#define SAME_KEY 4u              /* nodes of one key: the one there is, and those of the past that are still known */
#define LEFT_MANY 16u            /* directories that had one name, before the kernel heard of it */

struct notices {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct notice *first, **last;    /* [lock] */
	struct alt_key strangers[STRANGERS]; /* [lock] the volume's counts them */
	struct notice *later;            /* [lock] to be told again, one for each node */
	struct notice *told;             /* [lock] taken: the kernel may not know yet */
	struct notice *whole;            /* that of everything: its memory cannot fail */
	uint32_t count, later_count;     /* [lock] */
	uint64_t all_due_ms;             /* [lock] not 0: all is to be forgotten, instead of what would be told again */
	bool all, all_data;              /* [lock] all is to be forgotten */
	bool listening, stopping;        /* [lock] somebody takes */
};

int notices_start(struct alt_volume *v)
{
	struct notices *q = calloc(1, sizeof *q);

	if (q)
		q->whole = calloc(1, sizeof *q->whole + 1);
	if (!q || !q->whole) {
		free(q);
		return -ENOMEM;
	}
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->changed, NULL);
	q->last = &q->first;
	v->notices = q;
	return 0;
}

static void chain_free(struct notice *n)
{
	for (struct notice *next; n; n = next) {
		next = n->next;
		free(n);
	}
}

static void clear_locked(struct notices *q)
{
	chain_free(q->first);
	q->first = NULL;
	q->last = &q->first;
	q->count = 0;
}

void notices_stop(struct alt_volume *v)
{
	struct notices *q = v->notices;

	pthread_mutex_lock(&q->lock);
	q->stopping = true;
	pthread_cond_broadcast(&q->changed);
	pthread_mutex_unlock(&q->lock);
}

void notices_free(struct alt_volume *v)
{
	if (!v->notices)
		return;
	clear_locked(v->notices);
	chain_free(v->notices->later);
	if (v->notices->told != v->notices->whole)
		free(v->notices->told);
	free(v->notices->whole);
	pthread_cond_destroy(&v->notices->changed);
	pthread_mutex_destroy(&v->notices->lock);
	free(v->notices);
	v->notices = NULL;
}

static void all_locked(struct notices *q, bool data)
{
	if (!q->listening)
		return;
	q->all = true;
	q->all_data = q->all_data || data;
	pthread_cond_signal(&q->changed);
}

void notice_all(struct alt_volume *v, bool data)
{
	pthread_mutex_lock(&v->notices->lock);
	all_locked(v->notices, data);
	pthread_mutex_unlock(&v->notices->lock);
}

static void append_locked(struct notices *q, struct notice *n)
{
	n->next = NULL;
	*q->last = n;
	q->last = &n->next;
	q->count++;
}

/* What it says, and a @name to copy or NULL. */
static void notice_add(struct alt_volume *v, const struct notice *what, const char *name)
{
	struct notices *q = v->notices;
	size_t len = name ? strlen(name) : 0;
	struct notice *n = malloc(sizeof *n + len + 1);

	if (n) {
		*n = *what;
		memcpy(n->name, name ? name : "", len + 1);
	}
	pthread_mutex_lock(&q->lock);
	if (!q->listening) {
		free(n); /* nothing is remembered yet */
	} else if (!n || q->count == NOTICES_MAX) {
		free(n);
		clear_locked(q);
		all_locked(q, true);
	} else {
		append_locked(q, n);
		pthread_cond_signal(&q->changed);
	}
	pthread_mutex_unlock(&q->lock);
}

void notices_listen(struct alt_volume *v)
{
	pthread_mutex_lock(&v->notices->lock);
	v->notices->listening = true;
	pthread_mutex_unlock(&v->notices->lock);
}

/* What is due is to be told now; until when the others wait, or 0. */
static uint64_t due_locked(struct notices *q)
{
	uint64_t now = q->later || q->all_due_ms ? now_ms() : 0, next = q->all_due_ms;

	if (next && next <= now) {
		q->all = true;
		q->all_due_ms = next = 0;
	}
	for (struct notice **at = &q->later, *n; (n = *at);) {
		if (n->due_ms <= now) {
			*at = n->next;
			q->later_count--;
			append_locked(q, n);
			continue;
		}
		if (!next || n->due_ms < next)
			next = n->due_ms;
		at = &n->next;
	}
	return next;
}

static void wait_locked(struct notices *q)
{
	uint64_t next;
	struct timespec until;

	while (next = due_locked(q), !q->stopping && !q->all && !q->first) {
		until = (struct timespec){ .tv_sec = next / 1000, .tv_nsec = next % 1000 * 1000000 };
		if (next)
			pthread_cond_clockwait(&q->changed, &q->lock, CLOCK_MONOTONIC, &until);
		else
			pthread_cond_wait(&q->changed, &q->lock);
	}
}

struct notice *notices_take(struct alt_volume *v)
{
	struct notices *q = v->notices;
	struct notice *n = NULL;

	pthread_mutex_lock(&q->lock);
	if (q->told != q->whole)
		free(q->told);
	q->told = NULL;
	wait_locked(q);
	if (q->stopping) {
		q->listening = false;
	} else if (q->all) {
		n = q->whole;
		*n = (struct notice){ .kind = NOTICE_ALL, .data = q->all_data };
		q->all = q->all_data = false;
		clear_locked(q);
	} else {
		n = q->first;
		q->first = n->next;
		if (!q->first)
			q->last = &q->first;
		q->count--;
	}
	q->told = n;
	pthread_mutex_unlock(&q->lock);
	return n;
}

static bool says_of(const struct notice *n, uint64_t parent, const char *name)
{
	return (n->kind == NOTICE_ENTRY || n->kind == NOTICE_DELETE) && n->number == parent && !strcmp(n->name, name);
}

/* What had a name of which the kernel is yet to be told: numbers, some 0. How many, @most of them at most. */
static unsigned notices_left(struct alt_volume *v, uint64_t parent, const char *name, uint64_t ret[], unsigned most)
{
	struct notices *q = v->notices;
	unsigned count = 0;

	pthread_mutex_lock(&q->lock);
	if (q->told && says_of(q->told, parent, name) && count < most)
		ret[count++] = q->told->child;
	for (struct notice *n = q->first; n && count < most; n = n->next)
		if (says_of(n, parent, name))
			ret[count++] = n->child;
	pthread_mutex_unlock(&q->lock);
	return count;
}

static void bury(struct alt_node *n)
{
	if (!n)
		return;
	if (n->rec.type == S_IFDIR)
		node_hide(n);
	alt_node_unref(n);
}

void node_bury(struct alt_node *parent, const char *name)
{
	struct alt_volume *v = parent->volume;
	uint64_t left[LEFT_MANY];
	unsigned count;

	bury(node_child(parent, name));
	/* Who left it by what was heard from below has no such name here any more. */
	count = notices_left(v, parent->rec.number, name, left, LEFT_MANY);
	while (count--)
		bury(left[count] ? node_get(v, left[count]) : NULL);
}

static void node_tell(const struct alt_node *n, bool data)
{
	notice_add(n->volume, &(struct notice){ .kind = NOTICE_NODE, .number = n->rec.number, .data = data }, NULL);
}

static void stranger_note(struct alt_volume *v, struct alt_key key)
{
	pthread_mutex_lock(&v->notices->lock);
	v->notices->strangers[atomic_load(&v->strangers) % STRANGERS] = key;
	atomic_fetch_add(&v->strangers, 1);
	pthread_mutex_unlock(&v->notices->lock);
}

/* One more that waits; everything, when they are too many. */
static void later_add_locked(struct notices *q, const struct notice *what)
{
	struct notice *n = q->later;

	while (n && n->number != what->number)
		n = n->next;
	if (n) {
		n->data = n->data || what->data;
		return;
	}
	n = q->later_count < LATER_MAX && !q->all_due_ms ? malloc(sizeof *n + 1) : NULL;
	if (n) {
		*n = *what;
		n->name[0] = '\0';
		n->next = q->later;
		q->later = n;
		q->later_count++;
		return;
	}
	for (n = q->later; n; n = n->next)
		q->all_data = q->all_data || n->data;
	chain_free(q->later);
	q->later = NULL;
	q->later_count = 0;
	q->all_data = q->all_data || what->data;
	if (!q->all_due_ms)
		q->all_due_ms = now_ms() + LATER_MS;
}

/*
 * A node that the kernel was told of is told again, until it forgets it. Of another it knows nothing; and whose answer is about to
 * tell it looks for strangers after the node is counted as told: one of us sees the other.
 */
void notices_again(struct alt_volume *v, uint64_t number, bool data, unsigned tries)
{
	struct alt_node *node = node_get(v, number);
	uint64_t wait_ms = tries < 10 ? 1u << tries : LATER_MS;

	if (!node)
		return;
	if (!atomic_load(&node->rec.lookups))
		stranger_note(v, node->rec.key);
	if (atomic_load(&node->rec.lookups)) {
		pthread_mutex_lock(&v->notices->lock);
		later_add_locked(v->notices, &(struct notice){ .kind = NOTICE_NODE, .number = number, .data = data,
							       .tries = tries + 1, .due_ms = now_ms() + wait_ms });
		pthread_mutex_unlock(&v->notices->lock);
	}
	alt_node_unref(node);
}

void notices_missed(const struct op *op, struct alt_entry *e)
{
	struct alt_volume *v = op->pub.volume;
	uint64_t now;
	bool missed;

	if (atomic_load(&v->strangers) == op->strangers)
		return;
	pthread_mutex_lock(&v->notices->lock);
	now = atomic_load(&v->strangers);
	missed = now - op->strangers > STRANGERS;
	for (uint64_t i = op->strangers; i < now && !missed; i++)
		missed = key_same(v->notices->strangers[i % STRANGERS], e->key);
	pthread_mutex_unlock(&v->notices->lock);
	if (missed)
		e->attr_ttl_ms = ALT_TTL_NONE;
}

void alt_notify_node(struct alt_volume *v, struct alt_key key, bool data)
{
	struct alt_node *of[SAME_KEY];
	unsigned count = node_find(v, key, of, SAME_KEY);

	/* It may become one just now. Who makes it so looks at the number afterwards; who did so before is found. */
	if (!count) {
		stranger_note(v, key);
		count = node_find(v, key, of, SAME_KEY);
	}
	for (unsigned i = 0; i < count; i++) {
		node_tell(of[i], data);
		alt_node_unref(of[i]);
	}
}

/*
 * @gone  what had the name has none any more. By now another may have it, put there through the volume: a directory would be
 *        dead to the kernel from then on, of a file the attributes are asked for anew.
 */
static void entry_tell(struct alt_node *parent, const char *name, bool gone)
{
	struct alt_node *child = node_child(parent, name);
	struct notice what = {
		.kind = gone && child && child->rec.type != S_IFDIR ? NOTICE_DELETE : NOTICE_ENTRY, .number = parent->rec.number,
		.child = child ? child->rec.number : 0,
	};

	notice_add(parent->volume, &what, name);
	node_tell(parent, true); /* its listing as well */
	if (child) {
		node_tell(child, false);
		alt_node_unref(child);
	}
}

static void entry_notify(struct alt_volume *v, struct alt_key parent, const char *name, bool gone)
{
	struct alt_node *dirs[SAME_KEY];
	unsigned count = node_find(v, parent, dirs, SAME_KEY);

	for (unsigned i = 0; i < count; i++) {
		entry_tell(dirs[i], name, gone);
		alt_node_unref(dirs[i]);
	}
}

void alt_notify_entry(struct alt_volume *v, struct alt_key parent, const char *name)
{
	entry_notify(v, parent, name, false);
}

void alt_notify_delete(struct alt_volume *v, struct alt_key parent, const char *name)
{
	entry_notify(v, parent, name, true);
}

/* Whether the name is, here, one of what moved. By now another may have it, put there through the volume. */
static bool is_moved(struct alt_node *dir, const char *name, const struct alt_key *moved)
{
	struct alt_node *child = moved ? node_child(dir, name) : NULL;
	bool is = !child || key_same(child->rec.key, *moved);

	if (child)
		alt_node_unref(child);
	return is;
}

void alt_notify_rename(struct alt_volume *v, struct alt_key from, const char *name, struct alt_key to, const char *new_name,
		       const struct alt_key *moved)
{
	struct alt_node *old[SAME_KEY], *new[SAME_KEY];
	unsigned olds = node_find(v, from, old, SAME_KEY), news = node_find(v, to, new, SAME_KEY);

	for (unsigned i = 0; i < olds; i++)
		entry_tell(old[i], name, false);
	for (unsigned i = 0; i < news; i++)
		entry_tell(new[i], new_name, false);
	/* What moved and has no name here is found by its new one when it is asked for. */
	if (olds && is_moved(old[0], name, moved)) {
		if (news)
			node_name_move(old[0], name, new[0], new_name, false);
		else
			node_name_unbind(old[0], name);
	}
	while (olds)
		alt_node_unref(old[--olds]);
	while (news)
		alt_node_unref(new[--news]);
}

void alt_notify_lost(struct alt_volume *v)
{
	notice_all(v, true);
}
