/* SPDX-License-Identifier: MIT */
/*
 * Errors: negative errno inside; one explanation, made where the fault is known.
 * The function that finds a fault fills the alt_error; those above return its number unchanged.
 */
#ifndef ALTITUDE_ERROR_H
#define ALTITUDE_ERROR_H

#include <stdint.h>

struct alt_error {
	int code;                /* negative errno; 0 = nothing wrong yet */
	uint32_t status;         /* NTSTATUS where the documents name one, else 0 */
	char text[512];          /* one line: what, where, what to do */
};

/**
 * Explain a failure and return @code, so that "return alt_error_set(err, -ENOENT, ...)" is one line.
 * The first explanation stays: a later call on a filled @err changes nothing. @err may be NULL.
 */
int alt_error_set(struct alt_error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/** The same with the documents' status value (ntstatus.h); the errno is taken from its table. */
int alt_error_status(struct alt_error *err, uint32_t status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
