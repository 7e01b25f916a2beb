/* SPDX-License-Identifier: MIT */
/*
 * Passthrough: reads, writes and maps of an open file go straight to its backing file, and nobody is asked.
 *
 * The kernel's rule for one node: all its opens are passthrough with one backing id, or none is. So the first open
 * decides for those that overlap with it:
 *
 *        no opens   --nobody wants the data-->  THROUGH: one backing id, closed with the last
 *                   --somebody does-->          CACHED
 *
 * An open of a THROUGH node whose data a later filter wants is THROUGH with direct I/O: its reads and writes come here. A
 * mapping of it does not: the kernel maps the backing file for every open of such a node, until the last of them is closed.
 */
#include "session/internal.h"
#include "wire/proto.h"
#include <altitude/log.h>

#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * The kernel writes with the rights this thread has during the ioctl, so they are those of who opens: without CAP_FSETID the
 * file system below clears set-user-id, set-group-id and capabilities; without CAP_SYS_RESOURCE quotas bind; and what is kept
 * for root is root's. Of a file that several users have open at a time the first decides.
 */
static bool rights_switch(bool lower)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	static _Thread_local struct __user_cap_data_struct caps[2]; /* a serving thread's do not change otherwise */
	static _Thread_local bool known;
	struct __user_cap_data_struct now[2];

	if (!known && syscall(SYS_capget, &head, caps) < 0)
		return false;
	known = true;
	memcpy(now, caps, sizeof(now));
	if (lower)
		now[0].effective &= ~(1u << CAP_FSETID | 1u << CAP_SYS_RESOURCE);
	return syscall(SYS_capset, &head, now) == 0;
}

static int32_t backing_open(struct session *s, uid_t opener, int fd)
{
	struct fuse_backing_map map = { .fd = fd };
	bool other = opener && !geteuid();
	int id, why;

	if (!rights_switch(true))
		return 0;
	if (other)
		syscall(SYS_setfsuid, opener);
	id = ioctl(s->fd, FUSE_DEV_IOC_BACKING_OPEN, &map);
	why = errno;
	if (other)
		syscall(SYS_setfsuid, 0);
	rights_switch(false);

	if (id <= 0 && !atomic_exchange(&s->through_told, true))
		alt_log(LOG_NOTICE, "'%s': data does not pass through to the files below (%s); it is served as usual",
			s->volume->name, strerror(why));
	return id > 0 ? id : 0;
}

static void backing_close(struct session *s, int32_t id)
{
	uint32_t closing = id;

	ioctl(s->fd, FUSE_DEV_IOC_BACKING_CLOSE, &closing);
}

int32_t through_decide(struct session *s, struct op *op)
{
	struct alt_volume *v = op->pub.volume;
	struct alt_file *f = op->pub.r.file;
	struct alt_node *n = f->node;
	bool wanted;
	unsigned turn;

	if (n->rec.type != S_IFREG)
		return 0;
	turn = stack_data_enter(op, &wanted);
	pthread_mutex_lock(&v->modes_lock);
	if (!n->modal && !wanted && op->backing_fd >= 0 && atomic_load(&s->may_through))
		n->backing_id = backing_open(s, op->pub.caller.uid, op->backing_fd);
	if (n->modal > 0 || (!n->modal && n->backing_id)) {
		n->modal++;
		f->mode = wanted ? FILE_THROUGH_DIRECT : FILE_THROUGH;
		op->pub.r.open &= ~(uint32_t)ALT_OPEN_KEEP_CACHE;
		if (wanted)
			op->pub.r.open |= ALT_OPEN_DIRECT;
		else
			atomic_fetch_add(&v->through_files, 1);
	} else {
		n->modal--;
		f->mode = FILE_CACHED;
	}
	pthread_mutex_unlock(&v->modes_lock);
	stack_data_leave(v, turn);
	return f->mode == FILE_CACHED ? 0 : n->backing_id;
}

void through_release(struct session *s, struct alt_file *f)
{
	struct alt_volume *v = s->volume;
	struct alt_node *n = f->node;

	pthread_mutex_lock(&v->modes_lock);
	if (f->mode == FILE_THROUGH)
		atomic_fetch_sub(&v->through_files, 1);
	if (f->mode == FILE_THROUGH || f->mode == FILE_THROUGH_DIRECT) {
		if (!--n->modal) {
			backing_close(s, n->backing_id);
			n->backing_id = 0;
		}
	} else if (f->mode == FILE_CACHED) {
		n->modal++;
	}
	f->mode = FILE_UNDECIDED;
	pthread_mutex_unlock(&v->modes_lock);
}
