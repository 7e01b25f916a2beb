/* SPDX-License-Identifier: MIT */
#include "io/slot.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK 512u                       /* objects; a multiple of 64 */
#define SLOT_FIRST 2u                    /* 1 is the root's number, 0 is none */

void slot_table_init(struct slot_table *t, size_t size)
{
	t->size = size;
}

static bool bit(const uint64_t *map, uint32_t i)
{
	return map[i / 64] >> i % 64 & 1;
}

static void *place(const struct slot_table *t, uint32_t i)
{
	return t->block[i / BLOCK] + (size_t)(i % BLOCK) * t->size;
}

/* Make *@at longer, the new part zeroed. */
static bool stretch(void *at, size_t from, size_t to)
{
	char **array = at, *longer = realloc(*array, to);

	if (!longer)
		return false;
	memset(longer + from, 0, to - from);
	*array = longer;
	return true;
}

static bool grow_locked(struct slot_table *t)
{
	uint32_t from = t->count, to = from ? from + (from / 2 + BLOCK - 1) / BLOCK * BLOCK : BLOCK;

	if (!stretch(&t->block, from / BLOCK * sizeof *t->block, to / BLOCK * sizeof *t->block) ||
	    !stretch(&t->generation, from * sizeof *t->generation, to * sizeof *t->generation) ||
	    !stretch(&t->taken, from / 8, to / 8) || !stretch(&t->shown, from / 8, to / 8))
		return false;
	if (!from)
		t->taken[0] = (1u << SLOT_FIRST) - 1;
	t->count = to;
	return true;
}

/* The lowest place that is free, so that those left after a flood lie close. */
static bool find_free_locked(struct slot_table *t, uint32_t *ret)
{
	while (t->hint < t->count / 64 && t->taken[t->hint] == UINT64_MAX)
		t->hint++;
	if (t->hint == t->count / 64 && !grow_locked(t))
		return false;
	*ret = t->hint * 64 + __builtin_ctzll(~t->taken[t->hint]);
	return true;
}

void *slot_new(struct alt_volume *v, struct slot_table *t, uint64_t *ret)
{
	void *object = NULL;
	uint32_t i;

	pthread_mutex_lock(&v->slots_lock);
	if (!find_free_locked(t, &i))
		goto out;
	if (!t->block[i / BLOCK] && !(t->block[i / BLOCK] = malloc(BLOCK * t->size)))
		goto out;
	object = memset(place(t, i), 0, t->size);
	t->taken[i / 64] |= 1ull << i % 64;
	t->shown[i / 64] |= 1ull << i % 64;
	*ret = (uint64_t)t->generation[i] << 32 | i;
out:
	pthread_mutex_unlock(&v->slots_lock);
	return object;
}

void slot_hide(struct alt_volume *v, struct slot_table *t, uint64_t number)
{
	uint32_t i = number;

	pthread_mutex_lock(&v->slots_lock);
	if (i >= SLOT_FIRST) {
		t->shown[i / 64] &= ~(1ull << i % 64);
		t->generation[i]++;
	}
	pthread_mutex_unlock(&v->slots_lock);
}

void slot_free(struct alt_volume *v, struct slot_table *t, uint64_t number)
{
	uint32_t i = number;

	pthread_mutex_lock(&v->slots_lock);
	if (i >= SLOT_FIRST) {
		t->taken[i / 64] &= ~(1ull << i % 64);
		if (i / 64 < t->hint)
			t->hint = i / 64;
	}
	pthread_mutex_unlock(&v->slots_lock);
}

void *slot_at_locked(const struct slot_table *t, uint32_t i)
{
	return i < t->count && bit(t->shown, i) ? place(t, i) : NULL;
}

void *slot_find_locked(const struct slot_table *t, uint64_t number)
{
	uint32_t i = number;

	return i < t->count && t->generation[i] == number >> 32 ? slot_at_locked(t, i) : NULL;
}

uint64_t slot_number_locked(const struct slot_table *t, uint32_t i)
{
	return slot_at_locked(t, i) ? (uint64_t)t->generation[i] << 32 | i : 0;
}

void slot_trim(struct alt_volume *v, struct slot_table *t)
{
	static const uint64_t none[BLOCK / 64];

	pthread_mutex_lock(&v->slots_lock);
	for (uint32_t b = 0; b < t->count / BLOCK; b++) {
		if (!t->block[b] || memcmp(&t->taken[b * (BLOCK / 64)], none, sizeof none))
			continue;
		free(t->block[b]);
		t->block[b] = NULL;
	}
	pthread_mutex_unlock(&v->slots_lock);
}

void slot_table_fini(struct slot_table *t)
{
	for (uint32_t b = 0; b < t->count / BLOCK; b++)
		free(t->block[b]);
	free(t->block);
	free(t->generation);
	free(t->taken);
	free(t->shown);
}
