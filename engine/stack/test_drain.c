/* SPDX-License-Identifier: MIT */
/* What a detach waits for, and what it does not. A is above B above C. */
#include "stack/testing.h"

struct detach { pthread_t thread; const char *name; int r; _Atomic bool over; };

static void *detach_main(void *arg)
{
	struct detach *d = arg;

	d->r = stack_detach(t_volume, NULL, d->name, ALT_TEARDOWN_MANUAL, NULL);
	atomic_store(&d->over, true);
	return NULL;
}

static void detach_begin(struct detach *d, const char *name)
{
	*d = (struct detach){ .name = name };
	pthread_create(&d->thread, NULL, detach_main, d);
	t_until(&t_script(name[0])->starts, 1);
}

static int detach_end(struct detach *d)
{
	pthread_join(d->thread, NULL);
	return d->r;
}

static struct t_later later;

static int serve_later(struct alt_op *op)
{
	t_later_start(&later, t_later_complete, op);
	return ALT_PENDING;
}

/* After its teardown-start an instance is called only for what began before; after teardown-complete not at all. */
static void a_detach_waits_for_the_post_it_is_owed(void **state)
{
	struct t_call c = { 0 };
	struct detach d;

	later = (struct t_later){ .when = 1 };
	tfs.on[ALT_OP_ACCESS] = serve_later;
	t_logged();
	t_go(&c, t_op(ALT_OP_ACCESS, 1, NULL));
	t_expect("+A +B +C *");
	detach_begin(&d, "B");
	tfs.on[ALT_OP_ACCESS] = NULL;
	assert_int_equal(t_simple(ALT_OP_ACCESS, 1, NULL), 0);
	t_expect("startB +A +C * -C -A");
	usleep(30000); /* a few looks of the drain: it must not be over */
	assert_false(atomic_load(&d.over));
	assert_int_equal(t_script('B')->posts + t_script('B')->drains + t_script('B')->completes, 0);

	atomic_store(&later.when, 2);
	assert_int_equal(t_wait(&c), 0);
	assert_int_equal(detach_end(&d), 0);
	pthread_join(later.thread, NULL);
	assert_int_equal(t_script('B')->posts, 1);
	assert_int_equal(t_script('B')->completes, 1);
	assert_int_equal(t_access_root(), 0);
	t_expect("+A +C * -C -A");
}

/* One that has not come down to it yet goes by. */
static enum alt_pre pre_park(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	later.op = op;
	return ALT_PRE_PENDING;
}

static void an_operation_still_above_goes_by_a_detached_instance(void **state)
{
	struct t_call c = { 0 };
	struct detach d;

	t_script('A')->on_pre = pre_park;
	t_logged();
	t_go(&c, t_op(ALT_OP_ACCESS, 1, NULL));
	detach_begin(&d, "B");
	assert_int_equal(detach_end(&d), 0); /* does not wait for A */
	t_expect("+A startB completeB");
	alt_op_resume_pre(later.op, ALT_PRE_SUCCESS_WITH_CALLBACK, NULL);
	assert_int_equal(t_wait(&c), 0);
	t_expect("+C * -C -A");
}

static void start_resumes(struct alt_instance *in, uint32_t reason)
{
	t_teardown_start(in, reason);
	alt_op_resume_pre(later.op, ALT_PRE_SUCCESS_WITH_CALLBACK, NULL);
}

static void what_an_instance_pended_it_completes_in_teardown_start(void **state)
{
	static const struct alt_filter_registration reg = { .size = sizeof reg, .name = "pends", .callbacks = t_all,
							    .teardown_start = start_resumes, .teardown_complete = t_teardown_complete };
	struct t_call c = { 0 };

	assert_int_equal(t_attach_as(&reg, "D", "150"), 0);
	t_script('D')->on_pre = pre_park;
	t_logged();
	t_go(&c, t_op(ALT_OP_ACCESS, 1, NULL));
	assert_int_equal(t_detach("D"), 0);
	assert_int_equal(t_wait(&c), 0);
	t_expect("+A +B +D startD +C * -C -D -B -A completeD");
}

/* ---- a wait without end ---- */

static _Atomic long freed;
static const struct alt_params *params_seen;
static struct alt_file *file_seen;

static enum alt_pre pre_hold(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	*ctx = malloc(10);
	params_seen = op->p;
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_post post_free(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	free(ctx);
	atomic_fetch_add(&freed, 1);
	if (op->flags & ALT_OP_DRAINING) {
		file_seen = op->file;
		if (op->code == ALT_OP_SETLK && (op->p != params_seen || alt_file_node(op->file) != op->node))
			file_seen = NULL;
		/* Harmless on the copy, though nobody needs it. */
		alt_op_alloc(op, 100);
		op->status = -EIO;
		return op->code == ALT_OP_SETLK ? ALT_POST_MORE_PROCESSING : ALT_POST_FINISHED;
	}
	return ALT_POST_FINISHED;
}

static struct op *lock_wait_op(struct alt_file *f)
{
	struct op *op = t_file_op(ALT_OP_SETLK, f);

	op->rq.params.bits = ALT_PARAM_WAIT;
	return op;
}

static void an_endless_wait_is_drained_early(void **state)
{
	struct alt_file *f = t_open("f");
	struct t_call c = { 0 };
	struct detach d;

	freed = 0;
	later = (struct t_later){ .when = 1 };
	tfs.on[ALT_OP_SETLK] = serve_later;
	t_script('B')->on_pre = pre_hold;
	t_script('B')->on_post = post_free;
	t_go(&c, lock_wait_op(f));
	detach_begin(&d, "B");
	assert_int_equal(detach_end(&d), 0);
	assert_int_equal(freed, 1);
	assert_ptr_equal(file_seen, f);
	assert_int_equal(t_script('B')->drains, 1);
	t_expect("+A +B +C * startB ~B completeB");

	atomic_store(&later.when, 2);
	assert_int_equal(t_wait(&c), 0); /* what the copy was changed to is nobody's answer */
	pthread_join(later.thread, NULL);
	t_expect("-C -A");
	assert_int_equal(freed, 1);
	assert_int_equal(t_close(f), 0);
}

static void a_lock_that_does_not_wait_is_awaited(void **state)
{
	struct alt_file *f = t_open("f");
	struct t_call c = { 0 };
	struct detach d;

	later = (struct t_later){ .when = 1 };
	tfs.on[ALT_OP_SETLK] = serve_later;
	t_script('B')->posts = 0;
	t_go(&c, t_file_op(ALT_OP_SETLK, f));
	detach_begin(&d, "B");
	atomic_store(&later.when, 2);
	assert_int_equal(t_wait(&c), 0);
	assert_int_equal(detach_end(&d), 0);
	pthread_join(later.thread, NULL);
	assert_int_equal(t_script('B')->posts, 1);
	assert_int_equal(t_script('B')->drains, 0);
	assert_int_equal(t_close(f), 0);
}

/* The lock is granted while the drain runs: the context is freed once, by one of the two posts. */
static void a_drain_and_an_answer_race_and_the_context_goes_once(void **state)
{
	struct alt_file *f = t_open("f");

	atomic_store(&t_log_off, true);
	tfs.on[ALT_OP_SETLK] = serve_later;
	for (int round = 0; round < 500; round++) {
		struct t_call c = { 0 };
		struct detach d = { .name = "D" };

		freed = 0;
		later = (struct t_later){ .when = 1 };
		assert_int_equal(t_attach("D", "150"), 0);
		t_script('D')->on_pre = pre_hold;
		t_script('D')->on_post = post_free;
		t_go(&c, lock_wait_op(f));
		pthread_create(&d.thread, NULL, detach_main, &d);
		atomic_store(&later.when, 2);
		assert_int_equal(t_wait(&c), 0);
		assert_int_equal(detach_end(&d), 0);
		pthread_join(later.thread, NULL);
		assert_int_equal(freed, 1);
	}
	assert_int_equal(t_close(f), 0);
}

/* ---- what stays below ---- */

#define PARKED 200

static struct alt_op *_Atomic parked[PARKED];
static _Atomic unsigned parked_count;

static void parked_cancelled(struct alt_op *op, void *arg)
{
	alt_op_complete(op, -EINTR);
}

static int serve_park(struct alt_op *op)
{
	if (alt_op_set_cancel(op, parked_cancelled, NULL) < 0)
		return -EINTR;
	atomic_store(&parked[atomic_fetch_add(&parked_count, 1)], op);
	return ALT_PENDING;
}

static void parked_complete(unsigned i, int status)
{
	if (alt_op_clear_cancel(parked[i]))
		alt_op_complete(parked[i], status);
}

static void what_stays_below_is_drained_after_a_second(void **state)
{
	struct t_call c = { 0 };

	atomic_store(&parked_count, 0);
	tfs.on[ALT_OP_ACCESS] = serve_park;
	t_go(&c, t_op(ALT_OP_ACCESS, 1, NULL));
	assert_int_equal(t_detach("B"), 0);
	assert_int_equal(t_script('B')->drains, 1);
	t_expect("+A +B +C * startB ~B completeB");
	assert_false(t_is_over(&c));

	parked_complete(0, -EACCES);
	assert_int_equal(t_wait(&c), -EACCES);
	t_expect("-C -A");
}

/* An open, a link and a write have an open file to come, another node and bytes: nothing of that is touched too late. */
static void a_drained_post_outlives_its_operation(void **state)
{
	static struct t_call c[PARKED];
	struct alt_file *f = t_open("f");
	struct detach d = { .name = "D" };

	memset(c, 0, sizeof c);
	atomic_store(&t_log_off, true);
	atomic_store(&parked_count, 0);
	freed = 0;
	assert_int_equal(t_attach("D", "150"), 0);
	t_script('D')->on_pre = pre_hold;
	t_script('D')->on_post = post_free;
	tfs.on[ALT_OP_LINK] = tfs.on[ALT_OP_WRITE] = tfs.on[ALT_OP_OPEN] = serve_park;
	for (unsigned i = 0; i < PARKED; i++) {
		struct op *op = i % 3 == 0 ? t_op(ALT_OP_OPEN, f->node->rec.number, NULL) :
				i % 3 == 1 ? t_op(ALT_OP_LINK, 1, "l") :
					     t_file_op(ALT_OP_WRITE, f);

		if (i % 3 == 1)
			op->rq.other_nodeid = f->node->rec.number;
		t_go(&c[i], op);
	}
	assert_int_equal(parked_count, PARKED);
	pthread_create(&d.thread, NULL, detach_main, &d);
	t_until(&t_script('D')->drains, 1);
	for (unsigned i = 0; i < PARKED; i++)
		parked_complete(i, -EIO);
	for (unsigned i = 0; i < PARKED; i++)
		assert_int_equal(t_wait(&c[i]), -EIO);
	assert_int_equal(detach_end(&d), 0);
	assert_int_equal(freed, PARKED);
	assert_int_equal(t_close(f), 0);
}

static enum alt_pre pre_change(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	alt_op_edit(op);
	alt_op_dirty(op);
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

/* What went down changed comes up through who changed it. The page cache's write and a filter's own read are
 * waited for, whatever it takes. */
static void what_it_changed_is_awaited_and_cancelled_where_a_caller_could(void **state)
{
	struct alt_file *f = t_open("f");
	struct t_call read = { 0 }, write = { 0 }, own = { 0 };
	struct op *paging = t_file_op(ALT_OP_WRITE, f), *generated = t_file_op(ALT_OP_READ, f);
	struct detach d;

	paging->rq.params.bits = ALT_PARAM_WRITEBACK;
	atomic_store(&parked_count, 0);
	t_script('B')->on_pre = pre_change;
	t_script('B')->posts = 0;
	tfs.on[ALT_OP_READ] = tfs.on[ALT_OP_WRITE] = serve_park;
	t_go(&read, t_file_op(ALT_OP_READ, f));
	t_go(&write, paging);
	generated->pub.flags = ALT_OP_GENERATED;
	t_go(&own, generated);
	detach_begin(&d, "B");
	assert_int_equal(t_wait(&read), -EINTR);
	usleep(100000); /* several looks, each of which cancels what is to be */
	assert_false(t_is_over(&write) || t_is_over(&own));
	assert_false(atomic_load(&d.over));
	parked_complete(1, 0);
	parked_complete(2, 0);
	assert_int_equal(t_wait(&write), 0);
	assert_int_equal(t_wait(&own), 0);
	assert_int_equal(detach_end(&d), 0);
	assert_int_equal(t_script('B')->posts, 3);
	assert_int_equal(t_script('B')->drains, 0);
	assert_int_equal(t_close(f), 0);
}

/* ---- who is waited for ---- */

static struct alt_op *_Atomic kept;

static enum alt_pre pre_pend_keep(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	alt_op_ref(op);
	atomic_store(&kept, op);
	return ALT_PRE_PENDING;
}

static void *hold_main(void *arg)
{
	struct t_call c = { 0 };

	t_run(&c, t_op(ALT_OP_ACCESS, 1, NULL));
	return NULL;
}

static void *resume_main(void *arg)
{
	sleep(4); /* it is told of after three seconds */
	alt_op_resume_pre(kept, ALT_PRE_COMPLETE, NULL);
	return NULL;
}

static void a_detach_that_waits_tells_for_whom(void **state)
{
	int was = dup(STDERR_FILENO);
	FILE *log = tmpfile();
	pthread_t held, resumed;
	char text[4096] = "";

	t_script('A')->on_pre = pre_change; /* or its post would run early */
	t_script('B')->on_pre = pre_pend_keep;
	dup2(fileno(log), STDERR_FILENO);
	pthread_create(&held, NULL, hold_main, NULL);
	while (!atomic_load(&kept))
		usleep(1000);
	pthread_create(&resumed, NULL, resume_main, NULL);
	t_detach("A");
	pthread_join(held, NULL);
	pthread_join(resumed, NULL);
	alt_op_unref(kept);
	dup2(was, STDERR_FILENO);
	close(was);
	rewind(log);
	text[fread(text, 1, sizeof text - 1, log)] = 0;
	fclose(log);
	if (!strstr(text, "detaching 'A' from 'tfs:' waits for 'access' of process") || !strstr(text, "which is inside 'B'"))
		fail_msg("the log: %s", text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		t_case3(a_detach_waits_for_the_post_it_is_owed),
		t_case3(an_operation_still_above_goes_by_a_detached_instance),
		t_case3(what_an_instance_pended_it_completes_in_teardown_start),
		t_case3(an_endless_wait_is_drained_early),
		t_case3(a_lock_that_does_not_wait_is_awaited),
		t_case3(a_drain_and_an_answer_race_and_the_context_goes_once),
		t_case3(what_stays_below_is_drained_after_a_second),
		t_case3(a_drained_post_outlives_its_operation),
		t_case3(what_it_changed_is_awaited_and_cancelled_where_a_caller_could),
		t_case3(a_detach_that_waits_tells_for_whom),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
