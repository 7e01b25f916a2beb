/* SPDX-License-Identifier: MIT */
#include "control/lint.h"
#include "stack/stack.h"

#include <stdio.h>
#include <string.h>

int manifest_lint(const struct manifest *m, void (*say)(void *arg, const char *text), void *arg)
{
	const struct load_order_group *g = m->group ? group_find(m->group) : NULL;
	char text[512];
	int count = 0;

	if (strcmp(m->kind, "filter"))
		return 0;
	if (m->group && !g) {
		snprintf(text, sizeof text, "manifest of filter '%s': there is no group '%s'; see 'altitude groups'", m->name, m->group);
		say(arg, text);
		count++;
	}
	for (size_t i = 0; i < m->instance_count; i++) {
		const struct manifest_instance *in = &m->instances[i];

		if (!in->altitude)
			continue;
		if (!altitude_valid(in->altitude))
			snprintf(text, sizeof text, "manifest of filter '%s': altitude '%s' of instance '%s' is no decimal number", m->name,
				 in->altitude, in->name);
		else if (g && group_of_altitude(in->altitude) != g)
			snprintf(text, sizeof text, "manifest of filter '%s': altitude %s of instance '%s' is outside of group '%s' (%u-%u)",
				 m->name, in->altitude, in->name, g->name, g->low, g->high);
		else
			continue;
		say(arg, text);
		count++;
	}
	return count;
}
