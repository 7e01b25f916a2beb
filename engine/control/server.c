/* SPDX-License-Identifier: MIT */
#include "control/server.h"
#include "module/module.h"
#include <altitude/kit/near.h>
#include <altitude/ntstatus.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* With change or lock. By name, or by the path it was loaded from: "/some/where/rot13.so" is called "rot13". */
static struct alt_filter *filter_find_locked(struct server *s, const char *name)
{
	const char *base = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
	size_t len = base == name || !strstr(base, ".so") ? strlen(base) : (size_t)(strstr(base, ".so") - base);

	for (struct alt_filter *f = s->filters; f; f = f->next)
		if (!strncmp(f->name, base, len) && !f->name[len])
			return f;
	return NULL;
}

static int load_locked(struct server *s, const char *name, struct alt_filter **ret, struct alt_error *err)
{
	struct alt_filter *f;
	struct module *m;
	int r;

	r = module_load(name, ALT_MODULE_FILTER, &m, err);
	if (r < 0)
		return r;
	f = calloc(1, sizeof *f);
	if (f) {
		f->reg = module_descriptor(m)->registration;
		f->name = strdup(module_name(m));
	}
	r = f && f->name ? 0 : -ENOMEM;
	if (!r && f->reg->load) {
		r = f->reg->load(err);
		if (r < 0)
			alt_error_status(err, STATUS_FAILED_DRIVER_ENTRY, "filter '%s' would not load: %s", name, strerror(-r));
	}
	if (r < 0) {
		if (f)
			free(f->name);
		free(f);
		module_unload(m, NULL);
		return alt_error_set(err, r, "no memory to load filter '%s'", name);
	}
	module_set_state(m, MODULE_FILTERING);
	pthread_mutex_lock(&s->lock);
	f->next = s->filters;
	s->filters = f;
	pthread_mutex_unlock(&s->lock);
	*ret = f;
	return 0;
}

int server_load(struct server *s, const char *name, struct alt_error *err)
{
	struct alt_filter *f;
	int r;

	pthread_mutex_lock(&s->change);
	r = load_locked(s, name, &f, err);
	pthread_mutex_unlock(&s->change);
	return r;
}

static int unload_locked(struct server *s, struct alt_filter *f, bool mandatory, struct alt_error *err)
{
	struct module *m = module_find(f->name, ALT_MODULE_FILTER);
	uint32_t reason = mandatory ? ALT_TEARDOWN_MANDATORY_UNLOAD : ALT_TEARDOWN_FILTER_UNLOAD;
	struct alt_filter **at;

	if (mandatory && (f->reg->flags & ALT_FILTER_NO_MANDATORY_UNLOAD))
		return alt_error_status(err, STATUS_FLT_DO_NOT_DETACH, "filter '%s' cannot be stopped (it says so in its registration)", f->name);
	if (f->reg->unload && f->reg->unload(mandatory ? ALT_UNLOAD_MANDATORY : 0) && !mandatory)
		return alt_error_status(err, STATUS_FLT_DO_NOT_DETACH,
					"filter '%s' refuses to unload at this time; 'unload --mandatory' does not ask", f->name);
	if (m)
		module_set_state(m, MODULE_UNLOADING);
	stack_detach_all(s->volume, f, reason);
	pthread_mutex_lock(&s->lock);
	for (at = &s->filters; *at != f; at = &(*at)->next)
		;
	*at = f->next;
	pthread_mutex_unlock(&s->lock);
	free(f->name);
	free(f);
	return m ? module_unload(m, err) : 0;
}

/* Not one that is loaded; one may be meant that is. */
static int unloaded_locked(const struct server *s, const char *name, struct alt_error *err)
{
	unsigned best = ALT_NEAR_NONE;
	const char *near = NULL;
	char who[256];

	if (module_leaving(name, ALT_MODULE_FILTER, who, sizeof who))
		return alt_error_status(err, STATUS_FLT_DELETING_OBJECT, "filter '%s' is unloaded already; it stays in memory, held by: %s",
					name, who);
	for (const struct alt_filter *f = s->filters; f; f = f->next)
		if (alt_near_better(name, f->name, &best))
			near = f->name;
	if (near)
		return alt_error_status(err, STATUS_FLT_FILTER_NOT_FOUND, "no filter '%s' is loaded; do you mean '%s'?", name,
					near);
	return alt_error_status(err, STATUS_FLT_FILTER_NOT_FOUND, "no filter '%s' is loaded; see 'altitude filters'", name);
}

int server_unload(struct server *s, const char *name, bool mandatory, struct alt_error *err)
{
	struct alt_filter *f;
	int r;

	pthread_mutex_lock(&s->change);
	f = filter_find_locked(s, name);
	r = f ? unload_locked(s, f, mandatory, err) : unloaded_locked(s, name, err);
	pthread_mutex_unlock(&s->change);
	return r;
}

/* What the manifest says of an instance: its altitude, the default one's name, and whether a person may attach it. */
static int manifest_apply(const char *filter, const char **instance, const char **altitude, uint32_t setup_flags,
			  struct manifest **ret, struct alt_error *err)
{
	const char *want;
	int r = manifest_find(filter, ALT_MODULE_FILTER, ret, err);

	if (r < 0 || !*ret)
		return r;
	want = *instance ? *instance : (*ret)->default_instance;
	for (size_t i = 0; want && i < (*ret)->instance_count; i++) {
		const struct manifest_instance *in = &(*ret)->instances[i];

		if (strcmp(in->name, want))
			continue;
		if ((setup_flags & ALT_SETUP_MANUAL) && (in->flags & MANIFEST_NO_MANUAL))
			return alt_error_status(err, STATUS_FLT_DO_NOT_ATTACH,
						"instance '%s' of filter '%s' is not to be attached by hand (Flags= of its manifest)", want, filter);
		if (!*altitude) {
			*altitude = in->altitude;
			*instance = in->name;
		}
	}
	return 0;
}

struct taken { const char *name; bool found; };

static void taken_look(struct alt_instance *in, void *arg)
{
	struct taken *t = arg;

	t->found = t->found || !strcmp(in->name, t->name);
}

/* An instance nobody named is called as its filter; a second one, as its filter at its altitude. */
static int attach_locked(struct server *s, struct alt_filter *f, const char *instance, const char *altitude,
			 struct io_option *options, uint32_t setup_flags, struct alt_error *err)
{
	struct taken t = { f->name, false };
	char *name = NULL;
	int r;

	stack_each(s->volume, taken_look, &t);
	if (!instance && altitude && t.found && asprintf(&name, "%s@%s", f->name, altitude) < 0)
		name = NULL;
	r = stack_attach(s->volume, f, name ? name : instance, altitude, options, setup_flags, err);
	free(name);
	return r;
}

int server_attach(struct server *s, const char *filter, const char *instance, const char *altitude,
		  struct io_option *options, uint32_t setup_flags, struct alt_error *err)
{
	struct manifest *m = NULL;
	struct alt_filter *f;
	bool registered = !altitude;
	int r = manifest_apply(filter, &instance, &altitude, setup_flags, &m, err);

	pthread_mutex_lock(&s->change);
	f = filter_find_locked(s, filter);
	if (!r && !f)
		r = load_locked(s, filter, &f, err);
	if (!r)
		r = attach_locked(s, f, instance, altitude, options, setup_flags, err);
	else
		options_free(options);
	pthread_mutex_unlock(&s->change);
	/* Source: FltAttachVolume, and FltAttachVolumeAtAltitude for who names one. */
	if (registered && err->status == STATUS_FLT_INSTANCE_ALTITUDE_COLLISION)
		err->status = STATUS_OBJECT_NAME_COLLISION;
	manifest_free(m);
	return r;
}

uint32_t server_bypass(struct server *s, const char *filter)
{
	struct alt_filter *f;
	bool wants;

	pthread_mutex_lock(&s->lock);
	f = filter_find_locked(s, filter);
	wants = f && filter_wants_data(f->reg);
	pthread_mutex_unlock(&s->lock);
	return wants ? atomic_load(&s->volume->through_files) : 0;
}

void server_fini(struct server *s)
{
	session_free(s->session);
	if (s->volume)
		stack_volume_fini(s->volume);
	volume_free(s->volume);
	for (struct alt_filter *f = s->filters, *next; f; f = next) {
		struct module *m = module_find(f->name, ALT_MODULE_FILTER);

		next = f->next;
		if (f->reg->unload)
			f->reg->unload(ALT_UNLOAD_MANDATORY);
		free(f->name);
		free(f);
		if (m)
			module_unload(m, NULL);
	}
	if (s->module)
		module_unload(s->module, NULL);
	for (int i = 0; i < SERVER_POINTS_MAX; i++)
		free(s->points[i]);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->change);
}
