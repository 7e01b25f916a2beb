/* SPDX-License-Identifier: MIT */
/*
 * Every allocation can fail. Each story is told again and again: the first time its first allocation fails, the second time its
 * second, until one is told to the end without. Whatever it comes to, nothing is lost, left or done twice; and what may not fail
 * does not.
 */
#include "stack/testing.h"
#include "base/failing.h"

#include <altitude/listener.h>
#include <altitude/name.h>
#include <altitude/port.h>
#include <altitude/queue.h>

/* ---- stories ---- */

static _Atomic long opens, closes, contexts; /* what the filter has seen to succeed; of what it made, what it has yet to free */

/* An answer that is one of success or of no memory. */
static bool good(long r)
{
	if (r != -ENOMEM && r < 0)
		fail_msg("allocation %ld of %ld that failed: %ld", first, many, r);
	return r >= 0;
}

/* One operation. The kernel's own memory does not fail. */
static int run_op(struct t_call *c, struct op *op)
{
	int r;

	atomic_store(&armed, true);
	r = t_run(c, op);
	atomic_store(&armed, false);
	return r;
}

static int attach(const struct alt_filter_registration *reg, const char *name, const char *altitude)
{
	int r;

	atomic_store(&armed, true);
	r = t_attach_as(reg, name, altitude);
	atomic_store(&armed, false);
	return r;
}

static int detach(const char *name)
{
	int r;

	atomic_store(&armed, true);
	r = t_detach(name);
	atomic_store(&armed, false);
	return r;
}

static bool lookup(uint64_t dir, const char *name, uint64_t *ret)
{
	struct t_call c = { 0 };
	bool is = good(run_op(&c, t_op(ALT_OP_LOOKUP, dir, name)));

	*ret = c.node;
	return is;
}

static bool open_node(uint64_t node, enum alt_op_code code, struct alt_file **ret)
{
	struct t_call c = { 0 };
	struct op *op = t_op(code, node, NULL);
	bool is;

	op->rq.params.flags = code == ALT_OP_OPEN ? O_RDWR : 0;
	is = good(run_op(&c, op));
	*ret = c.file;
	return is;
}

/* It cannot fail. */
static void close_file(struct alt_file *f, enum alt_op_code code)
{
	struct t_call c = { 0 };
	struct op *op = t_file_op(code, f);

	assert_int_equal(run_op(&c, op), 0);
}

/*
 * As often as it has allocations, and once more. In rows too: who asks again is refused again.
 * @threads  it starts some: libc keeps what it has for them
 */
static void tell(void (*story)(void), bool threads)
{
	static const long rows[] = { 1, 4 };
	long before;

	for (int i = -1; i < 2; i++) {
		many = i < 0 ? 0 : rows[i];
		for (first = 0; first >= 0; first = i < 0 || atomic_load(&counted) <= first ? -1 : first + 1) {
			before = atomic_load(&live);
			atomic_store(&counted, 0);
			opens = closes = contexts = 0;
			assert_int_equal(t_begin(NULL), 0);
			atomic_store(&t_log_off, true);
			story();
			atomic_store(&armed, true);
			stack_detach_all(t_volume, NULL, ALT_TEARDOWN_DISMOUNT);
			atomic_store(&armed, false);
			assert_int_equal(t_end(NULL), 0);
			assert_int_equal(contexts, 0);
			assert_int_equal(opens, closes);
			if (i >= 0 && !threads && atomic_load(&live) != before)
				fail_msg("allocation %ld of %ld failed: %ld pieces are left", first, many, atomic_load(&live) - before);
		}
	}
}

/* ---- a filter that uses all there is ---- */

static void context_gone(void *context)
{
	atomic_fetch_sub(&contexts, 1);
}

static void hang_on_node(struct alt_instance *in, struct alt_node *node)
{
	void *c = alt_context_new(8, context_gone);

	if (!c)
		return;
	atomic_fetch_add(&contexts, 1);
	alt_node_set_context(in, node, ALT_CONTEXT_REPLACE, c, NULL);
	alt_context_unref(c);
}

static enum alt_pre busy_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	bool data = op->code == ALT_OP_READ || op->code == ALT_OP_WRITE;
	struct alt_params *p = data ? alt_op_edit(op) : NULL;
	void *buf = p ? alt_op_alloc(op, p->size) : NULL, **own = malloc(sizeof *own);
	char path[300];

	hang_on_node(in, op->node);
	alt_op_path(op, in, path, sizeof path);
	if (!own || (data && !buf)) {
		free(own);
		op->status = -ENOMEM;
		return data ? ALT_PRE_COMPLETE : ALT_PRE_SUCCESS_NO_CALLBACK;
	}
	if (data) {
		memcpy(buf, p->buf, op->code == ALT_OP_WRITE ? p->size : 0);
		p->buf = buf;
		alt_op_dirty(op);
	}
	*own = buf;
	*ctx = own;
	atomic_fetch_add(&contexts, 1);
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_post busy_post(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	if (!op->status && op->code == ALT_OP_READ)
		memcpy(op->p->buf, *(void **)ctx, op->r.size);
	atomic_fetch_sub(&contexts, 1);
	free(ctx);
	if (!op->status && op->r.node)
		hang_on_node(in, op->r.node);
	return ALT_POST_FINISHED;
}

static bool busy_entry(struct alt_instance *in, struct alt_node *dir, char *name)
{
	return strcmp(name, "g");
}

static int busy_name(struct alt_instance *in, struct alt_node *dir, const char *name, char *lower)
{
	strcpy(lower, name);
	return 0;
}

static void busy_attributes(struct alt_instance *in, struct alt_node *node, struct alt_attr *attr)
{
}

static struct alt_callback busy_callbacks[] = { { ALT_OP_ALL, busy_pre, busy_post, 0 }, { .code = ALT_OP_END } };
static const struct alt_filter_registration busy = {
	.size = sizeof busy, .name = "busy", .altitude = "500", .callbacks = busy_callbacks,
	.attributes = busy_attributes, .entry = busy_entry, .name_down = busy_name,
};

/* Counts opens and releases: none may pass it by. */
static enum alt_post counter_opened(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	atomic_fetch_add(&opens, !op->status);
	return ALT_POST_FINISHED;
}

static enum alt_pre counter_closed(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	atomic_fetch_add(&closes, 1);
	return ALT_PRE_SUCCESS_NO_CALLBACK;
}

static const struct alt_callback counter_callbacks[] = {
	{ ALT_OP_OPEN, NULL, counter_opened }, { ALT_OP_OPENDIR, NULL, counter_opened }, { ALT_OP_CREATE, NULL, counter_opened },
	{ ALT_OP_RELEASE, counter_closed }, { ALT_OP_RELEASEDIR, counter_closed }, { .code = ALT_OP_END }
};
static const struct alt_filter_registration counter = {
	.size = sizeof counter, .name = "counter", .altitude = "100", .callbacks = counter_callbacks,
};

static void read_and_write(struct alt_file *f)
{
	char out[16];
	struct t_call r = { .out = out }, w = { 0 };

	if (good(run_op(&r, t_read_op(f, 10, 0))))
		assert_memory_equal(out, "0123456789", 10);
	if (good(run_op(&w, t_write_op(f, "0123456789", 10, 0))))
		assert_memory_equal(tfs_at(2)->data, "0123456789", 10);
}

static void list(struct alt_file *dir, uint32_t bits)
{
	struct t_call c = { 0 };
	struct op *op = t_file_op(ALT_OP_READDIR, dir);

	op->rq.params.size = 4096;
	op->rq.params.bits = bits;
	if (good(run_op(&c, op)))
		assert_string_not_equal(c.names, ""); /* it would be the end */
}

/* Looked up, opened, read, written, listed, made, renamed, removed. */
static void operations(void)
{
	struct t_call c = { 0 };
	struct alt_file *f;
	struct op *op;
	uint64_t node;

	if (lookup(1, "f", &node) && open_node(node, ALT_OP_OPEN, &f)) {
		read_and_write(f);
		close_file(f, ALT_OP_RELEASE);
	}
	if (open_node(1, ALT_OP_OPENDIR, &f)) {
		list(f, 0);
		list(f, ALT_PARAM_PLUS);
		close_file(f, ALT_OP_RELEASEDIR);
	}
	if (good(run_op(&c, t_op(ALT_OP_CREATE, 1, "new"))))
		close_file(c.file, ALT_OP_RELEASE);
	op = t_op(ALT_OP_RENAME, 1, "f");
	op->rq.other_nodeid = 1;
	op->rq.params.new_name = "F";
	c = (struct t_call){ 0 };
	run_op(&c, op);
	c = (struct t_call){ 0 };
	good(run_op(&c, t_op(ALT_OP_UNLINK, 1, "g")));
}

/* ---- the stories ---- */

static void comes_and_goes(void)
{
	if (!good(attach(&t_letters, "A", "300")))
		assert_int_equal(t_script('A')->starts, t_script('A')->setups); /* who was set up is torn down */
	else if (!good(detach("A")))
		assert_non_null(t_instance("A"));
	assert_int_equal(t_script('A')->completes, t_script('A')->starts);
	if (t_script('A')->completes && !t_instance("A"))
		assert_true(t_script('A')->reason == ALT_TEARDOWN_INTERNAL_ERROR || t_script('A')->reason == ALT_TEARDOWN_MANUAL);
}

static void a_filter_that_cannot_be_attached_leaves_nothing(void **state)
{
	tell(comes_and_goes, false);
}

static void works(void)
{
	if (good(attach(&busy, "B", NULL)) && good(attach(&counter, "C", NULL)))
		operations();
}

static void an_operation_ends_without_memory_too(void **state)
{
	tell(works, false);
}

/* More than an operation's own frames. */
static void works_high(void)
{
	for (int i = 0; i < 9; i++)
		assert_int_equal(t_attach((char[]){ 'D' + i, 0 }, (char[]){ '1' + i, 0 }), 0);
	assert_int_equal(t_attach_as(&counter, "C", NULL), 0);
	operations();
}

static void a_release_meets_every_filter_of_a_high_stack(void **state)
{
	tell(works_high, false);
}

static enum alt_post refuse_open(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	if (op->code == ALT_OP_OPEN || op->code == ALT_OP_CREATE)
		op->status = -EACCES;
	return ALT_POST_FINISHED;
}

static void is_refused(void)
{
	struct t_call c = { 0 };
	uint64_t node;

	t_script('A')->on_post = refuse_open;
	assert_int_equal(t_attach("A", "300"), 0);
	assert_int_equal(t_attach_as(&counter, "C", NULL), 0);
	node = t_lookup(1, "f");
	assert_true(run_op(&c, t_op(ALT_OP_OPEN, node, NULL)) < 0);
	c = (struct t_call){ 0 };
	assert_true(run_op(&c, t_op(ALT_OP_CREATE, 1, "new")) < 0);
}

static void an_open_a_post_refuses_is_released_below_without_memory_too(void **state)
{
	tell(is_refused, false);
}

static void is_created(void)
{
	static const struct alt_callback callbacks[] = { { ALT_OP_RELEASE, counter_closed }, { .code = ALT_OP_END } };
	static const struct alt_filter_registration reg = { .size = sizeof reg, .name = "ends", .altitude = "1", .callbacks = callbacks };
	struct t_call c = { 0 };

	assert_int_equal(t_attach_as(&reg, "E", NULL), 0);
	if (good(run_op(&c, t_op(ALT_OP_CREATE, 1, "new")))) {
		opens++;
		close_file(c.file, ALT_OP_RELEASE);
	}
	assert_int_equal(tfs.calls[ALT_OP_RELEASEDIR], 0); /* it was asked for in a directory; it is none */
}

static void an_open_that_comes_to_nothing_is_no_filters_to_release(void **state)
{
	tell(is_created, false);
}

static void asks_below(void)
{
	struct alt_instance *in;
	struct alt_file *f;
	struct alt_attr attr;
	struct alt_node *node;
	char buf[10];

	assert_int_equal(t_attach("A", "300"), 0);
	assert_int_equal(t_attach_as(&counter, "C", NULL), 0);
	in = t_instance("A");
	node = node_get(t_volume, t_lookup(1, "f"));
	assert_non_null(node);
	atomic_store(&armed, true);
	good(alt_io_getattr(in, node, &attr));
	if (good(alt_io_open(in, node, O_RDWR, &f))) {
		good(alt_io_read(in, f, buf, sizeof buf, 0));
		good(alt_io_write(in, f, "0123456789", 10, 0));
		alt_io_close(in, f);
	}
	good(alt_io_unlink(in, t_volume->root, "g"));
	atomic_store(&armed, false);
	alt_node_unref(node);
}

static void what_a_filter_opened_below_is_closed_below_without_memory_too(void **state)
{
	tell(asks_below, false);
}

static struct alt_queue *queue;

static enum alt_pre park(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	if (op->flags & ALT_OP_FAST)
		return ALT_PRE_DISALLOW_FASTIO;
	op->status = alt_queue_insert(queue, op, NULL);
	return op->status ? ALT_PRE_COMPLETE : ALT_PRE_PENDING;
}

static void parks(void)
{
	struct op *access = t_op(ALT_OP_ACCESS, 1, NULL);
	struct t_call c = { 0 };
	struct alt_op *op;

	queue = alt_queue_new(NULL, NULL);
	t_script('A')->on_pre = park;
	assert_int_equal(t_attach("A", "300"), 0);
	atomic_store(&armed, true);
	t_go(&c, access);
	while (!t_is_over(&c) && !(op = alt_queue_take(queue, NULL, NULL, NULL)))
		sched_yield();
	atomic_store(&armed, false);
	if (!t_is_over(&c))
		alt_op_resume_pre(op, ALT_PRE_SUCCESS_NO_CALLBACK, NULL);
	good(t_wait(&c));
	workers_stop(t_volume);
	alt_queue_free(queue);
}

static void what_is_to_be_parked_is_answered_without_memory_too(void **state)
{
	tell(parks, true);
}

/* ---- ports ---- */

static char runtime[] = "/tmp/altitude-memory-XXXXXX";
static _Atomic long listeners;

static int listener_came(void *arg, const struct alt_caller *peer, const void *context, size_t size, void **cookie)
{
	atomic_fetch_add(&listeners, 1);
	return 0;
}

static void listener_went(void *arg, void *cookie)
{
	atomic_fetch_sub(&listeners, 1);
}

static const struct alt_port_handlers port_handlers = { listener_came, listener_went, NULL };

static void *answers(void *arg)
{
	char buf[16];
	uint64_t id;

	if (alt_listener_get(arg, &id, buf, sizeof buf, -1) == 1)
		alt_listener_reply(arg, id, -EACCES, NULL, 0);
	return NULL;
}

static void port_used(struct alt_port *port)
{
	struct alt_port_message m = { "?", 1, .timeout_ms = 60000 };
	struct alt_listener *l;
	pthread_t t;
	char buf[4];
	int r;

	atomic_store(&armed, true);
	r = alt_listener_connect("memory", NULL, 0, &l, NULL);
	atomic_store(&armed, false);
	if (r < 0) {
		assert_true(r == -ENOMEM || r == -EPIPE); /* ours, the port's */
		assert_null(l);
		return;
	}
	assert_int_equal(pthread_create(&t, NULL, answers, l), 0);
	atomic_store(&armed, true);
	assert_int_equal(alt_port_ask(port, &m), -EACCES);
	assert_int_equal(m.why, 0);
	atomic_store(&armed, false);
	pthread_join(t, NULL);
	atomic_store(&armed, true);
	assert_int_equal(alt_port_tell(port, "!", 1), 1);
	r = alt_listener_call(l, "?", 1, buf, sizeof buf); /* what was told before is kept */
	atomic_store(&armed, false);
	assert_true(r == -EOPNOTSUPP || r == -ENOMEM);
	alt_listener_close(l);
}

static void asks_outside(void)
{
	struct alt_port *port;
	char path[64];
	int r;

	snprintf(path, sizeof path, "%s/memory.port", runtime);
	atomic_store(&armed, true);
	r = alt_port_open("memory", &port_handlers, NULL, 1, &port, NULL);
	atomic_store(&armed, false);
	if (!r)
		port_used(port);
	else
		assert_true(r == -ENOMEM || r == -EAGAIN); /* its own, its thread's */
	alt_port_close(port);
	assert_int_equal(listeners, 0);
	assert_int_equal(access(path, F_OK), -1);
}

static void a_port_is_there_or_is_not(void **state)
{
	tell(asks_outside, true);
}

static int begin(void **state)
{
	return mkdtemp(runtime) ? setenv("ALTITUDE_RUNTIME", runtime, 1) : -1;
}

static int end(void **state)
{
	return rmdir(runtime);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_filter_that_cannot_be_attached_leaves_nothing),
		cmocka_unit_test(an_operation_ends_without_memory_too),
		cmocka_unit_test(a_release_meets_every_filter_of_a_high_stack),
		cmocka_unit_test(an_open_a_post_refuses_is_released_below_without_memory_too),
		cmocka_unit_test(an_open_that_comes_to_nothing_is_no_filters_to_release),
		cmocka_unit_test(what_a_filter_opened_below_is_closed_below_without_memory_too),
		cmocka_unit_test(what_is_to_be_parked_is_answered_without_memory_too),
		cmocka_unit_test(a_port_is_there_or_is_not),
	};

	if (!FAILING)
		return 77;
	return cmocka_run_group_tests(tests, begin, end);
}
