/* SPDX-License-Identifier: MIT */
/* Nodes as the kernel knows them, and the numbers of nodes and files. */
#include "io/testing.h"

#include <dirent.h>
#include <fcntl.h>
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

static void one_key_is_one_node(void **state)
{
	struct alt_node *n = t_intern(7, S_IFREG), *again = t_intern(7, S_IFREG), *other = t_intern(7, S_IFDIR);

	assert_ptr_equal(n, again);
	assert_int_equal(t_forgotten, 1); /* the second reference to its data went back at once */
	assert_ptr_not_equal(n, other); /* the key came back as something else */
	assert_int_not_equal(alt_node_number(n), alt_node_number(other));
	alt_node_unref(n);
	alt_node_unref(again);
	alt_node_unref(other);
	assert_int_equal(t_forgotten, 3);
}

static struct alt_node *intern_again(uint64_t id, uint32_t generation, bool fresh)
{
	struct alt_entry e = { .key.id = id, .attr.mode = S_IFREG | 0644, .generation = generation, .fresh = fresh };

	return node_intern(v, &e, &t_fs);
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
		t_known(id, S_IFREG);
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
	struct alt_node *n = t_intern(7, S_IFREG);
	uint64_t number = alt_node_number(n);

	node_remember(n, 1);
	node_remember(n, 1);
	node_remember(n, 3);
	alt_node_unref(n);
	node_forget(v, number, 4);
	assert_int_equal(t_forgotten, 0);
	n = node_get(v, number);
	assert_non_null(n);
	node_forget(v, number, 1);
	assert_int_equal(t_forgotten, 0); /* we hold it */
	alt_node_unref(n);
	assert_int_equal(t_forgotten, 1);
	assert_null(node_get(v, number));
	node_forget(v, number, 1);
}

static void a_count_from_outside_is_not_trusted(void **state)
{
	struct alt_node *n = t_known(7, S_IFREG), *held = node_get(v, alt_node_number(n));
	uint64_t number = alt_node_number(n);

	node_forget(v, number, UINT64_MAX);
	node_forget(v, number, UINT64_MAX);
	node_forget(v, number, 1);
	assert_int_equal(t_forgotten, 0);
	node_remember(held, 1);
	alt_node_unref(held);
	assert_ptr_equal(node_get(v, number), n);
	alt_node_unref(n);
	node_forget(v, number, 1);
	assert_int_equal(t_forgotten, 1);
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
		struct alt_node *n = t_known(7, S_IFREG);

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
	struct alt_node *a = t_dir(v->root, "a", 2), *b = t_dir(a, "b", 3), *f = t_file(b, "f", 4);

	node_forget(v, alt_node_number(a), 1);
	node_forget(v, alt_node_number(b), 1);
	t_expect_path(f, "/a/b/f");
	assert_int_equal(t_forgotten, 0);
	node_forget(v, alt_node_number(f), 1);
	assert_int_equal(t_forgotten, 3);
	assert_int_equal(v->nodes, 1);
	assert_int_equal(v->name_count, 0);
}

static void a_deep_chain_goes_without_recursion(void **state)
{
	struct alt_node *n = v->root, *next;
	uint64_t number;

	for (int i = 0; i < 200000; i++) {
		next = t_known(i + 2, S_IFDIR);
		node_name_bind(n, "d", next);
		if (n != v->root)
			node_forget(v, alt_node_number(n), 1);
		n = next;
	}
	number = alt_node_number(n);
	node_forget(v, number, 1);
	assert_int_equal(v->nodes, 1);
}

/* ---- at once ---- */

#define ROUNDS 20000

static void *intern_main(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	for (int i = 0; i < ROUNDS; i++) {
		struct alt_node *n = t_intern(10 + rand_r(&seed) % 8, S_IFREG);
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
	assert_int_equal(t_handed - t_forgotten, 1); /* the root's */
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
		struct alt_node *n = t_known(2 + i, dir ? S_IFDIR : S_IFREG);

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
		t_expect_path(n, want);
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
	struct alt_node *n = t_known(7, S_IFREG);
	struct alt_file *f = file_new(n, O_RDWR), *g = file_new(n, O_RDONLY), *found;
	uint64_t number = f->number;

	assert_int_not_equal(f->number, g->number);
	assert_int_equal(alt_file_flags(f), O_RDWR);
	assert_ptr_equal(alt_file_node(f), n);
	node_forget(v, alt_node_number(n), 1);
	assert_int_equal(t_forgotten, 0);
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
	assert_int_equal(t_forgotten, 1);
}

static void files_left_open_are_released_at_the_end_of_the_volume(void **state)
{
	struct alt_node *n = t_known(7, S_IFREG), *d = t_known(8, S_IFDIR);

	file_new(n, 0);
	file_new(n, 0);
	file_new(d, 0)->directory = true;
	volume_free(v);
	assert_int_equal(t_releases, 3);
	assert_int_equal(t_handed, t_forgotten);
	assert_int_equal(t_begin(state), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		t_case(one_key_is_one_node),
		t_case(a_key_that_comes_again_is_another_node),
		t_case(what_is_made_this_moment_is_no_node_of_the_past),
		t_case(a_node_lives_until_it_is_forgotten_as_often_as_it_was_told),
		t_case(a_count_from_outside_is_not_trusted),
		t_case(a_number_is_not_used_twice),
		t_case(a_directory_stays_while_its_children_are_known),
		t_case(a_deep_chain_goes_without_recursion),
		t_case(lookups_and_forgets_of_the_same_nodes_race_and_the_counts_are_right),
		t_case(millions_of_nodes_need_no_descriptor_and_little_memory),
		t_case(a_file_has_a_number_of_its_own_and_holds_its_node),
		t_case(files_left_open_are_released_at_the_end_of_the_volume),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
