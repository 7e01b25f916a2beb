/* SPDX-License-Identifier: MIT */
/* I/O a filter makes itself: an operation that starts just under it, awaited on the calling thread. */
#include "stack/compiled.h"
#include <altitude/notify.h>

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <string.h>
#include <sys/stat.h>

static void generated_done(struct op *op)
{
	sem_post(op->done_arg);
}

static int generated_run(struct op *op, struct alt_instance *in)
{
	sem_t over;

	sem_init(&over, 0, 0);
	op->done = generated_done;
	op->done_arg = &over;
	stack_run(op, in);
	while (sem_wait(&over) < 0)
		;
	sem_destroy(&over);
	return op->pub.status;
}

static long transfer(struct alt_instance *in, enum alt_op_code code, struct alt_file *file, void *buf, size_t count, int64_t offset)
{
	struct op *op;
	long r;

	if (count > IO_DATA_MAX || offset < 0)
		return -EINVAL;
	op = op_generated(code, file->node, file);
	if (!op)
		return -ENOMEM;
	op->rq.params.buf = buf;
	op->rq.params.size = count;
	op->rq.params.offset = offset;
	op->rq.params.flags = file->flags;
	r = generated_run(op, in);
	if (!r)
		r = op->pub.r.size;
	op_end(op);
	return r;
}

long alt_io_read(struct alt_instance *in, struct alt_file *file, void *buf, size_t count, int64_t offset)
{
	return transfer(in, ALT_OP_READ, file, buf, count, offset);
}

long alt_io_write(struct alt_instance *in, struct alt_file *file, const void *buf, size_t count, int64_t offset)
{
	long n = transfer(in, ALT_OP_WRITE, file, (void *)buf, count, offset);

	if (n > 0) /* the kernel has not seen it */
		alt_notify_node(in->volume, alt_node_key(file->node), true);
	return n;
}

int alt_io_getattr(struct alt_instance *in, struct alt_node *node, struct alt_attr *attr)
{
	struct op *op = op_generated(ALT_OP_GETATTR, node, NULL);
	int r;

	if (!op)
		return -ENOMEM;
	r = generated_run(op, in);
	if (!r)
		*attr = op->pub.r.entry.attr;
	op_end(op);
	return r;
}

int alt_io_open(struct alt_instance *in, struct alt_node *node, uint32_t flags, struct alt_file **ret)
{
	struct op *op;
	int r;

	if (flags & O_CREAT)
		return -EINVAL;
	if (node->rec.type == S_IFDIR)
		return -EISDIR;
	op = op_generated(ALT_OP_OPEN, node, NULL);
	if (!op)
		return -ENOMEM;
	op->rq.params.flags = flags;
	r = generated_run(op, in);
	if (!r) {
		*ret = op->pub.file;
		op->pub.file = op->pub.r.file = NULL;
		atomic_fetch_add(&in->files, 1);
	}
	op_end(op);
	return r;
}

void alt_io_close(struct alt_instance *in, struct alt_file *file)
{
	struct op *op;

	if (!file)
		return;
	atomic_fetch_sub(&in->files, 1);
	op = op_release(file, ALT_OP_GENERATED);
	generated_run(op, in);
	op_end(op);
	file_unref(file);
}

int alt_io_unlink(struct alt_instance *in, struct alt_node *dir, const char *name)
{
	struct op *op = op_generated(ALT_OP_UNLINK, dir, NULL);
	int r;

	if (!op)
		return -ENOMEM;
	op->rq.params.name = name;
	r = generated_run(op, in);
	op_end(op);
	if (!r)
		alt_notify_entry(in->volume, alt_node_key(dir), name);
	return r;
}
