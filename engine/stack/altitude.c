/* SPDX-License-Identifier: MIT */
/* Altitudes: decimals of any length, compared without rounding. */
#include "stack/stack.h"

#include <stdlib.h>
#include <string.h>

#define ALTITUDE_MAX 255

bool altitude_valid(const char *s)
{
	size_t digits = 0, points = 0, n;

	for (n = 0; s[n]; n++) {
		if (s[n] == '.')
			points++;
		else if (s[n] >= '0' && s[n] <= '9')
			digits++;
		else
			return false;
	}
	return digits && points <= 1 && n <= ALTITUDE_MAX;
}

struct decimal { const char *whole, *fraction; size_t whole_len, fraction_len; };

static struct decimal decimal_of(const char *s)
{
	struct decimal d;

	s += strspn(s, "0");
	d.whole = s;
	d.whole_len = strcspn(s, ".");
	d.fraction = s + d.whole_len + (s[d.whole_len] == '.');
	d.fraction_len = strlen(d.fraction);
	while (d.fraction_len && d.fraction[d.fraction_len - 1] == '0')
		d.fraction_len--;
	return d;
}

static int sign(long n)
{
	return (n > 0) - (n < 0);
}

int altitude_compare(const char *a, const char *b)
{
	struct decimal x = decimal_of(a), y = decimal_of(b);
	size_t common = x.fraction_len < y.fraction_len ? x.fraction_len : y.fraction_len;
	int r;

	if (x.whole_len != y.whole_len)
		return x.whole_len > y.whole_len ? 1 : -1;
	r = memcmp(x.whole, y.whole, x.whole_len);
	if (r)
		return sign(r);
	r = memcmp(x.fraction, y.fraction, common);
	if (r)
		return sign(r);
	return sign((long)x.fraction_len - (long)y.fraction_len);
}

const struct load_order_group load_order_groups[] = {
	{ "Filter", 420000, 429999, "above everything else" },
	{ "FSFilter Top", 400000, 409999, "must be above all other filters" },
	{ "FSFilter Security Monitor", 392000, 394999, "observe and report on security" },
	{ "FSFilter Activity Monitor", 360000, 389999, "observe and report on file I/O" },
	{ "FSFilter Undelete", 340000, 349999, "recover deleted files" },
	{ "FSFilter Anti-Virus", 320000, 329999, "detect and disinfect viruses during file I/O" },
	{ "FSFilter Replication", 300000, 309999, "replicate file data to remote servers" },
	{ "FSFilter Continuous Backup", 280000, 289999, "replicate file data to backup media" },
	{ "FSFilter Content Screener", 260000, 269999, "prevent certain files or contents" },
	{ "FSFilter Quota Management", 240000, 249999, "enhanced quotas" },
	{ "FSFilter System Recovery", 220000, 229999, "keep the system's integrity" },
	{ "FSFilter Cluster File System", 200000, 209999, "metadata of file servers across a network" },
	{ "FSFilter HSM", 180000, 189999, "hierarchical storage" },
	{ "FSFilter Imaging", 170000, 175000, "a virtual name space, as of a ZIP" },
	{ "FSFilter Compression", 160000, 169999, "compress file data" },
	{ "FSFilter Encryption", 140000, 149999, "encrypt and decrypt data" },
	{ "FSFilter Virtualization", 130000, 139999, "virtualize the path" },
	{ "FSFilter Physical Quota Management", 120000, 129999, "quotas by physical blocks" },
	{ "FSFilter Open File", 100000, 109999, "snapshots of open files" },
	{ "FSFilter Security Enhancer", 80000, 89999, "lockdown and extra access control" },
	{ "FSFilter Copy Protection", 60000, 69999, "out-of-band data on media" },
	{ "FSFilter Bottom", 40000, 49999, "must be below all other filters" },
	{ "FSFilter System", 20000, 29999, "reserved" },
	{ "FSFilter Infrastructure", 0, 19999, "reserved; loads first" },
	{ NULL, 0, 0, NULL },
};

const struct load_order_group *group_of_altitude(const char *altitude)
{
	/* The whole part decides: 149999.5 still belongs to the owner of 149999. */
	size_t len = decimal_of(altitude).whole_len;
	unsigned long n = len > 9 ? 999999999ul : strtoul(altitude, NULL, 10);

	for (const struct load_order_group *g = load_order_groups; g->name; g++)
		if (n >= g->low && n <= g->high)
			return g;
	return NULL;
}

const struct load_order_group *group_find(const char *name)
{
	for (const struct load_order_group *g = load_order_groups; g->name; g++)
		if (!strcmp(g->name, name))
			return g;
	return NULL;
}
