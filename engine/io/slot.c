/* SPDX-License-Identifier: MIT */
#include "io/slot.h"

#include <stdlib.h>

#define SLOT_FIRST 2u   /* 1 is the root's number, 0 is none */

static int slot_grow_locked(struct slot_table *t)
{
	uint32_t count = t->count ? t->count * 2 : 256;
	void **slot = realloc(t->slot, count * sizeof *slot);
	uint32_t *generation, *spare;

	if (!slot)
		return -1;
	t->slot = slot;
	generation = realloc(t->generation, count * sizeof *generation);
	if (!generation)
		return -1;
	t->generation = generation;
	spare = realloc(t->free, count * sizeof *spare);
	if (!spare)
		return -1;
	t->free = spare;
	for (uint32_t i = t->count; i < count; i++) {
		slot[i] = NULL;
		generation[i] = 0;
	}
	t->count = count;
	if (t->used < SLOT_FIRST)
		t->used = SLOT_FIRST;
	return 0;
}

uint64_t slot_new(struct alt_volume *v, struct slot_table *t, void *object)
{
	uint64_t number = 0;
	uint32_t i;

	pthread_mutex_lock(&v->slots_lock);
	if (!t->free_count && t->used == t->count && slot_grow_locked(t) < 0)
		goto out;
	i = t->free_count ? t->free[--t->free_count] : t->used++;
	t->slot[i] = object;
	number = (uint64_t)t->generation[i] << 32 | i;
out:
	pthread_mutex_unlock(&v->slots_lock);
	return number;
}

void slot_free(struct alt_volume *v, struct slot_table *t, uint64_t number)
{
	uint32_t i = number;

	if (!number)
		return;
	pthread_mutex_lock(&v->slots_lock);
	t->slot[i] = NULL;
	t->generation[i]++;
	t->free[t->free_count++] = i;
	pthread_mutex_unlock(&v->slots_lock);
}

void *slot_find_locked(const struct slot_table *t, uint64_t number)
{
	uint32_t i = number;

	return i < t->count && t->generation[i] == number >> 32 ? t->slot[i] : NULL;
}

uint64_t slot_number_locked(const struct slot_table *t, uint32_t i)
{
	return t->slot[i] ? (uint64_t)t->generation[i] << 32 | i : 0;
}

void slot_table_fini(struct slot_table *t)
{
	free(t->slot);
	free(t->generation);
	free(t->free);
}
