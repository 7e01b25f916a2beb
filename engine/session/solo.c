/* SPDX-License-Identifier: MIT */
/*
 * One thread alone.
 *
 * To wake a sleeping CPU for nothing is what the herd costs: an interrupt for each request, of more than the request takes
 * on a virtual machine. While many requests come from one CPU and the thread there takes them, the others stay away. The
 * monitor decides it, from what it sees at each tick, and takes it back at once when the client has gone to another CPU,
 * when the one thread is inside something slow, or when there is little to do: the herd is better then. What did not last
 * is tried again later and later.
 */
#include "session/internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AGREED 3u                /* times the client was seen where the thread is, before */
#define BUSY 20u                 /* requests between two looks, at least */
#define PAUSE_FIRST 4u           /* looks, before it is tried again */
#define PAUSE_LONGEST 256u
#define LASTED 100u              /* looks after which the pauses begin anew */

/* The CPU a thread ran on last, -1 when nobody can tell. reference: proc_pid_stat(5), field 39 */
static int cpu_of_client(pid_t pid)
{
	char path[32], text[1024], *at;
	ssize_t n;
	int fd;

	if (!pid)
		return -1;
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n < 0 ? 0 : n] = '\0';
	at = strrchr(text, ')'); /* the name before it may hold anything */
	for (int field = 2; at && field < 39; field++)
		at = strchr(at + 1, ' ');
	return at ? atoi(at + 1) : -1;
}

static void solo_end(struct session *s, struct solo *o)
{
	atomic_store(&s->alone, 0);
	if (o->lasted > LASTED)
		o->next = PAUSE_FIRST;
	o->pause = o->next;
	o->next = o->next * 2 < PAUSE_LONGEST ? o->next * 2 : PAUSE_LONGEST;
	o->agreed = o->lasted = 0;
}

bool solo_look(struct session *s, struct solo *o, uint64_t requests)
{
	int alone = atomic_load(&s->alone), last = atomic_load(&s->took_last), cpu = last ? s->cpu_of[last - 1] : -1;
	bool there;

	if (!alone && o->pause) {
		o->pause--;
		return false;
	}
	there = requests >= BUSY && cpu >= 0 && cpu_of_client(atomic_load(&s->client)) == cpu;
	if (alone && there && last == alone) {
		o->lasted++;
		return false;
	}
	if (alone) {
		solo_end(s, o);
		return true;
	}
	o->agreed = there ? o->agreed + 1 : 0;
	if (o->agreed >= AGREED && atomic_load(&s->grazing) > 1)
		atomic_store(&s->alone, last);
	return false;
}
