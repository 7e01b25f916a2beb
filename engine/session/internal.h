/* SPDX-License-Identifier: MIT */
#ifndef SESSION_INTERNAL_H
#define SESSION_INTERNAL_H

#include "session/session.h"

#define HERD_MAX 64

struct session {
	struct alt_volume *volume;
	int fd;                          /* /dev/fuse, -1 for loopback */
	int stop_fd;                     /* eventfd, readable for ever once stopped */
	_Atomic bool stopping;
	session_answer_fn *answer;       /* loopback */
	void *answer_arg;

	/* The herd: see devfuse.c. */
	pthread_t threads[HERD_MAX];
	_Atomic int used[HERD_MAX];      /* 0 free, 1 running, 2 to be joined */
	_Atomic int idle;                /* threads waiting in poll */
	_Atomic uint64_t taken;          /* requests read */
	pthread_t monitor, clock;
	bool has_monitor, has_clock;
};

/* Serve one message in op->message, which the operation owns. The op's first reference goes with its end. */
void serve(struct session *s, struct op *op, size_t len);

/* 0, or -errno: the kernel did not take the answer (-ENOENT: the caller gave up). */
int session_send(struct session *s, const struct iovec *iov, int count);

#endif
