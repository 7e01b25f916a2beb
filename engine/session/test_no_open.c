/* SPDX-License-Identifier: MIT */
/* A volume whose opens are not asked (open=no), with a kernel of the test's own and a file system that counts its files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failing.h"
#include "io/slot.h"
#include "session/test_kernel.h"

#define FILES 400                /* more than are kept open */

/* ---- the file system: "0".."399", each of one byte; what is unlinked cannot be opened ---- */

static _Atomic int opens, releases, writes;
static uint32_t last_flags;      /* of open(2), of the file that an operation came with */
static bool unlinked[FILES];
static int open_error;           /* -errno for the next open */
static struct alt_op *_Atomic pended;    /* OPEN is kept here when @pend */
static bool pend;
static pthread_t open_thread;

static int many_lookup(struct alt_op *op)
{
	int n = atoi(op->p->name);

	if (n < 0 || n >= FILES || unlinked[n])
		return -ENOENT;
	op->r.entry = (struct alt_entry){ .key.id = 10 + n, .attr = { .ino = 10 + n, .mode = S_IFREG | 0644, .nlink = 1, .size = 1 } };
	return 0;
}

static int many_getattr(struct alt_op *op)
{
	op->r.entry.attr = (struct alt_attr){ .ino = 1, .mode = S_IFDIR | 0755, .nlink = 2 };
	return 0;
}

static int many_open(struct alt_op *op)
{
	int r = open_error;

	open_thread = pthread_self();
	open_error = 0;
	if (r)
		return r;
	if (unlinked[alt_node_key(op->node).id - 10])
		return -ESTALE;
	opens++;
	if (pend) {
		pended = op;
		return ALT_PENDING;
	}
	return 0;
}

static int many_create(struct alt_op *op)
{
	int r = many_lookup(op);

	opens += !r;
	return r;
}

static int many_release(struct alt_op *op)
{
	assert_non_null(op->file);
	releases++;
	return 0;
}

static int many_read(struct alt_op *op)
{
	assert_non_null(op->file);
	assert_ptr_equal(alt_file_node(op->file), op->node);
	last_flags = alt_file_flags(op->file);
	if ((last_flags & O_ACCMODE) == O_WRONLY)
		return -EBADF;
	((char *)op->p->buf)[0] = 'x';
	op->r.size = 1;
	return 0;
}

static int many_write(struct alt_op *op)
{
	last_flags = alt_file_flags(op->file);
	if ((last_flags & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	writes++;
	op->r.size = op->p->size;
	return 0;
}

static int many_fsync(struct alt_op *op)
{
	last_flags = alt_file_flags(op->file);
	return 0;
}

static int many_copy(struct alt_op *op)
{
	assert_int_equal(alt_file_flags(op->file) & O_ACCMODE, O_RDONLY);
	assert_int_equal(alt_file_flags(op->p->other_file) & O_ACCMODE, O_WRONLY);
	assert_ptr_equal(alt_file_node(op->p->other_file), op->p->other);
	op->r.size = op->p->length;
	return 0;
}

static int many_unlink(struct alt_op *op)
{
	unlinked[atoi(op->p->name)] = true;
	return 0;
}

static int many_mount(struct alt_volume *v, const char *arg, struct alt_error *err)
{
	alt_volume_set_root(v, (struct alt_key){ .id = 1 }, NULL);
	return 0;
}

static struct alt_filesystem_registration shelf = {
	.size = sizeof(shelf), .name = "many", .mount = many_mount,
	.ops = {
		[ALT_OP_LOOKUP] = many_lookup, [ALT_OP_GETATTR] = many_getattr, [ALT_OP_OPEN] = many_open,
		[ALT_OP_CREATE] = many_create, [ALT_OP_RELEASE] = many_release, [ALT_OP_READ] = many_read,
		[ALT_OP_WRITE] = many_write, [ALT_OP_FSYNC] = many_fsync, [ALT_OP_COPY_FILE_RANGE] = many_copy,
		[ALT_OP_UNLINK] = many_unlink,
	},
};

/* ---- the kernel ---- */

static struct kernel k;

#define send_fixed(opcode, node, type, ...) \
	k_send(&k, FUSE_##opcode, node, &(struct type){ __VA_ARGS__ }, sizeof(struct type), NULL, 0)
#define ask(opcode, node, type, ...) k_wait(&k, send_fixed(opcode, node, type, __VA_ARGS__))

static int begin(void **state)
{
	struct io_option *options = calloc(2, sizeof(*options));
	struct alt_error err = { 0 };

	memset(&k, 0, sizeof(k));
	memset(unlinked, 0, sizeof(unlinked));
	opens = releases = writes = open_error = 0;
	pend = false;
	pthread_mutex_init(&k.lock, NULL);
	pthread_cond_init(&k.changed, NULL);
	options[0] = (struct io_option){ strdup("open"), strdup("no") };
	if (volume_new("test", &shelf, "", options, &k.volume, &err) || stack_volume_init(k.volume))
		return -1;
	return session_loopback(k.volume, k_take, &k, &k.session);
}

static int begin_slow(void **state)
{
	shelf.flags = ALT_FS_SLOW;
	return begin(state);
}

/* Whatever was opened is released, once. */
static int end(void **state)
{
	bool good;

	session_free(k.session);
	stack_volume_fini(k.volume);
	good = !k.volume->inflight && !k.strange;
	volume_free(k.volume);
	shelf.flags = 0;
	for (int i = 0; i < K_ANSWERS; i++)
		free(k.answers[i].body);
	return good && opens == releases ? 0 : -1;
}

static void init(uint32_t offered)
{
	uint64_t u = send_fixed(INIT, 0, fuse_init_in, .major = 7, .minor = 45, .flags = FUSE_INIT_EXT | FUSE_ATOMIC_O_TRUNC | offered);
	const struct fuse_init_out *out;

	assert_int_equal(k_wait(&k, u), 0);
	out = k_body(&k, u, sizeof(*out));
	assert_int_equal(!(out->flags & FUSE_ATOMIC_O_TRUNC), !!(offered & FUSE_NO_OPEN_SUPPORT));
}

static uint64_t lookup(int n)
{
	char name[16];
	uint64_t u;

	snprintf(name, sizeof(name), "%d", n);
	u = k_send(&k, FUSE_LOOKUP, 1, name, strlen(name) + 1, NULL, 0);
	assert_int_equal(k_wait(&k, u), 0);
	return ((const struct fuse_entry_out *)k_body(&k, u, sizeof(struct fuse_entry_out)))->nodeid;
}

static int read_of(uint64_t node)
{
	return ask(READ, node, fuse_read_in, .size = 10);
}

static int write_of(uint64_t node, uint32_t flags)
{
	struct fuse_write_in in = { .size = 1, .flags = flags };

	return k_wait(&k, k_send(&k, FUSE_WRITE, node, &in, sizeof(in), "y", 1));
}

static int unlink_of(int n)
{
	char name[16];

	snprintf(name, sizeof(name), "%d", n);
	return k_wait(&k, k_send(&k, FUSE_UNLINK, 1, name, strlen(name) + 1, NULL, 0));
}

static void forget(uint64_t node)
{
	send_fixed(FORGET, node, fuse_forget_in, .nlookup = 1);
}

/* ---- tests ---- */

static void open_and_flush_are_answered_for_ever(void **state)
{
	uint64_t n;

	init(FUSE_NO_OPEN_SUPPORT);
	n = lookup(0);
	assert_int_equal(ask(OPEN, n, fuse_open_in, .flags = O_RDONLY), -ENOSYS);
	assert_int_equal(ask(FLUSH, n, fuse_flush_in, .fh = 0), -ENOSYS);
	assert_int_equal(ask(RELEASE, n, fuse_release_in, .fh = 0), 0);
	assert_int_equal(opens, 0);
}

static void a_kernel_that_insists_on_opens_gets_them(void **state)
{
	uint64_t n;

	init(0);
	n = lookup(0);
	assert_int_equal(read_of(n), -EBADF);
	assert_int_equal(ask(OPEN, n, fuse_open_in, .flags = O_RDONLY), 0);
}

static void readers_share_a_file_and_writers_one_for_each_way(void **state)
{
	uint64_t n;

	init(FUSE_NO_OPEN_SUPPORT);
	n = lookup(0);
	assert_int_equal(read_of(n), 0);
	assert_int_equal(read_of(n), 0);
	assert_int_equal(opens, 1);
	assert_int_equal(write_of(n, O_RDWR), 0);
	assert_int_equal(last_flags, O_WRONLY);
	assert_int_equal(write_of(n, O_WRONLY), 0);
	assert_int_equal(opens, 2);
	assert_int_equal(write_of(n, O_WRONLY | O_APPEND), 0);
	assert_int_equal(last_flags, O_WRONLY | O_APPEND);
	assert_int_equal(write_of(n, O_WRONLY | O_DSYNC), 0);
	assert_int_equal(last_flags, O_WRONLY | O_DSYNC);
	assert_int_equal(opens, 4);
	assert_int_equal(read_of(n), 0);
	assert_int_equal(ask(FSYNC, n, fuse_fsync_in, .fh = 0), 0);
	assert_int_not_equal(last_flags & O_ACCMODE, O_RDONLY);
	assert_int_equal(opens, 4);
}

static void what_was_created_serves_all(void **state)
{
	struct fuse_create_in in = { .flags = O_RDWR, .mode = S_IFREG | 0644 };
	const struct { struct fuse_entry_out entry; struct fuse_open_out open; } *out;
	uint64_t u, n;

	init(FUSE_NO_OPEN_SUPPORT);
	u = k_send(&k, FUSE_CREATE, 1, &in, sizeof(in), "5", 2);
	assert_int_equal(k_wait(&k, u), 0);
	out = k_body(&k, u, sizeof(*out));
	assert_int_equal(out->open.fh, 0);
	n = out->entry.nodeid;
	assert_int_equal(write_of(n, O_RDWR), 0);
	assert_int_equal(read_of(n), 0);
	assert_int_equal(ask(RELEASE, n, fuse_release_in, .fh = 0), 0);
	assert_int_equal(opens, 1);
	assert_int_equal(releases, 0);
	forget(n);
	assert_int_equal(releases, 1);
}

static void a_range_is_copied_between_two_shared_files(void **state)
{
	uint64_t from, to;

	init(FUSE_NO_OPEN_SUPPORT);
	from = lookup(0);
	to = lookup(1);
	assert_int_equal(ask(COPY_FILE_RANGE, from, fuse_copy_file_range_in, .nodeid_out = to, .len = 1), 0);
	assert_int_equal(ask(COPY_FILE_RANGE, from, fuse_copy_file_range_in, .nodeid_out = to, .fh_out = 77, .len = 1), -EBADF);
	assert_int_equal(ask(COPY_FILE_RANGE, from, fuse_copy_file_range_in, .nodeid_out = 1, .len = 1), -EBADF);
	assert_int_equal(ask(COPY_FILE_RANGE, from, fuse_copy_file_range_in, .nodeid_out = 999, .len = 1), -ESTALE);
}

static void directories_and_locks_need_their_handles(void **state)
{
	init(FUSE_NO_OPEN_SUPPORT);
	assert_int_equal(read_of(1), -EBADF);
	assert_int_equal(ask(READDIR, 1, fuse_read_in, .size = 100), -EBADF);
	assert_int_equal(ask(RELEASEDIR, 1, fuse_release_in, .fh = 0), -EBADF);
	assert_int_equal(ask(GETLK, lookup(0), fuse_lk_in, .lk.type = F_RDLCK), -EBADF);
}

static void a_shared_file_is_not_the_kernels_to_release(void **state)
{
	uint64_t n, fh = 0;

	init(FUSE_NO_OPEN_SUPPORT);
	n = lookup(0);
	assert_int_equal(read_of(n), 0);
	for (uint32_t i = 0; i < k.volume->file_slots.count && !fh; i++)
		fh = slot_number_locked(&k.volume->file_slots, i);
	assert_int_not_equal(fh, 0);
	assert_int_equal(ask(RELEASE, n, fuse_release_in, .fh = fh), -EBADF);
	assert_int_equal(read_of(n), 0);
	assert_int_equal(opens, 1);
}

static void only_so_many_stay_open_and_those_used_last(void **state)
{
	uint64_t n[FILES];

	init(FUSE_NO_OPEN_SUPPORT);
	for (int i = 0; i < FILES; i++) {
		n[i] = lookup(i);
		assert_int_equal(read_of(n[i]), 0);
		assert_int_equal(read_of(n[0]), 0);      /* always in use */
	}
	assert_int_equal(opens, FILES);
	assert_int_equal(opens - releases, 256);
	assert_int_equal(read_of(n[FILES - 1]), 0);
	assert_int_equal(opens, FILES);
	assert_int_equal(read_of(n[1]), 0);
	assert_int_equal(opens, FILES + 1);
	for (int i = 0; i < FILES; i++)
		forget(n[i]);
	assert_int_equal(opens, releases);
}

static void what_is_unlinked_is_open_until_it_is_forgotten(void **state)
{
	uint64_t n[FILES];

	init(FUSE_NO_OPEN_SUPPORT);
	for (int i = 0; i < FILES; i++) {
		n[i] = lookup(i);
		assert_int_equal(unlink_of(i), 0);
	}
	assert_int_equal(opens, FILES);
	assert_int_equal(releases, 0);
	for (int i = 0; i < FILES; i++)
		assert_int_equal(read_of(n[i]), 0);
	assert_int_equal(opens, FILES);
	forget(n[0]);
	assert_int_equal(releases, 1);
}

static void what_nobody_knows_is_unlinked_without_an_open(void **state)
{
	init(FUSE_NO_OPEN_SUPPORT);
	assert_int_equal(unlink_of(3), 0);
	forget(lookup(4));
	assert_int_equal(unlink_of(4), 0);
	assert_int_equal(opens, 0);
}

static void what_cannot_be_opened_is_unlinked_all_the_same(void **state)
{
	init(FUSE_NO_OPEN_SUPPORT);
	lookup(0);
	open_error = -EIO;
	assert_int_equal(unlink_of(0), 0);
	assert_int_equal(opens, 0);
}

static void an_error_of_the_open_is_the_answer_to_who_needed_it(void **state)
{
	uint64_t n;

	init(FUSE_NO_OPEN_SUPPORT);
	n = lookup(0);
	open_error = -EPERM;
	assert_int_equal(write_of(n, O_WRONLY), -EPERM);
	assert_int_equal(writes, 0);
	assert_int_equal(write_of(n, O_WRONLY), 0);
}

static void without_descriptors_what_is_not_in_use_is_closed(void **state)
{
	init(FUSE_NO_OPEN_SUPPORT);
	for (int i = 0; i < 10; i++)
		assert_int_equal(read_of(lookup(i)), 0);
	assert_int_equal(releases, 0);
	open_error = -EMFILE;
	assert_int_equal(read_of(lookup(11)), 0);
	assert_int_equal(releases, 10);
}

/* Here the kernel's messages are served by the thread that gives them: it gives others meanwhile. */
static void an_open_may_take_its_time_and_holds_up_nobody(void **state)
{
	uint64_t n, other, u, unlink;

	init(FUSE_NO_OPEN_SUPPORT);
	n = lookup(0);
	other = lookup(1);
	pend = true;
	u = send_fixed(READ, n, fuse_read_in, .size = 4096);
	assert_int_equal(opens, 1);
	pend = false;
	assert_int_equal(read_of(other), 0);
	assert_int_equal(k_answered(&k, u), 0);
	alt_op_complete(pended, 0);
	assert_int_equal(k_wait(&k, u), 0);
	assert_int_equal(read_of(n), 0);
	assert_int_equal(opens, 2);

	/* What is unlinked is opened as long as it can be. */
	n = lookup(2);
	pend = true;
	unlink = k_send(&k, FUSE_UNLINK, 1, "2", 2, NULL, 0);
	pend = false;
	assert_int_equal(k_answered(&k, unlink), 0);
	assert_false(unlinked[2]);
	alt_op_complete(pended, 0);
	assert_int_equal(k_wait(&k, unlink), 0);
	assert_true(unlinked[2]);
	assert_int_equal(read_of(n), 0);
	assert_int_equal(opens, 3);
}

static enum alt_pre seen_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	assert_non_null(op->file);
	return ALT_PRE_SUCCESS_NO_CALLBACK;
}

static void filters_of_opens_are_refused_and_others_see_the_shared_file(void **state)
{
	static const int refused[] = { ALT_OP_OPEN, ALT_OP_READ, ALT_OP_WRITE, ALT_OP_FLUSH, ALT_OP_RELEASE, ALT_OP_GETLK, ALT_OP_SETLK, ALT_OP_ALL };
	struct alt_callback callbacks[] = { { ALT_OP_FSYNC, seen_pre }, { ALT_OP_END } };
	struct alt_filter_registration registration = { .size = sizeof(registration), .name = "seer", .altitude = "1000", .callbacks = callbacks };
	struct alt_filter filter = { .reg = &registration, .name = "seer" };
	struct alt_error err = { 0 };

	init(FUSE_NO_OPEN_SUPPORT);
	assert_int_equal(stack_attach(k.volume, &filter, NULL, NULL, NULL, 0, NULL), 0);
	assert_int_equal(ask(FSYNC, lookup(0), fuse_fsync_in, .fh = 0), 0);
	assert_int_equal(stack_detach(k.volume, "seer", NULL, ALT_TEARDOWN_MANUAL, NULL), 0);
	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
		callbacks[0].code = refused[i];
		assert_int_equal(stack_attach(k.volume, &filter, NULL, NULL, NULL, 0, &err), -EOPNOTSUPP);
	}
	assert_non_null(strstr(err.text, "without opens"));
}

/* Here the kernel's messages are served by the thread that gives them. */
static void a_slow_file_system_is_not_opened_by_who_serves(void **state)
{
	uint64_t n;

	init(FUSE_NO_OPEN_SUPPORT);
	n = lookup(0);
	assert_int_equal(read_of(n), 0);
	assert_int_equal(opens, 1);
	assert_false(pthread_equal(open_thread, pthread_self()));
	assert_int_equal(write_of(n, O_WRONLY), 0);
	assert_int_equal(opens, 2);
	assert_false(pthread_equal(open_thread, pthread_self()));
	open_error = -EACCES;
	assert_int_equal(read_of(lookup(1)), -EACCES);
}

#define over_many(name) cmocka_unit_test_setup_teardown(name, begin, end)

static void good_or_no_memory(int r)
{
	if (r && r != -ENOMEM)
		fail_msg("allocation %ld of %ld that failed: %d", first, many, r);
}

/* Whoever has a file open goes on with it, also when what opens it for itself had no memory at first. */
static void what_is_opened_on_demand_is_right_or_refused_without_memory(void **state)
{
	int file = 0;

	if (!FAILING)
		skip();
	init(FUSE_NO_OPEN_SUPPORT);
	for (many = 1; many < 5; many += 3)
		for (first = 0, counted = LONG_MAX; counted > first; first++, file++) {
			uint64_t n = lookup(file), other = lookup(FILES - 1);
			int gone;

			counted = 0;
			armed = true;
			good_or_no_memory(write_of(other, O_WRONLY));
			good_or_no_memory(read_of(other));
			gone = unlink_of(file);
			good_or_no_memory(gone);
			good_or_no_memory(read_of(n));
			armed = false;
			assert_int_equal(unlinked[file], !gone);
			assert_int_equal(read_of(n), 0);
			forget(n);
			forget(other);
			assert_int_equal(opens, releases);
		}
	assert_true(file > 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		over_many(open_and_flush_are_answered_for_ever),
		over_many(a_kernel_that_insists_on_opens_gets_them),
		over_many(readers_share_a_file_and_writers_one_for_each_way),
		over_many(what_was_created_serves_all),
		over_many(a_range_is_copied_between_two_shared_files),
		over_many(directories_and_locks_need_their_handles),
		over_many(a_shared_file_is_not_the_kernels_to_release),
		over_many(only_so_many_stay_open_and_those_used_last),
		over_many(what_is_unlinked_is_open_until_it_is_forgotten),
		over_many(what_nobody_knows_is_unlinked_without_an_open),
		over_many(what_cannot_be_opened_is_unlinked_all_the_same),
		over_many(an_error_of_the_open_is_the_answer_to_who_needed_it),
		over_many(without_descriptors_what_is_not_in_use_is_closed),
		over_many(an_open_may_take_its_time_and_holds_up_nobody),
		cmocka_unit_test_setup_teardown(a_slow_file_system_is_not_opened_by_who_serves, begin_slow, end),
		over_many(filters_of_opens_are_refused_and_others_see_the_shared_file),
		over_many(what_is_opened_on_demand_is_right_or_refused_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
