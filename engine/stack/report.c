/* SPDX-License-Identifier: MIT */
/* Reports of the instances of a volume. */
#include "stack/compiled.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

typedef void report_fn(struct alt_instance *in, struct alt_report *to);

struct reporters { struct alt_instance **in; int count; };

static report_fn *report_of(const struct alt_instance *in, bool watch)
{
	return watch ? in->filter->reg->watch : in->filter->reg->stats;
}

/* Those that report, top first; each is counted, so that a detach waits. 0 or -ENOMEM. */
static int reporters_enter(struct reporters *rs, struct stack_volume *sv, bool watch)
{
	int room = 0;

	rs->count = 0;
	pthread_mutex_lock(&sv->lock);
	for (struct alt_instance *at = sv->top; at; at = at->below)
		room++;
	rs->in = calloc(room + 1, sizeof(*rs->in));
	for (struct alt_instance *at = sv->top; rs->in && at; at = at->below) {
		if (!report_of(at, watch) || !instance_serves(at))
			continue;
		atomic_fetch_add(&at->ops, 1);
		rs->in[rs->count++] = at;
	}
	pthread_mutex_unlock(&sv->lock);
	return rs->in ? 0 : -ENOMEM;
}

int stack_report(struct alt_volume *v, bool watch, struct alt_report *to)
{
	struct reporters rs;
	int r = reporters_enter(&rs, v->sv, watch);

	for (int i = 0; i < rs.count; i++) {
		if (!watch)
			alt_report_line(to, "[%s]", rs.in[i]->name);
		report_of(rs.in[i], watch)(rs.in[i], to);
		stack_leave(rs.in[i]);
	}
	free(rs.in);
	return r < 0 ? r : rs.count;
}

void alt_report_line(struct alt_report *to, const char *format, ...)
{
	va_list args;
	char *text;
	int n;

	va_start(args, format);
	n = vasprintf(&text, format, args);
	va_end(args);
	if (n < 0)
		return;
	to->line(to, text);
	free(text);
}
