/* SPDX-License-Identifier: MIT */
/* How often the kernel was told of a node: from its first lookup until it has forgotten it as often, it knows the number. */
#include "io/io.h"

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
