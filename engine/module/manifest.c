/* SPDX-License-Identifier: MIT */
/* One manifest: a small INI file, read whole and then parsed; a fault names its file and line. */
#include "module/module.h"
#include <altitude/ntstatus.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANIFEST_MAX (64 * 1024)
#define INSTANCES_MAX 64
#define INSTANCE_FLAGS 3u

static const char *const start_names[] = { "boot", "system", "auto", "demand", "disabled" };

struct reading {
	struct manifest *m;
	struct alt_error *err;
	const char *path;
	char *text;
	const char *what;                        /* first complaint of ours, and about which key */
	char section[256], key[256];
	uint32_t given, instance_given[INSTANCES_MAX]; /* a bit for each key */
};

void manifest_free(struct manifest *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->instance_count; i++) {
		free(m->instances[i].name);
		free(m->instances[i].altitude);
	}
	free(m->instances);
	free(m->name);
	free(m->module);
	free(m->kind);
	free(m->group);
	free(m->default_instance);
	free(m);
}

/* Where a key stands; its complaint comes when all is read. */
static int line_of(const char *text, const char *section, const char *key)
{
	size_t section_len = strlen(section), key_len = strlen(key);
	bool inside = !section_len;
	int line = 1;

	for (const char *p = text; *p; line++) {
		while (*p == ' ' || *p == '\t')
			p++;
		if (*p == '[')
			inside = !strncmp(p + 1, section, section_len) && p[1 + section_len] == ']';
		else if (inside && !strncmp(p, key, key_len) && !isalnum((unsigned char)p[key_len]))
			return line;
		p += strcspn(p, "\n");
		p += *p == '\n';
	}
	return 0;
}

/* Only the parser knows the line, and tells it at the end. */
static int complain(struct reading *rd, const char *section, const char *key, const char *what)
{
	rd->what = what;
	snprintf(rd->section, sizeof(rd->section), "%s", section);
	snprintf(rd->key, sizeof(rd->key), "%s", key);
	return 0;
}

static bool set_string(char **to, const char *value)
{
	char *copy = strdup(value);

	if (!copy)
		return false;
	free(*to);
	*to = copy;
	return true;
}

static bool plain_name(const char *s, size_t max)
{
	if (!*s || strlen(s) > max || *s == '.')
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("_-. ", *s))
			return false;
	return true;
}

static bool number(const char *s, uint32_t *ret)
{
	char *end;
	unsigned long v;

	if (!isdigit((unsigned char)*s))
		return false;
	errno = 0;
	v = strtoul(s, &end, 0);
	if (*end || errno || v > UINT32_MAX)
		return false;
	*ret = (uint32_t)v;
	return true;
}

static bool digits_with_point(const char *s)
{
	size_t points = 0, digits = 0, len = strlen(s);

	for (; *s; s++) {
		if (*s == '.')
			points++;
		else if (isdigit((unsigned char)*s))
			digits++;
		else
			return false;
	}
	return digits && points <= 1 && len <= 255;
}

static bool set_start(struct manifest *m, const char *value)
{
	for (size_t i = 0; i < sizeof(start_names) / sizeof(*start_names); i++) {
		if (!strcasecmp(value, start_names[i])) {
			m->start = (enum start_type)i;
			return true;
		}
	}
	return false;
}

/* Which of two counts is not ours to guess. */
static bool is_given(uint32_t *given, const char *const *keys, const char *key)
{
	uint32_t bit = 1;

	for (; *keys && strcmp(*keys, key); keys++)
		bit <<= 1;
	if (!*keys || !(*given & bit)) {
		*given |= bit;
		return false;
	}
	return true;
}

static int module_key(struct reading *rd, const char *section, const char *key, const char *value)
{
	static const char *const keys[] = { "Name", "Module", "Kind", "Group", "Start", "Order", "DefaultInstance", NULL };
	struct manifest *m = rd->m;

	if (is_given(&rd->given, keys, key))
		return complain(rd, section, key, "given twice");
	if (!strcmp(key, "Name"))
		return plain_name(value, 128) ? set_string(&m->name, value) :
		       complain(rd, section, key, "letters, digits, '_', '-' and '.' only");
	if (!strcmp(key, "Module"))
		return plain_name(value, 128) ? set_string(&m->module, value) :
		       complain(rd, section, key, "a file name such as trace.so, without a directory");
	if (!strcmp(key, "Kind")) {
		if (strcmp(value, "filter") && strcmp(value, "filesystem") && strcmp(value, "blockdev"))
			return complain(rd, section, key, "filter, filesystem or blockdev");
		return set_string(&m->kind, value);
	}
	if (!strcmp(key, "Group"))
		return set_string(&m->group, value);
	if (!strcmp(key, "Start"))
		return set_start(m, value) ? 1 :
		       complain(rd, section, key, "boot, system, auto, demand or disabled");
	if (!strcmp(key, "Order"))
		return number(value, &m->order) ? 1 :
		       complain(rd, section, key, "a number from 0 to 4294967295");
	if (!strcmp(key, "DefaultInstance"))
		return set_string(&m->default_instance, value);
	return complain(rd, section, key, "not known; see altitude(1), Manifests");
}

static struct manifest_instance *instance_of(struct reading *rd, const char *name)
{
	struct manifest *m = rd->m;
	struct manifest_instance *grown;

	for (size_t i = 0; i < m->instance_count; i++)
		if (!strcmp(m->instances[i].name, name))
			return &m->instances[i];
	if (m->instance_count == INSTANCES_MAX)
		return NULL;
	grown = reallocarray(m->instances, m->instance_count + 1, sizeof(*grown));
	if (!grown)
		return NULL;
	m->instances = grown;
	grown += m->instance_count;
	*grown = (struct manifest_instance){ .name = strdup(name) };
	if (!grown->name)
		return NULL;
	m->instance_count++;
	return grown;
}

static int instance_key(struct reading *rd, const char *section, const char *key, const char *value)
{
	static const char *const keys[] = { "Altitude", "Flags", NULL };
	struct manifest_instance *in = instance_of(rd, section + strlen("instance "));

	if (!in)
		return complain(rd, section, key, "too many instances (at most 64)");
	if (is_given(&rd->instance_given[in - rd->m->instances], keys, key))
		return complain(rd, section, key, "given twice");
	if (!strcmp(key, "Altitude"))
		return digits_with_point(value) ? set_string(&in->altitude, value) :
		       complain(rd, section, key, "digits with at most one point, such as 370020.5");
	if (!strcmp(key, "Flags"))
		return number(value, &in->flags) && in->flags <= INSTANCE_FLAGS ? 1 :
		       complain(rd, section, key, "0, 1 (no automatic attach), 2 (no manual attach) or 3");
	return complain(rd, section, key, "not known; Altitude= and Flags= are");
}

static int handle(void *user, const char *section, const char *key, const char *value)
{
	struct reading *rd = user;

	if (rd->what)
		return 0;
	if (!strcmp(section, "module"))
		return module_key(rd, section, key, value ? value : "");
	if (!strncmp(section, "instance ", 9) && section[9])
		return instance_key(rd, section, key, value ? value : "");
	return complain(rd, section, key, "no such section; [module] and [instance NAME] are");
}

/* What only the whole file shows. */
static int check(struct reading *rd)
{
	struct manifest *m = rd->m;
	bool found = !m->default_instance;

	if (!m->name || !m->kind)
		return alt_error_status(rd->err, STATUS_INVALID_PARAMETER, "%s:1: [module] lacks %s=", rd->path,
					m->name ? "Kind" : "Name");
	for (size_t i = 0; i < m->instance_count; i++) {
		if (!m->instances[i].altitude)
			return alt_error_status(rd->err, STATUS_INVALID_PARAMETER, "%s:1: [instance %s] lacks Altitude=",
						rd->path, m->instances[i].name);
		found = found || !strcmp(m->instances[i].name, m->default_instance);
	}
	if (found)
		return 0;
	return alt_error_status(rd->err, STATUS_INVALID_PARAMETER, "%s:%d: DefaultInstance=%s has no [instance %s]",
				rd->path, line_of(rd->text, "module", "DefaultInstance"), m->default_instance,
				m->default_instance);
}

static bool line_has_key(const char *text, int line, const char *key)
{
	size_t len = strlen(key);

	while (--line > 0) {
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
	text += strspn(text, " \t");
	return !strncmp(text, key, len) && !isalnum((unsigned char)text[len]);
}

/* The parser goes on after a line that is none: the first fault may be its own, or our complaint. */
static int parse(struct reading *rd)
{
	int line = ini_parse_string(rd->text, handle, rd);

	if (line < 0)
		return -ENOMEM;
	if (rd->what && line_has_key(rd->text, line, rd->key))
		return alt_error_status(rd->err, STATUS_INVALID_PARAMETER, "%s:%d: %s= in [%s]: %s", rd->path, line, rd->key,
					rd->section, rd->what);
	if (line > 0)
		return alt_error_status(rd->err, STATUS_INVALID_PARAMETER,
					"%s:%d: not of the form [section] or Key=value", rd->path, line);
	return check(rd);
}

static int read_all(int fd, const char *path, char **ret, struct alt_error *err)
{
	struct stat st;
	size_t have = 0;
	char *text;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return alt_error_set(err, -errno, "cannot read manifest '%s'", path);
	if (!S_ISREG(st.st_mode))
		return alt_error_status(err, STATUS_INVALID_PARAMETER, "manifest '%s' is not a regular file", path);
	text = malloc(MANIFEST_MAX + 2);
	if (!text)
		return -ENOMEM;
	while (have <= MANIFEST_MAX && (n = read(fd, text + have, MANIFEST_MAX + 1 - have)) > 0)
		have += (size_t)n;
	text[have] = '\0';
	if (have > MANIFEST_MAX || memchr(text, '\0', have)) {
		free(text);
		return alt_error_status(err, STATUS_INVALID_PARAMETER,
					"manifest '%s' is no text of at most 64 KiB", path);
	}
	*ret = text;
	return 0;
}

int manifest_parse(const char *path, struct manifest **ret, struct alt_error *err)
{
	struct reading rd = { .path = path, .err = err };
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int r;

	if (fd < 0)
		return alt_error_set(err, -errno, "cannot open manifest '%s': %s", path, strerror(errno));
	r = read_all(fd, path, &rd.text, err);
	close(fd);
	if (r < 0)
		return r;
	rd.m = calloc(1, sizeof(*rd.m));
	if (rd.m)
		rd.m->start = START_DEMAND;
	r = rd.m ? parse(&rd) : -ENOMEM;
	free(rd.text);
	if (r < 0) {
		manifest_free(rd.m);
		return r;
	}
	*ret = rd.m;
	return 0;
}
