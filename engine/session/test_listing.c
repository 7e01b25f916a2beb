/* SPDX-License-Identifier: MIT */
/* When listings bring attributes along: asked as the kernel asks, over the file system mem. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/stat.h>

#include "session/test_kernel.h"

#define FILES 200u
#define ROOM 32768u

static struct kernel k;
static uint64_t dir;

static const void *asked(uint32_t opcode, uint64_t node, const void *in, size_t size, const char *name, size_t expected)
{
	uint64_t u = k_send(&k, opcode, node, in, size, name, name ? strlen(name) + 1 : 0);

	assert_int_equal(k_wait(&k, u), 0);
	return k_body(&k, u, expected);
}

static void make(uint32_t opcode, uint64_t parent, const char *name, uint64_t *ret)
{
	struct fuse_mkdir_in directory = { .mode = 0755 };
	struct fuse_mknod_in file = { .mode = S_IFREG | 0644 };
	const struct fuse_entry_out *out = opcode == FUSE_MKDIR ?
		asked(opcode, parent, &directory, sizeof(directory), name, sizeof(*out)) :
		asked(opcode, parent, &file, sizeof(file), name, sizeof(*out));

	assert_non_null(out);
	if (ret)
		*ret = out->nodeid;
}

static int begin(void **state)
{
	struct fuse_init_in in = { .major = 7, .minor = 45, .flags = FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO };
	char name[16];

	if (k_begin(&k, "mem") < 0)
		return -1;
	asked(FUSE_INIT, 0, &in, sizeof(in), NULL, 0);
	make(FUSE_MKDIR, FUSE_ROOT_ID, "dir", &dir);
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "file%03u", i);
		make(FUSE_MKNOD, dir, name, NULL);
	}
	return 0;
}

static int end(void **state)
{
	return k_end(&k) ? 0 : -1;
}

static void look_up(unsigned count)
{
	char name[16];

	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "file%03u", i);
		asked(FUSE_LOOKUP, dir, NULL, 0, name, 0);
	}
}

struct listed { unsigned names, nodes; uint64_t next; };

/* One answer; the dots are not counted. */
static struct listed list(bool plus, uint64_t fh, uint64_t offset)
{
	struct fuse_read_in in = { .fh = fh, .offset = offset, .size = ROOM };
	uint64_t u = k_send(&k, plus ? FUSE_READDIRPLUS : FUSE_READDIR, dir, &in, sizeof(in), NULL, 0);
	struct listed seen = { .next = offset };
	size_t size;

	assert_int_equal(k_wait(&k, u), 0);
	assert_true(k.answers[u].size <= ROOM);
	for (const char *at = k.answers[u].body, *over = at + k.answers[u].size; at < over; at += size) {
		const struct fuse_direntplus *p = (const void *)at;
		const struct fuse_dirent *d = plus ? &p->dirent : (const void *)at;

		size = plus ? FUSE_DIRENTPLUS_SIZE(p) : FUSE_DIRENT_SIZE(d);
		assert_true(size <= (size_t)(over - at));
		seen.next = d->off;
		seen.names += d->name[0] != '.';
		seen.nodes += plus && p->entry_out.nodeid;
	}
	return seen;
}

static uint64_t open_dir(void)
{
	struct fuse_open_in in = { 0 };
	const struct fuse_open_out *out = asked(FUSE_OPENDIR, dir, &in, sizeof(in), NULL, sizeof(*out));

	assert_non_null(out);
	return out->fh;
}

static void close_dir(uint64_t fh)
{
	struct fuse_release_in in = { .fh = fh };

	asked(FUSE_RELEASEDIR, dir, &in, sizeof(in), NULL, 0);
}

/* To the end, as it is asked by a kernel that hears of no looks in between. Whether the first answer had attributes. */
static bool list_all(void)
{
	uint64_t fh = open_dir();
	struct listed first = list(true, fh, 0), more = first;
	unsigned names = first.names;

	while (more.names) {
		more = list(false, fh, more.next);
		names += more.names;
	}
	close_dir(fh);
	assert_int_equal(names, FILES);
	assert_true(!first.nodes || first.nodes == first.names);
	return first.nodes;
}

/* Names alone, and how many. */
static unsigned first_names(void)
{
	uint64_t fh = open_dir();
	struct listed first = list(true, fh, 0);

	assert_int_equal(first.nodes, 0);
	close_dir(fh);
	return first.names;
}

static void the_first_answer_is_a_few_names_alone(void **state)
{
	assert_in_range(first_names(), 1, FILES / 4);
}

/* A request less for each directory of those that have few enough. */
static void a_first_answer_grows_while_nobody_looks(void **state)
{
	unsigned before = 0, names;

	while ((names = first_names()) < FILES) {
		assert_true(names > before);
		before = names;
	}
	assert_false(list_all());
	look_up(FILES / 4 + 1);
	while (list_all())
		;
	assert_in_range(first_names(), 1, FILES / 2); /* small again, and this one twice as much */
}

static void who_looks_at_each_gets_the_rest_with_attributes(void **state)
{
	uint64_t fh = open_dir();
	struct listed first = list(true, fh, 0), more;

	look_up(first.names);
	more = list(true, fh, first.next);
	assert_in_range(more.names, FILES / 4, FILES);
	assert_int_equal(more.nodes, more.names);
	close_dir(fh);
	assert_true(list_all());
}

static void a_name_looked_up_here_and_there_changes_nothing(void **state)
{
	for (int i = 0; i < 20; i++) {
		assert_false(list_all());
		look_up(FILES / 4 - 1);
	}
}

static unsigned rich(void)
{
	unsigned count = 0;

	while (list_all())
		count++;
	return count;
}

static void names_that_are_looked_up_after_each_trial_put_off_the_next(void **state)
{
	unsigned before = 0, count;

	assert_false(list_all());
	look_up(FILES / 4 + 1);
	while ((count = rich()) < 64) {
		assert_true(count > before);
		before = count;
		look_up(FILES / 4 + 1);
	}
	/* Trials that fail bring it nearer again. */
	for (int i = 0; i < 10; i++)
		assert_false(list_all());
	look_up(FILES / 4 + 1);
	assert_in_range(rich(), 1, count - 1);
}

/* What the kernel did not take it does not know. */
static void a_listing_nobody_takes_counts_no_name(void **state)
{
	uint64_t fh = open_dir(), number;
	struct alt_node *n;

	make(FUSE_MKNOD, dir, "a", &number);
	n = node_get(k.volume, number);
	assert_non_null(n);
	assert_int_equal(list(true, fh, 2).nodes, FILES + 1);
	assert_int_equal(n->rec.lookups, 2);
	k.refuses = true;
	list(true, fh, 2);
	k.refuses = false;
	assert_int_equal(n->rec.lookups, 2);
	alt_node_unref(n);
	close_dir(fh);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_first_answer_is_a_few_names_alone, begin, end),
		cmocka_unit_test_setup_teardown(a_first_answer_grows_while_nobody_looks, begin, end),
		cmocka_unit_test_setup_teardown(who_looks_at_each_gets_the_rest_with_attributes, begin, end),
		cmocka_unit_test_setup_teardown(a_name_looked_up_here_and_there_changes_nothing, begin, end),
		cmocka_unit_test_setup_teardown(names_that_are_looked_up_after_each_trial_put_off_the_next, begin, end),
		cmocka_unit_test_setup_teardown(a_listing_nobody_takes_counts_no_name, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
