/* SPDX-License-Identifier: MIT */
/* Who breaks the contract is named, and who keeps it is not. A is above B is above C. */
#include "stack/testing.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static int begin(void **state)
{
	if (t_begin(state) || t_attach("B", "200") || t_attach("C", "100") || t_attach("A", "300"))
		return -1;
	return 0;
}

#define case3(name) cmocka_unit_test_setup_teardown(name, begin, t_end)

/* What @fn lets the log say, in a process that the verifier may end. */
static const char *told(void (*fn)(void), bool verify, bool *ret_died)
{
	static char text[4096];
	size_t used = 0;
	ssize_t n;
	int pipe_fd[2], status;
	pid_t pid;

	assert_int_equal(pipe(pipe_fd), 0);
	pid = fork();
	if (!pid) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0 });
		signal(SIGABRT, SIG_DFL);
		dup2(pipe_fd[1], STDERR_FILENO);
		if (verify)
			setenv("ALTITUDE_VERIFY", "1", 1);
		fn();
		_exit(0);
	}
	close(pipe_fd[1]);
	while ((n = read(pipe_fd[0], text + used, sizeof text - 1 - used)) > 0)
		used += n;
	text[used] = 0;
	close(pipe_fd[0]);
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	*ret_died = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
	assert_true(*ret_died || (WIFEXITED(status) && !WEXITSTATUS(status)));
	return text;
}

/* @who it names, and @what it says; without the verifier the same line, and it goes on. */
static void breach(void (*fn)(void), const char *who, const char *what)
{
	for (int verify = 0; verify < 2; verify++) {
		bool died;
		const char *text = told(fn, verify, &died);

		if (!strstr(text, who) || !strstr(text, what) || died != verify)
			fail_msg("expected %s ... %s, %s; the log: %s", who, what, verify ? "and the end" : "and no end", text);
	}
}

static void run_access(void)
{
	t_simple(ALT_OP_ACCESS, 1, NULL);
}

static void run_open_and_close(void)
{
	t_close(t_open("f"));
}

static void run_open(void)
{
	struct t_call c = { 0 };

	t_run(&c, t_op(ALT_OP_OPENDIR, 1, NULL));
}

static struct alt_op *_Atomic kept;

static enum alt_pre pre_pend_keep(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	alt_op_ref(op);
	atomic_store(&kept, op);
	return ALT_PRE_PENDING;
}

static void run_complete_twice(void)
{
	struct t_call c = { 0 };

	t_go(&c, t_op(ALT_OP_ACCESS, 1, NULL));
	alt_op_resume_pre(kept, ALT_PRE_COMPLETE, NULL);
	alt_op_resume_pre(kept, ALT_PRE_COMPLETE, NULL);
}

/* Its instance has gone by then. */
static void run_complete_after_the_detach(void)
{
	struct t_call c = { 0 };

	t_go(&c, t_op(ALT_OP_ACCESS, 1, NULL));
	alt_op_resume_pre(kept, ALT_PRE_COMPLETE, NULL);
	t_wait(&c);
	t_detach("C");
	alt_op_resume_pre(kept, ALT_PRE_COMPLETE, NULL);
}

static enum alt_pre pre_resumes_and_goes_on(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	alt_op_resume_pre(op, ALT_PRE_SUCCESS_NO_CALLBACK, NULL);
	return ALT_PRE_SUCCESS_NO_CALLBACK;
}

static enum alt_pre pre_dirty_without_edit(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	alt_op_dirty(op);
	return ALT_PRE_SUCCESS_NO_CALLBACK;
}

static enum alt_pre pre_context_for_nobody(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	*ctx = op;
	return ALT_PRE_SUCCESS_NO_CALLBACK;
}

static enum alt_pre pre_edit_undeclared(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	alt_op_edit(op)->mode++;
	return ALT_PRE_SUCCESS_NO_CALLBACK;
}

static enum alt_pre pre_edit_and_back(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	alt_op_edit(op)->mode++;
	alt_op_edit(op)->mode--;
	return ALT_PRE_SUCCESS_NO_CALLBACK;
}

static enum alt_pre pre_context(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	*ctx = op;
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_post post_unknown(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	return 9;
}

static enum alt_post post_edit(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	return alt_op_edit(op) ? ALT_POST_MORE_PROCESSING : ALT_POST_FINISHED;
}

static enum alt_post post_keeps_a_drained_one(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	return op->flags & ALT_OP_DRAINING ? ALT_POST_MORE_PROCESSING : ALT_POST_FINISHED;
}

static int serve_park_one(struct alt_op *op)
{
	kept = op;
	return ALT_PENDING;
}

static void run_drain(void)
{
	struct alt_file *f = t_open("f");
	struct op *op = t_file_op(ALT_OP_SETLK, f);
	struct t_call c = { 0 };

	op->rq.params.bits = ALT_PARAM_WAIT;
	t_go(&c, op);
	t_detach("B");
	alt_op_complete(kept, 0);
	t_wait(&c);
}

static int serve_nonsense(struct alt_op *op)
{
	return 77;
}

static int serve_completes_and_answers(struct alt_op *op)
{
	alt_op_complete(op, 0);
	return 0;
}

static void b_is_named(alt_pre_fn *pre, void (*run)(void), const char *what)
{
	t_script('B')->on_pre = pre;
	breach(run, "filter 'B' ", what);
	t_script('B')->on_pre = NULL;
}

static const struct alt_callback postless_callbacks[] = { { ALT_OP_ACCESS, t_pre, NULL }, { ALT_OP_END } };
static const struct alt_filter_registration postless = {
	.size = sizeof postless, .name = "postless", .callbacks = postless_callbacks,
};

static void the_verifier_names_who_breaks_the_contract(void **state)
{
	struct t_script *b = t_script('B');

	b->pre = 99;
	breach(run_access, "filter 'B' broke the contract of operation 'access'", "unknown answer");
	b->pre = ALT_PRE_DISALLOW_FASTIO;
	breach(run_access, "filter 'B' ", "DISALLOW_FASTIO");
	b->pre = ALT_PRE_COMPLETE;
	b->status = 1;
	breach(run_access, "filter 'B' ", "neither 0 nor -errno");
	b->status = 0;
	breach(run_open, "filter 'B' ", "without an open file");
	b->pre = 0;
	b->post_status = 7;
	breach(run_access, "filter 'B' ", "neither 0 nor -errno");
	b->post_status = 0;

	b_is_named(pre_resumes_and_goes_on, run_access, "completed, and not kept");
	b_is_named(pre_dirty_without_edit, run_access, "made dirty without an edit");
	b_is_named(pre_context_for_nobody, run_access, "no post-operation to free it");
	b->on_post = post_unknown;
	breach(run_access, "filter 'B' ", "unknown answer of a post-operation");
	b->on_post = post_edit;
	breach(run_access, "filter 'B' ", "edited on the way up");
	b->on_post = post_keeps_a_drained_one;
	tfs.on[ALT_OP_SETLK] = serve_park_one;
	breach(run_drain, "filter 'B' broke the contract of operation 'setlk'", "is to drain");
	tfs.on[ALT_OP_SETLK] = NULL;
	b->on_post = NULL;
	assert_int_equal(t_attach_as(&postless, "P", "50"), 0);
	t_script('P')->on_pre = pre_context;
	breach(run_access, "filter 'P' ", "no post-operation to free it");
	t_script('P')->on_pre = NULL;
	t_script('P')->pre = ALT_PRE_SYNCHRONIZE;
	breach(run_access, "filter 'P' ", "no post-operation that would run");
	assert_int_equal(t_detach("P"), 0);

	t_script('C')->on_pre = pre_pend_keep;
	breach(run_complete_twice, "filter 'C' ", "completed twice");
	breach(run_complete_after_the_detach, "filter 'C' ", "completed twice");
	t_script('C')->on_pre = NULL;

	tfs.on[ALT_OP_ACCESS] = serve_nonsense;
	breach(run_access, "file system 'tfs' ", "neither 0, -errno nor ALT_PENDING");
	tfs.on[ALT_OP_ACCESS] = serve_completes_and_answers;
	breach(run_access, "file system 'tfs' ", "completed, and not kept");
	tfs.on[ALT_OP_ACCESS] = NULL;
}

static enum alt_post post_fails_a_release(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	if (op->code == ALT_OP_RELEASE)
		op->status = -EIO;
	return ALT_POST_FINISHED;
}

static enum alt_post post_makes_it_good(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	op->status = 0;
	return ALT_POST_FINISHED;
}

static int serve_refuse(struct alt_op *op)
{
	return -EACCES;
}

static void run_mkdir(void)
{
	t_simple(ALT_OP_MKDIR, 1, "new");
}

static void the_verifier_names_who_lets_a_release_fail_or_an_open_succeed(void **state)
{
	t_script('B')->on_post = post_fails_a_release;
	breach(run_open_and_close, "filter 'B' broke the contract of operation 'release'", "cannot fail");
	t_script('B')->on_post = post_makes_it_good;
	t_script('C')->pre = ALT_PRE_COMPLETE;
	t_script('C')->status = -EACCES;
	breach(run_open, "filter 'B' broke the contract of operation 'opendir'", "without an open file");
	t_script('C')->pre = 0;
	tfs.on[ALT_OP_OPENDIR] = serve_refuse;
	breach(run_open, "filter 'B' broke the contract of operation 'opendir'", "without an open file");
	tfs.on[ALT_OP_MKDIR] = serve_refuse;
	breach(run_mkdir, "filter 'B' broke the contract of operation 'mkdir'", "without a node");
}

/* The file system never opened it: it would be asked to read from, and to release, what it does not know. */
static void an_open_that_failed_below_does_not_succeed_above(void **state)
{
	struct alt_file *f = NULL;
	uint64_t node = t_lookup(1, "f");

	t_script('B')->on_post = post_makes_it_good;
	tfs.on[ALT_OP_OPEN] = serve_refuse;
	tfs.on[ALT_OP_CREATE] = serve_refuse;
	assert_int_equal(t_open_node(node, &f), -EIO);
	assert_null(f);
	assert_int_equal(t_simple(ALT_OP_CREATE, 1, "new"), -EIO);
	assert_int_equal(tfs.calls[ALT_OP_RELEASE], 0);
}

/* Only while it verifies: to look for it each time has its price. */
static void the_verifier_finds_changes_that_were_not_declared(void **state)
{
	bool died;

	t_script('B')->on_pre = pre_edit_undeclared;
	assert_non_null(strstr(told(run_access, true, &died),
			       "filter 'B' broke the contract of operation 'access': parameters changed"));
	assert_true(died);
	assert_string_equal(told(run_access, false, &died), "");
	t_script('B')->on_pre = pre_edit_and_back;
	assert_string_equal(told(run_access, true, &died), "");
	assert_false(died);
}

static struct t_later later;

static enum alt_pre pre_pend_resumed_already(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	t_later_start(&later, t_later_resume_pre, op);
	pthread_join(later.thread, NULL);
	return ALT_PRE_PENDING;
}

static void who_keeps_the_contract_is_not_named(void **state)
{
	bool died;

	assert_string_equal(told(run_access, true, &died), "");
	assert_false(died);
	t_script('B')->on_pre = pre_pend_resumed_already;
	later = (struct t_later){ .decision = ALT_PRE_SUCCESS_WITH_CALLBACK };
	assert_string_equal(told(run_access, true, &died), "");
	assert_string_equal(told(run_open_and_close, true, &died), "");
	assert_false(died);
}

/* ---- what is not given back ---- */

static void run_leak(void)
{
	struct alt_instance *b = t_instance("B");
	struct alt_node *node = node_get(t_volume, t_lookup(1, "f"));
	struct alt_file *file = NULL;
	void *context = alt_context_new(1, NULL);

	alt_node_set_context(b, node, ALT_CONTEXT_KEEP, context, NULL);
	alt_io_open(b, node, O_RDONLY, &file);
	alt_node_unref(node);
	t_detach("B");
}

static void run_leak_nothing(void)
{
	struct alt_instance *b = t_instance("B");
	struct alt_node *node = node_get(t_volume, t_lookup(1, "f"));
	struct alt_file *file = NULL;
	void *context = alt_context_new(1, NULL);

	alt_node_set_context(b, node, ALT_CONTEXT_KEEP, context, NULL);
	alt_context_unref(context);
	alt_io_open(b, node, O_RDONLY, &file);
	alt_node_unref(node);
	alt_io_close(b, file);
	t_detach("B");
}

static void who_gives_something_not_back_is_named_with_how_much(void **state)
{
	const char *text;
	bool died;

	text = told(run_leak, false, &died);
	assert_non_null(strstr(text, "filter 'B' leaks 1 context:"));
	assert_non_null(strstr(text, "filter 'B' leaks 1 open file:"));
	assert_string_equal(told(run_leak_nothing, false, &died), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		case3(the_verifier_names_who_breaks_the_contract),
		case3(the_verifier_names_who_lets_a_release_fail_or_an_open_succeed),
		case3(an_open_that_failed_below_does_not_succeed_above),
		case3(the_verifier_finds_changes_that_were_not_declared),
		case3(who_keeps_the_contract_is_not_named),
		case3(who_gives_something_not_back_is_named_with_how_much),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
