/* SPDX-License-Identifier: MIT */
/* Modules in memory: who holds one is said to whoever is in its way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <altitude/ntstatus.h>
#include <errno.h>
#include <string.h>

#include "module/module.h"

static struct alt_error err;

static int load(const char *name, enum alt_module_kind kind, struct module **ret)
{
	err = (struct alt_error){ 0 };
	return module_load(name, kind, ret, &err);
}

static struct module *loaded(void)
{
	struct module *m = NULL;

	if (load("null", ALT_MODULE_FILTER, &m) < 0)
		fail_msg("%s", err.text);
	return m;
}

static int unload(struct module *m)
{
	err = (struct alt_error){ 0 };
	return module_unload(m, &err);
}

static void a_module_is_loaded_once(void **state)
{
	struct module *m = loaded(), *other = NULL;

	assert_string_equal(module_name(m), "null");
	assert_int_equal(module_state(m), MODULE_REGISTERED);
	assert_ptr_equal(module_find("null", ALT_MODULE_FILTER), m);
	assert_null(module_find("null", ALT_MODULE_FILESYSTEM));
	assert_true(load("null", ALT_MODULE_FILTER, &other) < 0);
	assert_int_equal(err.status, STATUS_IMAGE_ALREADY_LOADED);
	assert_null(other);
	assert_int_equal(unload(m), 0);
	assert_null(module_find("null", ALT_MODULE_FILTER));
}

static void a_held_module_stays_and_its_holders_are_named(void **state)
{
	struct module *m = loaded(), *other = NULL;

	module_hold(m, "a message that waits");
	module_hold(m, "context of 'x'");
	module_hold(m, "context of 'x'");
	assert_int_equal(unload(m), -EBUSY);
	assert_non_null(strstr(err.text, "a message that waits"));
	assert_int_equal(module_state(m), MODULE_UNLOADING);
	assert_null(module_find("null", ALT_MODULE_FILTER)); /* nobody new may use it */

	assert_int_equal(load("null", ALT_MODULE_FILTER, &other), -EBUSY);
	assert_int_equal(err.status, STATUS_DRIVER_FAILED_PRIOR_UNLOAD);
	assert_non_null(strstr(err.text, "a message that waits"));
	assert_non_null(strstr(err.text, "context of 'x'"));

	module_release(m, "a message that waits");
	module_release(m, "context of 'x'");
	assert_int_equal(load("null", ALT_MODULE_FILTER, &other), -EBUSY);
	assert_null(strstr(err.text, "a message that waits"));
	assert_non_null(strstr(err.text, "context of 'x'"));

	/* Who released it last may have stood in its code: it leaves when its name is wanted. */
	module_release(m, "context of 'x'");
	assert_int_equal(module_state(m), MODULE_UNLOADING);
	m = loaded();
	assert_int_equal(module_state(m), MODULE_REGISTERED);
	assert_int_equal(unload(m), 0);
}

static void an_unload_may_be_asked_for_again(void **state)
{
	struct module *m = loaded();

	module_hold(m, "somebody");
	assert_int_equal(unload(m), -EBUSY);
	assert_int_equal(unload(m), -EBUSY);
	module_release(m, "somebody");
	module_release(m, "somebody else");
	assert_int_equal(unload(m), 0);
}

static void what_lies_in_a_module_is_known_to_be_its(void **state)
{
	struct module *m = loaded();
	const void *inside = module_descriptor(m)->registration;

	assert_ptr_equal(module_of(module_descriptor(m)), m);
	assert_ptr_equal(module_of(inside), m);
	assert_null(module_of((const void *)unload));
	assert_null(module_of(&err));
	assert_null(module_of(state));
	assert_null(module_of(NULL));
	assert_int_equal(unload(m), 0);
	assert_null(module_of(inside));
	module_hold(NULL, "nobody");
	module_release(NULL, "nobody");
}

static void what_cannot_be_loaded_leaves_nothing(void **state)
{
	struct module *m = NULL;

	for (int i = 0; i < 3; i++) {
		assert_int_equal(load("no-such-module", ALT_MODULE_FILTER, &m), -ENOENT);
		assert_int_equal(err.status, STATUS_OBJECT_NAME_NOT_FOUND);
		assert_int_equal(load("null", ALT_MODULE_FILESYSTEM, &m), -EINVAL);
		assert_non_null(strstr(err.text, "is a filter, not a file system"));
		assert_int_equal(load("", ALT_MODULE_FILTER, &m), -EINVAL);
		assert_null(m);
	}
	assert_int_equal(unload(loaded()), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_module_is_loaded_once),
		cmocka_unit_test(a_held_module_stays_and_its_holders_are_named),
		cmocka_unit_test(an_unload_may_be_asked_for_again),
		cmocka_unit_test(what_lies_in_a_module_is_known_to_be_its),
		cmocka_unit_test(what_cannot_be_loaded_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
