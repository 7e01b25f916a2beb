/* SPDX-License-Identifier: MIT */
/*
 * owns      a kernel in the test's own process: it writes messages to a session and keeps the answers
 * never     leaves tests: test_loopback and fuzz_session drive a whole server with it, without a mount
 * hands to  session_give()
 */
#ifndef SESSION_TEST_KERNEL_H
#define SESSION_TEST_KERNEL_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "module/module.h"
#include "session/session.h"
#include "wire/proto.h"

#define K_FN static __attribute__((unused))
#define K_ANSWERS 4096           /* uniques are 1..K_ANSWERS - 1 */

struct k_answer {
	int count;               /* more than one is an answer too many */
	int error;
	size_t size;             /* of the body */
	void *body;
};

struct kernel {
	struct module *module;   /* of the file system */
	struct alt_volume *volume;
	struct session *session;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct k_answer answers[K_ANSWERS];      /* [lock] */
	long total, strange;     /* [lock] answers; those with a wrong length or an unknown number */
	uint64_t unique;         /* of the last message */
	bool refuses;            /* [lock] answers: who asked has been killed. They are kept all the same */
};

static int k_take(void *arg, const struct iovec *iov, int count)
{
	struct kernel *k = arg;
	struct fuse_out_header h;
	struct k_answer *a;
	size_t size = 0;
	bool refused;

	memcpy(&h, iov[0].iov_base, sizeof(h));
	for (int i = 0; i < count; i++)
		size += iov[i].iov_len;
	pthread_mutex_lock(&k->lock);
	k->total++;
	refused = k->refuses;
	if (h.len != size || size < sizeof(h) || h.error > 0 || h.error <= -512 || !h.unique || h.unique >= K_ANSWERS) {
		k->strange++;
	} else {
		a = &k->answers[h.unique];
		a->count++;
		a->error = h.error;
		a->size = size - sizeof(h);
		free(a->body);
		while (!(a->body = malloc(a->size + 1))) /* ours does not fail, where tests make the server's */
			;
		size = iov[0].iov_len - sizeof(h);
		memcpy(a->body, (char *)iov[0].iov_base + sizeof(h), size);
		if (count > 1)
			memcpy((char *)a->body + size, iov[1].iov_base, iov[1].iov_len);
	}
	pthread_cond_broadcast(&k->changed);
	pthread_mutex_unlock(&k->lock);
	return refused ? -ENOENT : 0;
}

/* A volume of @fs ("mem") without filters; 0, or -1 after the reason is printed. */
K_FN int k_begin(struct kernel *k, const char *fs)
{
	struct alt_error err = { 0 };
	int r;

	memset(k, 0, sizeof(*k));
	pthread_mutex_init(&k->lock, NULL);
	pthread_cond_init(&k->changed, NULL);
	r = module_load(fs, ALT_MODULE_FILESYSTEM, &k->module, &err);
	if (!r)
		r = volume_new("test", module_descriptor(k->module)->registration, "", NULL, &k->volume, &err);
	if (!r)
		r = stack_volume_init(k->volume);
	if (!r)
		r = session_loopback(k->volume, k_take, k, &k->session);
	if (r)
		fprintf(stderr, "no volume of %s: %s\n", fs, err.text);
	return r ? -1 : 0;
}

/* As a server ends. false: something is still held, or an answer was strange. */
K_FN bool k_end(struct kernel *k)
{
	bool good;

	session_free(k->session);
	stack_volume_fini(k->volume);
	good = !k->volume->inflight && !k->strange;
	volume_free(k->volume);
	if (module_unload(k->module, NULL) < 0)
		good = false;
	for (int i = 0; i < K_ANSWERS; i++)
		free(k->answers[i].body);
	pthread_mutex_destroy(&k->lock);
	pthread_cond_destroy(&k->changed);
	return good;
}

/* Bytes as they are. */
K_FN void k_send_raw(struct kernel *k, const void *message, size_t size)
{
	session_give(k->session, message, size);
}

/* A message of up to two parts behind its header; its number is answered. */
K_FN uint64_t k_send(struct kernel *k, uint32_t opcode, uint64_t node, const void *a, size_t a_size, const void *b, size_t b_size)
{
	struct fuse_in_header h = { .len = (uint32_t)(sizeof(h) + a_size + b_size), .opcode = opcode, .unique = ++k->unique,
				    .nodeid = node, .pid = (uint32_t)getpid() };
	char *message;

	while (!(message = malloc(h.len)))
		;
	memcpy(message, &h, sizeof(h));
	if (a_size)
		memcpy(message + sizeof(h), a, a_size);
	if (b_size)
		memcpy(message + sizeof(h) + a_size, b, b_size);
	session_give(k->session, message, h.len);
	free(message);
	return h.unique;
}

/* How often @unique was answered up to now. */
K_FN int k_answered(struct kernel *k, uint64_t unique)
{
	int count;

	pthread_mutex_lock(&k->lock);
	count = k->answers[unique].count;
	pthread_mutex_unlock(&k->lock);
	return count;
}

/* Wait for the answer: its error, 0 or -errno; -EPROTO for the second of two. */
K_FN int k_wait(struct kernel *k, uint64_t unique)
{
	int r;

	pthread_mutex_lock(&k->lock);
	while (!k->answers[unique].count)
		pthread_cond_wait(&k->changed, &k->lock);
	r = k->answers[unique].count == 1 ? k->answers[unique].error : -EPROTO;
	pthread_mutex_unlock(&k->lock);
	return r;
}

/* Body of an answer that was waited for: at least @size bytes, or NULL. */
K_FN const void *k_body(struct kernel *k, uint64_t unique, size_t size)
{
	return k->answers[unique].size >= size ? k->answers[unique].body : NULL;
}

#endif
