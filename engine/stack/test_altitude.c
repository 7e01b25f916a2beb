/* SPDX-License-Identifier: MIT */
#include "stack/testing.h"

static void expect_above(const char *high, const char *low)
{
	if (altitude_compare(high, low) != 1 || altitude_compare(low, high) != -1)
		fail_msg("%s is not above %s", high, low);
}

static void expect_same(const char *a, const char *b)
{
	if (altitude_compare(a, b) || altitude_compare(b, a))
		fail_msg("%s is not %s", a, b);
}

static void altitudes_compare_as_numbers(void **state)
{
	expect_above("03333", "100.123456");
	expect_above("100", "99");
	expect_above("325000.3", "325000");
	expect_above("325001", "325000.3");
	expect_above("325000.3", "325000.29999999999999999999999999");
	expect_above("0.1", "0.01");
	expect_above("1", "0.99999999999999999999999999999999999999999");
	expect_above("10", "9.9");
	expect_above("389998.99", "389998.9");
	expect_above(".5", "0");
}

static void zeros_that_carry_no_weight_make_no_difference(void **state)
{
	expect_same("100", "0100.0");
	expect_same("100", "100.");
	expect_same("0", "000.000");
	expect_same(".5", "0.50");
	expect_same("325000.30", "325000.3");
	expect_above("0.10", "0.01");
}

/* 18014398509481985 is no double: it would be rounded to ...984. */
static void altitudes_are_never_rounded(void **state)
{
	char a[256], b[256];

	expect_above("18014398509481985", "18014398509481984");
	expect_above("0.10000000000000000000000000000000000002", "0.1");
	for (size_t digits = 1; digits <= 255; digits++) {
		memset(a, '9', digits);
		a[digits] = 0;
		memcpy(b, a, digits + 1);
		expect_same(a, b);
		b[digits - 1] = '8';
		expect_above(a, b);
		if (digits < 3)
			continue;
		a[1] = b[1] = '.';
		expect_above(a, b);
		a[1] = b[1] = '9';
	}
	memset(a, '9', 254);
	strcpy(b, "1");
	memset(b + 1, '0', 254);
	b[255] = a[254] = 0;
	expect_above(b, a);
}

/* On any two of these, order is a number's; so it is one order for all. */
static void comparing_is_an_order(void **state)
{
	static const char *const rising[] = {
		"0", "0.000000000000000000001", "0.5", "1", "9", "9.09", "9.1", "10", "99.999", "100.123456", "3333",
		"19999", "20000", "140000", "149999.99999", "328010", "385250.5", "409800", "429999", "99999999999999999999",
	};
	int count = sizeof rising / sizeof *rising;

	for (int i = 0; i < count; i++)
		for (int j = 0; j < count; j++)
			assert_int_equal(altitude_compare(rising[i], rising[j]), (i > j) - (i < j));
}

static void only_decimals_are_valid(void **state)
{
	static const char *const good[] = { "0", "1", "370020", "325000.3", "00.00", ".5", "5." };
	static const char *const bad[] = { "", ".", "..", "1.1.1", "-1", "+1", " 1", "1 ", "1\n", "1e3", "0x1", "1,0", "nan", "١" };
	char s[300];

	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		assert_true(altitude_valid(good[i]));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(altitude_valid(bad[i]));
	memset(s, '7', sizeof s);
	s[255] = 0;
	assert_true(altitude_valid(s));
	s[255] = '7';
	s[256] = 0;
	assert_false(altitude_valid(s));
}

static void groups_are_ranges_from_top_to_bottom_without_overlap(void **state)
{
	uint32_t above = UINT32_MAX;
	int count = 0;

	for (const struct load_order_group *g = load_order_groups; g->name; g++, count++) {
		assert_true(g->low <= g->high);
		assert_true(g->high < above);
		assert_non_null(g->purpose);
		assert_ptr_equal(group_find(g->name), g);
		above = g->low;
	}
	assert_int_equal(count, 24);
	assert_null(group_find("FSFilter Nonsense"));
	assert_null(group_find(""));
}

static void an_altitude_belongs_to_the_group_of_its_range(void **state)
{
	static const struct { const char *altitude, *group; } rows[] = {
		{ "429999", "Filter" }, { "430000", NULL }, { "409800", "FSFilter Top" }, { "410000", NULL },
		{ "392000", "FSFilter Security Monitor" }, { "385250.5", "FSFilter Activity Monitor" },
		{ "389999.999", "FSFilter Activity Monitor" }, { "390000", NULL }, { "328010", "FSFilter Anti-Virus" },
		{ "265000", "FSFilter Content Screener" }, { "189800", "FSFilter HSM" }, { "175000.9", "FSFilter Imaging" },
		{ "175001", NULL }, { "141100", "FSFilter Encryption" }, { "0000149999", "FSFilter Encryption" },
		{ "135000", "FSFilter Virtualization" }, { "46000", "FSFilter Bottom" }, { "40500", "FSFilter Bottom" },
		{ "30000", NULL }, { "19999.9", "FSFilter Infrastructure" }, { "0", "FSFilter Infrastructure" },
		{ ".5", "FSFilter Infrastructure" }, { "9999999999999999999999", NULL }, { "000000000000370020", "FSFilter Activity Monitor" },
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct load_order_group *g = group_of_altitude(rows[i].altitude);

		if (!g != !rows[i].group || (g && strcmp(g->name, rows[i].group)))
			fail_msg("%s: %s", rows[i].altitude, g ? g->name : "no group");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(altitudes_compare_as_numbers),
		cmocka_unit_test(zeros_that_carry_no_weight_make_no_difference),
		cmocka_unit_test(altitudes_are_never_rounded),
		cmocka_unit_test(comparing_is_an_order),
		cmocka_unit_test(only_decimals_are_valid),
		cmocka_unit_test(groups_are_ranges_from_top_to_bottom_without_overlap),
		cmocka_unit_test(an_altitude_belongs_to_the_group_of_its_range),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
