/* SPDX-License-Identifier: MIT */
#include "stack/testing.h"

static void pre_descends_and_post_ascends(void **state)
{
	struct alt_file *f;
	char buf[4];

	assert_int_equal(t_attach("B", "200000"), 0);
	assert_int_equal(t_attach("C", "100000.5"), 0);
	assert_int_equal(t_attach("A", "300000"), 0);
	assert_int_equal(t_simple(ALT_OP_ACCESS, 1, NULL), 0);
	t_expect("+A +B +C * -C -B -A");

	f = t_open("f");
	assert_int_equal(t_read(f, buf, 4, 2), 4);
	assert_memory_equal(buf, "2345", 4);
	t_expect("+A +B +C * -C -B -A");
	assert_int_equal(t_close(f), 0);
	t_expect("+A +B +C * -C -B -A");
}

/* The operation on @f, on @dir, or on the root, whichever it needs. */
static struct op *any_op(enum alt_op_code code, struct alt_file *f, struct alt_file *dir)
{
	static const char by_file[ALT_OP_COUNT] = {
		[ALT_OP_READ ... ALT_OP_FSYNC] = 'f', [ALT_OP_READDIR ... ALT_OP_FSYNCDIR] = 'd',
		[ALT_OP_GETLK ... ALT_OP_POLL] = 'f',
	};
	struct op *op;

	if (by_file[code])
		op = t_file_op(code, by_file[code] == 'f' ? f : dir);
	else
		op = t_op(code, 1, "new");
	op->rq.params.new_name = "newer";
	op->rq.other_nodeid = code == ALT_OP_LINK ? f->node->rec.number : 1;
	op->rq.other_fh = f->number;
	return op;
}

static void every_operation_walks_the_same_way(void **state)
{
	struct alt_file *f = t_open("f");
	struct t_call c = { 0 };

	assert_int_equal(t_run(&c, t_op(ALT_OP_OPENDIR, 1, NULL)), 0);
	assert_int_equal(t_attach("A", "2"), 0);
	assert_int_equal(t_attach("B", "1"), 0);
	for (int code = 1; code < ALT_OP_COUNT; code++) {
		struct t_call each = { 0 };

		if (code == ALT_OP_RELEASE || code == ALT_OP_RELEASEDIR)
			continue;
		t_logged();
		t_run(&each, any_op(code, f, c.file));
		if (strcmp(t_logged(), "+A +B * -B -A"))
			fail_msg("operation %s", alt_op_name(code));
		if (each.file)
			file_abandon(each.file);
	}
	t_logged();
	assert_int_equal(t_close(f), 0);
	t_expect("+A +B * -B -A");
	assert_int_equal(t_run(&(struct t_call){ 0 }, t_file_op(ALT_OP_RELEASEDIR, c.file)), 0);
	t_expect("+A +B * -B -A");
}

static void permute(char *order, int done, void (*fn)(const char *order))
{
	if (!order[done]) {
		fn(order);
		return;
	}
	for (int i = done; order[i]; i++) {
		char c = order[done];

		order[done] = order[i];
		order[i] = c;
		permute(order, done + 1, fn);
		order[i] = order[done];
		order[done] = c;
	}
}

static int permutations;

static const char *altitude_of(char letter)
{
	static const char *const altitudes[] = { "0400000", "325000.30", "325000.3", "325000", "00040500.01" };

	/* Two of them differ by nothing but a zero: those may not both be there. */
	return letter == 'B' ? "325000.31" : altitudes[letter - 'A'];
}

static void attach_in_order(const char *order)
{
	permutations++;
	for (const char *at = order; *at; at++)
		assert_int_equal(t_attach((char[]){ *at, 0 }, altitude_of(*at)), 0);
	t_logged();
	assert_int_equal(t_simple(ALT_OP_ACCESS, 1, NULL), 0);
	t_expect("+A +B +C +D +E * -E -D -C -B -A");
	for (const char *at = order; *at; at++)
		assert_int_equal(t_detach((char[]){ *at, 0 }), 0);
	t_logged();
	assert_int_equal(t_simple(ALT_OP_ACCESS, 1, NULL), 0);
	t_expect("*");
}

static void every_order_of_attaching_gives_one_stack(void **state)
{
	char order[] = "ABCDE";

	permutations = 0;
	permute(order, 0, attach_in_order);
	assert_int_equal(permutations, 120);
}

static void a_stack_of_more_than_the_inline_frames_is_walked_whole(void **state)
{
	char want[512] = "", back[256] = "";

	for (int i = 0; i < 20; i++) {
		char name[2] = { 'A' + i, 0 }, altitude[16];
		size_t len = strlen(want);

		snprintf(altitude, sizeof altitude, "%d", 1000 - i);
		assert_int_equal(t_attach(name, altitude), 0);
		snprintf(want + len, sizeof want - len, "+%s ", name);
		memmove(back + 3, back, strlen(back) + 1);
		memcpy(back, (char[]){ ' ', '-', name[0] }, 3);
	}
	strcat(strcat(want, "*"), back);
	t_logged();
	assert_int_equal(t_simple(ALT_OP_ACCESS, 1, NULL), 0);
	t_expect(want);
}

static void an_altitude_that_is_taken_is_a_collision(void **state)
{
	assert_int_equal(t_attach("A", "100"), 0);
	assert_int_equal(t_attach("B", "0100.0"), -EEXIST);
	assert_int_equal(t_err.status, STATUS_FLT_INSTANCE_ALTITUDE_COLLISION);
	assert_non_null(strstr(t_err.text, "'A'"));
	assert_int_equal(t_script('B')->setups, 0);
	assert_int_equal(t_attach("B", "100.1"), 0);
	assert_int_equal(t_detach("A"), 0);
	assert_int_equal(t_attach("C", "100."), 0);
}

static void a_name_that_is_taken_is_a_collision(void **state)
{
	assert_int_equal(t_attach("A", "100"), 0);
	assert_int_equal(t_attach("A", "200"), -EEXIST);
	assert_int_equal(t_err.status, STATUS_FLT_INSTANCE_NAME_COLLISION);
	assert_int_equal(t_attach("A", "100"), -EEXIST);
	assert_int_equal(t_err.status, STATUS_FLT_INSTANCE_NAME_COLLISION);
	assert_int_equal(t_script('A')->setups, 1);
	t_logged();
	assert_int_equal(t_simple(ALT_OP_ACCESS, 1, NULL), 0);
	t_expect("+A * -A");
}

static void a_refused_place_gives_its_options_back(void **state)
{
	struct io_option *o = calloc(2, sizeof *o);

	o->key = strdup("none");
	o->value = strdup("such");
	t_err = (struct alt_error){ 0 };
	assert_int_equal(stack_attach(t_volume, t_filter(&t_letters), "A", "100", o, 0, &t_err), -EINVAL);
	assert_non_null(strstr(t_err.text, "none"));
	assert_null(t_instance("A"));
}

static void a_bad_altitude_is_an_invalid_parameter(void **state)
{
	static const char *const bad[] = { "", ".", "-1", "+1", "1..2", "1.2.3", "1e5", "12a", " 12", "12 ", "1,5", "0x10" };

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(t_attach("A", bad[i]), -EINVAL);
		assert_int_equal(t_err.status, STATUS_INVALID_PARAMETER);
	}
	assert_int_equal(t_script('A')->setups, 0);
}

static void altitude_and_name_have_defaults(void **state)
{
	/* The name's first letter finds the script: the filter's own is "letters". */
	static const struct alt_filter_registration plain = { .size = sizeof plain, .name = "plain", .altitude = "370001" };

	assert_int_equal(t_attach_as(&plain, NULL, NULL), 0);
	assert_string_equal(alt_instance_altitude(t_instance("plain")), "370001");
	assert_ptr_equal(alt_instance_volume(t_instance("plain")), t_volume);
}

static void one_altitude_on_two_volumes_is_no_collision(void **state)
{
	struct alt_volume *one = t_volume, *two = t_volume_new();

	assert_non_null(two);
	assert_int_equal(t_attach("A", "100"), 0);
	t_volume = two;
	assert_int_equal(t_attach("A", "100"), 0);
	t_logged();
	assert_int_equal(t_simple(ALT_OP_ACCESS, 1, NULL), 0);
	t_expect("+A * -A");
	stack_volume_fini(two);
	volume_free(two);
	t_volume = one;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		t_case(pre_descends_and_post_ascends),
		t_case(every_operation_walks_the_same_way),
		t_case(every_order_of_attaching_gives_one_stack),
		t_case(a_stack_of_more_than_the_inline_frames_is_walked_whole),
		t_case(an_altitude_that_is_taken_is_a_collision),
		t_case(a_name_that_is_taken_is_a_collision),
		t_case(a_refused_place_gives_its_options_back),
		t_case(a_bad_altitude_is_an_invalid_parameter),
		t_case(altitude_and_name_have_defaults),
		t_case(one_altitude_on_two_volumes_is_no_collision),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
