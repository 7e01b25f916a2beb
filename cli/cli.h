/* SPDX-License-Identifier: MIT */
/*
 * owns      the command line: one table of commands, from which parsing, --help and the man page's test are made
 * never     serves, filters or parses a file system: it asks a server, or becomes one
 * hands to  control
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "control/control.h"

#define CLI_GIVEN_MAX 128

struct cli_option {
	char letter;
	const char *name;
	const char *value;               /* what it takes: "NAME"; NULL: a switch */
	const char *help;
};

struct cli_args {
	const struct cli_command *command;
	struct { char letter; const char *value; } given[CLI_GIVEN_MAX];
	int count;
	char **operand;
	int operands;
};

struct cli_command {
	const char *name, *operands, *summary;
	const char *more;                /* paragraphs of --help, or NULL */
	int min, max;                    /* operands */
	const struct cli_option *options; /* ends with letter 0; NULL: only --help */
	int (*run)(const struct cli_args *a);
};

extern const struct cli_command cli_mount, cli_unmount, cli_mount_add, cli_volumes, cli_filters, cli_instances, cli_load,
	cli_unload, cli_attach, cli_detach, cli_watch, cli_stats, cli_groups, cli_doctor;

const char *cli_value(const struct cli_args *a, char letter);  /* the last one given, or NULL */
bool cli_has(const struct cli_args *a, char letter);
const char *cli_operand(const struct cli_args *a, int i);      /* NULL when there are fewer */

/*
 * One line on stderr, "altitude COMMAND: ...", whatever the names in it hold; exit codes: 1 it failed, 2 the arguments are wrong.
 */
void cli_tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
int cli_fail(const struct cli_args *a, const struct alt_error *err);
int cli_wrong(const struct cli_args *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The absolute path of the mounting point @word; else told, and the exit code. */
int cli_place(const struct cli_args *a, const char *word, char *path, size_t size);

/* "NAME[@ALTITUDE][:key=value...]" in pieces of its own. */
struct cli_spec { char *filter, *altitude, *options; };
int cli_spec_parse(const char *text, struct cli_spec *ret);    /* 0, -EINVAL (no name), -ENOMEM */
void cli_spec_free(struct cli_spec *spec);

/* What may reach a terminal: control characters and bytes that are not UTF-8 become "\033". To be freed; NULL without memory. */
char *shown_text(const char *s);
void shown_line(const char *s);                                /* on stdout */
int shown_width(const char *s);                                /* columns of a terminal; letters of the far east take two */
char *shown_short(const char *s, int width);                   /* the middle becomes "…" when it is wider. To be freed */

/*
 * Rows in columns as wide as their widest cell; a column that begins with '>' in @head is right-aligned. Where the terminal is
 * narrower, the widest of the others are shortened; what goes to a file or a program is whole.
 */
struct cli_table { const char *const *head; int columns, rows; char **cells; };
void cli_table_add(struct cli_table *t, ...);                  /* columns strings */
void cli_table_print(struct cli_table *t);                     /* and free */

#endif
