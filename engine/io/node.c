/* SPDX-License-Identifier: MIT */
/*
 * Nodes and their names.
 *
 * A node lives while anybody counts it: the kernel (all its lookups together count one), an operation, an open
 * file, or the name of a child. A name is (parent, bytes) -> node; a node may have several (hard links).
 * Two chained hash tables, grown by doubling, under one lock; the path of a node is read under it in one go, so
 * that no rename can be seen half.
 */
#include "io/slot.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define GONE_LEAST 8192u /* nodes: some two megabytes */

struct io_name {
	struct io_name *hash_next;
	struct io_name *next;            /* of the same node */
	struct alt_node *parent, *node;
	uint32_t hash;
	char text[];
};

#define NODES_PER_BUCKET 2u     /* on average, at most */
#define LEFT_MANY 16u           /* directories that had one name, before the kernel heard of it */

static uint32_t hash_bytes(uint64_t seed, const char *s)
{
	uint64_t h = seed * 0x9e3779b97f4a7c15ull ^ 0xcbf29ce484222325ull;

	while (*s)
		h = (h ^ (unsigned char)*s++) * 0x100000001b3ull;
	return h ^ h >> 32;
}

static uint32_t hash_key(struct alt_key k)
{
	uint64_t h = (k.id ^ k.dev * 0xff51afd7ed558ccdull) * 0x9e3779b97f4a7c15ull;

	return h ^ h >> 32;
}

static void keys_grow_locked(struct alt_volume *v)
{
	size_t buckets = v->buckets ? v->buckets * 2 : 64;
	struct alt_node **table = calloc(buckets, sizeof *table);

	if (!table)
		return; /* longer chains, still right */
	for (size_t i = 0; i < v->buckets; i++) {
		for (struct alt_node *n = v->by_key[i], *next; n; n = next) {
			struct alt_node **at = &table[hash_key(n->rec.key) & (buckets - 1)];

			next = n->hash_next;
			n->hash_next = *at;
			*at = n;
		}
	}
	free(v->by_key);
	v->by_key = table;
	v->buckets = buckets;
}

static void names_grow_locked(struct alt_volume *v)
{
	size_t buckets = v->name_buckets ? v->name_buckets * 2 : 64;
	struct io_name **table = calloc(buckets, sizeof *table);

	if (!table)
		return;
	for (size_t i = 0; i < v->name_buckets; i++) {
		for (struct io_name *n = v->by_name[i], *next; n; n = next) {
			struct io_name **at = &table[n->hash & (buckets - 1)];

			next = n->hash_next;
			n->hash_next = *at;
			*at = n;
		}
	}
	free(v->by_name);
	v->by_name = table;
	v->name_buckets = buckets;
}

void alt_node_ref(struct alt_node *n)
{
	atomic_fetch_add(&n->refs, 1);
}

static bool node_ref_try(struct alt_node *n)
{
	uint32_t refs = atomic_load(&n->refs);

	while (refs)
		if (atomic_compare_exchange_weak(&n->refs, &refs, refs + 1))
			return true;
	return false;
}

static struct io_name **name_slot_locked(struct alt_volume *v, struct alt_node *parent, const char *text)
{
	static struct io_name *none;
	uint32_t hash = hash_bytes(parent->rec.number, text);
	struct io_name **at;

	if (!v->name_buckets)
		return &none;
	for (at = &v->by_name[hash & (v->name_buckets - 1)]; *at; at = &(*at)->hash_next)
		if ((*at)->hash == hash && (*at)->parent == parent && !strcmp((*at)->text, text))
			break;
	return at;
}

/* Unlink a name from both lists; gives its parent, whose count the caller drops outside of the lock. */
static struct alt_node *name_remove_locked(struct alt_volume *v, struct io_name **at)
{
	struct io_name *name = *at, **of;
	struct alt_node *parent = name->parent;

	*at = name->hash_next;
	for (of = &name->node->names; *of != name; of = &(*of)->next)
		;
	*of = name->next;
	v->name_count--;
	parent->children--;
	free(name);
	return parent;
}

static struct alt_node *name_of_locked(struct alt_volume *v, struct alt_node *n)
{
	return name_remove_locked(v, name_slot_locked(v, n->names->parent, n->names->text));
}

/* Nobody finds it by its key any more; one that is hidden already is none the worse for it. */
static void node_hide_locked(struct alt_volume *v, struct alt_node *n)
{
	struct alt_node **at = &v->by_key[hash_key(n->rec.key) & (v->buckets - 1)];

	while (*at && *at != n)
		at = &(*at)->hash_next;
	if (*at)
		*at = n->hash_next;
}

/*
 * What is freed stays in the heaps of the threads that asked for it. When the kernel has forgotten a great many names it is
 * short of memory, so they are given back: each time that as many have gone as are left, which keeps the price of looking
 * through the heaps small against that of the names.
 */
static void memory_give_back(struct alt_volume *v, size_t left)
{
	size_t gone = atomic_fetch_add(&v->gone, 1) + 1;

	if (gone < GONE_LEAST || gone < left)
		return;
	if (!atomic_compare_exchange_strong(&v->gone, &gone, 0))
		return;
	slot_trim(v, &v->node_slots);
	malloc_trim(0);
}

void alt_node_unref(struct alt_node *n)
{
	while (n) {
		struct alt_volume *v = n->volume;
		struct alt_node *parents[16];
		size_t left;
		int count;

		if (atomic_fetch_sub(&n->refs, 1) != 1)
			return;
		pthread_rwlock_wrlock(&v->tree);
		node_hide_locked(v, n);
		left = --v->nodes;
		pthread_rwlock_unlock(&v->tree);
		contexts_drop(&n->contexts, v, NULL); /* first: whoever looks for contexts finds them by the slot */
		slot_hide(v, &v->node_slots, n->rec.number);
		/* Names go in batches: their parents are counted, and may go in turn. */
		do {
			count = 0;
			pthread_rwlock_wrlock(&v->tree);
			while (n->names && count < 16)
				parents[count++] = name_of_locked(v, n);
			pthread_rwlock_unlock(&v->tree);
			for (int i = 0; i < count - 1; i++)
				alt_node_unref(parents[i]);
			if (count == 16)
				alt_node_unref(parents[15]);
		} while (count == 16);
		if (n->owner->forget && n->data)
			n->owner->forget(v, n->rec.key, n->data);
		slot_free(v, &v->node_slots, n->rec.number);
		memory_give_back(v, left);
		n = count ? parents[count - 1] : NULL;
	}
}

struct alt_node *node_get(struct alt_volume *v, uint64_t number)
{
	struct alt_node *n;

	if (number == IO_ROOT_ID) {
		if (v->root)
			alt_node_ref(v->root);
		return v->root;
	}
	pthread_mutex_lock(&v->slots_lock);
	n = slot_find_locked(&v->node_slots, number);
	if (n && !node_ref_try(n))
		n = NULL;
	pthread_mutex_unlock(&v->slots_lock);
	return n;
}

static bool key_same(struct alt_key a, struct alt_key b)
{
	return a.id == b.id && a.dev == b.dev;
}

/*
 * A key may come again for another file while the one that had it is still known: they are told apart by type and
 * generation. Both can be found until the first is forgotten: an answer about it may still be under way.
 */
static bool node_is_of(const struct alt_node *n, const struct alt_entry *e)
{
	return key_same(n->rec.key, e->key) && n->rec.type == (e->attr.mode & S_IFMT) &&
	       atomic_load(&n->rec.generation) == e->generation;
}

static struct alt_node *key_find_locked(struct alt_volume *v, const struct alt_entry *e)
{
	struct alt_node *n = v->buckets ? v->by_key[hash_key(e->key) & (v->buckets - 1)] : NULL, *next;

	for (; n; n = next) {
		next = n->hash_next;
		if (!node_is_of(n, e))
			continue;
		if (!e->fresh && node_ref_try(n))
			return n;
		if (!e->fresh)
			continue;
		node_hide_locked(v, n);
		atomic_store(&n->rec.generation, ALT_GENERATION_PAST);
	}
	return NULL;
}

static void data_drop(struct alt_volume *v, const struct alt_entry *e, const struct alt_node *n)
{
	const struct alt_filesystem_registration *owner = n ? n->owner : v->fs;

	if (e->data && owner->forget)
		owner->forget(v, e->key, e->data);
}

static struct alt_node *node_new_locked(struct alt_volume *v, const struct alt_entry *e,
					const struct alt_filesystem_registration *owner)
{
	struct alt_node **at, *n;
	uint64_t number;

	if (v->nodes >= v->buckets * NODES_PER_BUCKET)
		keys_grow_locked(v);
	n = v->buckets ? slot_new(v, &v->node_slots, &number) : NULL;
	if (!n)
		return NULL;
	n->rec.key = e->key;
	n->rec.type = e->attr.mode & S_IFMT;
	atomic_store(&n->rec.generation, e->generation);
	n->rec.number = number;
	n->volume = v;
	n->data = e->data;
	n->owner = owner;
	atomic_store(&n->refs, 1);
	at = &v->by_key[hash_key(e->key) & (v->buckets - 1)];
	n->hash_next = *at;
	*at = n;
	v->nodes++;
	return n;
}

struct alt_node *node_intern(struct alt_volume *v, const struct alt_entry *e,
			     const struct alt_filesystem_registration *owner)
{
	struct alt_node *n, *fresh = NULL;

	pthread_rwlock_wrlock(&v->tree);
	n = key_find_locked(v, e);
	if (!n)
		fresh = node_new_locked(v, e, owner);
	pthread_rwlock_unlock(&v->tree);
	if (fresh)
		return fresh;
	data_drop(v, e, n);
	return n;
}

/* The kernel's lookups together count one reference; the first takes it and the last gives it back. */
void node_remember(struct alt_node *n, uint64_t count)
{
	alt_node_ref(n);
	if (atomic_fetch_add(&n->rec.lookups, count))
		alt_node_unref(n);
}

void node_forget(struct alt_volume *v, uint64_t number, uint64_t count)
{
	struct alt_node *n = number == IO_ROOT_ID ? NULL : node_get(v, number);
	uint64_t have;

	if (!n)
		return;
	have = atomic_load(&n->rec.lookups);
	do {
		if (count > have)
			count = have; /* a count from outside is not trusted */
	} while (!atomic_compare_exchange_weak(&n->rec.lookups, &have, have - count));
	if (have && have == count) {
		if (v->no_open_wanted)
			shared_drop(n);
		alt_node_unref(n);
	}
	alt_node_unref(n);
}

unsigned node_find(struct alt_volume *v, struct alt_key key, struct alt_node *ret[], unsigned most)
{
	unsigned count = 0;

	pthread_rwlock_rdlock(&v->tree);
	for (struct alt_node *n = v->buckets ? v->by_key[hash_key(key) & (v->buckets - 1)] : NULL; n && count < most; n = n->hash_next)
		if (key_same(n->rec.key, key) && node_ref_try(n))
			ret[count++] = n;
	pthread_rwlock_unlock(&v->tree);
	return count;
}

bool node_at(struct alt_volume *v, uint32_t i, uint64_t *number)
{
	bool there;

	pthread_mutex_lock(&v->slots_lock);
	there = i < v->node_slots.count;
	*number = there ? slot_number_locked(&v->node_slots, i) : 0;
	pthread_mutex_unlock(&v->slots_lock);
	return there;
}

static void notices_free_chain(struct notice *n)
{
	for (struct notice *next; n; n = next) {
		next = n->next;
		free(n);
	}
}

/* When the table grows, what is in a chain stays there or goes to one further on. */
bool names_at(struct alt_volume *v, size_t i, struct notice **ret, int *error)
{
	struct notice *first = NULL;
	bool there;

	*error = 0;
	pthread_rwlock_rdlock(&v->tree);
	there = i < v->name_buckets;
	for (struct io_name *name = there ? v->by_name[i] : NULL; name && !*error; name = name->hash_next) {
		struct notice *n = malloc(sizeof *n + strlen(name->text) + 1);

		if (!n) {
			*error = -ENOMEM;
			continue;
		}
		*n = (struct notice){ .next = first, .kind = NOTICE_ENTRY, .number = name->parent->rec.number };
		strcpy(n->name, name->text);
		first = n;
	}
	pthread_rwlock_unlock(&v->tree);
	if (*error) {
		notices_free_chain(first);
		first = NULL;
	}
	*ret = first;
	return there;
}

struct alt_node *node_child(struct alt_node *dir, const char *text)
{
	struct alt_volume *v = dir->volume;
	struct alt_node *n = NULL;
	struct io_name *name;

	pthread_rwlock_rdlock(&v->tree);
	name = *name_slot_locked(v, dir, text);
	if (name && node_ref_try(name->node))
		n = name->node;
	pthread_rwlock_unlock(&v->tree);
	return n;
}

/* Counts its parent. NULL without memory. */
static struct io_name *name_new(struct alt_node *parent, const char *text)
{
	struct io_name *name = malloc(sizeof *name + strlen(text) + 1);

	if (!name)
		return NULL;
	strcpy(name->text, text);
	name->parent = parent;
	name->hash = hash_bytes(parent->rec.number, text);
	alt_node_ref(parent);
	return name;
}

/* One that was not inserted. */
static void name_free(struct io_name *name)
{
	if (name)
		alt_node_unref(name->parent);
	free(name);
}

/* As the latest name of @n; there must be buckets. */
static void name_insert_locked(struct alt_volume *v, struct io_name *name, struct alt_node *n)
{
	struct io_name **at = &v->by_name[name->hash & (v->name_buckets - 1)];

	name->node = n;
	name->hash_next = *at;
	*at = name;
	name->next = n->names;
	n->names = name;
	v->name_count++;
	name->parent->children++;
}

/*
 * Names count their parents, so a circle of them would hold itself for ever. A directory has one name, the latest; a circle
 * of latest names is a damaged file system.
 */
static bool is_below_locked(const struct alt_node *n, const struct alt_node *top)
{
	if (n == top)
		return true;
	while (n && n != top && top->children)
		n = n->names ? n->names->parent : NULL;
	return n == top;
}

int node_name_bind(struct alt_node *parent, const char *text, struct alt_node *n)
{
	struct alt_volume *v = n->volume;
	struct alt_node *displaced = NULL, *old = NULL;
	struct io_name *name, **at;

	pthread_rwlock_rdlock(&v->tree);
	at = name_slot_locked(v, parent, text);
	if (*at && (*at)->node == n && n->names == *at) {
		pthread_rwlock_unlock(&v->tree);
		return 0;
	}
	pthread_rwlock_unlock(&v->tree);

	name = name_new(parent, text);
	if (!name)
		return -ENOMEM;
	pthread_rwlock_wrlock(&v->tree);
	if (v->name_count >= v->name_buckets * NODES_PER_BUCKET)
		names_grow_locked(v);
	if (!v->name_buckets) {
		pthread_rwlock_unlock(&v->tree);
		name_free(name);
		return -ENOMEM;
	}
	if (is_below_locked(parent, n)) {
		pthread_rwlock_unlock(&v->tree);
		name_free(name);
		return -EUCLEAN;
	}
	at = name_slot_locked(v, parent, text);
	if (*at)
		displaced = name_remove_locked(v, at);
	if (n->rec.type == S_IFDIR && n->names)
		old = name_of_locked(v, n);
	name_insert_locked(v, name, n);
	pthread_rwlock_unlock(&v->tree);
	if (displaced)
		alt_node_unref(displaced);
	if (old)
		alt_node_unref(old);
	return 0;
}

void node_name_unbind(struct alt_node *parent, const char *text)
{
	struct alt_volume *v = parent->volume;
	struct alt_node *drop = NULL;
	struct io_name **at;

	pthread_rwlock_wrlock(&v->tree);
	at = name_slot_locked(v, parent, text);
	if (*at)
		drop = name_remove_locked(v, at);
	pthread_rwlock_unlock(&v->tree);
	if (drop)
		alt_node_unref(drop);
}

static void bury_locked(struct alt_volume *v, struct alt_node *n)
{
	if (n->rec.type == S_IFDIR)
		node_hide_locked(v, n);
}

void node_bury(struct alt_node *parent, const char *text)
{
	struct alt_volume *v = parent->volume;
	uint64_t left[LEFT_MANY];
	struct io_name *name;
	unsigned count;

	pthread_rwlock_wrlock(&v->tree);
	name = *name_slot_locked(v, parent, text);
	if (name)
		bury_locked(v, name->node);
	pthread_rwlock_unlock(&v->tree);
	/* Who left it by what was heard from below has no such name here any more. */
	count = notices_left(v, parent->rec.number, text, left, LEFT_MANY);
	while (count--) {
		struct alt_node *n = left[count] ? node_get(v, left[count]) : NULL;

		if (!n)
			continue;
		pthread_rwlock_wrlock(&v->tree);
		bury_locked(v, n);
		pthread_rwlock_unlock(&v->tree);
		alt_node_unref(n);
	}
}

/* The node of a name leaves it; counted, NULL when there is none or it is going. @drop: the parent, to be unref'd. */
static struct alt_node *name_take_locked(struct alt_volume *v, struct alt_node *parent, const char *text, struct alt_node **drop)
{
	struct io_name **at = name_slot_locked(v, parent, text);
	struct alt_node *n = *at && node_ref_try((*at)->node) ? (*at)->node : NULL;

	*drop = *at ? name_remove_locked(v, at) : NULL;
	return n;
}

static bool same_node_locked(struct alt_volume *v, struct alt_node *from, const char *name, struct alt_node *to, const char *new_name)
{
	const struct io_name *a = *name_slot_locked(v, from, name), *b = *name_slot_locked(v, to, new_name);

	return a && b && a->node == b->node;
}

/* All in one hold of the lock: nobody sees a node between two names, or with none. */
int node_name_move(struct alt_node *from, const char *name, struct alt_node *to, const char *new_name, bool exchange)
{
	struct alt_volume *v = from->volume;
	struct io_name *there = name_new(to, new_name), *here = name_new(from, name);
	struct alt_node *n = NULL, *other = NULL, *drop[2] = { NULL, NULL };
	int r = 0;

	if (!there || !here) {
		name_free(there);
		name_free(here);
		return -ENOMEM;
	}
	pthread_rwlock_wrlock(&v->tree);
	/* Two names of one file: rename(2) does nothing. */
	if (!same_node_locked(v, from, name, to, new_name)) {
		n = name_take_locked(v, from, name, &drop[0]);
		other = name_take_locked(v, to, new_name, &drop[1]);
		if (n && is_below_locked(to, n)) {
			r = -EUCLEAN;
		} else if (n) {
			name_insert_locked(v, there, n);
			there = NULL;
		}
		if (other && exchange && is_below_locked(from, other)) {
			r = -EUCLEAN;
		} else if (other && exchange) {
			name_insert_locked(v, here, other);
			here = NULL;
		}
	}
	pthread_rwlock_unlock(&v->tree);
	name_free(there);
	name_free(here);
	alt_node_unref(drop[0]);
	alt_node_unref(drop[1]);
	alt_node_unref(n);
	alt_node_unref(other);
	return r;
}

static int path_locked(const struct alt_node *n, const char *last, char *buf, size_t size)
{
	size_t at = size;
	const char *part = last;

	if (!size)
		return -ENAMETOOLONG;
	buf[--at] = 0;
	for (int depth = 0; depth < 65536; depth++) {
		size_t len;

		if (!part) {
			if (n == n->volume->root)
				break;
			if (!n->names)
				return -ENOENT;
			part = n->names->text;
			n = n->names->parent;
		}
		len = strlen(part);
		if (at < len + 1)
			return -ENAMETOOLONG;
		at -= len;
		memcpy(buf + at, part, len);
		buf[--at] = '/';
		part = NULL;
	}
	if (!buf[at]) {
		if (!at)
			return -ENAMETOOLONG;
		buf[--at] = '/';
	}
	memmove(buf, buf + at, size - at);
	return size - at - 1;
}

int alt_node_path(const struct alt_node *n, char *buf, size_t size)
{
	int r;

	pthread_rwlock_rdlock(&n->volume->tree);
	r = path_locked(n, NULL, buf, size);
	pthread_rwlock_unlock(&n->volume->tree);
	return r;
}

struct alt_node *alt_node_parent(const struct alt_node *n, char *name)
{
	struct alt_node *parent = NULL;

	pthread_rwlock_rdlock(&n->volume->tree);
	if (n->names) {
		parent = n->names->parent;
		snprintf(name, NAME_MAX + 1, "%s", n->names->text);
		alt_node_ref(parent);
	}
	pthread_rwlock_unlock(&n->volume->tree);
	return parent;
}

int alt_node_path_at(const struct alt_node *dir, const char *name, char *buf, size_t size)
{
	int r;

	pthread_rwlock_rdlock(&dir->volume->tree);
	r = path_locked(dir, name, buf, size);
	pthread_rwlock_unlock(&dir->volume->tree);
	return r;
}

uint64_t alt_volume_moves(const struct alt_volume *v, bool *ret_moving)
{
	uint64_t over = atomic_load(&v->moves_over), begun = atomic_load(&v->moves_begun);

	*ret_moving = begun != over;
	return begun;
}

struct alt_key alt_node_key(const struct alt_node *n)
{
	return n->rec.key;
}

uint32_t alt_node_generation(const struct alt_node *n)
{
	return atomic_load(&n->rec.generation);
}

uint32_t alt_node_type(const struct alt_node *n)
{
	return n->rec.type;
}

uint64_t alt_node_number(const struct alt_node *n)
{
	return n->rec.number;
}

void *alt_node_data(const struct alt_node *n)
{
	return n->data;
}

struct alt_volume *alt_node_volume(const struct alt_node *n)
{
	return n->volume;
}

bool alt_node_is_root(const struct alt_node *n)
{
	return n == n->volume->root;
}
