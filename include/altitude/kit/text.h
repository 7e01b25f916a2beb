/* SPDX-License-Identifier: MIT */
/* Operations as text, for filters that report: one line each, whatever bytes a name holds. */
#ifndef ALTITUDE_KIT_TEXT_H
#define ALTITUDE_KIT_TEXT_H

#include <altitude/filter.h>
#include <altitude/name.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/** Microseconds of the monotonic clock. */
static inline uint64_t alt_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

/** "4096" (bytes of what moves data), "0", or the name of the error: "ENOENT". Needs _GNU_SOURCE. */
static inline const char *alt_result_text(const struct alt_op *op, char *buf, size_t size)
{
	const char *name = op->status < 0 ? strerrorname_np(-op->status) : NULL;
	bool bytes = op->code == ALT_OP_READ || op->code == ALT_OP_WRITE || op->code == ALT_OP_COPY_FILE_RANGE;

	if (name)
		return name;
	snprintf(buf, size, "%zd", op->status ? (ssize_t)op->status : bytes ? (ssize_t)op->r.size : 0);
	return buf;
}

/** Path of what @op is about, control characters replaced; in brackets why there is none. */
static inline const char *alt_path_or_why(const struct alt_op *op, struct alt_instance *in, char *buf, size_t size)
{
	int r = alt_op_path(op, in, buf, size);

	return r == -ENOENT ? "(no name)" : r < 0 ? "(unknown)" : alt_path_text(buf);
}

/**
 * The file that the option "file" of @in names, opened for whole lines to be appended; *ret NULL without the option.
 * The path must be absolute: the server works in "/", wherever the person who asks is. A new file is its owner's alone: it
 * tells who did what, and the server has no umask. 0, or -errno explained.
 */
static inline int alt_lines_open(struct alt_instance *in, const char *who, FILE **ret, struct alt_error *err)
{
	const char *path = alt_instance_option(in, "file");
	int fd;

	*ret = NULL;
	if (!path)
		return 0;
	if (*path != '/')
		return alt_error_set(err, -EINVAL, "%s: file '%s' is not an absolute path, as in file=/tmp/lines", who, path);
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	*ret = fd < 0 ? NULL : fdopen(fd, "a");
	if (!*ret)
		return alt_error_set(err, -errno, "%s: cannot open file '%s': %s", who, path, strerror(errno));
	setvbuf(*ret, NULL, _IOLBF, 0);
	return 0;
}

#endif
