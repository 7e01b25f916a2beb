/* SPDX-License-Identifier: MIT */
/* A server that begins: each allocation on its way fails once, and what the registry demands is never left out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/failing.h"
#include "control/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char registry[] = "/tmp/altitude-launch-XXXXXX", file[64];

/* The second is in the way of the first: whoever attaches both is told. */
static const char manifest[] = "[module]\nName=null\nKind=filter\nStart=boot\n"
			       "[instance one]\nAltitude=5\n[instance two]\nAltitude=05.0\n";

static int begin(void **state)
{
	FILE *f;

	(void)state;
	if (!mkdtemp(registry) || setenv("ALTITUDE_REGISTRY", registry, 1))
		return -1;
	snprintf(file, sizeof file, "%s/null.ini", registry);
	f = fopen(file, "we");
	return f && fputs(manifest, f) >= 0 ? fclose(f) : -1;
}

static int end(void **state)
{
	(void)state;
	return unlink(file) | rmdir(registry);
}

/* No volume is mounted: its place is none. */
static int open_and_fail(struct alt_error *err)
{
	static struct server s;
	struct server_plan plan = {
		.filesystem = "mem", .arg = "", .target = "/proc/self/nothing", .options = options_parse("", ','),
	};
	int r;

	*err = (struct alt_error){ 0 };
	assert_non_null(plan.options);
	counted = 0;
	armed = true;
	r = server_open(&s, &plan, err);
	armed = false;
	return r;
}

static void a_guard_is_not_left_out_without_memory(void **state)
{
	struct alt_error err;
	long before;

	(void)state;
	if (!FAILING)
		skip();
	for (int row = 0; row < 3; row++) {
		many = row == 0 ? 0 : row == 1 ? 1 : 4;
		for (first = 0; first >= 0; first = !row || counted <= first ? -1 : first + 1) {
			assert_true(open_and_fail(&err) < 0); /* libc keeps why a module did not load, until the next */
			before = live;
			assert_true(open_and_fail(&err) < 0);
			if (strstr(err.text, "/proc/self/nothing"))
				fail_msg("allocation %ld of %ld failed, and only the mounting point was in the way: %s", first, many, err.text);
			if (live > before)
				fail_msg("allocation %ld of %ld failed: %ld pieces are left", first, many, live - before);
			if (!row)
				assert_non_null(strstr(err.text, "filter 'null' (start type boot or system) does not start"));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guard_is_not_left_out_without_memory),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
