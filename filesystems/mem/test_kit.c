/* SPDX-License-Identifier: MIT */
/* The parts of the kit that hold mem's data, where a mounted volume does not reach: a full heap, marked lists, limits. */
#include <altitude/kit/attr.h>
#include <altitude/kit/bytes.h>
#include <altitude/kit/names.h>
#include <altitude/kit/xattr.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define PAGE 4096

static struct alt_heap heap;
static struct alt_bytes a, b;

static int begin(void **state)
{
	return alt_heap_init(&heap, 4 * PAGE) || alt_bytes_init(&heap, &a) || alt_bytes_init(&heap, &b);
}

static int end(void **state)
{
	alt_bytes_fini(&heap, &a);
	alt_bytes_fini(&heap, &b);
	assert_int_equal(heap.used, 0);
	alt_heap_fini(&heap);
	return 0;
}

static void full_heap_takes_what_is_stored_already(void **state)
{
	static char page[4 * PAGE];

	assert_int_equal(alt_bytes_write(&heap, &a, page, 4 * PAGE, 0), 4 * PAGE);
	assert_int_equal(alt_heap_left(&heap), 0);
	assert_int_equal(alt_bytes_write(&heap, &b, page, 1, 0), -ENOSPC);
	assert_int_equal(alt_bytes_write(&heap, &a, page, 1, 4 * PAGE), -ENOSPC);
	assert_int_equal(alt_bytes_write(&heap, &a, "over", 4, PAGE), 4);
	assert_int_equal(alt_bytes_allocate(&heap, &a, 0, PAGE, PAGE), 0);
	assert_int_equal(alt_bytes_resize(&heap, &a, 1), 0);
	assert_int_equal(a.used, PAGE);
	assert_int_equal(alt_bytes_write(&heap, &b, page, 3 * PAGE, 0), 3 * PAGE);
}

static void bytes_end_before_the_next_ones(void **state)
{
	char got[8] = "untouch";

	assert_int_equal(alt_bytes_write(&heap, &b, "b", 1, 0), 1);
	assert_int_equal(alt_bytes_write(&heap, &a, "a", 1, ALT_BYTES_MAX - 1), 1);
	assert_int_equal(alt_bytes_write(&heap, &a, "aa", 2, ALT_BYTES_MAX - 1), -EFBIG);
	assert_int_equal(alt_bytes_write(&heap, &a, "a", 1, -1), -EFBIG);
	assert_int_equal(alt_bytes_resize(&heap, &a, ALT_BYTES_MAX + 1), -EFBIG);
	assert_int_equal(alt_bytes_allocate(&heap, &a, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, INT64_MAX), 0);
	assert_int_equal(alt_bytes_read(&heap, &b, got, 8, 0), 1);
	assert_int_equal(got[0], 'b');
	assert_int_equal(alt_bytes_read(&heap, &b, got, 8, -1), 0);
	assert_int_equal(alt_bytes_seek(&heap, &a, 0, SEEK_DATA), -ENXIO);
	assert_int_equal(alt_bytes_seek(&heap, &a, 0, SEEK_HOLE), 0);
	assert_int_equal(alt_bytes_seek(&heap, &b, 0, SEEK_HOLE), 1);
}

static void slots_are_given_again_and_clean(void **state)
{
	struct alt_bytes many[200];
	char got = 1;

	for (int i = 0; i < 200; i++)
		assert_int_equal(alt_bytes_init(&heap, &many[i]), 0);
	assert_int_equal(alt_heap_statfs(&heap).ffree, ALT_BYTES_COUNT - 202);
	assert_int_equal(alt_bytes_write(&heap, &many[7], "x", 1, 0), 1);
	for (int i = 0; i < 200; i++)
		alt_bytes_fini(&heap, &many[i]);
	assert_int_equal(alt_heap_statfs(&heap).ffree, ALT_BYTES_COUNT - 2);
	for (int i = 0; i < 200; i++)
		assert_int_equal(alt_bytes_init(&heap, &many[i]), 0);
	assert_int_equal(heap.slots, 202);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(alt_bytes_resize(&heap, &many[i], 1), 0);
		assert_int_equal(alt_bytes_read(&heap, &many[i], &got, 1, 0), 1);
		assert_int_equal(got, 0);
		alt_bytes_fini(&heap, &many[i]);
	}
}

static void names_are_found_and_walked_in_order(void **state)
{
	struct alt_names set = {};
	char text[16];
	int n = 0;

	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "n%d", i * 7919 % 1000);
		assert_non_null(alt_names_put(&set, text, text, strlen(text) + 1));
	}
	for (struct alt_name *name = set.first; name; name = name->next) {
		assert_string_equal(name->text, alt_name_value(name));
		assert_ptr_equal(alt_names_find(&set, name->text), name);
		assert_int_equal(name->cookie, 3 + n++);
	}
	assert_int_equal(n, 1000);
	assert_null(alt_names_find(&set, "n1000"));
	alt_names_clear(&set);
	assert_null(set.first);
	assert_non_null(alt_names_put(&set, "again", NULL, 0));
	assert_int_equal(set.first->cookie, 1003);
	alt_names_clear(&set);
}

static void a_place_in_the_list_outlives_its_name(void **state)
{
	struct alt_names set = {};
	struct alt_name *name[5];

	for (int i = 0; i < 5; i++)
		name[i] = alt_names_put(&set, (char[]){ 'a' + i, 0 }, NULL, 0);
	assert_ptr_equal(alt_names_after(&set, 0), name[0]);
	assert_ptr_equal(alt_names_after(&set, name[2]->cookie), name[3]);
	alt_names_remove(&set, name[3]);
	assert_ptr_equal(alt_names_after(&set, name[2]->cookie), name[4]);
	assert_null(alt_names_after(&set, name[4]->cookie));
	alt_names_remove(&set, name[4]);
	name[4] = alt_names_put(&set, "e", NULL, 0);
	assert_ptr_equal(alt_names_after(&set, name[2]->cookie), name[4]);
	assert_ptr_equal(alt_names_after(&set, 0), name[0]);
	alt_names_clear(&set);
}

static void a_name_takes_the_place_of_its_like(void **state)
{
	struct alt_names set = {};

	alt_names_put(&set, "a", "1", 1);
	alt_names_put(&set, "b", NULL, 0);
	assert_non_null(alt_names_put(&set, "a", "22", 2));
	assert_int_equal(alt_names_find(&set, "a")->size, 2);
	assert_string_equal(set.first->text, "b");
	assert_null(set.first->next->next);
	alt_names_remove(&set, NULL);
	alt_names_clear(&set);
}

static void new_attributes_follow_the_operation(void **state)
{
	struct alt_attr dir = { .mode = S_IFDIR | S_ISGID | 0755, .gid = 7 };
	struct alt_params p = { .mode = 0640, .rdev = 5 };
	struct alt_op op = { .code = ALT_OP_MKNOD, .p = &p, .caller = { .uid = 1, .gid = 2 } };

	assert_int_equal(alt_attr_new(&op, &dir).mode, S_IFREG | 0640);
	assert_int_equal(alt_attr_new(&op, &dir).gid, 7);
	assert_int_equal(alt_attr_new(&op, &dir).uid, 1);
	p.mode = S_IFCHR | 0600;
	assert_int_equal(alt_attr_new(&op, &dir).mode, S_IFCHR | 0600);
	assert_int_equal(alt_attr_new(&op, &dir).rdev, 5);
	op.code = ALT_OP_MKDIR;
	assert_int_equal(alt_attr_new(&op, &dir).mode, S_IFDIR | S_ISGID | 0600);
	dir.mode &= ~S_ISGID;
	assert_int_equal(alt_attr_new(&op, &dir).gid, 2);
	op.code = ALT_OP_SYMLINK;
	assert_int_equal(alt_attr_new(&op, &dir).mode, S_IFLNK | 0777);
}

static void set_group_id_stays_where_the_group_may_not_execute(void **state)
{
	struct alt_attr attr = { .mode = S_IFREG | 06644 };

	alt_attr_kill_suidgid(&attr);
	assert_int_equal(attr.mode, S_IFREG | 02644);
	attr.mode = S_IFREG | 06654;
	alt_attr_kill_suidgid(&attr);
	assert_int_equal(attr.mode, S_IFREG | 0654);
	attr.mode = S_IFDIR | 06777;
	alt_attr_kill_suidgid(&attr);
	assert_int_equal(attr.mode, S_IFDIR | 06777);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(full_heap_takes_what_is_stored_already, begin, end),
		cmocka_unit_test_setup_teardown(bytes_end_before_the_next_ones, begin, end),
		cmocka_unit_test_setup_teardown(slots_are_given_again_and_clean, begin, end),
		cmocka_unit_test(names_are_found_and_walked_in_order),
		cmocka_unit_test(a_place_in_the_list_outlives_its_name),
		cmocka_unit_test(a_name_takes_the_place_of_its_like),
		cmocka_unit_test(new_attributes_follow_the_operation),
		cmocka_unit_test(set_group_id_stays_where_the_group_may_not_execute),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
