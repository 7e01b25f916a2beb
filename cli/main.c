/* SPDX-License-Identifier: MIT */
#include "cli.h"
#include <altitude/kit/near.h>
#include <altitude/ntstatus.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPTIONS_MAX 24

static const struct cli_command *const commands[] = {
	&cli_mount, &cli_unmount, &cli_mount_add, &cli_volumes, &cli_filters, &cli_instances, &cli_load, &cli_unload,
	&cli_attach, &cli_detach, &cli_watch, &cli_stats, &cli_groups, &cli_doctor,
};
#define COMMANDS (sizeof commands / sizeof *commands)

const char *cli_value(const struct cli_args *a, char letter)
{
	for (int i = a->count - 1; i >= 0; i--)
		if (a->given[i].letter == letter)
			return a->given[i].value ? a->given[i].value : "";
	return NULL;
}

bool cli_has(const struct cli_args *a, char letter)
{
	return cli_value(a, letter) != NULL;
}

const char *cli_operand(const struct cli_args *a, int i)
{
	return i < a->operands ? a->operand[i] : NULL;
}

int cli_fail(const struct cli_args *a, const struct alt_error *err)
{
	cli_tell(err->status ? "altitude %s: %s [0x%08X %s]" : "altitude %s: %s", a->command->name,
		 err->code ? err->text : strerror(ENOMEM), err->status, alt_status_name(err->status));
	return 1;
}

int cli_wrong(const struct cli_args *a, const char *format, ...)
{
	bool asks = format[strlen(format) - 1] == '?';
	char *text = NULL;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = NULL;
	va_end(ap);
	cli_tell("altitude %s: %s%s 'altitude %s --help'", a->command->name, text ? text : "wrong arguments", asks ? " See" : "; see",
		 a->command->name);
	free(text);
	return 2;
}

static void usage_print(FILE *out)
{
	fputs("usage: altitude COMMAND [OPTION]... [ARGUMENT]...\n"
	      "\n"
	      "Any data source as a drive, with filters in a stack above it.\n"
	      "\n", out);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-11s %s\n", commands[i]->name, commands[i]->summary);
	fputs("\n"
	      "'altitude COMMAND --help' explains one command; altitude(1) explains all.\n"
	      "'altitude --version' tells the version.\n", out);
}

static void command_help(const struct cli_command *c)
{
	char left[64];

	printf("usage: altitude %s [OPTION]...%s%s\n\n%s.\n\n", c->name, *c->operands ? " " : "", c->operands, c->summary);
	for (const struct cli_option *o = c->options; o && o->letter; o++) {
		snprintf(left, sizeof left, "-%c, --%s%s%s", o->letter, o->name, o->value ? " " : "", o->value ? o->value : "");
		printf("  %-28s %s\n", left, o->help);
	}
	printf("  %-28s %s\n", "-h, --help", "this text");
	if (c->more)
		printf("\n%s", c->more);
}

static int unknown_word(const char *name)
{
	const struct cli_command *near = NULL;
	unsigned best = ALT_NEAR_NONE;

	for (size_t i = 0; i < COMMANDS; i++)
		if (alt_near_better(name, commands[i]->name, &best))
			near = commands[i];
	cli_tell(near ? "altitude: '%s' is not a command; do you mean '%s'? See 'altitude --help'" :
		 "altitude: '%s' is not a command; see 'altitude --help'%.0s", name, near ? near->name : "");
	return 2;
}

static int unknown_command(const char *name)
{
	if (*name == '-') {
		cli_tell("altitude: '%s' is not an option; options stand behind the command. See 'altitude --help'", name);
		return 2;
	}
	return unknown_word(name);
}

/* getopt_long's tables, made from ours. */
static int options_convert(const struct cli_command *c, struct option *longs, char *letters)
{
	int n = 0;

	*letters++ = ':';
	for (const struct cli_option *o = c->options; o && o->letter && n < OPTIONS_MAX - 2; o++, n++) {
		longs[n] = (struct option){ o->name, o->value ? required_argument : no_argument, NULL, o->letter };
		*letters++ = o->letter;
		if (o->value)
			*letters++ = ':';
	}
	longs[n++] = (struct option){ "help", no_argument, NULL, 'h' };
	*letters++ = 'h';
	longs[n] = (struct option){ 0 };
	*letters = 0;
	return n;
}

static const struct option *long_find(const struct option *longs, int letter)
{
	while (longs->name && longs->val != letter)
		longs++;
	return longs->name ? longs : NULL;
}

/* The options that a shortened name may be: "'--f' may be '--filter' or '--foreground'". Or the one that is near to it. */
static int long_wrong(const struct cli_args *a, const struct option *longs, const char *given)
{
	size_t len = strcspn(given + 2, "="), at = 0;
	const char *near = NULL;
	unsigned best = ALT_NEAR_NONE;
	char list[200] = "", name[64];
	int found = 0;

	snprintf(name, sizeof name, "%.*s", (int)len, given + 2);

	for (const struct option *o = longs; o->name; o++) {
		if (!strncmp(o->name, name, len) && at < sizeof list)
			at += snprintf(list + at, sizeof list - at, "%s'--%s'", found++ ? " or " : "", o->name);
		if (alt_near_better(name, o->name, &best))
			near = o->name;
	}
	if (found > 1)
		return cli_wrong(a, "'%s' may be %s", given, list);
	if (near)
		return cli_wrong(a, "'%s' is not an option of this command; do you mean '--%s'?", given, near);
	return cli_wrong(a, "'%s' is not an option of this command", given);
}

/* What was printed must have arrived: a full disk or a closed standard output is a failure, told once. */
static int finish(const char *what, int r)
{
	bool lost = ferror(stdout);

	errno = 0;
	if (!fflush(stdout) && !lost)
		return r;
	cli_tell(errno ? "altitude%s%s: cannot write to standard output: %s" : "altitude%s%s: cannot write to standard output%.0s",
		 *what ? " " : "", what, strerror(errno));
	return r ? r : 1;
}

/* A number that is free would become that of a device or a socket, which then got what is printed. */
static void standard_open(void)
{
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_RDONLY : O_WRONLY) < 0)
			_exit(1);
}

/* A letter may stand in the middle of others: optopt is the one. Of a known option, it is a value that it does not take. */
static int option_wrong(const struct cli_args *a, const struct option *longs, const char *word)
{
	const struct option *known = optopt ? long_find(longs, optopt) : NULL;

	if (known)
		return cli_wrong(a, "option '--%s' takes no value", known->name);
	if (optopt)
		return cli_wrong(a, "'-%c' is not an option of this command", optopt);
	return long_wrong(a, longs, word);
}

static int value_missing(const struct cli_args *a, const char *word)
{
	if (!strncmp(word, "--", 2))
		return cli_wrong(a, "option '%s' needs a value", word);
	return cli_wrong(a, "option '-%c' needs a value", optopt);
}

static int arguments_parse(struct cli_args *a, int argc, char **argv)
{
	struct option longs[OPTIONS_MAX];
	char letters[2 * OPTIONS_MAX + 2];
	int letter;

	options_convert(a->command, longs, letters);
	opterr = 0;
	while ((letter = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		if (letter == 'h') {
			command_help(a->command);
			exit(finish(a->command->name, 0));
		}
		if (letter == '?')
			return option_wrong(a, longs, argv[optind - 1]);
		if (letter == ':')
			return value_missing(a, argv[optind - 1]);
		if (a->count == CLI_GIVEN_MAX)
			return cli_wrong(a, "more than %d options", CLI_GIVEN_MAX);
		a->given[a->count].letter = letter;
		a->given[a->count++].value = optarg;
	}
	a->operand = argv + optind;
	a->operands = argc - optind;
	if (a->operands < a->command->min)
		return cli_wrong(a, "needs %s", a->command->operands);
	if (a->operands > a->command->max)
		return cli_wrong(a, "'%s' is one argument too many", a->operand[a->command->max]);
	return 0;
}

static const struct cli_command *command_find(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	return NULL;
}

static int too_many(const char *word)
{
	cli_tell("altitude: '%s' is one argument too many; see 'altitude --help'", word);
	return 2;
}

static int help_print(char **word)
{
	const struct cli_command *c = *word ? command_find(*word) : NULL;

	if (*word && !c)
		return unknown_command(*word);
	if (*word && word[1])
		return too_many(word[1]);
	if (c)
		command_help(c);
	else
		usage_print(stdout);
	return 0;
}

static int version_print(char **word)
{
	if (*word)
		return too_many(*word);
	puts("altitude " ALTITUDE_VERSION);
	return 0;
}

static int command_run(int argc, char **argv)
{
	struct cli_args a = { .command = command_find(argv[0]) };
	int r;

	if (!a.command)
		return unknown_command(argv[0]);
	r = arguments_parse(&a, argc, argv);
	return r ? r : a.command->run(&a);
}

int main(int argc, char **argv)
{
	standard_open();
	if (argc < 2) {
		usage_print(stderr);
		return 2;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
		return finish("", help_print(argv + 2));
	if (!strcmp(argv[1], "--version"))
		return finish("", version_print(argv + 2));
	return finish(argv[1], command_run(argc - 1, argv + 1));
}
