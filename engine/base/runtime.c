/* SPDX-License-Identifier: MIT */
/* The directory where servers and those who ask them meet. */
#include "base/base.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int runtime_directory(char *buf, size_t size, struct alt_error *err)
{
	const char *given = getenv("ALTITUDE_RUNTIME"), *xdg = getenv("XDG_RUNTIME_DIR");
	struct stat st;
	int n;

	if (given && *given)
		n = snprintf(buf, size, "%s", given);
	else if (geteuid() == 0)
		n = snprintf(buf, size, "/run/altitude");
	else if (xdg && *xdg)
		n = snprintf(buf, size, "%s/altitude", xdg);
	else
		n = snprintf(buf, size, "/tmp/altitude-%u", geteuid());
	if (n < 0 || (size_t)n >= size || n > RUNTIME_DIRECTORY_MAX)
		return alt_error_set(err, -ENAMETOOLONG, "the runtime directory's path is too long; set ALTITUDE_RUNTIME to a shorter one");
	if (mkdir(buf, 0700) < 0 && errno != EEXIST)
		return alt_error_set(err, -errno, "cannot make the runtime directory '%s': %s", buf, strerror(errno));
	if (lstat(buf, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
		return alt_error_set(err, -EPERM, "the runtime directory '%s' is not yours alone; remove it, or set ALTITUDE_RUNTIME", buf);
	return 0;
}
