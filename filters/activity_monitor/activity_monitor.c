/* SPDX-License-Identifier: MIT */
/*
 * activity_monitor: who did what. A record for each finished operation: time of day, process name, pid,
 * user, operation, path, result, microseconds; in a bounded ring that "altitude watch" drains, and in a file.
 */
#include <altitude/kit/ring.h>
#include <altitude/kit/text.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <time.h>

#define RECORDS_MAX 1048576

struct monitor {
	struct alt_ring ring;
	FILE *file;                         /* or NULL */
};

struct start {
	uint64_t us;
	char program[16];
};

static void monitor_watch(struct alt_instance *in, struct alt_report *to)
{
	struct monitor *m = alt_instance_data(in);

	alt_ring_watch(&m->ring, to);
}

static void monitor_stats(struct alt_instance *in, struct alt_report *to)
{
	struct alt_ring *r = &((struct monitor *)alt_instance_data(in))->ring;
	unsigned long long seen, buffered, lost;

	pthread_mutex_lock(&r->lock);
	seen = r->seen;
	buffered = r->count;
	lost = r->lost;
	pthread_mutex_unlock(&r->lock);
	alt_report_line(to, "seen %llu", seen);
	alt_report_line(to, "buffered %llu", buffered);
	alt_report_line(to, "lost %llu", lost);
}

static enum alt_pre monitor_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	struct monitor *m = alt_instance_data(in);
	struct start *s = alt_op_alloc(op, sizeof(*s));

	if (!s) {
		alt_ring_push(&m->ring, NULL);
		return ALT_PRE_SUCCESS_NO_CALLBACK;
	}
	alt_caller_name(op, s->program, sizeof(s->program));
	for (char *c = s->program; *c; c++)
		if ((unsigned char)*c <= ' ' || *c == 0x7f)
			*c = '?';
	s->us = alt_now_us();
	*ctx = s;
	return ALT_PRE_SUCCESS_WITH_CALLBACK;
}

static enum alt_post monitor_post(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	struct monitor *m = alt_instance_data(in);
	const struct start *s = ctx;
	uint64_t us = alt_now_us() - s->us;
	char path[PATH_MAX], result[32], clock[32], *line;
	struct timespec ts;
	struct tm tm;

	if (op->flags & ALT_OP_DRAINING)
		return ALT_POST_FINISHED;
	clock_gettime(CLOCK_REALTIME, &ts);
	strftime(clock, sizeof(clock), "%H:%M:%S", localtime_r(&ts.tv_sec, &tm));
	if (asprintf(&line, "%s.%06ld %-15s %7u %5u %-15s %-32s %-12s %6llu", clock, ts.tv_nsec / 1000, s->program,
		     op->caller.pid, op->caller.uid, alt_op_name(op->code), alt_path_or_why(op, in, path, sizeof(path)),
		     alt_result_text(op, result, sizeof(result)), (unsigned long long)us) < 0)
		line = NULL;
	if (line && m->file)
		fprintf(m->file, "%s\n", line);
	alt_ring_push(&m->ring, line);
	return ALT_POST_FINISHED;
}

static int monitor_setup(struct alt_instance *in, uint32_t flags, struct alt_error *err)
{
	struct monitor *m = alt_instance_data(in);
	uint64_t room;
	int r = alt_instance_option_u64(in, "records", 1024, &room, err);

	(void)flags;
	if (r < 0)
		return r;
	if (room < 1 || room > RECORDS_MAX)
		return alt_error_set(err, -EINVAL, "activity_monitor: records is 1..%d", RECORDS_MAX);
	r = alt_ring_init(&m->ring, room, "activity_monitor", err);
	if (!r)
		r = alt_lines_open(in, "activity_monitor", &m->file, err);
	if (r < 0)
		alt_ring_fini(&m->ring);
	return r;
}

static void monitor_teardown_complete(struct alt_instance *in, uint32_t reason)
{
	struct monitor *m = alt_instance_data(in);

	(void)reason;
	if (m->file)
		fclose(m->file);
	alt_ring_fini(&m->ring);
}

static const struct alt_option options[] = {
	{ "records", "N", "lines kept until they are watched (default: 1024)" },
	{ "file", "PATH", "append each line to this file as well" },
	{ NULL, NULL, NULL }
};

static const struct alt_callback callbacks[] = {
	{ ALT_OP_ALL, monitor_pre, monitor_post, 0 },
	{ .code = ALT_OP_END }
};

static const struct alt_filter_registration registration = {
	.size = sizeof(registration),
	.name = "activity_monitor",
	.altitude = "370000",
	.options = options,
	.callbacks = callbacks,
	.instance_size = sizeof(struct monitor),
	.setup = monitor_setup,
	.teardown_complete = monitor_teardown_complete,
	.stats = monitor_stats,
	.watch = monitor_watch,
};

ALT_FILTER(registration);
