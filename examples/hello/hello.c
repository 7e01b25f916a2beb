/* SPDX-License-Identifier: MIT */
/* hello: a file system with one file. Try: altitude mount hello: /mnt && cat /mnt/hello */
#include <altitude/filesystem.h>

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static const char text[] = "Hello from altitude.\n";

/* Nodes carry what the file system gives them: here a whole entry. */
static struct alt_entry root = { .key.id = 1, .attr = { .ino = 1, .mode = S_IFDIR | 0555, .nlink = 2 },
				 .data = &root };
static struct alt_entry file = { .key.id = 2, .attr = { .ino = 2, .mode = S_IFREG | 0444, .nlink = 1,
				 .size = sizeof(text) - 1 }, .data = &file };

static int hello_lookup(struct alt_op *op)
{
	if (strcmp(op->p->name, "hello"))
		return -ENOENT;
	op->r.entry = file;
	return 0;
}

static int hello_getattr(struct alt_op *op)
{
	op->r.entry.attr = ((struct alt_entry *)alt_node_data(op->node))->attr;
	return 0;
}

static int hello_readdir(struct alt_op *op)
{
	if (op->p->offset == 0)
		alt_dirent_add(op, "hello", file.attr.ino, DT_REG, 1, &file);
	return 0;
}

static int hello_read(struct alt_op *op)
{
	size_t left = op->p->offset < (int64_t)sizeof(text) - 1 ? sizeof(text) - 1 - op->p->offset : 0;

	op->r.size = op->p->size < left ? op->p->size : left;
	if (op->r.size)
		memcpy(op->p->buf, text + op->p->offset, op->r.size);
	return 0;
}

static int hello_mount(struct alt_volume *volume, const char *arg, struct alt_error *err)
{
	(void)arg;
	(void)err;
	alt_volume_set_root(volume, root.key, &root);
	return 0;
}

static const struct alt_filesystem_registration registration = {
	.size = sizeof(registration),
	.name = "hello",
	.mount = hello_mount,
	.ops = {
		[ALT_OP_LOOKUP] = hello_lookup,
		[ALT_OP_GETATTR] = hello_getattr,
		[ALT_OP_READDIR] = hello_readdir,
		[ALT_OP_READ] = hello_read,
	},
};

ALT_FILESYSTEM(registration);
