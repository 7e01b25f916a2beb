/* SPDX-License-Identifier: MIT */
/*
 * Kit: the time of day, as file systems stamp it.
 */
#ifndef ALTITUDE_KIT_TIME_H
#define ALTITUDE_KIT_TIME_H

#include <altitude/op.h>

#include <time.h>

/** Now, with the resolution (the clock tick) that the kernel's own file systems stamp with. Any thread. */
static inline struct alt_time alt_time_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME_COARSE, &ts);
	return (struct alt_time){ .sec = ts.tv_sec, .nsec = (uint32_t)ts.tv_nsec };
}

#endif
