/* SPDX-License-Identifier: MIT */
/*
 * Streams of requests go through a whole server: decoded, resolved, walked through a filter that pends some, served by the
 * file system mem, answered. Good ones about what is really there are mixed with mutations. No message is answered twice,
 * each good one is answered once, and after the last FORGET and RELEASE nothing is held. Every third stream is of a kernel
 * that has no handles (open=no).
 * With -DFUZZ_STANDALONE: "fuzz_session [count]" sends that many messages, the same ones each time.
 */
#include <altitude/queue.h>

#include "draw.h"
#include <io/slot.h>
#include <session/test_kernel.h>
#include <wire/test_sample.h>

#define STREAM 2000
#define PARKED_MAX 8

static struct kernel k;
static unsigned long stream_number;

static void check(bool good, const char *what, uint64_t unique)
{
	if (good)
		return;
	fprintf(stderr, "fuzz_session: stream %lu, message %lu: %s\n", stream_number, (unsigned long)unique, what);
	abort();
}

/* ---- the filter ---- */

static struct alt_queue *parked;
static unsigned park_turn, park_count;

static void park_cancelled(struct alt_op *op, void *arg, void *data)
{
	park_count--;
	op->status = -EINTR;
	alt_op_resume_pre(op, ALT_PRE_COMPLETE, NULL);
}

static enum alt_pre park_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	if (op->code == ALT_OP_RELEASE || op->code == ALT_OP_RELEASEDIR)
		return ALT_PRE_SUCCESS_NO_CALLBACK; /* never fails, so it may not be cancelled */
	if (op->flags & ALT_OP_GENERATED)
		return ALT_PRE_SUCCESS_NO_CALLBACK; /* this one thread waits for it */
	if (++park_turn % 16 || park_count == PARKED_MAX || alt_queue_insert(parked, op, NULL) < 0)
		return ALT_PRE_SUCCESS_NO_CALLBACK;
	park_count++;
	return ALT_PRE_PENDING;
}

static void park_resume(void)
{
	struct alt_op *op = alt_queue_take(parked, NULL, NULL, NULL);

	if (!op)
		return;
	park_count--;
	alt_op_resume_pre(op, ALT_PRE_SUCCESS_NO_CALLBACK, NULL);
}

static const struct alt_callback park_callbacks[] = { { ALT_OP_ALL, park_pre }, { ALT_OP_END } };
static const struct alt_filter_registration park_registration = {
	.size = sizeof(park_registration), .name = "park", .altitude = "1000", .callbacks = park_callbacks,
};
static struct alt_filter park = { .reg = &park_registration, .name = "park" };

/* ---- messages about what is there ---- */

static uint64_t any_node(void)
{
	uint64_t number = 0;

	for (int look = 0; look < 8 && !number; look++)
		node_at(k.volume, (uint32_t)draw(32), &number);
	return number && draw(4) ? number : IO_ROOT_ID;
}

static struct alt_file *any_file(void)
{
	struct alt_file *f = NULL;

	for (int look = 0; look < 8 && !f && k.volume->file_slots.count; look++)
		f = slot_at_locked(&k.volume->file_slots, draw(32));
	return f;
}

/* Where a message of the kind has its handle, behind the header; -1: none. */
static int fh_offset(const struct sample *s)
{
	switch (s->opcode) {
	case FUSE_GETATTR:
		return offsetof(struct fuse_getattr_in, fh);
	case FUSE_SETATTR:
		return offsetof(struct fuse_setattr_in, fh);
	case FUSE_STATX:
		return offsetof(struct wire_statx_in, fh);
	case FUSE_READ: case FUSE_WRITE: case FUSE_FLUSH: case FUSE_RELEASE: case FUSE_FSYNC: case FUSE_READDIR:
	case FUSE_READDIRPLUS: case FUSE_RELEASEDIR: case FUSE_FSYNCDIR: case FUSE_GETLK: case FUSE_SETLK: case FUSE_SETLKW:
	case FUSE_FALLOCATE: case FUSE_LSEEK: case FUSE_COPY_FILE_RANGE: case FUSE_COPY_FILE_RANGE_64: case FUSE_IOCTL: case FUSE_POLL:
		return 0;
	default:
		return -1;
	}
}

static int names_count(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_LOOKUP: case FUSE_MKNOD: case FUSE_MKDIR: case FUSE_LINK: case FUSE_UNLINK: case FUSE_RMDIR: case FUSE_CREATE:
		return 1;
	case FUSE_SYMLINK: case FUSE_RENAME: case FUSE_RENAME2:
		return 2;
	default:
		return 0;
	}
}

static void put64(uint8_t *msg, size_t at, uint64_t value)
{
	memcpy(msg + sizeof(struct fuse_in_header) + at, &value, sizeof(value));
}

static void aim(const struct sample *s, uint8_t *msg)
{
	struct alt_file *f = fh_offset(s) >= 0 ? any_file() : NULL;
	struct fuse_in_header *h = (struct fuse_in_header *)msg;

	h->nodeid = f ? f->node->rec.number : any_node();
	if (k.volume->no_open && draw(8)) {
		if (fh_offset(s) >= 0)
			put64(msg, fh_offset(s), 0);
		if (s->opcode == FUSE_COPY_FILE_RANGE) {
			put64(msg, offsetof(struct fuse_copy_file_range_in, nodeid_out), any_node());
			put64(msg, offsetof(struct fuse_copy_file_range_in, fh_out), 0);
			return;
		}
	} else if (f) {
		put64(msg, fh_offset(s), f->number);
	}
	if (s->opcode == FUSE_LINK || s->opcode == FUSE_RENAME || s->opcode == FUSE_RENAME2)
		put64(msg, 0, any_node());
	if (s->opcode == FUSE_READ || s->opcode == FUSE_WRITE || s->opcode == FUSE_READDIR || s->opcode == FUSE_READDIRPLUS)
		put64(msg, offsetof(struct fuse_read_in, offset), draw(3) ? 0 : draw(10000));
	if (s->opcode == FUSE_INIT)
		((struct fuse_init_in *)(msg + sizeof(struct fuse_in_header)))->flags |= FUSE_NO_OPEN_SUPPORT;
	if (s->opcode == FUSE_INTERRUPT)
		put64(msg, 0, k.unique - draw(20));
	f = s->opcode == FUSE_COPY_FILE_RANGE ? any_file() : NULL;
	if (f) {
		put64(msg, offsetof(struct fuse_copy_file_range_in, nodeid_out), f->node->rec.number);
		put64(msg, offsetof(struct fuse_copy_file_range_in, fh_out), f->number);
	}
}

static size_t good_message(const struct sample *s, uint8_t *msg)
{
	static const char *const names[] = { "a", "b", "c", "d", "e", "f" };
	size_t len = sample_build(s, msg);
	int count = names_count(s->opcode);

	if (count)
		len = sizeof(struct fuse_in_header) + s->fixed_size;
	for (; count; count--) {
		const char *name = DRAW_OF(names);

		memcpy(msg + len, name, strlen(name) + 1);
		len += strlen(name) + 1;
	}
	aim(s, msg);
	((struct fuse_in_header *)msg)->len = (uint32_t)len;
	return len;
}

/* ---- mutations ---- */

static size_t mutate(uint8_t *msg, size_t len)
{
	static const uint32_t odd[] = { 0, 1, 7, 255, 4095, 4096, 0x10000, 0x7fffffff, 0x80000000, UINT32_MAX };
	uint32_t value = DRAW_OF(odd);

	for (uint64_t n = 1 + draw(3); n > 0; n--) {
		if (draw(3) == 0 && len)
			msg[draw(len)] = (uint8_t)draw(256);
		else if (draw(2) && len >= 4)
			memcpy(msg + draw(len / 4) * 4, &value, sizeof(value));
		else if (draw(4) == 0)
			for (size_t now = draw(SAMPLE_MAX); len != now; len = len > now ? now : len + 1)
				msg[len < SAMPLE_MAX ? len : SAMPLE_MAX - 1] = (uint8_t)draw(256);
	}
	if (len >= 4 && draw(8)) {
		value = (uint32_t)len;
		memcpy(msg, &value, sizeof(value));
	}
	return len;
}

static bool is_silent(uint32_t opcode)
{
	return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_INTERRUPT || opcode == FUSE_NOTIFY_REPLY;
}

/* ---- streams ---- */

static void begin(void)
{
	check(!k_begin(&k, "mem"), "no volume", 0);
	park_count = 0;
	parked = alt_queue_new(park_cancelled, NULL);
	check(parked && !stack_attach(k.volume, &park, NULL, NULL, NULL, 0, NULL), "no filter", 0);
	/* Such a filter would be refused now; here it sees that shared files are pended and cancelled as others. */
	k.volume->no_open_wanted = k.volume->no_open = stream_number % 3 == 2;
}

static void send(void *bytes, size_t size)
{
	uint64_t unique = k.unique;

	/* A number of our own, or an answer could not be told from another's. */
	if (size >= offsetof(struct fuse_in_header, unique) + 8)
		memcpy((char *)bytes + offsetof(struct fuse_in_header, unique), &unique, 8);
	k_send_raw(&k, bytes, size);
}

/* What is open is released, what was told is forgotten; then the root is all there is. */
static void give_back(void)
{
	struct volume_live live;
	uint64_t number;

	alt_queue_disable(parked);
	for (uint32_t i = 0; i < k.volume->file_slots.count; i++) {
		struct alt_file *f = slot_at_locked(&k.volume->file_slots, i);
		struct fuse_release_in in = { .fh = f ? f->number : 0 };

		if (f)
			k_send(&k, f->node->rec.type == S_IFDIR ? FUSE_RELEASEDIR : FUSE_RELEASE, f->node->rec.number, &in, sizeof(in),
			       NULL, 0);
	}
	for (uint32_t i = 0; node_at(k.volume, i, &number); i++) {
		struct fuse_forget_in in = { .nlookup = UINT64_MAX };

		if (number)
			k_send(&k, FUSE_FORGET, number, &in, sizeof(in), NULL, 0);
	}
	volume_live(k.volume, &live);
	check(live.nodes == 1, "a node is held by nobody", k.unique);
	check(live.files == 0, "a file is held by nobody", k.unique);
	check(live.operations == 0, "an operation is held by nobody", k.unique);
}

static void end(const uint8_t *owed)
{
	uint64_t last = k.unique;

	session_free(k.session);
	check(!park_count, "the end left something pended", 0);
	for (uint64_t u = 1; u <= last; u++) {
		check(k.answers[u].count <= 1, "answered twice", u);
		check(k.answers[u].count == 1 || !owed[u], "never answered", u);
	}
	check(!session_loopback(k.volume, k_take, &k, &k.session), "no session", 0);
	give_back();
	check(!stack_detach(k.volume, "park", NULL, ALT_TEARDOWN_MANUAL, NULL), "no detach", 0);
	alt_queue_free(parked);
	check(k_end(&k), "a strange answer, or something is left", 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The bytes are messages, one after the other as their lengths say. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t owed[K_ANSWERS];
	uint8_t msg[SAMPLE_MAX];

	begin();
	for (uint64_t u = 1; size >= 2 && u < STREAM; u++) {
		size_t len = (data[0] | data[1] << 8) % SAMPLE_MAX;

		data += 2;
		size -= 2;
		len = len < size ? len : size;
		memcpy(msg, data, len);
		data += len;
		size -= len;
		k.unique = u;
		send(msg, len);
	}
	end(owed);
	return 0;
}

#ifdef FUZZ_STANDALONE

static void stream(unsigned long count)
{
	static uint8_t owed[K_ANSWERS];
	uint8_t msg[SAMPLE_MAX];

	memset(owed, 0, sizeof(owed));
	begin();
	for (k.unique = 1; k.unique <= count; k.unique++) {
		const struct sample *s = &samples[draw(SAMPLE_COUNT)];
		size_t len = good_message(s, msg);

		owed[k.unique] = !is_silent(s->opcode);
		if (!draw(3)) {
			len = mutate(msg, len);
			owed[k.unique] = 0;
		}
		send(msg, len);
		if (!draw(20))
			park_resume();
	}
	k.unique--;
	end(owed);
}

int main(int argc, char **argv)
{
	unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 0) : 100000;

	for (unsigned long left = count; left; stream_number++) {
		unsigned long now = left < STREAM ? left : STREAM;

		stream(now);
		left -= now;
	}
	printf("%lu messages in %lu streams\n", count, stream_number);
	return 0;
}

#endif
