/* SPDX-License-Identifier: MIT */
/* Two floors know the load order groups and may not ask each other: here is where they are compared; and manifests with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/lint.h"
#include "stack/stack.h"

/* A manifest a group, in an order that is neither; they start from the bottom of the stack to its top. */
static void the_registry_starts_groups_from_the_bottom_of_the_stack(void **state)
{
	char dir[] = "/tmp/test_groups-XXXXXX", path[128];
	size_t groups = 0, count;
	struct manifest **list;

	while (load_order_groups[groups].name)
		groups++;
	assert_true(groups > 15);
	assert_non_null(mkdtemp(dir));
	for (size_t i = 0; i < groups; i++) {
		FILE *f;

		snprintf(path, sizeof(path), "%s/%zu.ini", dir, i * 7 % groups);
		f = fopen(path, "w");
		assert_non_null(f);
		fprintf(f, "[module]\nName=n%zu\nKind=filter\nStart=boot\nOrder=%zu\nGroup=%s\n", i * 5 % groups, i * 3 % groups,
			load_order_groups[i].name);
		fclose(f);
	}
	assert_int_equal(registry_read(dir, &list, &count, NULL), 0);
	assert_int_equal(count, groups);
	for (size_t i = 0; i < count; i++) {
		assert_string_equal(list[i]->group, load_order_groups[groups - 1 - i].name);
		manifest_free(list[i]);
		snprintf(path, sizeof(path), "%s/%zu.ini", dir, i);
		unlink(path);
	}
	free(list);
	assert_int_equal(rmdir(dir), 0);
}

/* ---- what a manifest cannot mean ---- */

static char said[1024];

static void say(void *arg, const char *text)
{
	strncat(said, text, sizeof said - strlen(said) - 1);
	strncat(said, "\n", sizeof said - strlen(said) - 1);
}

/* @text of a manifest; "" when nothing is said of it. */
static const char *lint(const char *text)
{
	char path[] = "/tmp/test_lint-XXXXXX";
	int fd = mkstemp(path), count;
	struct manifest *m;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	assert_int_equal(manifest_parse(path, &m, NULL), 0);
	unlink(path);
	*said = 0;
	count = manifest_lint(m, say, NULL);
	assert_int_equal(count > 0, *said != 0);
	manifest_free(m);
	return said;
}

#define ROT "[module]\nName=rot\nKind=filter\nDefaultInstance=one\n"
#define ENCRYPTS ROT "Group=FSFilter Encryption\n"

static void a_manifest_whose_altitude_is_in_its_group_is_left_alone(void **state)
{
	assert_string_equal(lint(ENCRYPTS "[instance one]\nAltitude=140000\n[instance two]\nAltitude=149999.9999\n"), "");
	assert_string_equal(lint(ENCRYPTS "[instance one]\nAltitude=000141000.50\n"), "");
	assert_string_equal(lint(ROT "[instance one]\nAltitude=5\n"), ""); /* names no group */
	assert_string_equal(lint("[module]\nName=fs\nKind=filesystem\nGroup=Any\n"), "");
}

static void an_altitude_outside_of_the_group_is_told(void **state)
{
	assert_string_equal(lint(ENCRYPTS "[instance one]\nAltitude=141000\n[instance two]\nAltitude=150000\n"),
			    "manifest of filter 'rot': altitude 150000 of instance 'two' is outside of group 'FSFilter Encryption' "
			    "(140000-149999)\n");
	assert_non_null(strstr(lint(ENCRYPTS "[instance one]\nAltitude=139999.9\n"), "altitude 139999.9 of instance 'one' is outside"));
	assert_non_null(strstr(lint(ENCRYPTS "[instance one]\nAltitude=1410000000000000000000\n"), "is outside"));
}

static void a_group_that_is_none_is_told(void **state)
{
	assert_string_equal(lint(ROT "Group=FSFilter Encrypton\n[instance one]\nAltitude=141000\n"),
			    "manifest of filter 'rot': there is no group 'FSFilter Encrypton'; see 'altitude groups'\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_registry_starts_groups_from_the_bottom_of_the_stack),
		cmocka_unit_test(a_manifest_whose_altitude_is_in_its_group_is_left_alone),
		cmocka_unit_test(an_altitude_outside_of_the_group_is_told),
		cmocka_unit_test(a_group_that_is_none_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
