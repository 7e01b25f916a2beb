/* SPDX-License-Identifier: MIT */
/* Names and paths, under renames too. */
#include "io/testing.h"

#include <limits.h>

static void a_path_is_the_names_up_to_the_root(void **state)
{
	struct alt_node *a = t_dir(v->root, "a", 2), *b = t_dir(a, "b", 3), *f = t_file(b, "file", 4);
	char buf[64], name[NAME_MAX + 1];
	struct alt_node *parent;

	parent = alt_node_parent(f, name);
	assert_ptr_equal(parent, b);
	assert_string_equal(name, "file");
	alt_node_unref(parent);
	assert_null(alt_node_parent(v->root, name));
	t_expect_path(v->root, "/");
	t_expect_path(a, "/a");
	t_expect_path(f, "/a/b/file");
	assert_int_equal(alt_node_path_at(b, "new", buf, sizeof buf), 8);
	assert_string_equal(buf, "/a/b/new");
	assert_int_equal(alt_node_path_at(v->root, "new", buf, sizeof buf), 4);
	assert_string_equal(buf, "/new");
}

static void a_path_fits_to_the_byte_or_is_too_long(void **state)
{
	struct alt_node *a = t_dir(v->root, "a", 2), *f = t_file(a, "file", 3);

	for (size_t size = 0; size < 12; size++) {
		char *buf = malloc(size ? size : 1); /* of that size, for the address checker */
		int r = alt_node_path(f, buf, size), root = alt_node_path(v->root, buf, size);

		assert_int_equal(r, size < sizeof "/a/file" ? -ENAMETOOLONG : 7);
		assert_int_equal(root, size < sizeof "/" ? -ENAMETOOLONG : 1);
		free(buf);
	}
}

static void a_file_with_several_names_has_the_latest(void **state)
{
	struct alt_node *a = t_dir(v->root, "a", 2), *f = t_file(v->root, "one", 3);

	assert_int_equal(node_name_bind(a, "two", f), 0);
	t_expect_path(f, "/a/two");
	assert_int_equal(node_name_bind(v->root, "one", f), 0); /* found by it again */
	t_expect_path(f, "/one");
	node_name_unbind(v->root, "one");
	t_expect_path(f, "/a/two");
	node_name_unbind(a, "two");
	t_expect_path(f, NULL);
	node_name_unbind(a, "two");
	assert_int_equal(node_name_bind(a, "three", f), 0);
	t_expect_path(f, "/a/three");
}

static void a_name_that_goes_to_another_leaves_the_first(void **state)
{
	struct alt_node *f = t_file(v->root, "name", 2), *g = t_file(v->root, "name", 3);

	t_expect_path(f, NULL);
	t_expect_path(g, "/name");
}

static void a_rename_moves_what_is_below(void **state)
{
	struct alt_node *a = t_dir(v->root, "a", 2), *b = t_dir(v->root, "b", 3), *d = t_dir(a, "d", 4), *f = t_file(d, "f", 5);

	assert_int_equal(node_name_move(a, "d", b, "e", false), 0);
	t_expect_path(f, "/b/e/f");
	assert_int_equal(node_name_move(v->root, "b", a, "c", false), 0);
	t_expect_path(f, "/a/c/e/f");
	assert_int_equal(node_name_move(a, "c", a, "cc", false), 0);
	t_expect_path(d, "/a/cc/e");
	assert_int_equal(node_name_move(a, "cc", a, "cc", false), 0);
	t_expect_path(d, "/a/cc/e");
}

static void a_rename_over_another_takes_its_name(void **state)
{
	struct alt_node *f = t_file(v->root, "f", 2), *g = t_file(v->root, "g", 3);

	assert_int_equal(node_name_move(v->root, "f", v->root, "g", false), 0);
	t_expect_path(f, "/g");
	t_expect_path(g, NULL);
}

static void a_rename_of_what_was_never_looked_up_still_hits_its_target(void **state)
{
	struct alt_node *g = t_file(v->root, "g", 3);

	assert_int_equal(node_name_move(v->root, "unknown", v->root, "g", false), 0);
	t_expect_path(g, NULL);
	assert_int_equal(node_name_bind(v->root, "g", g), 0);
	assert_int_equal(node_name_move(v->root, "unknown", v->root, "g", true), 0);
	t_expect_path(g, "/unknown");
	assert_int_equal(node_name_move(v->root, "no", v->root, "nor", false), 0);
}

static void an_exchange_swaps_two_names(void **state)
{
	struct alt_node *a = t_dir(v->root, "a", 2), *f = t_file(a, "f", 3), *g = t_file(v->root, "g", 4);

	assert_int_equal(node_name_move(a, "f", v->root, "g", true), 0);
	t_expect_path(f, "/g");
	t_expect_path(g, "/a/f");
}

static void a_rename_between_two_names_of_one_file_does_nothing(void **state)
{
	struct alt_node *f = t_file(v->root, "one", 2);

	assert_int_equal(node_name_bind(v->root, "two", f), 0);
	assert_int_equal(node_name_move(v->root, "one", v->root, "two", false), 0);
	node_name_unbind(v->root, "two");
	t_expect_path(f, "/one");
}

/* The walk, with the table growing in the middle of it. */
static void a_walk_has_each_name_that_stays(void **state)
{
	struct alt_node *first[50], *more[400];
	unsigned seen[50] = { 0 }, count = 0;
	struct notice *n, *next;
	size_t buckets;
	char name[16];
	int error;

	for (int i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "first%d", i);
		first[i] = t_file(v->root, name, 100 + i);
	}
	buckets = v->name_buckets;
	for (size_t i = 0; names_at(v, i, &n, &error); i++) {
		assert_int_equal(error, 0);
		for (; i == buckets / 2 && count < 400; count++) {
			snprintf(name, sizeof(name), "more%u", count);
			more[count] = t_file(v->root, name, 1000 + count);
		}
		for (; n; n = next) {
			next = n->next;
			assert_int_equal(n->number, IO_ROOT_ID);
			assert_int_equal(n->kind, NOTICE_ENTRY);
			if (!strncmp(n->name, "first", 5))
				seen[atoi(n->name + 5)]++;
			free(n);
		}
	}
	assert_true(v->name_buckets > buckets);
	for (int i = 0; i < 50; i++)
		assert_true(seen[i] > 0);
	for (int i = 0; i < 50; i++)
		node_forget(v, alt_node_number(first[i]), 1);
	for (int i = 0; i < 400; i++)
		node_forget(v, alt_node_number(more[i]), 1);
}

static void a_file_with_many_names_gives_them_all_back(void **state)
{
	struct alt_node *f = t_known(2, S_IFREG);

	for (int i = 0; i < 100; i++) {
		struct alt_node *d;
		char name[16];

		snprintf(name, sizeof name, "d%d", i);
		d = t_dir(v->root, name, 10 + i);
		assert_int_equal(node_name_bind(d, "link", f), 0);
		node_forget(v, alt_node_number(d), 1);
	}
	assert_int_equal(v->nodes, 102);
	node_forget(v, alt_node_number(f), 1);
	assert_int_equal(v->nodes, 1);
	assert_int_equal(v->name_count, 0);
}

/* What a damaged file system, or a kernel gone mad, may say. */
static void nothing_stands_below_itself(void **state)
{
	struct alt_node *a = t_dir(v->root, "a", 2), *b = t_dir(a, "b", 3), *c = t_dir(b, "c", 4);

	assert_int_equal(node_name_bind(c, "a", a), -EUCLEAN);
	assert_int_equal(node_name_bind(a, "a", a), -EUCLEAN);
	assert_int_equal(node_name_bind(c, "root", v->root), -EUCLEAN);
	assert_int_equal(node_name_move(a, "b", c, "x", false), -EUCLEAN);
	assert_int_equal(node_name_bind(a, "b", b), 0);
	assert_int_equal(node_name_move(v->root, "a", b, "c", true), -EUCLEAN);
	node_forget(v, a->rec.number, 1);
	node_forget(v, b->rec.number, 1);
	node_forget(v, c->rec.number, 1);
	assert_int_equal(v->nodes, 1);
}

/*
 * Below us, a/b became b and then a became b/a. Nobody told, but both were looked up: the old names would be a circle that
 * holds itself.
 */
static void a_directory_that_was_moved_unseen_loses_its_old_name(void **state)
{
	struct alt_node *a = t_dir(v->root, "a", 2), *b = t_dir(a, "b", 3);

	assert_int_equal(node_name_bind(v->root, "b", b), 0);
	assert_int_equal(node_name_bind(b, "a", a), 0);
	t_expect_path(b, "/b");
	t_expect_path(a, "/b/a");
	node_forget(v, a->rec.number, 1);
	node_forget(v, b->rec.number, 1);
	assert_int_equal(v->nodes, 1);
}

/* ---- at once ---- */

static _Atomic bool stop;
static struct alt_node *da, *db, *leaf, *leaf2;
static _Atomic long strange, reads;

static const char *const leaf_paths[] = { "/a/x/leaf", "/A/x/leaf", "/b/y/leaf", NULL };

static void *path_main(void *arg)
{
	struct alt_node *n = arg;

	while (!atomic_load(&stop)) {
		char buf[64];
		int r = alt_node_path(n, buf, sizeof buf);
		const char *const *p = leaf_paths;

		while (*p && (r < 0 || strcmp(*p, buf)))
			p++;
		if (!*p)
			atomic_fetch_add(&strange, 1);
		atomic_fetch_add(&reads, 1);
	}
	return NULL;
}

static void *ancestor_main(void *arg)
{
	while (!atomic_load(&stop)) {
		node_name_move(v->root, "a", v->root, "A", false);
		node_name_move(v->root, "A", v->root, "a", false);
	}
	return NULL;
}

static void a_path_read_during_renames_of_ancestors_is_one_that_was(void **state)
{
	pthread_t t[3];
	struct alt_node *x;

	stop = false;
	strange = reads = 0;
	da = t_dir(v->root, "a", 2);
	db = t_dir(v->root, "b", 3);
	x = t_dir(da, "x", 4);
	leaf = t_file(x, "leaf", 5);
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, path_main, leaf);
	pthread_create(&t[2], NULL, ancestor_main, NULL);
	for (int i = 0; i < 20000 || reads < 1000; i++) {
		assert_int_equal(node_name_move(da, "x", db, "y", false), 0);
		assert_int_equal(node_name_move(db, "y", da, "x", false), 0);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(strange, 0);
	t_expect_path(leaf, "/a/x/leaf");
}

static void *exchange_path_main(void *arg)
{
	while (!atomic_load(&stop)) {
		char buf[64];
		int r = alt_node_path(arg, buf, sizeof buf);

		if (r != 2 || (strcmp(buf, "/p") && strcmp(buf, "/q")))
			atomic_fetch_add(&strange, 1);
		atomic_fetch_add(&reads, 1);
	}
	return NULL;
}

static void a_node_has_a_name_all_through_an_exchange(void **state)
{
	pthread_t t[2];

	stop = false;
	strange = reads = 0;
	leaf = t_file(v->root, "p", 2);
	leaf2 = t_file(v->root, "q", 3);
	pthread_create(&t[0], NULL, exchange_path_main, leaf);
	pthread_create(&t[1], NULL, exchange_path_main, leaf2);
	for (int i = 0; i < 20000 || reads < 1000; i++)
		assert_int_equal(node_name_move(v->root, "p", v->root, "q", true), 0);
	atomic_store(&stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(strange, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		t_case(a_path_is_the_names_up_to_the_root),
		t_case(nothing_stands_below_itself),
		t_case(a_directory_that_was_moved_unseen_loses_its_old_name),
		t_case(a_path_fits_to_the_byte_or_is_too_long),
		t_case(a_file_with_several_names_has_the_latest),
		t_case(a_name_that_goes_to_another_leaves_the_first),
		t_case(a_rename_moves_what_is_below),
		t_case(a_rename_over_another_takes_its_name),
		t_case(a_rename_of_what_was_never_looked_up_still_hits_its_target),
		t_case(an_exchange_swaps_two_names),
		t_case(a_rename_between_two_names_of_one_file_does_nothing),
		t_case(a_path_read_during_renames_of_ancestors_is_one_that_was),
		t_case(a_node_has_a_name_all_through_an_exchange),
		t_case(a_walk_has_each_name_that_stays),
		t_case(a_file_with_many_names_gives_them_all_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
