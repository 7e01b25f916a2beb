/* SPDX-License-Identifier: MIT */
/*
 * Nodes, found by the file system's key and by the kernel's number.
 *
 * A node lives while anybody counts it: the kernel (all its lookups together count one), an operation, an open
 * file, or the name of a child. A hash table by key, grown by doubling, under the lock that the names are under too.
 */
#include "io/node.h"
#include "io/slot.h"

#include <malloc.h>
#include <stdlib.h>
#include <sys/stat.h>

#define GONE_LEAST 8192u /* nodes: some two megabytes */

#define NODES_PER_BUCKET 2u     /* on average, at most */
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

void alt_node_ref(struct alt_node *n)
{
	atomic_fetch_add(&n->refs, 1);
}

bool node_ref_try(struct alt_node *n)
{
	uint32_t refs = atomic_load(&n->refs);

	while (refs)
		if (atomic_compare_exchange_weak(&n->refs, &refs, refs + 1))
			return true;
	return false;
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

void node_hide(struct alt_node *n)
{
	pthread_rwlock_wrlock(&n->volume->tree);
	node_hide_locked(n->volume, n);
	pthread_rwlock_unlock(&n->volume->tree);
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
				parents[count++] = name_drop_locked(n);
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
