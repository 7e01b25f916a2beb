/* SPDX-License-Identifier: MIT */
/*
 * owns      the conversation with the kernel: negotiation, threads, answers, notifications, the end
 * never     mounts, decides what an operation means, or waits for a thread that is inside something slow
 * hands to  io and stack, message by message
 */
#ifndef SESSION_SESSION_H
#define SESSION_SESSION_H

#include "stack/stack.h"

struct session;

/* Serve @v on the open /dev/fuse descriptor @fd (taken). Threads start; INIT is answered by them. */
int session_start(struct alt_volume *v, int fd, struct session **ret, struct alt_error *err);
/* Readable for ever once the kernel has ended the connection (unmount, abort) or session_stop() was called. */
int session_end_fd(const struct session *s);
void session_stop(struct session *s);        /* any thread, signal safe: write to an eventfd */
void session_free(struct session *s);        /* joins every thread */

/* In-process kernel: no descriptor; each message is given, its answer comes to @answer (any thread), which may refuse it: -errno. */
typedef int session_answer_fn(void *arg, const struct iovec *iov, int count);
int session_loopback(struct alt_volume *v, session_answer_fn *answer, void *arg, struct session **ret);
void session_give(struct session *s, const void *message, size_t len);

#endif
