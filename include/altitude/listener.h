/* SPDX-License-Identifier: MIT */
/*
 * Listeners: programs that a filter asks, through its communication port.
 *
 *     struct alt_listener *l;
 *     if (alt_listener_connect("screen", NULL, 0, &l, &err) < 0)
 *             ...err.text
 *     while ((n = alt_listener_get(l, &id, buf, sizeof buf, -1)) >= 0)
 *             alt_listener_reply(l, id, is_foul(buf, n) ? -EACCES : 0, NULL, 0);
 *
 * Source: FilterConnectCommunicationPort, FilterGetMessage, FilterReplyMessage, FilterSendMessage.
 */
#ifndef ALTITUDE_LISTENER_H
#define ALTITUDE_LISTENER_H

#include <altitude/port.h>

struct alt_listener;

/**
 * @port     name; looked for in the runtime directory of the process's user (ALTITUDE_RUNTIME, /run/altitude, ...)
 * @context  for the filter's connect handler; at most ALT_PORT_PAYLOAD_MAX bytes
 * 0; -ENOENT: no such port; the filter's own -errno when it sends the listener away.
 */
int alt_listener_connect(const char *port, const void *context, size_t size, struct alt_listener **ret,
			 struct alt_error *err);

/** Readable when a message waits. Stays the listener's. */
int alt_listener_fd(const struct alt_listener *l);

/**
 * Wait for the next message.
 * @ret_id      to reply to; 0: no reply is wanted
 * @timeout_ms  -1: for ever
 * Bytes of the message; -ETIMEDOUT; -EPIPE: the port is closed; -EMSGSIZE: it is longer than @size (the filter is told so).
 * One thread at a time, also with alt_listener_call().
 */
long alt_listener_get(struct alt_listener *l, uint64_t *ret_id, void *buf, size_t size, int timeout_ms);

/** Reply: @status is 0 or -errno. 0 when sent, -EPIPE. Any thread. */
int alt_listener_reply(struct alt_listener *l, uint64_t id, int status, const void *data, size_t size);

/** Ask the filter. Bytes of the answer in @out (at most @room, the rest is cut), or -errno, the filter's own too. */
long alt_listener_call(struct alt_listener *l, const void *in, size_t size, void *out, size_t room);

/** Replies for which nobody waited any more (STATUS_FLT_NO_WAITER_FOR_REPLY), as far as was heard. */
unsigned long alt_listener_late(const struct alt_listener *l);

void alt_listener_close(struct alt_listener *l);

#endif
