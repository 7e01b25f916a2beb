/* SPDX-License-Identifier: MIT */
/*
 * owns      a small volume in memory, filters that do what a test tells them, and a log of who was called
 * never     leaves tests
 * hands to  the tests of stack, and of the floors above
 *
 * The log has a word a call: "+A" the pre of instance A, "*" the file system, "-A" the post, "~A" a draining post.
 * Instances of the filter "letters" are named by a letter; t_script('A') is what A does, which is to look on.
 * Asserts belong to the main thread: other threads count, and the test looks at the counts.
 */
#ifndef STACK_TESTING_H
#define STACK_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <altitude/context.h>
#include <altitude/ntstatus.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stack/compiled.h"

#define T_FN static __attribute__((unused))

/* ---- the log ---- */

static pthread_mutex_t t_log_lock = PTHREAD_MUTEX_INITIALIZER;
static char t_log_text[4096];    /* [t_log_lock] */
static _Atomic bool t_log_off;

T_FN void t_log(const char *mark, const char *who)
{
	size_t len;

	if (atomic_load(&t_log_off))
		return;
	pthread_mutex_lock(&t_log_lock);
	len = strlen(t_log_text);
	snprintf(t_log_text + len, sizeof t_log_text - len, "%s%s%s", len ? " " : "", mark, who);
	pthread_mutex_unlock(&t_log_lock);
}

/* What was logged since the last time. */
T_FN const char *t_logged(void)
{
	static char copy[sizeof t_log_text];

	pthread_mutex_lock(&t_log_lock);
	memcpy(copy, t_log_text, sizeof copy);
	t_log_text[0] = 0;
	pthread_mutex_unlock(&t_log_lock);
	return copy;
}

#define t_expect(text) assert_string_equal(t_logged(), text)

/* ---- the file system ---- */

#define TFS_NODES 128
#define TFS_DATA 8192
#define TFS_PASS -10000          /* answer of a replaced handler: do what you always do */

struct tfs_node {
	bool used;
	uint64_t id, parent;
	uint32_t mode, nlink;
	char name[256];
	size_t size;
	unsigned char data[TFS_DATA];
};

static struct tfs {
	pthread_mutex_t lock;
	struct tfs_node nodes[TFS_NODES];        /* [lock]; the id is the index + 1, the root is 1 */
	alt_handler *on[ALT_OP_COUNT];           /* instead of the usual one */
	_Atomic long calls[ALT_OP_COUNT];
	_Atomic long handed, forgotten;          /* references to data */
	_Atomic long opened, released;
	_Atomic long live;                       /* volumes */
} tfs;

T_FN struct tfs_node *tfs_at(uint64_t id)
{
	return id && id <= TFS_NODES && tfs.nodes[id - 1].used ? &tfs.nodes[id - 1] : NULL;
}

T_FN uint64_t tfs_add(uint64_t parent, const char *name, uint32_t mode, const char *text)
{
	for (uint64_t id = 1; id <= TFS_NODES; id++) {
		struct tfs_node *n = &tfs.nodes[id - 1];

		if (n->used)
			continue;
		memset(n, 0, sizeof *n);
		n->used = true;
		n->id = id;
		n->parent = parent;
		n->mode = mode;
		n->nlink = 1;
		snprintf(n->name, sizeof n->name, "%s", name);
		n->size = text ? strlen(text) : 0;
		if (text)
			memcpy(n->data, text, n->size);
		return id;
	}
	return 0;
}

static struct tfs_node *tfs_child(uint64_t parent, const char *name)
{
	for (uint64_t id = 2; id <= TFS_NODES; id++)
		if (tfs.nodes[id - 1].used && tfs.nodes[id - 1].parent == parent && !strcmp(tfs.nodes[id - 1].name, name))
			return &tfs.nodes[id - 1];
	return NULL;
}

static void tfs_attr(const struct tfs_node *n, struct alt_attr *a)
{
	*a = (struct alt_attr){ .ino = n->id, .size = n->size, .mode = n->mode, .nlink = n->nlink };
}

static void tfs_entry(const struct tfs_node *n, struct alt_entry *e)
{
	*e = (struct alt_entry){ .key.id = n->id, .data = (void *)n };
	tfs_attr(n, &e->attr);
	atomic_fetch_add(&tfs.handed, 1);
}

static int tfs_transfer(struct alt_op *op, struct tfs_node *n)
{
	const struct alt_params *p = op->p;

	if (p->offset < 0 || (size_t)p->offset > TFS_DATA)
		return -EFBIG;
	if (op->code == ALT_OP_READ) {
		size_t left = n->size > (size_t)p->offset ? n->size - p->offset : 0;

		op->r.size = left < p->size ? left : p->size;
		if (op->r.size)
			memcpy(p->buf, n->data + p->offset, op->r.size);
		return 0;
	}
	op->r.size = p->offset + p->size > TFS_DATA ? (size_t)(TFS_DATA - p->offset) : p->size;
	if (op->r.size)
		memcpy(n->data + p->offset, p->buf, op->r.size);
	if (n->size < p->offset + op->r.size)
		n->size = p->offset + op->r.size;
	return 0;
}

static int tfs_make(struct alt_op *op, uint64_t dir)
{
	uint32_t type = op->code == ALT_OP_MKDIR ? S_IFDIR : S_IFREG;
	uint64_t id;

	if (tfs_child(dir, op->p->name))
		return -EEXIST;
	id = tfs_add(dir, op->p->name, type | (op->p->mode & 07777), NULL);
	if (!id)
		return -ENOSPC;
	tfs_entry(tfs_at(id), &op->r.entry);
	if (op->code == ALT_OP_CREATE)
		atomic_fetch_add(&tfs.opened, 1);
	return 0;
}

static int tfs_list(struct alt_op *op, uint64_t dir)
{
	for (uint64_t id = op->p->offset + 1; id <= TFS_NODES; id++) {
		struct tfs_node *n = tfs_at(id);
		bool plus = op->p->bits & ALT_PARAM_PLUS;
		struct alt_entry e;

		if (!n || n->parent != dir)
			continue;
		if (plus)
			tfs_entry(n, &e);
		if (!alt_dirent_add(op, n->name, n->id, n->mode >> 12, id, plus ? &e : NULL)) {
			if (plus)
				atomic_fetch_sub(&tfs.handed, 1);
			break;
		}
	}
	return 0;
}

static int tfs_usual_locked(struct alt_op *op)
{
	struct tfs_node *n = tfs_at(alt_node_key(op->node).id), *child;

	if (!n)
		return -ESTALE;
	switch (op->code) {
	case ALT_OP_LOOKUP:
		child = tfs_child(n->id, op->p->name);
		if (!child)
			return -ENOENT;
		tfs_entry(child, &op->r.entry);
		return 0;
	case ALT_OP_SETATTR:
		if (op->p->valid & ALT_ATTR_SIZE)
			n->size = op->p->attr.size < TFS_DATA ? op->p->attr.size : TFS_DATA;
		/* fall through */
	case ALT_OP_GETATTR:
		tfs_attr(n, &op->r.entry.attr);
		return 0;
	case ALT_OP_CREATE: case ALT_OP_MKNOD: case ALT_OP_MKDIR:
		return tfs_make(op, n->id);
	case ALT_OP_UNLINK: case ALT_OP_RMDIR:
		child = tfs_child(n->id, op->p->name);
		if (!child)
			return -ENOENT;
		child->parent = 0;
		return 0;
	case ALT_OP_RENAME:
		child = tfs_child(n->id, op->p->name);
		if (!child)
			return -ENOENT;
		child->parent = alt_node_key(op->p->other).id;
		snprintf(child->name, sizeof child->name, "%s", op->p->new_name);
		return 0;
	case ALT_OP_OPEN: case ALT_OP_OPENDIR:
		atomic_fetch_add(&tfs.opened, 1);
		return 0;
	case ALT_OP_RELEASE: case ALT_OP_RELEASEDIR:
		atomic_fetch_add(&tfs.released, 1);
		return 0;
	case ALT_OP_READ: case ALT_OP_WRITE:
		return tfs_transfer(op, n);
	case ALT_OP_READDIR:
		return tfs_list(op, n->id);
	case ALT_OP_FLUSH: case ALT_OP_FSYNC: case ALT_OP_ACCESS: case ALT_OP_STATFS: case ALT_OP_SETLK:
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

T_FN int tfs_usual(struct alt_op *op)
{
	int r;

	pthread_mutex_lock(&tfs.lock);
	r = tfs_usual_locked(op);
	pthread_mutex_unlock(&tfs.lock);
	return r;
}

static int tfs_serve(struct alt_op *op)
{
	int r = TFS_PASS;

	t_log("*", "");
	atomic_fetch_add(&tfs.calls[op->code], 1);
	if (tfs.on[op->code])
		r = tfs.on[op->code](op);
	return r == TFS_PASS ? tfs_usual(op) : r;
}

static int tfs_mount(struct alt_volume *v, const char *arg, struct alt_error *err)
{
	atomic_fetch_add(&tfs.handed, 1);
	atomic_fetch_add(&tfs.live, 1);
	alt_volume_set_root(v, (struct alt_key){ .id = 1 }, &tfs.nodes[0]);
	return 0;
}

static void tfs_unmount(struct alt_volume *v)
{
	atomic_fetch_sub(&tfs.live, 1);
}

static void tfs_forget(struct alt_volume *v, struct alt_key key, void *data)
{
	atomic_fetch_add(&tfs.forgotten, 1);
}

static const struct alt_filesystem_registration tfs_registration = {
	.size = sizeof tfs_registration,
	.name = "tfs",
	.flags = ALT_FS_LOCKS,
	.mount = tfs_mount,
	.unmount = tfs_unmount,
	.forget = tfs_forget,
	.ops = { [1 ... ALT_OP_COUNT - 1] = tfs_serve },
};

/* ---- filters that do as they are told ---- */

struct t_script {
	int pre;                         /* its answer */
	int status;                      /* of the operation, with ALT_PRE_COMPLETE */
	int post_status;                 /* not 0: the post changes the status to this */
	alt_pre_fn *on_pre;              /* instead of all that; after the log */
	alt_post_fn *on_post;
	_Atomic long pres, posts, drains;
	_Atomic long setups, starts, completes;
	uint32_t setup_flags, reason;
	int setup_answer, query_answer;
	_Atomic long queries;
};

static struct t_script t_scripts[26];

T_FN struct t_script *t_script(char letter)
{
	return &t_scripts[letter - 'A'];
}

T_FN struct t_script *t_script_of(const struct alt_instance *in)
{
	return t_script(alt_instance_name(in)[0]);
}

T_FN enum alt_pre t_pre(struct alt_op *op, struct alt_instance *in, void **ctx)
{
	struct t_script *s = t_script_of(in);

	t_log("+", alt_instance_name(in));
	atomic_fetch_add(&s->pres, 1);
	if (s->on_pre)
		return s->on_pre(op, in, ctx);
	if (s->pre == ALT_PRE_COMPLETE)
		op->status = s->status;
	return s->pre;
}

T_FN enum alt_post t_post(struct alt_op *op, struct alt_instance *in, void *ctx)
{
	struct t_script *s = t_script_of(in);

	t_log(op->flags & ALT_OP_DRAINING ? "~" : "-", alt_instance_name(in));
	atomic_fetch_add(op->flags & ALT_OP_DRAINING ? &s->drains : &s->posts, 1);
	if (s->on_post)
		return s->on_post(op, in, ctx);
	if (s->post_status)
		op->status = s->post_status;
	return ALT_POST_FINISHED;
}

T_FN int t_setup_instance(struct alt_instance *in, uint32_t flags, struct alt_error *err)
{
	struct t_script *s = t_script_of(in);

	atomic_fetch_add(&s->setups, 1);
	s->setup_flags = flags;
	return s->setup_answer;
}

T_FN int t_query_teardown(struct alt_instance *in)
{
	atomic_fetch_add(&t_script_of(in)->queries, 1);
	return t_script_of(in)->query_answer;
}

T_FN void t_teardown_start(struct alt_instance *in, uint32_t reason)
{
	t_log("start", alt_instance_name(in));
	t_script_of(in)->reason = reason;
	atomic_fetch_add(&t_script_of(in)->starts, 1);
}

T_FN void t_teardown_complete(struct alt_instance *in, uint32_t reason)
{
	t_log("complete", alt_instance_name(in));
	atomic_fetch_add(&t_script_of(in)->completes, 1);
}

static struct alt_callback t_all[ALT_OP_COUNT];  /* every operation, t_pre and t_post; filled by t_begin() */

static const struct alt_filter_registration t_letters = {
	.size = sizeof t_letters,
	.name = "letters",
	.altitude = "370000",
	.callbacks = t_all,
	.setup = t_setup_instance,
	.query_teardown = t_query_teardown,
	.teardown_start = t_teardown_start,
	.teardown_complete = t_teardown_complete,
};

/* ---- the volume under test ---- */

static struct alt_volume *t_volume;
static struct alt_error t_err;           /* of the last attach or detach */
static struct alt_filter t_filters[32];

T_FN struct alt_filter *t_filter(const struct alt_filter_registration *reg)
{
	struct alt_filter *f = t_filters;

	while (f->reg && f->reg != reg)
		f++;
	if (!f->reg) {
		f->name = (char *)reg->name;
		f->reg = reg;
	}
	return f;
}

T_FN int t_attach_as(const struct alt_filter_registration *reg, const char *name, const char *altitude)
{
	t_err = (struct alt_error){ 0 };
	return stack_attach(t_volume, t_filter(reg), name, altitude, NULL, ALT_SETUP_MANUAL, &t_err);
}

T_FN int t_attach(const char *name, const char *altitude)
{
	return t_attach_as(&t_letters, name, altitude);
}

T_FN int t_detach(const char *name)
{
	t_err = (struct alt_error){ 0 };
	return stack_detach(t_volume, NULL, name, ALT_TEARDOWN_MANUAL, &t_err);
}

static void t_find_one(struct alt_instance *in, void *arg)
{
	void **find = arg;

	if (!strcmp(in->name, find[0]))
		find[1] = in;
}

T_FN struct alt_instance *t_instance(const char *name)
{
	void *find[2] = { (void *)name, NULL };

	stack_each(t_volume, t_find_one, find);
	return find[1];
}

static struct alt_volume *t_volume_new(void)
{
	struct alt_volume *v = NULL;

	if (volume_new("tfs:", &tfs_registration, NULL, NULL, &v, NULL) < 0 || stack_volume_init(v) < 0)
		return NULL;
	return v;
}

/* Nodes: / is 1, f 2, g 3, d 4, d/h 5. */
T_FN int t_begin(void **state)
{
	unsetenv("ALTITUDE_VERIFY"); /* what the verifier would abort for is to be survived too */
	memset(&tfs, 0, sizeof tfs);
	memset(t_scripts, 0, sizeof t_scripts);
	memset(t_filters, 0, sizeof t_filters);
	pthread_mutex_init(&tfs.lock, NULL);
	for (int code = 1; code < ALT_OP_COUNT; code++)
		t_all[code - 1] = (struct alt_callback){ code, t_pre, t_post, 0 };
	atomic_store(&t_log_off, false);
	tfs_add(0, "", S_IFDIR | 0755, NULL);
	tfs_add(1, "f", S_IFREG | 0644, "0123456789");
	tfs_add(1, "g", S_IFREG | 0644, "abcdefghij");
	tfs_add(1, "d", S_IFDIR | 0755, NULL);
	tfs_add(4, "h", S_IFREG | 0644, "hhhhh");
	t_volume = t_volume_new();
	t_logged();
	return t_volume ? 0 : -1;
}

/* Every reference is given back, every open is released, every instance is gone. */
T_FN int t_end(void **state)
{
	const char *wrong = NULL;

	stack_volume_fini(t_volume);
	volume_free(t_volume);
	t_volume = NULL;
	if (atomic_load(&tfs.handed) != atomic_load(&tfs.forgotten))
		wrong = "data not given back exactly once";
	else if (atomic_load(&tfs.opened) != atomic_load(&tfs.released))
		wrong = "not one RELEASE for each successful OPEN";
	else if (atomic_load(&tfs.live))
		wrong = "not unmounted";
	for (struct alt_filter *f = t_filters; f->reg; f++)
		if (atomic_load(&f->instances))
			wrong = "an instance is left";
	pthread_mutex_destroy(&tfs.lock);
	if (wrong)
		fprintf(stderr, "%s: handed %ld forgotten %ld opened %ld released %ld\n", wrong, tfs.handed, tfs.forgotten,
			tfs.opened, tfs.released);
	return wrong ? -1 : 0;
}

/* With A above B above C. */
T_FN int t_begin3(void **state)
{
	return t_begin(state) || t_attach("A", "300") || t_attach("B", "200") || t_attach("C", "100") ? -1 : 0;
}

#define t_case3(name) cmocka_unit_test_setup_teardown(name, t_begin3, t_end)

#define t_case(name) cmocka_unit_test_setup_teardown(name, t_begin, t_end)

/* ---- operations ---- */

struct t_call {
	sem_t over;
	_Atomic int dones;               /* more than one is a double completion */
	int status;
	uint32_t flags;
	size_t size;
	void *out;                       /* READ: where the bytes go; room for the size asked */
	struct alt_file *file;           /* of a successful OPEN: the kernel's reference */
	uint64_t node;                   /* of a successful LOOKUP */
	struct alt_attr attr;
	char names[4096];                /* READDIR: with a space between */
	int64_t next;                    /* READDIR: cookie of the last name */
	pthread_t thread;                /* that called done */
	uint64_t unique;
};

static _Atomic uint64_t t_uniques;

static void t_done_names(struct op *op, struct t_call *c)
{
	for (struct op_dirent *d = op->dirents; d; d = d->next_entry) {
		size_t len = strlen(c->names);

		snprintf(c->names + len, sizeof c->names - len, "%s%s", len ? " " : "", d->name);
		c->next = d->next;
		if (d->has_entry && d->entry.data)
			tfs_forget(op->pub.volume, d->entry.key, d->entry.data);
	}
}

/* As a session does: references of what is answered become the kernel's. */
static void t_done(struct op *op)
{
	struct t_call *c = op->done_arg;

	c->status = op->pub.status;
	c->flags = op->pub.flags;
	c->size = op->pub.r.size;
	c->attr = op->pub.r.entry.attr;
	c->thread = pthread_self();
	if (c->status >= 0 && op->pub.code == ALT_OP_READ && c->out && c->size)
		memcpy(c->out, op->pub.p->buf, c->size);
	if (op->pub.code == ALT_OP_READDIR)
		t_done_names(op, c);
	if (c->status >= 0 && op->pub.r.node) {
		c->node = op->pub.r.node->rec.number;
		node_remember(op->pub.r.node, 1);
	}
	if (c->status >= 0 && op->pub.r.file) {
		c->file = op->pub.r.file;
		op->pub.file = op->pub.r.file = NULL;
	}
	if (op->pub.code == ALT_OP_RELEASE || op->pub.code == ALT_OP_RELEASEDIR)
		file_unref(op->pub.file);
	op_end(op);
	atomic_fetch_add(&c->dones, 1);
	sem_post(&c->over);
}

T_FN struct op *t_op(enum alt_op_code code, uint64_t nodeid, const char *name)
{
	struct op *op = op_new(t_volume);

	if (!op)
		abort();
	op->rq.code = code;
	op->rq.nodeid = nodeid;
	op->rq.unique = atomic_fetch_add(&t_uniques, 1) + 1;
	op->rq.params.name = name;
	op->pub.flags = ALT_OP_FAST;
	return op;
}

T_FN struct op *t_file_op(enum alt_op_code code, struct alt_file *f)
{
	struct op *op = t_op(code, f->node->rec.number, NULL);

	op->rq.has_fh = true;
	op->rq.fh = f->number;
	return op;
}

/* Send it; it may be over on return, or later. */
T_FN void t_go(struct t_call *c, struct op *op)
{
	int r;

	sem_init(&c->over, 0, 0);
	c->unique = op->rq.unique;
	op->done = t_done;
	op->done_arg = c;
	r = op_resolve(op);
	if (!r) {
		stack_run(op, NULL);
		return;
	}
	op->pub.status = r;
	op->pub.code = ALT_OP_END;
	t_done(op);
}

/* Until it is over: its status, or -EPROTO when it was answered twice. */
T_FN int t_wait(struct t_call *c)
{
	while (sem_wait(&c->over) < 0)
		;
	return atomic_load(&c->dones) == 1 ? c->status : -EPROTO;
}

T_FN bool t_is_over(struct t_call *c)
{
	return atomic_load(&c->dones);
}

T_FN int t_run(struct t_call *c, struct op *op)
{
	t_go(c, op);
	return t_wait(c);
}

T_FN int t_simple(enum alt_op_code code, uint64_t nodeid, const char *name)
{
	struct t_call c = { 0 };

	return t_run(&c, t_op(code, nodeid, name));
}

/* What is called, is in the log. */
T_FN int t_access_root(void)
{
	t_logged();
	return t_simple(ALT_OP_ACCESS, 1, NULL);
}

/* The node's number, or 0. */
T_FN uint64_t t_lookup(uint64_t dir, const char *name)
{
	struct t_call c = { 0 };

	return t_run(&c, t_op(ALT_OP_LOOKUP, dir, name)) ? 0 : c.node;
}

T_FN int t_getattr(uint64_t node, struct alt_attr *ret)
{
	struct t_call c = { 0 };
	int r = t_run(&c, t_op(ALT_OP_GETATTR, node, NULL));

	*ret = c.attr;
	return r;
}

T_FN int t_open_node(uint64_t node, struct alt_file **ret)
{
	struct t_call c = { 0 };
	struct op *op = t_op(ALT_OP_OPEN, node, NULL);
	int r;

	op->rq.params.flags = O_RDWR;
	r = t_run(&c, op);
	*ret = c.file;
	return r;
}

/* Look up and open an entry of the root, which must succeed; the log is empty afterwards. */
T_FN struct alt_file *t_open(const char *name)
{
	struct alt_file *f = NULL;
	uint64_t node = t_lookup(1, name);

	assert_true(node != 0);
	assert_int_equal(t_open_node(node, &f), 0);
	assert_non_null(f);
	t_logged();
	return f;
}

T_FN int t_close(struct alt_file *f)
{
	struct t_call c = { 0 };

	return t_run(&c, t_file_op(ALT_OP_RELEASE, f));
}

T_FN struct op *t_read_op(struct alt_file *f, size_t size, int64_t offset)
{
	struct op *op = t_file_op(ALT_OP_READ, f);

	op->rq.params.size = size;
	op->rq.params.offset = offset;
	return op;
}

T_FN long t_read(struct alt_file *f, void *buf, size_t size, int64_t offset)
{
	struct t_call c = { .out = buf };
	int r = t_run(&c, t_read_op(f, size, offset));

	return r < 0 ? r : (long)c.size;
}

T_FN struct op *t_write_op(struct alt_file *f, const void *buf, size_t size, int64_t offset)
{
	struct op *op = t_file_op(ALT_OP_WRITE, f);

	op->rq.params.buf = (void *)buf;
	op->rq.params.size = size;
	op->rq.params.offset = offset;
	return op;
}

T_FN long t_write(struct alt_file *f, const void *buf, size_t size, int64_t offset)
{
	struct t_call c = { 0 };
	int r = t_run(&c, t_write_op(f, buf, size, offset));

	return r < 0 ? r : (long)c.size;
}

/* Names of a directory, one READDIR after the other with @room bytes each, until the empty one. */
T_FN int t_list(uint64_t dir, size_t room, uint32_t bits, char *names, size_t size)
{
	struct t_call c = { 0 };
	struct alt_file *f;
	int64_t next = 0;
	int r;

	r = t_run(&c, t_op(ALT_OP_OPENDIR, dir, NULL));
	if (r < 0)
		return r;
	f = c.file;
	names[0] = 0;
	do {
		struct op *op = t_file_op(ALT_OP_READDIR, f);
		size_t len = strlen(names);

		op->rq.params.size = room;
		op->rq.params.offset = next;
		op->rq.params.bits = bits;
		op->rq.plus = bits & ALT_PARAM_PLUS;
		c = (struct t_call){ 0 };
		r = t_run(&c, op);
		next = c.next;
		if (len && c.names[0])
			strncat(names, " ", size - len - 1);
		strncat(names, c.names, size - strlen(names) - 1);
	} while (!r && c.names[0]);
	c = (struct t_call){ 0 };
	t_run(&c, t_file_op(ALT_OP_RELEASEDIR, f));
	return r;
}

/* ---- a thread that does one thing with a pended operation ---- */

struct t_later {
	pthread_t thread;
	void (*fn)(struct t_later *l);
	struct alt_op *op;
	enum alt_pre decision;
	int status;
	_Atomic int when;                /* not 0: the thread waits until it is 2 */
};

static void *t_later_main(void *arg)
{
	struct t_later *l = arg;

	while (atomic_load(&l->when) == 1)
		sched_yield();
	l->fn(l);
	return NULL;
}

T_FN void t_later_start(struct t_later *l, void (*fn)(struct t_later *), struct alt_op *op)
{
	l->fn = fn;
	l->op = op;
	if (pthread_create(&l->thread, NULL, t_later_main, l))
		abort();
}

T_FN void t_later_resume_pre(struct t_later *l)
{
	if (l->decision == ALT_PRE_COMPLETE)
		l->op->status = l->status;
	alt_op_resume_pre(l->op, l->decision, NULL);
}

T_FN void t_later_resume_post(struct t_later *l)
{
	alt_op_resume_post(l->op);
}

T_FN void t_later_complete(struct t_later *l)
{
	alt_op_complete(l->op, l->status);
}

/* Until @word is @value. */
T_FN void t_until(_Atomic long *word, long value)
{
	while (atomic_load(word) < value)
		sched_yield();
}

#endif
