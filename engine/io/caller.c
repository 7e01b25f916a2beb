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

static ssize_t proc_read(uint32_t pid, const char *what, char *buf, size_t size)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/%u/%s", pid, what);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -ESRCH;
	n = read(fd, buf, size - 1);
	close(fd);
	if (n < 0)
		return -ESRCH;
	buf[n] = 0;
	return n;
}

int alt_caller_groups(const struct alt_op *op, uint32_t *groups, int max)
{
	char buf[8192], *at, *end;
	int n = 0;

	if (proc_read(op->caller.pid, "status", buf, sizeof buf) < 0)
		return -ESRCH;
	at = strstr(buf, "\nGroups:");
	if (!at)
		return -ESRCH;
	for (at += 8; *at && *at != '\n' && n < max; at = end) {
		unsigned long g = strtoul(at, &end, 10);

		if (end == at)
			break;
		groups[n++] = g;
		while (*end == ' ' || *end == '\t')
			end++;
	}
	return n;
}

void alt_caller_name(const struct alt_op *op, char *buf, size_t size)
{
	char comm[64];
	ssize_t n = proc_read(op->caller.pid, "comm", comm, sizeof comm);

	if (n > 0 && comm[n - 1] == '\n')
		comm[n - 1] = 0;
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
