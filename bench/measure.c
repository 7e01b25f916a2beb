/* SPDX-License-Identifier: MIT */
/*
 * bench-rows: one step of one row.
 *
 *	bench-rows list                             the rows: name, unit, root or user, what it is
 *	bench-rows STEP ROW DIR [NAME=VALUE]...     prepare, measure or check
 *	bench-rows hog                              keep a CPU busy until the parent ends
 *
 * Names: data=DIR mib=N files=N folders=N least=SECONDS. Measure and check print one line of JSON.
 */
#include "bench.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static const char *const units[] = { [ROW_MIB] = "MiB/s", [ROW_OPS] = "op/s", [ROW_RUNS] = "ms" };

static int usage(void)
{
	fprintf(stderr, "usage: bench-rows list | {prepare|measure|check} ROW DIR [NAME=VALUE]... | hog\n");
	return 2;
}

static int list(void)
{
	for (const struct row *r = rows; r->name; r++)
		printf("%s\t%s\t%s\t%s\n", r->name, units[r->unit], r->needs_root ? "root" : "user", r->what);
	return 0;
}

static int hog(void)
{
	volatile unsigned long turns = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (getppid() != 1)
		for (int n = 0; n < 1000000; n++)
			turns++;
	return 0;
}

static bool set(struct bench *b, const char *arg)
{
	const char *value = strchr(arg, '=');

	if (!value++)
		return false;
	if (!strncmp(arg, "data=", 5))
		b->data = value;
	else if (!strncmp(arg, "mib=", 4))
		b->file_size = strtoul(value, NULL, 10) * MIB;
	else if (!strncmp(arg, "files=", 6))
		b->files = strtoul(value, NULL, 10);
	else if (!strncmp(arg, "folders=", 8))
		b->folders = strtoul(value, NULL, 10);
	else if (!strncmp(arg, "least=", 6))
		b->least = strtod(value, NULL);
	else
		return false;
	return b->file_size && b->files && b->folders;
}

static int step(const char *what, const struct row *r, struct bench *b)
{
	if (!strcmp(what, "prepare")) {
		if (r->prepare)
			r->prepare(b);
		make_clean(b);
	} else if (!strcmp(what, "measure")) {
		r->measure(b);
		printf("{\"seconds\": %.9f, \"work\": %.0f, \"seen\": \"%016llx\"}\n", b->seconds, b->work,
		       (unsigned long long)b->seen);
	} else if (!strcmp(what, "check")) {
		printf("{\"left\": \"%016llx\"}\n", (unsigned long long)(r->check ? r->check(b) : 0));
	} else {
		return usage();
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct bench b = { .data = "", .file_size = 64 * MIB, .files = 1000, .folders = 10, .least = 0.2 };
	const struct row *r = rows;

	if (argc == 2 && !strcmp(argv[1], "list"))
		return list();
	if (argc == 2 && !strcmp(argv[1], "hog"))
		return hog();
	if (argc < 4)
		return usage();
	while (r->name && strcmp(r->name, argv[2]))
		r++;
	if (!r->name) {
		fprintf(stderr, "bench-rows: there is no row '%s'\n", argv[2]);
		return 2;
	}
	b.dir = argv[3];
	for (int n = 4; n < argc; n++)
		if (!set(&b, argv[n]))
			return usage();
	return step(argv[1], r, &b);
}
