/* SPDX-License-Identifier: MIT */
/*
 * Instances: attached, asked, detached.
 *
 *   SETUP -> ATTACHED <-> ASKED -> TEARDOWN -> GONE
 *
 * Detach: query-teardown (manual only, may refuse), new compiled stack without it, teardown-start, drain,
 * teardown-complete. From teardown-start on no new operation reaches it; at teardown-complete none is left.
 */
#include "io/slot.h"
#include "module/module.h"
#include "stack/compiled.h"
#include <altitude/kit/near.h>
#include <altitude/log.h>
#include <altitude/ntstatus.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Who holds a module, as it is told to the one who wants it gone. */
struct hold {
	struct module *module;
	char who[];
};

static void hold_end(void *arg)
{
	struct hold *h = arg;

	module_release(h->module, h->who);
	free(h);
}

/*
 * Contexts that somebody still references are cleaned up by the filter's code, whenever they are released.
 * @what, @name  whose they are, NULL where the verifier is not to tell
 */
static void contexts_leave(struct contexts_live *live, const struct alt_filter *filter, const char *what, const char *name)
{
	static const char format[] = "contexts of %s '%s'";
	struct module *m = contexts_verify(live, name) ? module_of(filter->reg) : NULL;
	size_t size = sizeof format + strlen(what) + strlen(name ? name : filter->name);
	struct hold *h = m ? malloc(sizeof *h + size) : NULL;

	if (h) {
		h->module = m;
		snprintf(h->who, size, format, what, name ? name : filter->name);
		module_hold(m, h->who);
	} else {
		module_hold(m, "contexts"); /* for ever: there is no memory to know when they are gone */
	}
	contexts_give_up(live, h ? hold_end : NULL, h);
}

static void instance_free(struct alt_instance *in)
{
	if (!in)
		return;
	options_free(in->options);
	if (in->live)
		contexts_leave(in->live, in->filter, "instance", NULL);
	free(in->name);
	free(in->altitude);
	free(in);
}

static void stack_run_whole(struct op *op)
{
	stack_run(op, NULL);
}

int stack_volume_init(struct alt_volume *v)
{
	struct stack_volume *sv = aligned_alloc(64, (sizeof *sv + 63) / 64 * 64);

	if (!sv)
		return -ENOMEM;
	memset(sv, 0, sizeof *sv);
	pthread_mutex_init(&sv->lock, NULL);
	pthread_cond_init(&sv->changed, NULL);
	v->sv = sv;
	v->run = stack_run_whole;
	atomic_store(&v->stack, stack_compile_locked(sv));
	return atomic_load(&v->stack) ? 0 : -ENOMEM;
}

static int options_check(const struct alt_filter_registration *reg, const struct io_option *options, struct alt_error *err)
{
	for (const struct io_option *o = options; o && o->key; o++) {
		const struct alt_option *known = reg->options;

		while (known && known->name && strcmp(known->name, o->key))
			known++;
		if (!known || !known->name)
			return alt_error_set(err, -EINVAL, "filter '%s' has no option '%s'; see altitude-%s(7)",
					     reg->name, o->key, reg->name);
	}
	return 0;
}

/* The kernel would never ask it, and a guard that is not asked is worse than none. */
static int opens_check(const struct alt_volume *v, const struct alt_filter_registration *reg, struct alt_error *err)
{
	if (!atomic_load(&v->no_open) || !filter_wants_opens(reg))
		return 0;
	return alt_error_set(err, -EOPNOTSUPP, "filter '%s' looks at opens, reads or writes, and '%s' is mounted without opens; "
			     "mount it without 'open=no'", reg->name, v->name);
}

static int place_check_locked(struct alt_volume *v, const struct alt_instance *in, struct alt_error *err)
{
	for (struct alt_instance *at = v->sv->top; at; at = at->below) {
		if (!strcmp(at->name, in->name) && at->filter == in->filter)
			return alt_error_status(err, STATUS_FLT_INSTANCE_NAME_COLLISION,
						"instance '%s' is attached to '%s' already; a second one needs another altitude "
						"('%s@ALTITUDE') and another name ('attach --instance NAME' gives it)",
						in->name, v->name, in->filter->name);
		if (!strcmp(at->name, in->name))
			return alt_error_status(err, STATUS_FLT_INSTANCE_NAME_COLLISION,
						"the instance name '%s' is taken on '%s' by filter '%s'; give another with --instance NAME",
						in->name, v->name, at->filter->name);
		if (!altitude_compare(at->altitude, in->altitude))
			return alt_error_status(err, STATUS_FLT_INSTANCE_ALTITUDE_COLLISION,
						"altitude %s on '%s' is taken by instance '%s' (%s); choose another",
						in->altitude, v->name, at->name, at->altitude);
	}
	return 0;
}

static void place_locked(struct stack_volume *sv, struct alt_instance *in)
{
	struct alt_instance **at = &sv->top;

	while (*at && altitude_compare((*at)->altitude, in->altitude) > 0)
		at = &(*at)->below;
	in->below = *at;
	*at = in;
}

static void unlist_locked(struct alt_instance **at, const struct alt_instance *in)
{
	while (*at != in)
		at = &(*at)->below;
	*at = in->below;
}

/* Another may have its place; it is known until nothing of it is left. */
static void unplace_locked(struct stack_volume *sv, struct alt_instance *in)
{
	unlist_locked(&sv->top, in);
	in->below = sv->going;
	sv->going = in;
}

/* Whoever waits for the end of its filter may free that, and unload the code. */
static void instance_end(struct alt_instance *in)
{
	struct stack_volume *sv = in->volume->sv;

	contexts_leave(in->live, in->filter, "instance", atomic_load(&in->state) == INSTANCE_GONE ? in->name : NULL);
	in->live = NULL;
	pthread_mutex_lock(&sv->lock);
	unlist_locked(&sv->going, in);
	pthread_cond_broadcast(&sv->changed);
	pthread_mutex_unlock(&sv->lock);
	instance_free(in);
}

/*
 * What the kernel remembers was seen through the old stack. Who now wants to see lookups is not asked while names are
 * remembered; who now transforms, or no longer does, changes what pages hold.
 */
static void caches_follow(struct alt_volume *v, uint64_t was, uint64_t is)
{
	uint64_t data = 1ull << ALT_OP_READ | 1ull << ALT_OP_WRITE;
	uint64_t names = 1ull << ALT_OP_LOOKUP | 1ull << ALT_OP_GETATTR | 1ull << ALT_OP_READDIR;

	if ((was | is) & (data | names))
		notice_all(v, (was | is) & data);
}

/* Swap in what the list says now. Operations that copied from the old one have left the gate when this returns. */
static int stack_swap_locked(struct alt_volume *v)
{
	struct stack *next = stack_compile_locked(v->sv), *old;

	if (!next)
		return -ENOMEM;
	/* Interest only grows before the swap, so that no operation passes between. */
	atomic_fetch_or(&v->filtered, stack_interest(next));
	old = atomic_exchange(&v->stack, next);
	gate_wait(&v->sv->gate);
	atomic_store(&v->filtered, stack_interest(next));
	caches_follow(v, stack_interest(old), stack_interest(next));
	stack_free(old);
	return 0;
}

/* What the person who attaches has chosen. */
static int words_check(const struct alt_instance *in, struct alt_error *err)
{
	if (!altitude_valid(in->altitude))
		return alt_error_status(err, STATUS_INVALID_PARAMETER,
					"altitude '%s' of filter '%s' is no decimal number such as 370020 or 325000.3",
					in->altitude, in->filter->name);
	if (!*in->name)
		return alt_error_status(err, STATUS_INVALID_PARAMETER, "an instance of filter '%s' needs a name of one letter or more",
					in->filter->name);
	return 0;
}

static int instance_new(struct alt_volume *v, struct alt_filter *filter, const char *name, const char *altitude,
			struct io_option *options, struct alt_instance **ret, struct alt_error *err)
{
	struct alt_instance *in = calloc(1, sizeof *in + filter->reg->instance_size);
	int r;

	if (!in) {
		options_free(options);
		return -ENOMEM;
	}
	if (!altitude)
		altitude = filter->reg->altitude;
	in->options = options;
	in->filter = filter;
	in->volume = v;
	in->data = filter->reg->instance_size ? in->own : NULL;
	in->live = contexts_live_new();
	in->name = strdup(name ? name : filter->name);
	in->altitude = strdup(altitude ? altitude : "");
	if (!in->live || !in->name || !in->altitude) {
		instance_free(in);
		return -ENOMEM;
	}
	r = words_check(in, err);
	if (r < 0)
		instance_free(in);
	else
		*ret = in;
	return r;
}

/* What the filter's other instances have, or a new one; counted. NULL without memory. */
static struct filter_share *share_join_locked(struct stack_volume *sv, const struct alt_filter *filter)
{
	struct filter_share *share;

	for (struct alt_instance *at = sv->top; at; at = at->below) {
		if (at->filter != filter)
			continue;
		at->share->users++;
		return at->share;
	}
	share = calloc(1, sizeof *share);
	if (!share)
		return NULL;
	share->users = 1;
	share->live = contexts_live_new();
	if (share->live)
		return share;
	free(share);
	return NULL;
}

/* The last one takes the volume's contexts along. @in has left the list: who comes now shares with others. */
static void share_leave(struct alt_instance *in)
{
	struct alt_volume *v = in->volume;
	struct filter_share *share = in->share;
	bool last;

	in->share = NULL;
	pthread_mutex_lock(&v->sv->lock);
	last = !--share->users;
	pthread_mutex_unlock(&v->sv->lock);
	if (!last)
		return;
	contexts_close(share->live);
	contexts_drop(&v->contexts, v, share->live);
	contexts_settle(share->live);
	contexts_leave(share->live, in->filter, "filter", in->filter->name);
	free(share);
}

static int instance_reserve(struct alt_instance *in, struct alt_error *err)
{
	struct stack_volume *sv = in->volume->sv;
	int r;

	pthread_mutex_lock(&sv->lock);
	r = place_check_locked(in->volume, in, err);
	if (!r) {
		in->share = share_join_locked(sv, in->filter);
		r = in->share ? 0 : -ENOMEM;
	}
	if (!r)
		place_locked(sv, in);
	pthread_mutex_unlock(&sv->lock);
	return r;
}

/*
 * By the slots, and not by counted objects: one that is just going has its contexts still linked, or another thread is
 * giving them back. Their cleanups are the module's code, which may leave memory when this returns.
 */
static void contexts_drop_all(struct alt_instance *in)
{
	struct alt_volume *v = in->volume;
	struct context *gone;

	contexts_drop(&in->contexts, v, in);
	pthread_mutex_lock(&v->slots_lock);
	for (uint32_t i = 0; i < v->node_slots.count; i++) {
		struct alt_node *n = slot_at_locked(&v->node_slots, i);

		gone = n ? contexts_unlink(&n->contexts, v, in) : NULL;
		pthread_mutex_unlock(&v->slots_lock);
		contexts_put(gone);
		pthread_mutex_lock(&v->slots_lock);
	}
	for (uint32_t i = 0; i < v->file_slots.count; i++) {
		struct alt_file *f = slot_at_locked(&v->file_slots, i);

		gone = f ? contexts_unlink(&f->contexts, v, in) : NULL;
		pthread_mutex_unlock(&v->slots_lock);
		contexts_put(gone);
		pthread_mutex_lock(&v->slots_lock);
	}
	pthread_mutex_unlock(&v->slots_lock);
	contexts_drop(&v->root->contexts, v, in);
	contexts_settle(in->live);
}

static void files_verify(const struct alt_instance *in)
{
	int32_t left = atomic_load(&in->files);

	if (left > 0)
		alt_log(LOG_ERR, "verifier: filter '%s' leaks %d open file%s: opened from below, never closed", in->name, left,
			left == 1 ? "" : "s");
}

static void teardown(struct alt_instance *in, uint32_t reason)
{
	const struct alt_filter_registration *reg = in->filter->reg;

	if (reg->teardown_start)
		reg->teardown_start(in, reason);
	stack_drain(in);
	cancels_wait(in->volume); /* one that ended an operation is the filter's code until it has returned */
	contexts_close(in->live);
	if (reg->teardown_complete)
		reg->teardown_complete(in, reason);
	contexts_drop_all(in);
	share_leave(in);
	files_verify(in);
	atomic_store(&in->state, INSTANCE_GONE);
	atomic_fetch_sub(&in->filter->instances, 1);
	instance_end(in);
}

/* Its setup said no: nothing more of it is called. */
static int declined(struct alt_instance *in, int r, struct alt_error *err)
{
	alt_error_status(err, STATUS_FLT_DO_NOT_ATTACH, "filter '%s' declined to attach to '%s': %s", in->filter->name,
			 in->volume->name, strerror(-r));
	contexts_close(in->live);
	contexts_drop_all(in);
	pthread_mutex_lock(&in->volume->sv->lock);
	unplace_locked(in->volume->sv, in);
	pthread_mutex_unlock(&in->volume->sv->lock);
	share_leave(in);
	instance_end(in);
	return r;
}

int stack_attach(struct alt_volume *v, struct alt_filter *filter, const char *name, const char *altitude,
		 struct io_option *options, uint32_t setup_flags, struct alt_error *err)
{
	const struct alt_filter_registration *reg = filter->reg;
	struct alt_instance *in;
	int r;

	r = instance_new(v, filter, name, altitude, options, &in, err);
	if (r < 0)
		return alt_error_set(err, r, "no memory to attach filter '%s'", filter->name);
	r = options_check(reg, in->options, err);
	if (!r)
		r = opens_check(v, reg, err);
	if (!r)
		r = instance_reserve(in, err);
	if (r < 0) {
		instance_free(in);
		return r;
	}
	/* The place is taken, nobody is called yet: setup may sleep, and may decline. */
	r = reg->setup ? reg->setup(in, setup_flags, err) : 0;
	if (r)
		return declined(in, r < 0 ? r : -EPERM, err);
	atomic_fetch_add(&filter->instances, 1);
	pthread_mutex_lock(&v->sv->lock);
	atomic_store(&in->state, INSTANCE_ATTACHED);
	r = stack_swap_locked(v);
	if (r < 0) {
		atomic_store(&in->state, INSTANCE_TEARDOWN);
		unplace_locked(v->sv, in);
	}
	pthread_cond_broadcast(&v->sv->changed);
	pthread_mutex_unlock(&v->sv->lock);
	if (!r)
		return 0;
	alt_error_set(err, r, "no memory to attach filter '%s'", filter->name);
	teardown(in, ALT_TEARDOWN_INTERNAL_ERROR); /* it was set up */
	return r;
}

static bool is_meant(const struct alt_instance *in, const char *filter, const char *instance)
{
	return (!filter || !strcmp(in->filter->name, filter)) && (!instance || !strcmp(in->name, instance));
}

static struct alt_instance *instance_find_locked(struct alt_volume *v, const char *filter, const char *instance)
{
	for (struct alt_instance *in = v->sv->top; in; in = in->below)
		if (atomic_load(&in->state) == INSTANCE_ATTACHED && is_meant(in, filter, instance))
			return in;
	return NULL;
}

/* Somebody else is at it. One whose setup declined was never there. */
static const struct alt_instance *leaving_find_locked(const struct stack_volume *sv, const char *filter, const char *instance)
{
	const struct alt_instance *const lists[] = { sv->top, sv->going };

	for (int i = 0; i < 2; i++)
		for (const struct alt_instance *in = lists[i]; in; in = in->below)
			if (atomic_load(&in->state) > INSTANCE_ATTACHED && is_meant(in, filter, instance))
				return in;
	return NULL;
}

/* It stays. As soon as others may detach it, it may be gone. */
static int refuse_locked(struct alt_instance *in, int r, struct alt_error *err)
{
	if (r == -ENOMEM)
		alt_error_set(err, r, "no memory to detach filter '%s'", in->filter->name);
	else
		r = alt_error_status(err, STATUS_FLT_DO_NOT_DETACH, "filter '%s' does not let go of '%s' at this time",
				     in->filter->name, in->volume->name);
	atomic_store(&in->state, INSTANCE_ATTACHED);
	pthread_cond_broadcast(&in->volume->sv->changed);
	return r;
}

/* A person may try again; for who ends a filter or a volume there is no going back, and memory is waited for. */
static int swap_without_locked(struct alt_instance *in, uint32_t reason)
{
	struct stack_volume *sv = in->volume->sv;
	int r;

	atomic_store(&in->state, INSTANCE_TEARDOWN);
	while ((r = stack_swap_locked(in->volume)) < 0 && reason != ALT_TEARDOWN_MANUAL) {
		pthread_mutex_unlock(&sv->lock);
		poll(NULL, 0, 1);
		pthread_mutex_lock(&sv->lock);
	}
	return r;
}

static const char *filter_near_locked(const struct alt_volume *v, const char *name)
{
	unsigned best = ALT_NEAR_NONE;
	const char *near = NULL;

	for (const struct alt_instance *in = v->sv->top; in; in = in->below)
		if (instance_serves(in) && alt_near_better(name, in->filter->name, &best))
			near = in->filter->name;
	return near;
}

/* Who says "detach NAME" may mean the instance. */
static int not_found_locked(struct alt_volume *v, const char *filter, const char *instance, struct alt_error *err)
{
	const struct alt_instance *named = filter ? instance_find_locked(v, NULL, filter) : NULL;
	const struct alt_instance *leaving = leaving_find_locked(v->sv, filter, instance);
	bool attached = instance_find_locked(v, filter, NULL);
	const char *near = filter && !attached ? filter_near_locked(v, filter) : NULL;

	if (leaving)
		return alt_error_status(err, STATUS_FLT_DELETING_OBJECT, "instance '%s' of filter '%s' is being detached from '%s' already",
					leaving->name, leaving->filter->name, v->name);
	if (attached && instance)
		return alt_error_status(err, STATUS_FLT_INSTANCE_NOT_FOUND, "no instance '%s' of filter '%s' on '%s'; see 'altitude instances'",
					instance, filter ? filter : "(any)", v->name);
	if (named)
		return alt_error_status(err, STATUS_FLT_INSTANCE_NOT_FOUND,
					"'%s' on '%s' is an instance of filter '%s': name the filter, the volume, then the instance",
					filter, v->name, named->filter->name);
	if (near)
		return alt_error_status(err, STATUS_FLT_INSTANCE_NOT_FOUND,
					"filter '%s' is not attached to '%s'; do you mean '%s'?", filter, v->name, near);
	return alt_error_status(err, STATUS_FLT_INSTANCE_NOT_FOUND, "filter '%s' is not attached to '%s'; see 'altitude instances'",
				filter ? filter : "(any)", v->name);
}

int stack_detach(struct alt_volume *v, const char *filter, const char *instance, uint32_t reason, struct alt_error *err)
{
	struct alt_instance *in;
	int was = INSTANCE_ATTACHED, refused = 0, r;

	pthread_mutex_lock(&v->sv->lock);
	in = instance_find_locked(v, filter, instance);
	if (!in || !atomic_compare_exchange_strong(&in->state, &was, INSTANCE_ASKED)) {
		r = not_found_locked(v, filter, instance, err);
		pthread_mutex_unlock(&v->sv->lock);
		return r;
	}
	pthread_mutex_unlock(&v->sv->lock);

	/* The state keeps other detaches off; until the swap, operations still come. */
	if (reason == ALT_TEARDOWN_MANUAL) {
		if (in->filter->reg->flags & ALT_FILTER_NO_DETACH)
			refused = -EBUSY;
		else if (in->filter->reg->query_teardown)
			refused = in->filter->reg->query_teardown(in);
	}
	pthread_mutex_lock(&v->sv->lock);
	r = refused ? -EBUSY : swap_without_locked(in, reason);
	if (r)
		r = refuse_locked(in, r, err);
	else
		unplace_locked(v->sv, in);
	pthread_mutex_unlock(&v->sv->lock);
	if (!r)
		teardown(in, reason);
	return r;
}

static bool any_locked(const struct alt_instance *list, const struct alt_filter *filter)
{
	while (list && filter && list->filter != filter)
		list = list->below;
	return list;
}

void stack_detach_all(struct alt_volume *v, const struct alt_filter *filter, uint32_t reason)
{
	const char *name = filter ? filter->name : NULL;
	struct stack_volume *sv = v->sv;
	bool some;

	do {
		while (!stack_detach(v, name, NULL, reason, NULL))
			;
		pthread_mutex_lock(&sv->lock);
		some = any_locked(sv->top, filter) || any_locked(sv->going, filter);
		if (some && !instance_find_locked(v, name, NULL))
			pthread_cond_wait(&sv->changed, &sv->lock);
		pthread_mutex_unlock(&sv->lock);
	} while (some);
}

void stack_each(struct alt_volume *v, void (*fn)(struct alt_instance *in, void *arg), void *arg)
{
	pthread_mutex_lock(&v->sv->lock);
	for (struct alt_instance *in = v->sv->top; in; in = in->below)
		if (instance_serves(in))
			fn(in, arg);
	pthread_mutex_unlock(&v->sv->lock);
}

void stack_volume_fini(struct alt_volume *v)
{
	if (!v->sv)
		return;
	stack_detach_all(v, NULL, ALT_TEARDOWN_DISMOUNT);
	op_cancel_all(v); /* a release that nobody waits for may be under way */
	stack_free(atomic_load(&v->stack));
	pthread_mutex_destroy(&v->sv->lock);
	pthread_cond_destroy(&v->sv->changed);
	free(v->sv);
	v->sv = NULL;
}

const char *alt_instance_name(const struct alt_instance *in)
{
	return in->name;
}

const char *alt_instance_altitude(const struct alt_instance *in)
{
	return in->altitude;
}

struct alt_volume *alt_instance_volume(const struct alt_instance *in)
{
	return in->volume;
}

void *alt_instance_data(const struct alt_instance *in)
{
	return in->data;
}

void alt_instance_set_data(struct alt_instance *in, void *data)
{
	in->data = data;
}

const char *alt_instance_option(const struct alt_instance *in, const char *name)
{
	for (const struct io_option *o = in->options; o && o->key; o++)
		if (!strcmp(o->key, name))
			return o->value ? o->value : "";
	return NULL;
}

int alt_instance_option_u64(const struct alt_instance *in, const char *name, uint64_t fallback, uint64_t *ret,
			    struct alt_error *err)
{
	const char *s = alt_instance_option(in, name);
	unsigned long long n;
	char *end;

	if (!s) {
		*ret = fallback;
		return 0;
	}
	errno = 0;
	n = strtoull(s, &end, 10);
	if (errno || end == s || *end || *s == '-')
		return alt_error_set(err, -EINVAL, "option '%s=%s' of instance '%s' is not a number", name, s, in->name);
	*ret = n;
	return 0;
}
