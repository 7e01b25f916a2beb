/* SPDX-License-Identifier: MIT */
/*
 * Modules: what a loadable .so exports, one versioned descriptor under one symbol.
 */
#ifndef ALTITUDE_MODULE_H
#define ALTITUDE_MODULE_H

#include <stddef.h>
#include <stdint.h>

#define ALT_ABI 1u
#define ALT_MODULE_MAGIC 0x00544c41u /* "ALT" */
#define ALT_MODULE_SYMBOL "alt_module"

enum alt_module_kind {
	ALT_MODULE_FILTER = 1,
	ALT_MODULE_FILESYSTEM = 2,
	ALT_MODULE_BLOCKDEV = 3,
};

struct alt_module {
	uint32_t magic;              /* ALT_MODULE_MAGIC */
	uint32_t abi;                /* ALT_ABI */
	uint32_t kind;               /* enum alt_module_kind */
	uint32_t reserved;
	const void *registration;    /* struct alt_<kind>_registration */
};

#define ALT_MODULE(module_kind, reg) \
	__attribute__((visibility("default"))) const struct alt_module alt_module = { \
		.magic = ALT_MODULE_MAGIC, .abi = ALT_ABI, .kind = module_kind, .registration = &(reg) }

/** One option a module understands. Values arrive as strings; the module checks their form. */
struct alt_option {
	const char *name;
	const char *value;           /* what the value is, for the help: "MS", "PATTERN"; NULL: a switch */
	const char *help;            /* one line, with the default */
};

#endif
