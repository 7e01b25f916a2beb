/* SPDX-License-Identifier: MIT */
/* trace: one line for each finished operation: name, path, result, microseconds. */
#include <altitude/filter.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

/* What the operation is about, on one line of text whatever bytes the name has. */
static const char *op_path(const struct alt_op *op, char *buf, size_t size)
{
	int r;

	switch (op->code) {
	case ALT_OP_LOOKUP: case ALT_OP_MKNOD: case ALT_OP_MKDIR: case ALT_OP_SYMLINK: case ALT_OP_LINK:
	case ALT_OP_UNLINK: case ALT_OP_RMDIR: case ALT_OP_RENAME: case ALT_OP_CREATE:
		r = alt_node_path_at(op->node, op->p->name, buf, size);
		break;
	default:
		r = alt_node_path(op->node, buf, size);
	}
	if (r < 0)
		return r == -ENOENT ? "(no name)" : "(unknown)";
	for (char *c = buf; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	return buf;
}

/* Bytes for what moves data, 0, or the name of the error. */
static const char *op_result(const struct alt_op *op, char *buf, size_t size)
{
	const char *name = op->status < 0 ? strerrorname_np(-op->status) : NULL;
	bool bytes = op->code == ALT_OP_READ || op->code == ALT_OP_WRITE || op->code == ALT_OP_COPY_FILE_RANGE;

	if (name)
		return name;
	snprintf(buf, size, "%zd", op->status ? (ssize_t)op->status : bytes ? (ssize_t)op->r.size : 0);
	return buf;
}

static enum alt_pre trace_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	uint64_t *start = alt_op_alloc(op, sizeof(*start));

	(void)in;
	if (!start)
		return ALT_PRE_SUCCESS_NO_CALLBACK;
	*start = now_us();
	*ctx = start;
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_post trace_post(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	uint64_t us = now_us() - *(uint64_t *)ctx;
	char path[PATH_MAX], result[32];

	if (op->flags & ALT_OP_DRAINING)
		return ALT_POST_FINISHED;
	fprintf(alt_instance_data(in), "%s %s %s %llu\n", alt_op_name(op->code), op_path(op, path, sizeof(path)),
		op_result(op, result, sizeof(result)), (unsigned long long)us);
	return ALT_POST_FINISHED;
}

static int trace_setup(struct alt_instance *in, uint32_t flags, struct alt_error *err)
{
	const char *path = alt_instance_option(in, "file");
	FILE *out = path ? fopen(path, "ae") : stderr;

	(void)flags;
	if (!out)
		return alt_error_set(err, -errno, "trace: cannot open file '%s': %s", path, strerror(errno));
	setvbuf(out, NULL, _IOLBF, 0);
	alt_instance_set_data(in, out);
	return 0;
}

static void trace_teardown_complete(struct alt_instance *in, uint32_t reason)
{
	FILE *out = alt_instance_data(in);

	(void)reason;
	if (out != stderr)
		fclose(out);
}

static const struct alt_option options[] = {
	{ "file", "PATH", "append the lines to this file (default: standard error)" },
	{ NULL, NULL, NULL }
};

#define BOTH(code) { ALT_OP_##code, trace_pre, trace_post, 0 }
static const struct alt_callback callbacks[] = {
	BOTH(LOOKUP), BOTH(GETATTR), BOTH(SETATTR), BOTH(ACCESS), BOTH(READLINK), BOTH(MKNOD),
	BOTH(MKDIR), BOTH(SYMLINK), BOTH(LINK), BOTH(UNLINK), BOTH(RMDIR), BOTH(RENAME),
	BOTH(CREATE), BOTH(TMPFILE), BOTH(OPEN), BOTH(READ), BOTH(WRITE), BOTH(FLUSH),
	BOTH(RELEASE), BOTH(FSYNC), BOTH(OPENDIR), BOTH(READDIR), BOTH(RELEASEDIR), BOTH(FSYNCDIR),
	BOTH(GETXATTR), BOTH(SETXATTR), BOTH(LISTXATTR), BOTH(REMOVEXATTR), BOTH(GETLK),
	BOTH(SETLK), BOTH(FALLOCATE), BOTH(LSEEK), BOTH(COPY_FILE_RANGE), BOTH(IOCTL), BOTH(POLL),
	BOTH(BMAP), BOTH(STATFS), BOTH(SYNCFS),
	{ .code = ALT_OP_END }
};

static const struct alt_filter_registration registration = {
	.size = sizeof(registration),
	.name = "trace",
	.altitude = "370040",
	.options = options,
	.callbacks = callbacks,
	.setup = trace_setup,
	.teardown_complete = trace_teardown_complete,
};

ALT_FILTER(registration);
