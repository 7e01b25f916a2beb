/* SPDX-License-Identifier: MIT */
/*
 * The names of nodes, and the paths they make.
 *
 * A name is (parent, bytes) -> node; a node may have several (hard links). A hash table, grown by doubling, under the lock that
 * the nodes are under too; the path of a node is read under it in one go, so that no rename can be seen half.
 */
#include "io/node.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NAMES_PER_BUCKET 2u     /* on average, at most */

struct io_name {
	struct io_name *hash_next;
	struct io_name *next;            /* of the same node */
	struct alt_node *parent, *node;
	uint32_t hash;
	char text[];
};

static uint32_t hash_bytes(uint64_t seed, const char *s)
{
	uint64_t h = seed * 0x9e3779b97f4a7c15ull ^ 0xcbf29ce484222325ull;

	while (*s)
		h = (h ^ (unsigned char)*s++) * 0x100000001b3ull;
	return h ^ h >> 32;
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

struct alt_node *name_drop_locked(struct alt_node *n)
{
	return name_remove_locked(n->volume, name_slot_locked(n->volume, n->names->parent, n->names->text));
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
	if (v->name_count >= v->name_buckets * NAMES_PER_BUCKET)
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
		old = name_drop_locked(n);
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
