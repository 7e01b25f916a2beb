/* SPDX-License-Identifier: MIT */
/*
 * dir: a directory as a volume. This file mounts and unmounts; the table below has every operation.
 *
 *   caller.c  acting as the caller      node.c  reaching a node       pin.c    what is in use
 *   names.c   names in a directory      list.c  listings              entry.c  what is told of a file
 *   attr.c    attributes                file.c  open files            xattr.c  extended attributes
 *   lock.c    locks                     owner.c who has them           wait.c   waiting for one
 *   watch.c   changes made beside the volume: whole.c and each.c  how they are heard    events.c  what they say
 */
#include "caller.h"
#include "watch.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

static void volume_free(struct dir_volume *volume)
{
	if (!volume)
		return;
	pin_uncache_all(volume);
	if (volume->root)
		pin_put(volume->root);
	if (volume->names >= 0)
		close(volume->names);
	pthread_cond_destroy(&volume->wait_cond);
	pthread_mutex_destroy(&volume->wait_lock);
	pthread_mutex_destroy(&volume->lock);
	free(volume->groups);
	free(volume);
}

static int groups_keep(struct dir_volume *volume)
{
	int count = getgroups(0, NULL);

	if (count < 0)
		return -errno;
	volume->groups = calloc(count + 1, sizeof(*volume->groups));
	if (!volume->groups)
		return -ENOMEM;
	volume->group_count = getgroups(count, volume->groups);
	return volume->group_count < 0 ? -errno : 0;
}

/*
 * Those that are one machine's own: no other machine, no other layer writes beneath them, so they tell of every change; and
 * an error of a write is told by the write, not by close(2).
 */
static bool filesystem_is_local(int fd)
{
	static const long magics[] = { EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, TMPFS_MAGIC, BTRFS_SUPER_MAGIC, F2FS_SUPER_MAGIC };
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return false;
	for (size_t i = 0; i < sizeof(magics) / sizeof(*magics); i++)
		if (fs.f_type == magics[i])
			return true;
	return false;
}

static struct dir_volume *volume_new(void)
{
	struct dir_volume *volume = calloc(1, sizeof(*volume));
	pthread_condattr_t attr;

	if (!volume)
		return NULL;
	pthread_mutex_init(&volume->lock, NULL);
	pthread_mutex_init(&volume->wait_lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&volume->wait_cond, &attr);
	pthread_condattr_destroy(&attr);
	volume->names = -1;
	volume->privileged = geteuid() == 0;
	if (volume->privileged)
		caller_prepare();
	volume->gid = getegid();
	if (groups_keep(volume) < 0) {
		volume_free(volume);
		return NULL;
	}
	return volume;
}

static int root_error(struct alt_error *err, const char *path, int code)
{
	const char *what = "check the path and its permissions";

	if (code == -ENOENT)
		what = "create it first, or correct the path";
	if (code == -ENOTDIR)
		what = "give a directory, as in dir:/srv/data";
	if (code == -EACCES)
		what = "you may not look into it";
	return alt_error_set(err, code, "cannot serve directory '%s': %s; %s", path,
			     strerror(-code), what);
}

static int root_open(struct dir_volume *volume, const char *path, struct alt_error *err)
{
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return root_error(err, path, -errno);
	volume->names = fd_names_open();
	/* O_PATH asks for no right to the directory itself. */
	if (faccessat(fd, ".", X_OK, AT_EACCESS) < 0) {
		r = root_error(err, path, -errno);
	} else if (volume->names < 0) {
		r = alt_error_set(err, -ENOSYS,
				  "cannot serve directory '%s': /proc is not mounted; "
				  "mount it with 'mount -t proc proc /proc'", path);
	} else {
		r = pin_of_fd(volume, fd, &volume->root);
		if (r < 0)
			r = root_error(err, path, r);
		volume->local = filesystem_is_local(fd);
	}
	close(fd);
	return r;
}

static int dir_mount(struct alt_volume *to, const char *arg, struct alt_error *err)
{
	const char *option = alt_volume_option(to, "watch");
	bool watch = !option || !*option || !strcmp(option, "yes");
	struct dir_volume *volume;
	int r;

	if (!watch && strcmp(option, "no"))
		return alt_error_set(err, -EINVAL, "dir: watch=%s is neither yes nor no", option);
	if (!arg || !*arg)
		return alt_error_set(err, -EINVAL,
				     "dir: no directory given; name one, as in dir:/srv/data");
	volume = volume_new();
	if (!volume)
		return alt_error_set(err, -ENOMEM, "cannot serve directory '%s': out of memory",
				     arg);
	r = root_open(volume, arg, err);
	if (r < 0) {
		volume_free(volume);
		return r;
	}
	alt_volume_set_data(to, volume);
	alt_volume_set_root(to, volume->root->key, NULL);
	if (watch)
		watch_start(volume, to, arg);
	return 0;
}

static void dir_unmount(struct alt_volume *from)
{
	struct dir_volume *volume = alt_volume_data(from);

	watch_stop(volume);
	lock_stop(volume);
	alt_volume_set_data(from, NULL);
	volume_free(volume);
}

static const struct alt_option options[] = {
	{ "watch", "SWITCH", "yes or no: hear of changes made beside the volume (default: yes)" },
	{ NULL, NULL, NULL }
};

static const struct alt_filesystem_registration dir_filesystem = {
	.size = sizeof(dir_filesystem),
	.name = "dir",
	.options = options,
	.flags = ALT_FS_UMASK | ALT_FS_ACL | ALT_FS_LOCKS,
	.mount = dir_mount,
	.unmount = dir_unmount,
	.forget = watch_forget,
	.ops = {
		[ALT_OP_LOOKUP] = dir_lookup,
		[ALT_OP_GETATTR] = dir_getattr,
		[ALT_OP_SETATTR] = dir_setattr,
		[ALT_OP_ACCESS] = dir_access,
		[ALT_OP_READLINK] = dir_readlink,
		[ALT_OP_MKNOD] = dir_mknod,
		[ALT_OP_MKDIR] = dir_mkdir,
		[ALT_OP_SYMLINK] = dir_symlink,
		[ALT_OP_LINK] = dir_link,
		[ALT_OP_UNLINK] = dir_unlink,
		[ALT_OP_RMDIR] = dir_rmdir,
		[ALT_OP_RENAME] = dir_rename,
		[ALT_OP_CREATE] = dir_create,
		[ALT_OP_TMPFILE] = dir_tmpfile,
		[ALT_OP_OPEN] = dir_open,
		[ALT_OP_READ] = dir_read,
		[ALT_OP_WRITE] = dir_write,
		[ALT_OP_FLUSH] = dir_flush,
		[ALT_OP_RELEASE] = dir_release,
		[ALT_OP_FSYNC] = dir_fsync,
		[ALT_OP_OPENDIR] = dir_opendir,
		[ALT_OP_READDIR] = dir_readdir,
		[ALT_OP_RELEASEDIR] = dir_releasedir,
		[ALT_OP_FSYNCDIR] = dir_fsyncdir,
		[ALT_OP_GETXATTR] = dir_getxattr,
		[ALT_OP_SETXATTR] = dir_setxattr,
		[ALT_OP_LISTXATTR] = dir_listxattr,
		[ALT_OP_REMOVEXATTR] = dir_removexattr,
		[ALT_OP_GETLK] = dir_getlk,
		[ALT_OP_SETLK] = dir_setlk,
		[ALT_OP_FALLOCATE] = dir_fallocate,
		[ALT_OP_LSEEK] = dir_lseek,
		[ALT_OP_COPY_FILE_RANGE] = dir_copy_file_range,
		[ALT_OP_IOCTL] = dir_ioctl,
		[ALT_OP_STATFS] = dir_statfs,
		[ALT_OP_SYNCFS] = dir_syncfs,
	},
};

ALT_FILESYSTEM(dir_filesystem);
