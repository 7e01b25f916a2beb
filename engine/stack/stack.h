/* SPDX-License-Identifier: MIT */
/*
 * owns      filters, instances, altitudes, the compiled stack, and the walk of an operation through it
 * never     decodes messages, loads modules, or calls a filter for what it did not register
 * hands to  the node's owner below, op->done above
 */
#ifndef STACK_STACK_H
#define STACK_STACK_H

#include "io/io.h"

/* Altitudes. */
bool altitude_valid(const char *s);                    /* digits with at most one point, 1..255 characters */
int altitude_compare(const char *a, const char *b);    /* as decimals of any length; both valid */

struct load_order_group { const char *name; uint32_t low, high; const char *purpose; };
extern const struct load_order_group load_order_groups[];        /* top of the stack first; ends with a NULL name */
const struct load_order_group *group_of_altitude(const char *altitude); /* NULL in a gap */
const struct load_order_group *group_find(const char *name);

/* A filter in memory: one loaded registration. Counted; unload waits for its instances. */
struct alt_filter {
	const struct alt_filter_registration *reg;
	char *name;
	_Atomic uint32_t instances;
	struct alt_filter *next;
};

/* What a filter's instances on one volume have in common. */
struct filter_share {
	struct contexts_live *live;                        /* the volume's contexts of the filter */
	uint32_t users;                                    /* [sv lock] instances */
};

enum instance_state { INSTANCE_SETUP, INSTANCE_ATTACHED, INSTANCE_ASKED, INSTANCE_TEARDOWN, INSTANCE_GONE };

struct alt_instance {
	struct alt_filter *filter;
	struct alt_volume *volume;
	char *name, *altitude;
	struct io_option *options;
	void *data;
	_Atomic int state;
	struct contexts_live *live;                        /* its contexts that somebody still counts */
	struct filter_share *share;                        /* with the filter's other instances on the volume */
	struct context *contexts;                          /* [volume.contexts_lock] its own */
	_Atomic int32_t files;                             /* it opened from below, and has not closed */
	_Atomic int64_t ops;                               /* operations that may still call it */
	_Atomic uint64_t synchronizes;                     /* bit per op code: it has answered so without having said it */
	struct alt_instance *below;                        /* [sv lock] in the volume's list, top first, or in that of those that go */
	_Alignas(16) char own[];                           /* the filter's: instance_size bytes */
};

/*
 * Attach @filter to @v. @name NULL: the filter's name; @altitude NULL: the registration's; @options taken (also on failure).
 * Errors: STATUS_FLT_INSTANCE_NAME_COLLISION, STATUS_FLT_INSTANCE_ALTITUDE_COLLISION, STATUS_INVALID_PARAMETER,
 * whatever setup answers.
 */
int stack_attach(struct alt_volume *v, struct alt_filter *filter, const char *name, const char *altitude,
		 struct io_option *options, uint32_t setup_flags, struct alt_error *err);
/*
 * Detach; instance NULL: the filter's highest. Blocks until teardown is complete. STATUS_FLT_INSTANCE_NOT_FOUND, _DO_NOT_DETACH,
 * _DELETING_OBJECT when somebody else is detaching it.
 */
int stack_detach(struct alt_volume *v, const char *filter, const char *instance, uint32_t reason, struct alt_error *err);
/*
 * The same for all of @filter, NULL for all there are. Nothing of them is left when it returns, nor of those that others were
 * detaching or attaching: it waits for these, and takes those that stayed. Nobody may begin to attach meanwhile.
 */
void stack_detach_all(struct alt_volume *v, const struct alt_filter *filter, uint32_t reason);
/* Each instance from top to bottom, under the list's lock: @fn must not attach or detach. */
void stack_each(struct alt_volume *v, void (*fn)(struct alt_instance *in, void *arg), void *arg);
int stack_volume_init(struct alt_volume *v);
void stack_volume_fini(struct alt_volume *v);          /* detaches all with ALT_TEARDOWN_DISMOUNT */

/*
 * Does anybody want to see the data of the file that @op opens? What is decided between enter and leave is seen by every
 * attach that follows.
 */
unsigned stack_data_enter(struct op *op, bool *wanted);
void stack_data_leave(struct alt_volume *v, unsigned turn);
bool filter_wants_data(const struct alt_filter_registration *reg);
/* Does it look at opens, or at what belongs to one? A volume without opens (open=no) is not for it. */
bool filter_wants_opens(const struct alt_filter_registration *reg);

/* What a filter does not stand in the way of; fltmc's SprtFtrs, with what comes next to it here. */
enum filter_features {
	FEATURE_OFFLOAD_READ = 1u << 0,  /* copy_file_range(2): it has a callback for it, or looks at no data */
	FEATURE_OFFLOAD_WRITE = 1u << 1, /* the same: here one operation does both */
	FEATURE_QUERY_OPEN = 1u << 2,    /* attributes without an open: always */
	FEATURE_BYPASS = 1u << 3,        /* it looks at no data: the kernel may pass it through */
};
uint32_t filter_features(const struct alt_filter_registration *reg);

/* Where alt_report_line() puts each line; whoever asks for a report embeds it. */
struct alt_report { void (*line)(struct alt_report *to, const char *text); };
/*
 * What the instances of @v have to tell, from top to bottom, into @to: for "altitude watch", or for "altitude stats", where
 * "[NAME]" stands before each. How many tell something, or -ENOMEM. May sleep; no lock is held while one tells.
 */
int stack_report(struct alt_volume *v, bool watch, struct alt_report *to);

/* Walk @op through the stack to its done callback. @below NULL: from the top; else only what is under that instance. */
void stack_run(struct op *op, struct alt_instance *below);

#endif
