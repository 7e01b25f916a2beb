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
static _Atomic long t_handed, t_forgotten, t_releases;

T_FN int t_mount(struct alt_volume *volume, const char *arg, struct alt_error *err)
{
	atomic_fetch_add(&t_handed, 1);
	alt_volume_set_root(volume, (struct alt_key){ .id = 1 }, &v);
	return 0;
}

T_FN void t_forget(struct alt_volume *volume, struct alt_key key, void *data)
{
	atomic_fetch_add(&t_forgotten, 1);
}

T_FN int t_release(struct alt_op *op)
{
	atomic_fetch_add(&t_releases, 1);
	return 0;
}

static const struct alt_filesystem_registration t_fs = {
	.size = sizeof t_fs, .name = "nodes", .mount = t_mount, .forget = t_forget,
	.ops = { [ALT_OP_RELEASE] = t_release, [ALT_OP_RELEASEDIR] = t_release },
};

/* In place of the stack. */
T_FN void t_serve(struct op *op)
{
	op_begin(op);
	op->pub.node->owner->ops[op->pub.code](&op->pub);
	op->done(op);
}

T_FN int t_begin(void **state)
{
	int r;

	t_handed = t_forgotten = t_releases = 0;
	r = volume_new("nodes:", &t_fs, NULL, NULL, &v, NULL);
	if (!r)
		v->run = t_serve;
	return r;
}

/* Whatever was interned is given back, once. */
T_FN int t_end(void **state)
{
	volume_free(v);
	if (t_handed != t_forgotten)
		fprintf(stderr, "handed %ld, forgotten %ld\n", t_handed, t_forgotten);
	return t_handed == t_forgotten ? 0 : -1;
}

#define t_case(name) cmocka_unit_test_setup_teardown(name, t_begin, t_end)

T_FN struct alt_node *t_intern(uint64_t id, uint32_t type)
{
	struct alt_entry e = { .key.id = id, .attr.mode = type | 0644, .data = &t_handed };

	atomic_fetch_add(&t_handed, 1);
	return node_intern(v, &e, &t_fs);
}

/* Known to the kernel once; the pointer is good until it is forgotten. */
T_FN struct alt_node *t_known(uint64_t id, uint32_t type)
{
	struct alt_node *n = t_intern(id, type);

	node_remember(n, 1);
	alt_node_unref(n);
	return n;
}

T_FN struct alt_node *t_dir(struct alt_node *parent, const char *name, uint64_t id)
{
	struct alt_node *n = t_known(id, S_IFDIR);

	assert_int_equal(node_name_bind(parent, name, n), 0);
	return n;
}

T_FN struct alt_node *t_file(struct alt_node *parent, const char *name, uint64_t id)
{
	struct alt_node *n = t_known(id, S_IFREG);

	assert_int_equal(node_name_bind(parent, name, n), 0);
	return n;
}

T_FN void t_expect_path(const struct alt_node *n, const char *want)
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
