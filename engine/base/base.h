/* SPDX-License-Identifier: MIT */
/*
 * owns      the explanation of errors, the log, the reader gate, the clock, the runtime directory
 * never     knows what a file is
 * hands to  nobody: it is the ground
 */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <altitude/error.h>

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

static inline uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* From here on stderr leads nowhere: alt_log() goes to syslog. */
void log_background(void);

/* Where the sockets of this user's servers are (mode 0700, made when needed); so short that a socket's path fits. 0 or -errno. */
#define RUNTIME_DIRECTORY_MAX 80
int runtime_directory(char *buf, size_t size, struct alt_error *err);

/*
 * A gate readers pass without waiting, behind which a writer can wait for everybody who entered before.
 * Two counters; a writer turns readers to the other one and waits for the first to empty, twice, so that a reader
 * that read the old turn late is waited for as well. Plain atomics, so that a race detector can follow it.
 */
struct gate {
	_Atomic unsigned turn;
	_Alignas(64) _Atomic long inside[2];
};
unsigned gate_enter(struct gate *g);
void gate_leave(struct gate *g, unsigned turn);
void gate_wait(struct gate *g);          /* one writer at a time: the caller holds its lock */

#endif
