/* SPDX-License-Identifier: MIT */
/* Status values of the documents, with the documents' numbers; only the edges that promise them speak them. */
#ifndef ALTITUDE_NTSTATUS_H
#define ALTITUDE_NTSTATUS_H

#include <stdint.h>

#define ALT_STATUS_TABLE(X) \
	X(STATUS_SUCCESS,                       0x00000000u, 0) \
	X(STATUS_INVALID_PARAMETER,             0xC000000Du, EINVAL) \
	X(STATUS_ACCESS_DENIED,                 0xC0000022u, EACCES) \
	X(STATUS_OBJECT_NAME_NOT_FOUND,         0xC0000034u, ENOENT) \
	X(STATUS_OBJECT_NAME_COLLISION,         0xC0000035u, EEXIST) \
	X(STATUS_INSUFFICIENT_RESOURCES,        0xC000009Au, ENOMEM) \
	X(STATUS_IMAGE_ALREADY_LOADED,          0xC000010Eu, EALREADY) \
	X(STATUS_CANCELLED,                     0xC0000120u, ECANCELED) \
	X(STATUS_FAILED_DRIVER_ENTRY,           0xC0000365u, ELIBBAD) \
	X(STATUS_DRIVER_FAILED_PRIOR_UNLOAD,    0xC000038Eu, EBUSY) \
	X(STATUS_FLT_CONTEXT_ALREADY_DEFINED,   0xC01C0002u, EEXIST) \
	X(STATUS_FLT_FILTER_NOT_READY,          0xC01C0008u, EAGAIN) \
	X(STATUS_FLT_DELETING_OBJECT,           0xC01C000Bu, ESHUTDOWN) \
	X(STATUS_FLT_CBDQ_DISABLED,             0xC01C000Eu, ESHUTDOWN) \
	X(STATUS_FLT_DO_NOT_ATTACH,             0xC01C000Fu, EPERM) \
	X(STATUS_FLT_DO_NOT_DETACH,             0xC01C0010u, EBUSY) \
	X(STATUS_FLT_INSTANCE_ALTITUDE_COLLISION, 0xC01C0011u, EEXIST) \
	X(STATUS_FLT_INSTANCE_NAME_COLLISION,   0xC01C0012u, EEXIST) \
	X(STATUS_FLT_FILTER_NOT_FOUND,          0xC01C0013u, ENOENT) \
	X(STATUS_FLT_VOLUME_NOT_FOUND,          0xC01C0014u, ENOENT) \
	X(STATUS_FLT_INSTANCE_NOT_FOUND,        0xC01C0015u, ENOENT) \
	X(STATUS_FLT_CONTEXT_ALREADY_LINKED,    0xC01C001Cu, EEXIST)

#define ALT_STATUS_DECLARE(name, value, no) static const uint32_t name __attribute__((unused)) = value;
ALT_STATUS_TABLE(ALT_STATUS_DECLARE)
#undef ALT_STATUS_DECLARE

/** Negative errno of a status; -EIO for one that is not in the table. */
int alt_status_errno(uint32_t status);

/** Name of a status, or "?". */
const char *alt_status_name(uint32_t status);

#endif
