/* SPDX-License-Identifier: MIT */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A module given by its path: the server is somewhere else. One that is not there is the server's to complain about. */
static int path_absolute(char **filter)
{
	char *real = strchr(*filter, '/') ? realpath(*filter, NULL) : NULL;

	if (real) {
		free(*filter);
		*filter = real;
	}
	return 0;
}

int cli_spec_parse(const char *text, struct cli_spec *ret)
{
	size_t name = strcspn(text, "@:"), altitude = 0;
	const char *rest = text + name;

	memset(ret, 0, sizeof *ret);
	if (!name)
		return -EINVAL;
	ret->filter = strndup(text, name);
	if (*rest == '@') {
		altitude = strcspn(++rest, ":");
		ret->altitude = strndup(rest, altitude);
		rest += altitude;
	}
	if (*rest == ':')
		ret->options = strdup(rest + 1);
	return ret->filter ? path_absolute(&ret->filter) : -ENOMEM;
}

void cli_spec_free(struct cli_spec *spec)
{
	free(spec->filter);
	free(spec->altitude);
	free(spec->options);
}
