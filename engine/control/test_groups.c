/* SPDX-License-Identifier: MIT */
/* Two floors know the load order groups and may not ask each other: here is where they are compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "module/module.h"
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

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(the_registry_starts_groups_from_the_bottom_of_the_stack) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
