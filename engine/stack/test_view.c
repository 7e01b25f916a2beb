/* SPDX-License-Identifier: MIT */
/* Views: attributes, entries and names as they are seen above an instance. A is above B above C; B has the views. */
#include "stack/testing.h"

#include <altitude/name.h>
#include <ctype.h>

static _Atomic long looks;       /* calls of the attribute view */
static uint64_t size_seen[26];   /* by each post */
static char name_seen[26][2][256];

/* The same name in capitals above, in small letters below; a name that begins with h is hidden, both ways. */
static bool hidden(const char *name)
{
	return tolower((unsigned char)name[0]) == 'h';
}

static void view_attributes(struct alt_instance *in, struct alt_node *node, struct alt_attr *attr)
{
	atomic_fetch_add(&looks, 1);
	if (S_ISREG(attr->mode))
		attr->size = attr->size * 10 + 7;
}

static bool view_entry(struct alt_instance *in, struct alt_node *dir, char *name)
{
	assert_true(strcmp(name, ".") && strcmp(name, ".."));
	if (hidden(name))
		return false;
	for (char *c = name; *c; c++)
		*c = toupper((unsigned char)*c);
	return true;
}

static int view_name_down(struct alt_instance *in, struct alt_node *dir, const char *name, char *lower)
{
	if (hidden(name))
		return -ENOENT;
	do
		*lower++ = tolower((unsigned char)*name);
	while (*name++);
	return 0;
}

static void note_names(const struct alt_op *op, const struct alt_instance *in, int post)
{
	char *to = name_seen[alt_instance_name(in)[0] - 'A'][post];

	snprintf(to, 256, "%s%s%s", op->p->name ? op->p->name : "", op->p->new_name ? ">" : "",
		 op->p->new_name ? op->p->new_name : "");
}

static enum alt_pre pre_note(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	note_names(op, in, 0);
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_post post_note(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	note_names(op, in, 1);
	size_seen[alt_instance_name(in)[0] - 'A'] = op->r.entry.attr.size;
	return ALT_POST_FINISHED;
}

static const struct alt_filter_registration sizes = {
	.size = sizeof sizes, .name = "sizes", .callbacks = t_all, .attributes = view_attributes,
};
static const struct alt_filter_registration capitals = {
	.size = sizeof capitals, .name = "capitals", .callbacks = t_all, .entry = view_entry, .name_down = view_name_down,
};
static const struct alt_filter_registration silent_capitals = {
	.size = sizeof silent_capitals, .name = "silent", .entry = view_entry, .name_down = view_name_down,
};

static int begin_with(void **state, const struct alt_filter_registration *reg)
{
	looks = 0;
	memset(size_seen, 0, sizeof size_seen);
	memset(name_seen, 0, sizeof name_seen);
	if (t_begin(state) || t_attach("A", "300") || t_attach_as(reg, "B", "200") || t_attach("C", "100"))
		return -1;
	for (const char *l = "ABC"; *l; l++) {
		t_script(*l)->on_pre = pre_note;
		t_script(*l)->on_post = post_note;
	}
	return 0;
}

static int begin_sizes(void **state)
{
	return begin_with(state, &sizes);
}

static int begin_capitals(void **state)
{
	return begin_with(state, &capitals);
}

#define case_sizes(name) cmocka_unit_test_setup_teardown(name, begin_sizes, t_end)
#define case_capitals(name) cmocka_unit_test_setup_teardown(name, begin_capitals, t_end)

/* ---- attributes ---- */

static void expect_sizes(uint64_t below, uint64_t above)
{
	assert_int_equal(size_seen['C' - 'A'], below);
	assert_int_equal(size_seen['B' - 'A'], above); /* the view runs before the own post */
	assert_int_equal(size_seen['A' - 'A'], above);
}

static void every_answer_with_attributes_passes_the_view(void **state)
{
	struct t_call c = { 0 };
	struct alt_attr attr;
	struct op *op;
	uint64_t node;

	node = t_lookup(1, "f");
	expect_sizes(10, 107);
	assert_int_equal(t_getattr(node, &attr), 0);
	assert_int_equal(attr.size, 107);
	expect_sizes(10, 107);

	op = t_op(ALT_OP_SETATTR, node, NULL);
	op->rq.params.valid = ALT_ATTR_SIZE;
	op->rq.params.attr.size = 4;
	assert_int_equal(t_run(&c, op), 0);
	assert_int_equal(c.attr.size, 47);
	expect_sizes(4, 47);

	c = (struct t_call){ 0 };
	assert_int_equal(t_run(&c, t_op(ALT_OP_CREATE, 1, "new")), 0);
	assert_int_equal(c.attr.size, 7);
	assert_int_equal(t_close(c.file), 0);
	c = (struct t_call){ 0 };
	assert_int_equal(t_run(&c, t_op(ALT_OP_MKNOD, 1, "node")), 0);
	assert_int_equal(c.attr.size, 7);
	assert_int_equal(looks, 5);
}

static void what_carries_no_attributes_does_not_pass_the_view(void **state)
{
	struct alt_file *f = t_open("f");
	char names[256];

	looks = 0;
	assert_int_equal(t_lookup(1, "missing"), 0);
	assert_int_equal(t_simple(ALT_OP_ACCESS, 1, NULL), 0);
	assert_int_equal(t_write(f, "x", 1, 0), 1);
	assert_int_equal(t_list(1, 4096, 0, names, sizeof names), 0);
	assert_int_equal(looks, 0);
	assert_int_equal(t_list(1, 4096, ALT_PARAM_PLUS, names, sizeof names), 0);
	assert_int_equal(looks, 3); /* f, g and d */
	assert_int_equal(t_close(f), 0);
}

static void views_on_views_add_up(void **state)
{
	struct alt_attr attr;

	assert_int_equal(t_attach_as(&sizes, "D", "250"), 0);
	assert_int_equal(t_getattr(t_lookup(1, "f"), &attr), 0);
	assert_int_equal(attr.size, 1077);
	assert_int_equal(t_detach("B"), 0);
	assert_int_equal(t_getattr(t_lookup(1, "f"), &attr), 0);
	assert_int_equal(attr.size, 107);
	assert_int_equal(t_detach("D"), 0);
	assert_int_equal(t_getattr(t_lookup(1, "f"), &attr), 0);
	assert_int_equal(attr.size, 10);
}

/* ---- entries ---- */

static void entries_are_renamed_and_hidden(void **state)
{
	char names[256];

	for (int plus = 0; plus < 2; plus++) {
		assert_int_equal(t_list(1, 4096, plus ? ALT_PARAM_PLUS : 0, names, sizeof names), 0);
		assert_string_equal(names, "F G D");
	}
	for (int plus = 0; plus < 2; plus++) {
		assert_int_equal(t_list(t_lookup(1, "D"), 4096, plus ? ALT_PARAM_PLUS : 0, names, sizeof names), 0);
		assert_string_equal(names, "");
	}
	assert_int_equal(t_detach("B"), 0);
	assert_int_equal(t_list(1, 4096, ALT_PARAM_PLUS, names, sizeof names), 0);
	assert_string_equal(names, "f g d");
}

static void a_filter_with_nothing_but_views_works(void **state)
{
	char names[256];

	assert_int_equal(t_detach("B"), 0);
	assert_int_equal(t_attach_as(&silent_capitals, "B", "200"), 0);
	assert_int_equal(t_list(1, 4096, ALT_PARAM_PLUS, names, sizeof names), 0);
	assert_string_equal(names, "F G D");
	assert_true(t_lookup(1, "F") != 0);
	assert_int_equal(t_lookup(1, "H"), 0);
}

static int list_dots(struct alt_op *op)
{
	if (op->p->offset > 1)
		return TFS_PASS;
	alt_dirent_add(op, ".", 1, DT_DIR, 1, NULL);
	alt_dirent_add(op, "..", 1, DT_DIR, 1, NULL);
	return TFS_PASS;
}

static void the_dots_are_no_entries(void **state)
{
	struct t_call c = { 0 };
	struct alt_file *dir;
	struct op *op;

	tfs.on[ALT_OP_READDIR] = list_dots;
	assert_int_equal(t_run(&c, t_op(ALT_OP_OPENDIR, 1, NULL)), 0);
	dir = c.file;
	c = (struct t_call){ 0 };
	op = t_file_op(ALT_OP_READDIR, dir);
	op->rq.params.size = 4096;
	assert_int_equal(t_run(&c, op), 0);
	assert_string_equal(c.names, ". .. F G D");
	c = (struct t_call){ 0 };
	assert_int_equal(t_run(&c, t_file_op(ALT_OP_RELEASEDIR, dir)), 0);
}

/* An empty answer means the end: it may not be one as long as something visible follows. */
static void a_page_of_hidden_entries_is_not_the_end(void **state)
{
	static const struct { size_t room; uint32_t bits; } pages[] = {
		{ 64, 0 }, { 100, 0 }, { 4096, 0 }, { 256, ALT_PARAM_PLUS }, { 1000, ALT_PARAM_PLUS },
	};
	char name[16], names[256];

	for (int i = 0; i < 90; i++) {
		snprintf(name, sizeof name, "h%d", i);
		tfs_add(1, name, S_IFREG | 0644, NULL);
	}
	tfs_add(1, "x", S_IFREG | 0644, NULL);
	tfs_add(1, "hz", S_IFREG | 0644, NULL);
	for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
		assert_int_equal(t_list(1, pages[i].room, pages[i].bits, names, sizeof names), 0);
		assert_string_equal(names, "F G D X");
	}
}

static struct { pthread_mutex_t lock; pthread_cond_t changed; struct alt_op *op; bool end; } desk = {
	PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, false
};

/* The file system's one thread, which answers all. */
static void *desk_main(void *arg)
{
	pthread_mutex_lock(&desk.lock);
	while (!desk.end) {
		struct alt_op *op = desk.op;

		desk.op = NULL;
		pthread_mutex_unlock(&desk.lock);
		if (op)
			alt_op_complete(op, tfs_usual(op));
		pthread_mutex_lock(&desk.lock);
		if (!desk.op && !desk.end)
			pthread_cond_wait(&desk.changed, &desk.lock);
	}
	pthread_mutex_unlock(&desk.lock);
	return NULL;
}

static void desk_wake(struct alt_op *op)
{
	pthread_mutex_lock(&desk.lock);
	desk.op = op;
	desk.end = !op;
	pthread_cond_signal(&desk.changed);
	pthread_mutex_unlock(&desk.lock);
}

static int list_at_the_desk(struct alt_op *op)
{
	desk_wake(op);
	return ALT_PENDING;
}

/* Whoever answers the first page is asked for the second one: it would wait for itself. */
static void what_follows_hidden_entries_is_awaited_on_no_thread(void **state)
{
	char name[16], names[256];
	pthread_t thread;

	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof name, "h%d", i);
		tfs_add(1, name, S_IFREG | 0644, NULL);
	}
	tfs_add(1, "x", S_IFREG | 0644, NULL);
	desk.end = false;
	pthread_create(&thread, NULL, desk_main, NULL);
	tfs.on[ALT_OP_READDIR] = list_at_the_desk;
	for (int synchronized = 0; synchronized < 2; synchronized++) {
		if (synchronized) {
			t_script('A')->on_pre = NULL;
			t_script('A')->pre = ALT_PRE_SYNCHRONIZE;
		}
		assert_int_equal(t_list(1, 100, 0, names, sizeof names), 0);
		assert_string_equal(names, "F G D X");
	}
	desk_wake(NULL);
	pthread_join(thread, NULL);
}

static void list_cancelled(struct alt_op *op, void *arg)
{
	alt_op_complete(op, -EINTR);
}

static int list_park_later(struct alt_op *op)
{
	if (!op->p->offset)
		return TFS_PASS;
	return alt_op_set_cancel(op, list_cancelled, NULL) < 0 ? -EINTR : ALT_PENDING;
}

static void a_caller_that_gives_up_is_told_of_behind_hidden_entries_too(void **state)
{
	struct t_call c = { 0 };
	struct alt_file *dir;
	struct op *op;

	assert_int_equal(t_run(&c, t_op(ALT_OP_OPENDIR, t_lookup(1, "D"), NULL)), 0);
	dir = c.file;
	tfs.on[ALT_OP_READDIR] = list_park_later;
	for (int early = 0; early < 2; early++) {
		op = t_file_op(ALT_OP_READDIR, dir);
		op->rq.params.size = 4096;
		c = (struct t_call){ 0 };
		if (early)
			op_interrupt_early(t_volume, op->rq.unique);
		t_go(&c, op);
		if (!early)
			assert_true(op_interrupt(t_volume, c.unique));
		assert_int_equal(t_wait(&c), -EINTR);
	}
	c = (struct t_call){ 0 };
	assert_int_equal(t_run(&c, t_file_op(ALT_OP_RELEASEDIR, dir)), 0);
}

static int list_fail_later(struct alt_op *op)
{
	return op->p->offset ? -EIO : TFS_PASS;
}

static void an_error_behind_hidden_entries_is_an_error(void **state)
{
	char names[64];

	tfs.on[ALT_OP_READDIR] = list_fail_later;
	assert_int_equal(t_list(t_lookup(1, "D"), 4096, ALT_PARAM_PLUS, names, sizeof names), -EIO);
}

/* ---- names ---- */

static void expect_names(const char *above, const char *below)
{
	for (int post = 0; post < 2; post++) {
		assert_string_equal(name_seen['A' - 'A'][post], above);
		assert_string_equal(name_seen['B' - 'A'][post], above);
		assert_string_equal(name_seen['C' - 'A'][post], below);
	}
}

static void names_are_translated_for_those_below(void **state)
{
	struct t_call c = { 0 };
	struct op *op;

	assert_true(t_lookup(1, "F") != 0);
	expect_names("F", "f");
	assert_int_equal(t_run(&c, t_op(ALT_OP_CREATE, 1, "NEW")), 0);
	expect_names("NEW", "new");
	assert_non_null(tfs_child(1, "new"));
	assert_int_equal(t_close(c.file), 0);

	op = t_op(ALT_OP_RENAME, 1, "NEW");
	op->rq.params.new_name = "NEWER";
	op->rq.other_nodeid = 1;
	c = (struct t_call){ 0 };
	assert_int_equal(t_run(&c, op), 0);
	expect_names("NEW>NEWER", "new>newer");
	assert_non_null(tfs_child(1, "newer"));
	assert_int_equal(t_simple(ALT_OP_UNLINK, 1, "NEWER"), 0);
	assert_null(tfs_child(1, "newer"));
}

static void a_name_that_is_refused_does_not_go_down(void **state)
{
	struct op *op;
	struct t_call c = { 0 };

	t_logged();
	assert_int_equal(t_simple(ALT_OP_LOOKUP, 1, "hidden"), -ENOENT);
	t_expect("+A +B -B -A");
	op = t_op(ALT_OP_RENAME, 1, "f");
	op->rq.params.new_name = "hide";
	op->rq.other_nodeid = 1;
	assert_int_equal(t_run(&c, op), -ENOENT);
	assert_non_null(tfs_child(1, "f"));
	t_expect("+A +B -B -A");
}

static void names_of_attributes_are_not_translated(void **state)
{
	assert_int_equal(t_simple(ALT_OP_GETXATTR, 1, "user.HIDDEN"), -EOPNOTSUPP);
	expect_names("user.HIDDEN", "user.HIDDEN");
	assert_int_equal(t_simple(ALT_OP_GETXATTR, 1, "hidden"), -EOPNOTSUPP);
	expect_names("hidden", "hidden");
}

static char paths[26][64];

static enum alt_pre pre_path(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	char *to = paths[alt_instance_name(in)[0] - 'A'];

	if (alt_op_path(op, in, to, 64) != (int)strlen(to))
		strcpy(to, "wrong length");
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static void a_path_is_in_the_names_the_instance_sees(void **state)
{
	uint64_t dir;

	tfs_add(4, "k", S_IFREG | 0644, NULL);
	dir = t_lookup(1, "D");
	for (const char *l = "ABC"; *l; l++)
		t_script(*l)->on_pre = pre_path;
	assert_true(t_lookup(dir, "K") != 0);
	assert_string_equal(paths[0], "/D/K");
	assert_string_equal(paths[1], "/D/K");
	assert_string_equal(paths[2], "/d/k");
	assert_int_equal(t_simple(ALT_OP_ACCESS, t_lookup(dir, "K"), NULL), 0);
	assert_string_equal(paths[0], "/D/K");
	assert_string_equal(paths[2], "/d/k");
	assert_int_equal(t_simple(ALT_OP_ACCESS, 1, NULL), 0);
	assert_string_equal(paths[0], "/");
	assert_string_equal(paths[2], "/");
}

#define MANY 100

static bool one_more(struct alt_instance *in, struct alt_node *dir, char *name)
{
	sprintf(name, "%d", atoi(name) + 1);
	return true;
}

static int one_less(struct alt_instance *in, struct alt_node *dir, const char *name, char *lower)
{
	sprintf(lower, "%d", atoi(name) - 1);
	return 0;
}

static char highest[64];

static enum alt_pre pre_highest(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	alt_op_path(op, in, highest, sizeof highest);
	return ALT_PRE_SUCCESS_NO_CALLBACK;
}

static void however_many_rename_each_has_its_part_in_a_path(void **state)
{
	static const struct alt_callback callbacks[] = { { ALT_OP_ACCESS, pre_highest }, { .code = ALT_OP_END } };
	static const struct alt_filter_registration counts = {
		.size = sizeof counts, .name = "counts", .altitude = "1", .entry = one_more, .name_down = one_less,
	}, looks = {
		.size = sizeof looks, .name = "looks", .altitude = "1000", .callbacks = callbacks,
	};
	char name[16], altitude[16];

	tfs_add(1, "0", S_IFREG | 0644, NULL);
	assert_int_equal(t_attach_as(&looks, "looks", NULL), 0);
	for (int i = 1; i <= MANY; i++) {
		snprintf(name, sizeof name, "c%d", i);
		snprintf(altitude, sizeof altitude, "%d", i);
		assert_int_equal(t_attach_as(&counts, name, altitude), 0);
	}
	snprintf(name, sizeof name, "%d", MANY);
	assert_int_equal(t_simple(ALT_OP_ACCESS, t_lookup(1, name), NULL), 0);
	assert_string_equal(highest, "/100");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		case_sizes(every_answer_with_attributes_passes_the_view),
		case_sizes(what_carries_no_attributes_does_not_pass_the_view),
		case_sizes(views_on_views_add_up),
		case_capitals(entries_are_renamed_and_hidden),
		case_capitals(a_filter_with_nothing_but_views_works),
		case_capitals(the_dots_are_no_entries),
		case_capitals(a_page_of_hidden_entries_is_not_the_end),
		case_capitals(what_follows_hidden_entries_is_awaited_on_no_thread),
		case_capitals(a_caller_that_gives_up_is_told_of_behind_hidden_entries_too),
		case_capitals(an_error_behind_hidden_entries_is_an_error),
		case_capitals(names_are_translated_for_those_below),
		case_capitals(a_name_that_is_refused_does_not_go_down),
		case_capitals(names_of_attributes_are_not_translated),
		case_capitals(a_path_is_in_the_names_the_instance_sees),
		cmocka_unit_test_setup_teardown(however_many_rename_each_has_its_part_in_a_path, t_begin, t_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
