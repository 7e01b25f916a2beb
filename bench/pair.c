/* SPDX-License-Identifier: MIT */
/*
 * bench-pair: what a filter costs an operation, in the stack alone: no kernel, no thread, no file system to speak of.
 *
 *	bench-pair [BATCHES [OPERATIONS]]
 *
 * Batches without a filter, with ten that have no callbacks, with one null pre and post, and with ten of these follow one
 * another in turn, so that a slow moment hits all alike; what is told is the median of the differences within a turn.
 */
#include "stack/testing.h"

#include <time.h>

enum { NONE, IDLE, PAIR, PAIRS, KINDS };

static const char *const kinds[] = { "nothing", "10 without callbacks", "1 pair", "10 pairs" };
static const enum alt_op_code codes[] = { ALT_OP_GETATTR, ALT_OP_LOOKUP, ALT_OP_READ, ALT_OP_WRITE };

static enum alt_pre pair_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_post pair_post(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	return ALT_POST_FINISHED;
}

static const struct alt_callback pair_callbacks[] = {
	{ ALT_OP_ALL, pair_pre, pair_post, 0 },
	{ .code = ALT_OP_END }
};
static const struct alt_callback no_callbacks[] = { { .code = ALT_OP_END } };

static const struct alt_filter_registration pair = {
	.size = sizeof pair, .name = "pair", .altitude = "370000", .callbacks = pair_callbacks,
};
static const struct alt_filter_registration idle = {
	.size = sizeof idle, .name = "idle", .altitude = "360000", .callbacks = no_callbacks,
};

static unsigned filters_of(int kind)
{
	return kind == NONE ? 0 : kind == PAIR ? 1 : 10;
}

static void attach(int kind)
{
	for (unsigned n = 0; n < filters_of(kind); n++) {
		char name[16], altitude[16];

		snprintf(name, sizeof name, "i%u", n);
		snprintf(altitude, sizeof altitude, "37%04u", n);
		if (t_attach_as(kind == IDLE ? &idle : &pair, name, altitude) < 0)
			abort();
	}
}

static void detach(int kind)
{
	for (unsigned n = 0; n < filters_of(kind); n++) {
		char name[16];

		snprintf(name, sizeof name, "i%u", n);
		if (t_detach(name) < 0)
			abort();
	}
}

static char bytes[64];

/* The shortest way home: what is answered is dropped at once. */
static void answered(struct op *op)
{
	if (op->pub.status < 0)
		abort();
	op_end(op);
}

static void one(enum alt_op_code code, struct alt_file *f)
{
	struct op *op = code == ALT_OP_READ ? t_read_op(f, sizeof bytes, 0) :
			code == ALT_OP_WRITE ? t_write_op(f, bytes, sizeof bytes, 0) :
			t_op(code, code == ALT_OP_LOOKUP ? 1 : f->node->rec.number, code == ALT_OP_LOOKUP ? "f" : NULL);

	op->done = answered;
	if (op_resolve(op) < 0)
		abort();
	stack_run(op, NULL);
}

static double nanoseconds(enum alt_op_code code, struct alt_file *f, unsigned operations)
{
	struct timespec a, b;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
	for (unsigned n = 0; n < operations; n++)
		one(code, f);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
	return ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / operations;
}

static int smaller_first(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double quantile(double *values, unsigned count, double q)
{
	qsort(values, count, sizeof *values, smaller_first);
	return values[(unsigned)(q * (count - 1) + 0.5)];
}

static void code_costs(enum alt_op_code code, struct alt_file *f, unsigned batches, unsigned operations)
{
	double *took = calloc((size_t)KINDS * batches, sizeof *took);
	double quarter, half, three;

	if (!took)
		abort();
	for (unsigned n = 0; n < batches; n++) {
		for (int turn = 0; turn < KINDS; turn++) {
			int kind = (turn + n) % KINDS;

			attach(kind);
			nanoseconds(code, f, operations / 10 + 1);
			took[kind * batches + n] = nanoseconds(code, f, operations);
			detach(kind);
		}
		for (int kind = IDLE; kind < KINDS; kind++)
			took[kind * batches + n] -= took[n];
	}
	for (int kind = NONE; kind < KINDS; kind++) {
		quarter = quantile(took + kind * batches, batches, 0.25);
		half = quantile(took + kind * batches, batches, 0.5);
		three = quantile(took + kind * batches, batches, 0.75);
		printf("%-10s %-22s %s%8.1f ns   (%.1f to %.1f)\n", kind ? "" : alt_op_name(code), kinds[kind],
		       kind ? "+" : " ", half, quarter, three);
	}
	free(took);
}

int main(int argc, char **argv)
{
	unsigned batches = argc > 1 ? strtoul(argv[1], NULL, 10) : 31;
	unsigned operations = argc > 2 ? strtoul(argv[2], NULL, 10) : 50000;
	struct t_call c = { 0 };
	struct op *op;

	if (!batches || !operations || t_begin(NULL) < 0) {
		fprintf(stderr, "usage: bench-pair [BATCHES [OPERATIONS]]\n");
		return 2;
	}
	atomic_store(&t_log_off, true);
	op = t_op(ALT_OP_OPEN, t_lookup(1, "f"), NULL);
	op->rq.params.flags = O_RDWR;
	if (t_run(&c, op) < 0)
		return 1;
	for (size_t n = 0; n < sizeof codes / sizeof *codes; n++)
		code_costs(codes[n], c.file, batches, operations);
	t_close(c.file);
	return t_end(NULL) < 0;
}
