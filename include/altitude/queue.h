/* SPDX-License-Identifier: MIT */
/*
 * Queues of pended operations, from which a caller that gives up leaves by itself (cancel-safe queues).
 *
 * A filter puts an operation in and answers ALT_PRE_PENDING; later it takes it out, whereupon it is the filter's alone
 * and is resumed exactly once. What was cancelled in between is never handed out: the queue has ended it.
 * Source: FltCbdqInitialize, FltCbdqInsertIo, FltCbdqRemoveNextIo, FltCbdqDisable.
 */
#ifndef ALTITUDE_QUEUE_H
#define ALTITUDE_QUEUE_H

#include <altitude/op.h>

struct alt_queue;

/**
 * Ends an operation that was in the queue when its caller gave up. No lock is held; any thread.
 * @arg   as given to alt_queue_new()
 * @data  as given to alt_queue_insert()
 */
typedef void alt_queue_cancelled_fn(struct alt_op *op, void *arg, void *data);

/**
 * @cancelled  NULL: the operation is one that is pended in its pre-operation, and is completed with -EINTR
 * An empty, enabled queue, or NULL without memory. Usually made in setup.
 */
struct alt_queue *alt_queue_new(alt_queue_cancelled_fn *cancelled, void *arg);

/** The queue must be empty; no routine of a cancelled operation may still run: from teardown_complete. NULL is allowed. */
void alt_queue_free(struct alt_queue *q);

/**
 * Put an operation at the end. From its pre-operation, which then answers ALT_PRE_PENDING and touches the operation no
 * more (it may be resumed, or cancelled, before this returns).
 * @data  handed back with the operation; may be NULL; memory of alt_op_alloc() goes with it
 * 0, or the operation is still the caller's to answer: -EINTR (its caller has given up), -ESHUTDOWN (disabled), -ENOMEM.
 */
int alt_queue_insert(struct alt_queue *q, struct alt_op *op, void *data);

/**
 * Chooses: called under the queue's lock, oldest first, until it answers true. Must not resume operations nor use the queue.
 */
typedef bool alt_queue_match_fn(const struct alt_op *op, void *data, void *arg);

/**
 * Take out the oldest operation that @match chooses (NULL: the oldest). It is the caller's: resume it.
 * @ret_data  may be NULL
 * NULL when there is none.
 */
struct alt_op *alt_queue_take(struct alt_queue *q, alt_queue_match_fn *match, void *arg, void **ret_data);

/** Let nothing in any more: inserts answer -ESHUTDOWN. In teardown_start: disable, then take and resume until NULL. */
void alt_queue_disable(struct alt_queue *q);
void alt_queue_enable(struct alt_queue *q);

/** How many are waiting at this moment. */
unsigned alt_queue_count(struct alt_queue *q);

#endif
