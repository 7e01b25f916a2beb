/* SPDX-License-Identifier: MIT */
/* Which file is the module of a name: its manifest's, or NAME.so in the places for modules. */
#include "module/locate.h"
#include <altitude/kit/near.h>
#include <altitude/ntstatus.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef ALTITUDE_MODULE_DIR
#define ALTITUDE_MODULE_DIR "/usr/local/lib/altitude"
#endif

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

/* NAME.so in each directory of a colon separated list. */
static char *search(const char *dirs, const char *file)
{
	for (const char *p = dirs; *p;) {
		int len = (int)strcspn(p, ":");
		char *path;

		if (len && asprintf(&path, "%.*s/%s", len, p, file) >= 0) {
			if (exists(path))
				return path;
			free(path);
		}
		p += len;
		p += *p == ':';
	}
	return NULL;
}

static char *search_all(const char *file)
{
	const char *dirs = secure_getenv("ALTITUDE_MODULE_PATH");
	char *path = dirs ? search(dirs, file) : NULL;

	return path ? path : search(ALTITUDE_MODULE_DIR, file);
}

static void near_in(const char *dir, const char *name, unsigned *best, char *ret, size_t size)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		size_t len = strlen(e->d_name);
		char word[NAME_MAX + 1];

		if (len < 4 || strcmp(e->d_name + len - 3, ".so"))
			continue;
		snprintf(word, sizeof(word), "%.*s", (int)len - 3, e->d_name);
		if (alt_near_better(name, word, best))
			snprintf(ret, size, "%s", word);
	}
	if (d)
		closedir(d);
}

/* The module whose name is nearest to @name, "" for none. Which kind it is would be known when it is loaded. */
static void near_all(const char *name, char *ret, size_t size)
{
	const char *dirs = secure_getenv("ALTITUDE_MODULE_PATH");
	unsigned best = ALT_NEAR_NONE;
	char dir[PATH_MAX];

	*ret = '\0';
	for (size_t len; dirs && *dirs; dirs += len + (dirs[len] == ':')) {
		len = strcspn(dirs, ":");
		if (len && len < sizeof(dir)) {
			snprintf(dir, sizeof(dir), "%.*s", (int)len, dirs);
			near_in(dir, name, &best, ret, size);
		}
	}
	near_in(ALTITUDE_MODULE_DIR, name, &best, ret, size);
}

/* The file a manifest gives for @name: NULL without one. -errno only for a broken registry. */
static int registered_file(const char *name, enum alt_module_kind kind, char **ret, struct alt_error *err)
{
	struct manifest *m;
	int r = manifest_find(name, kind, &m, err);

	if (r < 0 || !m)
		return r;
	if (m->start == START_DISABLED)
		r = alt_error_set(err, -EPERM, "module '%s' is disabled by its manifest in '%s'", name, registry_directory());
	else if (m->module)
		*ret = m->module[0] == '/' || strchr(m->module, '.') ? strdup(m->module) : NULL;
	if (!r && m->module && !*ret && asprintf(ret, "%s.so", m->module) < 0)
		r = -ENOMEM;
	manifest_free(m);
	return r;
}

int module_locate(const char *name, enum alt_module_kind kind, char **ret, struct alt_error *err)
{
	char *file = NULL, near[64];
	int r;

	if (strchr(name, '/')) {
		*ret = realpath(name, NULL);
		return *ret ? 0 : alt_error_status(err, STATUS_OBJECT_NAME_NOT_FOUND, "no module '%s': %s", name,
						   strerror(errno));
	}
	r = registered_file(name, kind, &file, err);
	if (r < 0)
		return r;
	if (!file && asprintf(&file, "%s.so", name) < 0)
		return -ENOMEM;
	*ret = *file == '/' ? realpath(file, NULL) : search_all(file);
	if (!*ret)
		near_all(name, near, sizeof(near));
	if (!*ret && *near)
		r = alt_error_status(err, STATUS_OBJECT_NAME_NOT_FOUND,
				     "unknown %s '%s': no %s in $ALTITUDE_MODULE_PATH or %s; do you mean '%s'?",
				     module_kind_names[kind], name, file, ALTITUDE_MODULE_DIR, near);
	else if (!*ret)
		r = alt_error_status(err, STATUS_OBJECT_NAME_NOT_FOUND,
				     "unknown %s '%s': no %s in $ALTITUDE_MODULE_PATH or %s; check the name, or give a path",
				     module_kind_names[kind], name, file, ALTITUDE_MODULE_DIR);
	free(file);
	return r;
}
