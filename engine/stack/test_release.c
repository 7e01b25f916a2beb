/* SPDX-License-Identifier: MIT */
/* A RELEASE that the engine sends itself is an operation as any other: its file is there for as long as somebody keeps it. */
#include "stack/testing.h"

#define FILES 3

static struct alt_op *kept;
static _Atomic long cancels, early;
static long forgotten;           /* before the end */

static void release_done(struct alt_op *op)
{
	/* Whoever answers is answered by a volume that is all there. */
	if (atomic_load(&tfs.live) != 1 || alt_file_data(op->file) != &kept || atomic_load(&tfs.forgotten) != forgotten)
		atomic_fetch_add(&early, 1);
	atomic_fetch_add(&tfs.released, 1);
	alt_op_complete(op, 0);
}

static int release_keep(struct alt_op *op)
{
	kept = op;
	return ALT_PENDING;
}

static int release_answer_and_keep(struct alt_op *op)
{
	release_done(op);
	return ALT_PENDING;
}

static void release_cancel(struct alt_op *op, void *arg)
{
	atomic_fetch_add(&cancels, 1);
	release_done(op);
}

static int release_until_cancelled(struct alt_op *op)
{
	if (alt_op_set_cancel(op, release_cancel, NULL) < 0)
		release_done(op);
	return ALT_PENDING;
}

static struct t_later laters[FILES];
static _Atomic long started;

static void release_when_awaited(struct t_later *l)
{
	while (!alt_op_cancelled(l->op))
		sched_yield();
	release_done(l->op);
}

static int release_by_a_thread(struct alt_op *op)
{
	t_later_start(&laters[atomic_fetch_add(&started, 1)], release_when_awaited, op);
	return ALT_PENDING;
}

static struct alt_file *open_with(alt_handler *release)
{
	struct alt_file *f = t_open("f");

	tfs.on[ALT_OP_RELEASE] = release;
	alt_file_set_data(f, &kept);
	atomic_store(&early, 0);
	atomic_store(&cancels, 0);
	forgotten = atomic_load(&tfs.forgotten);
	return f;
}

static struct volume_live live(void)
{
	struct volume_live l;

	volume_live(t_volume, &l);
	return l;
}

static void an_abandoned_file_is_there_until_its_release_is_answered(void **state)
{
	struct alt_file *f = open_with(release_keep);
	struct t_later l = { 0 };

	file_abandon(f);
	assert_int_equal(live().operations, 1);
	assert_int_equal(live().files, 1);
	assert_ptr_equal(kept->file, f);
	assert_int_equal(kept->p->flags, O_RDWR);
	t_later_start(&l, t_later_complete, kept);
	pthread_join(l.thread, NULL);
	atomic_fetch_add(&tfs.released, 1);
	assert_int_equal(live().operations, 0);
	assert_int_equal(live().files, 0);
}

static void a_release_may_be_answered_before_its_handler_returns(void **state)
{
	file_abandon(open_with(release_answer_and_keep));
	assert_int_equal(live().files, 0);
	assert_int_equal(early, 0);
}

/* They have seen it opened. */
static void an_abandoned_file_is_released_by_the_filters_too(void **state)
{
	assert_int_equal(t_attach("A", "1"), 0);
	struct alt_file *f = open_with(NULL);

	file_abandon(f);
	t_expect("+A * -A");
	assert_int_equal(tfs.calls[ALT_OP_RELEASE], 1);
}

static void not_taken(struct op *op)
{
	op_end(op);
}

/* Its deadline has passed, or its caller is dead: the kernel has no file that it would release. */
static void an_open_that_nobody_takes_is_released_by_all_who_saw_it(void **state)
{
	uint64_t node = t_lookup(1, "f");
	struct op *op = t_op(ALT_OP_OPEN, node, NULL);

	assert_int_equal(t_attach("A", "1"), 0);
	t_logged();
	assert_int_equal(op_resolve(op), 0);
	op->done = not_taken;
	stack_run(op, NULL);
	t_expect("+A * -A +A * -A");
	assert_int_equal(tfs.calls[ALT_OP_RELEASE], 1);
	assert_int_equal(live().files, 0);
}

static void volume_end(void)
{
	stack_volume_fini(t_volume);
	volume_free(t_volume);
	t_volume = NULL;
}

static void the_end_of_a_volume_awaits_every_release_that_is_kept(void **state)
{
	atomic_store(&started, 0);
	for (int i = 0; i < FILES; i++)
		open_with(release_by_a_thread);
	volume_end();
	assert_int_equal(started, FILES);
	for (int i = 0; i < FILES; i++)
		pthread_join(laters[i].thread, NULL);
	assert_int_equal(tfs.released, FILES);
	assert_int_equal(early, 0);
	t_volume = t_volume_new();
}

static void the_end_of_a_volume_cancels_a_release_that_is_kept(void **state)
{
	for (int i = 0; i < FILES; i++)
		open_with(release_until_cancelled);
	volume_end();
	assert_int_equal(cancels, FILES);
	assert_int_equal(tfs.released, FILES);
	assert_int_equal(early, 0);
	t_volume = t_volume_new();
}

static void the_end_of_a_volume_finds_a_release_that_is_under_way(void **state)
{
	struct alt_file *f = open_with(release_by_a_thread);

	atomic_store(&started, 0);
	file_abandon(f);
	volume_end();
	pthread_join(laters[0].thread, NULL);
	assert_int_equal(tfs.released, 1);
	assert_int_equal(early, 0);
	t_volume = t_volume_new();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		t_case(an_abandoned_file_is_there_until_its_release_is_answered),
		t_case(a_release_may_be_answered_before_its_handler_returns),
		t_case(an_abandoned_file_is_released_by_the_filters_too),
		t_case(an_open_that_nobody_takes_is_released_by_all_who_saw_it),
		t_case(the_end_of_a_volume_awaits_every_release_that_is_kept),
		t_case(the_end_of_a_volume_cancels_a_release_that_is_kept),
		t_case(the_end_of_a_volume_finds_a_release_that_is_under_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
