/* SPDX-License-Identifier: MIT */
/* A session's beginning and end, on descriptors that are no /dev/fuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "session/internal.h"
#include "session/test_kernel.h"

#include <fcntl.h>

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_session_ends_although_there_is_always_more_to_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
