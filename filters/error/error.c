/* SPDX-License-Identifier: MIT */
/* error: lets chosen operations fail, all of them or every Nth. */
#include <altitude/filter.h>
#include <altitude/kit/ops.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define ERRNO_MAX 4095

struct error {
	uint64_t ops;                       /* a bit for each code */
	uint64_t rate;
	int code;                           /* positive errno */
	atomic_ullong seen, injected;
};

static enum alt_pre error_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	struct error *e = alt_instance_data(in);

	(void)ctx;
	if (!(e->ops >> op->code & 1) || (atomic_fetch_add(&e->seen, 1) + 1) % e->rate)
		return ALT_PRE_SUCCESS_NO_CALLBACK;
	atomic_fetch_add(&e->injected, 1);
	op->status = -e->code;
	return ALT_PRE_COMPLETE;
}

static void error_stats(struct alt_instance *in, struct alt_report *to)
{
	struct error *e = alt_instance_data(in);

	alt_report_line(to, "seen %llu", atomic_load(&e->seen));
	alt_report_line(to, "injected %llu", atomic_load(&e->injected));
}

/* "ENOSPC" or "28". */
static int parse_errno(const char *text, int *ret, struct alt_error *err)
{
	char *end;
	long n = strtol(text, &end, 10);

	for (int code = 1; *end && code < 256; code++) {
		const char *name = strerrorname_np(code);

		if (name && !strcmp(name, text)) {
			*ret = code;
			return 0;
		}
	}
	if (end == text || *end || n < 1 || n > ERRNO_MAX)
		return alt_error_set(err, -EINVAL, "error: errno '%s' is neither a name nor 1..%d", text, ERRNO_MAX);
	*ret = n;
	return 0;
}

static int error_setup(struct alt_instance *in, uint32_t flags, struct alt_error *err)
{
	struct error *e = alt_instance_data(in);
	const char *ops = alt_instance_option(in, "op"), *code = alt_instance_option(in, "errno");
	int r = alt_ops_parse("error", ops ? ops : "", &e->ops, err);

	(void)flags;
	if (!r && e->ops & (1ull << ALT_OP_RELEASE | 1ull << ALT_OP_RELEASEDIR))
		r = alt_error_set(err, -EINVAL, "error: release and releasedir cannot fail");
	if (!r)
		r = parse_errno(code ? code : "EIO", &e->code, err);
	if (!r)
		r = alt_instance_option_u64(in, "rate", 1, &e->rate, err);
	if (!r && !e->rate)
		r = alt_error_set(err, -EINVAL, "error: rate is 1 or more");
	return r;
}

static const struct alt_option options[] = {
	{ "op", "NAME", "operations that fail, several with ';' between (needed)" },
	{ "errno", "CODE", "error they fail with, a name or a number (default: EIO)" },
	{ "rate", "N", "only every Nth of them (default: 1)" },
	{ NULL, NULL, NULL }
};

#define PRE(code) { ALT_OP_##code, error_pre, NULL, 0 }
static const struct alt_callback callbacks[] = {
	PRE(LOOKUP), PRE(GETATTR), PRE(SETATTR), PRE(ACCESS), PRE(READLINK), PRE(MKNOD),
	PRE(MKDIR), PRE(SYMLINK), PRE(LINK), PRE(UNLINK), PRE(RMDIR), PRE(RENAME),
	PRE(CREATE), PRE(TMPFILE), PRE(OPEN), PRE(READ), PRE(WRITE), PRE(FLUSH),
	PRE(FSYNC), PRE(OPENDIR), PRE(READDIR), PRE(FSYNCDIR),
	PRE(GETXATTR), PRE(SETXATTR), PRE(LISTXATTR), PRE(REMOVEXATTR), PRE(GETLK),
	PRE(SETLK), PRE(FALLOCATE), PRE(LSEEK), PRE(COPY_FILE_RANGE), PRE(IOCTL), PRE(POLL),
	PRE(BMAP), PRE(STATFS), PRE(SYNCFS),
	{ .code = ALT_OP_END }
};

static const struct alt_filter_registration registration = {
	.size = sizeof(registration),
	.name = "error",
	.altitude = "370056",
	.options = options,
	.callbacks = callbacks,
	.instance_size = sizeof(struct error),
	.setup = error_setup,
	.stats = error_stats,
};

ALT_FILTER(registration);
