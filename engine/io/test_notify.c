/* SPDX-License-Identifier: MIT */
/* What the kernel is told, and what follows from what it was not told yet. */
#include "base/failing.h"
#include "io/testing.h"
#include <altitude/notify.h>
#include <unistd.h>

static void a_directory_taken_for_dead_is_found_again_as_another(void **state)
{
	struct alt_node *dir = t_dir(v->root, "dir", 2), *file = t_file(v->root, "file", 3);
	struct alt_entry d = { .key = { 2 }, .attr.mode = S_IFDIR }, f = { .key = { 3 }, .attr.mode = S_IFREG };
	struct alt_node *again;

	node_bury(v->root, "dir");
	node_bury(v->root, "file");
	node_bury(v->root, "none");
	again = node_intern(v, &d, &t_fs);
	assert_ptr_not_equal(again, dir);
	assert_ptr_equal(node_get(v, alt_node_number(dir)), dir); /* who has it open goes on with it */
	alt_node_unref(dir);
	alt_node_unref(again);
	again = node_intern(v, &f, &t_fs);
	assert_ptr_equal(again, file);
	alt_node_unref(again);
}

/* The event of a file's end comes late: by then a directory has the name, which would be dead to the kernel. */
static void the_end_of_a_file_is_not_told_of_a_directory(void **state)
{
	struct alt_key root = alt_node_key(v->root);
	struct alt_node *file = t_file(v->root, "file", 2), *dir = t_dir(v->root, "dir", 3);
	struct notice *n;

	notices_listen(v);
	alt_notify_delete(v, root, "file");
	n = notices_take(v);
	assert_int_equal(n->kind, NOTICE_DELETE);
	assert_int_equal(n->child, alt_node_number(file));
	alt_notify_delete(v, root, "dir");
	while ((n = notices_take(v))->kind == NOTICE_NODE)
		;
	assert_int_equal(n->kind, NOTICE_ENTRY);
	assert_int_equal(n->child, alt_node_number(dir));
}

/* An answer brings a node that was changed after it was looked at: the change was told of what was no node then. */
static void what_changed_before_it_became_a_node_is_not_remembered(void **state)
{
	struct alt_node *old = t_file(v->root, "old", 2);
	struct op op = { .pub.volume = v, .strangers = atomic_load(&v->strangers) };
	struct alt_entry e = { .attr_ttl_ms = ALT_TTL_DEFAULT };

	alt_notify_node(v, alt_node_key(old), false);
	notices_missed(&op, &e);
	assert_int_equal(e.attr_ttl_ms, ALT_TTL_DEFAULT);
	e.key.id = 3;
	for (uint64_t id = 4; id < 60; id++)
		alt_notify_node(v, (struct alt_key){ .id = id }, false);
	notices_missed(&op, &e);
	assert_int_equal(e.attr_ttl_ms, ALT_TTL_DEFAULT);
	alt_notify_node(v, e.key, false);
	notices_missed(&op, &e);
	assert_int_equal(e.attr_ttl_ms, ALT_TTL_NONE);
	e.attr_ttl_ms = ALT_TTL_DEFAULT;
	for (uint64_t id = 100; id < 200; id++)     /* more than are kept: it may be one of them */
		alt_notify_node(v, (struct alt_key){ .id = id }, false);
	notices_missed(&op, &e);
	assert_int_equal(e.attr_ttl_ms, ALT_TTL_NONE);
}

/* And one whose answer is on its way when the kernel is told. */
static void what_the_kernel_does_not_know_yet_is_told_again(void **state)
{
	struct alt_node *file = t_file(v->root, "file", 2);
	struct notice *n;

	notices_listen(v);
	notices_again(v, alt_node_number(file), true, 0);
	for (unsigned tries = 1; tries < 5; tries++) {
		n = notices_take(v);
		assert_int_equal(n->kind, NOTICE_NODE);
		assert_int_equal(n->number, alt_node_number(file));
		assert_true(n->data);
		assert_int_equal(n->tries, tries);
		notices_again(v, n->number, n->data, n->tries);
	}
	node_forget(v, alt_node_number(file), 1);
	n = notices_take(v);
	notices_again(v, n->number, n->data, n->tries);
	notice_all(v, false);
	assert_int_equal(notices_take(v)->kind, NOTICE_ALL);
	notices_again(v, alt_node_number(file), false, 0);
	alt_notify_node(v, alt_node_key(v->root), false);
	assert_int_equal(notices_take(v)->number, alt_node_number(v->root));
}

/* The next two: whatever was to be told again is due, and comes behind the first. */
static struct notice *second_taken(uint64_t id)
{
	struct alt_node *other = t_file(v->root, "other", id);

	usleep(2000);
	alt_notify_node(v, alt_node_key(other), false);
	assert_int_equal(notices_take(v)->number, alt_node_number(other));
	alt_notify_node(v, alt_node_key(v->root), false);
	return notices_take(v);
}

/* Nobody would ever know when to stop. An answer that is about to tell of it is not remembered instead. */
static void what_the_kernel_was_never_told_of_is_not_told_again(void **state)
{
	struct alt_entry e = { .key.id = 2, .attr.mode = S_IFREG, .attr_ttl_ms = ALT_TTL_DEFAULT };
	struct op op = { .pub.volume = v, .strangers = atomic_load(&v->strangers) };
	struct alt_node *held = t_intern(2, S_IFREG);

	notices_listen(v);
	notices_again(v, alt_node_number(held), true, 0);
	assert_int_equal(second_taken(3)->number, alt_node_number(v->root));
	notices_missed(&op, &e);
	assert_int_equal(e.attr_ttl_ms, ALT_TTL_NONE);
	alt_node_unref(held);
}

static void a_node_waits_once_to_be_told_again(void **state)
{
	struct alt_node *file = t_file(v->root, "file", 2);
	struct notice *n;

	notices_listen(v);
	for (int i = 0; i < 10; i++)
		notices_again(v, alt_node_number(file), i == 5, 0);
	n = second_taken(3);
	assert_int_equal(n->number, alt_node_number(file));
	assert_true(n->data);
	assert_int_equal(notices_take(v)->number, alt_node_number(v->root));
}

static void too_many_to_be_told_again_are_everything(void **state)
{
	struct notice *n;
	char name[16];

	notices_listen(v);
	for (uint64_t id = 2; id < 3000; id++) {
		snprintf(name, sizeof name, "f%d", (int)id);
		notices_again(v, alt_node_number(t_file(v->root, name, id)), id == 100, 9);
	}
	n = notices_take(v);
	assert_int_equal(n->kind, NOTICE_ALL);
	assert_true(n->data);
	assert_int_equal(second_taken(3001)->number, alt_node_number(v->root));
}

/* Who tells the kernel would take no notice for the end. */
static void everything_is_told_without_memory_too(void **state)
{
	struct notice *n;

	if (!FAILING)
		skip();
	notices_listen(v);
	notice_all(v, true);
	of_size = sizeof *n + 1;
	n = notices_take(v);
	of_size = 0;
	assert_non_null(n);
	assert_int_equal(n->kind, NOTICE_ALL);
	assert_true(n->data);
}

/* The event of a rename comes late: by then another file has the name, which keeps it. */
static void what_moved_away_takes_no_other_along(void **state)
{
	struct alt_key root = alt_node_key(v->root), moved;
	struct alt_node *away = t_file(v->root, "name", 2), *later = t_file(v->root, "other", 3);

	moved = alt_node_key(away);
	assert_int_equal(node_name_move(v->root, "other", v->root, "name", false), 0);
	alt_notify_rename(v, root, "name", root, "new", &moved);
	t_expect_path(later, "/name");
	moved = alt_node_key(later);
	alt_notify_rename(v, root, "name", root, "new", &moved);
	t_expect_path(later, "/new");
	alt_notify_rename(v, root, "new", root, "newer", NULL);
	t_expect_path(later, "/newer");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		t_case(what_moved_away_takes_no_other_along),
		t_case(what_changed_before_it_became_a_node_is_not_remembered),
		t_case(what_the_kernel_does_not_know_yet_is_told_again),
		t_case(what_the_kernel_was_never_told_of_is_not_told_again),
		t_case(a_node_waits_once_to_be_told_again),
		t_case(too_many_to_be_told_again_are_everything),
		t_case(everything_is_told_without_memory_too),
		t_case(the_end_of_a_file_is_not_told_of_a_directory),
		t_case(a_directory_taken_for_dead_is_found_again_as_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
