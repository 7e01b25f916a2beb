/* SPDX-License-Identifier: MIT */
/*
 * owns      a volume whose file system counts what it is handed and forgets
 * never     leaves tests
 * hands to  the tests of io
 */
#ifndef IO_TESTING_H
#define IO_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "io/io.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define T_FN static __attribute__((unused))

static struct alt_volume *v;
static _Atomic long handed, forgotten, releases;

T_FN int fs_mount(struct alt_volume *volume, const char *arg, struct alt_error *err)
{
	atomic_fetch_add(&handed, 1);
	alt_volume_set_root(volume, (struct alt_key){ .id = 1 }, &v);
	return 0;
}

T_FN void fs_forget(struct alt_volume *volume, struct alt_key key, void *data)
{
	atomic_fetch_add(&forgotten, 1);
}

T_FN int fs_release(struct alt_op *op)
{
	atomic_fetch_add(&releases, 1);
	return 0;
}

static const struct alt_filesystem_registration fs = {
	.size = sizeof fs, .name = "nodes", .mount = fs_mount, .forget = fs_forget,
	.ops = { [ALT_OP_RELEASE] = fs_release, [ALT_OP_RELEASEDIR] = fs_release },
};

/* In place of the stack. */
T_FN void serve(struct op *op)
{
	op_begin(op);
	op->pub.node->owner->ops[op->pub.code](&op->pub);
	op->done(op);
}

T_FN int begin(void **state)
{
	int r;

	handed = forgotten = releases = 0;
	r = volume_new("nodes:", &fs, NULL, NULL, &v, NULL);
	if (!r)
		v->run = serve;
	return r;
}

/* Whatever was interned is given back, once. */
T_FN int end(void **state)
{
	volume_free(v);
	if (handed != forgotten)
		fprintf(stderr, "handed %ld, forgotten %ld\n", handed, forgotten);
	return handed == forgotten ? 0 : -1;
}

#define test_case(name) cmocka_unit_test_setup_teardown(name, begin, end)

T_FN struct alt_node *intern_type(uint64_t id, uint32_t type)
{
	struct alt_entry e = { .key.id = id, .attr.mode = type | 0644, .data = &handed };

	atomic_fetch_add(&handed, 1);
	return node_intern(v, &e, &fs);
}

/* Known to the kernel once; the pointer is good until it is forgotten. */
T_FN struct alt_node *known(uint64_t id, uint32_t type)
{
	struct alt_node *n = intern_type(id, type);

	node_remember(n, 1);
	alt_node_unref(n);
	return n;
}

T_FN struct alt_node *dir_in(struct alt_node *parent, const char *name, uint64_t id)
{
	struct alt_node *n = known(id, S_IFDIR);

	assert_int_equal(node_name_bind(parent, name, n), 0);
	return n;
}

T_FN struct alt_node *file_in(struct alt_node *parent, const char *name, uint64_t id)
{
	struct alt_node *n = known(id, S_IFREG);

	assert_int_equal(node_name_bind(parent, name, n), 0);
	return n;
}

T_FN void expect_path(const struct alt_node *n, const char *want)
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

#endif
