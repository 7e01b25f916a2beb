/* SPDX-License-Identifier: MIT */
/* Who sees which parameters, whose buffer is whose, and that memory goes on every path. A is above B is above C. */
#include "stack/testing.h"

#define KEY 0x5a

/* What each callback saw: [0] pre, [1] post. */
static struct { size_t size; int64_t offset; uint32_t mode; const void *p; } saw[26][2];
static int64_t served_offset;
static uint32_t served_mode;

static void look(const struct alt_op *op, const struct alt_instance *in, int post)
{
	int i = alt_instance_name(in)[0] - 'A';

	saw[i][post].size = op->p->size;
	saw[i][post].offset = op->p->offset;
	saw[i][post].mode = op->p->mode;
	saw[i][post].p = op->p;
}

static enum alt_pre pre_look(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	look(op, in, 0);
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_post post_look(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	look(op, in, 1);
	return ALT_POST_FINISHED;
}

static int serve_look(struct alt_op *op)
{
	served_offset = op->p->offset;
	served_mode = op->p->mode;
	return TFS_PASS;
}

static int begin(void **state)
{
	memset(saw, 0, sizeof saw);
	if (t_begin(state) || t_attach("A", "300") || t_attach("B", "200") || t_attach("C", "100"))
		return -1;
	for (const char *l = "ABC"; *l; l++) {
		t_script(*l)->on_pre = pre_look;
		t_script(*l)->on_post = post_look;
	}
	tfs.on[ALT_OP_ACCESS] = tfs.on[ALT_OP_READ] = serve_look;
	return 0;
}

#define case3(name) cmocka_unit_test_setup_teardown(name, begin, t_end)

static int access_mode(uint32_t mode)
{
	struct op *op = t_op(ALT_OP_ACCESS, 1, NULL);
	struct t_call c = { 0 };

	op->rq.params.mode = mode;
	return t_run(&c, op);
}

static void expect_mode(char who, uint32_t pre, uint32_t post)
{
	assert_int_equal(saw[who - 'A'][0].mode, pre);
	assert_int_equal(saw[who - 'A'][1].mode, post);
}

/* ---- the dirty rule ---- */

static enum alt_pre pre_change(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	look(op, in, 0);
	alt_op_edit(op)->mode = 2;
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_pre pre_change_dirty(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	look(op, in, 0);
	alt_op_edit(op)->mode = op->p->mode * 10 + alt_instance_name(in)[0] - 'A' + 1;
	alt_op_dirty(op);
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static void an_undeclared_change_has_no_effect(void **state)
{
	t_script('B')->on_pre = pre_change;
	assert_int_equal(access_mode(1), 0);
	assert_int_equal(served_mode, 1);
	expect_mode('A', 1, 1);
	expect_mode('B', 1, 1);
	expect_mode('C', 1, 1);
}

static void a_declared_change_is_seen_below_and_not_by_the_own_post(void **state)
{
	t_script('B')->on_pre = pre_change_dirty;
	assert_int_equal(access_mode(1), 0);
	assert_int_equal(served_mode, 12);
	expect_mode('A', 1, 1);
	expect_mode('B', 1, 1);
	expect_mode('C', 12, 12);
}

static void changes_add_up_and_are_taken_back_one_by_one(void **state)
{
	for (const char *l = "ABC"; *l; l++)
		t_script(*l)->on_pre = pre_change_dirty;
	assert_int_equal(access_mode(0), 0);
	assert_int_equal(served_mode, 123);
	expect_mode('A', 0, 0);
	expect_mode('B', 1, 1);
	expect_mode('C', 12, 12);
	for (int i = 0; i < 3; i++)
		assert_ptr_equal(saw[i][0].p, saw[i][1].p);
}

static enum alt_pre pre_change_then_look_again(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	struct alt_params *p = alt_op_edit(op);

	p->mode = 7;
	alt_op_dirty(op);
	look(op, in, 0); /* its own change is not its own to see */
	*ctx = alt_op_edit(op) == p ? p : NULL;
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static void *ctx_seen;

static enum alt_post post_ctx(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	ctx_seen = ctx;
	look(op, in, 1);
	return ALT_POST_FINISHED;
}

static void the_copy_is_one_for_each_callback(void **state)
{
	t_script('B')->on_pre = pre_change_then_look_again;
	t_script('B')->on_post = post_ctx;
	assert_int_equal(access_mode(1), 0);
	assert_non_null(ctx_seen);
	expect_mode('B', 1, 1);
	assert_int_equal(served_mode, 7);
}

static enum alt_pre pre_dirty_without_edit(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	alt_op_dirty(op);
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

/* The change of one filter is not declared by the next one's mark. */
static void a_mark_without_a_change_declares_nothing(void **state)
{
	t_script('A')->on_pre = pre_change;
	t_script('B')->on_pre = pre_dirty_without_edit;
	assert_int_equal(access_mode(1), 0);
	assert_int_equal(served_mode, 1);
	expect_mode('C', 1, 1);
}

static struct t_later later;

static void change_and_resume(struct t_later *l)
{
	alt_op_edit(l->op)->mode = 5;
	alt_op_dirty(l->op);
	alt_op_resume_pre(l->op, ALT_PRE_SUCCESS_WITH_CALLBACK, NULL);
}

static enum alt_pre pre_change_later(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	look(op, in, 0);
	t_later_start(&later, change_and_resume, op);
	return ALT_PRE_PENDING;
}

static void a_pended_pre_may_change_from_another_thread(void **state)
{
	t_script('B')->on_pre = pre_change_later;
	for (int round = 0; round < 200; round++) {
		assert_int_equal(access_mode(1), 0);
		pthread_join(later.thread, NULL);
		assert_int_equal(served_mode, 5);
		expect_mode('A', 1, 1);
		expect_mode('B', 1, 1);
		expect_mode('C', 5, 5);
	}
}

static enum alt_pre pre_change_and_complete(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	alt_op_edit(op)->mode = 9;
	alt_op_dirty(op);
	op->status = -EROFS;
	return ALT_PRE_COMPLETE;
}

static void those_above_a_completion_see_their_own_parameters(void **state)
{
	t_script('C')->on_pre = pre_change_and_complete;
	assert_int_equal(access_mode(1), -EROFS);
	expect_mode('A', 1, 1);
	expect_mode('B', 1, 1);
}

/* ---- buffers ---- */

static void twist(unsigned char *to, const unsigned char *from, size_t count)
{
	for (size_t i = 0; i < count; i++)
		to[i] = from[i] ^ KEY;
}

static enum alt_pre pre_swap(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	struct alt_params *p = alt_op_edit(op);

	p->buf = alt_op_alloc(op, op->p->size);
	if (op->code == ALT_OP_WRITE)
		twist(p->buf, op->p->buf, op->p->size);
	*ctx = p->buf;
	alt_op_dirty(op);
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_post post_swap(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	if (op->code == ALT_OP_READ && op->status >= 0)
		twist(op->p->buf, ctx, op->r.size);
	return ALT_POST_FINISHED;
}

static void swap_on(char letter)
{
	t_script(letter)->on_pre = pre_swap;
	t_script(letter)->on_post = post_swap;
}

static void a_swapped_buffer_is_not_seen_above(void **state)
{
	struct alt_file *f = t_open("f");
	char buf[16], raw[16];

	swap_on('B');
	assert_int_equal(t_write(f, "secret", 6, 2), 6);
	twist((unsigned char *)raw, tfs_at(2)->data + 2, 6);
	assert_memory_equal(raw, "secret", 6);
	assert_memory_not_equal(tfs_at(2)->data + 2, "secret", 6);
	assert_int_equal(t_read(f, buf, sizeof buf, 2), 8);
	assert_memory_equal(buf, "secret", 6);
	t_script('B')->on_pre = pre_look;
	t_script('B')->on_post = NULL;
	assert_int_equal(t_close(f), 0);
}

static void two_transformations_nest(void **state)
{
	struct alt_file *f = t_open("f");
	char buf[16];

	swap_on('A');
	swap_on('C');
	assert_int_equal(t_write(f, "twice", 5, 0), 5);
	assert_memory_equal(tfs_at(2)->data, "twice", 5);
	assert_int_equal(t_read(f, buf, 5, 0), 5);
	assert_memory_equal(buf, "twice", 5);
	for (const char *l = "AC"; *l; l++) {
		t_script(*l)->on_pre = NULL;
		t_script(*l)->on_post = NULL;
	}
	assert_int_equal(t_close(f), 0);
}

/* ---- memory: what is not freed is found by the leak checker, what is freed early by the address checker ---- */

static enum alt_pre pre_alloc(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	for (size_t size = 1; size < 5000; size *= 3) {
		char *p = alt_op_alloc(op, size);

		memset(p, 'x', size);
		*ctx = p;
	}
	alt_op_edit(op);
	return t_script_of(in)->pre;
}

static enum alt_post post_alloc(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	memset(alt_op_alloc(op, 100), 'y', 100);
	ctx_seen = ctx;
	assert_int_equal(*(char *)ctx, 'x');
	return ALT_POST_FINISHED;
}

static void memory_lives_to_the_end_of_the_operation_on_every_path(void **state)
{
	static const int answers[] = { ALT_PRE_SUCCESS_WITH_CALLBACK, ALT_PRE_SUCCESS_NO_CALLBACK, ALT_PRE_COMPLETE,
				       ALT_PRE_SYNCHRONIZE, 99 };

	for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
		t_script('B')->pre = answers[i];
		for (const char *l = "ABC"; *l; l++) {
			t_script(*l)->on_pre = pre_alloc;
			t_script(*l)->on_post = post_alloc;
		}
		assert_int_equal(access_mode(1), answers[i] == 99 ? -EIO : 0);
	}
}

static void impossible_sizes_are_refused(void **state)
{
	struct op *op = t_op(ALT_OP_ACCESS, 1, NULL);

	assert_null(alt_op_alloc(&op->pub, SIZE_MAX));
	assert_null(alt_op_alloc(&op->pub, SIZE_MAX - 8));
	assert_non_null(alt_op_alloc(&op->pub, 0));
	alt_op_unref(&op->pub);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		case3(an_undeclared_change_has_no_effect),
		case3(a_declared_change_is_seen_below_and_not_by_the_own_post),
		case3(changes_add_up_and_are_taken_back_one_by_one),
		case3(the_copy_is_one_for_each_callback),
		case3(a_mark_without_a_change_declares_nothing),
		case3(a_pended_pre_may_change_from_another_thread),
		case3(those_above_a_completion_see_their_own_parameters),
		case3(a_swapped_buffer_is_not_seen_above),
		case3(two_transformations_nest),
		case3(memory_lives_to_the_end_of_the_operation_on_every_path),
		case3(impossible_sizes_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
