/* SPDX-License-Identifier: MIT */
/*
 * owns      the layout of FUSE messages, protocol 7.45: decode and encode as pure functions
 * never     allocates, blocks, keeps state, or trusts a length or count from the kernel
 * hands to  session, which carries the bytes, and io, which knows nodes and files
 */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include <altitude/op.h>
#include <sys/uio.h>

/** What a message is about, when it is no operation. */
enum wire_kind {
	WIRE_OP,                 /* an operation: code and params are filled */
	WIRE_INIT,
	WIRE_FORGET,             /* no answer; forget_count pairs at forgets */
	WIRE_INTERRUPT,          /* victim */
	WIRE_DESTROY,
	WIRE_UNSUPPORTED,        /* known to the protocol, not to us: answer -ENOSYS */
	WIRE_NOREPLY,            /* NOTIFY_REPLY and such: drop */
};

struct wire_forget { uint64_t nodeid, nlookup; };

struct wire_init {
	uint32_t major, minor, max_readahead;
	uint64_t flags;          /* both words */
};

/** A decoded message. Pointers look into the message, which must outlive it and may be patched (NUL for names). */
struct wire_request {
	enum wire_kind kind;
	enum alt_op_code code;   /* WIRE_OP */
	uint32_t opcode;         /* FUSE_* */
	uint64_t unique, nodeid;
	struct alt_caller caller;
	uint64_t fh;             /* file handle number; valid when has_fh */
	bool has_fh;
	uint64_t other_nodeid;   /* RENAME new parent, LINK old node, COPY_FILE_RANGE target */
	uint64_t other_fh;       /* COPY_FILE_RANGE */
	bool plus;               /* READDIR: the form of the answer, entries have room for attributes, whether they are given or not */
	struct alt_params params; /* node and file pointers NULL; buf NULL for answers (size says the room wanted);
				   * IOCTL: buf is the @size bytes that came, out_size the room wanted, flags FUSE_IOCTL_*;
				   * POLL: arg is the cookie for wire_notify_poll(), flags FUSE_POLL_* */
	const void *forgets;     /* WIRE_FORGET: forget_count packed struct wire_forget, maybe unaligned (use memcpy);
				  * of FUSE_FORGET it is &single: do not copy the request */
	uint32_t forget_count;
	struct wire_forget single;
	uint64_t victim;         /* WIRE_INTERRUPT: unique */
	struct wire_init init;
	uint32_t supp_group;     /* extension of creating calls */
	bool has_supp_group;
};

/** 0, or -EPROTO for a message that is not well formed (then unique is right if the header was whole, else 0). */
int wire_decode(void *msg, size_t len, struct wire_request *ret);

/** Who asks, by the header alone: a thread's number, 0 for the kernel itself, one of another namespace, or no whole header. */
uint32_t wire_client(const void *msg, size_t len);

/** Whether somebody may wait for the answer, by the header alone: of a release nobody does. */
bool wire_is_awaited(const void *msg, size_t len);

/** What a reply needs beside the operation: numbers the wire does not know. */
struct wire_reply {
	uint64_t nodeid, generation; /* of op->r.node; 0: negative entry */
	uint64_t fh;             /* OPEN, OPENDIR, CREATE, TMPFILE */
	int32_t backing_id;      /* with passthrough, else 0 */
	uint64_t attr_ino;       /* st_ino when attr.ino is 0 */
	uint32_t entry_ttl_ms, attr_ttl_ms; /* of ALT_TTL_DEFAULT */
};

#define WIRE_FIXED_MAX 320       /* room for any reply's header and fixed part; that of STATX is 304 */

/**
 * Build the answer of @op into at most two iovecs: the header and fixed part in @fixed, data where it lies.
 * The data of READ, READLINK, GETXATTR, LISTXATTR, IOCTL is op->p->buf, op->r.size bytes; of READDIR @data, @data_size.
 * An answer the kernel would refuse becomes an error: more bytes than it asked for (-ERANGE for attributes, else -EIO),
 * or a status that is no errno (-EIO).
 * Returns the number of iovecs.
 */
int wire_encode(const struct wire_request *rq, const struct alt_op *op, const struct wire_reply *rp,
		const void *data, size_t data_size, void *fixed, struct iovec iov[2]);

/** An answer without a body: @error is 0 or -errno. Returns its size (16). */
size_t wire_encode_error(uint64_t unique, int error, void *fixed);

/** Bytes one READDIR entry takes; with @plus the entry record before it. */
size_t wire_dirent_size(size_t name_len, bool plus);

/**
 * Write one READDIR entry at @out (wire_dirent_size() bytes of room). @e and @rp only with @plus; rp->nodeid 0: no node
 * is looked up (".", "..", and what could not be interned).
 */
void wire_dirent_put(void *out, const char *name, size_t name_len, uint64_t ino, unsigned type, int64_t next,
		     bool plus, const struct alt_entry *e, const struct wire_reply *rp);

/** What the session answers to INIT. */
struct wire_init_answer {
	uint64_t flags;          /* subset of what was offered */
	uint32_t max_readahead, max_write, time_gran, max_stack_depth;
	uint16_t max_background, congestion_threshold, max_pages;
};
size_t wire_encode_init(uint64_t unique, const struct wire_init_answer *a, void *fixed);

/**
 * Notifications; each returns the message's size, written to @out (WIRE_FIXED_MAX + 256 bytes).
 * A @name of 0 or more than 255 bytes gives 0: there is nothing to tell.
 */
size_t wire_notify_inode(uint64_t nodeid, int64_t off, int64_t len, void *out);
size_t wire_notify_entry(uint64_t parent, const char *name, size_t name_len, bool expire_only, void *out);
/** The entry went, and @child with it: whoever watches the file hears of it (inotify(7)). */
size_t wire_notify_delete(uint64_t parent, uint64_t child, const char *name, size_t name_len, void *out);
size_t wire_notify_epoch(void *out);
size_t wire_notify_poll(uint64_t kh, void *out);

#endif
