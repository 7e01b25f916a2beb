/* SPDX-License-Identifier: MIT */
/*
 * activity_monitor: who did what. A record for each finished operation: time of day, process name, pid,
 * user, operation, path, result, microseconds; in a bounded ring that "altitude watch" drains, and in a file.
 */
#include <altitude/kit/text.h>

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RECORDS_MAX 1048576

struct monitor {
	pthread_mutex_t lock;
	char **ring;                        /* [lock] @count lines from @first on */
	uint64_t room, first, count;
	uint64_t seen, lost, lost_told;     /* [lock] */
	FILE *file;
};

struct start {
	uint64_t us;
	char program[16];
};

static void monitor_push(struct monitor *m, char *line)
{
	pthread_mutex_lock(&m->lock);
	m->seen++;
	if (!line || m->count == m->room)
		m->lost++;
	if (line && m->count == m->room) {
		free(m->ring[m->first]);
		m->first = (m->first + 1) % m->room;
		m->count--;
	}
	if (line)
		m->ring[(m->first + m->count++) % m->room] = line;
	pthread_mutex_unlock(&m->lock);
}

/* The oldest line, or NULL. Lines that were lost are told of before the ones that followed them. */
static char *monitor_pop(struct monitor *m, uint64_t *lost)
{
	char *line = NULL;

	pthread_mutex_lock(&m->lock);
	*lost = m->lost - m->lost_told;
	m->lost_told = m->lost;
	if (m->count) {
		line = m->ring[m->first];
		m->first = (m->first + 1) % m->room;
		m->count--;
	}
	pthread_mutex_unlock(&m->lock);
	return line;
}

static void monitor_watch(struct alt_instance *in, struct alt_report *to)
{
	struct monitor *m = alt_instance_data(in);
	uint64_t lost, left = m->room;
	char *text;

	do {
		text = monitor_pop(m, &lost);
		if (lost)
			alt_report_line(to, "%llu records lost", (unsigned long long)lost);
		if (text)
			alt_report_line(to, "%s", text);
		free(text);
	} while (text && --left);
}

static void monitor_stats(struct alt_instance *in, struct alt_report *to)
{
	struct monitor *m = alt_instance_data(in);
	unsigned long long seen, buffered, lost;

	pthread_mutex_lock(&m->lock);
	seen = m->seen;
	buffered = m->count;
	lost = m->lost;
	pthread_mutex_unlock(&m->lock);
	alt_report_line(to, "seen %llu", seen);
	alt_report_line(to, "buffered %llu", buffered);
	alt_report_line(to, "lost %llu", lost);
}

static enum alt_pre monitor_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	struct start *s = alt_op_alloc(op, sizeof(*s));

	if (!s) {
		monitor_push(alt_instance_data(in), NULL);
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
	monitor_push(m, line);
	return ALT_POST_FINISHED;
}

static void monitor_free(struct monitor *m)
{
	if (!m)
		return;
	while (m->count--)
		free(m->ring[(m->first + m->count) % m->room]);
	if (m->file)
		fclose(m->file);
	pthread_mutex_destroy(&m->lock);
	free(m->ring);
	free(m);
}

static int monitor_open(struct monitor *m, struct alt_instance *in, struct alt_error *err)
{
	int r = alt_instance_option_u64(in, "records", 1024, &m->room, err);

	if (r < 0)
		return r;
	if (m->room < 1 || m->room > RECORDS_MAX)
		return alt_error_set(err, -EINVAL, "activity_monitor: records is 1..%d", RECORDS_MAX);
	m->ring = calloc(m->room, sizeof(*m->ring));
	if (!m->ring)
		return alt_error_set(err, -ENOMEM, "activity_monitor: no memory for the records");
	return alt_lines_open(in, "activity_monitor", &m->file, err);
}

static int monitor_setup(struct alt_instance *in, uint32_t flags, struct alt_error *err)
{
	struct monitor *m = calloc(1, sizeof(*m));
	int r;

	(void)flags;
	if (!m)
		return alt_error_set(err, -ENOMEM, "activity_monitor: no memory");
	pthread_mutex_init(&m->lock, NULL);
	r = monitor_open(m, in, err);
	if (r < 0) {
		monitor_free(m);
		return r;
	}
	alt_instance_set_data(in, m);
	return 0;
}

static void monitor_teardown_complete(struct alt_instance *in, uint32_t reason)
{
	(void)reason;
	monitor_free(alt_instance_data(in));
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
	.setup = monitor_setup,
	.teardown_complete = monitor_teardown_complete,
	.stats = monitor_stats,
	.watch = monitor_watch,
};

ALT_FILTER(registration);
