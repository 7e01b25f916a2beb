/* SPDX-License-Identifier: MIT */
/*
 * Any text is parsed as a manifest: it gives one that keeps every promise of its fields, or a complaint that names the file.
 * With -DFUZZ_STANDALONE: "fuzz_manifest [count]" tries that many mutations of a good one, the same ones each time.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "draw.h"
#include <module/module.h>

#define TEXT_MAX (64 * 1024)

static void check(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "fuzz_manifest: %s\n", what);
	abort();
}

static void check_manifest(const struct manifest *m)
{
	bool found = !m->default_instance;

	check(m->name && *m->name && strlen(m->name) <= 128 && !strchr(m->name, '/'), "name");
	check(!m->module || (!strchr(m->module, '/') && *m->module != '.'), "module");
	check(m->kind && (!strcmp(m->kind, "filter") || !strcmp(m->kind, "filesystem") || !strcmp(m->kind, "blockdev")), "kind");
	check(m->start >= START_BOOT && m->start <= START_DISABLED, "start");
	check(m->instance_count <= 64, "number of instances");
	for (size_t i = 0; i < m->instance_count; i++) {
		const struct manifest_instance *in = &m->instances[i];

		check(in->name && *in->name, "name of an instance");
		check(in->altitude && *in->altitude && strspn(in->altitude, "0123456789.") == strlen(in->altitude), "altitude");
		check(in->flags <= 3, "flags");
		for (size_t j = 0; j < i; j++)
			check(strcmp(in->name, m->instances[j].name), "two instances of one name");
		found = found || !strcmp(in->name, m->default_instance);
	}
	check(found, "default instance");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct alt_error err = { 0 };
	struct manifest *m = NULL;
	int fd = memfd_create("manifest", MFD_CLOEXEC);
	char path[64];

	check(fd >= 0 && write(fd, data, size) == (ssize_t)size, "no memory file");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (manifest_parse(path, &m, &err) == 0) {
		check(m && !err.code, "a manifest and a complaint");
		check_manifest(m);
	} else {
		check(!m && err.code < 0 && strstr(err.text, path), "a complaint without its file");
	}
	manifest_free(m);
	close(fd);
	return 0;
}

#ifdef FUZZ_STANDALONE

static const char good[] = "; comment\n[module]\nName=trace\nModule=trace.so\nKind=filter\nGroup=FSFilter Activity Monitor\n"
			   "Start=demand\nOrder=3\nDefaultInstance=trace\n\n[instance trace]\nAltitude=370040\nFlags=0\n"
			   "[instance other]\nAltitude=370040.5\nFlags=3\n";

static size_t change_byte(char *text, size_t len)
{
	static const char odd[] = "\n\r\t =[];#.:\"\\/0-\xff\xef\xbb\xbf";

	if (len)
		text[draw(len)] = draw(2) ? (char)draw(256) : odd[draw(sizeof(odd))];
	return len;
}

static size_t cut(char *text, size_t len)
{
	return draw(len + 1);
}

/* A piece of it once more, somewhere. */
static size_t repeat(char *text, size_t len)
{
	size_t from = draw(len + 1), to = draw(len + 1), size = draw(len - from + 1);

	if (len + size > TEXT_MAX + 1)
		return len;
	memmove(text + to + size, text + to, len - to);
	if (from >= to + size || from + size <= to)
		memmove(text + to, text + from + (from >= to ? size : 0), size);
	return len + size;
}

static size_t insert_words(char *text, size_t len)
{
	static const char *const words[] = { "[module]\n", "[instance ", "]\n", "Name=", "Altitude=", "Flags=0x", "Order=4294967296",
					     "Start=boot\n", "DefaultInstance=other\n", "\n  ", "99999999999999999999", "[instance x]\n" };
	const char *word = DRAW_OF(words);
	size_t to = draw(len + 1), size = strlen(word);

	if (len + size > TEXT_MAX + 1)
		return len;
	memmove(text + to + size, text + to, len - to);
	memcpy(text + to, word, size);
	return len + size;
}

static size_t drop(char *text, size_t len)
{
	size_t from = draw(len + 1), size = draw(len - from + 1);

	memmove(text + from, text + from + size, len - from - size);
	return len - size;
}

static size_t (*const changes[])(char *text, size_t len) = { change_byte, change_byte, cut, repeat, insert_words, insert_words, drop };

int main(int argc, char **argv)
{
	unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 0) : 50000;
	static char text[2 * TEXT_MAX];

	for (unsigned long i = 0; i < count; i++) {
		size_t len = sizeof(good) - 1;

		memcpy(text, good, len);
		for (uint64_t n = draw(i % 500 ? 8 : 300); n > 0; n--)
			len = DRAW_OF(changes)(text, len);
		LLVMFuzzerTestOneInput((const uint8_t *)text, len);
	}
	printf("%lu manifests\n", count);
	return 0;
}

#endif
