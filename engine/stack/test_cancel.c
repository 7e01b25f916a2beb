/* SPDX-License-Identifier: MIT */
/* Giving up: the cancel routine runs once or never, and whoever it is, one owner completes. */
#include "stack/testing.h"

#define ROUNDS 1000

static _Atomic long cancels, cancelled_when_set;
static _Atomic(struct alt_op *) kept;

static int begin(void **state)
{
	cancels = cancelled_when_set = 0;
	kept = NULL;
	return t_begin(state) || t_attach("A", "300") || t_attach("B", "200") ? -1 : 0;
}

#define case2(name) cmocka_unit_test_setup_teardown(name, begin, t_end)

static void on_cancel(struct alt_op *op, void *arg)
{
	atomic_fetch_add(&cancels, 1);
	op->status = -EINTR;
	alt_op_resume_pre(op, ALT_PRE_COMPLETE, NULL);
}

static enum alt_pre pre_park(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	if (alt_op_set_cancel(op, on_cancel, NULL) < 0) {
		atomic_fetch_add(&cancelled_when_set, 1);
		op->status = -EINTR;
		return ALT_PRE_COMPLETE;
	}
	alt_op_ref(op); /* for whoever wants to look, or to complete */
	atomic_store(&kept, op);
	return ALT_PRE_PENDING;
}

static void park(struct t_call *c)
{
	t_script('B')->on_pre = pre_park;
	t_logged();
	t_go(c, t_op(ALT_OP_ACCESS, 1, NULL));
}

static void an_interrupt_reaches_a_parked_operation_by_its_number(void **state)
{
	struct t_call c = { 0 }, d = { 0 };

	park(&d);
	alt_op_unref(kept);
	park(&c);
	assert_false(op_interrupt(t_volume, c.unique + 1));
	assert_true(op_interrupt(t_volume, c.unique));
	assert_int_equal(t_wait(&c), -EINTR);
	t_expect("+A +B -A");
	assert_int_equal(cancels, 1);
	assert_false(t_is_over(&d));
	assert_false(op_interrupt(t_volume, c.unique));
	alt_op_unref(kept);
	assert_true(op_interrupt(t_volume, d.unique));
	assert_int_equal(t_wait(&d), -EINTR);
}

static void an_interrupt_that_comes_first_is_remembered(void **state)
{
	struct t_call c = { 0 }, d = { 0 };

	park(&c);
	op_interrupt_early(t_volume, c.unique);          /* in flight: as the other */
	assert_int_equal(t_wait(&c), -EINTR);
	alt_op_unref(kept);
	op_interrupt_early(t_volume, c.unique);          /* over: nothing comes of it */
	op_interrupt_early(t_volume, c.unique + 1);
	park(&d);                                        /* cancelled before it could be kept */
	assert_int_equal(d.unique, c.unique + 1);
	assert_int_equal(t_wait(&d), -EINTR);
	assert_int_equal(cancels, 1);
	assert_int_equal(cancelled_when_set, 1);
}

static void a_second_interrupt_calls_nobody(void **state)
{
	struct t_call c = { 0 };

	park(&c);
	op_cancel((struct op *)kept);
	op_cancel((struct op *)kept);
	assert_int_equal(t_wait(&c), -EINTR);
	op_cancel((struct op *)kept);
	assert_int_equal(cancels, 1);
	assert_true(alt_op_cancelled(kept));
	alt_op_unref(kept);
}

static enum alt_pre pre_cancel_first(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	op_cancel((struct op *)op);
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static void a_cancel_before_the_routine_is_set_is_told_by_set(void **state)
{
	struct t_call c = { 0 };

	t_script('A')->on_pre = pre_cancel_first;
	park(&c);
	assert_int_equal(t_wait(&c), -EINTR);
	assert_int_equal(cancelled_when_set, 1);
	assert_int_equal(cancels, 0);
}

static void a_routine_taken_back_is_not_called(void **state)
{
	struct t_call c = { 0 };

	park(&c);
	assert_true(alt_op_clear_cancel(kept));
	assert_false(alt_op_clear_cancel(kept));
	assert_true(op_interrupt(t_volume, c.unique));
	assert_int_equal(cancels, 0);
	assert_false(t_is_over(&c));
	alt_op_resume_pre(kept, ALT_PRE_SUCCESS_WITH_CALLBACK, NULL);
	assert_int_equal(t_wait(&c), 0);
	t_expect("+A +B * -B -A");
	alt_op_unref(kept);
}

static void completing_takes_the_routine_back(void **state)
{
	struct t_call c = { 0 };

	park(&c);
	alt_op_resume_pre(kept, ALT_PRE_SUCCESS_WITH_CALLBACK, NULL);
	assert_int_equal(t_wait(&c), 0);
	op_cancel((struct op *)kept);
	assert_int_equal(cancels, 0);
	alt_op_unref(kept);
}

static void a_routine_that_ran_owns_the_operation(void **state)
{
	struct t_call c = { 0 };

	park(&c);
	op_cancel((struct op *)kept);
	assert_false(alt_op_clear_cancel(kept));
	assert_int_equal(t_wait(&c), -EINTR);
	alt_op_unref(kept);
}

/* ---- races ---- */

static _Atomic int go;
static _Atomic long resumed;

static void *interrupt_main(void *arg)
{
	while (!atomic_load(&go))
		;
	op_interrupt(t_volume, ((struct t_call *)arg)->unique);
	return NULL;
}

static void *complete_main(void *arg)
{
	while (!atomic_load(&go))
		;
	if (alt_op_clear_cancel(kept)) {
		atomic_fetch_add(&resumed, 1);
		alt_op_resume_pre(kept, ALT_PRE_SUCCESS_WITH_CALLBACK, NULL);
	}
	return NULL;
}

static void an_interrupt_and_a_completion_race_and_one_wins(void **state)
{
	long eintr = 0;

	atomic_store(&t_log_off, true);
	resumed = 0;
	for (int round = 0; round < ROUNDS; round++) {
		struct t_call c = { 0 };
		pthread_t a, b;
		int r;

		atomic_store(&go, 0);
		park(&c);
		pthread_create(&a, NULL, interrupt_main, &c);
		pthread_create(&b, NULL, complete_main, NULL);
		atomic_store(&go, 1);
		r = t_wait(&c);
		pthread_join(a, NULL);
		pthread_join(b, NULL);
		assert_true(r == 0 || r == -EINTR);
		eintr += r == -EINTR;
		assert_int_equal(c.dones, 1);
		alt_op_unref(kept);
	}
	assert_int_equal(resumed + cancels, ROUNDS);
	assert_int_equal(cancels, eintr);
}

static _Atomic uint64_t target;
static _Atomic bool stop;

static void *interrupt_always_main(void *arg)
{
	while (!atomic_load(&stop))
		op_interrupt(t_volume, atomic_load(&target));
	return NULL;
}

/* The interrupt may come before the pre, while it parks the operation, or after: it is never lost and never twice. */
static void an_interrupt_at_any_moment_ends_a_parked_operation(void **state)
{
	pthread_t t;

	atomic_store(&t_log_off, true);
	atomic_store(&stop, false);
	atomic_store(&target, 0);
	pthread_create(&t, NULL, interrupt_always_main, NULL);
	t_script('B')->on_pre = pre_park;
	for (int round = 0; round < ROUNDS; round++) {
		struct t_call c = { 0 };

		atomic_store(&kept, NULL);
		atomic_store(&target, atomic_load(&t_uniques) + 1);
		park(&c);
		assert_int_equal(t_wait(&c), -EINTR);
		if (kept)
			alt_op_unref(kept);
	}
	atomic_store(&stop, true);
	pthread_join(t, NULL);
	assert_int_equal(cancels + cancelled_when_set, ROUNDS);
}

static _Atomic bool inside, left_early;

/* It ends the operation, and then has its time: until the filter is gone, which must not be, or for as good as ever. */
static void on_cancel_linger(struct alt_op *op, void *arg)
{
	atomic_store(&inside, true);
	on_cancel(op, arg);
	t_until(&t_script('B')->starts, 1);
	for (int i = 0; i < 100 && !atomic_load(&t_script('B')->completes); i++)
		usleep(1000);
	atomic_store(&left_early, atomic_load(&t_script('B')->completes) > 0);
	atomic_store(&inside, false);
}

static enum alt_pre pre_linger(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	return alt_op_set_cancel(op, on_cancel_linger, NULL) < 0 ? ALT_PRE_SUCCESS_NO_CALLBACK : ALT_PRE_PENDING;
}

static void *interrupt_once_main(void *arg)
{
	op_interrupt(t_volume, atomic_load(&target));
	return NULL;
}

/* A module is closed after its last detach: the routine would return to where nothing is. */
static void a_detach_waits_for_a_cancel_routine_that_has_not_returned(void **state)
{
	struct t_call c = { 0 };
	pthread_t t;

	t_script('B')->on_pre = pre_linger;
	t_go(&c, t_op(ALT_OP_ACCESS, 1, NULL));
	atomic_store(&target, c.unique);
	pthread_create(&t, NULL, interrupt_once_main, NULL);
	assert_int_equal(t_wait(&c), -EINTR);
	assert_int_equal(t_detach("B"), 0);
	assert_false(inside);
	pthread_join(t, NULL);
	assert_false(left_early);
}

/* ---- the file system and a post may park too ---- */

static void on_cancel_complete(struct alt_op *op, void *arg)
{
	atomic_fetch_add(&cancels, 1);
	alt_op_complete(op, -EINTR);
}

static int serve_park(struct alt_op *op)
{
	if (alt_op_set_cancel(op, on_cancel_complete, NULL) < 0)
		return -EINTR;
	return ALT_PENDING;
}

static void a_handler_that_waits_is_interrupted(void **state)
{
	struct t_call c = { 0 };

	tfs.on[ALT_OP_ACCESS] = serve_park;
	t_logged();
	t_go(&c, t_op(ALT_OP_ACCESS, 1, NULL));
	assert_true(op_interrupt(t_volume, c.unique));
	assert_int_equal(t_wait(&c), -EINTR);
	t_expect("+A +B * -B -A");
	assert_int_equal(cancels, 1);
}

static void a_synchronized_wait_is_interrupted(void **state)
{
	pthread_t t;
	struct t_call c = { 0 };

	t_script('A')->pre = ALT_PRE_SYNCHRONIZE;
	tfs.on[ALT_OP_ACCESS] = serve_park;
	atomic_store(&stop, false);
	atomic_store(&target, atomic_load(&t_uniques) + 1);
	pthread_create(&t, NULL, interrupt_always_main, NULL);
	assert_int_equal(t_run(&c, t_op(ALT_OP_ACCESS, 1, NULL)), -EINTR);
	assert_true(pthread_equal(c.thread, pthread_self()));
	atomic_store(&stop, true);
	pthread_join(t, NULL);
}

static void on_cancel_post(struct alt_op *op, void *arg)
{
	atomic_fetch_add(&cancels, 1);
	op->status = -EINTR;
	alt_op_resume_post(op);
}

static enum alt_post post_park(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	if (alt_op_set_cancel(op, on_cancel_post, NULL) < 0)
		return ALT_POST_FINISHED;
	return ALT_POST_MORE_PROCESSING;
}

static void a_parked_post_is_interrupted(void **state)
{
	struct t_call c = { 0 };

	t_script('B')->on_post = post_park;
	t_logged();
	t_go(&c, t_op(ALT_OP_ACCESS, 1, NULL));
	assert_false(t_is_over(&c));
	assert_true(op_interrupt(t_volume, c.unique));
	assert_int_equal(t_wait(&c), -EINTR);
	t_expect("+A +B * -B -A");
	assert_int_equal(cancels, 1);
}

static void on_cancel_asks_the_engine(struct alt_op *op, void *arg)
{
	alt_op_extend(op, 1000);
	assert_false(op_interrupt(t_volume, UINT64_MAX));
	on_cancel(op, arg);
}

static enum alt_pre pre_park_ask(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	alt_op_set_cancel(op, on_cancel_asks_the_engine, NULL);
	return ALT_PRE_PENDING;
}

static void no_lock_is_held_while_the_routine_runs(void **state)
{
	struct t_call c = { 0 };

	t_script('B')->on_pre = pre_park_ask;
	t_go(&c, t_op(ALT_OP_ACCESS, 1, NULL));
	assert_true(op_interrupt(t_volume, c.unique));
	assert_int_equal(t_wait(&c), -EINTR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		case2(an_interrupt_reaches_a_parked_operation_by_its_number),
		case2(an_interrupt_that_comes_first_is_remembered),
		case2(a_second_interrupt_calls_nobody),
		case2(a_cancel_before_the_routine_is_set_is_told_by_set),
		case2(a_routine_taken_back_is_not_called),
		case2(completing_takes_the_routine_back),
		case2(a_routine_that_ran_owns_the_operation),
		case2(an_interrupt_and_a_completion_race_and_one_wins),
		case2(an_interrupt_at_any_moment_ends_a_parked_operation),
		case2(a_detach_waits_for_a_cancel_routine_that_has_not_returned),
		case2(a_handler_that_waits_is_interrupted),
		case2(a_synchronized_wait_is_interrupted),
		case2(a_parked_post_is_interrupted),
		case2(no_lock_is_held_while_the_routine_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
