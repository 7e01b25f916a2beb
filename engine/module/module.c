/* SPDX-License-Identifier: MIT */
/*
 * Modules in memory.
 *
 *   absent -> loading -> registered <-> filtering -> unloading -> absent
 *                                                        |-> zombie    (dlclose did not remove the code)
 *
 * A record leaves the list only when the code has left memory, so a load can say what is in its way. Who releases a module last
 * may stand in its code, so the code is not closed there, but by the next load.
 */
#include "module/module.h"
#include "module/elf.h"
#include "module/locate.h"
#include <altitude/filesystem.h>
#include <altitude/filter.h>
#include <altitude/ntstatus.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct holder {
	struct holder *next;
	uint32_t count;
	char who[];
};

struct module {
	struct module *next;                     /* [lock] */
	char *name, *path;
	enum alt_module_kind kind;
	enum module_state state;                 /* [lock] */
	bool left;                               /* [lock] unloading or zombie, and nobody is at it */
	bool pinned;                             /* [lock] held by somebody for whose name there was no memory: for ever */
	void *handle;
	const void *base;                        /* where it lies in memory */
	const struct alt_module *descriptor;
	struct holder *holders;                  /* [lock] */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct module *modules;                   /* [lock] */

const char *const module_kind_names[] = { "?", "filter", "file system", "block device" };

const char *module_state_name(enum module_state s)
{
	static const char *const names[] = { "absent", "loading", "registered", "filtering", "unloading", "zombie" };

	return (size_t)s < sizeof(names) / sizeof(*names) ? names[s] : "?";
}

const struct alt_module *module_descriptor(const struct module *m)
{
	return m->descriptor;
}

const char *module_name(const struct module *m)
{
	return m->name;
}

enum module_state module_state(const struct module *m)
{
	enum module_state s;

	pthread_mutex_lock(&lock);
	s = m->state;
	pthread_mutex_unlock(&lock);
	return s;
}

void module_set_state(struct module *m, enum module_state s)
{
	pthread_mutex_lock(&lock);
	m->state = s;
	pthread_mutex_unlock(&lock);
}

static void module_free(struct module *m)
{
	if (!m)
		return;
	while (m->holders) {
		struct holder *h = m->holders;

		m->holders = h->next;
		free(h);
	}
	free(m->name);
	free(m->path);
	free(m);
}

static struct module *find_locked(const char *name, enum alt_module_kind kind)
{
	for (struct module *m = modules; m; m = m->next)
		if (m->kind == kind && !strcmp(m->name, name))
			return m;
	return NULL;
}

struct module *module_find(const char *name, enum alt_module_kind kind)
{
	struct module *m;

	pthread_mutex_lock(&lock);
	m = find_locked(name, kind);
	if (m && m->state != MODULE_REGISTERED && m->state != MODULE_FILTERING)
		m = NULL;
	pthread_mutex_unlock(&lock);
	return m;
}

static struct holder **holder_at(struct module *m, const char *who)
{
	struct holder **h = &m->holders;

	while (*h && strcmp((*h)->who, who))
		h = &(*h)->next;
	return h;
}

static const void *base_of(const void *address)
{
	Dl_info info;

	return address && dladdr(address, &info) ? info.dli_fbase : NULL;
}

struct module *module_of(const void *address)
{
	const void *base = base_of(address);
	struct module *m;

	pthread_mutex_lock(&lock);
	for (m = modules; m && !(m->base && m->base == base); m = m->next)
		;
	pthread_mutex_unlock(&lock);
	return m;
}

static bool held_locked(const struct module *m)
{
	return m->holders || m->pinned;
}

void module_hold(struct module *m, const char *who)
{
	struct holder **at;

	if (!m)
		return;
	pthread_mutex_lock(&lock);
	at = holder_at(m, who);
	if (!*at) {
		*at = calloc(1, sizeof(**at) + strlen(who) + 1);
		if (*at)
			memcpy((*at)->who, who, strlen(who) + 1);
	}
	if (*at)
		(*at)->count++;
	else
		m->pinned = true;                /* a lost hold would unmap running code */
	pthread_mutex_unlock(&lock);
}

void module_release(struct module *m, const char *who)
{
	struct holder **at, *h;

	if (!m)
		return;
	pthread_mutex_lock(&lock);
	at = holder_at(m, who);
	h = *at;
	if (h && --h->count == 0) {
		*at = h->next;
		free(h);
	}
	pthread_mutex_unlock(&lock);
}

/*
 * The file must be root's or ours and writable by nobody else: it becomes code of this process. Its directory is not
 * judged: the descriptor, not the name, is what is loaded.
 */
static int check_file(int fd, const char *path, struct alt_error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return alt_error_set(err, -errno, "cannot look at module '%s': %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return alt_error_status(err, STATUS_INVALID_PARAMETER, "module '%s' is not a regular file", path);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return alt_error_status(err, STATUS_ACCESS_DENIED,
					"module '%s' belongs to user %u, who is neither root nor you: chown it", path,
					st.st_uid);
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return alt_error_status(err, STATUS_ACCESS_DENIED,
					"module '%s' is writable by others (mode %04o): chmod go-w '%s'", path,
					st.st_mode & 07777, path);
	return 0;
}

/* Is the code of @path in memory under any handle? */
static bool still_mapped(const char *path)
{
	void *h = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);

	if (h)
		dlclose(h);
	return h != NULL;
}

static int kind_wrong(const struct module *m, uint32_t kind, struct alt_error *err)
{
	return alt_error_status(err, STATUS_INVALID_PARAMETER, "'%s' is a %s, not a %s", m->name,
				kind < 4 ? module_kind_names[kind] : "?", module_kind_names[m->kind]);
}

/* The tables grow at their end: one of another size was made by other headers, and would be read past its own. */
static int check_registration(const struct module *m, struct alt_error *err)
{
	const struct alt_filter_registration *filter = m->descriptor->registration;
	const struct alt_filesystem_registration *fs = m->descriptor->registration;
	size_t want = m->kind == ALT_MODULE_FILTER ? sizeof(*filter) : m->kind == ALT_MODULE_FILESYSTEM ? sizeof(*fs) : 0;

	if (!want)
		return 0;
	if (filter->size != want)                /* the first member of both */
		return alt_error_status(err, STATUS_INVALID_PARAMETER,
					"module '%s' was made with other headers: its table has %zu bytes, this program's %zu; build it again",
					m->path, filter->size, want);
	if (m->kind == ALT_MODULE_FILTER ? !filter->name : !fs->name || !fs->mount)
		return alt_error_status(err, STATUS_INVALID_PARAMETER, "module '%s' registers no %s", m->path,
					m->kind == ALT_MODULE_FILESYSTEM && fs->name ? "mount function" : "name");
	return 0;
}

static int check_descriptor(const struct module *m, struct alt_error *err)
{
	const struct alt_module *d = m->descriptor;

	if (!d || d->magic != ALT_MODULE_MAGIC)
		return alt_error_status(err, STATUS_INVALID_PARAMETER,
					"'%s' is no module: it exports no \"" ALT_MODULE_SYMBOL "\" descriptor", m->path);
	if (d->abi != ALT_ABI)
		return alt_error_status(err, STATUS_INVALID_PARAMETER,
					"module '%s' has interface version %u, this program %u: build it again", m->path,
					d->abi, ALT_ABI);
	if (d->kind != (uint32_t)m->kind)
		return kind_wrong(m, d->kind, err);
	if (!d->registration)
		return alt_error_status(err, STATUS_INVALID_PARAMETER, "module '%s' registers nothing", m->path);
	return check_registration(m, err);
}

/* The pinned descriptor is compared with the name once more, so a swap between check and load is seen. */
static int same_file(int fd, const char *path, struct alt_error *err)
{
	struct stat a, b;

	if (fstat(fd, &a) < 0 || stat(path, &b) < 0)
		return alt_error_set(err, -errno, "cannot look at module '%s': %s", path, strerror(errno));
	if (a.st_dev == b.st_dev && a.st_ino == b.st_ino)
		return 0;
	return alt_error_status(err, STATUS_ACCESS_DENIED, "module '%s' was exchanged while it was loaded", path);
}

/* The same file in use as another kind: somebody takes the file system for a filter. 0 when it is not. A path is final once loaded. */
static uint32_t kind_in_use(const struct module *m)
{
	uint32_t kind = 0;

	pthread_mutex_lock(&lock);
	for (const struct module *at = modules; at; at = at->next)
		if (at->kind != m->kind && at->state > MODULE_LOADING && !strcmp(at->path, m->path))
			kind = at->kind;
	pthread_mutex_unlock(&lock);
	return kind;
}

static int open_code(struct module *m, struct alt_error *err)
{
	int fd = open(m->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), r;

	if (fd < 0)
		return alt_error_set(err, -errno, "cannot open module '%s': %s", m->path, strerror(errno));
	r = check_file(fd, m->path, err);
	if (!r)
		r = elf_check(fd, m->path, err);
	if (!r)
		r = same_file(fd, m->path, err);
	if (!r && kind_in_use(m))
		r = kind_wrong(m, kind_in_use(m), err);
	if (!r && still_mapped(m->path))
		r = alt_error_status(err, STATUS_DRIVER_FAILED_PRIOR_UNLOAD,
				     "module '%s': an earlier copy of '%s' is still in memory", m->name, m->path);
	if (!r) {
		m->handle = dlopen(m->path, RTLD_NOW | RTLD_LOCAL);
		if (!m->handle)
			r = alt_error_status(err, STATUS_INVALID_PARAMETER, "cannot load module: %s", dlerror());
	}
	close(fd);
	if (r)
		return r;
	m->descriptor = dlsym(m->handle, ALT_MODULE_SYMBOL);
	r = check_descriptor(m, err);
	if (r)
		dlclose(m->handle);
	else
		m->base = base_of(m->descriptor);
	return r;
}

/* Who is in the way, in words. */
static void holders_text(const struct module *m, char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = '\0';
	for (const struct holder *h = m->holders; h && n < size; h = h->next)
		n += (size_t)snprintf(buf + n, size - n, "%s%s", n ? ", " : "", h->who);
	if (!n)
		snprintf(buf, size, "%s", m->state == MODULE_ZOMBIE ? "code that did not leave memory" :
			 m->pinned ? "somebody for whose name there was no memory" : "nobody named");
}

/* Reserve the name, so that two loads of it cannot meet. */
static int enter_locked(struct module *m, struct alt_error *err)
{
	struct module *old = find_locked(m->name, m->kind);
	char who[256];

	if (old && (old->state == MODULE_UNLOADING || old->state == MODULE_ZOMBIE)) {
		holders_text(old, who, sizeof(who));
		return alt_error_status(err, STATUS_DRIVER_FAILED_PRIOR_UNLOAD,
					"an old '%s' is still in memory (%s), held by: %s", m->name,
					module_state_name(old->state), who);
	}
	if (old)
		return alt_error_status(err, STATUS_IMAGE_ALREADY_LOADED, "%s '%s' is already loaded",
					module_kind_names[m->kind], m->name);
	m->state = MODULE_LOADING;
	m->next = modules;
	modules = m;
	return 0;
}

static void leave(struct module *m)
{
	pthread_mutex_lock(&lock);
	for (struct module **at = &modules; *at; at = &(*at)->next) {
		if (*at == m) {
			*at = m->next;
			break;
		}
	}
	pthread_mutex_unlock(&lock);
}

/* "/some/where/rot13.so" is called "rot13". */
static char *short_name(const char *name)
{
	const char *base = strrchr(name, '/');
	size_t len;

	base = base ? base + 1 : name;
	len = strlen(base);
	if (base != name && len > 3 && !strcmp(base + len - 3, ".so"))
		len -= 3;
	return strndup(base, len);
}

static int code_close(struct module *m, struct alt_error *err)
{
	if (m->handle)
		dlclose(m->handle);
	m->handle = NULL;
	m->descriptor = NULL;
	m->base = NULL;
	if (still_mapped(m->path)) {
		pthread_mutex_lock(&lock);
		m->state = MODULE_ZOMBIE;
		m->left = true;
		pthread_mutex_unlock(&lock);
		return alt_error_set(err, -EBUSY, "module '%s' did not leave memory: a thread or a library of its holds it",
				     m->name);
	}
	leave(m);
	module_free(m);
	return 0;
}

/* What an earlier unload had to leave, and nobody holds any more. */
static void unload_finish(const char *name, enum alt_module_kind kind)
{
	struct module *m;

	pthread_mutex_lock(&lock);
	m = find_locked(name, kind);
	if (m && m->left && !held_locked(m))
		m->left = false;                 /* it is ours alone */
	else
		m = NULL;
	pthread_mutex_unlock(&lock);
	if (m)
		code_close(m, NULL);
}

bool module_leaving(const char *name, enum alt_module_kind kind, char *who, size_t size)
{
	char *own = short_name(name);
	struct module *m = NULL;

	if (!own)
		return false;
	unload_finish(own, kind);
	pthread_mutex_lock(&lock);
	m = find_locked(own, kind);
	if (m && m->state != MODULE_UNLOADING)
		m = NULL;
	if (m)
		holders_text(m, who, size);
	pthread_mutex_unlock(&lock);
	free(own);
	return m;
}

int module_load(const char *name, enum alt_module_kind kind, struct module **ret, struct alt_error *err)
{
	struct module *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	m->kind = kind;
	m->name = short_name(name);
	if (m->name)
		unload_finish(m->name, kind);
	r = m->name ? 0 : -ENOMEM;
	if (!r && !*m->name)
		r = alt_error_status(err, STATUS_INVALID_PARAMETER, "a %s has a name", module_kind_names[kind]);
	if (!r) {
		pthread_mutex_lock(&lock);
		r = enter_locked(m, err);
		pthread_mutex_unlock(&lock);
	}
	if (r) {
		module_free(m);
		return r;
	}
	r = module_locate(name, kind, &m->path, err);
	if (!r)
		r = open_code(m, err);
	if (r) {
		leave(m);
		module_free(m);
		return r;
	}
	module_set_state(m, MODULE_REGISTERED);
	*ret = m;
	return 0;
}

int module_unload(struct module *m, struct alt_error *err)
{
	char who[256];
	bool held;

	pthread_mutex_lock(&lock);
	m->state = MODULE_UNLOADING;
	held = m->left = held_locked(m);
	holders_text(m, who, sizeof(who));
	pthread_mutex_unlock(&lock);
	if (held)
		return alt_error_set(err, -EBUSY, "module '%s' stays in memory, and none of its name is loaded, as long as it is "
				     "held by: %s", m->name, who);
	return code_close(m, err);
}
