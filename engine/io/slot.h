/* SPDX-License-Identifier: MIT */
/*
 * Objects the kernel holds by number: generation << 32 | slot. A slot comes back with another generation, so an old number
 * finds nothing. The objects lie in the table, in blocks that never move.
 */
#ifndef IO_SLOT_H
#define IO_SLOT_H

#include "io/io.h"

/* A zeroed object; NULL without memory. @ret  its number */
void *slot_new(struct alt_volume *v, struct slot_table *t, uint64_t *ret);
/* From here on the number finds nothing; the object stays. */
void slot_hide(struct alt_volume *v, struct slot_table *t, uint64_t number);
/* The object, hidden before, is over. */
void slot_free(struct alt_volume *v, struct slot_table *t, uint64_t number);

void *slot_find_locked(const struct slot_table *t, uint64_t number);            /* NULL: no such number */
void *slot_at_locked(const struct slot_table *t, uint32_t i);                   /* NULL: none there; it may be half made */
/* Number of the object in place @i, 0 for none. The object itself may be half made, and not know it yet. */
uint64_t slot_number_locked(const struct slot_table *t, uint32_t i);

void slot_table_init(struct slot_table *t, size_t size);
void slot_table_fini(struct slot_table *t);
/* Give the memory of blocks without an object back. */
void slot_trim(struct alt_volume *v, struct slot_table *t);

#endif
