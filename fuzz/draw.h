/* SPDX-License-Identifier: MIT */
/* The same numbers in each run, so that what is found is found again. */
#ifndef FUZZ_DRAW_H
#define FUZZ_DRAW_H

#include <stdint.h>

/* 0 .. below - 1 */
static inline uint64_t draw(uint64_t below)
{
	static uint64_t seed = 0x9e3779b97f4a7c15;

	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

#define DRAW_OF(list) (list)[draw(sizeof(list) / sizeof((list)[0]))]

#endif
