/* SPDX-License-Identifier: MIT */
/*
 * Kit: sets of names, for what a file system or filter keeps in memory: the entries of a directory, extended
 * attributes (kit/xattr.h serves them), the members of an archive.
 *
 * A name is found in logarithmic time, and a set is walked in the order in which the names came. Each has a cookie
 * that grows in this order and is never given twice, so a listing goes on at the right place whatever was added or
 * removed meanwhile. A set has no lock: the caller holds whatever guards it.
 */
#ifndef ALTITUDE_KIT_NAMES_H
#define ALTITUDE_KIT_NAMES_H

#include <search.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct alt_name {
	struct alt_name *next, **link;   /* in the order of arrival; the set's own */
	int64_t cookie;                  /* 3 and up, 1 and 2 are left for "." and ".."; the set's own */
	void *data;                      /* the caller's; NULL at first */
	size_t size;                     /* bytes of the value, which stands behind the text; the caller may not change it */
	char text[];                     /* ends with a 0 */
};

/* Empty when zeroed. One that is not empty cannot be copied or moved. */
struct alt_names {
	struct alt_name *first, **last;  /* read @first and follow next; the rest is the set's own */
	struct alt_name *hint;           /* the last one alt_names_after() was asked for, or NULL */
	void *tree;                      /* of tsearch(3); a key is the text of an alt_name */
	int64_t given;                   /* cookies so far */
};

/** The value that was given with the name: @size bytes. */
static inline const void *alt_name_value(const struct alt_name *name)
{
	return name->text + strlen(name->text) + 1;
}

/* The engine's own: a key of the tree, and the name it belongs to. */
static inline int alt_names_compare(const void *a, const void *b)
{
	return strcmp(a, b);
}

static inline struct alt_name *alt_names_of_key(char *const *key)
{
	return key ? (struct alt_name *)(*key - offsetof(struct alt_name, text)) : NULL;
}

/** The name with this text, or NULL. */
static inline struct alt_name *alt_names_find(const struct alt_names *set, const char *text)
{
	return alt_names_of_key(tfind(text, &set->tree, alt_names_compare));
}

static inline void alt_names_unlink(struct alt_names *set, struct alt_name *name)
{
	if (name->next)
		name->next->link = name->link;
	else
		set->last = name->link;
	*name->link = name->next;
	if (set->hint == name)
		set->hint = NULL;
	free(name);
}

/**
 * Add a name at the end, with a copy of @size bytes of @value (none: NULL, 0). One with the same text goes, as by
 * alt_names_remove(). Returns the name, or NULL without memory; then nothing is changed.
 */
static inline struct alt_name *alt_names_put(struct alt_names *set, const char *text, const void *value, size_t size)
{
	size_t len = strlen(text) + 1;
	struct alt_name *name = calloc(1, sizeof(*name) + len + size), *old;
	char **key = name ? tsearch(memcpy(name->text, text, len), &set->tree, alt_names_compare) : NULL;

	if (!key) {
		free(name);
		return NULL;
	}
	old = alt_names_of_key(key);
	*key = name->text;
	if (old != name)
		alt_names_unlink(set, old);
	if (size)
		memcpy(name->text + len, value, size);
	name->size = size;
	name->cookie = ++set->given + 2;
	name->link = set->first ? set->last : &set->first;
	*name->link = name;
	set->last = &name->next;
	return name;
}

/** Take a name out of the set and free it; NULL is fine. What its @data points to is the caller's business. */
static inline void alt_names_remove(struct alt_names *set, struct alt_name *name)
{
	if (!name)
		return;
	tdelete(name->text, &set->tree, alt_names_compare);
	alt_names_unlink(set, name);
}

/** Remove all. */
static inline void alt_names_clear(struct alt_names *set)
{
	while (set->first)
		alt_names_remove(set, set->first);
}

/** The first name with a greater cookie, or NULL: where READDIR goes on. At once when @cookie was just given. */
static inline struct alt_name *alt_names_after(struct alt_names *set, int64_t cookie)
{
	struct alt_name *name = set->hint && set->hint->cookie <= cookie ? set->hint : set->first;

	while (name && name->cookie <= cookie)
		name = name->next;
	if (name)
		set->hint = name;
	return name;
}

#endif
