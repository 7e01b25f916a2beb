/* SPDX-License-Identifier: MIT */
#include "cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

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

		more[t->rows * t->columns + c] = shown_text(cell ? cell : "");
	}
	va_end(ap);
	t->rows++;
}

static const char *title(const char *head)
{
	return head + (*head == '>');
}

static int column_width(const struct cli_table *t, int c)
{
	int widest = shown_width(title(t->head[c]));

	for (int r = 0; r < t->rows; r++) {
		int w = shown_width(t->cells[r * t->columns + c]);

		widest = w > widest ? w : widest;
	}
	return widest;
}

/* The columns of the terminal, 0: any number. */
static int room(void)
{
	struct winsize size;

	return isatty(STDOUT_FILENO) && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) ? size.ws_col : 0;
}

/* What need not be whole, the widest first, gives way until the row fits, but each title stays. */
static void columns_narrow(const struct cli_table *t, int *w)
{
	int over = -room(), widest;

	if (!over)
		return;
	for (int c = 0; c < t->columns; c++)
		over += w[c] + (c ? 2 : 0);
	for (; over > 0; over--) {
		widest = -1;
		for (int c = 0; c < t->columns; c++)
			if (*t->head[c] != '>' && w[c] > shown_width(t->head[c]) && (widest < 0 || w[c] > w[widest]))
				widest = c;
		if (widest < 0)
			return;
		w[widest]--;
	}
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
	char *fits = shown_short(text ? text : "", w);
	int space = fits ? w - shown_width(fits) : 0;
	bool right = *t->head[c] == '>';

	if (right)
		printf("%*s", space, "");
	fputs(fits ? fits : "", stdout);
	free(fits);
	if (row_is_over(t, r, c))
		return;
	printf("%*s", right ? 2 : space + 2, "");
}

void cli_table_print(struct cli_table *t)
{
	int *w = calloc(t->columns, sizeof *w);

	for (int c = 0; w && c < t->columns; c++)
		w[c] = column_width(t, c);
	if (w)
		columns_narrow(t, w);
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
