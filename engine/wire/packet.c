/* SPDX-License-Identifier: MIT */
#include "wire/packet.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

int packet_send(int fd, enum alt_port_kind kind, uint64_t id, int status, const void *data, size_t size, int flags)
{
	struct alt_port_header h = {
		.magic = ALT_PORT_MAGIC, .version = ALT_PORT_VERSION, .kind = kind, .id = id, .size = size, .status = status,
	};
	struct iovec parts[] = { { &h, sizeof h }, { (void *)data, size } };
	struct msghdr m = { .msg_iov = parts, .msg_iovlen = size ? 2 : 1 };
	ssize_t n;

	if (size > ALT_PORT_PAYLOAD_MAX)
		return -EMSGSIZE;
	do
		n = sendmsg(fd, &m, flags | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 0;
	return errno == EAGAIN ? -EAGAIN : -EPIPE;
}

int packet_receive(int fd, struct alt_port_header *h, void *buf, size_t room, int flags)
{
	struct iovec parts[] = { { h, sizeof *h }, { buf, room } };
	struct msghdr m = { .msg_iov = parts, .msg_iovlen = room ? 2 : 1 };
	ssize_t n;

	/* With MSG_TRUNC the packet's own length is told, however little of it fits. */
	do
		n = recvmsg(fd, &m, flags | MSG_TRUNC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? -EAGAIN : -EPIPE;
	if (n == 0)
		return -EPIPE;
	if ((size_t)n < sizeof *h || h->magic != ALT_PORT_MAGIC || h->version != ALT_PORT_VERSION ||
	    h->size > ALT_PORT_PAYLOAD_MAX || (size_t)n != sizeof *h + h->size)
		return -EPROTO;
	return 0;
}
