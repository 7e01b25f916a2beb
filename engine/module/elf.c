/* SPDX-License-Identifier: MIT */
/* dlopen(3) maps what the headers promise and dies of a file that is shorter: so the promise is checked first. */
#include "module/elf.h"
#include <altitude/ntstatus.h>
#include <elf.h>
#include <link.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADERS_MAX 64

/* That of this library: what it is itself, a module has to be. */
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

static int damaged(struct alt_error *err, const char *path, const char *what)
{
	return alt_error_status(err, STATUS_INVALID_PARAMETER, "cannot load module '%s': it %s; build or install it again", path, what);
}

int elf_check(int fd, const char *path, struct alt_error *err)
{
	ElfW(Phdr) headers[HEADERS_MAX];
	ElfW(Ehdr) head;
	uint64_t size;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return alt_error_set(err, -errno, "cannot look at module '%s': %s", path, strerror(errno));
	size = st.st_size;
	if (pread(fd, &head, sizeof(head), 0) != sizeof(head) || memcmp(head.e_ident, ELFMAG, SELFMAG))
		return damaged(err, path, "is no shared object");
	if (head.e_ident[EI_CLASS] != __ehdr_start.e_ident[EI_CLASS] || head.e_ident[EI_DATA] != __ehdr_start.e_ident[EI_DATA] ||
	    head.e_machine != __ehdr_start.e_machine || head.e_type != ET_DYN || head.e_phentsize != sizeof(headers[0]))
		return damaged(err, path, "is no shared object of this machine");
	if (!head.e_phnum || head.e_phnum > HEADERS_MAX ||
	    pread(fd, headers, head.e_phnum * sizeof(headers[0]), head.e_phoff) != (ssize_t)(head.e_phnum * sizeof(headers[0])))
		return damaged(err, path, "is cut off");
	for (int i = 0; i < head.e_phnum; i++)
		if (headers[i].p_type == PT_LOAD && (headers[i].p_filesz > size || headers[i].p_offset > size - headers[i].p_filesz))
			return damaged(err, path, "is cut off");
	return 0;
}
