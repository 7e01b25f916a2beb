/* SPDX-License-Identifier: MIT */
#include "mount/holders.h"

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool link_under(const char *path, const char *target)
{
	char to[PATH_MAX];
	size_t len = strlen(target);
	ssize_t n = readlink(path, to, sizeof to - 1);

	if (n < 0)
		return false;
	to[n] = 0;
	return !strncmp(to, target, len) && (!to[len] || to[len] == '/' || !strcmp(to + len, " (deleted)"));
}

static bool any_descriptor(const char *pid, const char *target)
{
	char path[PATH_MAX];
	struct dirent *e;
	bool found = false;
	DIR *d;

	snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
	d = opendir(path);
	while (d && !found && (e = readdir(d))) {
		snprintf(path, sizeof path, "/proc/%.20s/fd/%.20s", pid, e->d_name);
		found = link_under(path, target);
	}
	if (d)
		closedir(d);
	return found;
}

static bool any_mapping(const char *pid, const char *target)
{
	char path[64], line[PATH_MAX + 128];
	size_t len = strlen(target);
	bool found = false;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%.20s/maps", pid);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof line, f)) {
		const char *at = strchr(line, '/');

		found = at && !strncmp(at, target, len) && at[len] == '/';
	}
	if (f)
		fclose(f);
	return found;
}

static bool holds(const char *pid, const char *target)
{
	static const char *const links[] = { "cwd", "root", "exe" };
	char path[64];

	for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
		snprintf(path, sizeof path, "/proc/%.20s/%s", pid, links[i]);
		if (link_under(path, target))
			return true;
	}
	return any_descriptor(pid, target) || any_mapping(pid, target);
}

static void name_add(const char *pid, char *buf, size_t size)
{
	char path[64], comm[64] = "?";
	size_t at = strlen(buf);
	FILE *f;

	snprintf(path, sizeof path, "/proc/%.20s/comm", pid);
	f = fopen(path, "re");
	if (f) {
		if (fgets(comm, sizeof comm, f))
			comm[strcspn(comm, "\n")] = 0;
		fclose(f);
	}
	snprintf(buf + at, size - at, "%s%s (pid %s)", at ? ", " : "", comm, pid);
}

int mount_holders(const char *target, char *buf, size_t size)
{
	struct dirent *e;
	int count = 0;
	DIR *d = opendir("/proc");

	*buf = 0;
	while (d && (e = readdir(d))) {
		if (!isdigit((unsigned char)*e->d_name) || !holds(e->d_name, target))
			continue;
		if (atoi(e->d_name) == getpid())
			continue; /* by what it inherited: it ends by itself */
		if (count++ < 8)
			name_add(e->d_name, buf, size);
	}
	if (d)
		closedir(d);
	return count;
}
