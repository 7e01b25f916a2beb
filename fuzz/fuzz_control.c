/* SPDX-License-Identifier: MIT */
/*
 * Any bytes are answered by the control of one server, whose filters are loaded, attached, detached and unloaded by what
 * happens to be right; every answer keeps the form of answers.
 * With -DFUZZ_STANDALONE: "fuzz_control [count]" tries that many mutations of good messages, the same ones each time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"
#include <control/control.h>
#include <module/module.h>

static struct server server;
static unsigned long agreed;

static void check(bool good, const char *what, const char *message)
{
	if (good)
		return;
	fprintf(stderr, "fuzz_control: %s: %.2000s\n", what, message);
	abort();
}

/* A volume that nobody sees: no session, no mounting point. */
static void begin(void)
{
	struct alt_error err = { 0 };

	pthread_mutex_init(&server.lock, NULL);
	if (module_load("mem", ALT_MODULE_FILESYSTEM, &server.module, &err) < 0 ||
	    volume_new("mem:", module_descriptor(server.module)->registration, "", NULL, &server.volume, &err) < 0 ||
	    stack_volume_init(server.volume) < 0)
		check(false, "no server", err.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy = malloc(size ? size : 1), *text;
	json_t *out;

	if (!server.volume)
		begin();
	check(copy != NULL, "no memory", "");
	if (size)
		memcpy(copy, data, size);
	out = control_answer(&server, copy, size);
	free(copy);
	text = out ? json_dumps(out, JSON_COMPACT) : NULL;
	check(text != NULL, "no answer, or one that is no JSON", "");
	check(json_integer_value(json_object_get(out, "v")) == CONTROL_VERSION, "no version", text);
	check(json_is_boolean(json_object_get(out, "ok")), "neither right nor wrong", text);
	if (json_is_true(json_object_get(out, "ok"))) {
		agreed++;
	} else {
		const char *error = json_string_value(json_object_get(out, "error"));

		check(error && *error && !strstr(error, "(null)") && !strchr(error, '\n'), "no explanation", text);
		check(json_integer_value(json_object_get(out, "errno")) > 0, "no errno", text);
	}
	free(text);
	json_decref(out);
	return 0;
}

#ifdef FUZZ_STANDALONE

#define MESSAGE_MAX 4096

static const char *const good[] = {
	"{\"v\":1,\"cmd\":\"volumes\"}", "{\"v\":1,\"cmd\":\"instances\"}", "{\"v\":1,\"cmd\":\"filters\"}",
	"{\"v\":1,\"cmd\":\"stats\"}", "{\"v\":1,\"cmd\":\"watch\"}",
	"{\"v\":1,\"cmd\":\"load\",\"filter\":\"@\"}", "{\"v\":1,\"cmd\":\"unload\",\"filter\":\"@\"}",
	"{\"v\":1,\"cmd\":\"unload\",\"filter\":\"@\",\"mandatory\":true}", "{\"v\":1,\"cmd\":\"attach\",\"filter\":\"@\"}",
	"{\"v\":1,\"cmd\":\"attach\",\"filter\":\"@\",\"instance\":\"@\",\"altitude\":\"@\",\"options\":\"@\"}",
	"{\"v\":1,\"cmd\":\"attach\",\"filter\":\"@\",\"altitude\":\"@\"}", "{\"v\":1,\"cmd\":\"detach\",\"filter\":\"@\"}",
	"{\"v\":1,\"cmd\":\"detach\",\"filter\":\"@\",\"instance\":\"@\"}",
	"{\"v\":1,\"cmd\":\"mount-add\",\"target\":\"@\"}", "{\"v\":1,\"cmd\":\"unmount\",\"target\":\"@\",\"lazy\":true}",
	"{\"v\":1,\"cmd\":\"unmount\"}",
};
/* In place of the '@'. */
static const char *const words[] = {
	"null", "passthrough", "stats", "error", "delay", "null", "stats", "mem", "nobody", "", ".", "/", "/dev/null", "/etc/passwd",
	"../null", "null.so", "a", "b", "1", "100", "0100.0", "370020", "-1", ".5", "1.2.3",
	"999999999999999999999999999999999999999.99999999999999999", "op=read:ms=1", "op=read:errno=EIO:rate=3", "=", ":::",
	"ms=99999999999999999999", "op=", "\\u0000", "\\ud800", "\\u00e4", "%s%n",
	"name=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
};
/* In place of a whole value. */
static const char *const values[] = {
	"null", "true", "1", "-1", "1e999", "[]", "{}", "[[[[[[[[[[]]]]]]]]]]", "\"\"", "9223372036854775808", "\"\xff\xfe\"",
};

static size_t fill(char *message, const char *form)
{
	size_t len = 0;

	for (; *form; form++) {
		const char *word = *form == '@' ? DRAW_OF(words) : NULL;
		size_t size = word ? strlen(word) : 1;

		memcpy(message + len, word ? word : form, size);
		len += size;
	}
	message[len] = '\0';
	return len;
}

static size_t replace(char *message, size_t len, size_t from, size_t to, const char *with)
{
	size_t size = strlen(with);

	memmove(message + from + size, message + to, len - to + 1);
	memcpy(message + from, with, size);
	return len - (to - from) + size;
}

static size_t change(char *message, size_t len)
{
	size_t from = draw(len + 1);
	char *colon;

	switch (draw(4)) {
	case 0:
		if (from < len)
			message[from] = (char)draw(256);
		return len;
	case 1:
		message[from] = '\0';
		return from;
	case 2:
		return len < MESSAGE_MAX / 2 ? replace(message, len, from, from, DRAW_OF(values)) : len;
	default:
		colon = memchr(message + from, ':', len - from);
		if (!colon || len > MESSAGE_MAX / 2)
			return len;
		from = colon + 1 - message;
		return replace(message, len, from, from + strcspn(message + from, ",}"), DRAW_OF(values));
	}
}

int main(int argc, char **argv)
{
	unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 0) : 50000;
	char message[MESSAGE_MAX + 256];

	setenv("ALTITUDE_REGISTRY", "/nonexistent", 1);
	for (unsigned long i = 0; i < count; i++) {
		size_t len = fill(message, DRAW_OF(good));

		if (draw(2))
			for (uint64_t n = draw(4); n > 0; n--)
				len = change(message, len);
		LLVMFuzzerTestOneInput((const uint8_t *)message, len);
	}
	server_fini(&server);
	printf("%lu messages, %lu of them agreed to\n", count, agreed);
	return agreed > count / 100 ? 0 : 1;
}

#endif
