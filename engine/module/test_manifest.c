/* SPDX-License-Identifier: MIT */
/* Manifests: every key, every complaint with its line, and the order in which a registry starts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <altitude/ntstatus.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "module/module.h"

static char dir[] = "/tmp/test_manifest-XXXXXX", path[64];
static struct alt_error err;

static int begin(void **state)
{
	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/m.ini", dir);
	return 0;
}

static int end(void **state)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -r '%s'", dir);
	return system(command);
}

static void put(const char *name, const void *text, size_t size)
{
	char file[128];
	FILE *f;

	snprintf(file, sizeof(file), "%s/%s", dir, name);
	f = fopen(file, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, size, f), size);
	assert_int_equal(fclose(f), 0);
}

static int parse_bytes(const void *text, size_t size, struct manifest **ret)
{
	err = (struct alt_error){ 0 };
	*ret = NULL;
	put("m.ini", text, size);
	return manifest_parse(path, ret, &err);
}

static struct manifest *parse_good(const char *text)
{
	struct manifest *m;

	if (parse_bytes(text, strlen(text), &m) < 0)
		fail_msg("%s\nin: %s", err.text, text);
	return m;
}

/* @said  what stands behind "PATH:" */
static void expect_bad(const char *text, const char *said)
{
	struct manifest *m;
	size_t head = strlen(path);

	if (parse_bytes(text, strlen(text), &m) == 0)
		fail_msg("taken: %s", text);
	assert_null(m);
	assert_int_equal(err.code, -EINVAL);
	assert_int_equal(err.status, STATUS_INVALID_PARAMETER);
	if (strncmp(err.text, path, head) || err.text[head] != ':' || strcmp(err.text + head + 1, said))
		fail_msg("said: %s\nnot: %s:%s\nof: %s", err.text, path, said, text);
}

/* ---- one manifest ---- */

static void every_key_is_read(void **state)
{
	struct manifest *m = parse_good("; a comment\n"
					"# another\n"
					"[module]\n"
					"Name = my-filter_2.0\n"
					"Module=mine.so\n"
					"Kind=filter\n"
					"Group=FSFilter Encryption\n"
					"Start=system\n"
					"Order=42\n"
					"DefaultInstance=low\n"
					"\n"
					"[instance high]\n"
					"Altitude=141000.25\n"
					"Flags=1\n"
					"[instance low]\n"
					"Altitude = 140000   ; inline\n"
					"Flags = 0x2\n"
					"[instance with blanks in its name]\n"
					"Altitude=.5\n");

	assert_string_equal(m->name, "my-filter_2.0");
	assert_string_equal(m->module, "mine.so");
	assert_string_equal(m->kind, "filter");
	assert_string_equal(m->group, "FSFilter Encryption");
	assert_string_equal(m->default_instance, "low");
	assert_int_equal(m->start, START_SYSTEM);
	assert_int_equal(m->order, 42);
	assert_int_equal(m->instance_count, 3);
	assert_string_equal(m->instances[0].name, "high");
	assert_string_equal(m->instances[0].altitude, "141000.25");
	assert_int_equal(m->instances[0].flags, MANIFEST_NO_AUTOMATIC);
	assert_string_equal(m->instances[1].name, "low");
	assert_string_equal(m->instances[1].altitude, "140000");
	assert_int_equal(m->instances[1].flags, MANIFEST_NO_MANUAL);
	assert_string_equal(m->instances[2].name, "with blanks in its name");
	assert_string_equal(m->instances[2].altitude, ".5");
	assert_int_equal(m->instances[2].flags, 0);
	manifest_free(m);
}

static void only_name_and_kind_are_needed(void **state)
{
	struct manifest *m = parse_good("[module]\nName=n\nKind=filesystem\n");

	assert_null(m->module);
	assert_null(m->group);
	assert_null(m->default_instance);
	assert_int_equal(m->start, START_DEMAND);
	assert_int_equal(m->order, 0);
	assert_int_equal(m->instance_count, 0);
	manifest_free(m);
	manifest_free(NULL);
}

static void start_types_and_kinds_are_words(void **state)
{
	static const char *const starts[] = { "boot", "System", "AUTO", "demand", "disabled" };
	static const char *const kinds[] = { "filter", "filesystem", "blockdev" };
	char text[128];

	for (int i = 0; i < 5; i++) {
		struct manifest *m;

		snprintf(text, sizeof(text), "[module]\nName=n\nKind=%s\nStart=%s\n", kinds[i % 3], starts[i]);
		m = parse_good(text);
		assert_int_equal(m->start, i);
		assert_string_equal(m->kind, kinds[i % 3]);
		manifest_free(m);
	}
}

static void sections_may_be_parted(void **state)
{
	struct manifest *m = parse_good("[module]\nName=b\n[instance i]\nFlags=3\n[module]\nKind=filter\n"
					"[instance i]\nAltitude=7\n");

	assert_string_equal(m->name, "b");
	assert_int_equal(m->instance_count, 1);
	assert_string_equal(m->instances[0].altitude, "7");
	assert_int_equal(m->instances[0].flags, 3);
	manifest_free(m);
}

#define HEAD "[module]\nName=n\nKind=filter\n"

static void a_bad_value_is_told_with_its_line(void **state)
{
	static const struct { const char *text, *said; } bad[] = {
		{ "[module]\nName=\n", "2: Name= in [module]: letters, digits, '_', '-' and '.' only" },
		{ "[module]\nName=a/b\n", "2: Name= in [module]: letters, digits, '_', '-' and '.' only" },
		{ "[module]\nName=.hidden\n", "2: Name= in [module]: letters, digits, '_', '-' and '.' only" },
		{ "[module]\nModule=../x.so\n", "2: Module= in [module]: a file name such as trace.so, without a directory" },
		{ "[module]\nModule=/tmp/x.so\n", "2: Module= in [module]: a file name such as trace.so, without a directory" },
		{ "[module]\n\n\nKind=driver\n", "4: Kind= in [module]: filter, filesystem or blockdev" },
		{ "[module]\nKind=Filter\n", "2: Kind= in [module]: filter, filesystem or blockdev" },
		{ HEAD "Start=3\n", "4: Start= in [module]: boot, system, auto, demand or disabled" },
		{ HEAD "Start=\n", "4: Start= in [module]: boot, system, auto, demand or disabled" },
		{ HEAD "Order=-1\n", "4: Order= in [module]: a number from 0 to 4294967295" },
		{ HEAD "Order=4294967296\n", "4: Order= in [module]: a number from 0 to 4294967295" },
		{ HEAD "Order=99999999999999999999999\n", "4: Order= in [module]: a number from 0 to 4294967295" },
		{ HEAD "Order=1x\n", "4: Order= in [module]: a number from 0 to 4294967295" },
		{ HEAD "Order=1\nOrder=x\n", "5: Order= in [module]: given twice" },
		{ HEAD "Name=n\n", "4: Name= in [module]: given twice" },
		{ HEAD "DefaultInstance=i\nDefaultInstance=j\n[instance i]\nAltitude=1\n", "5: DefaultInstance= in [module]: given twice" },
		{ HEAD "[instance i]\nAltitude=1\n[instance i]\nAltitude=2\n", "7: Altitude= in [instance i]: given twice" },
		{ HEAD "[instance i]\nFlags=1\nAltitude=1\nFlags=0\n", "7: Flags= in [instance i]: given twice" },
		{ HEAD "Altitude=1\n", "4: Altitude= in [module]: not known; see altitude(1), Manifests" },
		{ HEAD "name=n\n", "4: name= in [module]: not known; see altitude(1), Manifests" },
		{ HEAD "[instance i]\nAltitude=1.2.3\n",
		  "5: Altitude= in [instance i]: digits with at most one point, such as 370020.5" },
		{ HEAD "[instance i]\nAltitude=\n", "5: Altitude= in [instance i]: digits with at most one point, such as 370020.5" },
		{ HEAD "[instance i]\nAltitude=.\n", "5: Altitude= in [instance i]: digits with at most one point, such as 370020.5" },
		{ HEAD "[instance i]\nAltitude=-5\n", "5: Altitude= in [instance i]: digits with at most one point, such as 370020.5" },
		{ HEAD "[instance i]\nAltitude=1e3\n", "5: Altitude= in [instance i]: digits with at most one point, such as 370020.5" },
		{ HEAD "[instance i]\nAltitude=1\n[instance j]\nAltitude=x\n",
		  "7: Altitude= in [instance j]: digits with at most one point, such as 370020.5" },
		{ HEAD "[instance i]\nFlags=4\n", "5: Flags= in [instance i]: 0, 1 (no automatic attach), 2 (no manual attach) or 3" },
		{ HEAD "[instance i]\nFlags=no\n", "5: Flags= in [instance i]: 0, 1 (no automatic attach), 2 (no manual attach) or 3" },
		{ HEAD "[instance i]\nName=x\n", "5: Name= in [instance i]: not known; Altitude= and Flags= are" },
		{ HEAD "[other]\nA=1\n", "5: A= in [other]: no such section; [module] and [instance NAME] are" },
		{ HEAD "[instance ]\nA=1\n", "5: A= in [instance ]: no such section; [module] and [instance NAME] are" },
		{ "Name=n\n", "1: Name= in []: no such section; [module] and [instance NAME] are" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		expect_bad(bad[i].text, bad[i].said);
}

static void a_line_that_is_none_is_told(void **state)
{
	expect_bad("[module]\nName=n\nKind filter\n", "3: not of the form [section] or Key=value");
	expect_bad("[module\nName=n\n", "1: not of the form [section] or Key=value");
	expect_bad(HEAD "nonsense\nStart=now\n", "4: not of the form [section] or Key=value");
	expect_bad(HEAD "Start=now\nnonsense\n", "4: Start= in [module]: boot, system, auto, demand or disabled");
	/* An indented line belongs to the one above it. */
	expect_bad(HEAD "[instance i]\nAltitude=1\n  Flags=1\n", "6: not of the form [section] or Key=value");
	expect_bad("=\n[]]\nx\n", "1: = in []: no such section; [module] and [instance NAME] are");
}

static void what_only_the_whole_shows_is_told(void **state)
{
	expect_bad("", "1: [module] lacks Name=");
	expect_bad("[module]\nName=n\n", "1: [module] lacks Kind=");
	expect_bad("[module]\nKind=filter\n", "1: [module] lacks Name=");
	expect_bad(HEAD "[instance i]\nFlags=0\n", "1: [instance i] lacks Altitude=");
	expect_bad(HEAD "DefaultInstance=j\n[instance i]\nAltitude=1\n", "4: DefaultInstance=j has no [instance j]");
}

static void there_are_at_most_64_instances(void **state)
{
	static char text[8192] = HEAD;
	struct manifest *m;

	for (int i = 0; i < 64; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "[instance i%d]\nAltitude=%d\n", i, i);
	m = parse_good(text);
	assert_int_equal(m->instance_count, 64);
	manifest_free(m);
	strcat(text, "[instance one too many]\nAltitude=99\n");
	expect_bad(text, "133: Altitude= in [instance one too many]: too many instances (at most 64)");
}

/* A line is never taken for half of itself. */
static void a_long_line_is_read_whole_or_refused(void **state)
{
	char text[2048], name[1200];

	for (size_t len = 1; len < sizeof(name); len += 7) {
		struct manifest *m;

		memset(name, 'n', len);
		name[len] = 0;
		snprintf(text, sizeof(text), "[module]\nKind=filter\nName=%s\n", name);
		if (parse_bytes(text, strlen(text), &m) == 0) {
			assert_string_equal(m->name, name);
			manifest_free(m);
		} else {
			assert_true(len > 128);
			assert_int_equal(err.status, STATUS_INVALID_PARAMETER);
		}
	}
	for (size_t len = 1; len < sizeof(name); len += 3) {
		struct manifest *m;

		memset(name, '7', len);
		name[len] = 0;
		snprintf(text, sizeof(text), HEAD "[instance i]\nAltitude=%s\n", name);
		if (parse_bytes(text, strlen(text), &m) == 0) {
			assert_string_equal(m->instances[0].altitude, name);
			manifest_free(m);
		} else {
			assert_true(len > 150);
		}
	}
}

static void what_is_no_text_is_refused(void **state)
{
	static char big[64 * 1024 + 2];
	struct manifest *m;

	assert_int_equal(parse_bytes("[module]\nName=n\0\nKind=filter\n", 30, &m), -EINVAL);
	assert_non_null(strstr(err.text, "is no text of at most 64 KiB"));

	memset(big, '\n', sizeof(big));
	memcpy(big, HEAD, strlen(HEAD));
	assert_int_equal(parse_bytes(big, 64 * 1024, &m), 0);
	manifest_free(m);
	assert_int_equal(parse_bytes(big, 64 * 1024 + 1, &m), -EINVAL);
	assert_non_null(strstr(err.text, "is no text of at most 64 KiB"));
}

static void what_is_no_file_is_refused(void **state)
{
	struct manifest *m = NULL;

	err = (struct alt_error){ 0 };
	assert_int_equal(manifest_parse(path, &m, &err), -ENOENT);
	assert_non_null(strstr(err.text, path));

	err = (struct alt_error){ 0 };
	assert_int_equal(manifest_parse(dir, &m, &err), -EINVAL);
	assert_non_null(strstr(err.text, "is not a regular file"));

	/* One that would wait for a writer. */
	assert_int_equal(mkfifo(path, 0600), 0);
	err = (struct alt_error){ 0 };
	assert_int_equal(manifest_parse(path, &m, &err), -EINVAL);
	assert_non_null(strstr(err.text, "is not a regular file"));
	assert_null(m);
}

/* ---- the registry ---- */

static void put_module(const char *file, const char *name, const char *start, const char *group, int order)
{
	char text[256];
	int n = snprintf(text, sizeof(text), "[module]\nName=%s\nKind=filter\nStart=%s\nOrder=%d\n%s%s\n", name, start, order,
			 group ? "Group=" : "", group ? group : "");

	put(file, text, n);
}

static void expect_order(const char *want)
{
	struct manifest **list;
	char names[512] = "";
	size_t count;

	err = (struct alt_error){ 0 };
	if (registry_read(dir, &list, &count, &err) < 0)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < count; i++) {
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i ? " " : "", list[i]->name);
		manifest_free(list[i]);
	}
	free(list);
	assert_string_equal(names, want);
}

static void start_type_comes_before_group_and_group_before_order(void **state)
{
	put_module("1.ini", "demand", "demand", NULL, 0);
	put_module("2.ini", "boot-top", "boot", "FSFilter Top", 1);
	put_module("3.ini", "system-bottom", "system", "FSFilter Bottom", 9);
	put_module("4.ini", "boot-bottom-late", "boot", "FSFilter Bottom", 7);
	put_module("5.ini", "boot-bottom", "boot", "FSFilter Bottom", 6);
	put_module("6.ini", "boot-none", "boot", NULL, 0);
	put_module("7.ini", "auto-late", "auto", "FSFilter Bottom", 3);
	put_module("8.ini", "auto", "auto", "FSFilter Top", 2);
	put_module("9.ini", "disabled", "disabled", NULL, 0);
	put_module("a.ini", "system-encryption", "system", "FSFilter Encryption", 1);
	put_module("b.ini", "boot-unknown", "boot", "My Own Group", 1);
	expect_order("boot-bottom boot-bottom-late boot-top boot-none boot-unknown system-bottom system-encryption auto "
		     "auto-late demand disabled");
}

static void equal_orders_go_by_name_whatever_the_files_are_called(void **state)
{
	put_module("z.ini", "a", "auto", NULL, 5);
	put_module("y.ini", "b", "auto", NULL, 5);
	put_module("a.ini", "c", "auto", NULL, 5);
	put_module("m.ini", "first", "auto", NULL, 4);
	expect_order("first a b c");
}

static void what_is_no_manifest_is_left_alone(void **state)
{
	put("README", "not [ini", 8);
	put("x.ini~", "=", 1);
	put("x.ini.dpkg-old", "=", 1);
	put(".hidden.ini", "=", 1);
	put(".ini", "=", 1);
	put_module("x.ini", "x", "demand", NULL, 1);
	expect_order("x");
}

static void one_broken_manifest_is_named(void **state)
{
	struct manifest **list;
	size_t count;

	put_module("a.ini", "a", "demand", NULL, 1);
	put("b.ini", "[module]\nStart=now\n", 19);
	put_module("c.ini", "c", "demand", NULL, 1);
	err = (struct alt_error){ 0 };
	assert_int_equal(registry_read(dir, &list, &count, &err), -EINVAL);
	assert_non_null(strstr(err.text, "/b.ini:2: Start= in [module]: "));
}

static void two_manifests_of_one_name_are_told(void **state)
{
	struct manifest **list;
	size_t count;

	put_module("a.ini", "same", "demand", NULL, 1);
	put_module("b.ini", "other", "demand", NULL, 1);
	put_module("c.ini", "same", "boot", NULL, 2);
	err = (struct alt_error){ 0 };
	assert_int_equal(registry_read(dir, &list, &count, &err), -EINVAL);
	assert_non_null(strstr(err.text, "/c.ini: filter 'same' has another manifest, a.ini: remove one"));
}

static void no_registry_is_an_empty_one(void **state)
{
	struct manifest **list;
	size_t count = 9;

	assert_int_equal(registry_read("/proc/self/nothing/at/all", &list, &count, NULL), 0);
	assert_int_equal(count, 0);
	free(list);
	put("file", "", 0);
	snprintf(path, sizeof(path), "%s/file", dir);
	err = (struct alt_error){ 0 };
	assert_int_equal(registry_read(path, &list, &count, &err), -ENOTDIR);
	assert_non_null(strstr(err.text, "cannot read the registry"));
}

static void a_manifest_is_found_by_name_and_kind(void **state)
{
	struct manifest *m;

	put("1.ini", "[module]\nName=n\nKind=filesystem\nOrder=1\n", 40);
	put("2.ini", "[module]\nName=n\nKind=filter\nOrder=2\n", 36);
	assert_int_equal(setenv("ALTITUDE_REGISTRY", dir, 1), 0);
	assert_string_equal(registry_directory(), dir);
	assert_int_equal(manifest_find("n", ALT_MODULE_FILTER, &m, NULL), 0);
	assert_int_equal(m->order, 2);
	manifest_free(m);
	assert_int_equal(manifest_find("n", ALT_MODULE_FILESYSTEM, &m, NULL), 0);
	assert_int_equal(m->order, 1);
	manifest_free(m);
	assert_int_equal(manifest_find("n", ALT_MODULE_BLOCKDEV, &m, NULL), 0);
	assert_null(m);
	assert_int_equal(manifest_find("other", ALT_MODULE_FILTER, &m, NULL), 0);
	assert_null(m);
	unsetenv("ALTITUDE_REGISTRY");
}

#define in_dir(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		in_dir(every_key_is_read),
		in_dir(only_name_and_kind_are_needed),
		in_dir(start_types_and_kinds_are_words),
		in_dir(sections_may_be_parted),
		in_dir(a_bad_value_is_told_with_its_line),
		in_dir(a_line_that_is_none_is_told),
		in_dir(what_only_the_whole_shows_is_told),
		in_dir(there_are_at_most_64_instances),
		in_dir(a_long_line_is_read_whole_or_refused),
		in_dir(what_is_no_text_is_refused),
		in_dir(what_is_no_file_is_refused),
		in_dir(start_type_comes_before_group_and_group_before_order),
		in_dir(equal_orders_go_by_name_whatever_the_files_are_called),
		in_dir(what_is_no_manifest_is_left_alone),
		in_dir(one_broken_manifest_is_named),
		in_dir(two_manifests_of_one_name_are_told),
		in_dir(no_registry_is_an_empty_one),
		in_dir(a_manifest_is_found_by_name_and_kind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
