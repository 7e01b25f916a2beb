/* SPDX-License-Identifier: MIT */
/*
 * Any bytes are decoded, everything the decoder points at is read, and an operation gets an answer.
 * With -DFUZZ_STANDALONE: "fuzz_wire [count]" tries that many mutations of good messages, the same
 * ones each time.
 */
#include <stdio.h>
#include <stdlib.h>

#include "draw.h"
#include <wire/test_sample.h>

static volatile unsigned sink;

static void touch(const void *at, size_t size)
{
	const unsigned char *bytes = at;

	for (size_t i = 0; i < size; i++)
		sink += bytes[i];
}

static void touch_name(const char *name)
{
	if (name)
		touch(name, strlen(name) + 1);
}

static void touch_request(const struct wire_request *rq)
{
	touch_name(rq->params.name);
	touch_name(rq->params.new_name);
	touch_name(rq->params.target);
	if (rq->params.buf)
		touch(rq->params.buf, rq->params.size);
	touch(rq->forgets, rq->forget_count * sizeof(struct wire_forget));
}

static void check(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "fuzz_wire: %s\n", what);
	abort();
}

/*
 * The answer's length must be what its header says; @size is what the file system claims to have
 * given.
 */
static void answer(const struct wire_request *rq, size_t size, int status)
{
	static char data[8192];
	char *fixed = malloc(WIRE_FIXED_MAX);
	struct wire_reply rp = {
		.nodeid = 9, .fh = 11, .backing_id = size & 1, .entry_ttl_ms = 1000, .attr_ttl_ms = 1000
	};
	struct alt_params params = rq->params;
	struct alt_op op = { .code = rq->code, .p = &params, .status = status };
	struct fuse_out_header h;
	struct iovec iov[2] = { { 0 } };
	int n;

	check(fixed != NULL, "no memory");
	params.buf = data;
	op.r.size = size;
	op.r.node = size & 2 ? (struct alt_node *)data : NULL;
	n = wire_encode(rq, &op, &rp, data, size, fixed, iov);
	memcpy(&h, fixed, sizeof(h));
	check(n == 1 || n == 2, "number of iovecs");
	check(h.len == iov[0].iov_len + (n == 2 ? iov[1].iov_len : 0), "length of the answer");
	check(h.error <= 0 && h.error > -512 && h.unique == rq->unique, "header of the answer");
	touch(iov[0].iov_base, iov[0].iov_len);
	if (n == 2)
		touch(iov[1].iov_base, iov[1].iov_len);
	free(fixed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_request rq;
	char *msg = malloc(size ? size : 1);

	check(msg != NULL, "no memory");
	if (size)
		memcpy(msg, data, size);
	if (wire_decode(msg, size, &rq) == 0) {
		touch_request(&rq);
		if (rq.kind == WIRE_OP) {
			check(rq.code > ALT_OP_END && rq.code < ALT_OP_COUNT, "code");
			answer(&rq, size % 64, 0);
			answer(&rq, 8192, 0);
			answer(&rq, 0, -(int)(size % 600));
		}
	}
	free(msg);
	return 0;
}

#ifdef FUZZ_STANDALONE

static void change_byte(uint8_t *msg, size_t *len)
{
	if (*len)
		msg[draw(*len)] = (uint8_t)draw(256);
}

/* The values at which counts and sizes go wrong, at the places where they lie. */
static void change_word(uint8_t *msg, size_t *len)
{
	static const uint32_t odd[] = {
		0, 1, 7, 8, 16, 255, 4095, 4096, 0x10000000, 0x7fffffff, 0x80000000, UINT32_MAX
	};
	uint32_t value = DRAW_OF(odd);

	if (*len >= 4)
		memcpy(msg + draw(*len / 4) * 4, &value, sizeof(value));
}

static void change_length(uint8_t *msg, size_t *len)
{
	size_t now = draw(SAMPLE_MAX);

	for (size_t i = *len; i < now; i++)
		msg[i] = (uint8_t)draw(256);
	*len = now;
}

static void add_extension(uint8_t *msg, size_t *len)
{
	uint32_t ext[4] = { (uint32_t)draw(20), (uint32_t)draw(34), (uint32_t)draw(3),
			    (uint32_t)draw(5000) };
	uint16_t units = (uint16_t)draw(4);

	if (*len < sizeof(struct fuse_in_header) || *len + sizeof(ext) > SAMPLE_MAX)
		return;
	memcpy(msg + *len, ext, sizeof(ext));
	*len += sizeof(ext);
	memcpy(msg + offsetof(struct fuse_in_header, total_extlen), &units, sizeof(units));
}

static void (*const changes[])(uint8_t *msg, size_t *len) = {
	change_byte, change_word, change_length, add_extension,
};

static void mutate(uint8_t *msg, size_t *len)
{
	uint32_t true_len;

	for (uint64_t n = draw(4); n > 0; n--)
		DRAW_OF(changes)(msg, len);
	true_len = (uint32_t)*len;
	if (*len >= sizeof(true_len) && draw(8)) /* a false length ends the decoding at once */
		memcpy(msg, &true_len, sizeof(true_len));
}

int main(int argc, char **argv)
{
	unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 0) : 200000;
	uint8_t msg[SAMPLE_MAX];

	for (unsigned long i = 0; i < count; i++) {
		size_t len = sample_build(&samples[draw(SAMPLE_COUNT)], msg);

		mutate(msg, &len);
		LLVMFuzzerTestOneInput(msg, len);
	}
	printf("%lu messages\n", count);
	return 0;
}

#endif
