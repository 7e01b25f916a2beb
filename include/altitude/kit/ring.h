/* SPDX-License-Identifier: MIT */
/* The latest lines of a filter, kept until they are watched: "altitude watch" takes them, the oldest make room. Any thread. */
#ifndef ALTITUDE_KIT_RING_H
#define ALTITUDE_KIT_RING_H

#include <altitude/filter.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct alt_ring {
	pthread_mutex_t lock;
	char **line;                           /* [lock] @count of them from @first on, round */
	uint64_t room, first, count;           /* [lock] */
	uint64_t seen, lost, lost_told;        /* [lock] ever pushed; of these never watched; and this was said */
};

/** Room for @room lines, 1 or more. 0, or -ENOMEM explained as @who's; alt_ring_fini() is right after both. */
static inline int alt_ring_init(struct alt_ring *r, uint64_t room, const char *who, struct alt_error *err)
{
	pthread_mutex_init(&r->lock, NULL);
	r->room = room;
	r->line = (char **)calloc(room, sizeof(*r->line));
	return r->line ? 0 : alt_error_set(err, -ENOMEM, "%s: no memory for the lines", who);
}

/** Nobody uses it any more. One that was zeroed and never made is fine. */
static inline void alt_ring_fini(struct alt_ring *r)
{
	while (r->count--)
		free(r->line[(r->first + r->count) % r->room]);
	free(r->line);
	pthread_mutex_destroy(&r->lock);
}

/* The oldest line, or NULL. */
static inline char *alt_ring_pop_locked(struct alt_ring *r)
{
	char *line;

	if (!r->count)
		return NULL;
	line = r->line[r->first];
	r->first = (r->first + 1) % r->room;
	r->count--;
	return line;
}

/** Keep @line, which free(3) will free. NULL, for one that found no memory, counts as lost. */
static inline void alt_ring_push(struct alt_ring *r, char *line)
{
	pthread_mutex_lock(&r->lock);
	r->seen++;
	if (!line || r->count == r->room)
		r->lost++;
	if (line && r->count == r->room)
		free(alt_ring_pop_locked(r));
	if (line)
		r->line[(r->first + r->count++) % r->room] = line;
	pthread_mutex_unlock(&r->lock);
}

/** Tell what is kept, the oldest first, and forget it. Lines that were lost are told of before those that followed them. */
static inline void alt_ring_watch(struct alt_ring *r, struct alt_report *to)
{
	uint64_t lost, left = r->room;
	char *line;

	do {
		pthread_mutex_lock(&r->lock);
		lost = r->lost - r->lost_told;
		r->lost_told = r->lost;
		line = alt_ring_pop_locked(r);
		pthread_mutex_unlock(&r->lock);
		if (lost)
			alt_report_line(to, "%llu records lost", (unsigned long long)lost);
		if (line)
			alt_report_line(to, "%s", line);
		free(line);
	} while (line && --left);
}

#endif
