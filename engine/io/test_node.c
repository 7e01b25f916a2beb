/* SPDX-License-Identifier: MIT */
/* Nodes as the kernel knows them, their names under renames, and the numbers of nodes and files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/failing.h"
#include "io/io.h"
#include <altitude/notify.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MANY 100000
#define MANY_LONG MANY
#define BYTES_EACH 4096          /* red zones and shadow */
#else
#define MANY 1000000
#define MANY_LONG 10000000       /* with ALTITUDE_LONG=1 */
#define BYTES_EACH 200
#endif

static struct alt_volume *v;
static _Atomic long handed, forgotten, releases;

static int fs_mount(struct alt_volume *volume, const char *arg, struct alt_error *err)
{
	atomic_fetch_add(&handed, 1);
	alt_volume_set_root(volume, (struct alt_key){ .id = 1 }, &v);
	return 0;
}

static void fs_forget(struct alt_volume *volume, struct alt_key key, void *data)
{
	atomic_fetch_add(&forgotten, 1);
}

static int fs_release(struct alt_op *op)
{
	atomic_fetch_add(&releases, 1);
	return 0;
}

static const struct alt_filesystem_registration fs = {
	.size = sizeof fs, .name = "nodes", .mount = fs_mount, .forget = fs_forget,
	.ops = { [ALT_OP_RELEASE] = fs_release, [ALT_OP_RELEASEDIR] = fs_release },
};

/* In place of the stack. */
static void serve(struct op *op)
{
	op_begin(op);
	op->pub.node->owner->ops[op->pub.code](&op->pub);
	op->done(op);
}

static int begin(void **state)
{
	int r;

	handed = forgotten = releases = 0;
	r = volume_new("nodes:", &fs, NULL, NULL, &v, NULL);
	if (!r)
		v->run = serve;
	return r;
}

/* Whatever was interned is given back, once. */
static int end(void **state)
{
	volume_free(v);
	if (handed != forgotten)
		fprintf(stderr, "handed %ld, forgotten %ld\n", handed, forgotten);
	return handed == forgotten ? 0 : -1;
}

#define test_case(name) cmocka_unit_test_setup_teardown(name, begin, end)

static struct alt_node *intern_type(uint64_t id, uint32_t type)
{
	struct alt_entry e = { .key.id = id, .attr.mode = type | 0644, .data = &handed };

	atomic_fetch_add(&handed, 1);
	return node_intern(v, &e, &fs);
}

/* Known to the kernel once; the pointer is good until it is forgotten. */
static struct alt_node *known(uint64_t id, uint32_t type)
{
	struct alt_node *n = intern_type(id, type);

	node_remember(n, 1);
	alt_node_unref(n);
	return n;
}

static struct alt_node *dir_in(struct alt_node *parent, const char *name, uint64_t id)
{
	struct alt_node *n = known(id, S_IFDIR);

	assert_int_equal(node_name_bind(parent, name, n), 0);
	return n;
}

static struct alt_node *file_in(struct alt_node *parent, const char *name, uint64_t id)
{
	struct alt_node *n = known(id, S_IFREG);

	assert_int_equal(node_name_bind(parent, name, n), 0);
	return n;
}

static void expect_path(const struct alt_node *n, const char *want)
{
	char buf[4096];
	int r = alt_node_path(n, buf, sizeof buf);

	if (!want) {
		assert_int_equal(r, -ENOENT);
		return;
	}
	assert_int_equal(r, strlen(want));
	assert_string_equal(buf, want);
}

/* ---- names ---- */

static void a_path_is_the_names_up_to_the_root(void **state)
{
	struct alt_node *a = dir_in(v->root, "a", 2), *b = dir_in(a, "b", 3), *f = file_in(b, "file", 4);
	char buf[64], name[NAME_MAX + 1];
	struct alt_node *parent;

	parent = alt_node_parent(f, name);
	assert_ptr_equal(parent, b);
	assert_string_equal(name, "file");
	alt_node_unref(parent);
	assert_null(alt_node_parent(v->root, name));
	expect_path(v->root, "/");
	expect_path(a, "/a");
	expect_path(f, "/a/b/file");
	assert_int_equal(alt_node_path_at(b, "new", buf, sizeof buf), 8);
	assert_string_equal(buf, "/a/b/new");
	assert_int_equal(alt_node_path_at(v->root, "new", buf, sizeof buf), 4);
	assert_string_equal(buf, "/new");
}

static void a_path_fits_to_the_byte_or_is_too_long(void **state)
{
	struct alt_node *a = dir_in(v->root, "a", 2), *f = file_in(a, "file", 3);

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
	struct alt_node *a = dir_in(v->root, "a", 2), *f = file_in(v->root, "one", 3);

	assert_int_equal(node_name_bind(a, "two", f), 0);
	expect_path(f, "/a/two");
	assert_int_equal(node_name_bind(v->root, "one", f), 0); /* found by it again */
	expect_path(f, "/one");
	node_name_unbind(v->root, "one");
	expect_path(f, "/a/two");
	node_name_unbind(a, "two");
	expect_path(f, NULL);
	node_name_unbind(a, "two");
	assert_int_equal(node_name_bind(a, "three", f), 0);
	expect_path(f, "/a/three");
}

static void a_directory_taken_for_dead_is_found_again_as_another(void **state)
{
	struct alt_node *dir = dir_in(v->root, "dir", 2), *file = file_in(v->root, "file", 3);
	struct alt_entry d = { .key = { 2 }, .attr.mode = S_IFDIR }, f = { .key = { 3 }, .attr.mode = S_IFREG };
	struct alt_node *again;

	node_bury(v->root, "dir");
	node_bury(v->root, "file");
	node_bury(v->root, "none");
	again = node_intern(v, &d, &fs);
	assert_ptr_not_equal(again, dir);
	assert_ptr_equal(node_get(v, alt_node_number(dir)), dir); /* who has it open goes on with it */
	alt_node_unref(dir);
	alt_node_unref(again);
	again = node_intern(v, &f, &fs);
	assert_ptr_equal(again, file);
	alt_node_unref(again);
}

/* The event of a file's end comes late: by then a directory has the name, which would be dead to the kernel. */
static void the_end_of_a_file_is_not_told_of_a_directory(void **state)
{
	struct alt_key root = alt_node_key(v->root);
	struct alt_node *file = file_in(v->root, "file", 2), *dir = dir_in(v->root, "dir", 3);
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
	struct alt_node *old = file_in(v->root, "old", 2);
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
	struct alt_node *file = file_in(v->root, "file", 2);
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
	struct alt_node *other = file_in(v->root, "other", id);

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
	struct alt_node *held = intern_type(2, S_IFREG);

	notices_listen(v);
	notices_again(v, alt_node_number(held), true, 0);
	assert_int_equal(second_taken(3)->number, alt_node_number(v->root));
	notices_missed(&op, &e);
	assert_int_equal(e.attr_ttl_ms, ALT_TTL_NONE);
	alt_node_unref(held);
}

static void a_node_waits_once_to_be_told_again(void **state)
{
	struct alt_node *file = file_in(v->root, "file", 2);
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
		notices_again(v, alt_node_number(file_in(v->root, name, id)), id == 100, 9);
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
	struct alt_node *away = file_in(v->root, "name", 2), *later = file_in(v->root, "other", 3);

	moved = alt_node_key(away);
	assert_int_equal(node_name_move(v->root, "other", v->root, "name", false), 0);
	alt_notify_rename(v, root, "name", root, "new", &moved);
	expect_path(later, "/name");
	moved = alt_node_key(later);
	alt_notify_rename(v, root, "name", root, "new", &moved);
	expect_path(later, "/new");
	alt_notify_rename(v, root, "new", root, "newer", NULL);
	expect_path(later, "/newer");
}

static void a_name_that_goes_to_another_leaves_the_first(void **state)
{
	struct alt_node *f = file_in(v->root, "name", 2), *g = file_in(v->root, "name", 3);

	expect_path(f, NULL);
	expect_path(g, "/name");
}

static void a_rename_moves_what_is_below(void **state)
{
	struct alt_node *a = dir_in(v->root, "a", 2), *b = dir_in(v->root, "b", 3), *d = dir_in(a, "d", 4), *f = file_in(d, "f", 5);

	assert_int_equal(node_name_move(a, "d", b, "e", false), 0);
	expect_path(f, "/b/e/f");
	assert_int_equal(node_name_move(v->root, "b", a, "c", false), 0);
	expect_path(f, "/a/c/e/f");
	assert_int_equal(node_name_move(a, "c", a, "cc", false), 0);
	expect_path(d, "/a/cc/e");
	assert_int_equal(node_name_move(a, "cc", a, "cc", false), 0);
	expect_path(d, "/a/cc/e");
}

static void a_rename_over_another_takes_its_name(void **state)
{
	struct alt_node *f = file_in(v->root, "f", 2), *g = file_in(v->root, "g", 3);

	assert_int_equal(node_name_move(v->root, "f", v->root, "g", false), 0);
	expect_path(f, "/g");
	expect_path(g, NULL);
}

static void a_rename_of_what_was_never_looked_up_still_hits_its_target(void **state)
{
	struct alt_node *g = file_in(v->root, "g", 3);

	assert_int_equal(node_name_move(v->root, "unknown", v->root, "g", false), 0);
	expect_path(g, NULL);
	assert_int_equal(node_name_bind(v->root, "g", g), 0);
	assert_int_equal(node_name_move(v->root, "unknown", v->root, "g", true), 0);
	expect_path(g, "/unknown");
	assert_int_equal(node_name_move(v->root, "no", v->root, "nor", false), 0);
}

static void an_exchange_swaps_two_names(void **state)
{
	struct alt_node *a = dir_in(v->root, "a", 2), *f = file_in(a, "f", 3), *g = file_in(v->root, "g", 4);

	assert_int_equal(node_name_move(a, "f", v->root, "g", true), 0);
	expect_path(f, "/g");
	expect_path(g, "/a/f");
}

static void a_rename_between_two_names_of_one_file_does_nothing(void **state)
{
	struct alt_node *f = file_in(v->root, "one", 2);

	assert_int_equal(node_name_bind(v->root, "two", f), 0);
	assert_int_equal(node_name_move(v->root, "one", v->root, "two", false), 0);
	node_name_unbind(v->root, "two");
	expect_path(f, "/one");
}

/* ---- names, at once ---- */

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
	da = dir_in(v->root, "a", 2);
	db = dir_in(v->root, "b", 3);
	x = dir_in(da, "x", 4);
	leaf = file_in(x, "leaf", 5);
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
	expect_path(leaf, "/a/x/leaf");
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
	leaf = file_in(v->root, "p", 2);
	leaf2 = file_in(v->root, "q", 3);
	pthread_create(&t[0], NULL, exchange_path_main, leaf);
	pthread_create(&t[1], NULL, exchange_path_main, leaf2);
	for (int i = 0; i < 20000 || reads < 1000; i++)
		assert_int_equal(node_name_move(v->root, "p", v->root, "q", true), 0);
	atomic_store(&stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(strange, 0);
}

/* ---- identity ---- */

static void one_key_is_one_node(void **state)
{
	struct alt_node *n = intern_type(7, S_IFREG), *again = intern_type(7, S_IFREG), *other = intern_type(7, S_IFDIR);

	assert_ptr_equal(n, again);
	assert_int_equal(forgotten, 1); /* the second reference to its data went back at once */
	assert_ptr_not_equal(n, other); /* the key came back as something else */
	assert_int_not_equal(alt_node_number(n), alt_node_number(other));
	alt_node_unref(n);
	alt_node_unref(again);
	alt_node_unref(other);
	assert_int_equal(forgotten, 3);
}

static struct alt_node *intern_again(uint64_t id, uint32_t generation, bool fresh)
{
	struct alt_entry e = { .key.id = id, .attr.mode = S_IFREG | 0644, .generation = generation, .fresh = fresh };

	return node_intern(v, &e, &fs);
}

/* Answers about the first may still be under way when the second is known. */
static void a_key_that_comes_again_is_another_node(void **state)
{
	struct alt_node *n = intern_again(7, 1, false), *other = intern_again(7, 2, false), *none = intern_again(7, 0, false);
	struct alt_node *again = intern_again(7, 1, false), *found[4];

	assert_ptr_not_equal(n, other);
	assert_ptr_not_equal(n, none);
	assert_ptr_not_equal(other, none);
	assert_ptr_equal(n, again);
	assert_int_equal(alt_node_generation(n), 1);
	assert_int_equal(alt_node_generation(other), 2);
	assert_int_not_equal(alt_node_number(n), alt_node_number(other));
	alt_node_unref(none);
	alt_node_unref(again);

	assert_int_equal(node_find(v, (struct alt_key){ 7 }, found, 1), 1);
	alt_node_unref(found[0]);
	assert_int_equal(node_find(v, (struct alt_key){ 7 }, found, 4), 2);
	assert_true((found[0] == n && found[1] == other) || (found[0] == other && found[1] == n));
	alt_node_unref(found[0]);
	alt_node_unref(found[1]);

	alt_node_unref(n);
	assert_int_equal(node_find(v, (struct alt_key){ 7 }, found, 4), 1);
	assert_ptr_equal(found[0], other);
	alt_node_unref(found[0]);
	alt_node_unref(other);
	assert_int_equal(node_find(v, (struct alt_key){ 7 }, found, 4), 0);
	assert_int_equal(v->nodes, 1);
}

static void what_is_made_this_moment_is_no_node_of_the_past(void **state)
{
	struct alt_node *past = intern_again(7, 1, false), *other = intern_again(7, 2, false), *n = intern_again(7, 1, true);
	struct alt_node *again = intern_again(7, 1, false), *found[4];

	assert_ptr_not_equal(past, n);
	assert_ptr_not_equal(other, n);
	assert_ptr_equal(n, again);
	assert_int_equal(alt_node_generation(past), ALT_GENERATION_PAST);
	assert_int_equal(node_find(v, (struct alt_key){ 7 }, found, 4), 2); /* that of the past is found no more... */
	alt_node_unref(found[0]);
	alt_node_unref(found[1]);
	alt_node_unref(node_get(v, alt_node_number(past))); /* ...but by its number, while it is held */
	for (uint64_t id = 100; id < 1000; id++)            /* the table grows meanwhile */
		known(id, S_IFREG);
	alt_node_unref(past);
	alt_node_unref(again);
	again = intern_again(7, 1, false);
	assert_ptr_equal(n, again);
	alt_node_unref(again);
	alt_node_unref(n);
	alt_node_unref(other);
	assert_int_equal(v->nodes, 901);
}

static void a_node_lives_until_it_is_forgotten_as_often_as_it_was_told(void **state)
{
	struct alt_node *n = intern_type(7, S_IFREG);
	uint64_t number = alt_node_number(n);

	node_remember(n, 1);
	node_remember(n, 1);
	node_remember(n, 3);
	alt_node_unref(n);
	node_forget(v, number, 4);
	assert_int_equal(forgotten, 0);
	n = node_get(v, number);
	assert_non_null(n);
	node_forget(v, number, 1);
	assert_int_equal(forgotten, 0); /* we hold it */
	alt_node_unref(n);
	assert_int_equal(forgotten, 1);
	assert_null(node_get(v, number));
	node_forget(v, number, 1);
}

static void a_count_from_outside_is_not_trusted(void **state)
{
	struct alt_node *n = known(7, S_IFREG), *held = node_get(v, alt_node_number(n));
	uint64_t number = alt_node_number(n);

	node_forget(v, number, UINT64_MAX);
	node_forget(v, number, UINT64_MAX);
	node_forget(v, number, 1);
	assert_int_equal(forgotten, 0);
	node_remember(held, 1);
	alt_node_unref(held);
	assert_ptr_equal(node_get(v, number), n);
	alt_node_unref(n);
	node_forget(v, number, 1);
	assert_int_equal(forgotten, 1);
	node_forget(v, 0, 1);
	node_forget(v, IO_ROOT_ID, 1000);
	node_forget(v, 0xdeadbeef, 1);
	node_forget(v, UINT64_MAX, UINT64_MAX);
	assert_non_null(v->root);
	n = node_get(v, IO_ROOT_ID);
	assert_ptr_equal(n, v->root);
	alt_node_unref(n);
}

static void a_number_is_not_used_twice(void **state)
{
	uint64_t first = 0, number = 0;

	for (int i = 0; i < 1000; i++) {
		struct alt_node *n = known(7, S_IFREG);

		if (i && alt_node_number(n) == first)
			fail_msg("round %d has the first number again", i);
		assert_int_not_equal(alt_node_number(n), number);
		assert_int_not_equal(alt_node_number(n), 0);
		assert_int_not_equal(alt_node_number(n), IO_ROOT_ID);
		if (number)
			assert_null(node_get(v, number));
		number = alt_node_number(n);
		first = i ? first : number;
		node_forget(v, number, 1);
	}
	assert_int_equal(v->node_slots.count, 512); /* the slot is used again, its number is not */
}

static void a_directory_stays_while_its_children_are_known(void **state)
{
	struct alt_node *a = dir_in(v->root, "a", 2), *b = dir_in(a, "b", 3), *f = file_in(b, "f", 4);

	node_forget(v, alt_node_number(a), 1);
	node_forget(v, alt_node_number(b), 1);
	expect_path(f, "/a/b/f");
	assert_int_equal(forgotten, 0);
	node_forget(v, alt_node_number(f), 1);
	assert_int_equal(forgotten, 3);
	assert_int_equal(v->nodes, 1);
	assert_int_equal(v->name_count, 0);
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
		first[i] = file_in(v->root, name, 100 + i);
	}
	buckets = v->name_buckets;
	for (size_t i = 0; names_at(v, i, &n, &error); i++) {
		assert_int_equal(error, 0);
		for (; i == buckets / 2 && count < 400; count++) {
			snprintf(name, sizeof(name), "more%u", count);
			more[count] = file_in(v->root, name, 1000 + count);
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

static void a_deep_chain_goes_without_recursion(void **state)
{
	struct alt_node *n = v->root, *next;
	uint64_t number;

	for (int i = 0; i < 200000; i++) {
		next = known(i + 2, S_IFDIR);
		node_name_bind(n, "d", next);
		if (n != v->root)
			node_forget(v, alt_node_number(n), 1);
		n = next;
	}
	number = alt_node_number(n);
	node_forget(v, number, 1);
	assert_int_equal(v->nodes, 1);
}

static void a_file_with_many_names_gives_them_all_back(void **state)
{
	struct alt_node *f = known(2, S_IFREG);

	for (int i = 0; i < 100; i++) {
		struct alt_node *d;
		char name[16];

		snprintf(name, sizeof name, "d%d", i);
		d = dir_in(v->root, name, 10 + i);
		assert_int_equal(node_name_bind(d, "link", f), 0);
		node_forget(v, alt_node_number(d), 1);
	}
	assert_int_equal(v->nodes, 102);
	node_forget(v, alt_node_number(f), 1);
	assert_int_equal(v->nodes, 1);
	assert_int_equal(v->name_count, 0);
}

/* ---- at once ---- */

#define ROUNDS 20000

static void *intern_main(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	for (int i = 0; i < ROUNDS; i++) {
		struct alt_node *n = intern_type(10 + rand_r(&seed) % 8, S_IFREG);
		uint64_t number = alt_node_number(n);
		char name[8], path[32];

		snprintf(name, sizeof name, "n%d", rand_r(&seed) % 8);
		node_remember(n, 1);
		node_name_bind(v->root, name, n);
		alt_node_path(n, path, sizeof path);
		alt_node_unref(n);
		if (rand_r(&seed) % 2)
			node_name_unbind(v->root, name);
		node_forget(v, number, 1);
	}
	return NULL;
}

static void lookups_and_forgets_of_the_same_nodes_race_and_the_counts_are_right(void **state)
{
	pthread_t t[4];

	for (uintptr_t i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, intern_main, (void *)(i + 1));
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(v->nodes, 1);
	assert_int_equal(v->name_count, 0);
	assert_int_equal(handed - forgotten, 1); /* the root's */
}

/* ---- many ---- */

static long resident_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	long total, pages = 0;

	if (!f || fscanf(f, "%ld %ld", &total, &pages) != 2)
		pages = 0;
	if (f)
		fclose(f);
	return pages * sysconf(_SC_PAGESIZE);
}

static int open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static void millions_of_nodes_need_no_descriptor_and_little_memory(void **state)
{
	const int many = getenv("ALTITUDE_LONG") ? MANY_LONG : MANY;
	uint64_t *numbers = calloc(many, sizeof *numbers);
	int descriptors = open_descriptors();
	long before, after;
	struct alt_node *d = NULL;
	char name[32], want[64];

	memset(numbers, 0xff, many * sizeof *numbers);
	before = resident_bytes();
	for (int i = 0; i < many; i++) {
		bool dir = i % 1000 == 0;
		struct alt_node *n = known(2 + i, dir ? S_IFDIR : S_IFREG);

		snprintf(name, sizeof name, "name-%d", i);
		node_name_bind(dir ? v->root : d, name, n);
		if (dir)
			d = n;
		numbers[i] = alt_node_number(n);
	}
	after = resident_bytes();
	if (after - before > (long)many * BYTES_EACH)
		fail_msg("%ld bytes a node", (after - before) / many);
	assert_int_equal(open_descriptors(), descriptors);
	assert_int_equal(v->nodes, many + 1);
	for (int i = many - 1; i > 0; i -= many / 10 + 1) {
		struct alt_node *n = node_get(v, numbers[i]);

		snprintf(want, sizeof want, "/name-%d/name-%d", i - i % 1000, i);
		expect_path(n, want);
		alt_node_unref(n);
	}
	for (int i = 0; i < many; i++)
		node_forget(v, numbers[i], 1);
	assert_int_equal(v->nodes, 1);
	assert_int_equal(v->name_count, 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* their allocators keep what is freed */
	if (resident_bytes() - before > (after - before) / 2)
		fail_msg("%ld bytes stay of %ld", resident_bytes() - before, after - before);
#endif
	free(numbers);
}

/* ---- files ---- */

static void a_file_has_a_number_of_its_own_and_holds_its_node(void **state)
{
	struct alt_node *n = known(7, S_IFREG);
	struct alt_file *f = file_new(n, O_RDWR), *g = file_new(n, O_RDONLY), *found;
	uint64_t number = f->number;

	assert_int_not_equal(f->number, g->number);
	assert_int_equal(alt_file_flags(f), O_RDWR);
	assert_ptr_equal(alt_file_node(f), n);
	node_forget(v, alt_node_number(n), 1);
	assert_int_equal(forgotten, 0);
	found = file_get(v, number);
	assert_ptr_equal(found, f);
	file_unref(found);
	file_unref(f);
	assert_null(file_get(v, number));
	assert_null(file_get(v, 0));
	assert_null(file_get(v, UINT64_MAX));
	f = file_new(n, 0);
	assert_int_not_equal(f->number, number);
	file_unref(f);
	file_unref(g);
	assert_int_equal(forgotten, 1);
}

static void files_left_open_are_released_at_the_end_of_the_volume(void **state)
{
	struct alt_node *n = known(7, S_IFREG), *d = known(8, S_IFDIR);

	file_new(n, 0);
	file_new(n, 0);
	file_new(d, 0)->directory = true;
	volume_free(v);
	assert_int_equal(releases, 3);
	assert_int_equal(handed, forgotten);
	assert_int_equal(begin(state), 0);
}

/* What a damaged file system, or a kernel gone mad, may say. */
static void nothing_stands_below_itself(void **state)
{
	struct alt_node *a = dir_in(v->root, "a", 2), *b = dir_in(a, "b", 3), *c = dir_in(b, "c", 4);

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
	struct alt_node *a = dir_in(v->root, "a", 2), *b = dir_in(a, "b", 3);

	assert_int_equal(node_name_bind(v->root, "b", b), 0);
	assert_int_equal(node_name_bind(b, "a", a), 0);
	expect_path(b, "/b");
	expect_path(a, "/b/a");
	node_forget(v, a->rec.number, 1);
	node_forget(v, b->rec.number, 1);
	assert_int_equal(v->nodes, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		test_case(a_path_is_the_names_up_to_the_root),
		test_case(what_moved_away_takes_no_other_along),
		test_case(what_changed_before_it_became_a_node_is_not_remembered),
		test_case(what_the_kernel_does_not_know_yet_is_told_again),
		test_case(what_the_kernel_was_never_told_of_is_not_told_again),
		test_case(a_node_waits_once_to_be_told_again),
		test_case(too_many_to_be_told_again_are_everything),
		test_case(everything_is_told_without_memory_too),
		test_case(nothing_stands_below_itself),
		test_case(a_directory_that_was_moved_unseen_loses_its_old_name),
		test_case(a_path_fits_to_the_byte_or_is_too_long),
		test_case(a_file_with_several_names_has_the_latest),
		test_case(the_end_of_a_file_is_not_told_of_a_directory),
		test_case(a_directory_taken_for_dead_is_found_again_as_another),
		test_case(a_name_that_goes_to_another_leaves_the_first),
		test_case(a_rename_moves_what_is_below),
		test_case(a_rename_over_another_takes_its_name),
		test_case(a_rename_of_what_was_never_looked_up_still_hits_its_target),
		test_case(an_exchange_swaps_two_names),
		test_case(a_rename_between_two_names_of_one_file_does_nothing),
		test_case(a_path_read_during_renames_of_ancestors_is_one_that_was),
		test_case(a_node_has_a_name_all_through_an_exchange),
		test_case(one_key_is_one_node),
		test_case(a_key_that_comes_again_is_another_node),
		test_case(what_is_made_this_moment_is_no_node_of_the_past),
		test_case(a_node_lives_until_it_is_forgotten_as_often_as_it_was_told),
		test_case(a_count_from_outside_is_not_trusted),
		test_case(a_number_is_not_used_twice),
		test_case(a_directory_stays_while_its_children_are_known),
		test_case(a_walk_has_each_name_that_stays),
		test_case(a_deep_chain_goes_without_recursion),
		test_case(a_file_with_many_names_gives_them_all_back),
		test_case(lookups_and_forgets_of_the_same_nodes_race_and_the_counts_are_right),
		test_case(millions_of_nodes_need_no_descriptor_and_little_memory),
		test_case(a_file_has_a_number_of_its_own_and_holds_its_node),
		test_case(files_left_open_are_released_at_the_end_of_the_volume),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
