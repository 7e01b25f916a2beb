/* SPDX-License-Identifier: MIT */
#include "io/slot.h"
#include <altitude/log.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TTL_DEFAULT_MS 0u
#define TTL_MAX_MS 86400000u
#define THREADS_MAX 32u          /* half of what a session can hold: the others are spares */
#define RING_DEPTH_MAX 256u

static int option_number(struct alt_volume *v, const char *key, uint32_t fallback, uint32_t most, const char *what,
			 uint32_t *ret, struct alt_error *err)
{
	const char *s = alt_volume_option(v, key);
	unsigned long n;
	char *end;

	*ret = fallback;
	if (!s)
		return 0;
	errno = 0;
	n = strtoul(s, &end, 10);
	if (errno || end == s || *end || *s == '-' || n > most)
		return alt_error_set(err, -EINVAL, "option '%s=%s' of volume '%s' is not a number of %s from 0 to %u",
				     key, s, v->name, what, most);
	*ret = n;
	return 0;
}

static int option_switch(struct alt_volume *v, const char *key, bool fallback, bool *ret, struct alt_error *err)
{
	const char *s = alt_volume_option(v, key);

	*ret = s ? !strcmp(s, "yes") || !*s : fallback;
	if (!s || *ret || !strcmp(s, "no"))
		return 0;
	return alt_error_set(err, -EINVAL, "option '%s=%s' of volume '%s' is neither yes nor no", key, s, v->name);
}

static int option_transport(struct alt_volume *v, struct alt_error *err)
{
	const char *s = alt_volume_option(v, "transport");

	v->uring = s && !strcmp(s, "uring");
	if (!s || v->uring || !strcmp(s, "devfuse"))
		return 0;
	return alt_error_set(err, -EINVAL, "option 'transport=%s' of volume '%s' is neither devfuse nor uring", s, v->name);
}

static bool is_engines(const char *key)
{
	static const char *const keys[] = { "ttl_ms", "passthrough", "open", "timeout_ms", "threads", "transport", "ring_depth" };

	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		if (!strcmp(keys[i], key))
			return true;
	return false;
}

/* An option nobody understands is a mistake of the person who wrote it, not something to skip. */
static int options_check(struct alt_volume *v, struct alt_error *err)
{
	for (struct io_option *o = v->options; o && o->key; o++) {
		const struct alt_option *known = v->fs->options;

		if (is_engines(o->key))
			continue;
		while (known && known->name && strcmp(known->name, o->key))
			known++;
		if (!known || !known->name)
			return alt_error_set(err, -EINVAL, "file system '%s' has no option '%s'; see altitude-%s(7)",
					     v->fs->name, o->key, v->fs->name);
	}
	return 0;
}

static int options_read(struct alt_volume *v, struct alt_error *err)
{
	bool open = true;
	int r = option_number(v, "ttl_ms", TTL_DEFAULT_MS, TTL_MAX_MS, "milliseconds", &v->ttl_ms, err);

	v->ttl_given = alt_volume_option(v, "ttl_ms");
	if (!r)
		r = option_switch(v, "passthrough", true, &v->passthrough, err);
	if (!r)
		r = option_switch(v, "open", true, &open, err);
	v->no_open_wanted = !open;
	atomic_store(&v->no_open, !open);
	if (!r)
		r = option_number(v, "timeout_ms", 0, TTL_MAX_MS, "milliseconds", &v->timeout_ms, err);
	if (!r)
		r = option_number(v, "threads", 0, THREADS_MAX, "threads", &v->threads, err);
	if (!r)
		r = option_transport(v, err);
	if (!r)
		r = option_number(v, "ring_depth", 0, RING_DEPTH_MAX, "entries", &v->ring_depth, err);
	return r;
}

int volume_new(const char *name, const struct alt_filesystem_registration *fs, const char *arg,
	       struct io_option *options, struct alt_volume **ret, struct alt_error *err)
{
	struct alt_volume *v = aligned_alloc(_Alignof(struct alt_volume), sizeof *v);
	int r;

	if (!v) {
		options_free(options);
		return alt_error_set(err, -ENOMEM, "no memory for volume '%s'", name);
	}
	memset(v, 0, sizeof *v);
	slot_table_init(&v->node_slots, sizeof(struct alt_node));
	slot_table_init(&v->file_slots, sizeof(struct alt_file));
	v->fs = fs;
	v->options = options;
	v->name = strdup(name);
	pthread_rwlock_init(&v->tree, NULL);
	pthread_mutex_init(&v->slots_lock, NULL);
	pthread_mutex_init(&v->contexts_lock, NULL);
	pthread_mutex_init(&v->inflight_lock, NULL);
	pthread_mutex_init(&v->cancels_lock, NULL);
	pthread_mutex_init(&v->modes_lock, NULL);
	pthread_mutex_init(&v->share_lock, NULL);
	TAILQ_INIT(&v->share_recent);
	TAILQ_INIT(&v->share_kept);
	r = v->name ? options_check(v, err) : -ENOMEM;
	if (!r)
		r = workers_start(v);
	if (!r)
		r = notices_start(v);
	if (!r)
		r = options_read(v, err);
	if (!r)
		r = fs->mount(v, arg, err);
	if (r < 0) {
		v->fs = NULL;
		volume_free(v);
		return alt_error_set(err, r, "cannot begin volume '%s': %s", name, strerror(-r));
	}
	if (!v->root) {
		volume_free(v);
		return alt_error_set(err, -EIO, "file system '%s' gave no root for '%s'; its mount function must call alt_volume_set_root()",
				     fs->name, name);
	}
	*ret = v;
	return 0;
}

void alt_volume_set_watched(struct alt_volume *v, bool watched)
{
	atomic_store(&v->watched, watched);
}

void alt_volume_set_root(struct alt_volume *v, struct alt_key key, void *data)
{
	struct alt_entry e = { .key = key, .data = data, .attr.mode = S_IFDIR };
	struct alt_node *n = node_intern(v, &e, v->fs);

	if (!n)
		return;
	/* The kernel calls the root 1, whatever slot it lies in; that one is not found by a number any more. */
	slot_hide(v, &v->node_slots, n->rec.number);
	n->rec.number = IO_ROOT_ID;
	v->root = n;
}

static void files_close(struct alt_volume *v)
{
	for (uint32_t i = 0; i < v->file_slots.count; i++) {
		struct alt_file *f;

		pthread_mutex_lock(&v->slots_lock);
		f = slot_at_locked(&v->file_slots, i);
		pthread_mutex_unlock(&v->slots_lock);
		if (f)
			file_abandon(f);
	}
}

static void nodes_forget(struct alt_volume *v)
{
	for (uint32_t i = 0; i < v->node_slots.count; i++) {
		struct alt_node *n = slot_at_locked(&v->node_slots, i);

		if (n)
			node_forget(v, n->rec.number, UINT64_MAX);
	}
}

void volume_free(struct alt_volume *v)
{
	if (!v)
		return;
	op_cancel_all(v);
	cancels_wait(v);
	workers_stop(v);
	shared_drop_all(v);
	op_cancel_all(v); /* each of its files is closed once */
	files_close(v);
	op_cancel_all(v); /* and the owner's done with all before it hears of nodes */
	cancels_wait(v);
	nodes_forget(v);
	contexts_drop(&v->contexts, v, NULL);
	if (v->root)
		alt_node_unref(v->root);
	if (v->nodes)
		alt_log(LOG_ERR, "verifier: %zu node%s of '%s' still referenced at its end: a module took a reference and kept it",
			v->nodes, v->nodes == 1 ? " is" : "s are", v->name);
	if (v->fs && v->fs->unmount)
		v->fs->unmount(v);
	notices_free(v);
	slot_table_fini(&v->node_slots);
	slot_table_fini(&v->file_slots);
	free(v->by_key);
	free(v->by_name);
	options_free(v->options);
	free(v->name);
	free(v);
}

void volume_live(struct alt_volume *v, struct volume_live *ret)
{
	*ret = (struct volume_live){ 0 };
	pthread_rwlock_rdlock(&v->tree);
	ret->nodes = v->nodes;
	pthread_rwlock_unlock(&v->tree);
	pthread_mutex_lock(&v->slots_lock);
	for (uint32_t i = 0; i < v->file_slots.count; i++)
		ret->files += slot_at_locked(&v->file_slots, i) != NULL;
	pthread_mutex_unlock(&v->slots_lock);
	pthread_mutex_lock(&v->inflight_lock);
	for (struct op *op = v->inflight; op; op = op->next)
		ret->operations++;
	pthread_mutex_unlock(&v->inflight_lock);
}

const char *alt_volume_name(const struct alt_volume *v)
{
	return v->name;
}

void *alt_volume_data(const struct alt_volume *v)
{
	return v->data;
}

void alt_volume_set_data(struct alt_volume *v, void *data)
{
	v->data = data;
}

struct alt_node *alt_volume_root(const struct alt_volume *v)
{
	return v->root;
}

const char *alt_volume_option(const struct alt_volume *v, const char *name)
{
	for (const struct io_option *o = v->options; o && o->key; o++)
		if (!strcmp(o->key, name))
			return o->value ? o->value : "";
	return NULL;
}
