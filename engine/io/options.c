/* SPDX-License-Identifier: MIT */
#include "io/io.h"

#include <stdlib.h>
#include <string.h>

static bool option_set(struct io_option *o, const char *text, const char *end)
{
	const char *equals = memchr(text, '=', end - text);
	const char *key_end = equals ? equals : end;

	o->key = strndup(text, key_end - text);
	o->value = equals ? strndup(equals + 1, end - equals - 1) : strdup("");
	return o->key && o->value;
}

struct io_option *options_parse(const char *text, char separator)
{
	struct io_option *list;
	size_t count = 1, n = 0;

	for (const char *at = text; at && *at; at++)
		count += *at == separator;
	list = calloc(count + 1, sizeof *list);
	while (list && text && *text) {
		const char *end = strchrnul(text, separator);

		if (end > text && !option_set(&list[n++], text, end)) {
			options_free(list);
			return NULL;
		}
		text = *end ? end + 1 : end;
	}
	return list;
}

void options_free(struct io_option *list)
{
	for (struct io_option *o = list; o && (o->key || o->value); o++) {
		free(o->key);
		free(o->value);
	}
	free(list);
}
