/* SPDX-License-Identifier: MIT */
/* The registry: a directory of manifests, and the order in which they start. */
#include "module/module.h"
#include <altitude/ntstatus.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Load order groups, bottom of the stack first: the lower starts first, so that what is above finds it.
 * Module stands beside stack on its floor and must not ask it; control's test_groups.c compares the two lists.
 */
static const char *const groups[] = {
	"FSFilter Infrastructure", "FSFilter System", "FSFilter Bottom", "FSFilter Copy Protection",
	"FSFilter Security Enhancer", "FSFilter Open File", "FSFilter Physical Quota Management",
	"FSFilter Virtualization", "FSFilter Encryption", "FSFilter Compression", "FSFilter Imaging", "FSFilter HSM",
	"FSFilter Cluster File System", "FSFilter System Recovery", "FSFilter Quota Management",
	"FSFilter Content Screener", "FSFilter Continuous Backup", "FSFilter Replication", "FSFilter Anti-Virus",
	"FSFilter Undelete", "FSFilter Activity Monitor", "FSFilter Security Monitor", "FSFilter Top", "Filter",
};
#ifndef ALTITUDE_REGISTRY_DIR
#define ALTITUDE_REGISTRY_DIR "/etc/altitude/registry.d"
#endif
#define GROUPS (sizeof(groups) / sizeof(*groups))

static size_t group_rank(const struct manifest *m)
{
	if (m->start > START_SYSTEM)
		return 0;
	for (size_t i = 0; m->group && i < GROUPS; i++)
		if (!strcmp(m->group, groups[i]))
			return i;
	return GROUPS;
}

static int start_order(const void *pa, const void *pb)
{
	const struct manifest *a = *(struct manifest *const *)pa, *b = *(struct manifest *const *)pb;

	if (a->start != b->start)
		return a->start < b->start ? -1 : 1;
	if (group_rank(a) != group_rank(b))
		return group_rank(a) < group_rank(b) ? -1 : 1;
	if (a->order != b->order)
		return a->order < b->order ? -1 : 1;
	return strcmp(a->name, b->name);
}

static int wanted(const struct dirent *e)
{
	size_t len = strlen(e->d_name);

	return e->d_name[0] != '.' && len > 4 && !strcmp(e->d_name + len - 4, ".ini");
}

static int read_one(const char *dir, const char *file, struct manifest **ret, struct alt_error *err)
{
	char *path;
	int r;

	if (asprintf(&path, "%s/%s", dir, file) < 0)
		return -ENOMEM;
	r = manifest_parse(path, ret, err);
	free(path);
	return r;
}

static int read_each(const char *dir, struct dirent **names, int n, struct manifest **list, size_t *count,
		     struct alt_error *err)
{
	for (int i = 0; i < n; i++) {
		int r = read_one(dir, names[i]->d_name, &list[*count], err);

		if (r < 0)
			return r;
		++*count;
		for (int j = 0; j < i; j++)
			if (!strcmp(list[i]->name, list[j]->name) && !strcmp(list[i]->kind, list[j]->kind))
				return alt_error_status(err, STATUS_INVALID_PARAMETER, "%s/%s: %s '%s' has another manifest, %s: remove one",
							dir, names[i]->d_name, list[i]->kind, list[i]->name, names[j]->d_name);
	}
	return 0;
}

int registry_read(const char *dir, struct manifest ***ret, size_t *count, struct alt_error *err)
{
	struct dirent **names = NULL;
	struct manifest **list;
	size_t have = 0;
	int n = scandir(dir, &names, wanted, alphasort), r;

	if (n < 0 && errno != ENOENT)
		return alt_error_set(err, -errno, "cannot read the registry '%s': %s", dir, strerror(errno));
	n = n < 0 ? 0 : n;                       /* no registry is an empty one */
	list = calloc((size_t)n + 1, sizeof(*list));
	r = list ? read_each(dir, names, n, list, &have, err) : -ENOMEM;
	for (int i = 0; i < n; i++)
		free(names[i]);
	free(names);
	if (r < 0) {
		for (size_t i = 0; i < have; i++)
			manifest_free(list[i]);
		free(list);
		return r;
	}
	qsort(list, have, sizeof(*list), start_order);
	*ret = list;
	*count = have;
	return 0;
}

const char *registry_directory(void)
{
	const char *dir = secure_getenv("ALTITUDE_REGISTRY");

	return dir ? dir : ALTITUDE_REGISTRY_DIR;
}

int manifest_find(const char *name, enum alt_module_kind kind, struct manifest **ret, struct alt_error *err)
{
	static const char *const kinds[] = { "?", "filter", "filesystem", "blockdev" };
	struct manifest **list;
	size_t count;
	int r = registry_read(registry_directory(), &list, &count, err);

	*ret = NULL;
	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++) {
		if (!*ret && !strcmp(list[i]->name, name) && !strcmp(list[i]->kind, kinds[kind]))
			*ret = list[i];
		else
			manifest_free(list[i]);
	}
	free(list);
	return 0;
}
