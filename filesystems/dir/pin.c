/* SPDX-License-Identifier: MIT */
/*
 * While a node is in use it has a pin: an O_PATH descriptor that follows the inode through renames and unlinks, found by its
 * key. So an open file that was unlinked still answers, and a node nobody uses costs no descriptor. The directories used last
 * stay pinned.
 *
 * An inode number comes again when its file is gone; ext4 gives it to the next one that is made. The two are told apart by
 * their time of birth, which statx(2) tells along with the rest. It goes by the tick of the file system's clock (some
 * milliseconds): what is made, known, removed and replaced within one is taken for one file, unless it is made through
 * the volume. A pin is never of the past: it keeps its inode, and so the number.
 */
#include "node.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static unsigned key_bucket(struct alt_key key)
{
	uint64_t hash = (key.id ^ (key.dev << 40)) * 0x9e3779b97f4a7c15u;

	return hash >> 54;
}

static struct dir_pin *table_find_locked(struct dir_volume *volume, struct alt_key key)
{
	struct dir_pin *pin = volume->table[key_bucket(key)];

	while (pin && !key_same(pin->key, key))
		pin = pin->next;
	return pin;
}

static void table_remove_locked(struct dir_pin *pin)
{
	struct dir_pin **at = &pin->volume->table[key_bucket(pin->key)];

	while (*at != pin)
		at = &(*at)->next;
	*at = pin->next;
}

static void pin_free(struct dir_pin *pin)
{
	lock_drop_all(pin);
	close(pin->fd);
	pthread_mutex_destroy(&pin->lock);
	free(pin);
}

/* Returns the pin to free once the lock is let go, or NULL. */
static struct dir_pin *pin_put_locked(struct dir_pin *pin)
{
	if (--pin->refs)
		return NULL;
	table_remove_locked(pin);
	return pin;
}

void pin_ref(struct dir_pin *pin)
{
	pthread_mutex_lock(&pin->volume->lock);
	pin->refs++;
	pthread_mutex_unlock(&pin->volume->lock);
}

void pin_put(struct dir_pin *pin)
{
	struct dir_volume *volume = pin->volume;
	struct dir_pin *last;
	int saved = errno;

	pthread_mutex_lock(&volume->lock);
	last = pin_put_locked(pin);
	pthread_mutex_unlock(&volume->lock);
	if (last)
		pin_free(last);
	errno = saved;
}

static struct dir_pin *cache_drop_locked(struct dir_volume *volume, unsigned slot)
{
	struct dir_pin *pin = volume->cache[slot];

	volume->cache[slot] = NULL;
	if (!pin)
		return NULL;
	pin->cached = false;
	return pin_put_locked(pin);
}

static unsigned cache_oldest_locked(const struct dir_volume *volume)
{
	unsigned oldest = 0;

	for (unsigned i = 0; i < PIN_CACHED; i++) {
		if (!volume->cache[i])
			return i;
		if (volume->cache[i]->used < volume->cache[oldest]->used)
			oldest = i;
	}
	return oldest;
}

/* Returns a pin that was pushed out and is to be freed, or NULL. */
static struct dir_pin *cache_touch_locked(struct dir_volume *volume, struct dir_pin *pin)
{
	struct dir_pin *out;
	unsigned slot;

	/* A descriptor on another file system would keep that from being unmounted. */
	if (!S_ISDIR(pin->type) || !volume->root || pin->key.dev != volume->root->key.dev)
		return NULL;
	pin->used = ++volume->clock;
	if (pin->cached)
		return NULL;
	slot = cache_oldest_locked(volume);
	out = cache_drop_locked(volume, slot);
	volume->cache[slot] = pin;
	pin->cached = true;
	pin->refs++;
	return out;
}

void pin_uncache(struct dir_volume *volume, struct alt_key key)
{
	struct dir_pin *last = NULL;

	pthread_mutex_lock(&volume->lock);
	for (unsigned i = 0; i < PIN_CACHED && !last; i++)
		if (volume->cache[i] && key_same(volume->cache[i]->key, key))
			last = cache_drop_locked(volume, i);
	pthread_mutex_unlock(&volume->lock);
	if (last)
		pin_free(last);
}

void pin_uncache_all(struct dir_volume *volume)
{
	for (unsigned i = 0; i < PIN_CACHED; i++) {
		struct dir_pin *last;

		pthread_mutex_lock(&volume->lock);
		last = cache_drop_locked(volume, i);
		pthread_mutex_unlock(&volume->lock);
		if (last)
			pin_free(last);
	}
}

struct dir_pin *pin_find(struct dir_volume *volume, struct alt_key key)
{
	struct dir_pin *pin, *out = NULL;

	pthread_mutex_lock(&volume->lock);
	pin = table_find_locked(volume, key);
	if (pin) {
		pin->refs++;
		out = cache_touch_locked(volume, pin);
	}
	pthread_mutex_unlock(&volume->lock);
	if (out)
		pin_free(out);
	return pin;
}

bool pin_is_mappable(struct dir_volume *volume, struct alt_key key)
{
	struct dir_pin *pin;
	bool mappable;

	pthread_mutex_lock(&volume->lock);
	pin = table_find_locked(volume, key);
	mappable = pin && atomic_load(&pin->mappable);
	pthread_mutex_unlock(&volume->lock);
	return mappable;
}

bool pin_is_unlinked(struct dir_volume *volume, struct alt_key key)
{
	SCOPED_PIN pin = pin_find(volume, key);
	struct stat st;

	return pin && fstat(pin->fd, &st) == 0 && !st.st_nlink;
}

static struct dir_pin *pin_new(struct dir_volume *volume, int fd, const struct dir_identity *of)
{
	struct dir_pin *pin = calloc(1, sizeof(*pin));

	if (!pin)
		return NULL;
	pin->volume = volume;
	pin->key = of->key;
	pin->generation = of->generation;
	pin->type = of->type;
	pin->refs = 1;
	pin->fd = fd;
	pthread_mutex_init(&pin->lock, NULL);
	return pin;
}

int pin_add(struct dir_volume *volume, int fd, const struct dir_identity *of, struct dir_pin **ret)
{
	struct dir_pin *pin = pin_new(volume, fd, of), *there, *out;

	if (!pin) {
		close(fd);
		return -ENOMEM;
	}
	pthread_mutex_lock(&volume->lock);
	there = table_find_locked(volume, pin->key);
	if (there) {
		there->refs++;
	} else {
		pin->next = volume->table[key_bucket(pin->key)];
		volume->table[key_bucket(pin->key)] = pin;
	}
	out = cache_touch_locked(volume, there ? there : pin);
	pthread_mutex_unlock(&volume->lock);

	if (out)
		pin_free(out);
	if (there)
		pin_free(pin);
	*ret = there ? there : pin;
	return 0;
}

/*
 * Neither 0 nor ALT_GENERATION_PAST. Where a time of birth may change while a file lives (a layer that copies it, a network) it
 * says nothing.
 */
static uint32_t generation_of(const struct dir_volume *volume, const struct statx *x, dev_t dev)
{
	uint64_t ns;

	if (!volume->local || !volume->root || dev != volume->root->key.dev || !(x->stx_mask & STATX_BTIME))
		return 0;
	ns = x->stx_btime.tv_sec * 1000000000u + x->stx_btime.tv_nsec;
	ns *= 0x9e3779b97f4a7c15u;
	ns >>= 32;
	return ns && ns != ALT_GENERATION_PAST ? ns : 1;
}

struct dir_identity identity_of(const struct dir_volume *volume, const struct statx *x)
{
	dev_t dev = makedev(x->stx_dev_major, x->stx_dev_minor);

	return (struct dir_identity){
		.key = { .id = x->stx_ino, .dev = dev },
		.generation = generation_of(volume, x, dev),
		.type = x->stx_mode & S_IFMT,
	};
}

int identity_of_fd(const struct dir_volume *volume, int fd, struct dir_identity *ret)
{
	struct statx x;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_INO | STATX_BTIME, &x) < 0)
		return -errno;
	*ret = identity_of(volume, &x);
	return 0;
}

int pin_of_fd(struct dir_volume *volume, int fd, struct dir_pin **ret)
{
	struct dir_identity of;
	int path_fd, r = identity_of_fd(volume, fd, &of);

	if (r < 0)
		return r;
	*ret = pin_find(volume, of.key);
	if (*ret)
		return 0;
	path_fd = fd_open(volume->names, fd, O_PATH | O_CLOEXEC);
	if (path_fd < 0)
		return path_fd;
	return pin_add(volume, path_fd, &of, ret);
}

int pin_of_entry(struct dir_volume *volume, int fd, const struct alt_entry *entry, struct dir_pin **ret)
{
	struct dir_identity of = {
		.key = entry->key, .generation = entry->generation, .type = entry->attr.mode & S_IFMT,
	};

	return pin_add(volume, fd, &of, ret);
}
