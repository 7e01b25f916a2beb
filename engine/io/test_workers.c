/* SPDX-License-Identifier: MIT */
/* Where workers run, and that every job is done once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "io/io.h"

#include <sched.h>
#include <sys/stat.h>

#define JOBS 200                 /* more than there can be workers */

static struct alt_volume *v;
static _Atomic long done;

static int fs_mount(struct alt_volume *volume, const char *arg, struct alt_error *err)
{
	alt_volume_set_root(volume, (struct alt_key){ .id = 1 }, NULL);
	return 0;
}

static const struct alt_filesystem_registration fs = { .size = sizeof fs, .name = "none", .mount = fs_mount };

static int begin(void **state)
{
	done = 0;
	return volume_new("none:", &fs, NULL, NULL, &v, NULL);
}

static int end(void **state)
{
	volume_free(v);
	return 0;
}

struct look { sem_t over; cpu_set_t cpus; int r; };

static void look_where(void *arg)
{
	struct look *l = arg;

	l->r = sched_getaffinity(0, sizeof l->cpus, &l->cpus);
	sem_post(&l->over);
}

/* As one of those that serve: pinned to the last of the CPUs it may use. */
static void pin_to_one(const cpu_set_t *all)
{
	cpu_set_t one;
	int cpu = CPU_SETSIZE;

	while (!CPU_ISSET(--cpu, all))
		;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
}

static void a_worker_may_run_where_its_volume_was_made(void **state)
{
	struct look l = { 0 };
	cpu_set_t before;

	assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
	if (CPU_COUNT(&before) < 2) {
		print_message("[  note    ] needs two CPUs: on one, all are where they were\n");
		skip();
	}
	sem_init(&l.over, 0, 0);
	pin_to_one(&before);
	assert_true(workers_give(v, look_where, &l));
	sched_setaffinity(0, sizeof before, &before);
	while (sem_wait(&l.over) < 0)
		;
	assert_int_equal(l.r, 0);
	assert_true(CPU_EQUAL(&l.cpus, &before));
	sem_destroy(&l.over);
}

static void count_one(void *arg)
{
	atomic_fetch_add(&done, 1);
}

static void the_end_of_a_volume_awaits_every_job_that_was_taken(void **state)
{
	for (int i = 0; i < JOBS; i++)
		assert_true(workers_give(v, count_one, NULL));
	volume_free(v);
	assert_int_equal(done, JOBS);
	assert_int_equal(begin(state), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_worker_may_run_where_its_volume_was_made, begin, end),
		cmocka_unit_test_setup_teardown(the_end_of_a_volume_awaits_every_job_that_was_taken, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
