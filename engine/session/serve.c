/* SPDX-License-Identifier: MIT */
/* One message: decoded, resolved, walked through the stack, answered. Both transports come here. */
#include "session/uring.h"
#include "base/base.h"
#include "wire/proto.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What is asked of every kernel; each is given up where the kernel does not offer it. reference: FUSE_* in linux/fuse.h */
static const uint64_t flags_always = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_DONT_MASK |
	FUSE_HAS_IOCTL_DIR | FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO |
	FUSE_PARALLEL_DIROPS | FUSE_ABORT_ERROR | FUSE_MAX_PAGES | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT |
	FUSE_INIT_EXT | FUSE_HAS_EXPIRE_ONLY | FUSE_CREATE_SUPP_GROUP;

#define DAY_MS 86400000u

static void send_error(struct session *s, struct op *op, uint64_t unique, int error)
{
	char fixed[WIRE_FIXED_MAX];
	struct iovec iov = { fixed, wire_encode_error(unique, error, fixed) };

	session_answer(s, op, &iov, 1);
}

/* What the kernel wants of a ring's buffers. */
static size_t payload_max(const struct wire_init_answer *a)
{
	size_t pages = (size_t)a->max_pages * sysconf(_SC_PAGESIZE);

	return pages > a->max_write ? pages : a->max_write;
}

static void serve_init(struct session *s, const struct wire_request *rq)
{
	const struct alt_filesystem_registration *fs = s->volume->fs;
	uint64_t want = flags_always;
	bool no_open;
	struct wire_init_answer a = {
		.max_readahead = rq->init.max_readahead, .max_write = IO_DATA_MAX, .time_gran = 1,
		.max_background = 64, .congestion_threshold = 48, .max_pages = IO_DATA_MAX / 4096,
	};
	bool ring;
	int sent;
	char fixed[WIRE_FIXED_MAX];
	struct iovec iov = { fixed, 0 };

	if (fs->flags & ALT_FS_ACL)
		want |= FUSE_POSIX_ACL;
	no_open = s->volume->no_open_wanted && (rq->init.flags & FUSE_NO_OPEN_SUPPORT);
	atomic_store(&s->volume->no_open, no_open);
	/* Locks belong to an open file. And with ATOMIC_O_TRUNC the kernel leaves the truncation to an OPEN that never comes. */
	if (no_open)
		want = (want & ~(uint64_t)FUSE_ATOMIC_O_TRUNC) | FUSE_NO_OPEN_SUPPORT;
	else if (fs->flags & ALT_FS_LOCKS)
		want |= FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS;
	/* Depth 1: the files below may not lie on another stacked file system, and one may be stacked on us. */
	if (s->fd >= 0 && s->volume->passthrough && !no_open && geteuid() == 0)
		want |= FUSE_PASSTHROUGH;
	atomic_store(&s->epochs, rq->init.minor >= WIRE_MINOR_EPOCHS);
	a.flags = rq->init.flags & want;
	if (a.flags & FUSE_PASSTHROUGH)
		a.max_stack_depth = 1;
	atomic_store(&s->may_through, a.flags & FUSE_PASSTHROUGH);
	ring = s->fd >= 0 && !atomic_load(&s->uring) && uring_agree(s, rq->init.flags & FUSE_OVER_IO_URING, payload_max(&a));
	if (ring)
		a.flags |= FUSE_OVER_IO_URING;
	iov.iov_len = wire_encode_init(rq->unique, &a, fixed);
	sent = session_send(s, &iov, 1);
	if (ring)
		uring_go(s, sent >= 0);
}

static void serve_forget(struct session *s, const struct wire_request *rq)
{
	for (uint32_t i = 0; i < rq->forget_count; i++) {
		struct wire_forget f;

		memcpy(&f, (const char *)rq->forgets + i * sizeof f, sizeof f);
		node_forget(s->volume, f.nodeid, f.nlookup);
	}
}

/*
 * An interrupt may overtake its victim: "ask again" until it is in flight or the kernel has its answer. The kernel asks again
 * only for what came over /dev/fuse; for what lies in a ring, ours is the memory.
 */
static void serve_interrupt(struct session *s, struct op *op, const struct wire_request *rq)
{
	if (atomic_load(&s->uring))
		op_interrupt_early(s->volume, rq->victim);
	else if (!op_interrupt(s->volume, rq->victim))
		send_error(s, op, rq->unique, -EAGAIN);
}

/* ---- answers ---- */

/* For a day when every change below is told of; not at all when a filter wants to see each question. */
static uint32_t lifetime_ms(const struct alt_volume *v, enum alt_op_code question)
{
	if (v->ttl_given)
		return v->ttl_ms;
	return atomic_load(&v->watched) && !(atomic_load(&v->filtered) >> question & 1) ? DAY_MS : 0;
}

struct wire_reply reply_begin(const struct session *s, const struct op *op)
{
	uint64_t number = op->pub.node->rec.number;
	bool quiet = number == IO_ROOT_ID && !atomic_load(&s->entered); /* see notifier.c */

	return (struct wire_reply){
		.entry_ttl_ms = lifetime_ms(op->pub.volume, ALT_OP_LOOKUP),
		.attr_ttl_ms = quiet ? 0 : lifetime_ms(op->pub.volume, ALT_OP_GETATTR),
		.attr_ino = number,
	};
}

void reply_node(struct wire_reply *rp, struct alt_node *n)
{
	rp->nodeid = n->rec.number;
	rp->generation = 0;  /* it is part of the number */
	rp->attr_ino = n->rec.number;
}

static bool is_release(const struct op *op)
{
	return op->pub.code == ALT_OP_RELEASE || op->pub.code == ALT_OP_RELEASEDIR;
}

/* What a filter wants to see is not answered by the kernel alone. */
static void open_flags_decide(struct session *s, struct op *op, const struct alt_file *file)
{
	uint64_t filtered = atomic_load(&op->pub.volume->filtered);
	bool lists = op->pub.code == ALT_OP_OPENDIR, remembers = lifetime_ms(op->pub.volume, ALT_OP_READDIR);
	uint32_t *open = &op->pub.r.open;

	if (!lists && !op->pub.node->owner->ops[ALT_OP_FLUSH] && !(op->pub.volume->fs->flags & ALT_FS_LOCKS))
		*open |= ALT_OPEN_NOFLUSH;
	/* At FLUSH the kernel writes back its pages, those of mappings too: none may stay behind when a later open passes through. */
	if (filtered >> ALT_OP_FLUSH & 1 || (file->mode == FILE_CACHED && (file->flags & O_ACCMODE) != O_RDONLY))
		*open &= ~(uint32_t)ALT_OPEN_NOFLUSH;
	if (!lists || !remembers)
		*open &= ~(uint32_t)ALT_OPEN_CACHE_DIR;
	if (*open & ALT_OPEN_CACHE_DIR && !listing_is_poor(s, file->node))
		*open |= ALT_OPEN_KEEP_CACHE;
}

/*
 * A kernel that tells of no opens releases none, not even what it created: that is a shared file as any other, and the
 * kernel's handle is 0. True when it is so.
 */
static bool made_shared(struct op *op)
{
	struct alt_file *file = op->pub.r.file;

	if (op->pub.code == ALT_OP_OPENDIR || !atomic_load(&op->pub.volume->no_open))
		return false;
	op->pub.file = op->pub.r.file = NULL;
	shared_add(file);
	file_unref(file);
	return true;
}

static void answer_success(struct session *s, struct op *op)
{
	struct wire_reply rp = reply_begin(s, op);
	struct alt_file *file = op->pub.r.file;
	struct alt_node *node = op->pub.r.node;
	char fixed[WIRE_FIXED_MAX];
	struct iovec iov[2];
	size_t listed = 0;
	char *data = NULL;
	int n;

	if (node) {
		reply_node(&rp, node);
		node_remember(node, 1); /* before the answer: a FORGET may follow it at once */
		notices_missed(op, &op->pub.r.entry);
		if (op->pub.code == ALT_OP_LOOKUP)
			listing_looked(s, op->pub.node);
	}
	if (file && made_shared(op)) {
		file = NULL;
	} else if (file) {
		rp.fh = file->number;
		rp.backing_id = through_decide(s, op);
		open_flags_decide(s, op, file);
		op->pub.file = op->pub.r.file = NULL; /* the reference is the kernel's now */
	}
	if (op->pub.code == ALT_OP_READDIR) {
		data = malloc(op->rq.params.size + 1);
		listed = listing_encode(s, op, data, op->rq.params.size, data);
		if (!data) {
			send_error(s, op, op->unique, -ENOMEM);
			return;
		}
	}
	n = wire_encode(&op->rq, &op->pub, &rp, data, listed, fixed, iov);
	if (session_answer(s, op, iov, n) < 0) {
		if (node)
			node_forget(op->pub.volume, node->rec.number, 1);
		if (file) {
			through_release(s, file);
			file_abandon(file);
		}
		if (op->pub.code == ALT_OP_READDIR && (op->rq.params.bits & ALT_PARAM_PLUS))
			listing_undo(op);
	}
	free(data);
}

static void operation_done(struct op *op)
{
	struct session *s = op->done_arg;
	bool late = atomic_exchange(&op->answered, 1);

	/* A name that is not there is remembered as well, where names are, if it can be taken back with all others (notifier.c). */
	if (op->pub.code == ALT_OP_LOOKUP && op->pub.status == -ENOENT && lifetime_ms(op->pub.volume, ALT_OP_LOOKUP) &&
	    (op->pub.node->rec.number != IO_ROOT_ID || atomic_load(&s->epochs) || op->pub.volume->ttl_given)) {
		op->pub.status = 0;
		memset(&op->pub.r, 0, sizeof op->pub.r);
	}
	if (!late && op->pub.status < 0)
		send_error(s, op, op->unique, op->pub.status);
	else if (!late)
		answer_success(s, op);
	if ((late || op->pub.status < 0) && op->pub.code == ALT_OP_READDIR)
		listing_encode(s, op, NULL, 0, false);
	if (is_release(op))
		through_release(s, op->pub.file);
	if (is_release(op))
		file_unref(op->pub.file); /* the kernel's reference, taken by its OPEN */
	op_end(op);
}

static void serve_operation(struct session *s, struct op *op)
{
	int r = op_resolve(op);

	if (!r && !atomic_load(&s->entered) && (op->pub.code == ALT_OP_LOOKUP || op->pub.code == ALT_OP_OPENDIR))
		atomic_store(&s->entered, true);
	if (!r && is_release(op) && atomic_exchange(&op->pub.file->released, true))
		r = -EBADF;
	if (r < 0) {
		send_error(s, op, op->unique, r);
		op_end(op);
		return;
	}
	if (op->pub.code == ALT_OP_READDIR)
		listing_begin(s, op);
	op->pub.flags |= ALT_OP_FAST;
	op->done = operation_done;
	op->done_arg = s;
	stack_run(op, NULL);
}

/* ENOSYS is remembered: none is sent again. A RELEASE may come of what was created before the first of them. */
static bool serve_no_open(struct session *s, struct op *op)
{
	const struct wire_request *rq = &op->rq;
	bool never = rq->code == ALT_OP_OPEN || rq->code == ALT_OP_FLUSH;

	if (!atomic_load(&s->volume->no_open) || !(never || (rq->code == ALT_OP_RELEASE && !rq->fh)))
		return false;
	send_error(s, op, rq->unique, never ? -ENOSYS : 0);
	return true;
}

void serve(struct session *s, struct op *op, size_t len)
{
	struct wire_request *rq = &op->rq;

	if (wire_decode(op->message, len, rq) < 0) {
		if (rq->unique || op->carrier)
			send_error(s, op, rq->unique, -EIO);
		alt_op_unref(&op->pub);
		return;
	}
	if (rq->kind == WIRE_OP && !serve_no_open(s, op)) {
		serve_operation(s, op);
		return;
	}
	if (rq->kind == WIRE_OP)
		; /* answered */
	else if (rq->kind == WIRE_INIT)
		serve_init(s, rq);
	else if (rq->kind == WIRE_FORGET)
		serve_forget(s, rq);
	else if (rq->kind == WIRE_INTERRUPT)
		serve_interrupt(s, op, rq);
	else if (rq->kind == WIRE_DESTROY)
		send_error(s, op, rq->unique, 0);
	else if (rq->kind == WIRE_UNSUPPORTED || op->carrier)
		send_error(s, op, rq->unique, -ENOSYS);
	alt_op_unref(&op->pub);
}

void serve_lent(struct session *s, struct op *op, void **message, size_t len)
{
	op->message = *message;
	alt_op_ref(&op->pub);
	serve(s, op, len);
	*message = NULL;
	if (atomic_load(&op->refs) == 1) {
		*message = op->message;
		op->message = NULL;
	}
	alt_op_unref(&op->pub);
}

/* ---- loopback ---- */

int session_loopback(struct alt_volume *v, session_answer_fn *answer, void *arg, struct session **ret)
{
	struct session *s = calloc(1, sizeof *s);

	if (!s)
		return -ENOMEM;
	s->volume = v;
	s->fd = s->stop_fd = s->park_fd = s->nap_fd = -1;
	s->answer = answer;
	s->answer_arg = arg;
	*ret = s;
	return 0;
}

void session_give(struct session *s, const void *message, size_t len)
{
	struct op *op = op_new_surely(s->volume);

	while (!(op->message = malloc(len + 1)))
		poll(NULL, 0, 1);
	memcpy(op->message, message, len);
	serve(s, op, len);
}
