/* SPDX-License-Identifier: MIT */
/* What nobody asked for is never called, and costs no frame. */
#include "stack/testing.h"

static uint64_t bit(enum alt_op_code code)
{
	return 1ull << code;
}

static const struct alt_callback only_read[] = { { ALT_OP_READ, t_pre, t_post }, { ALT_OP_END } };
static const struct alt_filter_registration reader = { .size = sizeof reader, .name = "reader", .callbacks = only_read };
static const struct alt_callback only_write[] = { { ALT_OP_WRITE, NULL, t_post }, { ALT_OP_END } };
static const struct alt_filter_registration writer = { .size = sizeof writer, .name = "writer", .callbacks = only_write };
static const struct alt_filter_registration nothing = { .size = sizeof nothing, .name = "nothing" };

static int frames_seen;

static int count_frames(struct alt_op *op)
{
	frames_seen = ((struct op *)op)->nframes;
	return TFS_PASS;
}

static void an_operation_nobody_registered_runs_no_filter_code(void **state)
{
	struct alt_file *f = t_open("f");
	char buf[1];

	assert_int_equal(t_attach_as(&reader, "A", "300"), 0);
	assert_int_equal(t_attach_as(&nothing, "B", "200"), 0);
	assert_int_equal(t_volume->filtered, bit(ALT_OP_READ));
	for (int code = 1; code < ALT_OP_COUNT; code++)
		tfs.on[code] = count_frames;
	t_logged();
	for (int round = 0; round < 10; round++) {
		frames_seen = -1;
		assert_int_equal(t_simple(ALT_OP_ACCESS, 1, NULL), 0);
		assert_int_equal(frames_seen, 0);
		assert_int_equal(t_write(f, "x", 1, 0), 1);
		assert_int_equal(frames_seen, 0);
	}
	assert_int_equal(t_script('A')->pres + t_script('A')->posts, 0);
	assert_int_equal(t_read(f, buf, 1, 0), 1);
	assert_int_equal(frames_seen, 1);
	assert_int_equal(t_script('A')->pres, 1);
	assert_int_equal(t_close(f), 0);
	assert_int_equal(t_script('A')->pres, 1);
}

static void interest_follows_who_is_attached(void **state)
{
	assert_int_equal(t_volume->filtered, 0);
	assert_int_equal(t_attach_as(&reader, "A", "300"), 0);
	assert_int_equal(t_attach_as(&writer, "B", "200"), 0);
	assert_int_equal(t_volume->filtered, bit(ALT_OP_READ) | bit(ALT_OP_WRITE));
	assert_int_equal(t_attach_as(&reader, "C", "100"), 0);
	assert_int_equal(t_detach("A"), 0);
	assert_int_equal(t_volume->filtered, bit(ALT_OP_READ) | bit(ALT_OP_WRITE));
	assert_int_equal(t_detach("C"), 0);
	assert_int_equal(t_volume->filtered, bit(ALT_OP_WRITE));
	assert_int_equal(t_detach("B"), 0);
	assert_int_equal(t_volume->filtered, 0);
	assert_int_equal(t_attach("D", "1"), 0);
	assert_int_equal(t_volume->filtered, ((bit(ALT_OP_COUNT) - 1) & ~bit(ALT_OP_END)));
}

static void any_attributes(struct alt_instance *in, struct alt_node *node, struct alt_attr *attr)
{
}

static bool any_entry(struct alt_instance *in, struct alt_node *dir, char *name)
{
	return true;
}

static int any_name(struct alt_instance *in, struct alt_node *dir, const char *name, char *lower)
{
	strcpy(lower, name);
	return 0;
}

static void views_are_interested_in_what_they_change(void **state)
{
	static const struct alt_filter_registration attributes = { .size = sizeof attributes, .name = "a", .attributes = any_attributes };
	static const struct alt_filter_registration entries = { .size = sizeof entries, .name = "e", .entry = any_entry };
	static const struct alt_filter_registration names = { .size = sizeof names, .name = "n", .name_down = any_name };
	const uint64_t made = bit(ALT_OP_LOOKUP) | bit(ALT_OP_MKNOD) | bit(ALT_OP_MKDIR) | bit(ALT_OP_SYMLINK) | bit(ALT_OP_LINK) |
			      bit(ALT_OP_CREATE);

	assert_int_equal(t_attach_as(&attributes, "A", "1"), 0);
	assert_int_equal(t_volume->filtered,
			 made | bit(ALT_OP_TMPFILE) | bit(ALT_OP_GETATTR) | bit(ALT_OP_SETATTR) | bit(ALT_OP_READDIR));
	assert_int_equal(t_detach("A"), 0);
	assert_int_equal(t_attach_as(&entries, "A", "1"), 0);
	assert_int_equal(t_volume->filtered, bit(ALT_OP_READDIR));
	assert_int_equal(t_detach("A"), 0);
	assert_int_equal(t_attach_as(&names, "A", "1"), 0);
	assert_int_equal(t_volume->filtered, made | bit(ALT_OP_UNLINK) | bit(ALT_OP_RMDIR) | bit(ALT_OP_RENAME));
}

static void the_page_caches_own_reads_and_writes_may_be_skipped(void **state)
{
	static const struct alt_callback callbacks[] = {
		{ ALT_OP_WRITE, t_pre, t_post, ALT_CALLBACK_SKIP_WRITEBACK }, { ALT_OP_END },
	};
	static const struct alt_filter_registration skips = { .size = sizeof skips, .name = "skips", .callbacks = callbacks };
	struct alt_file *f = t_open("f");
	struct t_call c = { 0 };
	struct op *op;

	assert_int_equal(t_attach_as(&skips, "A", "2"), 0);
	assert_int_equal(t_attach_as(&writer, "B", "1"), 0);
	t_logged();
	assert_int_equal(t_write(f, "x", 1, 0), 1);
	t_expect("+A * -B -A");
	op = t_write_op(f, "y", 1, 0);
	op->rq.params.bits = ALT_PARAM_WRITEBACK;
	assert_int_equal(t_run(&c, op), 0);
	t_expect("* -B");
	assert_int_equal(t_close(f), 0);
}

static struct alt_op *parked;

static enum alt_pre pre_park(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	parked = op;
	return ALT_PRE_PENDING;
}

/* An operation never sees half a change: who was attached when it began is whom it meets, but for those who go. */
static void an_operation_under_way_does_not_meet_who_comes_later(void **state)
{
	struct t_call c = { 0 };

	assert_int_equal(t_attach("A", "300"), 0);
	assert_int_equal(t_attach("C", "100"), 0);
	t_script('A')->on_pre = pre_park;
	t_logged();
	t_go(&c, t_op(ALT_OP_ACCESS, 1, NULL));
	assert_int_equal(t_attach("B", "200"), 0);
	assert_int_equal(t_detach("C"), 0);
	t_logged();
	alt_op_resume_pre(parked, ALT_PRE_SUCCESS_WITH_CALLBACK, NULL);
	assert_int_equal(t_wait(&c), 0);
	t_expect("* -A");
	t_script('A')->on_pre = NULL;
	assert_int_equal(t_simple(ALT_OP_ACCESS, 1, NULL), 0);
	t_expect("+A +B * -B -A");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		t_case(an_operation_nobody_registered_runs_no_filter_code),
		t_case(interest_follows_who_is_attached),
		t_case(views_are_interested_in_what_they_change),
		t_case(the_page_caches_own_reads_and_writes_may_be_skipped),
		t_case(an_operation_under_way_does_not_meet_who_comes_later),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
