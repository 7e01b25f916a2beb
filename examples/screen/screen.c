/* SPDX-License-Identifier: MIT */
/*
 * screen: a program that a filter asks. It listens at the port of a content_screener and refuses files with given words.
 *
 *     altitude mount --filter content_screener:port=screen dir:files drive
 *     screen screen foul
 */
#include <altitude/listener.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The word of @words that is in the data, or NULL. */
static const char *find(char **words, const char *data, size_t size)
{
	for (; *words; words++)
		if (memmem(data, size, *words, strlen(*words)))
			return *words;
	return NULL;
}

int main(int argc, char **argv)
{
	struct alt_listener *listener;
	struct alt_error err = { 0 };
	char message[ALT_PORT_PAYLOAD_MAX], reason[256];
	uint64_t id;
	long size;

	if (argc < 3) {
		fprintf(stderr, "usage: screen PORT WORD...\n");
		return 2;
	}
	if (alt_listener_connect(argv[1], NULL, 0, &listener, &err) < 0) {
		fprintf(stderr, "screen: %s\n", err.text);
		return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("listening\n");
	while ((size = alt_listener_get(listener, &id, message, sizeof(message), -1)) >= 0) {
		size_t path = strnlen(message, size) + 1;       /* a path, a zero byte, the file's first bytes */
		const char *word = path < (size_t)size ? find(argv + 2, message + path, size - path) : NULL;

		snprintf(reason, sizeof(reason), "it has '%.200s'", word ? word : "");
		printf("%s %s\n", word ? "refused" : "allowed", message);
		alt_listener_reply(listener, id, word ? -EACCES : 0, reason, word ? strlen(reason) : 0);
	}
	alt_listener_close(listener);
	printf("the port is closed\n");
	return 0;
}
