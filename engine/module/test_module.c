/* SPDX-License-Identifier: MIT */
/* Modules in memory: who holds one is said to whoever is in its way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <altitude/ntstatus.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* ---- files that are no modules of this program ---- */

static char place[] = "/tmp/altitude-module-XXXXXX", file[64], *good;
static size_t good_size;

static int begin(void **state)
{
	char name[PATH_MAX];
	FILE *f;

	snprintf(name, sizeof(name), "%s/null.so", getenv("ALTITUDE_MODULE_PATH"));
	f = fopen(name, "re");
	if (!f || !mkdtemp(place) || !(good = malloc(1 << 20)))
		return -1;
	snprintf(file, sizeof(file), "%s/odd.so", place);
	good_size = fread(good, 1, 1 << 20, f);
	return fclose(f);
}

static int end(void **state)
{
	free(good);
	return rmdir(place);
}

/* One line that names the file and says @what; nothing is left. */
static void expect_refused(const char *what)
{
	struct module *m = NULL;

	assert_true(load(file, ALT_MODULE_FILTER, &m) < 0);
	assert_null(m);
	assert_null(strchr(err.text, '\n'));
	if (!strstr(err.text, file) || !strstr(err.text, what))
		fail_msg("said: %s\nnot: %s", err.text, what);
	assert_int_equal(remove(file), 0);
}

static void put(size_t size)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, good, size), size);
	close(fd);
}

static void what_is_no_module_is_refused_in_one_line(void **state)
{
	ElfW(Ehdr) *head = (ElfW(Ehdr) *)good, was = *head;

	assert_int_equal(mkdir(file, 0755), 0);
	expect_refused("is not a regular file");
	assert_int_equal(mkfifo(file, 0644), 0);
	expect_refused("is not a regular file");
	put(0);
	expect_refused("is no shared object");
	put(sizeof(*head) - 1);
	expect_refused("is no shared object");
	put(sizeof(*head));
	expect_refused("is cut off");
	put(good_size / 4);
	expect_refused("is cut off");
	head->e_machine = head->e_machine == EM_AARCH64 ? EM_X86_64 : EM_AARCH64;
	put(good_size);
	expect_refused("is no shared object of this machine");
	*head = was;
	head->e_ident[EI_DATA] = ELFDATA2LSB + ELFDATA2MSB - head->e_ident[EI_DATA];
	put(good_size);
	expect_refused("is no shared object of this machine");
	*head = was;
	head->e_type = ET_EXEC;
	put(good_size);
	expect_refused("is no shared object of this machine");
	*head = was;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_module_is_loaded_once),
		cmocka_unit_test(a_held_module_stays_and_its_holders_are_named),
		cmocka_unit_test(an_unload_may_be_asked_for_again),
		cmocka_unit_test(what_lies_in_a_module_is_known_to_be_its),
		cmocka_unit_test(what_cannot_be_loaded_leaves_nothing),
		cmocka_unit_test(what_is_no_module_is_refused_in_one_line),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
