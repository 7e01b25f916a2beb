/* SPDX-License-Identifier: MIT */
/* Who asks: read from /proc while the caller waits for its answer. */
#include <altitude/op.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of a line with all groups, the count; at most @max are stored. */
static int groups_parse(const char *at, uint32_t *groups, int max)
{
	char *end;
	int n = 0;

	for (;; at = end, n++) {
		unsigned long g = strtoul(at, &end, 10);

		if (end == at)
			return n;
		if (n < max)
			groups[n] = g;
	}
}

/* The line is as long as there are groups, of which there may be 65536. */
int alt_caller_groups(const struct alt_op *op, uint32_t *groups, int max)
{
	static const char head[] = "Groups:";
	char path[64], *line = NULL;
	size_t room = 0;
	int n = -ESRCH;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%u/status", op->caller.pid);
	f = fopen(path, "re");
	while (f && n < 0 && getline(&line, &room, f) > 0)
		if (!strncmp(line, head, sizeof head - 1))
			n = groups_parse(line + sizeof head - 1, groups, max);
	if (f)
		fclose(f);
	free(line);
	return n;
}

void alt_caller_name(const struct alt_op *op, char *buf, size_t size)
{
	char path[64], comm[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/%u/comm", op->caller.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, comm, sizeof comm - 1);
	if (fd >= 0)
		close(fd);
	comm[n > 0 ? n - (comm[n - 1] == '\n') : 0] = 0;
	snprintf(buf, size, "%s", n > 0 ? comm : "?");
}

int alt_caller_exe(const struct alt_op *op, char *buf, size_t size)
{
	char path[64];
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%u/exe", op->caller.pid);
	n = readlink(path, buf, size);
	if (n < 0)
		return -ESRCH;
	if ((size_t)n == size)
		return -ENAMETOOLONG;
	buf[n] = 0;
	return 0;
}

int alt_caller_pidfd(const struct alt_op *op)
{
	int fd = syscall(SYS_pidfd_open, (pid_t)op->caller.pid, 0);

	return fd < 0 ? -ESRCH : fd;
}
