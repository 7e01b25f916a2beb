/* SPDX-License-Identifier: MIT */
/*
 * Messages are decoded from heap blocks of exactly their length, so that the address sanitizer sees
 * one byte too many. One long file: encoding starts from decoded samples, with the same helpers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include <wire/test_sample.h>

static const struct sample *sample_find(uint32_t opcode)
{
	for (size_t i = 0; i < SAMPLE_COUNT; i++)
		if (samples[i].opcode == opcode)
			return &samples[i];
	fail();
	return NULL;
}

/* A message on the heap; the pointers of @rq stay good until the next one. */
static char *block;

static char *block_new(const void *bytes, size_t len)
{
	free(block);
	block = malloc(len ? len : 1);
	assert_non_null(block);
	memcpy(block, bytes, len);
	return block;
}

static int block_free(void **state)
{
	free(block);
	block = NULL;
	return 0;
}

static int decode_bytes(void *bytes, size_t len, struct wire_request *rq)
{
	return wire_decode(block_new(bytes, len), len, rq);
}

/* @len stands in the header too, as if the kernel had meant it so. */
static int decode_as(char *bytes, size_t len, struct wire_request *rq)
{
	uint32_t len32 = (uint32_t)len;

	memcpy(bytes, &len32, sizeof(len32));
	return decode_bytes(bytes, len, rq);
}

static int decode_sample(uint32_t opcode, struct wire_request *rq)
{
	char bytes[SAMPLE_MAX];
	size_t len = sample_build(sample_find(opcode), bytes);

	return decode_bytes(bytes, len, rq);
}

/* The sample with 32 or 64 bits of its fixed struct changed. */
static int decode_with(uint32_t opcode, size_t offset, const void *value, size_t size)
{
	char bytes[SAMPLE_MAX];
	size_t len = sample_build(sample_find(opcode), bytes);
	struct wire_request rq;

	memcpy(bytes + sizeof(struct fuse_in_header) + offset, value, size);
	return decode_bytes(bytes, len, &rq);
}

#define DECODE_WITH(opcode, type, field, value_) \
	decode_with(opcode, offsetof(struct type, field), \
		    &(__typeof__(((struct type *)0)->field)){ value_ }, \
		    sizeof(((struct type *)0)->field))

static int decode_tail(uint32_t opcode, const char *tail, size_t size, struct wire_request *rq)
{
	struct sample s = *sample_find(opcode);
	char *bytes = malloc(SAMPLE_MAX + size);
	size_t len;
	int r;

	assert_non_null(bytes);
	s.tail = tail;
	s.tail_size = size;
	len = sample_build(&s, bytes);
	r = decode_bytes(bytes, len, rq);
	free(bytes);
	return r;
}

#define DECODE_TAIL(opcode, text, rq) decode_tail(opcode, text, sizeof(text) - 1, rq)

static void every_opcode_is_decoded(void **state)
{
	struct wire_request rq;

	for (size_t i = 0; i < SAMPLE_COUNT; i++) {
		assert_int_equal(decode_sample(samples[i].opcode, &rq), 0);
		assert_int_equal(rq.kind, samples[i].kind);
		assert_int_equal(rq.code, samples[i].code);
		assert_int_equal(rq.opcode, samples[i].opcode);
		assert_int_equal(rq.unique, 42);
		assert_int_equal(rq.nodeid, 5);
		assert_int_equal(rq.caller.pid, 4321);
		assert_int_equal(rq.caller.uid, 1000);
		assert_int_equal(rq.caller.gid, 100);
		assert_false(rq.has_supp_group);
		if (rq.has_fh)
			assert_int_equal(rq.fh, 3);
	}
}

static void every_operation_has_a_sample(void **state)
{
	bool seen[ALT_OP_COUNT] = { [ALT_OP_END] = true };

	for (size_t i = 0; i < SAMPLE_COUNT; i++)
		seen[samples[i].code] = true;
	for (int code = 0; code < ALT_OP_COUNT; code++)
		assert_true(seen[code]);
}

static void unknown_opcodes_are_unsupported(void **state)
{
	static const uint32_t opcodes[] = {
		0, 7, 19, 54, 100, CUSE_INIT, FUSE_INIT_BSWAP_RESERVED, UINT32_MAX
	};
	char bytes[SAMPLE_MAX];
	struct wire_request rq;

	for (size_t i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++) {
		size_t len = sample_build(&(struct sample){ .opcode = opcodes[i] }, bytes);

		assert_int_equal(decode_bytes(bytes, len, &rq), 0);
		assert_int_equal(rq.kind, WIRE_UNSUPPORTED);
		assert_int_equal(rq.unique, 42);
	}
}

/* Cut anywhere, with the header still true or not: refused, or what is left is whole. */
static void truncated_messages_are_refused(void **state)
{
	char bytes[SAMPLE_MAX];
	struct wire_request rq;

	for (size_t i = 0; i < SAMPLE_COUNT; i++) {
		const struct sample *s = &samples[i];
		size_t len = sample_build(s, bytes);

		for (size_t cut = 0; cut < len; cut++) {
			assert_int_equal(decode_bytes(bytes, cut, &rq), -EPROTO);
			assert_int_equal(rq.unique, cut < sizeof(struct fuse_in_header) ? 0 : 42);
		}
		if (s->kind != WIRE_OP && s->kind != WIRE_FORGET && s->kind != WIRE_INTERRUPT)
			continue;
		for (size_t cut = sizeof(struct fuse_in_header); cut < len; cut++) {
			bool tail_unused = s->opcode == FUSE_TMPFILE &&
					   cut >= sizeof(struct fuse_in_header) + s->fixed_size;
			int expected = tail_unused || s->opcode == FUSE_SYNCFS ? 0 : -EPROTO;

			assert_int_equal(decode_as(bytes, cut, &rq), expected);
		}
	}
}

static void length_must_be_the_header_s(void **state)
{
	char bytes[SAMPLE_MAX] = { 0 };
	size_t len = sample_build(sample_find(FUSE_READ), bytes);
	struct wire_request rq;

	assert_int_equal(decode_bytes(bytes, len + 8, &rq), -EPROTO);
	assert_int_equal(rq.unique, 42);
}

static void names_are_checked(void **state)
{
	struct wire_request rq;

	assert_int_equal(DECODE_TAIL(FUSE_LOOKUP, "\0", &rq), -EPROTO);
	assert_int_equal(DECODE_TAIL(FUSE_LOOKUP, "open", &rq), -EPROTO);
	assert_int_equal(DECODE_TAIL(FUSE_LOOKUP, ".\0", &rq), -EPROTO);
	assert_int_equal(DECODE_TAIL(FUSE_LOOKUP, "..\0", &rq), -EPROTO);
	assert_int_equal(DECODE_TAIL(FUSE_LOOKUP, "a/b\0", &rq), -EPROTO);
	assert_int_equal(DECODE_TAIL(FUSE_MKDIR, "/\0", &rq), -EPROTO);
	assert_int_equal(DECODE_TAIL(FUSE_RENAME, "old\0", &rq), -EPROTO);
	assert_int_equal(DECODE_TAIL(FUSE_RENAME, "old\0new", &rq), -EPROTO);
	assert_int_equal(DECODE_TAIL(FUSE_RENAME, "old\0..\0", &rq), -EPROTO);
	assert_int_equal(DECODE_TAIL(FUSE_SYMLINK, "link\0\0", &rq), -EPROTO);
	assert_int_equal(DECODE_TAIL(FUSE_GETXATTR, "\0", &rq), -EPROTO);
	assert_int_equal(DECODE_TAIL(FUSE_LOOKUP, "...\0", &rq), 0);
	assert_string_equal(rq.params.name, "...");
	assert_int_equal(DECODE_TAIL(FUSE_LOOKUP, "\xff\1\n\0", &rq), 0);
	assert_int_equal(DECODE_TAIL(FUSE_GETXATTR, "user./\0", &rq), 0);
	assert_string_equal(rq.params.name, "user./");
}

/*
 * The kernel passes them from 6.15 on, and a name over 255 is the file system's ENAMETOOLONG, not a
 * broken message.
 */
static void long_names_pass_up_to_the_path_limit(void **state)
{
	static char name[4097];
	struct wire_request rq;

	memset(name, 'n', sizeof(name));
	name[4095] = '\0';
	assert_int_equal(decode_tail(FUSE_LOOKUP, name, 4096, &rq), 0);
	assert_int_equal(strlen(rq.params.name), 4095);
	name[4095] = 'n';
	name[4096] = '\0';
	assert_int_equal(decode_tail(FUSE_LOOKUP, name, 4097, &rq), -EPROTO);
}

static void hostile_counts_are_refused(void **state)
{
	assert_int_equal(DECODE_WITH(FUSE_BATCH_FORGET, fuse_batch_forget_in, count, 3), -EPROTO);
	assert_int_equal(DECODE_WITH(FUSE_BATCH_FORGET, fuse_batch_forget_in, count, 0x10000002),
			 -EPROTO);
	assert_int_equal(DECODE_WITH(FUSE_BATCH_FORGET, fuse_batch_forget_in, count, UINT32_MAX),
			 -EPROTO);
	assert_int_equal(DECODE_WITH(FUSE_BATCH_FORGET, fuse_batch_forget_in, count, 0), 0);
	assert_int_equal(DECODE_WITH(FUSE_WRITE, fuse_write_in, size, 6), -EPROTO);
	assert_int_equal(DECODE_WITH(FUSE_WRITE, fuse_write_in, size, UINT32_MAX), -EPROTO);
	assert_int_equal(DECODE_WITH(FUSE_WRITE, fuse_write_in, size, 0), 0);
	assert_int_equal(DECODE_WITH(FUSE_SETXATTR, fuse_setxattr_in, size, 4), -EPROTO);
	assert_int_equal(DECODE_WITH(FUSE_SETXATTR, fuse_setxattr_in, size, UINT32_MAX), -EPROTO);
	assert_int_equal(DECODE_WITH(FUSE_IOCTL, fuse_ioctl_in, in_size, 5), -EPROTO);
	assert_int_equal(DECODE_WITH(FUSE_IOCTL, fuse_ioctl_in, in_size, UINT32_MAX), -EPROTO);
}

static void impossible_ranges_are_refused(void **state)
{
	assert_int_equal(DECODE_WITH(FUSE_READ, fuse_read_in, offset, UINT64_MAX), -EPROTO);
	assert_int_equal(DECODE_WITH(FUSE_READ, fuse_read_in, offset, INT64_MAX), -EPROTO);
	assert_int_equal(DECODE_WITH(FUSE_READ, fuse_read_in, offset, INT64_MAX - 512), 0);
	assert_int_equal(DECODE_WITH(FUSE_WRITE, fuse_write_in, offset, INT64_MAX - 4), -EPROTO);
	assert_int_equal(DECODE_WITH(FUSE_FALLOCATE, fuse_fallocate_in, length, UINT64_MAX),
			 -EPROTO);
	assert_int_equal(
		DECODE_WITH(FUSE_COPY_FILE_RANGE, fuse_copy_file_range_in, off_in, UINT64_MAX),
		-EPROTO);
	assert_int_equal(
		DECODE_WITH(FUSE_COPY_FILE_RANGE, fuse_copy_file_range_in, off_out, UINT64_MAX),
		-EPROTO);
	assert_int_equal(DECODE_WITH(FUSE_SETATTR, fuse_setattr_in, size, UINT64_MAX), -EPROTO);
	assert_int_equal(DECODE_WITH(FUSE_SETATTR, fuse_setattr_in, mtimensec, 1000000000),
			 -EPROTO);
	assert_int_equal(DECODE_WITH(FUSE_SETATTR, fuse_setattr_in, atimensec, 1000000000), 0);
	assert_int_equal(DECODE_WITH(FUSE_SETLK, fuse_lk_in, lk.end, 9), -EPROTO);
	assert_int_equal(DECODE_WITH(FUSE_SETLK, fuse_lk_in, lk.end, UINT64_MAX), -EPROTO);
	assert_int_equal(DECODE_WITH(FUSE_SETLK, fuse_lk_in, lk.type, 9), -EPROTO);
	assert_int_equal(DECODE_WITH(FUSE_LSEEK, fuse_lseek_in, whence, SEEK_SET), -EPROTO);
}

static void creating_calls_keep_mode_and_umask_apart(void **state)
{
	struct wire_request rq;

	decode_sample(FUSE_MKNOD, &rq);
	assert_int_equal(rq.params.mode, S_IFBLK | 0666);
	assert_int_equal(rq.params.umask, 022);
	assert_int_equal(rq.params.rdev, 0x801);
	decode_sample(FUSE_MKDIR, &rq);
	assert_int_equal(rq.params.mode, S_IFDIR | 0777);
	assert_string_equal(rq.params.name, "dir");
	decode_sample(FUSE_CREATE, &rq);
	assert_int_equal(rq.params.mode, S_IFREG | 0644);
	assert_int_equal(rq.params.umask, 077);
	assert_int_equal(rq.params.flags, O_RDWR);
	assert_int_equal(rq.params.bits, ALT_PARAM_KILL_SUIDGID);
	decode_sample(FUSE_TMPFILE, &rq);
	assert_int_equal(rq.params.mode, S_IFREG | 0600);
	assert_null(rq.params.name);
	decode_sample(FUSE_SYMLINK, &rq);
	assert_string_equal(rq.params.name, "link");
	assert_string_equal(rq.params.target, "../target");
}

static void names_of_two_parents_are_decoded(void **state)
{
	struct wire_request rq;

	decode_sample(FUSE_RENAME2, &rq);
	assert_int_equal(rq.other_nodeid, 8);
	assert_int_equal(rq.params.flags, 1);
	assert_string_equal(rq.params.name, "old");
	assert_string_equal(rq.params.new_name, "new");
	decode_sample(FUSE_RENAME, &rq);
	assert_int_equal(rq.params.flags, 0);
	assert_string_equal(rq.params.new_name, "new");
	decode_sample(FUSE_LINK, &rq);
	assert_int_equal(rq.other_nodeid, 8);
	assert_string_equal(rq.params.name, "again");
}

static void attributes_are_decoded(void **state)
{
	struct wire_request rq;

	decode_sample(FUSE_SETATTR, &rq);
	assert_int_equal(rq.params.valid,
			 ALT_ATTR_SIZE | ALT_ATTR_FILE | ALT_ATTR_MTIME | ALT_ATTR_KILL_SUIDGID);
	assert_true(rq.has_fh);
	assert_int_equal(rq.params.attr.size, 1000);
	assert_int_equal(rq.params.attr.mtime.sec, 12345);
	assert_int_equal(rq.params.attr.mtime.nsec, 678);
	assert_int_equal(rq.params.lock.owner, 55);
	decode_sample(FUSE_GETATTR, &rq);
	assert_true(rq.has_fh);
	assert_int_equal(rq.params.bits, 0);
	decode_sample(FUSE_STATX, &rq);
	assert_true(rq.has_fh);
	assert_int_equal(rq.params.bits, ALT_PARAM_BTIME);
	decode_sample(FUSE_ACCESS, &rq);
	assert_int_equal(rq.params.mode, R_OK | X_OK);
}

static void reads_and_writes_are_decoded(void **state)
{
	struct wire_request rq;

	decode_sample(FUSE_READ, &rq);
	assert_int_equal(rq.params.size, 512);
	assert_int_equal(rq.params.offset, 4096);
	assert_int_equal(rq.params.lock.owner, 55);
	assert_null(rq.params.buf);
	decode_sample(FUSE_WRITE, &rq);
	assert_int_equal(rq.params.size, 5);
	assert_memory_equal(rq.params.buf, "12345", 5);
	assert_int_equal(rq.params.bits, ALT_PARAM_WRITEBACK | ALT_PARAM_KILL_SUIDGID);
	assert_int_equal(rq.params.flags, O_RDWR);
	assert_int_equal(rq.params.lock.owner, 55);
	decode_sample(FUSE_READDIRPLUS, &rq);
	assert_int_equal(rq.params.bits, ALT_PARAM_PLUS);
	assert_int_equal(rq.params.offset, -1);
	assert_int_equal(rq.params.size, 4096);
	decode_sample(FUSE_COPY_FILE_RANGE_64, &rq);
	assert_int_equal(rq.other_nodeid, 8);
	assert_int_equal(rq.other_fh, 4);
	assert_int_equal(rq.params.offset_out, 20);
	assert_int_equal(rq.params.length, 4096);
	decode_sample(FUSE_FALLOCATE, &rq);
	assert_int_equal(rq.params.flags, 3);
	assert_int_equal(rq.params.length, 90);
	decode_sample(FUSE_LSEEK, &rq);
	assert_int_equal(rq.params.whence, SEEK_HOLE);
	decode_sample(FUSE_OPEN, &rq);
	assert_int_equal(rq.params.flags, O_WRONLY | O_TRUNC);
	assert_int_equal(rq.params.bits, ALT_PARAM_KILL_SUIDGID);
	decode_sample(FUSE_FSYNC, &rq);
	assert_int_equal(rq.params.bits, ALT_PARAM_DATASYNC);
}

static void xattrs_are_decoded(void **state)
{
	struct wire_request rq;

	decode_sample(FUSE_SETXATTR, &rq);
	assert_string_equal(rq.params.name, "user.a");
	assert_int_equal(rq.params.size, 3);
	assert_memory_equal(rq.params.buf, "xyz", 3);
	assert_int_equal(rq.params.flags, 1);
	assert_int_equal(rq.params.bits, ALT_PARAM_ACL_KILL_SGID);
	decode_sample(FUSE_GETXATTR, &rq);
	assert_int_equal(rq.params.size, 64);
	assert_null(rq.params.buf);
}

static void locks_are_decoded(void **state)
{
	struct wire_request rq;

	decode_sample(FUSE_SETLK, &rq);
	assert_int_equal(rq.params.bits, ALT_PARAM_FLOCK);
	assert_int_equal(rq.params.lock.start, 10);
	assert_int_equal(rq.params.lock.end, INT64_MAX);
	assert_int_equal(rq.params.lock.owner, 55);
	assert_int_equal(rq.params.lock.type, F_WRLCK);
	assert_int_equal(rq.params.lock.pid, 77);
	decode_sample(FUSE_SETLKW, &rq);
	assert_int_equal(rq.params.bits, ALT_PARAM_WAIT);
	decode_sample(FUSE_FLUSH, &rq);
	assert_int_equal(rq.params.lock.owner, 55);
	decode_sample(FUSE_RELEASE, &rq);
	assert_int_equal(rq.params.bits, ALT_PARAM_FLOCK);
	assert_int_equal(rq.params.lock.owner, 55);
}

static void ioctl_and_poll_are_decoded(void **state)
{
	struct wire_request rq;

	decode_sample(FUSE_IOCTL, &rq);
	assert_int_equal(rq.params.cmd, 0x6601);
	assert_int_equal(rq.params.arg, 0x1234);
	assert_memory_equal(rq.params.buf, "abcd", 4);
	assert_int_equal(rq.params.out_size, 8);
	assert_int_equal(rq.params.bits, ALT_PARAM_DIR);
	decode_sample(FUSE_POLL, &rq);
	assert_int_equal(rq.params.cmd, 5);
	assert_int_equal(rq.params.arg, 99);
	decode_sample(FUSE_BMAP, &rq);
	assert_int_equal(rq.params.arg, 6);
}

static void forgets_and_interrupts_are_decoded(void **state)
{
	struct wire_forget pairs[2];
	struct wire_request rq;

	decode_sample(FUSE_BATCH_FORGET, &rq);
	assert_int_equal(rq.forget_count, 2);
	memcpy(pairs, rq.forgets, sizeof(pairs));
	assert_int_equal(pairs[1].nodeid, 3);
	assert_int_equal(pairs[1].nlookup, 4);
	decode_sample(FUSE_FORGET, &rq);
	assert_int_equal(rq.forget_count, 1);
	memcpy(pairs, rq.forgets, sizeof(pairs[0]));
	assert_int_equal(pairs[0].nodeid, 5);
	assert_int_equal(pairs[0].nlookup, 2);
	decode_sample(FUSE_INTERRUPT, &rq);
	assert_int_equal(rq.victim, 44);
}

static void init_is_decoded_with_and_without_flags2(void **state)
{
	struct sample s = *sample_find(FUSE_INIT);
	struct fuse_init_in old = { .major = 7, .minor = 12, .flags = FUSE_BIG_WRITES };
	char bytes[SAMPLE_MAX];
	struct wire_request rq;

	decode_sample(FUSE_INIT, &rq);
	assert_int_equal(rq.init.minor, 45);
	assert_true(rq.init.flags == (FUSE_PASSTHROUGH | FUSE_INIT_EXT | FUSE_BIG_WRITES));
	s.fixed = &old;
	s.fixed_size = 16;
	assert_int_equal(decode_bytes(bytes, sample_build(&s, bytes), &rq), 0);
	assert_true(rq.init.flags == FUSE_BIG_WRITES);
	old.flags |= FUSE_INIT_EXT;
	assert_int_equal(decode_bytes(bytes, sample_build(&s, bytes), &rq), -EPROTO);
}

/* CREATE with @ext behind it. */
static int decode_extended(const uint32_t *ext, size_t words, unsigned units,
			   struct wire_request *rq)
{
	char bytes[SAMPLE_MAX];
	struct fuse_in_header h;
	size_t len = sample_build(sample_find(FUSE_CREATE), bytes);

	memcpy(bytes + len, ext, words * sizeof(*ext));
	memcpy(&h, bytes, sizeof(h));
	h.total_extlen = (uint16_t)units;
	h.len = (uint32_t)(len + words * sizeof(*ext));
	memcpy(bytes, &h, sizeof(h));
	return decode_bytes(bytes, h.len, rq);
}

static void supplementary_group_is_found_among_extensions(void **state)
{
	static const uint32_t both[] = { 16, 1, 0, 0, 16, FUSE_EXT_GROUPS, 1, 2000 };
	static const uint32_t none[] = { 16, FUSE_EXT_GROUPS, 0, 0 };
	struct wire_request rq;

	assert_int_equal(decode_extended(both, 8, 4, &rq), 0);
	assert_true(rq.has_supp_group);
	assert_int_equal(rq.supp_group, 2000);
	assert_string_equal(rq.params.name, "file");
	assert_int_equal(decode_extended(none, 4, 2, &rq), 0);
	assert_false(rq.has_supp_group);
}

static void hostile_extensions_are_refused(void **state)
{
	static const uint32_t endless[] = { 0, 1, 0, 0 };
	static const uint32_t longer[] = { 24, FUSE_EXT_GROUPS, 1, 7 };
	static const uint32_t crowd[] = { 16, FUSE_EXT_GROUPS, 2, 7 };
	static const uint32_t wrap[] = { UINT32_MAX, FUSE_EXT_GROUPS, 0x40000001, 7 };
	static const uint32_t empty[] = { 8, FUSE_EXT_GROUPS };
	struct wire_request rq;

	assert_int_equal(decode_extended(endless, 4, 2, &rq), -EPROTO);
	assert_int_equal(decode_extended(longer, 4, 2, &rq), -EPROTO);
	assert_int_equal(decode_extended(crowd, 4, 2, &rq), -EPROTO);
	assert_int_equal(decode_extended(wrap, 4, 2, &rq), -EPROTO);
	assert_int_equal(decode_extended(empty, 2, 1, &rq), -EPROTO);
	assert_int_equal(decode_extended(empty, 2, UINT16_MAX, &rq), -EPROTO);
	assert_int_equal(decode_extended(empty, 2, 4, &rq), -EPROTO);  /* eats the name */
}

/* Encoding */

struct reply {
	struct wire_request rq;
	struct alt_op op;
	struct alt_params params;
	struct wire_reply rp;
	struct iovec iov[2];
	int iovs;
	_Alignas(8) char fixed[WIRE_FIXED_MAX];
	struct fuse_out_header header;
};

static char some_node;

static void reply_init(struct reply *r, uint32_t opcode)
{
	memset(r, 0, sizeof(*r));
	assert_int_equal(decode_sample(opcode, &r->rq), 0);
	r->params = r->rq.params;
	r->op.code = r->rq.code;
	r->op.p = &r->params;
	r->op.r.node = (struct alt_node *)&some_node;
	r->op.r.entry.attr = (struct alt_attr){
		.size = 123,
		.blocks = 1,
		.mode = S_IFREG | 0644,
		.nlink = 2,
		.uid = 7,
		.gid = 8,
		.rdev = 0x123abc45,
		.atime = { 1, 2 },
		.mtime = { -3, 4 },
		.ctime = { 5, 6 },
		.btime = { 7, 8 },
	};
	r->rp = (struct wire_reply){
		.nodeid = 9, .generation = 2, .fh = 11, .attr_ino = 77, .entry_ttl_ms = 1500, .attr_ttl_ms = 1500
	};
	memset(r->fixed, 0xa5, sizeof(r->fixed));
}

static void reply_encode(struct reply *r, const void *data, size_t size)
{
	size_t total = 0;

	r->iovs = wire_encode(&r->rq, &r->op, &r->rp, data, size, r->fixed, r->iov);
	assert_in_range(r->iovs, 1, 2);
	for (int i = 0; i < r->iovs; i++)
		total += r->iov[i].iov_len;
	memcpy(&r->header, r->fixed, sizeof(r->header));
	assert_int_equal(r->header.len, total);
	assert_int_equal(r->header.unique, 42);
	assert_ptr_equal(r->iov[0].iov_base, r->fixed);
	assert_in_range(r->iov[0].iov_len, 16, WIRE_FIXED_MAX);
}

static void *body(struct reply *r, size_t size)
{
	assert_int_equal(r->header.error, 0);
	assert_int_equal(r->iov[0].iov_len, 16 + size);
	return r->fixed + 16;
}

static void check_attr(const struct fuse_attr *a)
{
	assert_int_equal(a->ino, 77);
	assert_int_equal(a->size, 123);
	assert_int_equal(a->mode, S_IFREG | 0644);
	assert_int_equal(a->blksize, 4096);
	assert_int_equal(a->rdev, 0x123abc45);
	assert_int_equal(a->mtime, -3);
	assert_int_equal(a->mtimensec, 4);
	assert_int_equal(a->flags, 0);
}

static void entries_are_encoded(void **state)
{
	static const uint32_t opcodes[] = { FUSE_LOOKUP, FUSE_MKNOD, FUSE_MKDIR, FUSE_SYMLINK,
					    FUSE_LINK };
	struct fuse_entry_out o;
	struct reply r;

	for (size_t i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++) {
		reply_init(&r, opcodes[i]);
		r.op.r.entry.attr_ttl_ms = ALT_TTL_NONE;
		reply_encode(&r, NULL, 0);
		memcpy(&o, body(&r, sizeof(o)), sizeof(o));
		assert_int_equal(o.nodeid, 9);
		assert_int_equal(o.generation, 2);
		assert_int_equal(o.entry_valid, 1);
		assert_int_equal(o.entry_valid_nsec, 500000000);
		assert_int_equal(o.attr_valid, 0);
		assert_int_equal(o.attr_valid_nsec, 0);
		check_attr(&o.attr);
	}
}

static void negative_entry_has_only_a_lifetime(void **state)
{
	struct fuse_entry_out o, expected = { .entry_valid = 2 };
	struct reply r;

	reply_init(&r, FUSE_LOOKUP);
	r.op.r.node = NULL;
	r.op.r.entry.entry_ttl_ms = 2000;
	reply_encode(&r, NULL, 0);
	memcpy(&o, body(&r, sizeof(o)), sizeof(o));
	assert_memory_equal(&o, &expected, sizeof(o));
}

static void attributes_are_encoded(void **state)
{
	struct fuse_attr_out o;
	struct wire_statx_out x;
	struct reply r;

	reply_init(&r, FUSE_GETATTR);
	reply_encode(&r, NULL, 0);
	memcpy(&o, body(&r, sizeof(o)), sizeof(o));
	assert_int_equal(o.attr_valid, 1);
	check_attr(&o.attr);
	reply_init(&r, FUSE_STATX);
	reply_encode(&r, NULL, 0);
	memcpy(&x, body(&r, sizeof(x)), sizeof(x));
	assert_int_equal(x.stat.mask, 0xfff);
	assert_int_equal(x.stat.ino, 77);
	assert_int_equal(x.stat.btime.tv_sec, 7);
	assert_int_equal(x.stat.btime.tv_nsec, 8);
	assert_int_equal(x.stat.mtime.tv_sec, -3);
	assert_int_equal(x.stat.rdev_major, 0xabc);
	assert_int_equal(x.stat.rdev_minor, 0x12345);
	assert_int_equal(x.stat.dev_major, 0);
}

static void opens_are_encoded(void **state)
{
	struct wire_open_out o;
	struct reply r;

	reply_init(&r, FUSE_OPEN);
	r.op.r.open = ALT_OPEN_DIRECT | ALT_OPEN_PARALLEL | 1u << 20;
	reply_encode(&r, NULL, 0);
	memcpy(&o, body(&r, sizeof(o)), sizeof(o));
	assert_int_equal(o.fh, 11);
	assert_int_equal(o.open_flags, FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES);
	assert_int_equal(o.backing_id, 0);
	reply_init(&r, FUSE_CREATE);
	r.rp.backing_id = 6;
	reply_encode(&r, NULL, 0);
	memcpy(&o, (char *)body(&r, 128 + sizeof(o)) + 128, sizeof(o));
	assert_int_equal(o.open_flags, FOPEN_PASSTHROUGH);
	assert_int_equal(o.backing_id, 6);
}

static void data_is_sent_from_where_it_lies(void **state)
{
	static const uint32_t opcodes[] = { FUSE_READ, FUSE_READLINK, FUSE_GETXATTR };
	char buf[64] = "data";
	struct reply r;

	for (size_t i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++) {
		reply_init(&r, opcodes[i]);
		r.params.buf = buf;
		r.op.r.size = 4;
		reply_encode(&r, NULL, 0);
		body(&r, 0);
		assert_int_equal(r.iovs, 2);
		assert_ptr_equal(r.iov[1].iov_base, buf);
		assert_int_equal(r.iov[1].iov_len, 4);
	}
	reply_init(&r, FUSE_READ);
	reply_encode(&r, NULL, 0);
	assert_int_equal(r.iovs, 1);
	reply_init(&r, FUSE_READDIR);
	reply_encode(&r, buf, 24);
	assert_ptr_equal(r.iov[1].iov_base, buf);
	reply_init(&r, FUSE_IOCTL);
	r.params.buf = buf;
	r.op.r.size = 8;
	r.op.r.value = -5;
	reply_encode(&r, NULL, 0);
	assert_int_equal(((struct fuse_ioctl_out *)body(&r, 16))->result, -5);
	assert_int_equal(r.iov[1].iov_len, 8);
}

static void size_of_an_attribute_is_answered(void **state)
{
	struct reply r;

	reply_init(&r, FUSE_LISTXATTR);
	r.op.r.size = 100;
	reply_encode(&r, NULL, 0);
	assert_int_equal(((struct fuse_getxattr_out *)body(&r, 8))->size, 100);
	assert_int_equal(r.iovs, 1);
}

static void answers_over_the_kernel_s_room_become_errors(void **state)
{
	static const struct { uint32_t opcode; int error; size_t room;
	} cases[] = {
		{ FUSE_READ, -EIO, 512 },	{ FUSE_WRITE, -EIO, 5 },
		{ FUSE_GETXATTR, -ERANGE, 64 }, { FUSE_IOCTL, -EIO, 8 },
		{ FUSE_READLINK, -EIO, 4095 },	{ FUSE_COPY_FILE_RANGE, -EIO, 4096 },
	};
	static char buf[4096];
	struct reply r;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		reply_init(&r, cases[i].opcode);
		r.params.buf = buf;
		r.op.r.size = cases[i].room;
		reply_encode(&r, NULL, 0);
		assert_int_equal(r.header.error, 0);
		r.op.r.size++;
		reply_encode(&r, NULL, 0);
		assert_int_equal(r.header.error, cases[i].error);
		assert_int_equal(r.header.len, 16);
	}
}

static void numbers_are_encoded(void **state)
{
	struct fuse_lk_out lk;
	struct fuse_statfs_out st;
	struct reply r;

	reply_init(&r, FUSE_WRITE);
	r.op.r.size = 5;
	reply_encode(&r, NULL, 0);
	assert_int_equal(((struct fuse_write_out *)body(&r, 8))->size, 5);
	reply_init(&r, FUSE_COPY_FILE_RANGE);
	r.op.r.size = 4096;
	reply_encode(&r, NULL, 0);
	assert_int_equal(((struct fuse_write_out *)body(&r, 8))->size, 4096);
	reply_init(&r, FUSE_COPY_FILE_RANGE_64);
	r.rq.params.length = 1ull << 40;
	r.op.r.size = 1ull << 40;
	reply_encode(&r, NULL, 0);
	assert_true(((struct wire_copy_file_range_out *)body(&r, 8))->bytes_copied == 1ull << 40);
	reply_init(&r, FUSE_LSEEK);
	r.op.r.offset = 4321;
	reply_encode(&r, NULL, 0);
	assert_int_equal(((struct fuse_lseek_out *)body(&r, 8))->offset, 4321);
	reply_init(&r, FUSE_BMAP);
	r.op.r.offset = 12;
	reply_encode(&r, NULL, 0);
	assert_int_equal(((struct fuse_bmap_out *)body(&r, 8))->block, 12);
	reply_init(&r, FUSE_POLL);
	r.op.r.value = 5;
	reply_encode(&r, NULL, 0);
	assert_int_equal(((struct fuse_poll_out *)body(&r, 8))->revents, 5);
	reply_init(&r, FUSE_GETLK);
	r.op.r.lock = (struct alt_lock){ .start = 1, .end = INT64_MAX, .type = F_RDLCK, .pid = 3 };
	reply_encode(&r, NULL, 0);
	memcpy(&lk, body(&r, sizeof(lk)), sizeof(lk));
	assert_int_equal(lk.lk.end, INT64_MAX);
	assert_int_equal(lk.lk.type, F_RDLCK);
	reply_init(&r, FUSE_STATFS);
	r.op.r.statfs =
		(struct alt_statfs){ .blocks = 10, .bsize = 4096, .frsize = 512, .namelen = 255 };
	reply_encode(&r, NULL, 0);
	memcpy(&st, body(&r, sizeof(st)), sizeof(st));
	assert_int_equal(st.st.frsize, 512);
	assert_int_equal(st.st.namelen, 255);
}

static void errors_have_no_body(void **state)
{
	static const struct { int status, error;
	} cases[] = {
		{ -ENOENT, -ENOENT }, { 5, -EIO },    { -512, -EIO },
		{ INT32_MIN, -EIO },  { -511, -511 },
	};
	struct reply r;

	for (size_t i = 0; i < SAMPLE_COUNT; i++) {
		if (samples[i].kind != WIRE_OP)
			continue;
		for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
			reply_init(&r, samples[i].opcode);
			r.op.status = cases[k].status;
			reply_encode(&r, NULL, 0);
			assert_int_equal(r.header.error, cases[k].error);
			assert_int_equal(r.header.len, 16);
		}
	}
}

static void calls_without_an_answer_are_sixteen_bytes(void **state)
{
	static const uint32_t opcodes[] = {
		FUSE_UNLINK,	FUSE_RMDIR,  FUSE_RENAME,   FUSE_FLUSH,
		FUSE_RELEASE,	FUSE_FSYNC,  FUSE_SETXATTR, FUSE_SETLK,
		FUSE_FALLOCATE, FUSE_ACCESS, FUSE_SYNCFS,   FUSE_REMOVEXATTR,
	};
	struct reply r;

	for (size_t i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++) {
		reply_init(&r, opcodes[i]);
		r.op.r.size = 99;
		reply_encode(&r, NULL, 0);
		body(&r, 0);
		assert_int_equal(r.iovs, 1);
	}
}

static void directory_entries_are_packed(void **state)
{
	struct alt_entry e = { .attr = { .ino = 5, .mode = S_IFREG } };
	struct wire_reply rp = { .nodeid = 9, .entry_ttl_ms = 1000, .attr_ttl_ms = 1000 };

	assert_int_equal(wire_dirent_size(1, false), 32);
	assert_int_equal(wire_dirent_size(8, false), 32);
	assert_int_equal(wire_dirent_size(9, false), 40);
	assert_int_equal(wire_dirent_size(1, true), 160);
	for (int plus = 0; plus < 2; plus++) {
		for (size_t len = 1; len <= 255; len++) {
			size_t size = wire_dirent_size(len, plus);
			char name[256], *out = malloc(size), *at = out + (plus ? 128 : 0);
			struct fuse_dirent d;

			assert_non_null(out);
			memset(name, 'x', len);
			memset(out, 0xa5, size);
			wire_dirent_put(out, name, len, 5, 8, 1000, plus, &e, &rp);
			memcpy(&d, at, sizeof(d));
			assert_int_equal(d.ino, 5);
			assert_int_equal(d.off, 1000);
			assert_int_equal(d.namelen, len);
			assert_int_equal(d.type, 8);
			assert_memory_equal(at + 24, name, len);
			for (char *pad = at + 24 + len; pad < out + size; pad++)
				assert_int_equal(*pad, 0);
			free(out);
		}
	}
}

static void plus_entry_without_node_is_zero(void **state)
{
	struct alt_entry e = { .attr = { .ino = 5 } };
	struct wire_reply rp = { .nodeid = 0, .entry_ttl_ms = 1000, .attr_ttl_ms = 1000 };
	_Alignas(8) char out[160];
	char zero[128] = { 0 };

	wire_dirent_put(out, ".", 1, 5, 4, 1, true, &e, &rp);
	assert_memory_equal(out, zero, 128);
	rp.nodeid = 9;
	wire_dirent_put(out, "a", 1, 5, 8, 2, true, &e, &rp);
	assert_int_equal(((struct fuse_entry_out *)out)->nodeid, 9);
	assert_int_equal(((struct fuse_entry_out *)out)->attr.ino, 5);
}

static void init_answer_is_encoded(void **state)
{
	struct wire_init_answer a = {
		.flags = FUSE_PASSTHROUGH | FUSE_BIG_WRITES,
		.max_write = 1 << 20,
		.max_pages = 256,
		.max_stack_depth = 2,
		.time_gran = 1,
		.max_background = 64,
		.congestion_threshold = 48,
	};
	char out[WIRE_FIXED_MAX];
	struct wire_init_out o;

	assert_int_equal(wire_encode_init(42, &a, out), 80);
	memcpy(&o, out + 16, sizeof(o));
	assert_int_equal(o.major, 7);
	assert_int_equal(o.minor, 45);
	assert_int_equal(o.flags, FUSE_BIG_WRITES | FUSE_INIT_EXT);
	assert_int_equal(o.flags2, 1 << 5);
	assert_int_equal(o.max_stack_depth, 2);
	assert_int_equal(o.request_timeout, 0);
}

static void check_notify(const char *out, size_t size, int code)
{
	struct fuse_out_header h;

	memcpy(&h, out, sizeof(h));
	assert_int_equal(h.len, size);
	assert_int_equal(h.error, code);
	assert_int_equal(h.unique, 0);
}

static void notifications_are_encoded(void **state)
{
	char out[WIRE_FIXED_MAX + 256], name[256];
	struct fuse_notify_inval_entry_out o;
	struct fuse_notify_delete_out d;

	memset(name, 'x', sizeof(name));
	assert_int_equal(wire_notify_inode(5, -1, 0, out), 40);
	check_notify(out, 40, FUSE_NOTIFY_INVAL_INODE);
	assert_int_equal(wire_notify_entry(5, "abc", 3, true, out), 36);
	check_notify(out, 36, FUSE_NOTIFY_INVAL_ENTRY);
	memcpy(&o, out + 16, sizeof(o));
	assert_int_equal(o.parent, 5);
	assert_int_equal(o.namelen, 3);
	assert_int_equal(o.flags, FUSE_EXPIRE_ONLY);
	assert_memory_equal(out + 32, "abc", 4);
	assert_int_equal(wire_notify_entry(5, name, 255, false, out), 288);
	assert_int_equal(wire_notify_entry(5, name, 256, false, out), 0);
	assert_int_equal(wire_notify_entry(5, name, 0, false, out), 0);
	assert_int_equal(wire_notify_delete(5, 6, "abc", 3, out), 44);
	check_notify(out, 44, FUSE_NOTIFY_DELETE);
	memcpy(&d, out + 16, sizeof(d));
	assert_int_equal(d.parent, 5);
	assert_int_equal(d.child, 6);
	assert_int_equal(d.namelen, 3);
	assert_memory_equal(out + 40, "abc", 4);
	assert_int_equal(wire_notify_delete(5, 6, name, 256, out), 0);
	assert_int_equal(wire_notify_delete(5, 6, name, 0, out), 0);
	assert_int_equal(wire_notify_epoch(out), 16);
	check_notify(out, 16, FUSE_NOTIFY_INC_EPOCH);
	assert_int_equal(wire_notify_poll(99, out), 24);
	check_notify(out, 24, FUSE_NOTIFY_POLL);
}

static void the_header_tells_who_asks_and_whether_it_waits(void **state)
{
	struct fuse_in_header h = { .len = sizeof h, .opcode = FUSE_GETATTR, .pid = 77 };

	assert_int_equal(wire_client(&h, sizeof h), 77);
	assert_int_equal(wire_client(&h, sizeof h - 1), 0);
	assert_true(wire_is_awaited(&h, sizeof h));
	for (uint32_t op = 0; op < 100; op++) {
		h.opcode = op;
		assert_int_equal(wire_is_awaited(&h, sizeof h), op != FUSE_RELEASE && op != FUSE_RELEASEDIR);
	}
	h.opcode = FUSE_RELEASE;
	assert_true(wire_is_awaited(&h, sizeof h - 1)); /* nothing is known of it */
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_opcode_is_decoded),
		cmocka_unit_test(every_operation_has_a_sample),
		cmocka_unit_test(unknown_opcodes_are_unsupported),
		cmocka_unit_test(truncated_messages_are_refused),
		cmocka_unit_test(length_must_be_the_header_s),
		cmocka_unit_test(names_are_checked),
		cmocka_unit_test(long_names_pass_up_to_the_path_limit),
		cmocka_unit_test(hostile_counts_are_refused),
		cmocka_unit_test(impossible_ranges_are_refused),
		cmocka_unit_test(creating_calls_keep_mode_and_umask_apart),
		cmocka_unit_test(names_of_two_parents_are_decoded),
		cmocka_unit_test(attributes_are_decoded),
		cmocka_unit_test(reads_and_writes_are_decoded),
		cmocka_unit_test(xattrs_are_decoded),
		cmocka_unit_test(locks_are_decoded),
		cmocka_unit_test(ioctl_and_poll_are_decoded),
		cmocka_unit_test(forgets_and_interrupts_are_decoded),
		cmocka_unit_test(init_is_decoded_with_and_without_flags2),
		cmocka_unit_test(supplementary_group_is_found_among_extensions),
		cmocka_unit_test(hostile_extensions_are_refused),
		cmocka_unit_test(entries_are_encoded),
		cmocka_unit_test(negative_entry_has_only_a_lifetime),
		cmocka_unit_test(attributes_are_encoded),
		cmocka_unit_test(opens_are_encoded),
		cmocka_unit_test(data_is_sent_from_where_it_lies),
		cmocka_unit_test(size_of_an_attribute_is_answered),
		cmocka_unit_test(answers_over_the_kernel_s_room_become_errors),
		cmocka_unit_test(numbers_are_encoded),
		cmocka_unit_test(errors_have_no_body),
		cmocka_unit_test(calls_without_an_answer_are_sixteen_bytes),
		cmocka_unit_test(directory_entries_are_packed),
		cmocka_unit_test(plus_entry_without_node_is_zero),
		cmocka_unit_test(init_answer_is_encoded),
		cmocka_unit_test(notifications_are_encoded),
		cmocka_unit_test(the_header_tells_who_asks_and_whether_it_waits),
	};

	return cmocka_run_group_tests(tests, NULL, block_free);
}
