/* SPDX-License-Identifier: MIT */
/* Cancel-safe queues: in order, one owner, nothing handed out that was cancelled, nothing in when disabled. */
#include "stack/testing.h"

#include <altitude/queue.h>

#define ROUNDS 2000

static struct alt_queue *queue;
static _Atomic long cancels;

static int begin(void **state)
{
	cancels = 0;
	queue = alt_queue_new(NULL, NULL);
	return !queue || t_begin(state) || t_attach("A", "300") || t_attach("B", "200") ? -1 : 0;
}

static int end(void **state)
{
	int r = t_end(state);

	assert_int_equal(alt_queue_count(queue), 0);
	alt_queue_free(queue);
	return r;
}

#define case2(name) cmocka_unit_test_setup_teardown(name, begin, end)

static enum alt_pre pre_queue(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	int r = alt_queue_insert(queue, op, (void *)(uintptr_t)op->node);

	if (!r)
		return ALT_PRE_PENDING;
	op->status = r;
	return ALT_PRE_COMPLETE;
}

static void park(struct t_call *c)
{
	t_script('B')->on_pre = pre_queue;
	t_go(c, t_op(ALT_OP_ACCESS, 1, NULL));
}

static bool go_on(void)
{
	struct alt_op *op = alt_queue_take(queue, NULL, NULL, NULL);

	if (op)
		alt_op_resume_pre(op, ALT_PRE_SUCCESS_WITH_CALLBACK, NULL);
	return op;
}

static void what_came_first_goes_first(void **state)
{
	struct t_call c[3] = { 0 };

	for (int i = 0; i < 3; i++)
		park(&c[i]);
	assert_int_equal(alt_queue_count(queue), 3);
	for (int i = 0; i < 3; i++) {
		assert_false(t_is_over(&c[i]));
		assert_true(go_on());
		assert_int_equal(t_wait(&c[i]), 0);
	}
	assert_false(go_on());
}

static void the_data_comes_back_with_the_operation(void **state)
{
	struct t_call c = { 0 };
	struct alt_op *op;
	void *data = NULL;

	park(&c);
	op = alt_queue_take(queue, NULL, NULL, &data);
	assert_non_null(op);
	assert_ptr_equal(data, op->node);
	alt_op_resume_pre(op, ALT_PRE_SUCCESS_NO_CALLBACK, NULL);
	assert_int_equal(t_wait(&c), 0);
}

static bool is_the_second(const struct alt_op *op, void *data, void *arg)
{
	return ++*(int *)arg == 2;
}

static void one_may_be_chosen(void **state)
{
	struct t_call c[3] = { 0 };
	struct alt_op *op;
	int seen = 0;

	for (int i = 0; i < 3; i++)
		park(&c[i]);
	op = alt_queue_take(queue, is_the_second, &seen, NULL);
	assert_non_null(op);
	alt_op_resume_pre(op, ALT_PRE_SUCCESS_NO_CALLBACK, NULL);
	assert_int_equal(t_wait(&c[1]), 0);
	assert_false(t_is_over(&c[0]));
	assert_false(t_is_over(&c[2]));
	assert_null(alt_queue_take(queue, is_the_second, &seen, NULL)); /* 3, 4: nobody is chosen */
	assert_true(go_on() && go_on());
	t_wait(&c[0]);
	t_wait(&c[2]);
}

static void who_gives_up_leaves_and_is_not_handed_out(void **state)
{
	struct t_call c[2] = { 0 };

	park(&c[0]);
	park(&c[1]);
	assert_true(op_interrupt(t_volume, c[0].unique));
	assert_int_equal(t_wait(&c[0]), -EINTR);
	assert_int_equal(alt_queue_count(queue), 1);
	assert_true(go_on());
	assert_int_equal(t_wait(&c[1]), 0);
	assert_false(go_on());
}

static enum alt_pre pre_cancel_then_queue(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	op_cancel((struct op *)op);
	return pre_queue(op, in, ctx);
}

static void who_has_given_up_is_not_let_in(void **state)
{
	struct t_call c = { 0 };

	t_script('B')->on_pre = pre_cancel_then_queue;
	t_go(&c, t_op(ALT_OP_ACCESS, 1, NULL));
	assert_int_equal(t_wait(&c), -EINTR);
	assert_int_equal(alt_queue_count(queue), 0);
}

static void a_disabled_queue_lets_nobody_in_and_gives_what_it_has(void **state)
{
	struct t_call c[3] = { 0 };

	park(&c[0]);
	alt_queue_disable(queue);
	park(&c[1]);
	assert_int_equal(t_wait(&c[1]), -ESHUTDOWN);
	assert_true(go_on());
	assert_int_equal(t_wait(&c[0]), 0);
	alt_queue_enable(queue);
	park(&c[2]);
	assert_true(go_on());
	assert_int_equal(t_wait(&c[2]), 0);
}

static void own_cancelled(struct alt_op *op, void *arg, void *data)
{
	atomic_fetch_add((_Atomic long *)arg, 1);
	assert_ptr_equal(data, op->node);
	op->status = -ECANCELED;
	alt_op_resume_pre(op, ALT_PRE_COMPLETE, NULL);
}

static void the_filters_own_routine_ends_a_cancelled_one(void **state)
{
	struct t_call c = { 0 };

	alt_queue_free(queue);
	queue = alt_queue_new(own_cancelled, (void *)&cancels);
	park(&c);
	assert_true(op_interrupt(t_volume, c.unique));
	assert_int_equal(t_wait(&c), -ECANCELED);
	assert_int_equal(cancels, 1);
}

static _Atomic bool over;

static void *taker(void *arg)
{
	while (!over)
		*(long *)arg += go_on();
	return NULL;
}

/* Two take while callers give up: each operation ends once, as taken or as interrupted. */
static void takers_and_cancels_race_and_each_ends_once(void **state)
{
	pthread_t threads[2];
	long taken[2] = { 0 }, interrupted = 0;

	over = false;
	t_log_off = true;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, taker, &taken[i]), 0);
	for (int i = 0; i < ROUNDS; i++) {
		struct t_call c = { 0 };
		int status;

		park(&c);
		op_interrupt(t_volume, c.unique);
		status = t_wait(&c);
		assert_true(status == 0 || status == -EINTR);
		interrupted += status == -EINTR;
	}
	over = true;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(taken[0] + taken[1] + interrupted, ROUNDS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		case2(what_came_first_goes_first),
		case2(the_data_comes_back_with_the_operation),
		case2(one_may_be_chosen),
		case2(who_gives_up_leaves_and_is_not_handed_out),
		case2(who_has_given_up_is_not_let_in),
		case2(a_disabled_queue_lets_nobody_in_and_gives_what_it_has),
		case2(the_filters_own_routine_ends_a_cancelled_one),
		case2(takers_and_cancels_race_and_each_ends_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
