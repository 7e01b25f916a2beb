/* SPDX-License-Identifier: MIT */
/*
 * owns      one server process: its volume, session, mounting points and loaded filters; its control socket
 * never     serves an operation, or answers anybody but root and its owner
 * hands to  module, stack, mount and session, each for its own part
 */
#ifndef CONTROL_SERVER_H
#define CONTROL_SERVER_H

#include "mount/mount.h"
#include "session/session.h"

#define SERVER_POINTS_MAX 16

struct server {
	struct alt_volume *volume;
	struct session *session;
	/* Lock order: change, then lock. A filter may take its time to come and to go, and the lists are read meanwhile. */
	pthread_mutex_t change;          /* held across load, attach and unload: one at a time */
	pthread_mutex_t lock;            /* filters and points */
	struct alt_filter *filters;      /* [lock]; changed with [change] too */
	char *points[SERVER_POINTS_MAX]; /* [lock] mounting points, without gaps */
	int point_ids[SERVER_POINTS_MAX]; /* [lock] of mount_id() */
	struct module *module;           /* of the file system */
	struct control *control;
};

/* What is to be served, and where; the strings are the caller's. */
struct server_plan {
	const char *filesystem, *arg;    /* "dir", "/srv" */
	const char *target;              /* an absolute path */
	struct io_option *options;       /* of the file system; taken */
	struct mount_options mount;
	const struct server_filter { const char *filter, *instance, *altitude, *options; } *filters; /* top or bottom first: no matter */
	int filter_count;
};

/*
 * Everything up to the first answered request: module, volume, filters, mount, session, control socket. Blocks SIGTERM,
 * SIGINT and SIGHUP, which server_serve() takes. On failure nothing is left.
 */
int server_open(struct server *s, struct server_plan *plan, struct alt_error *err);
/* Until the volume is unmounted, aborted, or a signal ends it. No mount is left behind. */
void server_serve(struct server *s);

/* Load a filter's module and call its load function. STATUS_IMAGE_ALREADY_LOADED when it is. */
int server_load(struct server *s, const char *name, struct alt_error *err);
/* Ask the filter, detach its instances, unload the module. @mandatory: the filter is told, not asked. */
int server_unload(struct server *s, const char *name, bool mandatory, struct alt_error *err);
/*
 * Attach, loading the filter when it is not. @altitude NULL: the registered one, which is STATUS_OBJECT_NAME_COLLISION when it is
 * taken. @options taken.
 */
int server_attach(struct server *s, const char *filter, const char *instance, const char *altitude,
		  struct io_option *options, uint32_t setup_flags, struct alt_error *err);
/* Open files that @filter, just attached, does not see the data of: the kernel passes it through since before. 0: it wants none. */
uint32_t server_bypass(struct server *s, const char *filter);
void server_fini(struct server *s);  /* everything, in the order of teardown */

#endif
