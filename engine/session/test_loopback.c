/* SPDX-License-Identifier: MIT */
/* A whole server without a mount: messages in, answers out, over the file system mem. */
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
#include "session/test_kernel.h"

static struct kernel k;

static int begin(void **state)
{
	return k_begin(&k, "mem");
}

static int end(void **state)
{
	return k_end(&k) ? 0 : -1;
}

#define send_fixed(opcode, node, type, ...) \
	k_send(&k, FUSE_##opcode, node, &(struct type){ __VA_ARGS__ }, sizeof(struct type), NULL, 0)
#define send_name(opcode, node, name) k_send(&k, FUSE_##opcode, node, name, strlen(name) + 1, NULL, 0)

static size_t nodes(void)
{
	struct volume_live live;

	volume_live(k.volume, &live);
	return live.nodes;
}

static size_t files(void)
{
	struct volume_live live;

	volume_live(k.volume, &live);
	return live.files;
}

static void init_of(uint32_t minor)
{
	uint64_t u = send_fixed(INIT, 0, fuse_init_in, .major = 7, .minor = minor, .max_readahead = 131072,
				.flags = FUSE_INIT_EXT | FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_POSIX_LOCKS);
	const struct fuse_init_out *out;

	assert_int_equal(k_wait(&k, u), 0);
	out = k_body(&k, u, sizeof(*out));
	assert_non_null(out);
	assert_int_equal(out->major, 7);
	assert_int_equal(out->max_write, IO_DATA_MAX);
	assert_true(out->flags & FUSE_MAX_PAGES);
	assert_false(out->flags & FUSE_POSIX_LOCKS); /* mem has none of its own: the kernel keeps them */
	assert_false(out->flags2); /* what was not offered is not taken */
}

static void init(void)
{
	init_of(45);
}

struct made { uint64_t node, fh; };

static struct made create(uint64_t dir, const char *name)
{
	struct fuse_create_in in = { .flags = O_RDWR, .mode = S_IFREG | 0644 };
	uint64_t u = k_send(&k, FUSE_CREATE, dir, &in, sizeof(in), name, strlen(name) + 1);
	const struct { struct fuse_entry_out entry; struct fuse_open_out open; } *out;

	assert_int_equal(k_wait(&k, u), 0);
	out = k_body(&k, u, sizeof(*out));
	assert_non_null(out);
	assert_true(S_ISREG(out->entry.attr.mode));
	return (struct made){ out->entry.nodeid, out->open.fh };
}

static uint64_t lookup(uint64_t dir, const char *name)
{
	uint64_t u = send_name(LOOKUP, dir, name);
	const struct fuse_entry_out *out;

	assert_int_equal(k_wait(&k, u), 0);
	out = k_body(&k, u, sizeof(*out));
	assert_non_null(out);
	return out->nodeid;
}

static uint64_t send_read(struct made f, uint64_t offset, uint32_t size)
{
	return send_fixed(READ, f.node, fuse_read_in, .fh = f.fh, .offset = offset, .size = size);
}

static uint64_t send_write(struct made f, uint64_t offset, const char *text)
{
	struct fuse_write_in in = { .fh = f.fh, .offset = offset, .size = strlen(text) };

	return k_send(&k, FUSE_WRITE, f.node, &in, sizeof(in), text, strlen(text));
}

static void release(struct made f)
{
	assert_int_equal(k_wait(&k, send_fixed(RELEASE, f.node, fuse_release_in, .fh = f.fh)), 0);
}

static void expect_read(struct made f, uint64_t offset, uint32_t size, const char *want)
{
	uint64_t u = send_read(f, offset, size);

	assert_int_equal(k_wait(&k, u), 0);
	assert_int_equal(k.answers[u].size, strlen(want));
	assert_memory_equal(k.answers[u].body, want, strlen(want));
}

static void a_life_from_init_to_destroy(void **state)
{
	const struct fuse_write_out *written;
	struct made f;
	uint64_t u;

	init();
	assert_int_equal(lookup(1, "none"), 0);          /* a name that is not there is remembered */
	f = create(1, "file");
	u = send_write(f, 0, "hello, world");
	assert_int_equal(k_wait(&k, u), 0);
	written = k_body(&k, u, sizeof(*written));
	assert_non_null(written);
	assert_int_equal(written->size, 12);
	expect_read(f, 0, 4096, "hello, world");
	expect_read(f, 7, 3, "wor");
	expect_read(f, 100, 10, "");
	assert_int_equal(lookup(1, "file"), f.node);
	assert_int_equal(k_wait(&k, send_fixed(FLUSH, f.node, fuse_flush_in, .fh = f.fh)), 0);
	release(f);
	assert_int_equal(files(), 0);
	assert_int_equal(k_wait(&k, k_send(&k, FUSE_DESTROY, 0, NULL, 0, NULL, 0)), 0);
	assert_int_equal(k.total, k.unique);             /* one answer for each */
}

static void what_is_told_is_counted_and_forgotten(void **state)
{
	struct fuse_batch_forget_in batch = { .count = 2 };
	struct fuse_forget_one each[2];
	struct made a, b;
	long before;

	init();
	a = create(1, "a");
	b = create(1, "b");
	lookup(1, "a");
	lookup(1, "a");
	release(a);
	release(b);
	assert_int_equal(nodes(), 3);
	before = k.total;
	send_fixed(FORGET, a.node, fuse_forget_in, .nlookup = 2);
	assert_int_equal(nodes(), 3);
	each[0] = (struct fuse_forget_one){ a.node, 1 };
	each[1] = (struct fuse_forget_one){ b.node, 100 }; /* more than it was told: not trusted */
	k_send(&k, FUSE_BATCH_FORGET, 0, &batch, sizeof(batch), each, sizeof(each));
	assert_int_equal(nodes(), 1);
	assert_int_equal(k.total, before);               /* nobody answers a FORGET */
	assert_int_equal(k_wait(&k, send_fixed(GETATTR, a.node, fuse_getattr_in, .getattr_flags = 0)), -ESTALE);
	assert_true(lookup(1, "a") != a.node);           /* the old number is never used for another */
}

static void a_handle_is_no_ones_but_its_files(void **state)
{
	struct made a, b;
	uint64_t u;

	init();
	a = create(1, "a");
	b = create(1, "b");
	u = send_read((struct made){ a.node, b.fh }, 0, 10);
	assert_int_equal(k_wait(&k, u), -EBADF);
	assert_int_equal(k_wait(&k, send_read((struct made){ a.node, 12345 }, 0, 10)), -EBADF);
	release(a);
	assert_int_equal(k_wait(&k, send_read(a, 0, 10)), -EBADF);
	assert_int_equal(k_wait(&k, send_fixed(RELEASE, a.node, fuse_release_in, .fh = a.fh)), -EBADF);
	release(b);
}

/* The kernel asks none of this; bytes that say so are answered all the same. */
static void names_are_in_directories_alone(void **state)
{
	struct fuse_rename_in to;
	struct made f;

	init();
	f = create(1, "file");
	assert_int_equal(k_wait(&k, send_name(LOOKUP, f.node, "x")), -ENOTDIR);
	assert_int_equal(k_wait(&k, send_name(UNLINK, f.node, "x")), -ENOTDIR);
	to.newdir = f.node;
	assert_int_equal(k_wait(&k, k_send(&k, FUSE_RENAME, 1, &to, sizeof(to), "file\0x", 7)), -ENOTDIR);
	to.newdir = 1;                                   /* as oldnodeid of a LINK */
	assert_int_equal(k_wait(&k, k_send(&k, FUSE_LINK, 1, &to, sizeof(to), "x", 2)), -EPERM);
	release(f);
}

static int look_for_nothing(uint64_t dir)
{
	return k_wait(&k, k_send(&k, FUSE_LOOKUP, dir, "nothing", 8, NULL, 0));
}

/* What is not in the root cannot be taken back by a kernel without epochs (Linux 6.15). */
static void what_is_not_there_is_remembered_if_it_can_be_taken_back(void **state)
{
	uint64_t u, dir;
	struct fuse_mkdir_in in = { .mode = 0755 };

	(void)state;
	alt_volume_set_watched(k.volume, true);
	init_of(43);
	assert_int_equal(look_for_nothing(FUSE_ROOT_ID), -ENOENT);
	u = k_send(&k, FUSE_MKDIR, FUSE_ROOT_ID, &in, sizeof(in), "dir", 4);
	assert_int_equal(k_wait(&k, u), 0);
	dir = ((const struct fuse_entry_out *)k_body(&k, u, sizeof(struct fuse_entry_out)))->nodeid;
	assert_int_equal(look_for_nothing(dir), 0);
	init_of(44);
	assert_int_equal(look_for_nothing(FUSE_ROOT_ID), 0);
}

/* See notifier.c: what the kernel made up is not to be mistaken for it. */
static void the_root_is_not_remembered_before_somebody_was_let_in(void **state)
{
	uint64_t u;

	(void)state;
	alt_volume_set_watched(k.volume, true);
	init();
	for (int in = 0; in < 2; in++) {
		const struct fuse_attr_out *out;

		u = send_fixed(GETATTR, FUSE_ROOT_ID, fuse_getattr_in, .getattr_flags = 0);
		assert_int_equal(k_wait(&k, u), 0);
		out = k_body(&k, u, sizeof(*out));
		assert_int_equal(out->attr_valid > 0, in);
		look_for_nothing(FUSE_ROOT_ID);
	}
}

static void what_is_no_message_is_answered_or_dropped(void **state)
{
	struct fuse_in_header h = { .len = sizeof(h), .opcode = FUSE_LOOKUP, .unique = ++k.unique, .nodeid = 1 };
	struct fuse_in_header unknown = { .len = sizeof(h), .opcode = 999, .unique = ++k.unique, .nodeid = 1 };

	k_send_raw(&k, &h, sizeof(h));                   /* a LOOKUP of nothing */
	assert_int_equal(k_wait(&k, h.unique), -EIO);
	k_send_raw(&k, &unknown, sizeof(unknown));
	assert_int_equal(k_wait(&k, unknown.unique), -ENOSYS);
	k_send_raw(&k, &h, 7);                           /* not even a header: nobody is there to be answered */
	k_send_raw(&k, &h, 0);
	assert_int_equal(k.total, 2);
}

/* The kernel is told of a change while it knows the node not yet, and the answer that brings it says what was before. */
static enum alt_post told_too_early(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	if (op->r.node)
		notices_again(op->volume, op->r.node->rec.number, false, 0);
	return ALT_POST_FINISHED;
}

static const struct alt_callback early_callbacks[] = { { ALT_OP_MKNOD, NULL, told_too_early }, { ALT_OP_END } };
static const struct alt_filter_registration early_registration = {
	.size = sizeof(early_registration), .name = "early", .altitude = "1000", .callbacks = early_callbacks,
};

static void what_changed_before_the_kernel_knew_its_node_is_not_remembered(void **state)
{
	struct alt_filter filter = { .reg = &early_registration, .name = "early" };
	struct fuse_mknod_in in = { .mode = S_IFREG | 0644 };
	const struct fuse_entry_out *out;

	(void)state;
	alt_volume_set_watched(k.volume, true);
	init();
	look_for_nothing(FUSE_ROOT_ID);
	for (int attached = 0; attached < 2; attached++) {
		char name[2] = { 'a' + attached, 0 };
		uint64_t u = k_send(&k, FUSE_MKNOD, 1, &in, sizeof(in), name, 2);

		assert_int_equal(k_wait(&k, u), 0);
		out = k_body(&k, u, sizeof(*out));
		assert_non_null(out);
		assert_true((out->attr_valid > 0) == !attached);
		if (!attached)
			assert_int_equal(stack_attach(k.volume, &filter, NULL, NULL, NULL, 0, NULL), 0);
	}
	assert_int_equal(stack_detach(k.volume, "early", NULL, ALT_TEARDOWN_MANUAL, NULL), 0);
}

/* ---- interrupts ---- */

static struct alt_op *_Atomic parked;
static _Atomic int cancels;

static void park_cancelled(struct alt_op *op, void *arg)
{
	atomic_fetch_add(&cancels, 1);
	op->status = -EINTR;
	alt_op_resume_pre(op, ALT_PRE_COMPLETE, NULL);
}

static enum alt_pre park_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	if (alt_op_set_cancel(op, park_cancelled, NULL) < 0) {
		op->status = -EINTR;
		return ALT_PRE_COMPLETE;
	}
	atomic_store(&parked, op);
	return ALT_PRE_PENDING;
}

static const struct alt_callback park_callbacks[] = { { ALT_OP_READ, park_pre }, { ALT_OP_END } };
static const struct alt_filter_registration park_registration = {
	.size = sizeof(park_registration), .name = "park", .altitude = "1000", .callbacks = park_callbacks,
};

static struct made parked_read(struct alt_filter *filter, uint64_t *unique)
{
	struct made f;

	cancels = 0;
	init();
	f = create(1, "file");
	assert_int_equal(k_wait(&k, send_write(f, 0, "text")), 0);
	assert_int_equal(stack_attach(k.volume, filter, NULL, NULL, NULL, 0, NULL), 0);
	*unique = send_read(f, 0, 10);
	assert_int_equal(k_answered(&k, *unique), 0);
	return f;
}

static void an_interrupt_ends_what_is_pended(void **state)
{
	struct alt_filter filter = { .reg = &park_registration, .name = "park" };
	uint64_t u, interrupt, again;
	struct made f = parked_read(&filter, &u);

	interrupt = send_fixed(INTERRUPT, 0, fuse_interrupt_in, .unique = u);
	assert_int_equal(k_wait(&k, u), -EINTR);
	assert_int_equal(cancels, 1);
	assert_int_equal(k_answered(&k, interrupt), 0);  /* its answer is the victim's */
	/* Overtaken by the answer: the kernel is to ask again, and drops it when it has what it wanted. */
	again = send_fixed(INTERRUPT, 0, fuse_interrupt_in, .unique = u);
	assert_int_equal(k_wait(&k, again), -EAGAIN);
	assert_int_equal(k_answered(&k, u), 1);
	assert_int_equal(stack_detach(k.volume, "park", NULL, ALT_TEARDOWN_MANUAL, NULL), 0);
	expect_read(f, 0, 10, "text");
	release(f);
}

static void an_interrupt_that_comes_too_late_changes_nothing(void **state)
{
	struct alt_filter filter = { .reg = &park_registration, .name = "park" };
	uint64_t u, interrupt;
	struct made f = parked_read(&filter, &u);

	assert_true(alt_op_clear_cancel(parked));
	alt_op_resume_pre(parked, ALT_PRE_SUCCESS_NO_CALLBACK, NULL);
	assert_int_equal(k_wait(&k, u), 0);
	interrupt = send_fixed(INTERRUPT, 0, fuse_interrupt_in, .unique = u);
	assert_int_equal(k_wait(&k, interrupt), -EAGAIN);
	assert_int_equal(cancels, 0);
	assert_int_equal(k_answered(&k, u), 1);
	assert_int_equal(stack_detach(k.volume, "park", NULL, ALT_TEARDOWN_MANUAL, NULL), 0);
	release(f);
}

static void the_end_cancels_what_is_pended_and_releases_what_is_open(void **state)
{
	struct alt_filter filter = { .reg = &park_registration, .name = "park" };
	uint64_t u;

	parked_read(&filter, &u);
	session_free(k.session);
	assert_int_equal(k_wait(&k, u), -EINTR);
	assert_int_equal(cancels, 1);
	assert_int_equal(files(), 1);                    /* goes with the volume: there is no RELEASE any more */
	stack_volume_fini(k.volume);
	assert_int_equal(filter.instances, 0);
	assert_int_equal(stack_volume_init(k.volume), 0);
	assert_int_equal(session_loopback(k.volume, k_take, &k, &k.session), 0);
}

/* An empty one would be its end, and who empties the directory would take it for done. */
static void a_listing_without_memory_is_an_error_and_not_the_end(void **state)
{
	const struct fuse_open_out *out;
	uint64_t u, fh;

	if (!FAILING)
		skip();
	init();
	u = send_fixed(OPENDIR, 1, fuse_open_in, 0);
	assert_int_equal(k_wait(&k, u), 0);
	out = k_body(&k, u, sizeof(*out));
	assert_non_null(out);
	fh = out->fh;
	of_size = 1234 + 1;
	u = send_fixed(READDIRPLUS, 1, fuse_read_in, .fh = fh, .size = 1234);
	assert_int_equal(k_wait(&k, u), -ENOMEM);
	of_size = 0;
	u = send_fixed(READDIRPLUS, 1, fuse_read_in, .fh = fh, .size = 1234);
	assert_int_equal(k_wait(&k, u), 0);
	assert_non_null(k_body(&k, u, 1));
	assert_int_equal(k_wait(&k, send_fixed(RELEASEDIR, 1, fuse_release_in, .fh = fh)), 0);
}

/* Nobody would close the file any more. In rows too: who asks again is refused again. */
static void a_release_and_a_forget_are_served_whatever_allocation_fails(void **state)
{
	struct made f;

	if (!FAILING)
		skip();
	init();
	for (many = 1; many < 5; many += 3)
		for (first = 0, counted = LONG_MAX; counted > first; first++) {
			f = create(1, "file");
			counted = 0;
			armed = true;
			release(f);
			send_fixed(FORGET, f.node, fuse_forget_in, .nlookup = 1);
			armed = false;
			assert_int_equal(files(), 0);
			assert_int_equal(k_wait(&k, send_name(UNLINK, 1, "file")), 0);
			assert_int_equal(nodes(), 1);
		}
	assert_true(first > 4);
}

#define over_mem(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		over_mem(a_life_from_init_to_destroy),
		over_mem(what_is_told_is_counted_and_forgotten),
		over_mem(a_handle_is_no_ones_but_its_files),
		over_mem(names_are_in_directories_alone),
		over_mem(what_is_not_there_is_remembered_if_it_can_be_taken_back),
		over_mem(the_root_is_not_remembered_before_somebody_was_let_in),
		over_mem(what_changed_before_the_kernel_knew_its_node_is_not_remembered),
		over_mem(what_is_no_message_is_answered_or_dropped),
		over_mem(an_interrupt_ends_what_is_pended),
		over_mem(an_interrupt_that_comes_too_late_changes_nothing),
		over_mem(the_end_cancels_what_is_pended_and_releases_what_is_open),
		over_mem(a_listing_without_memory_is_an_error_and_not_the_end),
		over_mem(a_release_and_a_forget_are_served_whatever_allocation_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
