/* SPDX-License-Identifier: MIT */
#include "stack/compiled.h"

#include <errno.h>
#include <stdlib.h>

/* Operations whose answer carries attributes, entries, or whose parameters carry names: views are called for these. */
static const uint64_t op_attributes = 1ull << ALT_OP_LOOKUP | 1ull << ALT_OP_GETATTR | 1ull << ALT_OP_SETATTR |
	1ull << ALT_OP_MKNOD | 1ull << ALT_OP_MKDIR | 1ull << ALT_OP_SYMLINK | 1ull << ALT_OP_LINK |
	1ull << ALT_OP_CREATE | 1ull << ALT_OP_TMPFILE | 1ull << ALT_OP_READDIR;
static const uint64_t op_names = 1ull << ALT_OP_LOOKUP | 1ull << ALT_OP_MKNOD | 1ull << ALT_OP_MKDIR |
	1ull << ALT_OP_SYMLINK | 1ull << ALT_OP_LINK | 1ull << ALT_OP_UNLINK | 1ull << ALT_OP_RMDIR |
	1ull << ALT_OP_RENAME | 1ull << ALT_OP_CREATE;

static bool views(const struct alt_filter_registration *reg, int code)
{
	return (reg->attributes && op_attributes >> code & 1) || (reg->name_down && op_names >> code & 1) ||
	       (reg->entry && code == ALT_OP_READDIR);
}

static bool wanted(const struct alt_filter_registration *reg, int code, struct stack_entry *e)
{
	bool own = false;

	e->pre = NULL;
	e->post = NULL;
	e->flags = 0;
	for (const struct alt_callback *c = reg->callbacks; c && c->code != ALT_OP_END; c++) {
		if ((int)c->code != code && !(c->code == ALT_OP_ALL && !own))
			continue;
		own = (int)c->code == code;
		e->pre = c->pre;
		e->post = c->post;
		e->flags = c->flags;
	}
	return e->pre || e->post || views(reg, code);
}

static int row_compile(struct stack_row *row, int code, const struct alt_instance *top)
{
	struct stack_entry e;
	int n = 0;

	for (const struct alt_instance *in = top; in; in = in->below)
		n += instance_serves(in) && wanted(in->filter->reg, code, &e);
	if (!n)
		return 0;
	row->entries = calloc(n, sizeof *row->entries);
	if (!row->entries)
		return -ENOMEM;
	for (const struct alt_instance *in = top; in; in = in->below) {
		if (!instance_serves(in) || !wanted(in->filter->reg, code, &e))
			continue;
		e.in = (struct alt_instance *)in;
		e.slow = (in->filter->reg->flags & ALT_FILTER_SLOW) || (e.flags & ALT_CALLBACK_SYNCHRONIZES);
		row->entries[row->count++] = e;
	}
	return 0;
}

struct stack *stack_compile_locked(struct stack_volume *sv)
{
	struct stack *s = calloc(1, sizeof *s);

	for (int code = 1; s && code < ALT_OP_COUNT; code++) {
		if (row_compile(&s->rows[code], code, sv->top) < 0) {
			stack_free(s);
			return NULL;
		}
	}
	return s;
}

void stack_free(struct stack *s)
{
	for (int code = 0; s && code < ALT_OP_COUNT; code++)
		free(s->rows[code].entries);
	free(s);
}

uint64_t stack_interest(const struct stack *s)
{
	uint64_t bits = 0;

	for (int code = 1; code < ALT_OP_COUNT; code++)
		if (s->rows[code].count)
			bits |= 1ull << code;
	return bits;
}

bool filter_wants_data(const struct alt_filter_registration *reg)
{
	struct stack_entry e;

	return wanted(reg, ALT_OP_READ, &e) || wanted(reg, ALT_OP_WRITE, &e);
}

bool filter_wants_opens(const struct alt_filter_registration *reg)
{
	static const int codes[] = {
		ALT_OP_OPEN, ALT_OP_READ, ALT_OP_WRITE, ALT_OP_FLUSH, ALT_OP_RELEASE, ALT_OP_GETLK, ALT_OP_SETLK,
	};
	struct stack_entry e;

	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
		if (wanted(reg, codes[i], &e))
			return true;
	return false;
}

uint32_t filter_features(const struct alt_filter_registration *reg)
{
	struct stack_entry e;
	bool data = filter_wants_data(reg);
	uint32_t offload = FEATURE_OFFLOAD_READ | FEATURE_OFFLOAD_WRITE;

	return FEATURE_QUERY_OPEN | (data ? 0 : FEATURE_BYPASS) | (!data || wanted(reg, ALT_OP_COPY_FILE_RANGE, &e) ? offload : 0);
}

static bool declined(const struct op *op, const struct alt_instance *in)
{
	for (int i = 0; i < op->nframes; i++)
		if (op->frames[i].in == in && op->frames[i].declined)
			return true;
	return false;
}

static bool row_wants(const struct stack_row *row, const struct op *op)
{
	for (int i = 0; i < row->count; i++)
		if (!declined(op, row->entries[i].in))
			return true;
	return false;
}

unsigned stack_data_enter(struct op *op, bool *wanted)
{
	struct alt_volume *v = op->pub.volume;
	unsigned turn = gate_enter(&v->sv->gate);
	const struct stack *s = atomic_load(&v->stack);

	*wanted = row_wants(&s->rows[ALT_OP_READ], op) || row_wants(&s->rows[ALT_OP_WRITE], op);
	return turn;
}

void stack_data_leave(struct alt_volume *v, unsigned turn)
{
	gate_leave(&v->sv->gate, turn);
}

void alt_op_decline_data(struct alt_op *pub, struct alt_instance *in)
{
	struct op *op = (struct op *)pub;

	for (int i = 0; i < op->nframes; i++)
		if (op->frames[i].in == in)
			op->frames[i].declined = true;
}

static bool skipped(const struct stack_entry *e, const struct op *op)
{
	return ((e->flags & ALT_CALLBACK_SKIP_WRITEBACK) && (op->rq.params.bits & ALT_PARAM_WRITEBACK)) ||
	       ((e->flags & ALT_CALLBACK_SKIP_GENERATED) && (op->pub.flags & ALT_OP_GENERATED));
}

static bool is_below(const struct alt_instance *in, const struct alt_instance *below)
{
	return !below || altitude_compare(in->altitude, below->altitude) < 0;
}

/* As it has said, or as it has shown. */
static bool slow(const struct stack_entry *e, int code)
{
	return e->slow || (atomic_load_explicit(&e->in->synchronizes, memory_order_relaxed) >> code & 1);
}

int stack_enter(struct op *op, struct alt_instance *below)
{
	struct alt_volume *v = op->pub.volume;
	const struct stack_row *row;
	unsigned turn;
	int r = 0;

	if (!(atomic_load(&v->filtered) >> op->pub.code & 1))
		return 0;
	turn = gate_enter(&v->sv->gate);
	row = &atomic_load(&v->stack)->rows[op->pub.code];
	if (row->count > IO_FRAMES_INLINE) {
		op->frames = calloc(row->count, sizeof *op->frames);
		if (!op->frames) {
			op->frames = op->frames_inline;
			r = -ENOMEM;
			goto out;
		}
	}
	for (int i = 0; i < row->count; i++) {
		const struct stack_entry *e = &row->entries[i];
		struct op_frame *f = &op->frames[op->nframes];

		if (!is_below(e->in, below) || skipped(e, op))
			continue;
		f->in = e->in;
		f->pre = e->pre;
		f->post = e->post;
		f->slow = slow(e, op->pub.code);
		atomic_fetch_add(&e->in->ops, 1);
		op->nframes++;
	}
out:
	gate_leave(&v->sv->gate, turn);
	return r;
}
