/* SPDX-License-Identifier: MIT */
/* A server that begins: each allocation on its way fails once, and what the registry demands is never left out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/failing.h"
#include "control/control.h"
#include "module/module.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static char registry[] = "/tmp/altitude-launch-XXXXXX", file[64];

/* The second is in the way of the first: whoever attaches both is told. */
static const char manifest[] = "[module]\nName=null\nKind=filter\nStart=boot\n"
			       "[instance one]\nAltitude=5\n[instance two]\nAltitude=05.0\n";

static int begin(void **state)
{
	FILE *f;

	(void)state;
	if (!mkdtemp(registry) || setenv("ALTITUDE_REGISTRY", registry, 1))
		return -1;
	snprintf(file, sizeof file, "%s/null.ini", registry);
	f = fopen(file, "we");
	return f && fputs(manifest, f) >= 0 ? fclose(f) : -1;
}

static int end(void **state)
{
	(void)state;
	return unlink(file) | rmdir(registry);
}

/* No volume is mounted: its place is none. */
static int open_and_fail(struct alt_error *err)
{
	static struct server s;
	struct server_plan plan = {
		.filesystem = "mem", .arg = "", .target = "/proc/self/nothing", .options = options_parse("", ','),
	};
	int r;

	*err = (struct alt_error){ 0 };
	assert_non_null(plan.options);
	counted = 0;
	armed = true;
	r = server_open(&s, &plan, err);
	armed = false;
	return r;
}

static void a_guard_is_not_left_out_without_memory(void **state)
{
	struct alt_error err;
	long before;

	(void)state;
	if (!FAILING)
		skip();
	for (int row = 0; row < 3; row++) {
		many = row == 0 ? 0 : row == 1 ? 1 : 4;
		for (first = 0; first >= 0; first = !row || counted <= first ? -1 : first + 1) {
			assert_true(open_and_fail(&err) < 0); /* libc keeps why a module did not load, until the next */
			before = live;
			assert_true(open_and_fail(&err) < 0);
			if (strstr(err.text, "/proc/self/nothing"))
				fail_msg("allocation %ld of %ld failed, and only the mounting point was in the way: %s", first, many, err.text);
			if (live > before)
				fail_msg("allocation %ld of %ld failed: %ld pieces are left", first, many, live - before);
			if (!row)
				assert_non_null(strstr(err.text, "filter 'null' (start type boot or system) does not start"));
		}
	}
}

/* ---- the control socket ---- */

static char runtime[] = "/tmp/altitude-launch-XXXXXX";
static struct server serving;

static _Atomic bool none_left;   /* no descriptor */
static _Atomic int refusals;

int accept4(int fd, struct sockaddr *a, socklen_t *size, int flags)
{
	if (!atomic_load(&none_left))
		return syscall(SYS_accept4, fd, a, size, flags);
	atomic_fetch_add(&refusals, 1);
	errno = EMFILE;
	return -1;
}

static int serve_begin(void **state)
{
	struct alt_error err = { 0 };
	struct server *s = &serving;

	(void)state;
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->change, NULL);
	if (!mkdtemp(runtime) || setenv("ALTITUDE_RUNTIME", runtime, 1) ||
	    module_load("mem", ALT_MODULE_FILESYSTEM, &s->module, &err) < 0 ||
	    volume_new("mem:\xff", module_descriptor(s->module)->registration, "", NULL, &s->volume, &err) < 0 ||
	    stack_volume_init(s->volume) < 0 || control_start(s, &err) < 0)
		return -1;
	return 0;
}

static int serve_end(void **state)
{
	(void)state;
	control_stop(&serving);
	control_free(&serving);
	server_fini(&serving);
	return rmdir(runtime);
}

static char *answer(const char *message)
{
	json_t *out = control_answer(&serving, message, strlen(message));
	char *text = json_dumps(out, JSON_COMPACT | JSON_SORT_KEYS);

	assert_non_null(text);
	json_decref(out);
	return text;
}

static void an_answer_is_whole_without_memory_too(void **state)
{
	static const char *const asked[] = {
		"{\"v\":1,\"cmd\":\"volumes\"}", "{\"v\":1,\"cmd\":\"instances\"}", "{\"v\":1,\"cmd\":\"filters\"}",
		"{\"v\":1,\"cmd\":\"stats\"}", "{\"v\":1,\"cmd\":\"nothing\"}", "{}",
	};

	(void)state;
	if (!FAILING)
		skip();
	for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
		char *whole = answer(asked[i]), *text;

		many = 1;
		for (first = 0, counted = LONG_MAX; counted > first; first++) {
			counted = 0;
			armed = true;
			text = answer(asked[i]);
			armed = false;
			if (!strstr(text, "\"errno\":12,"))
				assert_string_equal(text, whole);
			free(text);
		}
		free(whole);
	}
}

static void who_cannot_be_taken_in_is_looked_at_now_and_then(void **state)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	char buf[256];

	(void)state;
	snprintf(a.sun_path, sizeof a.sun_path, "%s/%d.sock", runtime, getpid());
	none_left = true;
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	while (!refusals)
		usleep(1000);
	usleep(50000);
	assert_true(refusals < 1000); /* without rest it is tens of thousands */
	none_left = false;
	assert_int_equal(send(fd, "{}", 2, 0), 2);
	assert_true(recv(fd, buf, sizeof buf, 0) > 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guard_is_not_left_out_without_memory),
		cmocka_unit_test_setup(an_answer_is_whole_without_memory_too, serve_begin),
		cmocka_unit_test_teardown(who_cannot_be_taken_in_is_looked_at_now_and_then, serve_end),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
