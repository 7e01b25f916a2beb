/* SPDX-License-Identifier: MIT */
/* The ring beside /dev/fuse; see uring.c. Each of these does nothing where there is no ring. */
#ifndef SESSION_URING_H
#define SESSION_URING_H

#include "session/internal.h"

/*
 * Before INIT's answer: whether it shall say "ring". If so every thread and ring is there, and uring_go() is to follow; if not,
 * though a person asked for it, the reason is told and the herd has grown to its full size.
 *
 * @offered  by the kernel
 * @payload  bytes of the largest request or answer, its headers left out
 */
bool uring_agree(struct session *s, bool offered, size_t payload);
/* After the answer. @agreed: the kernel has taken it; else the threads end. */
void uring_go(struct session *s, bool agreed);

/* Give the answer of what came in @e; any thread, once. 0. */
int uring_answer(struct entry *e, const struct iovec *iov, int count);

void uring_stop(struct session *s);          /* session.stopping is set: look at it. Any thread, signal safe */
bool uring_quiet(struct session *s, unsigned wait_ms); /* every thread has seen it, and serves no more; false: not yet */
void uring_end(struct session *s);           /* quiet, nothing in flight, nobody stops it any more: the threads go */

#endif
