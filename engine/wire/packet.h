/* SPDX-License-Identifier: MIT */
/*
 * owns      the packets of communication ports: a header and a payload in one SOCK_SEQPACKET packet
 * never     trusts what the other side says of its size
 * hands to  stack (ports), control (listeners)
 */
#ifndef WIRE_PACKET_H
#define WIRE_PACKET_H

#include <altitude/port.h>

#include <sys/types.h>

/* One packet, whole or not at all. @flags  of send(2). 0 or -errno: -EAGAIN with MSG_DONTWAIT, -EPIPE when the other side is gone. */
int packet_send(int fd, enum alt_port_kind kind, uint64_t id, int status, const void *data, size_t size, int flags);

/*
 * One packet: its header, and as much of its payload as fits in @buf (h->size tells how much there was).
 * 0; -EAGAIN with MSG_DONTWAIT; -EPIPE: the other side is gone; -EPROTO: not one of ours.
 */
int packet_receive(int fd, struct alt_port_header *h, void *buf, size_t room, int flags);

#endif
