/* SPDX-License-Identifier: MIT */
/*
 * Paths as an instance sees them. The engine knows each node by its lowest name; a lower filter that renames entries on
 * their way up (the entry view) is asked for every part of the path, from the bottom of the stack upwards.
 */
#include "stack/compiled.h"
#include <altitude/name.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct renamers { int count; struct alt_instance *in[]; };

static bool renames(const struct alt_instance *at, const struct alt_instance *in)
{
	return at->filter->reg->entry && (at == in || instance_serves(at));
}

/*
 * @in and the instances below it with an entry view, lowest last; each is counted, so that a detach waits. *ret is NULL where there
 * are none. 0 or -ENOMEM.
 */
static int renamers_enter(struct alt_instance *in, struct renamers **ret)
{
	struct stack_volume *sv = in->volume->sv;
	struct renamers *rs = NULL;
	int count = 0;

	pthread_mutex_lock(&sv->lock);
	for (struct alt_instance *at = in; at; at = at->below)
		count += renames(at, in);
	if (count)
		rs = malloc(sizeof *rs + count * sizeof rs->in[0]);
	if (rs)
		rs->count = 0;
	for (struct alt_instance *at = in; rs && at; at = at->below) {
		if (!renames(at, in))
			continue;
		atomic_fetch_add(&at->ops, 1);
		rs->in[rs->count++] = at;
	}
	pthread_mutex_unlock(&sv->lock);
	*ret = rs;
	return count && !rs ? -ENOMEM : 0;
}

static void renamers_leave(struct renamers *rs)
{
	for (int i = 0; i < rs->count; i++)
		stack_leave(rs->in[i]);
	free(rs);
}

/* Parts of @path ("/a/b") one after the other; @buf gets them as seen. */
static int seen(struct renamers *rs, struct alt_instance *in, const char *path, char *buf, size_t size)
{
	struct alt_node *dir = alt_volume_root(in->volume);
	size_t at = 0;
	int r = 0;

	alt_node_ref(dir);
	while (!r && *path) {
		size_t len = strcspn(++path, "/");
		struct alt_node *next;
		char name[256];

		memcpy(name, path, len);
		name[len] = 0;
		next = node_child(dir, name);
		for (int i = rs->count - 1; i >= 0; i--)
			rs->in[i]->filter->reg->entry(rs->in[i], dir, name);
		alt_node_unref(dir);
		dir = next;
		path += len;
		len = strlen(name);
		if (at + len + 2 > size)
			r = -ENAMETOOLONG;
		else if (!dir && *path)
			r = -ENOENT; /* renamed meanwhile */
		else
			at += sprintf(buf + at, "/%s", name);
	}
	if (dir)
		alt_node_unref(dir);
	return r < 0 ? r : (int)at;
}

int alt_node_path_seen(struct alt_instance *in, const struct alt_node *node, char *buf, size_t size)
{
	struct renamers *rs;
	char *low;
	int r = alt_node_path(node, buf, size), error;

	if (r <= 1)
		return r;
	error = renamers_enter(in, &rs);
	if (!rs)
		return error < 0 ? error : r;
	low = strdup(buf);
	r = low ? seen(rs, in, low, buf, size) : -ENOMEM;
	free(low);
	renamers_leave(rs);
	return r;
}

/* The operation's own name is in this instance's terms already: it is what the callback was given. */
static int entry_path(struct alt_instance *in, const struct alt_node *dir, const char *name, char *buf, size_t size)
{
	size_t len = strlen(name);
	int r = alt_node_path_seen(in, dir, buf, size);

	if (r < 0)
		return r;
	if (r == 1)
		r = 0; /* "/" */
	if (r + len + 2 > size)
		return -ENAMETOOLONG;
	buf[r] = '/';
	memcpy(buf + r + 1, name, len + 1);
	return r + 1 + len;
}

static bool has_entry(enum alt_op_code code)
{
	return code == ALT_OP_LOOKUP || (code >= ALT_OP_MKNOD && code <= ALT_OP_CREATE);
}

int alt_op_path(const struct alt_op *op, struct alt_instance *in, char *buf, size_t size)
{
	if (has_entry(op->code) && op->p->name)
		return entry_path(in, op->node, op->p->name, buf, size);
	return alt_node_path_seen(in, op->node, buf, size);
}

int alt_op_other_path(const struct alt_op *op, struct alt_instance *in, char *buf, size_t size)
{
	if (op->code == ALT_OP_RENAME)
		return entry_path(in, op->p->other, op->p->new_name, buf, size);
	if (op->code == ALT_OP_LINK)
		return alt_node_path_seen(in, op->p->other, buf, size);
	return -EINVAL;
}

char *alt_path_text(char *path)
{
	for (char *c = path; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	return path;
}
