/* SPDX-License-Identifier: MIT */
/*
 * Communication ports: a filter asks programs outside of the server, and is asked by them.
 *
 * A port is a SOCK_SEQPACKET socket NAME.port in the server's runtime directory; whoever connects is known by its
 * credentials, and only root and the server's own user are let in. A program uses it with <altitude/listener.h>, or with
 * plain send(2) and recv(2): each packet is one struct alt_port_header and its payload.
 *
 * Nothing waits for ever: each question has a deadline and says what the answer is when none comes. A listener that
 * let ALT_PORT_MISSES questions in a row pass is not asked any more until it answers something. Whoever connects and does not
 * say who it is gives its place up when it is needed.
 * Source: FltCreateCommunicationPort, FltSendMessage, FltCloseClientPort; FILTER_MESSAGE_HEADER, FILTER_REPLY_HEADER.
 */
#ifndef ALTITUDE_PORT_H
#define ALTITUDE_PORT_H

#include <altitude/error.h>
#include <altitude/op.h>

#define ALT_PORT_MAGIC 0x50544c41u     /* "ALTP" in memory */
#define ALT_PORT_VERSION 1
#define ALT_PORT_PAYLOAD_MAX 65536     /* bytes after the header */
#define ALT_PORT_NAME_MAX 20           /* letters, digits, '-', '_' and '.' */
#define ALT_PORT_CONNECTIONS_MAX 16
#define ALT_PORT_MISSES 3

enum alt_port_kind {
	ALT_PORT_CONNECT = 1,          /* listener, first packet: payload is the context for the filter */
	ALT_PORT_ACCEPT = 2,           /* port: @status of the connection; the listener is let in when 0 */
	ALT_PORT_ASK = 3,              /* port: a question; exactly one ALT_PORT_REPLY with its @id is expected */
	ALT_PORT_TELL = 4,             /* port: a message without reply */
	ALT_PORT_REPLY = 5,            /* listener: @id and @status, payload */
	ALT_PORT_LATE = 6,             /* port: nobody waited any more for the reply @id */
	ALT_PORT_CALL = 7,             /* listener: a question to the filter, @id of its own */
	ALT_PORT_ANSWER = 8,           /* port: answer to the call @id */
};

/** Before each payload, in the byte order of the machine. */
struct alt_port_header {
	uint32_t magic;
	uint16_t version;
	uint16_t kind;                 /* enum alt_port_kind */
	uint64_t id;
	uint32_t size;                 /* bytes that follow: what the packet has beyond this header */
	int32_t status;                /* 0 or -errno; ALT_PORT_ACCEPT, ALT_PORT_REPLY and ALT_PORT_ANSWER */
};

struct alt_port;

/** All on the port's own thread, one at a time; they must not ask the same port. Each may be NULL. */
struct alt_port_handlers {
	/** A listener comes, with its context. Not 0: it is sent away with that -errno. @ret_cookie stands for it from now on. */
	int (*connect)(void *arg, const struct alt_caller *peer, const void *context, size_t size, void **ret_cookie);
	/** It is gone (closed, killed, sent away), or the port is closed. Once for each connect that answered 0. */
	void (*disconnect)(void *arg, void *cookie);
	/** It asks. Fill at most @room bytes of @out. Bytes filled, or -errno. Without this member: -EOPNOTSUPP. */
	long (*message)(void *arg, void *cookie, const void *in, size_t size, void *out, size_t room);
};

/**
 * Open a port. Usually in setup; closed again in teardown_complete.
 * @handlers     must stay; NULL: none
 * @connections  most listeners at once, 1..ALT_PORT_CONNECTIONS_MAX; one more is sent away with -EUSERS
 * 0; -EEXIST (STATUS_OBJECT_NAME_COLLISION) when a living server has a port of that name; -EINVAL for a bad name or number.
 */
int alt_port_open(const char *name, const struct alt_port_handlers *handlers, void *arg, unsigned connections,
		  struct alt_port **ret, struct alt_error *err);

/** Nobody comes in any more; who is in stays. Source: FltCloseCommunicationPort. */
void alt_port_stop(struct alt_port *port);

/** Stop, send away who is in, wait for the handlers and for those who ask (they get their policy's answer). NULL is allowed. */
void alt_port_close(struct alt_port *port);

/** One question, or message. */
struct alt_port_message {
	const void *data;              /* @size bytes, at most ALT_PORT_PAYLOAD_MAX */
	size_t size;
	void *reply;                   /* room for the reply's payload; NULL: only the status is wanted */
	size_t reply_size;             /* bytes of room; then: bytes the listener sent (more than the room: cut, @why is -EMSGSIZE) */
	unsigned timeout_ms;           /* 1.. */
	int otherwise;                 /* the policy: 0 (allow) or -errno (deny) when no listener answers */
	struct alt_op *op;             /* for whom is asked: the question ends when its caller gives up; NULL: nobody */
	int why;                       /* 0: a listener answered; -ENOTCONN: nobody to ask; -ETIMEDOUT; -EPIPE: it went away;
					* -EINTR: the caller gave up; -EMSGSIZE */
};

/**
 * Ask a listener (with several: one after the other) and wait for its reply.
 * Returns the listener's status, or m->otherwise with the reason in m->why. Blocks: on a worker (ALT_PRE_DISALLOW_FASTIO).
 * @m->op must not have a cancel routine of its own.
 */
int alt_port_ask(struct alt_port *port, struct alt_port_message *m);

/** Send without waiting for anything to every listener. How many got it (one whose queue is full does not). */
int alt_port_tell(struct alt_port *port, const void *data, size_t size);

/** How many listeners there are. */
unsigned alt_port_count(struct alt_port *port);

/** The caller of @op is a listener of this port: what it does itself must not be asked of it. */
bool alt_port_is_listener(struct alt_port *port, const struct alt_op *op);

#endif
