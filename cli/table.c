/* SPDX-License-Identifier: MIT */
#include "cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

void cli_table_add(struct cli_table *t, ...)
{
	char **more = realloc(t->cells, sizeof *more * (t->rows + 1) * t->columns);
	va_list ap;

	if (!more)
		return;
	t->cells = more;
	va_start(ap, t);
	for (int c = 0; c < t->columns; c++) {
		const char *cell = va_arg(ap, const char *);

		more[t->rows * t->columns + c] = strdup(cell ? cell : "");
	}
	va_end(ap);
	t->rows++;
}

/* Letters, not bytes: continuation bytes of UTF-8 take no room. */
static int width(const char *s)
{
	int n = 0;

	for (; s && *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

static const char *title(const char *head)
{
	return head + (*head == '>');
}

static int column_width(const struct cli_table *t, int c)
{
	int widest = width(title(t->head[c]));

	for (int r = 0; r < t->rows; r++) {
		int w = width(t->cells[r * t->columns + c]);

		widest = w > widest ? w : widest;
	}
	return widest;
}

/* Nothing stands behind the last word of a row. */
static bool row_is_over(const struct cli_table *t, int r, int c)
{
	while (++c < t->columns)
		if (r < 0 || *t->cells[r * t->columns + c])
			return false;
	return true;
}

static void cell_print(const struct cli_table *t, int r, int c, const char *text, int w)
{
	int space = w - width(text);
	bool right = *t->head[c] == '>';

	if (right)
		printf("%*s", space, "");
	fputs(text ? text : "", stdout);
	if (row_is_over(t, r, c))
		return;
	printf("%*s", right ? 2 : space + 2, "");
}

void cli_table_print(struct cli_table *t)
{
	int *w = calloc(t->columns, sizeof *w);

	for (int c = 0; w && c < t->columns; c++)
		w[c] = column_width(t, c);
	for (int r = -1; w && r < t->rows; r++) {
		if (r < 0 && isatty(STDOUT_FILENO))
			fputs("\033[1m", stdout);
		for (int c = 0; c < t->columns; c++)
			cell_print(t, r, c, r < 0 ? title(t->head[c]) : t->cells[r * t->columns + c], w[c]);
		if (r < 0 && isatty(STDOUT_FILENO))
			fputs("\033[0m", stdout);
		putchar('\n');
	}
	for (int i = 0; i < t->rows * t->columns; i++)
		free(t->cells[i]);
	free(t->cells);
	free(w);
}
