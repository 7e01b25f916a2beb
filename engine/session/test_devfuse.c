/* SPDX-License-Identifier: MIT */
/* A session's beginning and end, on descriptors that are no /dev/fuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/failing.h"
#include "session/internal.h"
#include "session/test_kernel.h"

#include <dlfcn.h>
#include <fcntl.h>

static _Atomic int threads, refused_thread; /* begun; the one that is not to be, 0: none */

#if FAILING
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	static int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

	if (!create)
		create = dlsym(RTLD_NEXT, "pthread_create");
	return atomic_fetch_add(&threads, 1) + 1 == atomic_load(&refused_thread) ? EAGAIN : create(thread, attr, fn, arg);
}
#endif

/* A volume without a session. */
static void begin(struct kernel *k)
{
	assert_int_equal(k_begin(k, "mem"), 0);
	session_free(k->session);
	k->session = NULL;
	k->volume->threads = 2;
}

static void a_session_ends_although_there_is_always_more_to_read(void **state)
{
	static struct kernel k;

	(void)state;
	begin(&k);
	assert_int_equal(session_start(k.volume, open("/dev/zero", O_RDWR | O_CLOEXEC), &k.session, NULL), 0);
	while (atomic_load(&k.session->taken) < 100)
		usleep(1000);
	assert_true(k_end(&k));
}

/* A notifier, two that serve, who looks after them, and the clock: all or none. The first can be missed: then all is asked for. */
static void a_session_does_not_begin_without_a_thread_that_it_needs(void **state)
{
	struct alt_error err = { 0 };
	static struct kernel k;
	int last;

	(void)state;
	if (!FAILING)
		skip();
	begin(&k);
	k.volume->timeout_ms = 1000;
	for (last = 0; last < 6; last++) {
		int fd = open("/dev/null", O_RDWR | O_CLOEXEC), r;

		threads = 0;
		refused_thread = last;
		r = session_start(k.volume, fd, &k.session, &err);
		if (r < 0) {
			assert_int_equal(r, -EAGAIN);
			assert_int_equal(fcntl(fd, F_GETFD), -1);
			k.session = NULL;
		}
		assert_int_equal(r, last < 4 ? 0 : -EAGAIN);
		session_free(k.session);
		k.session = NULL;
	}
	refused_thread = 0;
	assert_true(k_end(&k));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_session_ends_although_there_is_always_more_to_read),
		cmocka_unit_test(a_session_does_not_begin_without_a_thread_that_it_needs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
