/* SPDX-License-Identifier: MIT */
/* Numbers the kernel holds: generation << 32 | slot. A used slot comes back with another generation, so an old number finds nothing. */
#ifndef IO_SLOT_H
#define IO_SLOT_H

#include "io/io.h"

uint64_t slot_new(struct alt_volume *v, struct slot_table *t, void *object);    /* 0 without memory */
void slot_free(struct alt_volume *v, struct slot_table *t, uint64_t number);
void *slot_find_locked(const struct slot_table *t, uint64_t number);            /* NULL: no such number */
/* Number of the object in place @i, 0 for none. The object itself may be half made, and not know it yet. */
uint64_t slot_number_locked(const struct slot_table *t, uint32_t i);
void slot_table_fini(struct slot_table *t);

#endif
