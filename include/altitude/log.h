/* SPDX-License-Identifier: MIT */
/*
 * The log of a server: syslog (facility daemon), and stderr while it runs in the foreground.
 */
#ifndef ALTITUDE_LOG_H
#define ALTITUDE_LOG_H

#include <syslog.h>

/** One line, without a newline. @priority: LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG. Any thread. */
void alt_log(int priority, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
