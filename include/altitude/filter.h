/* SPDX-License-Identifier: MIT */
/*
 * Filters: code that sees operations on their way down (pre) and up (post).
 *
 * A module fills one table; filters/null is the template. What is absent passes through and costs nothing.
 * Order for instances A (high), B (low): preA, preB, file system, postB, postA.
 */
#ifndef ALTITUDE_FILTER_H
#define ALTITUDE_FILTER_H

#include <altitude/error.h>
#include <altitude/module.h>
#include <altitude/node.h>
#include <altitude/op.h>

/** Answers of a pre-operation; the documents' values (FLT_PREOP_*). */
enum alt_pre {
	ALT_PRE_SUCCESS_WITH_CALLBACK = 0, /* go on; call my post */
	ALT_PRE_SUCCESS_NO_CALLBACK = 1,   /* go on; my post is not called */
	ALT_PRE_PENDING = 2,               /* mine until alt_op_resume_pre(), from any thread, also before this return */
	ALT_PRE_DISALLOW_FASTIO = 3,       /* only with ALT_OP_FAST: ask again from a worker, where I may block */
	ALT_PRE_COMPLETE = 4,              /* turn round here with op->status; posts above run, mine does not */
	ALT_PRE_SYNCHRONIZE = 5,           /* as WITH_CALLBACK, and the post runs on this thread, which waits for whatever pends
					    * below: say so with ALT_CALLBACK_SYNCHRONIZES, or answer DISALLOW_FASTIO first */
};

/** Answers of a post-operation (FLT_POSTOP_*). */
enum alt_post {
	ALT_POST_FINISHED = 0,
	ALT_POST_MORE_PROCESSING = 1,      /* mine until alt_op_resume_post() */
};

/**
 * @in   the instance; alt_instance_volume() and friends tell the rest
 * @ctx  may be set: handed to the post of the same operation
 * Runs on the thread that took the operation; must not wait for another operation of this volume.
 */
typedef enum alt_pre alt_pre_fn(struct alt_op *op, struct alt_instance *in, void **ctx);

/**
 * Called with the parameters the pre saw. May change op->status and op->r.
 * With ALT_OP_DRAINING in flags the instance is being detached and the operation stays below, where a lock is waited for, or
 * for more than a second: it goes on without the instance, which is to free @ctx and no more, on any thread. Never one whose
 * parameters the pre changed (alt_op_dirty()); but for a wait for a lock.
 */
typedef enum alt_post alt_post_fn(struct alt_op *op, struct alt_instance *in, void *ctx);

struct alt_callback {
	enum alt_op_code code;
	alt_pre_fn *pre;
	alt_post_fn *post;
	uint32_t flags;                    /* enum alt_callback_flags */
};
enum alt_callback_flags {
	ALT_CALLBACK_SKIP_WRITEBACK = 1u << 0, /* not for WRITE by the page cache (SKIP_PAGING_IO) */
	ALT_CALLBACK_SKIP_GENERATED = 1u << 1, /* not for what higher filters ask themselves */
	ALT_CALLBACK_SYNCHRONIZES = 1u << 2,   /* must be there to answer ALT_PRE_SYNCHRONIZE: called on a worker thread, where it
						* holds up nobody. Who does not say so is called on one that serves, which then has
						* to wait itself: /dev/fuse replaces it, the requests of a ring's CPU wait along.
						* It is named in the log, and from then on taken to have said it */
};

enum alt_setup_flags {                     /* FLTFL_INSTANCE_SETUP_* */
	ALT_SETUP_AUTOMATIC = 1u << 0,
	ALT_SETUP_MANUAL = 1u << 1,
	ALT_SETUP_NEWLY_MOUNTED = 1u << 2,
};

enum alt_teardown_reason {                 /* FLTFL_INSTANCE_TEARDOWN_* */
	ALT_TEARDOWN_MANUAL = 1u << 0,
	ALT_TEARDOWN_FILTER_UNLOAD = 1u << 1,
	ALT_TEARDOWN_MANDATORY_UNLOAD = 1u << 2,
	ALT_TEARDOWN_DISMOUNT = 1u << 3,
	ALT_TEARDOWN_INTERNAL_ERROR = 1u << 4,
};

enum alt_unload_flags { ALT_UNLOAD_MANDATORY = 1u << 0 };

enum alt_filter_flags {
	ALT_FILTER_NO_MANDATORY_UNLOAD = 1u << 0, /* DO_NOT_SUPPORT_SERVICE_STOP */
	ALT_FILTER_NO_DETACH = 1u << 1,        /* manual detach is refused (in the documents: no query-teardown) */
	ALT_FILTER_SLOW = 1u << 2,             /* pre-operations may block for long: called on worker threads */
};

struct alt_report;

struct alt_filter_registration {
	size_t size;                           /* sizeof *this */
	const char *name;
	uint32_t flags;                        /* enum alt_filter_flags */
	const char *altitude;                  /* of an instance that names none: "370020" */
	const struct alt_option *options;      /* of ":opt=val"; ends with a NULL name; NULL: none */
	const struct alt_callback *callbacks;  /* ends with ALT_OP_END; NULL: none */
	size_t instance_size;                  /* bytes of each instance's own: alt_instance_data(), zeroed before setup */

	/** Prepare; nothing is attached yet. Failure unloads the module and calls nothing else. */
	int (*load)(struct alt_error *err);
	/**
	 * Last words; an error refuses unless ALT_UNLOAD_MANDATORY. When the last instance is gone, the code leaves memory:
	 * threads of the module's own have ended by then. What the engine may still call keeps it, and is named to who
	 * unloads or loads it: a port that is open, contexts that are referenced.
	 */
	int (*unload)(uint32_t flags);

	/**
	 * May decline with -errno, and gives back what it took by then: nothing else is called. The instance may already be asked
	 * for operations when it returns 0.
	 */
	int (*setup)(struct alt_instance *in, uint32_t flags, struct alt_error *err);
	/** Only for a manual detach; an error refuses. */
	int (*query_teardown)(struct alt_instance *in);
	/**
	 * No new operation comes; complete what is pended, pend nothing new. What is still there nine seconds later is cancelled,
	 * where its caller could have given it up too.
	 */
	void (*teardown_start)(struct alt_instance *in, uint32_t reason);
	/** No operation is left, and no cancel routine runs. Contexts are still there, and go afterwards. */
	void (*teardown_complete)(struct alt_instance *in, uint32_t reason);

	/**
	 * Reports, of an instance that is attached. On any thread, several at a time; teardown_complete waits for them.
	 * @stats  for "altitude stats": lines "key value"
	 * @watch  for "altitude watch": the lines that are new since it was called last
	 */
	void (*stats)(struct alt_instance *in, struct alt_report *to);
	void (*watch)(struct alt_instance *in, struct alt_report *to);

	/**
	 * View callbacks: what is seen above this instance. They run before the own post, whatever the operation.
	 * @attributes  every attribute record on its way up; @node is NULL in a listing: no nodes yet
	 * @entry       every directory entry on its way up: change @name (room for 256 bytes); false hides it
	 * @name        every entry name on its way down: write the lower name to @lower (256 bytes);
	 *              0 or -errno, which is the operation's answer (-ENOENT hides)
	 */
	void (*attributes)(struct alt_instance *in, struct alt_node *node, struct alt_attr *attr);
	bool (*entry)(struct alt_instance *in, struct alt_node *dir, char *name);
	int (*name_down)(struct alt_instance *in, struct alt_node *dir, const char *name, char *lower);
};

#define ALT_FILTER(registration) ALT_MODULE(ALT_MODULE_FILTER, registration)

/** Let a pended pre-operation go on as @decision says (WITH_CALLBACK, NO_CALLBACK or COMPLETE). Exactly once, any thread. */
void alt_op_resume_pre(struct alt_op *op, enum alt_pre decision, void *ctx);
/** Let a pended post-operation go on. Exactly once, any thread. */
void alt_op_resume_post(struct alt_op *op);

/**
 * In a pre- or post-operation of OPEN, CREATE or TMPFILE: this instance does not want the data of the file being opened.
 * When nobody else does, reads and writes of it need not come here at all.
 */
void alt_op_decline_data(struct alt_op *op, struct alt_instance *in);

const char *alt_instance_name(const struct alt_instance *in);
const char *alt_instance_altitude(const struct alt_instance *in);
struct alt_volume *alt_instance_volume(const struct alt_instance *in);
/** The instance's own bytes, until teardown_complete has returned or setup declined; or what was set instead. */
void *alt_instance_data(const struct alt_instance *in);
void alt_instance_set_data(struct alt_instance *in, void *data);   /* from setup on; the caller's to free */

/** Value of ":name=value", NULL when not given; "" for one without value. */
const char *alt_instance_option(const struct alt_instance *in, const char *name);
/** The same as a number; @fallback when not given; -EINVAL explained in @err when it is none. */
int alt_instance_option_u64(const struct alt_instance *in, const char *name, uint64_t fallback, uint64_t *ret,
			    struct alt_error *err);

/** Add a line, as printf(3) and without a newline, to a report. Only while the report's function runs. */
void alt_report_line(struct alt_report *to, const char *format, ...) __attribute__((format(printf, 2, 3)));

/**
 * A filter's own I/O, from below its altitude: neither it nor higher filters see it. All of these wait, on the thread that calls,
 * for what pends and is slow below: on a worker (ALT_PRE_DISALLOW_FASTIO, ALT_FILTER_SLOW), in setup, or on a thread of its own,
 * which has ended by teardown_complete. Nobody can interrupt them. They ask with the server's rights (uid 0, pid 0).
 * Whatever those below answer; -ENOMEM.
 */

/**
 * Read or write an open file. The kernel is told of what was written.
 * @count   bytes, at most 1 MiB, else -EINVAL
 * @offset  bytes from the start, >= 0, else -EINVAL
 * Returns bytes (short only at end of file) or -errno.   Source: FltReadFile, FltWriteFile.
 */
long alt_io_read(struct alt_instance *in, struct alt_file *file, void *buf, size_t count, int64_t offset);
long alt_io_write(struct alt_instance *in, struct alt_file *file, const void *buf, size_t count, int64_t offset);
/** Attributes of a node. 0 or -errno; @attr is untouched then. */
int alt_io_getattr(struct alt_instance *in, struct alt_node *node, struct alt_attr *attr);

/**
 * Open a node from below; close it with alt_io_close() at the latest in teardown_complete. A NULL @file is fine there.
 * @flags  open(2) without O_CREAT, else -EINVAL
 * 0, -EISDIR or whatever the stack below answers; @ret is untouched then.   Source: FltCreateFile, FltClose.
 */
int alt_io_open(struct alt_instance *in, struct alt_node *node, uint32_t flags, struct alt_file **ret);
void alt_io_close(struct alt_instance *in, struct alt_file *file);

/** Remove @name from @dir; the kernel is told. 0 or -errno. */
int alt_io_unlink(struct alt_instance *in, struct alt_node *dir, const char *name);

#endif
