/* SPDX-License-Identifier: MIT */
#include "base/base.h"
#include <altitude/log.h>

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static _Atomic bool quiet; /* stderr leads nowhere */

void log_background(void)
{
	atomic_store(&quiet, true);
	openlog("altitude", LOG_PID, LOG_DAEMON);
}

void alt_log(int priority, const char *format, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(line, sizeof line, format, ap);
	va_end(ap);
	if (atomic_load(&quiet))
		syslog(priority, "%s", line);
	else
		fprintf(stderr, "altitude: %s\n", line);
}
