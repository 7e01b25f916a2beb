/* SPDX-License-Identifier: MIT */
/* Reports: who is asked, in which order, and that nobody is kept waiting by one who tells. */
#include "stack/testing.h"

struct text { struct alt_report to; char all[512]; };

static void line_keep(struct alt_report *to, const char *line)
{
	struct text *t = (struct text *)to;
	size_t len = strlen(t->all);

	snprintf(t->all + len, sizeof t->all - len, "%s;", line);
}

static void (*on_report)(struct alt_instance *in);

static void tell(struct alt_instance *in, struct alt_report *to)
{
	alt_report_line(to, "%s %d", alt_instance_name(in), 7);
	if (on_report)
		on_report(in);
}

static const struct alt_filter_registration tells = {
	.size = sizeof tells,
	.name = "tells",
	.teardown_start = t_teardown_start,
	.teardown_complete = t_teardown_complete,
	.stats = tell,
};

static int begin(void **state)
{
	on_report = NULL;
	return t_begin(state) || t_attach_as(&tells, "B", "200") || t_attach("L", "300") || t_attach_as(&tells, "A", "400");
}

#define case2(name) cmocka_unit_test_setup_teardown(name, begin, t_end)

static void each_that_tells_is_asked_from_top_to_bottom(void **state)
{
	struct text t = { { line_keep }, "" };

	assert_int_equal(stack_report(t_volume, false, &t.to), 2);
	assert_string_equal(t.all, "[A];A 7;[B];B 7;");
	assert_int_equal(stack_report(t_volume, true, &t.to), 0);
}

static void a_line_is_as_long_as_it_is(void **state)
{
	struct text t = { { line_keep }, "" };

	alt_report_line(&t.to, "%300s", "x");
	assert_int_equal(strlen(t.all), 301);
}

static void look_at_the_lock(struct alt_instance *in)
{
	if (!pthread_mutex_trylock(&t_volume->sv->lock))
		pthread_mutex_unlock(&t_volume->sv->lock);
	else
		t_log("locked", "");
}

static void the_list_of_instances_is_free_while_one_tells(void **state)
{
	struct text t = { { line_keep }, "" };

	on_report = look_at_the_lock;
	t_logged();
	assert_int_equal(stack_report(t_volume, false, &t.to), 2);
	assert_string_equal(t_logged(), "");
}

static pthread_t detacher;

static void *detach_main(void *arg)
{
	t_detach("A");
	return NULL;
}

static void have_it_detached(struct alt_instance *in)
{
	if (*alt_instance_name(in) != 'A')
		return;
	if (pthread_create(&detacher, NULL, detach_main, NULL))
		abort();
	t_until(&t_script('A')->starts, 1);
	t_log("told", "");
}

static void teardown_complete_waits_for_one_who_tells(void **state)
{
	struct text t = { { line_keep }, "" };

	on_report = have_it_detached;
	t_logged();
	assert_int_equal(stack_report(t_volume, false, &t.to), 2);
	pthread_join(detacher, NULL);
	assert_string_equal(t_logged(), "startA told completeA");
	assert_int_equal(stack_report(t_volume, false, &t.to), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		case2(each_that_tells_is_asked_from_top_to_bottom),
		case2(a_line_is_as_long_as_it_is),
		case2(the_list_of_instances_is_free_while_one_tells),
		case2(teardown_complete_waits_for_one_who_tells),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
