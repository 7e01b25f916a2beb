/* SPDX-License-Identifier: MIT */
#ifndef SESSION_INTERNAL_H
#define SESSION_INTERNAL_H

#include "session/session.h"
#include <sched.h>

#define HERD_MAX 64
#define ASIDE_MOST 8

struct uring;
struct entry;                            /* of a ring: what a request came in */

struct session {
	struct alt_volume *volume;
	int fd;                          /* /dev/fuse, -1 for loopback */
	int stop_fd;                     /* eventfd, readable for ever once stopped */
	int park_fd, nap_fd;             /* eventfds: parked threads wait in one, the napping monitor in the other */
	_Atomic bool stopping;
	_Atomic(struct uring *) uring;   /* the other transport, NULL for none; see uring.c */
	cpu_set_t cpus;                  /* where threads may run */
	session_answer_fn *answer;       /* loopback */
	void *answer_arg;

	/* See herd.c. */
	pthread_t threads[HERD_MAX];
	_Atomic int used[HERD_MAX];      /* 0 free, 1 running, 2 to be joined */
	_Atomic int idle;                /* threads waiting in poll */
	_Atomic int grazing;             /* threads that are not parked */
	_Atomic int serving;             /* of those, inside a request */
	_Atomic int parked;              /* threads that wait to be called back */
	_Atomic bool napping;            /* the monitor */
	_Atomic uint64_t taken;          /* requests read */
	_Atomic int took_last;           /* 1 + the slot of the thread that read the last one of a client */
	_Atomic uint32_t client;         /* and whose it was */
	_Atomic int alone;               /* 1 + the slot of the one that is not to be woken in vain for, 0: all wait */
	int cpu_of[HERD_MAX];            /* -1: a spare, anywhere */
	_Atomic bool epochs;             /* the kernel can forget all names at once: Linux 6.16 */
	_Atomic bool entered;            /* somebody was let into the root, see notifier.c */
	_Atomic uint32_t wanted, wanted_next, first_size; /* of listings with attributes and without, see listing.c */
	pthread_mutex_t aside_lock;
	struct aside { struct op *op; size_t size; } aside[ASIDE_MOST]; /* [aside_lock] releases, until nothing else is there */
	_Atomic unsigned aside_count;    /* written under aside_lock */
	_Atomic uint64_t aside_total;    /* ever put there */
	pthread_t monitor, clock, notifier;
	bool has_monitor, has_clock, has_notifier;
	_Atomic bool may_through;        /* passthrough was agreed on */
	_Atomic bool through_told;       /* and the first failure told */
};

/* Serve one message in op->message, which the operation owns. The op's first reference goes with its end. */
void serve(struct session *s, struct op *op, size_t len);
/* The same with a message of IO_MESSAGE_MAX bytes that comes back, unless the operation is kept: then *message is NULL. Ends @op. */
void serve_lent(struct session *s, struct op *op, void **message, size_t len);

/* Start @threads that serve, 0: one for each CPU; @there of them are there already. 0 or -errno. */
int herd_begin(struct session *s, unsigned there, unsigned threads);
void herd_join(struct session *s);
/* The monitor's thread; @arg is the session. */
void *herd_monitor(void *arg);
/* @stopping is set: call back whoever is parked. */
void herd_stop(struct session *s);

/* What the monitor knows of the one thread that serves alone, or may: see solo.c. */
struct solo {
	unsigned agreed, lasted;         /* looks */
	unsigned pause, next;            /* looks to let pass: now, and when it has to end again */
};

/* @requests  taken since the last look. Returns whether all that are parked are to come back. */
bool solo_look(struct session *s, struct solo *solo, uint64_t requests);

/* What an answer tells of every node, and what of the one it is about. */
struct wire_reply reply_begin(const struct session *s, const struct op *op);
void reply_node(struct wire_reply *rp, struct alt_node *n);

/* A READDIR, before anybody has seen it: whether it is to have attributes. See listing.c. */
void listing_begin(struct session *s, struct op *op);
/* A name of @dir was looked up. */
void listing_looked(struct session *s, struct alt_node *dir);
/* Whether what the kernel keeps of @dir's listing lacks the attributes that are wanted. */
bool listing_is_poor(struct session *s, struct alt_node *dir);
/* The entries into @out; the kernel knows their nodes from now on. Returns the bytes. Without @deliver all are dropped. */
size_t listing_encode(struct session *s, struct op *op, char *out, size_t room, bool deliver);
/* The kernel did not take the listing: it knows none of its nodes. */
void listing_undo(struct op *op);

/* Backing id of the file that @op opened, 0 for none; the node's mode is settled. */
int32_t through_decide(struct session *s, struct op *op);
/* The kernel has closed @f, or never had it. */
void through_release(struct session *s, struct alt_file *f);

int notifier_start(struct session *s);
void notifier_stop(struct session *s);   /* it is to end; it may be inside the kernel */
bool notifier_over(struct session *s);   /* it has ended, or never begun */

/* 0, or -errno: the kernel did not take the answer (-ENOENT: the caller gave up). */
int session_send(struct session *s, const struct iovec *iov, int count);
/* The same for the answer of @op, the way it came. */
int session_answer(struct session *s, struct op *op, const struct iovec *iov, int count);

#endif
