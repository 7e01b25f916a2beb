/* SPDX-License-Identifier: MIT */
#include "base/base.h"

#include <sched.h>

unsigned gate_enter(struct gate *g)
{
	unsigned turn = atomic_load(&g->turn) & 1;

	atomic_fetch_add(&g->inside[turn], 1);
	return turn;
}

void gate_leave(struct gate *g, unsigned turn)
{
	atomic_fetch_sub(&g->inside[turn], 1);
}

void gate_wait(struct gate *g)
{
	for (int pass = 0; pass < 2; pass++) {
		unsigned old = atomic_fetch_add(&g->turn, 1) & 1;

		while (atomic_load(&g->inside[old]))
			sched_yield();
	}
}
