/* SPDX-License-Identifier: MIT */
/* Attaching and detaching, also under load. A is above B above C. */
#include "stack/testing.h"

/* ---- setup ---- */

static void setup_is_told_why_and_the_instance_works_at_once(void **state)
{
	assert_int_equal(t_attach("D", "50"), 0);
	assert_int_equal(t_script('D')->setups, 1);
	assert_int_equal(t_script('D')->setup_flags, ALT_SETUP_MANUAL);
	assert_int_equal(t_access_root(), 0);
	t_expect("+A +B +C +D * -D -C -B -A");
	assert_int_equal(t_filter(&t_letters)->instances, 4);
}

static void setup_that_declines_leaves_nothing(void **state)
{
	static const int answers[] = { -EACCES, -EPERM, -ENOMEM, 1, 99 };

	for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
		t_script('D')->setup_answer = answers[i];
		assert_int_equal(t_attach("D", "50"), answers[i] > 0 ? -EPERM : answers[i]);
		assert_int_equal(t_err.status, STATUS_FLT_DO_NOT_ATTACH);
		assert_null(t_instance("D"));
	}
	assert_int_equal(t_script('D')->starts + t_script('D')->completes, 0);
	assert_int_equal(t_filter(&t_letters)->instances, 3);
	assert_int_equal(t_access_root(), 0);
	t_expect("+A +B +C * -C -B -A");
	t_script('D')->setup_answer = 0;
	assert_int_equal(t_attach("D", "50"), 0); /* name and altitude are free */
}

static int setup_explains(struct alt_instance *in, uint32_t flags, struct alt_error *err)
{
	return alt_error_set(err, -ENOENT, "no key for '%s'", alt_instance_name(in));
}

static void the_reason_of_a_setup_stays(void **state)
{
	static const struct alt_filter_registration reg = { .size = sizeof reg, .name = "explains", .setup = setup_explains };

	assert_int_equal(t_attach_as(&reg, "D", "50"), -ENOENT);
	assert_string_equal(t_err.text, "no key for 'D'");
	assert_int_equal(t_err.code, -ENOENT);
}

static int setup_uses_the_volume(struct alt_instance *in, uint32_t flags, struct alt_error *err)
{
	struct alt_attr attr;

	return alt_io_getattr(in, alt_volume_root(alt_instance_volume(in)), &attr);
}

static void setup_may_use_the_volume_below(void **state)
{
	static const struct alt_filter_registration reg = { .size = sizeof reg, .name = "uses", .setup = setup_uses_the_volume };

	t_logged();
	assert_int_equal(t_attach_as(&reg, "D", "150"), 0);
	t_expect("+C * -C");
}

static int setup_has_its_own(struct alt_instance *in, uint32_t flags, struct alt_error *err)
{
	static const char zeroes[100];
	char *own = alt_instance_data(in);

	if (!own || memcmp(own, zeroes, sizeof zeroes) || (uintptr_t)own % 16)
		return -EINVAL;
	memset(own, 'o', sizeof zeroes);
	return 0;
}

static void each_instance_has_bytes_of_its_own(void **state)
{
	static const struct alt_filter_registration reg = {
		.size = sizeof reg, .name = "owns", .instance_size = 100, .setup = setup_has_its_own,
	};

	assert_int_equal(t_attach_as(&reg, "D", "50"), 0);
	assert_int_equal(t_attach_as(&reg, "E", "40"), 0);
	assert_ptr_not_equal(alt_instance_data(t_instance("D")), alt_instance_data(t_instance("E")));
	assert_null(alt_instance_data(t_instance("A")));
}

/* ---- asking ---- */

static void only_a_manual_detach_is_asked(void **state)
{
	t_script('B')->query_answer = -EBUSY;
	t_script('C')->query_answer = 5;
	assert_int_equal(t_detach("B"), -EBUSY);
	assert_int_equal(t_err.status, STATUS_FLT_DO_NOT_DETACH);
	assert_true(t_detach("C") < 0);
	assert_int_equal(t_script('B')->starts + t_script('B')->completes, 0);
	assert_int_equal(t_access_root(), 0);
	t_expect("+A +B +C * -C -B -A");

	assert_int_equal(stack_detach(t_volume, "letters", "B", ALT_TEARDOWN_FILTER_UNLOAD, NULL), 0);
	assert_int_equal(t_script('B')->queries, 1);
	assert_int_equal(t_script('B')->reason, ALT_TEARDOWN_FILTER_UNLOAD);
	assert_int_equal(stack_detach(t_volume, "letters", "C", ALT_TEARDOWN_MANDATORY_UNLOAD, NULL), 0);
	assert_int_equal(t_script('C')->queries, 1);
	assert_int_equal(t_script('C')->reason, ALT_TEARDOWN_MANDATORY_UNLOAD);
	assert_int_equal(t_detach("A"), 0);
	assert_int_equal(t_script('A')->queries, 1);
	assert_int_equal(t_script('A')->reason, ALT_TEARDOWN_MANUAL);
}

static void a_filter_that_says_so_is_not_detached_by_hand(void **state)
{
	static const struct alt_filter_registration reg = { .size = sizeof reg, .name = "stays", .flags = ALT_FILTER_NO_DETACH };

	assert_int_equal(t_attach_as(&reg, "D", "50"), 0);
	assert_int_equal(t_detach("D"), -EBUSY);
	assert_int_equal(t_err.status, STATUS_FLT_DO_NOT_DETACH);
	assert_int_equal(stack_detach(t_volume, "stays", NULL, ALT_TEARDOWN_FILTER_UNLOAD, NULL), 0);
}

static void an_end_of_the_volume_asks_nobody(void **state)
{
	t_script('A')->query_answer = t_script('B')->query_answer = -EBUSY;
	stack_volume_fini(t_volume);
	assert_int_equal(t_script('A')->queries, 0);
	assert_int_equal(t_script('A')->reason, ALT_TEARDOWN_DISMOUNT);
	assert_int_equal(t_script('A')->completes + t_script('B')->completes + t_script('C')->completes, 3);
	assert_int_equal(stack_volume_init(t_volume), 0);
}

static int query_attach_and_look(struct alt_instance *in)
{
	t_attach("E", "400");
	t_simple(ALT_OP_ACCESS, 1, NULL);
	return -EBUSY;
}

/* A guard that refuses to go guards all the time, whatever else is attached while it is asked. */
static void an_instance_that_is_asked_still_serves(void **state)
{
	static const struct alt_filter_registration reg = { .size = sizeof reg, .name = "guard", .callbacks = t_all,
							    .query_teardown = query_attach_and_look };

	assert_int_equal(t_attach_as(&reg, "D", "350"), 0);
	t_logged();
	assert_int_equal(t_detach("D"), -EBUSY);
	t_expect("+E +D +A +B +C * -C -B -A -D -E");
	assert_non_null(t_instance("D"));
}

static _Atomic long asked, may_answer;
static _Atomic bool all_gone;

static int query_slowly(struct alt_instance *in)
{
	atomic_store(&asked, 1);
	t_until(&may_answer, 1);
	return -EBUSY;
}

static const struct alt_filter_registration stubborn = {
	.size = sizeof stubborn, .name = "stubborn", .callbacks = t_all, .query_teardown = query_slowly,
	.teardown_start = t_teardown_start, .teardown_complete = t_teardown_complete,
};

static void *ask_main(void *arg)
{
	*(int *)arg = stack_detach(t_volume, "stubborn", NULL, ALT_TEARDOWN_MANUAL, NULL);
	return NULL;
}

static void *end_main(void *arg)
{
	stack_detach_all(t_volume, t_filter(&stubborn), ALT_TEARDOWN_FILTER_UNLOAD);
	atomic_store(&all_gone, true);
	return NULL;
}

/* While somebody asks it whether it lets go, it cannot be detached; it stays, and then it can. */
static void who_ends_a_filter_waits_for_those_that_are_asked(void **state)
{
	pthread_t asking, ending;
	int answer = 0;

	asked = may_answer = 0;
	all_gone = false;
	assert_int_equal(t_attach_as(&stubborn, "D", "50"), 0);
	assert_int_equal(t_attach_as(&stubborn, "E", "40"), 0);
	pthread_create(&asking, NULL, ask_main, &answer);
	t_until(&asked, 1);
	pthread_create(&ending, NULL, end_main, NULL);
	t_until(&t_script('E')->completes, 1);
	usleep(30000); /* it must not be over */
	assert_false(all_gone);
	assert_int_equal(t_script('D')->starts, 0);
	atomic_store(&may_answer, 1);
	pthread_join(asking, NULL);
	pthread_join(ending, NULL);
	assert_int_equal(answer, -EBUSY);
	assert_int_equal(t_script('D')->reason, ALT_TEARDOWN_FILTER_UNLOAD);
	assert_int_equal(t_script('D')->completes, 1);
	assert_non_null(t_instance("A"));
}

static void what_is_not_there_is_not_found(void **state)
{
	assert_int_equal(t_detach("Z"), -ENOENT);
	assert_int_equal(t_err.status, STATUS_FLT_INSTANCE_NOT_FOUND);
	assert_int_equal(stack_detach(t_volume, "nobody", NULL, ALT_TEARDOWN_MANUAL, NULL), -ENOENT);
	assert_int_equal(t_detach("A"), 0);
	assert_int_equal(t_detach("A"), -ENOENT);
}

static int answer_while_going[3];

static int detach_again(int nth)
{
	answer_while_going[nth] = t_detach("D") == -ESHUTDOWN && t_err.status == STATUS_FLT_DELETING_OBJECT ? 1 : t_err.code;
	return 0;
}

static int query_detaches_again(struct alt_instance *in)
{
	return detach_again(0);
}

static void start_detaches_again(struct alt_instance *in, uint32_t reason)
{
	detach_again(1);
}

static void complete_detaches_again(struct alt_instance *in, uint32_t reason)
{
	detach_again(2);
}

/* As if another thread asked: no lock is held across a callback. */
static void who_is_being_detached_is_not_detached_again(void **state)
{
	static const struct alt_filter_registration reg = {
		.size = sizeof reg, .name = "going", .query_teardown = query_detaches_again,
		.teardown_start = start_detaches_again, .teardown_complete = complete_detaches_again,
	};

	assert_int_equal(t_attach_as(&reg, "D", "50"), 0);
	assert_int_equal(t_detach("D"), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(answer_while_going[i], 1);
	assert_int_equal(t_detach("D"), -ENOENT);
	assert_int_equal(t_err.status, STATUS_FLT_INSTANCE_NOT_FOUND);
}

static int setup_is_not_there_yet(struct alt_instance *in, uint32_t flags, struct alt_error *err)
{
	answer_while_going[0] = t_detach("D");
	return -EACCES;
}

static void who_has_yet_to_come_is_not_found(void **state)
{
	static const struct alt_filter_registration reg = { .size = sizeof reg, .name = "coming", .setup = setup_is_not_there_yet };

	assert_int_equal(t_attach_as(&reg, "D", "50"), -EACCES);
	assert_int_equal(answer_while_going[0], -ENOENT);
}

static void without_an_instances_name_the_highest_goes(void **state)
{
	assert_int_equal(stack_detach(t_volume, "letters", NULL, ALT_TEARDOWN_MANUAL, NULL), 0);
	assert_int_equal(t_access_root(), 0);
	t_expect("+B +C * -C -B");
}

/* ---- under load ---- */

#define CYCLES 20000
#define WORKERS 4
#define BLOCK 512

/* Twists bytes both ways; answers to nobody but its own counts. */
static _Atomic long twists, untwists, in_data;

static void twist(unsigned char *to, const unsigned char *from, size_t count)
{
	for (size_t i = 0; i < count; i++)
		to[i] = from[i] ^ 0xa5;
}

struct twisted { void *buf; };

static enum alt_pre pre_twist(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	struct alt_params *p = alt_op_edit(op);

	p->buf = alt_op_alloc(op, op->p->size);
	if (op->code == ALT_OP_WRITE)
		twist(p->buf, op->p->buf, op->p->size);
	alt_op_dirty(op);
	*ctx = p->buf;
	atomic_fetch_add(&twists, 1);
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_post post_twist(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	if (op->code == ALT_OP_READ && op->status >= 0)
		twist(op->p->buf, ctx, op->r.size);
	atomic_fetch_add(&untwists, 1);
	return ALT_POST_FINISHED;
}

static const struct alt_callback twist_callbacks[] = {
	{ ALT_OP_READ, pre_twist, post_twist }, { ALT_OP_WRITE, pre_twist, post_twist }, { ALT_OP_END },
};
static const struct alt_filter_registration twister = { .size = sizeof twister, .name = "twister", .callbacks = twist_callbacks };

/* Hands every third operation to a thread that lets it go on, down or up. */
#define RING 64
static struct { pthread_mutex_t lock; struct { struct alt_op *op; bool post; } item[RING]; unsigned head, tail; bool stop; } ring =
	{ .lock = PTHREAD_MUTEX_INITIALIZER };
static _Atomic long pended;

static bool ring_put(struct alt_op *op, bool post)
{
	bool room;

	pthread_mutex_lock(&ring.lock);
	room = ring.head - ring.tail < RING;
	if (room) {
		ring.item[ring.head % RING].op = op;
		ring.item[ring.head++ % RING].post = post;
		atomic_fetch_add(&pended, 1);
	}
	pthread_mutex_unlock(&ring.lock);
	return room;
}

static void *ring_main(void *arg)
{
	for (;;) {
		struct alt_op *op = NULL;
		bool post = false, stop;

		pthread_mutex_lock(&ring.lock);
		stop = ring.stop;
		if (ring.tail != ring.head) {
			op = ring.item[ring.tail % RING].op;
			post = ring.item[ring.tail++ % RING].post;
		}
		pthread_mutex_unlock(&ring.lock);
		if (op && post)
			alt_op_resume_post(op);
		else if (op)
			alt_op_resume_pre(op, ALT_PRE_SUCCESS_WITH_CALLBACK, &ring);
		else if (stop)
			return NULL;
		else
			sched_yield();
	}
}

static _Atomic unsigned turns;

static enum alt_pre pre_ring(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	unsigned turn = atomic_fetch_add(&turns, 1) % 4;

	atomic_fetch_add(&in_data, 1);
	*ctx = &ring;
	if (turn == 0 && ring_put(op, false))
		return ALT_PRE_PENDING;
	return turn == 1 ? ALT_PRE_SYNCHRONIZE : ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_post post_ring(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	atomic_fetch_sub(&in_data, ctx == &ring);
	if (!(op->flags & ALT_OP_DRAINING) && atomic_fetch_add(&turns, 1) % 5 == 0 && ring_put(op, true))
		return ALT_POST_MORE_PROCESSING;
	return ALT_POST_FINISHED;
}

static const struct alt_callback ring_callbacks[] = {
	{ ALT_OP_READ, pre_ring, post_ring }, { ALT_OP_WRITE, pre_ring, post_ring }, { ALT_OP_END },
};
static const struct alt_filter_registration pender = { .size = sizeof pender, .name = "pender", .callbacks = ring_callbacks };

static _Atomic bool stopping;
static _Atomic long wrong, done_ops;

struct worker { pthread_t thread; struct alt_file *file; int me; };

/* Two twisters or none are the identity for who writes and reads above them; what is below is checked at the end. */
static void *worker_main(void *arg)
{
	struct worker *w = arg;
	int64_t at = w->me * BLOCK;
	unsigned seed = w->me;

	while (!atomic_load(&stopping)) {
		unsigned char out[BLOCK], in[BLOCK];
		struct t_call c = { 0 };

		for (int i = 0; i < BLOCK; i++)
			out[i] = rand_r(&seed);
		if (t_write(w->file, out, BLOCK, at) != BLOCK)
			atomic_fetch_add(&wrong, 1);
		memset(in, 0, sizeof in);
		c.out = in;
		if (t_run(&c, t_read_op(w->file, BLOCK, at)) < 0 || c.size != BLOCK)
			atomic_fetch_add(&wrong, 1);
		/* Between the two the one twister that comes and goes may have done either. */
		for (int i = 0; i < BLOCK; i++)
			if (in[i] != out[i] && in[i] != (out[i] ^ 0xa5)) {
				atomic_fetch_add(&wrong, 1);
				break;
			}
		/* All of a block, or nothing of it. */
		for (int i = 1; i < BLOCK; i++)
			if ((in[i] ^ out[i]) != (in[0] ^ out[0])) {
				atomic_fetch_add(&wrong, 1);
				break;
			}
		atomic_fetch_add(&done_ops, 2);
	}
	return NULL;
}

static int64_t ops_of(const char *name)
{
	return atomic_load(&t_instance(name)->ops);
}

static struct worker workers[WORKERS];
static pthread_t ring_thread;

static void load_begin(void)
{
	static const char *const names[] = { "f", "g" };

	wrong = done_ops = twists = untwists = in_data = pended = 0;
	stopping = false;
	ring.head = ring.tail = 0;
	ring.stop = false;
	atomic_store(&t_log_off, true);
	pthread_create(&ring_thread, NULL, ring_main, NULL);
	for (int i = 0; i < WORKERS; i++) {
		workers[i] = (struct worker){ .file = t_open(names[i & 1]), .me = i };
		pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]);
	}
}

static void load_end(void)
{
	atomic_store(&stopping, true);
	for (int i = 0; i < WORKERS; i++)
		pthread_join(workers[i].thread, NULL);
	pthread_mutex_lock(&ring.lock);
	ring.stop = true;
	pthread_mutex_unlock(&ring.lock);
	pthread_join(ring_thread, NULL);
	for (int i = 0; i < WORKERS; i++)
		assert_int_equal(t_close(workers[i].file), 0);
}

static void attach_and_detach_under_load_lose_nothing(void **state)
{
	assert_int_equal(t_attach_as(&pender, "P", "250"), 0);
	load_begin();
	for (int i = 0; i < CYCLES; i++) {
		assert_int_equal(t_attach_as(i & 1 ? &twister : &pender, "T", i & 2 ? "150" : "280"), 0);
		assert_int_equal(t_detach("T"), 0);
	}
	load_end();
	assert_int_equal(wrong, 0);
	assert_int_equal(twists, untwists);
	assert_int_equal(in_data, 0);
	assert_int_equal(ops_of("P"), 0);
	assert_null(t_volume->inflight);
}

/* With the twister always there, bytes above are what was written, and bytes below are not. */
static void data_is_identical_through_a_twister_while_others_come_and_go(void **state)
{
	unsigned char plain[BLOCK], back[BLOCK], *below = tfs_at(2)->data;

	assert_int_equal(t_attach_as(&twister, "T", "250"), 0);
	load_begin();
	for (int i = 0; i < CYCLES / 20; i++) {
		assert_int_equal(t_attach_as(&pender, "P", i & 1 ? "240" : "260"), 0);
		assert_int_equal(t_attach("D", "255"), 0);
		assert_int_equal(t_detach("P"), 0);
		assert_int_equal(t_detach("D"), 0);
	}
	for (int i = 0; i < BLOCK; i++)
		plain[i] = i;
	assert_int_equal(t_write(workers[0].file, plain, BLOCK, 10 * BLOCK), BLOCK);
	assert_int_equal(t_read(workers[0].file, back, BLOCK, 10 * BLOCK), BLOCK);
	assert_memory_equal(plain, back, BLOCK);
	load_end();
	twist(back, below + 10 * BLOCK, BLOCK);
	assert_memory_equal(plain, back, BLOCK);
	assert_int_equal(wrong, 0);
	assert_int_equal(twists, untwists);
	assert_int_equal(ops_of("T"), 0);
}

static void *attacher_main(void *arg)
{
	const char *name = arg;
	char altitude[] = "1000";

	altitude[0] += name[0] - 'K';
	for (int i = 0; i < CYCLES / 20; i++)
		if (stack_attach(t_volume, t_filters, name, altitude, NULL, 0, NULL) < 0 ||
		    stack_detach(t_volume, NULL, name, ALT_TEARDOWN_MANUAL, NULL) < 0)
			atomic_fetch_add(&wrong, 1);
	return NULL;
}

static void several_threads_attach_and_detach_at_once(void **state)
{
	static const char *const names[] = { "K", "L", "M" };
	pthread_t t[3];

	t_filter(&t_letters);
	load_begin();
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, attacher_main, (void *)names[i]);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	load_end();
	assert_int_equal(wrong, 0);
	assert_int_equal(t_filter(&t_letters)->instances, 3);
	for (const char *l = "KLM"; *l; l++) {
		assert_int_equal(t_script(*l)->pres, t_script(*l)->posts + t_script(*l)->drains);
		assert_int_equal(t_script(*l)->setups, t_script(*l)->completes);
	}
	atomic_store(&t_log_off, false);
	assert_int_equal(t_access_root(), 0);
	t_expect("+A +B +C * -C -B -A");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		t_case3(setup_is_told_why_and_the_instance_works_at_once),
		t_case3(setup_that_declines_leaves_nothing),
		t_case3(the_reason_of_a_setup_stays),
		t_case3(setup_may_use_the_volume_below),
		t_case3(each_instance_has_bytes_of_its_own),
		t_case3(only_a_manual_detach_is_asked),
		t_case3(a_filter_that_says_so_is_not_detached_by_hand),
		t_case3(an_end_of_the_volume_asks_nobody),
		t_case3(an_instance_that_is_asked_still_serves),
		t_case3(who_ends_a_filter_waits_for_those_that_are_asked),
		t_case3(what_is_not_there_is_not_found),
		t_case3(who_is_being_detached_is_not_detached_again),
		t_case3(who_has_yet_to_come_is_not_found),
		t_case3(without_an_instances_name_the_highest_goes),
		t_case3(several_threads_attach_and_detach_at_once),
		t_case(attach_and_detach_under_load_lose_nothing),
		t_case(data_is_identical_through_a_twister_while_others_come_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
