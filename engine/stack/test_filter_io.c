/* SPDX-License-Identifier: MIT */
/* What a filter asks itself begins just below it. A is above B above C; B asks. */
#include "stack/testing.h"

static struct alt_node *node_of(uint64_t number)
{
	struct alt_node *n = node_get(t_volume, number);

	assert_non_null(n);
	alt_node_unref(n); /* the kernel's lookup holds it */
	return n;
}

static void io_begins_below_its_instance(void **state)
{
	struct alt_instance *b = t_instance("B");
	struct alt_file *f = t_open("f");
	struct alt_attr attr;
	char buf[16];

	assert_int_equal(alt_io_read(b, f, buf, sizeof buf, 4), 6);
	assert_memory_equal(buf, "456789", 6);
	t_expect("+C * -C");
	assert_int_equal(alt_io_write(b, f, "xy", 2, 8), 2);
	t_expect("+C * -C");
	assert_int_equal(alt_io_getattr(b, alt_file_node(f), &attr), 0);
	assert_int_equal(attr.size, 10);
	t_expect("+C * -C");
	assert_int_equal(alt_io_read(t_instance("C"), f, buf, 1, 0), 1);
	t_expect("*");
	assert_int_equal(alt_io_read(t_instance("A"), f, buf, 1, 0), 1);
	t_expect("+B +C * -C -B");
	assert_int_equal(t_close(f), 0);
}

static void a_file_of_its_own_is_opened_and_closed_below(void **state)
{
	struct alt_node *n = node_of(t_lookup(1, "f"));
	struct alt_instance *b = t_instance("B");
	struct alt_file *f = NULL;
	char buf[4];

	t_logged();
	assert_int_equal(alt_io_open(b, n, O_RDWR, &f), 0);
	t_expect("+C * -C");
	assert_int_equal(alt_file_flags(f), O_RDWR);
	assert_int_equal(alt_io_read(b, f, buf, 4, 0), 4);
	t_logged();
	alt_io_close(b, f);
	t_expect("+C * -C");
	assert_int_equal(tfs.opened, 1);
	assert_int_equal(tfs.released, 1);
	alt_io_close(b, NULL);
	assert_int_equal(alt_io_open(b, n, O_RDWR | O_CREAT, &f), -EINVAL);
	t_expect("");
}

static void an_open_that_fails_below_leaves_nothing(void **state)
{
	struct alt_node *n = node_of(t_lookup(1, "f"));
	struct alt_file *f = (void *)1;

	t_script('C')->post_status = -EACCES;
	assert_int_equal(alt_io_open(t_instance("B"), n, O_RDONLY, &f), -EACCES);
	assert_ptr_equal(f, (void *)1); /* untouched */
	t_script('C')->post_status = 0;
	t_script('C')->pre = ALT_PRE_COMPLETE;
	t_script('C')->status = -EPERM;
	assert_int_equal(alt_io_open(t_instance("B"), n, O_RDONLY, &f), -EPERM);
}

static void unlinking_begins_below_too(void **state)
{
	t_logged();
	assert_int_equal(alt_io_unlink(t_instance("B"), alt_volume_root(t_volume), "g"), 0);
	t_expect("+C * -C");
	assert_null(tfs_child(1, "g"));
	assert_int_equal(alt_io_unlink(t_instance("B"), alt_volume_root(t_volume), "g"), -ENOENT);
}

static void errors_from_below_are_the_answer(void **state)
{
	struct alt_file *f = t_open("f");
	struct alt_attr attr = { .size = 77 };
	char buf[1];

	t_script('C')->pre = ALT_PRE_COMPLETE;
	t_script('C')->status = -EDQUOT;
	assert_int_equal(alt_io_read(t_instance("B"), f, buf, 1, 0), -EDQUOT);
	assert_int_equal(alt_io_write(t_instance("B"), f, buf, 1, 0), -EDQUOT);
	assert_int_equal(alt_io_getattr(t_instance("B"), alt_file_node(f), &attr), -EDQUOT);
	assert_int_equal(attr.size, 77);
	t_script('C')->pre = 0;
	assert_int_equal(alt_io_read(t_instance("B"), f, buf, 1, -1), -EINVAL);
	assert_int_equal(alt_io_read(t_instance("B"), f, buf, IO_DATA_MAX + 1, 0), -EINVAL);
	assert_int_equal(alt_io_read(t_instance("B"), f, buf, 0, 0), 0);
	assert_int_equal(t_close(f), 0);
}

/* ---- inside of an operation ---- */

static long read_inside;
static char inside[16];

static enum alt_pre pre_read_first(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	if (op->code == ALT_OP_WRITE)
		read_inside = alt_io_read(in, op->file, inside, sizeof inside, 0);
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_post post_write_again(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	if (op->code == ALT_OP_WRITE)
		alt_io_write(in, op->file, "B", 1, 9);
	return ALT_POST_FINISHED;
}

static void a_filter_may_ask_inside_of_its_callbacks_and_does_not_meet_itself(void **state)
{
	struct alt_file *f = t_open("f");

	t_script('B')->on_pre = pre_read_first;
	t_script('B')->on_post = post_write_again;
	assert_int_equal(t_write(f, "new", 3, 0), 3);
	t_expect("+A +B +C * -C +C * -C -B +C * -C -A");
	assert_int_equal(read_inside, 10);
	assert_memory_equal(inside, "0123456789", 10);
	assert_memory_equal(tfs_at(2)->data, "new345678B", 10);
	assert_int_equal(t_close(f), 0);
}

static uint32_t flags_seen;

static enum alt_pre pre_flags(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	flags_seen = op->flags;
	return ALT_PRE_SUCCESS_NO_CALLBACK;
}

static void generated_operations_are_marked_and_may_be_skipped(void **state)
{
	static const struct alt_callback callbacks[] = {
		{ ALT_OP_READ, t_pre, t_post, ALT_CALLBACK_SKIP_GENERATED }, { ALT_OP_END },
	};
	static const struct alt_filter_registration skips = { .size = sizeof skips, .name = "skips", .callbacks = callbacks };
	struct alt_file *f = t_open("f");
	char buf[1];

	t_script('C')->on_pre = pre_flags;
	assert_int_equal(t_attach_as(&skips, "D", "150"), 0);
	t_logged();
	assert_int_equal(alt_io_read(t_instance("B"), f, buf, 1, 0), 1);
	t_expect("+C *");
	assert_true(flags_seen & ALT_OP_GENERATED);
	assert_int_equal(t_read(f, buf, 1, 0), 1);
	t_expect("+A +B +D +C * -D -B -A");
	assert_false(flags_seen & ALT_OP_GENERATED);
	assert_int_equal(t_close(f), 0);
}

/* ---- waiting ---- */

static struct t_later later;

static int serve_later(struct alt_op *op)
{
	int r = tfs_usual(op);

	later = (struct t_later){ .status = r };
	t_later_start(&later, t_later_complete, op);
	return ALT_PENDING;
}

static enum alt_pre pre_later(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	later = (struct t_later){ .decision = ALT_PRE_SUCCESS_WITH_CALLBACK };
	t_later_start(&later, t_later_resume_pre, op);
	return ALT_PRE_PENDING;
}

static void what_pends_below_is_awaited(void **state)
{
	struct alt_file *f = t_open("f");
	char buf[4];

	tfs.on[ALT_OP_READ] = serve_later;
	for (int round = 0; round < 200; round++) {
		assert_int_equal(alt_io_read(t_instance("B"), f, buf, 4, 3), 4);
		pthread_join(later.thread, NULL);
		assert_memory_equal(buf, "3456", 4);
	}
	tfs.on[ALT_OP_READ] = NULL;
	t_script('C')->on_pre = pre_later;
	for (int round = 0; round < 200; round++) {
		assert_int_equal(alt_io_read(t_instance("B"), f, buf, 4, 3), 4);
		pthread_join(later.thread, NULL);
	}
	t_script('C')->on_pre = NULL;
	assert_int_equal(t_close(f), 0);
}

/* ---- what lies below applies ---- */

static enum alt_pre pre_twist(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	struct alt_params *p = alt_op_edit(op);
	unsigned char *buf = alt_op_alloc(op, op->p->size);

	for (size_t i = 0; i < op->p->size && op->code == ALT_OP_WRITE; i++)
		buf[i] = ((unsigned char *)op->p->buf)[i] ^ 0x11;
	p->buf = *ctx = buf;
	alt_op_dirty(op);
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_post post_twist(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	for (size_t i = 0; i < op->r.size && op->code == ALT_OP_READ; i++)
		((unsigned char *)op->p->buf)[i] = ((unsigned char *)ctx)[i] ^ 0x11;
	return ALT_POST_FINISHED;
}

static void filters_below_transform_what_it_reads_and_writes(void **state)
{
	static const struct alt_callback callbacks[] = {
		{ ALT_OP_READ, pre_twist, post_twist }, { ALT_OP_WRITE, pre_twist, post_twist }, { ALT_OP_END },
	};
	static const struct alt_filter_registration twister = { .size = sizeof twister, .name = "twister", .callbacks = callbacks };
	struct alt_file *f = t_open("f");
	char buf[4];

	assert_int_equal(t_attach_as(&twister, "D", "150"), 0);
	assert_int_equal(alt_io_write(t_instance("B"), f, "abcd", 4, 0), 4);
	assert_int_equal(tfs_at(2)->data[0], 'a' ^ 0x11);
	assert_int_equal(alt_io_read(t_instance("B"), f, buf, 4, 0), 4);
	assert_memory_equal(buf, "abcd", 4);
	assert_int_equal(alt_io_read(t_instance("C"), f, buf, 4, 0), 4);
	assert_int_equal(buf[0], 'a' ^ 0x11);
	assert_int_equal(t_close(f), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		t_case3(io_begins_below_its_instance),
		t_case3(a_file_of_its_own_is_opened_and_closed_below),
		t_case3(an_open_that_fails_below_leaves_nothing),
		t_case3(unlinking_begins_below_too),
		t_case3(errors_from_below_are_the_answer),
		t_case3(a_filter_may_ask_inside_of_its_callbacks_and_does_not_meet_itself),
		t_case3(generated_operations_are_marked_and_may_be_skipped),
		t_case3(what_pends_below_is_awaited),
		t_case3(filters_below_transform_what_it_reads_and_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
