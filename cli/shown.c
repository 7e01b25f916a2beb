/* SPDX-License-Identifier: MIT */
/* Text as a terminal may get it: names hold any byte, and some are commands to it. */
#include "cli.h"

#include <limits.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

/* Whatever the user's locale is: names are UTF-8 here, as JSON is, or bytes. */
static void utf8(void)
{
	static bool done;

	if (!done)
		done = setlocale(LC_CTYPE, "C.UTF-8") != NULL;
}

/* The bytes and the columns of the first letter of @s; 0 bytes: it is none that may be shown. */
static size_t letter(const char *s, int *columns)
{
	mbstate_t state = { 0 };
	wchar_t c;
	size_t n;

	utf8();
	n = mbrtowc(&c, s, strlen(s), &state);
	*columns = n && n <= MB_LEN_MAX ? wcwidth(c) : -1;
	return *columns < 0 ? 0 : n;
}

char *shown_text(const char *s)
{
	char *to = malloc(4 * strlen(s) + 1), *at = to;
	int columns;

	while (to && *s) {
		size_t n = letter(s, &columns);

		if (n) {
			memcpy(at, s, n);
			at += n;
			s += n;
		} else {
			at += sprintf(at, "\\%03o", (unsigned char)*s++);
		}
	}
	if (to)
		*at = 0;
	return to;
}

int shown_width(const char *s)
{
	int width = 0, columns;

	for (size_t n; *s; s += n ? n : 1) {
		n = letter(s, &columns);
		width += n ? columns : 1;
	}
	return width;
}

/* The first byte of @s behind at least @width columns; never inside of a letter. */
static const char *after(const char *s, int width)
{
	int columns;

	for (size_t n; *s && width > 0; s += n ? n : 1) {
		n = letter(s, &columns);
		width -= n ? columns : 1;
	}
	return s;
}

char *shown_short(const char *s, int width)
{
	int whole = shown_width(s), head = (width - 1) / 2;
	const char *end, *begin;
	char *to;

	if (whole <= width || width < 3)
		return strdup(s);
	end = after(s, head);
	head = whole - shown_width(end);                    /* one more, when the last letter is a wide one */
	begin = after(end, whole - head - (width - 1 - head));
	return asprintf(&to, "%.*s…%s", (int)(end - s), s, begin) < 0 ? NULL : to;
}

void cli_tell(const char *format, ...)
{
	char *text, *shown = NULL;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) >= 0) {
		shown = shown_text(text);
		free(text);
	}
	va_end(ap);
	fprintf(stderr, "%s\n", shown ? shown : "altitude: not enough memory");
	free(shown);
}

void shown_line(const char *s)
{
	char *shown = shown_text(s);

	if (shown)
		puts(shown);
	free(shown);
}
