/* SPDX-License-Identifier: MIT */
/* Every answer of a pre- and a post-operation, at once and from another thread. A is above B is above C. */
#include "stack/testing.h"

static int begin(void **state)
{
	if (t_begin(state) || t_attach("B", "200") || t_attach("C", "100") || t_attach("A", "300"))
		return -1;
	return 0;
}

#define case3(name) cmocka_unit_test_setup_teardown(name, begin, t_end)

static int access_root(void)
{
	t_logged();
	return t_simple(ALT_OP_ACCESS, 1, NULL);
}

/* ---- answers at once ---- */

static void no_callback_skips_only_the_own_post(void **state)
{
	t_script('B')->pre = ALT_PRE_SUCCESS_NO_CALLBACK;
	assert_int_equal(access_root(), 0);
	t_expect("+A +B +C * -C -A");
}

static void complete_turns_round_without_the_own_post(void **state)
{
	t_script('B')->pre = ALT_PRE_COMPLETE;
	t_script('B')->status = -EROFS;
	assert_int_equal(access_root(), -EROFS);
	t_expect("+A +B -A");
}

static void complete_with_success_serves_the_operation(void **state)
{
	t_script('B')->pre = ALT_PRE_COMPLETE;
	assert_int_equal(access_root(), 0);
	t_expect("+A +B -A");
	assert_int_equal(tfs.calls[ALT_OP_ACCESS], 0);
}

static void complete_at_the_top_calls_nobody_else(void **state)
{
	t_script('A')->pre = ALT_PRE_COMPLETE;
	t_script('A')->status = -EACCES;
	assert_int_equal(access_root(), -EACCES);
	t_expect("+A");
}

static void complete_at_the_bottom_calls_every_post_above(void **state)
{
	t_script('C')->pre = ALT_PRE_COMPLETE;
	t_script('C')->status = -EACCES;
	assert_int_equal(access_root(), -EACCES);
	t_expect("+A +B +C -B -A");
}

static void complete_with_a_positive_status_is_an_error(void **state)
{
	t_script('C')->pre = ALT_PRE_COMPLETE;
	t_script('C')->status = 7;
	assert_int_equal(access_root(), -EIO);
	t_expect("+A +B +C -B -A");
}

static void an_unknown_answer_is_an_error_that_those_above_see(void **state)
{
	static const int unknown[] = { 6, 99, -1, INT32_MAX };

	for (int i = 0; i < 4; i++) {
		t_script('B')->pre = unknown[i];
		assert_int_equal(access_root(), -EIO);
		t_expect("+A +B -A");
	}
}

static _Atomic uint32_t seen_flags[8];
static _Atomic int seen;

static enum alt_pre pre_disallow_fast(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	seen_flags[atomic_fetch_add(&seen, 1) & 7] = op->flags;
	return op->flags & ALT_OP_FAST ? ALT_PRE_DISALLOW_FASTIO : ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static void disallow_fastio_is_asked_again_where_it_may_block(void **state)
{
	seen = 0;
	t_script('B')->on_pre = pre_disallow_fast;
	assert_int_equal(access_root(), 0);
	t_expect("+A +B +B +C * -C -B -A");
	assert_int_equal(seen, 2);
	assert_int_equal(seen_flags[0] & (ALT_OP_FAST | ALT_OP_REISSUED), ALT_OP_FAST);
	assert_int_equal(seen_flags[1] & (ALT_OP_FAST | ALT_OP_REISSUED), ALT_OP_REISSUED);
}

/* The second time it is no answer: asking for ever would hold the thread for ever. */
static void disallow_fastio_twice_is_an_error(void **state)
{
	t_script('B')->pre = ALT_PRE_DISALLOW_FASTIO;
	assert_int_equal(access_root(), -EIO);
	t_expect("+A +B +B -A");
}

static enum alt_pre pre_edit_then_disallow(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	seen_flags[atomic_fetch_add(&seen, 1) & 7] = op->p->mode;
	if (!(op->flags & ALT_OP_FAST))
		return ALT_PRE_SUCCESS_NO_CALLBACK;
	alt_op_edit(op)->mode = 99;
	alt_op_dirty(op);
	return ALT_PRE_DISALLOW_FASTIO;
}

static void disallow_fastio_takes_a_change_of_parameters_back(void **state)
{
	seen = 0;
	t_script('B')->on_pre = pre_edit_then_disallow;
	assert_int_equal(access_root(), 0);
	assert_int_equal(seen, 2);
	assert_int_equal(seen_flags[1], 0);
}

static void a_callback_without_a_post_passes_through(void **state)
{
	static const struct alt_callback only_pre[] = { { ALT_OP_ACCESS, t_pre, NULL }, { ALT_OP_END } };
	static const struct alt_callback only_post[] = { { ALT_OP_ACCESS, NULL, t_post }, { ALT_OP_END } };
	static const struct alt_filter_registration pre = { .size = sizeof pre, .name = "pre", .callbacks = only_pre };
	static const struct alt_filter_registration post = { .size = sizeof post, .name = "post", .callbacks = only_post };

	assert_int_equal(t_attach_as(&pre, "D", "50"), 0);
	assert_int_equal(t_attach_as(&post, "E", "40"), 0);
	assert_int_equal(access_root(), 0);
	t_expect("+A +B +C +D * -E -C -B -A");
}

/* ---- pending ---- */

static struct t_later later;

static enum alt_pre pre_pend_later(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	t_later_start(&later, t_later_resume_pre, op);
	return ALT_PRE_PENDING;
}

static enum alt_pre pre_pend_resumed_already(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	t_later_start(&later, t_later_resume_pre, op);
	pthread_join(later.thread, NULL);
	return ALT_PRE_PENDING;
}

static enum alt_pre pre_pend_resumed_by_itself(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	later.op = op;
	t_later_resume_pre(&later);
	return ALT_PRE_PENDING;
}

/* The decisions a pended pre may be resumed with, and what follows. */
static const struct { enum alt_pre decision; int status; const char *log; } decisions[] = {
	{ ALT_PRE_SUCCESS_WITH_CALLBACK, 0, "+A +B +C * -C -B -A" },
	{ ALT_PRE_SUCCESS_NO_CALLBACK, 0, "+A +B +C * -C -A" },
	{ ALT_PRE_COMPLETE, -EPERM, "+A +B -A" },
	{ ALT_PRE_COMPLETE, 0, "+A +B -A" },
};

static void pend_each_way(alt_pre_fn *pre, bool join)
{
	t_script('B')->on_pre = pre;
	for (size_t i = 0; i < sizeof decisions / sizeof *decisions; i++) {
		for (int round = 0; round < 200; round++) {
			later = (struct t_later){ .decision = decisions[i].decision, .status = decisions[i].status };
			assert_int_equal(access_root(), decisions[i].status);
			if (join)
				pthread_join(later.thread, NULL);
			t_expect(decisions[i].log);
		}
	}
}

static void a_pended_pre_goes_on_from_another_thread(void **state)
{
	pend_each_way(pre_pend_later, true);
}

static void a_pre_may_be_resumed_before_it_has_returned_pending(void **state)
{
	pend_each_way(pre_pend_resumed_already, false);
	pend_each_way(pre_pend_resumed_by_itself, false);
}

static void a_pended_operation_does_not_keep_its_thread(void **state)
{
	struct t_call c = { 0 };

	later = (struct t_later){ .decision = ALT_PRE_SUCCESS_WITH_CALLBACK, .when = 1 };
	t_script('B')->on_pre = pre_pend_later;
	t_logged();
	t_go(&c, t_op(ALT_OP_ACCESS, 1, NULL));
	t_expect("+A +B");
	assert_false(t_is_over(&c));
	assert_int_equal(t_simple(ALT_OP_GETATTR, 99, NULL), -ESTALE);
	atomic_store(&later.when, 2);
	assert_int_equal(t_wait(&c), 0);
	pthread_join(later.thread, NULL);
	t_expect("+C * -C -B -A");
	assert_true(pthread_equal(c.thread, later.thread) || !pthread_equal(c.thread, pthread_self()));
}

static void all_may_pend_one_operation(void **state)
{
	for (const char *l = "ABC"; *l; l++)
		t_script(*l)->on_pre = pre_pend_resumed_already;
	later = (struct t_later){ .decision = ALT_PRE_SUCCESS_WITH_CALLBACK };
	assert_int_equal(access_root(), 0);
	t_expect("+A +B +C * -C -B -A");
}

static struct alt_op *_Atomic kept;

static enum alt_pre pre_pend_keep(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	alt_op_ref(op);
	atomic_store(&kept, op);
	return ALT_PRE_PENDING;
}

static void a_second_completion_does_nothing(void **state)
{
	struct t_call c = { 0 };

	t_script('B')->on_pre = pre_pend_keep;
	t_logged();
	t_go(&c, t_op(ALT_OP_ACCESS, 1, NULL));
	alt_op_resume_pre(kept, ALT_PRE_SUCCESS_NO_CALLBACK, NULL);
	assert_int_equal(t_wait(&c), 0);
	alt_op_resume_pre(kept, ALT_PRE_SUCCESS_WITH_CALLBACK, NULL);
	alt_op_resume_pre(kept, ALT_PRE_COMPLETE, NULL);
	assert_int_equal(c.dones, 1);
	t_expect("+A +B +C * -C -A");
	alt_op_unref(kept);
}

static void *context_seen;

static enum alt_post post_keep_context(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	context_seen = ctx;
	return ALT_POST_FINISHED;
}

static enum alt_pre pre_with_context(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	*ctx = &context_seen;
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static void a_context_given_at_the_resumption_reaches_the_post(void **state)
{
	struct t_call c = { 0 };
	int mark;

	t_script('B')->on_pre = pre_pend_keep;
	t_script('B')->on_post = post_keep_context;
	t_go(&c, t_op(ALT_OP_ACCESS, 1, NULL));
	alt_op_resume_pre(kept, ALT_PRE_SUCCESS_WITH_CALLBACK, &mark);
	alt_op_unref(kept);
	assert_int_equal(t_wait(&c), 0);
	assert_ptr_equal(context_seen, &mark);

	t_script('B')->on_pre = pre_with_context;
	assert_int_equal(access_root(), 0);
	assert_ptr_equal(context_seen, &context_seen);
}

/* ---- the file system pends ---- */

static int serve_later(struct alt_op *op)
{
	t_later_start(&later, t_later_complete, op);
	return ALT_PENDING;
}

static int serve_completed_already(struct alt_op *op)
{
	t_later_start(&later, t_later_complete, op);
	pthread_join(later.thread, NULL);
	return ALT_PENDING;
}

static void a_file_system_answers_from_another_thread_or_before_its_return(void **state)
{
	static const int statuses[] = { 0, -ENOSPC };

	for (int round = 0; round < 400; round++) {
		bool wait = round & 1;

		later = (struct t_later){ .status = statuses[round >> 1 & 1] };
		tfs.on[ALT_OP_ACCESS] = wait ? serve_completed_already : serve_later;
		assert_int_equal(access_root(), later.status);
		if (!wait)
			pthread_join(later.thread, NULL);
		t_expect("+A +B +C * -C -B -A");
	}
}

static int serve_nonsense(struct alt_op *op)
{
	return later.status;
}

static void a_handlers_answer_that_is_no_status_is_an_error(void **state)
{
	static const int nonsense[] = { 2, 4096, -512, -4095, INT32_MIN };

	tfs.on[ALT_OP_ACCESS] = serve_nonsense;
	for (int i = 0; i < 5; i++) {
		later.status = nonsense[i];
		assert_int_equal(access_root(), -EIO);
	}
}

static void a_completion_with_a_status_that_is_none_is_an_error(void **state)
{
	later = (struct t_later){ .status = 5 };
	tfs.on[ALT_OP_ACCESS] = serve_completed_already;
	assert_int_equal(access_root(), -EIO);
	later = (struct t_later){ .status = -1000 };
	tfs.on[ALT_OP_ACCESS] = serve_later;
	assert_int_equal(access_root(), -EIO);
	pthread_join(later.thread, NULL);
}

/* ---- synchronize ---- */

static pthread_t pre_thread, post_thread;

static enum alt_pre pre_synchronize(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	pre_thread = pthread_self();
	return ALT_PRE_SYNCHRONIZE;
}

static enum alt_post post_note_thread(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	post_thread = pthread_self();
	return ALT_POST_FINISHED;
}

static void a_synchronized_post_runs_on_the_pre_s_thread(void **state)
{
	t_script('B')->on_pre = pre_synchronize;
	t_script('B')->on_post = post_note_thread;
	for (int round = 0; round < 200; round++) {
		later = (struct t_later){ 0 };
		tfs.on[ALT_OP_ACCESS] = round & 1 ? serve_later : serve_completed_already;
		assert_int_equal(access_root(), 0);
		if (round & 1)
			pthread_join(later.thread, NULL);
		t_expect("+A +B +C * -C -B -A");
		assert_true(pthread_equal(post_thread, pre_thread));
	}
}

static enum alt_post post_more(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	t_later_start(&later, t_later_resume_post, op);
	return ALT_POST_MORE_PROCESSING;
}

static void a_synchronized_post_waits_for_what_pends_below(void **state)
{
	t_script('B')->on_pre = pre_synchronize;
	t_script('B')->on_post = post_note_thread;
	t_script('C')->on_pre = pre_pend_later;
	later = (struct t_later){ .decision = ALT_PRE_SUCCESS_WITH_CALLBACK };
	assert_int_equal(access_root(), 0);
	pthread_join(later.thread, NULL);
	assert_true(pthread_equal(post_thread, pre_thread));

	t_script('C')->on_pre = NULL;
	t_script('C')->on_post = post_more;
	later = (struct t_later){ 0 };
	assert_int_equal(access_root(), 0);
	pthread_join(later.thread, NULL);
	assert_true(pthread_equal(post_thread, pre_thread));
}

static void a_wait_for_a_lock_is_never_synchronized(void **state)
{
	struct alt_file *f = t_open("f");
	struct op *op = t_file_op(ALT_OP_SETLK, f);
	struct t_call c = { 0 };

	t_script('B')->pre = ALT_PRE_SYNCHRONIZE;
	tfs.on[ALT_OP_SETLK] = serve_later;
	later = (struct t_later){ .when = 1 };
	op->rq.params.bits = ALT_PARAM_WAIT;
	t_go(&c, op);
	assert_false(t_is_over(&c));
	atomic_store(&later.when, 2);
	assert_int_equal(t_wait(&c), 0);
	pthread_join(later.thread, NULL);
	t_expect("+A +B +C * -C -B -A");
	t_script('B')->pre = 0;
	assert_int_equal(t_close(f), 0);
}

#define WAITS 12                 /* more than this test has threads that serve: it has one */

static const struct alt_callback says_so[] = {
	{ ALT_OP_ACCESS, t_pre, t_post, ALT_CALLBACK_SYNCHRONIZES }, { ALT_OP_END }
};
static const struct alt_filter_registration saying = {
	.size = sizeof saying, .name = "saying", .altitude = "250", .callbacks = says_so,
};
static struct alt_op *parked[WAITS];
static _Atomic long parked_next, parked_count, strayed;

static enum alt_pre pre_synchronize_own(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	*ctx = (void *)pthread_self();
	return ALT_PRE_SYNCHRONIZE;
}

static enum alt_post post_look_at_thread(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	atomic_fetch_add(&strayed, !pthread_equal((pthread_t)ctx, pthread_self()));
	return ALT_POST_FINISHED;
}

static int serve_park(struct alt_op *op)
{
	parked[atomic_fetch_add(&parked_next, 1)] = op;
	atomic_fetch_add(&parked_count, 1);
	return ALT_PENDING;
}

/* All wait at once for what is pended below @letter, and the one thread that gives them in serves others meanwhile. */
static void waits_hold_up_nobody(char letter)
{
	struct t_call c[WAITS] = { 0 };

	parked_next = parked_count = strayed = 0;
	t_script(letter)->on_pre = pre_synchronize_own;
	t_script(letter)->on_post = post_look_at_thread;
	tfs.on[ALT_OP_ACCESS] = serve_park;
	for (int i = 0; i < WAITS; i++)
		t_go(&c[i], t_op(ALT_OP_ACCESS, 1, NULL));
	t_until(&parked_count, WAITS);
	assert_int_equal(t_simple(ALT_OP_GETATTR, 1, NULL), 0);
	for (int i = 0; i < WAITS; i++)
		assert_false(t_is_over(&c[i]));
	for (int i = 0; i < WAITS; i++)
		alt_op_complete(parked[i], 0);
	for (int i = 0; i < WAITS; i++)
		assert_int_equal(t_wait(&c[i]), 0);
	assert_int_equal(strayed, 0);
}

static void who_says_that_it_synchronizes_waits_on_a_worker(void **state)
{
	assert_int_equal(t_attach_as(&saying, "S", NULL), 0);
	waits_hold_up_nobody('S');
}

static void who_does_not_say_so_waits_on_a_worker_from_the_second_time_on(void **state)
{
	t_script('B')->on_pre = pre_synchronize;
	assert_int_equal(access_root(), 0);
	assert_true(pthread_equal(pre_thread, pthread_self()));
	assert_int_equal(access_root(), 0);
	assert_false(pthread_equal(pre_thread, pthread_self()));
	waits_hold_up_nobody('B');
	/* One operation says nothing of another. */
	t_script('B')->on_pre = pre_synchronize;
	assert_int_equal(t_simple(ALT_OP_STATFS, 1, NULL), 0);
	assert_true(pthread_equal(pre_thread, pthread_self()));
}

/* ---- post ---- */

static void more_processing_goes_on_from_another_thread(void **state)
{
	t_script('B')->on_post = post_more;
	for (int round = 0; round < 400; round++) {
		later = (struct t_later){ 0 };
		assert_int_equal(access_root(), 0);
		pthread_join(later.thread, NULL);
		t_expect("+A +B +C * -C -B -A");
	}
}

static enum alt_post post_more_resumed_already(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	alt_op_resume_post(op);
	return ALT_POST_MORE_PROCESSING;
}

static void a_post_may_be_resumed_before_it_has_returned(void **state)
{
	for (const char *l = "ABC"; *l; l++)
		t_script(*l)->on_post = post_more_resumed_already;
	assert_int_equal(access_root(), 0);
	t_expect("+A +B +C * -C -B -A");
}

static void a_post_that_keeps_the_operation_holds_those_above(void **state)
{
	struct t_call c = { 0 };

	t_script('B')->on_post = post_more;
	later = (struct t_later){ .when = 1 };
	t_logged();
	t_go(&c, t_op(ALT_OP_ACCESS, 1, NULL));
	t_expect("+A +B +C * -C -B");
	assert_false(t_is_over(&c));
	atomic_store(&later.when, 2);
	assert_int_equal(t_wait(&c), 0);
	pthread_join(later.thread, NULL);
	t_expect("-A");
}

static _Atomic int status_seen[26];

static enum alt_post post_note_status(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	status_seen[alt_instance_name(in)[0] - 'A'] = op->status;
	if (alt_instance_name(in)[0] == 'B')
		op->status = -EACCES;
	return ALT_POST_FINISHED;
}

static void a_failure_in_a_post_is_seen_only_above(void **state)
{
	for (const char *l = "ABC"; *l; l++)
		t_script(*l)->on_post = post_note_status;
	assert_int_equal(access_root(), -EACCES);
	assert_int_equal(status_seen[2], 0);
	assert_int_equal(status_seen[1], 0);
	assert_int_equal(status_seen[0], -EACCES);
}

/* ---- opens and releases ---- */

static struct alt_file *file_seen;

static enum alt_post post_note_file(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	file_seen = op->r.file;
	status_seen[0] = op->status;
	return ALT_POST_FINISHED;
}

/* What opened below is closed below, whoever fails the open above: t_end() counts. */
static void an_open_a_post_refuses_is_released_by_those_below(void **state)
{
	struct alt_file *f = NULL;
	uint64_t node = t_lookup(1, "f");

	t_script('B')->post_status = -EACCES;
	t_script('A')->on_post = post_note_file;
	t_logged();
	assert_int_equal(t_open_node(node, &f), -EACCES);
	t_expect("+A +B +C * -C -B +C * -C -A");
	assert_null(f);
	assert_null(file_seen);
	assert_int_equal(status_seen[0], -EACCES);
	assert_int_equal(tfs.released, 1);
	t_script('B')->post_status = 0;
}

static enum alt_post post_more_refuse(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	op->status = -EACCES;
	return post_more(op, in, ctx);
}

static void a_create_a_kept_post_refuses_is_released_too(void **state)
{
	struct t_call c = { 0 };
	struct op *op = t_op(ALT_OP_CREATE, 1, "made");

	later = (struct t_later){ 0 };
	t_script('A')->on_post = post_more_refuse;
	op->rq.params.flags = O_RDWR;
	assert_int_equal(t_run(&c, op), -EACCES);
	pthread_join(later.thread, NULL);
	t_script('A')->on_post = NULL;
	assert_int_equal(tfs.opened, 1);
	assert_int_equal(tfs.released, 1);
}

static int serve_fail(struct alt_op *op)
{
	tfs_usual(op);
	return -EIO;
}

static void a_release_cannot_fail(void **state)
{
	struct alt_file *f;

	f = t_open("f");
	t_script('B')->post_status = -EACCES;
	assert_int_equal(t_close(f), 0);
	t_script('B')->post_status = 0;

	f = t_open("f");
	tfs.on[ALT_OP_RELEASE] = serve_fail;
	assert_int_equal(t_close(f), 0);
	tfs.on[ALT_OP_RELEASE] = NULL;

	f = t_open("f");
	later = (struct t_later){ 0 };
	t_script('A')->on_post = post_more_refuse;
	assert_int_equal(t_close(f), 0);
	pthread_join(later.thread, NULL);
	t_script('A')->on_post = NULL;
}

static void a_release_is_never_lost(void **state)
{
	struct alt_file *f;

	f = t_open("f");
	t_script('B')->pre = 99;
	assert_int_equal(t_close(f), 0);
	t_expect("+A +B +C * -C -A");

	t_script('B')->pre = 0;
	f = t_open("f");
	t_script('B')->pre = ALT_PRE_COMPLETE;
	t_script('B')->status = -EIO;
	assert_int_equal(t_close(f), 0);
	t_expect("+A +B +C * -C -A");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		case3(no_callback_skips_only_the_own_post),
		case3(complete_turns_round_without_the_own_post),
		case3(complete_with_success_serves_the_operation),
		case3(complete_at_the_top_calls_nobody_else),
		case3(complete_at_the_bottom_calls_every_post_above),
		case3(complete_with_a_positive_status_is_an_error),
		case3(an_unknown_answer_is_an_error_that_those_above_see),
		case3(disallow_fastio_is_asked_again_where_it_may_block),
		case3(disallow_fastio_twice_is_an_error),
		case3(disallow_fastio_takes_a_change_of_parameters_back),
		case3(a_callback_without_a_post_passes_through),
		case3(a_pended_pre_goes_on_from_another_thread),
		case3(a_pre_may_be_resumed_before_it_has_returned_pending),
		case3(a_pended_operation_does_not_keep_its_thread),
		case3(all_may_pend_one_operation),
		case3(a_second_completion_does_nothing),
		case3(a_context_given_at_the_resumption_reaches_the_post),
		case3(a_file_system_answers_from_another_thread_or_before_its_return),
		case3(a_handlers_answer_that_is_no_status_is_an_error),
		case3(a_completion_with_a_status_that_is_none_is_an_error),
		case3(a_synchronized_post_runs_on_the_pre_s_thread),
		case3(a_synchronized_post_waits_for_what_pends_below),
		case3(who_says_that_it_synchronizes_waits_on_a_worker),
		case3(who_does_not_say_so_waits_on_a_worker_from_the_second_time_on),
		case3(a_wait_for_a_lock_is_never_synchronized),
		case3(more_processing_goes_on_from_another_thread),
		case3(a_post_may_be_resumed_before_it_has_returned),
		case3(a_post_that_keeps_the_operation_holds_those_above),
		case3(a_failure_in_a_post_is_seen_only_above),
		case3(an_open_a_post_refuses_is_released_by_those_below),
		case3(a_create_a_kept_post_refuses_is_released_too),
		case3(a_release_cannot_fail),
		case3(a_release_is_never_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
