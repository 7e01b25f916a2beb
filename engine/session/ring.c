/* SPDX-License-Identifier: MIT */
/* A ring's entries: filled by the kernel, served by the ring's own thread, answered by any. */
#ifdef HAVE_LIBURING
#include "session/ring.h"
#include "base/base.h"
#include "wire/proto.h"
#include <altitude/log.h>

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define SWEEP_MS 500u

/* ---- the wire format; reference: linux/fuse.h of 6.14 and later ---- */

enum { RING_REGISTER = 1, RING_COMMIT_AND_FETCH = 2 };

struct ring_header {
	char in_out[128];                /* the header of the request, then of the answer */
	char op_in[128];                 /* the opcode's fixed struct */
	uint64_t flags, commit_id;
	uint32_t payload_size, padding;
	uint64_t reserved;
};

struct ring_command {
	uint64_t flags, commit_id;
	uint16_t queue;
	uint8_t padding[6];
};

static_assert(sizeof(struct ring_header) == 288, "ring header");
static_assert(sizeof(struct ring_command) == 24, "ring command");

static _Thread_local struct ring *mine;

/* ---- entries ---- */

static size_t entry_size(const struct uring *u)
{
	return RING_PAGE + u->payload;
}

/* Where an entry's buffers lie; nobody else knows. Later kernels let the entries of a queue share one. */
static char *entry_at(const struct entry *e, bool payload)
{
	return e->ring->memory + e->index * entry_size(e->ring->u) + (payload ? RING_PAGE : 0);
}

static struct ring_header *header_of(const struct entry *e)
{
	return (struct ring_header *)entry_at(e, false);
}

/* There is room: an entry is either with us or has one command in the ring, and the wake-up has one. */
static struct io_uring_sqe *sqe_get(struct ring *r)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&r->io)))
		io_uring_submit(&r->io);
	return sqe;
}

static void entry_submit(struct entry *e, int command, uint64_t commit_id)
{
	struct io_uring_sqe *sqe = sqe_get(e->ring);
	struct ring_command c = { .commit_id = commit_id, .queue = e->queue };

	memset((char *)sqe, 0, 128);
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = e->ring->u->s->fd;
	sqe->addr = (uintptr_t)e->parts;
	sqe->len = 2;
	sqe->user_data = (uintptr_t)e;
	memcpy(&sqe->off, &(uint32_t){ command }, sizeof(uint32_t)); /* cmd_op */
	memcpy((char *)sqe + 48, &c, sizeof c);                      /* the command area of a large entry */
}

static void entry_commit(struct entry *e)
{
	e->out = false;
	e->ring->out--;
	entry_submit(e, RING_COMMIT_AND_FETCH, header_of(e)->commit_id);
}

void ring_wake(struct ring *r)
{
	eventfd_write(r->wake_fd, 1);
}

int uring_answer(struct entry *e, const struct iovec *iov, int count)
{
	struct ring_header *h = header_of(e);
	struct fuse_out_header out;
	struct ring *r = e->ring;
	size_t used = 0;
	bool first;

	memcpy(&out, iov[0].iov_base, sizeof out);
	for (int i = 0; i < count; i++) {
		size_t skip = i ? 0 : sizeof out, size = iov[i].iov_len - skip;

		if (size > r->u->payload - used) {
			out.error = -EIO;
			used = 0;
			break;
		}
		memcpy(entry_at(e, true) + used, (char *)iov[i].iov_base + skip, size);
		used += size;
	}
	out.len = sizeof out + used;
	memcpy(h->in_out, &out, sizeof out);
	h->payload_size = used;
	if (mine == r) {
		entry_commit(e);
		return 0;
	}
	pthread_mutex_lock(&r->lock);
	first = !r->handed;
	e->next = r->handed;
	r->handed = e;
	pthread_mutex_unlock(&r->lock);
	if (first)
		ring_wake(r);
	return 0;
}

static void entry_refuse(struct entry *e, int error)
{
	struct fuse_in_header in;
	struct fuse_out_header out = { .len = sizeof out, .error = error };
	struct iovec iov = { &out, sizeof out };

	memcpy(&in, header_of(e)->in_out, sizeof in);
	out.unique = in.unique;
	uring_answer(e, &iov, 1);
}

/* The request in one piece, as /dev/fuse gives it: header, fixed struct, the rest. Its length, or -EPROTO. */
static ssize_t entry_gather(const struct entry *e, char *to)
{
	const struct ring_header *h = header_of(e);
	struct fuse_in_header in;
	size_t fixed;

	memcpy(&in, h->in_out, sizeof in);
	if (in.len < sizeof in || h->payload_size > e->ring->u->payload || h->payload_size > in.len - sizeof in ||
	    in.len > IO_MESSAGE_MAX)
		return -EPROTO;
	fixed = in.len - sizeof in - h->payload_size;
	if (fixed > sizeof h->op_in)
		return -EPROTO;
	memcpy(to, &in, sizeof in);
	memcpy(to + sizeof in, h->op_in, fixed);
	memcpy(to + sizeof in + fixed, entry_at(e, true), h->payload_size);
	return in.len;
}

static void entry_serve(struct entry *e)
{
	struct session *s = e->ring->u->s;
	struct ring *r = e->ring;
	struct op *op = NULL;
	struct fuse_in_header in;
	ssize_t len = -ENOTCONN;

	memcpy(&in, header_of(e)->in_out, sizeof in);
	e->out = true;
	e->told = false;
	e->pid = in.pid;
	e->unique = in.unique;
	e->since_ms = now_ms();
	r->out++;
	if (!atomic_load(&s->stopping)) {
		/* A RELEASE that was refused would leave its file open. Memory is waited for, as before /dev/fuse is read. */
		while (!r->message && !(r->message = malloc(IO_MESSAGE_MAX)))
			poll(NULL, 0, 1);
		op = op_new_surely(s->volume);
		len = entry_gather(e, r->message);
	}
	if (len < 0) {
		if (op)
			alt_op_unref(&op->pub);
		entry_refuse(e, len == -EPROTO ? -EIO : len);
		return;
	}
	op->carrier = e;
	serve_lent(s, op, &r->message, len);
}

/* Its command ended without a request. */
static void entry_lost(struct entry *e, int error)
{
	struct uring *u = e->ring->u;
	struct alt_volume *v = u->s->volume;

	if (error == -ENOTCONN || error == -ECONNABORTED || error == -ENODEV || error == -ECANCELED || error == -ENOENT) {
		session_stop(u->s);
	} else if (!header_of(e)->commit_id) {
		if (atomic_exchange(&u->refused, true))
			return;
		alt_log(LOG_NOTICE, "'%s': the kernel refuses the ring (%s); served over /dev/fuse", v->name, strerror(-error));
		herd_begin(u->s, 1, v->threads);
	} else if (!atomic_exchange(&u->broken, true)) {
		alt_log(LOG_ERR, "'%s': an entry of the ring is lost: %s", v->name, strerror(-error));
	}
}

/* Which ring serves a queue: that of its CPU; those of CPUs we may not use are shared out. */
static unsigned queue_ring(const struct uring *u, unsigned queue)
{
	for (unsigned i = 0; i < u->count; i++)
		if (u->rings[i].cpu == (int)queue)
			return i;
	return queue % u->count;
}

int ring_fill(struct ring *r, unsigned number)
{
	struct uring *u = r->u;
	unsigned at = 0;

	for (unsigned q = 0; q < u->queues; q++)
		r->count += queue_ring(u, q) == number ? u->depth : 0;
	r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->entries = calloc(r->count + 1, sizeof *r->entries);
	r->memory = mmap(NULL, (r->count + 1) * entry_size(u), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (r->memory == MAP_FAILED)
		r->memory = NULL;
	if (r->wake_fd < 0 || !r->entries || !r->memory)
		return -ENOMEM;
	for (unsigned q = 0; q < u->queues; q++)
		for (unsigned i = 0; queue_ring(u, q) == number && i < u->depth; i++, at++) {
			struct entry *e = &r->entries[at];

			*e = (struct entry){ .ring = r, .index = at, .queue = q };
			e->parts[0] = (struct iovec){ header_of(e), sizeof(struct ring_header) };
			e->parts[1] = (struct iovec){ entry_at(e, true), u->payload };
		}
	return 0;
}

void ring_free(struct ring *r)
{
	if (r->memory)
		munmap(r->memory, (r->count + 1) * entry_size(r->u));
	if (r->wake_fd >= 0)
		close(r->wake_fd);
	pthread_mutex_destroy(&r->lock);
	free(r->entries);
}

/* ---- a ring's thread ---- */

static void wake_arm(struct ring *r)
{
	struct io_uring_sqe *sqe = sqe_get(r);

	io_uring_prep_poll_add(sqe, r->wake_fd, POLLIN);
	io_uring_sqe_set_data(sqe, NULL);
}

static void handed_commit(struct ring *r)
{
	struct entry *list;
	eventfd_t ignored;

	eventfd_read(r->wake_fd, &ignored);
	pthread_mutex_lock(&r->lock);
	list = r->handed;
	r->handed = NULL;
	pthread_mutex_unlock(&r->lock);
	for (struct entry *e = list, *next; e; e = next) {
		next = e->next;
		entry_commit(e);
	}
}

/* Whether a signal waits for @tid that would end its wait for us. */
static bool signalled(uint32_t tid)
{
	uint64_t pending = 0, blocked = 0, set;
	char path[40], line[200];
	FILE *f;

	snprintf(path, sizeof path, "/proc/%u/status", tid);
	f = tid ? fopen(path, "re") : NULL;
	while (f && fgets(line, sizeof line, f)) {
		if (sscanf(line, "SigPnd: %" SCNx64, &set) == 1 || sscanf(line, "ShdPnd: %" SCNx64, &set) == 1)
			pending |= set;
		else if (sscanf(line, "SigBlk: %" SCNx64, &set) == 1)
			blocked = set;
	}
	if (f)
		fclose(f);
	return pending & ~blocked;
}

static void sweep(struct ring *r)
{
	uint64_t now = now_ms();

	r->swept_ms = now;
	for (unsigned i = 0; i < r->count; i++) {
		struct entry *e = &r->entries[i];

		if (!e->out || e->told || now - e->since_ms < SWEEP_MS || !signalled(e->pid))
			continue;
		e->told = true;
		op_interrupt_early(r->u->s->volume, e->unique);
	}
}

/* Until something comes; while requests are out, no longer than to the next sweep. */
static void ring_wait(struct ring *r)
{
	struct __kernel_timespec most = { .tv_nsec = SWEEP_MS * 1000000l };
	struct io_uring_cqe *ignored;

	if (!r->out) {
		io_uring_submit_and_wait(&r->io, 1);
		return;
	}
	io_uring_submit_and_wait_timeout(&r->io, &ignored, 1, &most, NULL);
	if (now_ms() - r->swept_ms >= SWEEP_MS)
		sweep(r);
}

static void quiet_say(struct uring *u)
{
	pthread_mutex_lock(&u->lock);
	u->quiet++;
	pthread_cond_broadcast(&u->changed);
	pthread_mutex_unlock(&u->lock);
}

static void ring_loop(struct ring *r)
{
	struct io_uring_cqe *cqe;
	bool quiet = false;

	wake_arm(r);
	for (unsigned i = 0; i < r->count; i++)
		entry_submit(&r->entries[i], RING_REGISTER, 0);
	while (!atomic_load(&r->u->ending)) {
		if (!quiet && atomic_load(&r->u->s->stopping)) {
			quiet = true;
			quiet_say(r->u);
		}
		ring_wait(r);
		while (!io_uring_peek_cqe(&r->io, &cqe)) {
			struct entry *e = io_uring_cqe_get_data(cqe);
			int res = cqe->res;

			io_uring_cqe_seen(&r->io, cqe);
			/* An answer does not wait for the next request to be served. */
			if (io_uring_sq_ready(&r->io))
				io_uring_submit(&r->io);
			if (!e) {
				handed_commit(r);
				wake_arm(r);
			} else if (res < 0) {
				entry_lost(e, res);
			} else {
				entry_serve(e);
			}
		}
	}
	handed_commit(r);
	io_uring_submit(&r->io);
	if (!quiet)
		quiet_say(r->u);
}

static int ring_make(struct ring *r)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CLAMP,
	};

	return io_uring_queue_init_params(r->count + 1, &r->io, &p);
}

/* The order, once it is given. */
static enum order ring_report(struct uring *u, int error)
{
	enum order order;

	pthread_mutex_lock(&u->lock);
	u->ready++;
	if (error)
		u->error = error;
	pthread_cond_broadcast(&u->changed);
	while (u->order == ORDER_WAIT)
		pthread_cond_wait(&u->changed, &u->lock);
	order = u->order;
	pthread_mutex_unlock(&u->lock);
	return order;
}

void *ring_main(void *arg)
{
	struct ring *r = arg;
	cpu_set_t set;
	int error;

	CPU_ZERO(&set);
	CPU_SET(r->cpu, &set);
	pthread_setaffinity_np(pthread_self(), sizeof set, &set); /* not allowed: slower, still right */
	pthread_setname_np(pthread_self(), "altitude-ring");
	mine = r;
	error = ring_make(r);
	if (ring_report(r->u, error) == ORDER_GO)
		ring_loop(r);
	else
		quiet_say(r->u);
	if (!error)
		io_uring_queue_exit(&r->io);
	free(r->message);
	return NULL;
}

#endif
