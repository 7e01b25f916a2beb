/* SPDX-License-Identifier: MIT */
/*
 * The control socket: one for each server process, PID.sock in the runtime directory. Messages are JSON objects in
 * SOCK_SEQPACKET packets: {"v":1,"cmd":"instances"} and {"v":1,"ok":true,...} or {"v":1,"ok":false,"error":"..."}.
 */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include "base/base.h"
#include "control/server.h"
#include <jansson.h>

#define CONTROL_VERSION 1
#define CONTROL_MESSAGE_MAX 65536

int control_start(struct server *s, struct alt_error *err);
void control_stop(struct server *s);           /* nobody is let in any more, no new command is taken */
void control_free(struct server *s);           /* waits for commands that are under way */

/* Answer one message; never NULL but without memory. Any bytes. */
json_t *control_answer(struct server *s, const char *message, size_t len);

/*
 * Client: ask each live server; @fn gets each answer (borrowed). Returns how many answered; @err is set as well when one does
 * not for some seconds, being stopped or hung. Dead sockets are removed.
 */
int control_ask_all(json_t *request, void (*fn)(json_t *answer, void *arg), void *arg, struct alt_error *err);
/* Called each time an answer has not come for some more seconds; NULL: nobody is told. */
extern void (*control_waits)(json_t *request);
/*
 * Ask the server whose volume has the name or mounting point @where; NULL: the only one. New reference, or NULL. Its answer is
 * awaited for as long as it takes.
 */
json_t *control_ask(const char *where, json_t *request, struct alt_error *err);

#endif
