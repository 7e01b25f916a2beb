/* SPDX-License-Identifier: MIT */
/*
 * Worker threads of a volume: for handlers and filters that may block for long. None until one is needed, one more
 * whenever all are busy, up to the most; one that was idle for a while goes.
 *
 * Most are started by threads that are pinned to a CPU, and a thread inherits that: a worker takes the CPUs back that the
 * volume's maker had, or all of them would queue behind the thread that serves that one.
 */
#include "io/io.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#define WORKERS_MAX 64
#define IDLE_SECONDS 5

struct job { struct job *next; void (*fn)(void *); void *arg; };

struct workers {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct job *first, **last;       /* [lock] */
	int idle, count;                 /* [lock] threads */
	bool stopping;                   /* [lock] */
	cpu_set_t cpus;                  /* where they may run; none: not known */
};

int workers_start(struct alt_volume *v)
{
	struct workers *w = calloc(1, sizeof *w);

	if (!w)
		return -ENOMEM;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->changed, NULL);
	w->last = &w->first;
	if (sched_getaffinity(0, sizeof w->cpus, &w->cpus) < 0)
		CPU_ZERO(&w->cpus);
	v->workers = w;
	return 0;
}

/* A job, or NULL when this thread is to end. */
static struct job *job_take_locked(struct workers *w)
{
	struct timespec until;
	struct job *j;
	int r = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += IDLE_SECONDS;
	w->idle++;
	while (!w->first && !w->stopping && !r)
		r = pthread_cond_timedwait(&w->changed, &w->lock, &until);
	w->idle--;
	j = w->first;
	if (j) {
		w->first = j->next;
		if (!w->first)
			w->last = &w->first;
	}
	return j;
}

static void *worker_main(void *arg)
{
	struct workers *w = arg;
	struct job *j;

	if (CPU_COUNT(&w->cpus))
		pthread_setaffinity_np(pthread_self(), sizeof w->cpus, &w->cpus); /* not allowed any more: slower, still right */
	pthread_mutex_lock(&w->lock);
	while ((j = job_take_locked(w))) {
		pthread_mutex_unlock(&w->lock);
		j->fn(j->arg);
		free(j);
		pthread_mutex_lock(&w->lock);
	}
	w->count--;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void worker_add_locked(struct workers *w)
{
	pthread_attr_t detached;
	pthread_t thread;

	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	if (!pthread_create(&thread, &detached, worker_main, w))
		w->count++;
	pthread_attr_destroy(&detached);
}

bool workers_give(struct alt_volume *v, void (*fn)(void *arg), void *arg)
{
	struct workers *w = v->workers;
	struct job *j = malloc(sizeof *j);
	int waiting = 1;
	bool given;

	if (!j)
		return false;
	*j = (struct job){ NULL, fn, arg };
	pthread_mutex_lock(&w->lock);
	for (struct job *at = w->first; at; at = at->next)
		waiting++;
	if (waiting > w->idle && w->count < WORKERS_MAX)
		worker_add_locked(w);
	given = w->count > 0 && !w->stopping;
	if (given) {
		*w->last = j;
		w->last = &j->next;
		pthread_cond_signal(&w->changed);
	}
	pthread_mutex_unlock(&w->lock);
	if (!given)
		free(j);
	return given;
}

void workers_stop(struct alt_volume *v)
{
	struct workers *w = v->workers;

	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	pthread_cond_broadcast(&w->changed);
	while (w->count)
		pthread_cond_wait(&w->changed, &w->lock);
	pthread_mutex_unlock(&w->lock);
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
	free(w);
	v->workers = NULL;
}
