/* SPDX-License-Identifier: MIT */
/* Words that a person may have meant: each candidate is held against what was typed, and the nearest stays. */
#ifndef ALTITUDE_KIT_NEAR_H
#define ALTITUDE_KIT_NEAR_H

#include <stdbool.h>
#include <string.h>

#define ALT_NEAR_NONE 3u         /* letters: so far off is another word. Where a search for the nearest begins */

/* Letters to insert, drop or change to come from @a to @b, of at most 63 letters each. */
static inline unsigned alt_near_distance(const char *a, const char *b)
{
	unsigned char row[64];
	size_t len = strlen(b);

	for (size_t j = 0; j <= len; j++)
		row[j] = (unsigned char)j;
	for (size_t i = 0; a[i]; i++) {
		unsigned char corner = row[0]++;

		for (size_t j = 1; j <= len; j++) {
			unsigned char best = corner + (a[i] != b[j - 1]);

			corner = row[j];
			if (best > row[j] + 1)
				best = row[j] + 1;
			if (best > row[j - 1] + 1)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[len];
}

/**
 * Is @candidate nearer to @word than what was found before? Its beginning counts as one letter off; a word of which no letter
 * is right is not near.
 * @best  begins as ALT_NEAR_NONE; follows when true
 */
static inline bool alt_near_better(const char *word, const char *candidate, unsigned *best)
{
	size_t len = strlen(word);
	unsigned d;

	if (!len || len > 63 || strlen(candidate) > 63)
		return false;
	d = strncmp(word, candidate, len) ? alt_near_distance(word, candidate) : 1;
	if (d >= *best || d >= len + (len == 1))
		return false;
	*best = d;
	return true;
}

#endif
