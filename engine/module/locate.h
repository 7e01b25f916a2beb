/* SPDX-License-Identifier: MIT */
#ifndef MODULE_LOCATE_H
#define MODULE_LOCATE_H

#include "module/module.h"

/* Of an enum alt_module_kind, as people are told of it. */
extern const char *const module_kind_names[];

/*
 * The path, to be freed, of what module_load() is to load. It is there, nothing more is known of it.
 * 0; STATUS_OBJECT_NAME_NOT_FOUND, with a name that is near if there is one; -EPERM when its manifest disables it; -ENOMEM.
 */
int module_locate(const char *name, enum alt_module_kind kind, char **ret, struct alt_error *err);

#endif
