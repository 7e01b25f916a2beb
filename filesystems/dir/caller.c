/* SPDX-License-Identifier: MIT */
/*
 * The C library's setgroups() and setfsuid() are made for processes: setgroups() changes every
 * thread. The system calls change the calling thread only, which is what a server of many callers
 * needs.
 */
#include "caller.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GROUPS_FEW 64

static __thread bool own_umask;

/* The umask belongs to the process unless the thread has left its fs struct; once is enough. */
static bool umask_own(void)
{
	if (!own_umask)
		own_umask = unshare(CLONE_FS) == 0;
	return own_umask;
}

/* The groups of the caller, in @few or, when there are more, in *@many, which is to be freed; a caller that is gone has none. */
static int groups_of(const struct alt_op *op, gid_t few[GROUPS_FEW], gid_t **many)
{
	int count = alt_caller_groups(op, few, GROUPS_FEW), max = count;

	*many = NULL;
	if (count <= GROUPS_FEW)
		return count < 0 ? 0 : count;
	*many = calloc(max, sizeof(**many));
	if (!*many)
		return -ENOMEM;
	count = alt_caller_groups(op, *many, max);
	return count < 0 ? 0 : count > max ? max : count;
}

bool caller_has_group(const struct alt_op *op, gid_t group)
{
	gid_t few[GROUPS_FEW], *many;
	bool has = !op->caller.uid || op->caller.gid == group;
	int count;

	if (has)
		return true;
	count = groups_of(op, few, &many);
	for (int i = 0; i < count && !has; i++)
		has = (many ? many : few)[i] == group;
	free(many);
	return has;
}

static int groups_set(int count, const gid_t *groups)
{
	return syscall(SYS_setgroups, count, groups) < 0 ? -errno : 0;
}

/* Too few rights, never too many. */
static int groups_take(struct caller *caller, const struct alt_op *op)
{
	gid_t few[GROUPS_FEW], *many;
	int count = groups_of(op, few, &many), r = count < 0 ? count : groups_set(count, many ? many : few);

	free(many);
	caller->groups = r == 0;
	return r;
}

static int gid_take(struct caller *caller, const struct alt_op *op)
{
	caller->gid = true;
	syscall(SYS_setfsgid, op->caller.gid);
	return (gid_t)syscall(SYS_setfsgid, -1) == op->caller.gid ? 0 : -EPERM;
}

static int uid_take(struct caller *caller, const struct alt_op *op)
{
	caller->uid = true;
	syscall(SYS_setfsuid, op->caller.uid);
	return (uid_t)syscall(SYS_setfsuid, -1) == op->caller.uid ? 0 : -EPERM;
}

/* Where they are not the server's own. */
static int ids_take(struct caller *caller, const struct alt_op *op)
{
	int r = op->caller.uid || op->caller.gid != caller->volume->gid ? gid_take(caller, op) : 0;

	return r == 0 && op->caller.uid ? uid_take(caller, op) : r;
}

void caller_prepare(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2];

	if (syscall(SYS_capget, &head, caps) < 0)
		return;
	caps[0].effective &= ~(1u << CAP_SYS_RESOURCE);
	syscall(SYS_capset, &head, caps);
}

int caller_enter(struct caller *caller, const struct alt_op *op)
{
	int r;

	*caller = (struct caller){ .volume = dir_volume(op) };
	if (umask_own()) {
		umask(op->p->umask & 0777);
		caller->umask = true;
	}
	if (!caller->volume->privileged)
		return 0;
	if (op->caller.uid) {
		r = groups_take(caller, op);
		if (r < 0)
			return r;
	}
	return ids_take(caller, op);
}

/* Blocks that are there already, and no bits to clear. */
static bool takes_nothing(const struct stat *st, int64_t end)
{
	return end <= st->st_size && st->st_blocks >= (st->st_size + 511) / 512 && !(st->st_mode & (S_ISUID | S_ISGID));
}

int caller_enter_writer(struct caller *caller, const struct alt_op *op, int fd, int64_t end)
{
	struct stat st;
	int r;

	*caller = (struct caller){ .volume = dir_volume(op) };
	if (!caller->volume->privileged || !op->caller.uid)
		return op->p->bits & ALT_PARAM_KILL_SUIDGID ? attr_kill_suidgid(op, fd) : 0;
	if (op->p->bits & ALT_PARAM_WRITEBACK)
		return 0; /* who wrote is not known any more */
	if (fstat(fd, &st) < 0)
		return -errno;
	if (takes_nothing(&st, end))
		return 0;
	if (!(st.st_mode & S_ISGID))
		return uid_take(caller, op);
	r = groups_take(caller, op);
	return r < 0 ? r : ids_take(caller, op);
}

void caller_leave(struct caller *caller)
{
	int saved = errno;

	if (caller->uid)
		syscall(SYS_setfsuid, 0);
	if (caller->gid)
		syscall(SYS_setfsgid, caller->volume->gid);
	if (caller->groups && groups_set(caller->volume->group_count, caller->volume->groups) < 0)
		abort(); /* going on with another user's groups would be worse */
	if (caller->umask)
		umask(0);
	*caller = (struct caller){ 0 };
	errno = saved;
}

uint32_t caller_mode(const struct caller *caller, const struct alt_op *op)
{
	return caller->umask ? op->p->mode : op->p->mode & ~(op->p->umask & 0777);
}
