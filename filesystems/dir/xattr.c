/* SPDX-License-Identifier: MIT */
/* Extended attributes, POSIX ACLs among them. */
#include "node.h"

#include <errno.h>
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char trusted[] = "trusted.";

static int answer_size(struct alt_op *op, ssize_t n)
{
	if (n < 0)
		return n;
	op->r.size = n;
	return 0;
}

int dir_getxattr(struct alt_op *op)
{
	const struct alt_params *p = op->p;
	SCOPED_PIN pin = NULL;
	int r = pin_get(dir_volume(op), op->node, &pin);

	if (r < 0)
		return r;
	return answer_size(op, fd_getxattr(dir_volume(op)->names, pin->fd, p->name, p->buf, p->size));
}

static int kill_sgid(const struct alt_op *op, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!(st.st_mode & S_ISGID))
		return 0;
	return fd_chmod(dir_volume(op)->names, fd, st.st_mode & 07777 & ~S_ISGID);
}

int dir_setxattr(struct alt_op *op)
{
	const struct alt_params *p = op->p;
	SCOPED_PIN pin = NULL;
	int r = pin_get(dir_volume(op), op->node, &pin);

	if (r < 0)
		return r;
	r = fd_setxattr(dir_volume(op)->names, pin->fd, p->name, p->buf, p->size, p->flags);
	return r == 0 && p->bits & ALT_PARAM_ACL_KILL_SGID ? kill_sgid(op, pin->fd) : r;
}

int dir_removexattr(struct alt_op *op)
{
	SCOPED_PIN pin = NULL;
	int r = pin_get(dir_volume(op), op->node, &pin);

	if (r < 0)
		return r;
	return fd_removexattr(dir_volume(op)->names, pin->fd, op->p->name);
}

/* Take the names out that only an administrator sees. Returns the new length. */
static size_t list_hide(char *list, size_t size)
{
	char *from = list, *to = list;

	while (from < list + size) {
		size_t length = strlen(from) + 1;

		if (strncmp(from, trusted, sizeof(trusted) - 1)) {
			memmove(to, from, length);
			to += length;
		}
		from += length;
	}
	return to - list;
}

/* The list as the caller would get it; the length alone when there is no room asked for. */
static int list_for_user(struct alt_op *op, int fd)
{
	char *list = malloc(XATTR_LIST_MAX);
	ssize_t n;
	int r = 0;

	if (!list)
		return -ENOMEM;
	n = fd_listxattr(dir_volume(op)->names, fd, list, XATTR_LIST_MAX);
	if (n < 0) {
		r = n;
	} else {
		op->r.size = list_hide(list, n);
		if (op->p->size && op->r.size > op->p->size)
			r = -ERANGE;
		else if (op->p->size)
			memcpy(op->p->buf, list, op->r.size);
	}
	free(list);
	return r;
}

int dir_listxattr(struct alt_op *op)
{
	SCOPED_PIN pin = NULL;
	int r = pin_get(dir_volume(op), op->node, &pin);

	if (r < 0)
		return r;
	if (op->caller.uid && dir_volume(op)->privileged)
		return list_for_user(op, pin->fd);
	return answer_size(op, fd_listxattr(dir_volume(op)->names, pin->fd, op->p->buf, op->p->size));
}
