/* SPDX-License-Identifier: MIT */
/* One ring and its thread, and what all rings of a session share; see uring.c for how they work together. */
#ifndef SESSION_RING_H
#define SESSION_RING_H

#include "session/uring.h"
#include <liburing.h>
#include <pthread.h>

#define RING_PAGE 4096u

struct entry {
	struct ring *ring;
	unsigned index;                  /* in its ring */
	uint16_t queue;
	struct iovec parts[2];           /* read by the kernel at REGISTER */
	struct entry *next;              /* [ring.lock] in the list of those handed over */
	/* The ring's thread alone: */
	bool out;                        /* a request is served, or kept */
	bool told;                       /* its caller gave up, and it was interrupted */
	uint32_t pid;                    /* its caller */
	uint64_t unique, since_ms;
};

struct ring {
	struct uring *u;
	pthread_t thread;
	int cpu;
	int wake_fd;                     /* eventfd: something was handed over, or the session stops */
	struct io_uring io;              /* its thread's alone */
	struct entry *entries;
	unsigned count;
	char *memory;                    /* the entries' buffers: entry_at() */
	void *message;                   /* reused; see serve_lent() */
	pthread_mutex_t lock;
	struct entry *handed;            /* [lock] answered by other threads */
	unsigned out;                    /* its thread's alone: entries that are out */
	uint64_t swept_ms;
};

enum order { ORDER_WAIT, ORDER_GO, ORDER_END };

struct uring {
	struct session *s;
	size_t payload;                  /* bytes of one entry's payload */
	unsigned queues, depth, count;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned ready, quiet, threads;  /* [lock] rings made, threads that serve no more, threads */
	int error;                       /* [lock] why a ring could not be made */
	enum order order;                /* [lock] */
	_Atomic bool ending;
	_Atomic bool refused;            /* the kernel would not register; told */
	_Atomic bool broken;             /* an entry was lost otherwise; told */
	struct ring rings[];
};

/* Entries and buffers for the queues that are @r's, the @number-th. 0 or -ENOMEM; ring_free() is right after both. */
int ring_fill(struct ring *r, unsigned number);
void ring_free(struct ring *r);
/* Have its thread look at what was handed over and at what is to stop. Any thread, signal safe. */
void ring_wake(struct ring *r);
/*
 * Its thread; @arg is the ring. Makes the ring, says so (u->ready, u->error), waits for the order, serves. Says once that it serves
 * no more (u->quiet): when the session stops, while it still commits what others complete, or when it is not to begin.
 */
void *ring_main(void *arg);

#endif
