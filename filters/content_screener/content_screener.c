/* SPDX-License-Identifier: MIT */
/*
 * content_screener: refuses files by name, type or content, and says why.
 * Names are judged before the operation, files after open (read from below), writes as they pass. A program that listens
 * at the port may judge files too: it gets the path, a zero byte and the first bytes, and answers 0 or -errno.
 */
#include <altitude/kit/ring.h>
#include <altitude/log.h>
#include <altitude/port.h>

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <magic.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define SCAN_SIZE 1024
#define LINES 256
#define REASON_SIZE 320

struct screener {
	const char *names;                  /* patterns with ';' between, or NULL */
	const char *type;                   /* beginning of a MIME type, or NULL */
	const char *content;                /* or NULL */
	struct alt_port *port;              /* or NULL */
	uint64_t deadline;                  /* milliseconds for the listener's answer */
	int otherwise;                      /* when there is none: 0 or -EACCES */
	pthread_mutex_t magic_lock;
	magic_t magic;                      /* [magic_lock] */
	struct alt_ring lines;
	atomic_ullong scanned, refused, foul, asked, unanswered;
};

/* Reports. */

static void screener_watch(struct alt_instance *in, struct alt_report *to)
{
	struct screener *s = alt_instance_data(in);

	alt_ring_watch(&s->lines, to);
}

static void screener_stats(struct alt_instance *in, struct alt_report *to)
{
	struct screener *s = alt_instance_data(in);

	alt_report_line(to, "scanned %llu", atomic_load(&s->scanned));
	alt_report_line(to, "refused %llu", atomic_load(&s->refused));
	alt_report_line(to, "foul %llu", atomic_load(&s->foul));
	alt_report_line(to, "asked %llu", atomic_load(&s->asked));
	alt_report_line(to, "unanswered %llu", atomic_load(&s->unanswered));
}

/* @name  the entry in @node, or NULL for the node itself; @verb  "refused create of" */
static void screener_tell(struct screener *s, const char *verb, struct alt_node *node, const char *name,
			  const char *reason)
{
	char path[PATH_MAX], *line;
	int r = name ? alt_node_path_at(node, name, path, sizeof(path)) : alt_node_path(node, path, sizeof(path));

	if (asprintf(&line, "content_screener: %s '%s': %s", verb, r < 0 ? "?" : path, reason) < 0)
		return;
	for (char *c = line; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	alt_log(LOG_NOTICE, "%s", line);
	alt_ring_push(&s->lines, line);
}

static void screener_refuse(struct screener *s, struct alt_op *op, struct alt_node *node, const char *name,
			    const char *reason)
{
	char verb[48];

	snprintf(verb, sizeof(verb), "refused %s of", alt_op_name(op->code));
	atomic_fetch_add(&s->refused, 1);
	screener_tell(s, verb, node, name, reason);
	op->status = -EACCES;
}

/* Judgement: true with a reason when it is foul. */

static bool name_is_foul(const struct screener *s, const char *name, char *reason)
{
	const char *text = s->names;
	char pattern[256];

	for (size_t len; text && *text; text += len + (text[len] == ';')) {
		len = strcspn(text, ";");
		snprintf(pattern, sizeof(pattern), "%.*s", (int)len, text);
		if (*pattern && !fnmatch(pattern, name, FNM_CASEFOLD)) {
			snprintf(reason, REASON_SIZE, "name matches '%s'", pattern);
			return true;
		}
	}
	return false;
}

static bool content_is_foul(const struct screener *s, const void *data, size_t size, char *reason)
{
	if (!s->content || !size || !memmem(data, size, s->content, strlen(s->content)))
		return false;
	snprintf(reason, REASON_SIZE, "content has '%.200s'", s->content);
	return true;
}

static bool type_is_foul(struct screener *s, const void *data, size_t size, char *reason)
{
	const char *type;
	bool foul;

	if (!s->type)
		return false;
	pthread_mutex_lock(&s->magic_lock);
	type = magic_buffer(s->magic, data, size);
	foul = type && !strncmp(type, s->type, strlen(s->type));
	if (foul)
		snprintf(reason, REASON_SIZE, "type is '%.200s'", type);
	pthread_mutex_unlock(&s->magic_lock);
	return foul;
}

static bool listener_says_foul(struct screener *s, struct alt_op *op, const void *data, size_t size, char *reason)
{
	char message[PATH_MAX + SCAN_SIZE], word[256];
	struct alt_port_message m = {
		.data = message, .reply = word, .reply_size = sizeof(word) - 1, .timeout_ms = s->deadline,
		.otherwise = s->otherwise, .op = op,
	};
	int status;

	if (!s->port || alt_port_is_listener(s->port, op))
		return false;
	if (alt_node_path(op->node, message, PATH_MAX) < 0)
		strcpy(message, "?");
	m.size = strlen(message) + 1;
	memcpy(message + m.size, data, size);
	m.size += size;
	status = alt_port_ask(s->port, &m);
	if (m.why == -EINTR)
		return false;                       /* the caller is gone: nobody reads what is decided */
	atomic_fetch_add(m.why ? &s->unanswered : &s->asked, 1);
	if (!status)
		return false;
	word[m.why ? 0 : m.reply_size] = 0;
	snprintf(reason, REASON_SIZE, m.why ? "nobody at the port answered: %s" : "the listener says %s",
		 m.why ? strerror(-m.why) : *word ? word : "no");
	return true;
}

/* The file's first bytes, read from below. */
static bool file_is_foul(struct alt_instance *in, struct alt_op *op, char *reason)
{
	struct screener *s = alt_instance_data(in);
	struct alt_file *file;
	char head[SCAN_SIZE];
	long size = alt_io_open(in, op->node, O_RDONLY, &file);

	if (size == 0) {
		size = alt_io_read(in, file, head, sizeof(head), 0);
		alt_io_close(in, file);
	}
	if (size < 0) {
		snprintf(reason, REASON_SIZE, "it cannot be read: %s", strerror(-size));
		return s->otherwise;
	}
	atomic_fetch_add(&s->scanned, 1);
	return size > 0 && (content_is_foul(s, head, size, reason) || type_is_foul(s, head, size, reason) ||
			    listener_says_foul(s, op, head, size, reason));
}

static bool looks_into_files(const struct screener *s)
{
	return s->content || s->type || s->port;
}

/* Operations. */

static enum alt_pre screener_pre_name(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	struct screener *s = alt_instance_data(in);
	bool rename = op->code == ALT_OP_RENAME;
	const char *name = rename ? op->p->new_name : op->p->name;
	struct alt_node *dir = rename ? op->p->other : op->node;
	char reason[REASON_SIZE];

	(void)ctx;
	if (!name_is_foul(s, name, reason))
		return ALT_PRE_SUCCESS_NO_CALLBACK;
	screener_refuse(s, op, dir, name, reason);
	return ALT_PRE_COMPLETE;
}

static enum alt_pre screener_pre_open(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	const struct screener *s = alt_instance_data(in);

	(void)ctx;
	if (!looks_into_files(s))
		return ALT_PRE_SUCCESS_NO_CALLBACK;
	return op->flags & ALT_OP_FAST ? ALT_PRE_DISALLOW_FASTIO : ALT_PRE_SYNCHRONIZE;
}

static enum alt_post screener_post_open(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	char reason[REASON_SIZE];

	(void)ctx;
	if (op->status == 0 && !(op->flags & ALT_OP_DRAINING) && file_is_foul(in, op, reason))
		screener_refuse(alt_instance_data(in), op, op->node, NULL, reason);
	return ALT_POST_FINISHED;
}

static enum alt_pre screener_pre_write(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	struct screener *s = alt_instance_data(in);
	char reason[REASON_SIZE];

	(void)ctx;
	if (!content_is_foul(s, op->p->buf, op->p->size, reason))
		return ALT_PRE_SUCCESS_NO_CALLBACK;
	screener_refuse(s, op, op->node, NULL, reason);
	return ALT_PRE_COMPLETE;
}

/* A copy inside of the file system would not be seen: refused so, the kernel reads and writes instead. */
static enum alt_pre screener_pre_copy(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	const struct screener *s = alt_instance_data(in);

	(void)ctx;
	if (!s->content)
		return ALT_PRE_SUCCESS_NO_CALLBACK;
	op->status = -EXDEV;
	return ALT_PRE_COMPLETE;
}

/* Written in pieces, or through another file system: looked at again when the last writer is done. */
static enum alt_pre screener_pre_release(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	struct screener *s = alt_instance_data(in);
	char reason[REASON_SIZE];

	(void)ctx;
	if (!looks_into_files(s) || (alt_file_flags(op->file) & O_ACCMODE) == O_RDONLY)
		return ALT_PRE_SUCCESS_NO_CALLBACK;
	if (op->flags & ALT_OP_FAST)
		return ALT_PRE_DISALLOW_FASTIO;
	if (file_is_foul(in, op, reason)) {
		atomic_fetch_add(&s->foul, 1);
		screener_tell(s, "found foul after writing", op->node, NULL, reason);
	}
	return ALT_PRE_SUCCESS_NO_CALLBACK;
}

/* Instances. */

static void screener_end(struct screener *s)
{
	alt_port_close(s->port);
	alt_ring_fini(&s->lines);
	if (s->magic)
		magic_close(s->magic);
	pthread_mutex_destroy(&s->magic_lock);
}

static const char *option_text(struct alt_instance *in, const char *name)
{
	const char *text = alt_instance_option(in, name);

	return text && *text ? text : NULL;
}

static int port_open(struct screener *s, struct alt_instance *in, struct alt_error *err)
{
	const char *name = option_text(in, "port"), *otherwise = option_text(in, "otherwise");
	int r = alt_instance_option_u64(in, "deadline", 1000, &s->deadline, err);

	if (r < 0)
		return r;
	if (!s->deadline || s->deadline > 600000)
		return alt_error_set(err, -EINVAL, "content_screener: deadline is 1 to 600000 milliseconds");
	if (otherwise && strcmp(otherwise, "allow") && strcmp(otherwise, "deny"))
		return alt_error_set(err, -EINVAL, "content_screener: otherwise=%s is neither 'allow' nor 'deny'", otherwise);
	s->otherwise = otherwise && *otherwise == 'd' ? -EACCES : 0;
	return name ? alt_port_open(name, NULL, NULL, ALT_PORT_CONNECTIONS_MAX, &s->port, err) : 0;
}

static int screener_open(struct screener *s, struct alt_instance *in, struct alt_error *err)
{
	s->names = option_text(in, "name");
	s->type = option_text(in, "type");
	s->content = option_text(in, "content");
	if (s->content && strlen(s->content) > SCAN_SIZE)
		return alt_error_set(err, -EINVAL, "content_screener: content is at most %d bytes", SCAN_SIZE);
	if (s->type) {
		s->magic = magic_open(MAGIC_MIME_TYPE);
		if (!s->magic || magic_load(s->magic, NULL) < 0)
			return alt_error_set(err, -ENOENT, "content_screener: cannot load the types: %s",
					     s->magic ? magic_error(s->magic) : "no memory");
	}
	return port_open(s, in, err);
}

static int screener_setup(struct alt_instance *in, uint32_t flags, struct alt_error *err)
{
	struct screener *s = alt_instance_data(in);
	int r = alt_ring_init(&s->lines, LINES, "content_screener", err);

	(void)flags;
	pthread_mutex_init(&s->magic_lock, NULL);
	if (!r)
		r = screener_open(s, in, err);
	if (r < 0)
		screener_end(s);
	return r;
}

static void screener_teardown_complete(struct alt_instance *in, uint32_t reason)
{
	(void)reason;
	screener_end(alt_instance_data(in));
}

static const struct alt_option options[] = {
	{ "name", "GLOB", "refuse names like this, several with ';' between (default: none)" },
	{ "type", "MIME", "refuse files whose MIME type begins so (default: none)" },
	{ "content", "TEXT", "refuse files and writes with these bytes (default: none)" },
	{ "port", "NAME", "ask the program that listens there about files (default: nobody)" },
	{ "deadline", "MS", "milliseconds it has for an answer (default: 1000)" },
	{ "otherwise", "POLICY", "'allow' or 'deny' when no answer comes, or a file cannot be read (default: allow)" },
	{ NULL, NULL, NULL }
};

static const struct alt_callback callbacks[] = {
	{ .code = ALT_OP_CREATE, .pre = screener_pre_name },
	{ .code = ALT_OP_MKNOD, .pre = screener_pre_name },
	{ .code = ALT_OP_SYMLINK, .pre = screener_pre_name },
	{ .code = ALT_OP_LINK, .pre = screener_pre_name },
	{ .code = ALT_OP_RENAME, .pre = screener_pre_name },
	{ .code = ALT_OP_OPEN, .pre = screener_pre_open, .post = screener_post_open },
	{ .code = ALT_OP_WRITE, .pre = screener_pre_write },
	{ .code = ALT_OP_COPY_FILE_RANGE, .pre = screener_pre_copy },
	{ .code = ALT_OP_RELEASE, .pre = screener_pre_release },
	{ .code = ALT_OP_END }
};

static const struct alt_filter_registration registration = {
	.size = sizeof(registration),
	.name = "content_screener",
	.altitude = "265000",
	.options = options,
	.callbacks = callbacks,
	.instance_size = sizeof(struct screener),
	.setup = screener_setup,
	.teardown_complete = screener_teardown_complete,
	.stats = screener_stats,
	.watch = screener_watch,
};

ALT_FILTER(registration);
