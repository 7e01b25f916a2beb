/* SPDX-License-Identifier: MIT */
/*
 * owns      operations in flight, nodes and their names, open files, the volume record
 * never     speaks to the kernel, knows what a filter does, holds a lock across a module's callback
 * hands to  stack, which walks the filters and asks the node's owner
 */
#ifndef IO_IO_H
#define IO_IO_H

#include "base/base.h"
#include "wire/wire.h"
#include <altitude/context.h>
#include <altitude/filesystem.h>
#include <altitude/filter.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/queue.h>

#define IO_ROOT_ID 1u
#define IO_DATA_MAX (1u << 20)          /* bytes of one READ or WRITE */
#define IO_MESSAGE_MAX (IO_DATA_MAX + 4096)
#define IO_FRAMES_INLINE 8
#define IO_EARLY_MAX 32

struct op;
struct stack;
struct context;

/* A key=value pair from the command line; arrays end with a NULL key. */
struct io_option { char *key, *value; };

/* Parse "key=value<sep>key..." into an array; "" and NULL give none. NULL only without memory. */
struct io_option *options_parse(const char *text, char separator);
void options_free(struct io_option *list);

struct io_name;

/*
 * A node: what the kernel knows by number. @number = generation << 32 | slot.
 * The slot's lasting part (key, number, lookups) stands first and holds no pointer: it can move to shared memory.
 */
struct alt_node {
	struct node_record {
		struct alt_key key;
		uint64_t number;
		_Atomic uint64_t lookups;        /* how often the kernel was told */
		uint32_t type;                   /* S_IFMT part of the mode */
		_Atomic uint32_t generation;     /* the file system's, of the key; ALT_GENERATION_PAST: another has the key now */
	} rec;
	struct alt_volume *volume;
	void *data;                              /* the file system's */
	struct io_name *names;                   /* [volume.tree] this node's names, latest first */
	struct context *contexts;                /* [volume.contexts_lock] */
	struct alt_node *hash_next;              /* [volume.tree] chain by key */
	const struct alt_filesystem_registration *owner; /* who serves it; an instance's table when grafted */
	struct alt_file *shared;                 /* [volume.share_lock] those the engine opened for itself; see shared.c */
	_Atomic uint32_t refs;                   /* lookups > 0 counts one; operations, files and children's names one each */
	uint32_t children;                       /* [volume.tree] names that have it as their parent */
	/* How the kernel serves the opens; see session/passthrough.c. [volume.modes_lock] */
	int32_t modal;                           /* > 0: opens straight to the backing file; < 0: all others */
	union {
		int32_t backing_id;              /* while modal > 0 */
		_Atomic uint32_t bare;           /* of a directory: names the kernel has without attributes; see session/listing.c */
	};
};

struct alt_file {
	uint64_t number;                         /* as a node's */
	struct alt_node *node;                   /* counted */
	uint32_t flags;                          /* open(2) */
	void *data;
	_Atomic uint32_t refs;
	enum file_mode { FILE_UNDECIDED, FILE_CACHED, FILE_THROUGH, FILE_THROUGH_DIRECT } mode; /* [volume.modes_lock] */
	_Atomic bool released;                   /* the kernel has sent RELEASE: a second one is refused */
	struct context *contexts;                /* [volume.contexts_lock] */
	bool directory;                          /* by OPENDIR: RELEASEDIR is its end */
	bool shared;                             /* the engine opened it, for all: RELEASE goes out with the last reference */
	struct share_list *share_list;           /* [volume.share_lock] where it stands, and has a reference; NULL: nowhere */
	struct alt_file *share_next;             /* [volume.share_lock] of the same node */
	TAILQ_ENTRY(alt_file) share_link;        /* [volume.share_lock] */
};
TAILQ_HEAD(share_list, alt_file);

struct alt_volume {
	char *name;                              /* "dir:/srv" */
	const struct alt_filesystem_registration *fs;
	struct io_option *options;
	void *data;
	struct alt_node *root;
	uint32_t ttl_ms;                         /* of names and attributes the file system says nothing about... */
	bool ttl_given;                          /* ...when a person said so; else it follows from the next */
	_Atomic bool watched;                    /* the file system tells of every change below: remember for long */
	bool passthrough;                        /* may be used (option) */
	bool no_open_wanted;                     /* option */
	_Atomic bool no_open;                    /* so it is: the kernel tells of no open file, and has no handles */
	uint32_t threads;                        /* of the herd (option); 0: one for each CPU */
	bool uring;                              /* transport=uring */
	uint32_t ring_depth;                     /* entries of each queue (option); 0: as the session likes */
	pthread_mutex_t modes_lock;
	_Atomic uint32_t through_files;          /* open files whose reads and writes go by us */
	struct notices *notices;                 /* what the kernel is to be told; see notify.c */
	uint32_t timeout_ms;                     /* of a request; 0: none */
	void *module;                            /* the file system's module reference */

	/* Lock order: share_lock, then tree, then slots_lock, then contexts_lock, then inflight. Never across a module's callback. */
	pthread_mutex_t share_lock;
	struct share_list share_recent, share_kept; /* [share_lock] used last first; those of nodes without a name */
	uint32_t share_count;                    /* [share_lock] of share_recent */
	void (*run)(struct op *op);              /* stack's: walk it from the top to op->done; after its end no filter is there.
						  * NULL: no stack */
	pthread_rwlock_t tree;
	struct alt_node **by_key;                /* [tree] */
	struct io_name **by_name;                /* [tree] (parent, name) */
	size_t buckets, name_buckets, nodes, name_count; /* [tree] */
	_Atomic size_t gone;                     /* nodes, since memory was given back last */
	pthread_mutex_t slots_lock;
	struct slot_table {                      /* [slots_lock] see slot.c */
		char **block;
		uint32_t *generation;
		uint64_t *taken, *shown;         /* a bit each */
		size_t size;                     /* of an object */
		uint32_t count, hint;            /* places; word of @taken below which all are */
	} node_slots, file_slots;
	pthread_mutex_t contexts_lock;
	struct context *contexts;

	pthread_mutex_t inflight_lock;
	struct op *inflight;                     /* [inflight_lock] every operation taken and not yet answered */
	uint64_t early[IO_EARLY_MAX];            /* [inflight_lock] interrupted before they were in flight */
	unsigned early_count;                    /* [inflight_lock] ever */
	pthread_mutex_t cancels_lock;            /* one who waits at a time; taken before all others */
	struct gate cancels;                     /* cancel routines are inside */

	_Atomic(struct stack *) stack;           /* the compiled filters; see stack */
	_Atomic uint64_t filtered;               /* bit per op code: somebody wants it */
	struct stack_volume *sv;                 /* stack's own */

	struct workers *workers;

	_Atomic uint64_t counts[ALT_OP_COUNT];   /* operations taken */
	_Atomic uint64_t strangers;              /* notices of what is no node */
	_Atomic uint64_t moves_begun, moves_over; /* RENAME: handed to the owner; names have followed */
};

/* One filter's place in one operation. The state says who may call it: see stack/dispatch.h. */
struct op_frame {
	struct alt_instance *in;
	alt_pre_fn *pre;
	alt_post_fn *post;
	void *ctx;                               /* completion context */
	const struct alt_params *params;         /* what this filter sees */
	_Atomic int state;
	bool sync;                               /* ALT_PRE_SYNCHRONIZE */
	bool changed;                            /* it put other parameters in force below; settled before it is OWED */
	bool slow;                               /* the pre may block, or have its thread wait: not where others wait behind */
	bool declined;                           /* wants no data of the file that is being opened */
};

struct op_memory { struct op_memory *next; _Alignas(16) char bytes[]; };

/* One collected READDIR entry. */
struct op_dirent {
	struct op_dirent *next_entry;
	int64_t next;
	uint64_t ino;
	uint32_t type;
	char *name;                              /* behind the record, with no more room than it takes */
	bool has_entry;
	/* Their memory is there only with has_entry. */
	struct alt_entry entry;
	uint64_t told;                           /* number of the node that the answer counts as looked up, or 0 */
};

struct op {
	struct alt_op pub;                       /* first: modules hold pointers to it */
	struct wire_request rq;                  /* decoded message; rq.params are the caller's parameters */
	uint64_t unique;                         /* 0 for generated operations */
	void *carrier;                           /* the session's: what it came in; NULL: nothing that goes back */
	void (*done)(struct op *op);             /* called once when the operation is over, on any thread; then unref'd */
	void *done_arg;
	_Atomic uint32_t refs;

	int phase;                               /* see stack/dispatch.h */
	int at;                                  /* frame in turn */
	int nframes;
	struct op_frame *frames, frames_inline[IO_FRAMES_INLINE];
	struct alt_params *edit;                 /* copy under change by the callback in turn */
	_Atomic int pend;                        /* running / pended / resumed; see dispatch.c */
	sem_t resumed;                           /* a synchronized operation waits here */
	char keeper[32];                         /* who kept it last; "": nobody yet, or the file system */
	int decision;                            /* of a resumed pre */
	void *decision_ctx;
	int completed;                           /* status from alt_op_complete() */
	struct op_memory *memory;

	/* [volume.inflight_lock] */
	struct op *next, **link;
	void (*cancel)(struct alt_op *, void *);
	void *cancel_arg;
	_Atomic bool cancelled;
	_Atomic int answered;                    /* the reply is out (a timeout may come first) */
	int backing_fd;                          /* of the file being opened, the file system's; -1: none */
	bool shares;                             /* came without a handle: a shared open file serves it */
	struct alt_file *keep;                   /* counted: of the node that may lose its last name... */
	struct alt_node *keep_node;              /* ...counted; NULL: none */
	int share_error;                         /* of what was to be opened for it */
	uint32_t share_tried;                    /* enum share_tried: of the one that is being opened */
	bool opened;                             /* the owner opened r.file: who does not hand it on releases it */
	_Atomic uint64_t deadline_ms;            /* monotonic; 0: none */

	uint64_t strangers;                      /* the volume's when it began */
	struct op_dirent *dirents, **dirents_tail; /* in the memory of the operation */
	char *dirents_room, *dirents_room_end;   /* of that, what is left for more */
	size_t dirents_size;                     /* bytes the kernel's buffer would need */
	bool dirents_short;                      /* there was no memory for the next one */

	void *message;                           /* IO_MESSAGE_MAX bytes; the request, data included. Lives with the record */
	void *room;                              /* IO_DATA_MAX bytes for the answer's data, page aligned; on demand */
};

/* Volumes. The name is copied, options are taken. */
int volume_new(const char *name, const struct alt_filesystem_registration *fs, const char *arg,
	       struct io_option *options, struct alt_volume **ret, struct alt_error *err);
void volume_free(struct alt_volume *v);      /* every session ended; releases files, forgets nodes, unmounts */
/* What is held at this moment; at rest, and with nothing remembered, the root is the only node. */
struct volume_live { size_t nodes, files, operations; };
void volume_live(struct alt_volume *v, struct volume_live *ret);

/* Operations. */
struct op *op_new(struct alt_volume *v);     /* refs = 1, zeroed but for message; NULL without memory */
struct op *op_new_surely(struct alt_volume *v); /* the same; memory is waited for */
/* The engine's or a filter's own: params, done and done_arg are to be filled. @file may be NULL. NULL without memory. */
struct op *op_generated(enum alt_op_code code, struct alt_node *node, struct alt_file *file);
/* Fill node and file pointers, room and parameters of pub from op->rq: 0, -ESTALE, -EBADF, -ENOMEM, -EINVAL. */
int op_resolve(struct op *op);
int op_file_make(struct op *op);             /* before the owner: the new open file of OPEN, CREATE...; 0 or -ENOMEM */
void op_settle(struct op *op);               /* after the owner: nodes, names and files follow what happened */
/*
 * What stands before the name in @of, with @entry (may be NULL) and @name (255 bytes at most), all copied; in no list. It is not
 * freed: its memory is the operation's. NULL without memory.
 */
struct op_dirent *op_dirent_new(struct op *op, const struct op_dirent *of, const struct alt_entry *entry, const char *name);
/* The entries of @more, with their memory, instead of @op's. */
void op_dirents_take(struct op *op, struct op *more);
/* Leave the in-flight list, drop node and file references, unref. An opened r.file that nobody took is released. */
void op_end(struct op *op);
void op_begin(struct op *op);                /* enter the in-flight list */
void op_cancel(struct op *op);               /* the caller gave up */
/*
 * @op is kept until @sub, yet to be run, is over: from here to op_followed(), called when @sub is done, who cancels @op cancels
 * @sub.
 */
void op_follow(struct op *op, struct op *sub);
void op_followed(struct op *op, struct op *sub);
/* Wait for the cancel routines that are running: an operation may be over before its routine has returned to the engine. */
void cancels_wait(struct alt_volume *v);
/* Cancel whatever is in flight and wait for its end: after this, no module holds an operation of @v. May sleep. */
void op_cancel_all(struct alt_volume *v);
bool op_interrupt(struct alt_volume *v, uint64_t unique); /* false: not in flight */
/* The same; one that is not in flight is cancelled when it comes. */
void op_interrupt_early(struct alt_volume *v, uint64_t unique);

/* Run @fn on a worker of @v, which may block for long. false: none could be had. Ends with the volume. Any thread. */
bool workers_give(struct alt_volume *v, void (*fn)(void *arg), void *arg);
/* From volume_new: workers will run on the CPUs of the calling thread, whoever starts them. */
int workers_start(struct alt_volume *v);
void workers_stop(struct alt_volume *v);

/*
 * What the kernel is to be told, in the order it was said. One thread takes and sends: never one that serves.
 * NOTICE_ALL: more happened than could be kept; everything may have changed.
 */
enum notice_kind { NOTICE_NODE, NOTICE_ENTRY, NOTICE_DELETE, NOTICE_ALL };
struct notice {
	struct notice *next;
	enum notice_kind kind;
	uint64_t number;                         /* the node; of an entry, the parent */
	uint64_t child;                          /* ENTRY, DELETE: what had the name, 0: nothing that is known */
	bool data;                               /* NODE, ALL: pages too, else attributes only */
	unsigned tries;                          /* NODE: the kernel did not know it yet */
	uint64_t due_ms;                         /* monotonic; when to try again */
	char name[];
};
/*
 * Answer @e of @op brings a node, which node_remember() has counted already: when a notice of it came since the operation began,
 * and found none, or one that the kernel was never told of, its attributes are not to be remembered.
 */
void notices_missed(const struct op *op, struct alt_entry *e);
int notices_start(struct alt_volume *v);
void notices_stop(struct alt_volume *v);         /* notices_take() answers NULL from here on */
void notices_free(struct alt_volume *v);
void notices_listen(struct alt_volume *v);    /* notices are kept from here on */
/* Waits; NULL at the end. Called again when the kernel has been told: until then the notice is there. */
struct notice *notices_take(struct alt_volume *v);
/*
 * The kernel does not know a node that it was told of: the answer which brings it may be on its way, with what was right before.
 * It is told again, later each time, until the kernel forgets it. One that it was never told of, held by an operation, an open file
 * or a child, is known to the answers: see notices_missed(). By the thread that takes.
 */
void notices_again(struct alt_volume *v, uint64_t number, bool data, unsigned tries);
void notice_all(struct alt_volume *v, bool data);
/* Number of the node in slot @i, 0 for none; false when there is no such slot: to walk all of them. */
bool node_at(struct alt_volume *v, uint32_t i, uint64_t *number);
/*
 * Names of chain @i, as notices of entries, to be freed; to walk all of them. One that is there from the walk's beginning to its
 * end is in it. False when there is no such chain; -ENOMEM in *error: nothing was done, it may be tried again.
 */
bool names_at(struct alt_volume *v, size_t i, struct notice **ret, int *error);
/* Those of a key: more than one while some of the past are still known. Each counted; how many, @most of them at most. */
unsigned node_find(struct alt_volume *v, struct alt_key key, struct alt_node *ret[], unsigned most);

/* Nodes. */
struct alt_node *node_get(struct alt_volume *v, uint64_t number);       /* counted, or NULL */
struct alt_node *node_intern(struct alt_volume *v, const struct alt_entry *e,
			     const struct alt_filesystem_registration *owner); /* counted; NULL without memory */
void node_remember(struct alt_node *n, uint64_t count);                 /* the kernel is told */
void node_forget(struct alt_volume *v, uint64_t number, uint64_t count);
struct alt_node *node_child(struct alt_node *dir, const char *name);    /* known by this name: counted, or NULL */
/* 0, -ENOMEM, or -EUCLEAN when it would stand below itself. A directory's earlier name goes: it has one. */
int node_name_bind(struct alt_node *parent, const char *name, struct alt_node *n);
void node_name_unbind(struct alt_node *parent, const char *name);
/*
 * A name goes by a request. If the kernel knew a directory by it, it takes that for dead from now on, though below another may
 * have had the name by then, and this one lives on elsewhere: what is found of its key from here on is a new node.
 */
void node_bury(struct alt_node *parent, const char *name);
int node_name_move(struct alt_node *from, const char *name, struct alt_node *to, const char *new_name, bool exchange);

/* Files. */
struct alt_file *file_new(struct alt_node *n, uint32_t flags);          /* refs = 1; NULL without memory */
struct alt_file *file_get(struct alt_volume *v, uint64_t number);
/* A RELEASE that the engine sends itself; @flags of the operation. It ends, and gives back the opener's reference, by itself. */
struct op *op_release(struct alt_file *f, uint32_t flags);
/* The last one of a shared file releases it. NULL is fine. */
void file_unref(struct alt_file *f);
/*
 * The kernel will send no RELEASE (abort, lost answer): who has seen the open still gets one. Takes the kernel's reference.
 * Not awaited: the operation is in flight, and holds the file, for as long as the file system keeps it.
 */
void file_abandon(struct alt_file *f);

/*
 * Shared files: the engine's own opens, where the kernel tells of none. What a request wants: to read; to write, with these
 * flags of its writer; or any, one that was written to before others.
 */
enum share_want { SHARE_READ, SHARE_WRITE, SHARE_ANY };
enum share_tried { SHARE_TRIED_FEWER = 1u << 0, SHARE_TRIED_WRITE = 1u << 1 };
#define SHARE_FLAGS (O_APPEND | O_SYNC | O_DSYNC)
struct alt_file *shared_find(struct alt_node *n, enum share_want want, uint32_t flags); /* counted, or NULL */
void shared_add(struct alt_file *f);         /* opened, or used again: the latest. Takes a reference of its own */
void shared_shrink(struct alt_volume *v, uint32_t most); /* close the oldest that can be opened again */
void shared_drop(struct alt_node *n);        /* the kernel has forgotten it */
void shared_drop_all(struct alt_volume *v);

/*
 * How many contexts of one instance exist, or of one filter on a volume. Outlives them when some are still referenced. NULL is
 * fine.
 */
struct contexts_live *contexts_live_new(void);
void contexts_close(struct contexts_live *live);               /* from here on set answers -ESHUTDOWN */
/* How many there are; the filter is named as one that leaks when @who is not NULL. */
uint32_t contexts_verify(const struct contexts_live *live, const char *who);
/* The owner is done with it. @over, NULL for none, is called once, by whoever releases the last context, after its cleanup. */
void contexts_give_up(struct contexts_live *live, void (*over)(void *arg), void *arg);
/*
 * One of the @owner (an instance, or a filter's live) in the @list of an object of @v; errors and references as in
 * altitude/context.h. @unlink  the list's own reference is handed over, else one is added
 */
int context_set(struct alt_volume *v, struct context **list, const void *owner, struct contexts_live *live,
		enum alt_context_set mode, void *blob, void **ret_old);
void *context_get(struct alt_volume *v, struct context **list, const void *owner, bool unlink);

/* Contexts of one owner go; with NULL, all. */
void contexts_drop(struct context **list, struct alt_volume *v, const void *owner);
/* The same in two steps: the first may be taken under slots_lock, the second calls cleanups. */
struct context *contexts_unlink(struct context **list, struct alt_volume *v, const void *owner);
void contexts_put(struct context *gone);
/* Wait for those that another thread has unlinked, with an object that is going, and not yet cleaned up. */
void contexts_settle(struct contexts_live *live);

#endif
