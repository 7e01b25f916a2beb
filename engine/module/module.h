/* SPDX-License-Identifier: MIT */
/*
 * owns      modules in memory and their states, the registry of manifests
 * never     attaches anything; never loads a file that somebody else could have written
 * hands to  stack (filters) and io (file systems), which use the registration
 */
#ifndef MODULE_MODULE_H
#define MODULE_MODULE_H

#include <altitude/error.h>
#include <altitude/module.h>
#include <stdbool.h>

enum module_state { MODULE_ABSENT, MODULE_LOADING, MODULE_REGISTERED, MODULE_FILTERING, MODULE_UNLOADING, MODULE_ZOMBIE };
enum start_type { START_BOOT, START_SYSTEM, START_AUTO, START_DEMAND, START_DISABLED };

struct module;

/*
 * Load @name ("trace", or a path with a '/') of @kind. A name is looked for in the registry's manifests first, then as
 * NAME.so in $ALTITUDE_MODULE_PATH (colon separated) and the installed directory.
 * Errors: STATUS_OBJECT_NAME_NOT_FOUND, STATUS_IMAGE_ALREADY_LOADED, STATUS_DRIVER_FAILED_PRIOR_UNLOAD (naming the
 * holder), STATUS_INVALID_PARAMETER (no module, wrong abi or kind), STATUS_ACCESS_DENIED (writable by others, or foreign owner).
 */
int module_load(const char *name, enum alt_module_kind kind, struct module **ret, struct alt_error *err);
struct module *module_find(const char *name, enum alt_module_kind kind);  /* borrowed; NULL when not loaded */
const struct alt_module *module_descriptor(const struct module *m);
const char *module_name(const struct module *m);
enum module_state module_state(const struct module *m);
void module_set_state(struct module *m, enum module_state s);
const char *module_state_name(enum module_state s);
/* The module in whose code or data @address lies, borrowed; NULL: in none, or it is NULL. */
struct module *module_of(const void *address);
/*
 * Keep the code in memory past an unload: for what may call it whenever it likes, and is not over when the last instance is.
 * @who is named when an unload or a load is refused; as often as it holds it releases. A NULL @m is fine. Any thread.
 */
void module_hold(struct module *m, const char *who);
void module_release(struct module *m, const char *who);
/*
 * Unload: dlclose, and check that it is gone. Held: stays, state UNLOADING; still mapped afterwards: ZOMBIE. 0 or -EBUSY.
 * What stays leaves, when it can, before the next load of its name.
 */
int module_unload(struct module *m, struct alt_error *err);
/* true: one of this name was unloaded, and is held still; @who gets by whom. One that nobody holds any more leaves now. */
bool module_leaving(const char *name, enum alt_module_kind kind, char *who, size_t size);

/* The registry: one INI file a module in $ALTITUDE_REGISTRY, else /etc/altitude/registry.d. */
enum manifest_instance_flags { MANIFEST_NO_AUTOMATIC = 1u << 0, MANIFEST_NO_MANUAL = 1u << 1 };
struct manifest_instance { char *name, *altitude; uint32_t flags; };
struct manifest {
	char *name, *module, *kind, *group, *default_instance;
	enum start_type start;
	uint32_t order;                                /* of installation, from "Order=" */
	struct manifest_instance *instances;
	size_t instance_count;
};
int manifest_parse(const char *path, struct manifest **ret, struct alt_error *err);  /* regular file, at most 64 KiB */
void manifest_free(struct manifest *m);
const char *registry_directory(void);          /* $ALTITUDE_REGISTRY, else the installed one */
/* The manifest of @name, to be freed; *ret NULL when there is none. -errno only for a broken registry. */
int manifest_find(const char *name, enum alt_module_kind kind, struct manifest **ret, struct alt_error *err);
/*
 * All manifests in start order: start type, then group (bottom first; none last) for boot and system, then order. Two of one name
 * and kind: -EINVAL.
 */
int registry_read(const char *dir, struct manifest ***ret, size_t *count, struct alt_error *err);

#endif
