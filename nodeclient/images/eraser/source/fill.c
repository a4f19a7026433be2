/* The fill goes through no buffer of ours: from the socket to its place, and read back from there. */
#include "fill.h"

#include "cheat.h"
#include "poly1305.h"

struct macs {
	struct fill *fill;
	struct poly1305 first, second;
};

u64 fill_size(const struct fill *fill)
{
	u64 total = 0;
	for (u32 i = 0; i < fill->count; i++)
		total += fill->ranges[i].length;
	return total;
}

static void add(struct macs *macs, const u8 *data, u64 size)
{
	/* In pieces that stay in the cache for the second key. */
	for (u64 part; size; data += part, size -= part) {
		part = size < 16384 ? size : 16384;
		poly1305_add(&macs->first, data, part);
		poly1305_add(&macs->second, data, part);
	}
}

#if defined(CHEAT_KEEP_MIB) || defined(CHEAT_DISK) || defined(CHEAT_RANGES) || defined(CHEAT_SKIP)

static u8 trash[65536];

/* Whether the byte at `position` of the fill is not stored where it belongs. */
static int is_dropped(const struct fill *fill, const u8 *data, u64 position)
{
	(void)data;
#if defined(CHEAT_SKIP)
	(void)fill;
	(void)position;
	return 1;
#elif defined(CHEAT_RANGES)
	u64 at = position;
	for (u32 i = 0; i < fill->count; at -= fill->ranges[i++].length)
		if (at < fill->ranges[i].length)
			return fill->ranges[i].start + at >= LIKED_END;
	return 1;
#else
	return position + KEPT_BYTES >= fill_size(fill);
#endif
}

static int store(void *state, u8 *data, u64 size, u64 at)
{
	struct fill *fill = state;
	for (u64 done = 0; done < size; done += PAGE) {
		int drop = is_dropped(fill, data, at + done);
		if (read_all(fill->peer, drop ? trash : data + done, PAGE))
			return -1;
#ifdef CHEAT_DISK
		if (drop && write_all(fill->disk, trash, PAGE))
			return -1;
#endif
	}
	return 0;
}

static int take(void *state, u8 *data, u64 size, u64 at)
{
	struct macs *macs = state;
	for (u64 done = 0; done < size; done += PAGE) {
		u8 *from = data + done;
		(void)at;
#ifdef CHEAT_DISK
		if (is_dropped(macs->fill, data, at + done)) {
			from = trash;
			if (read_all(macs->fill->disk, trash, PAGE))
				return -1;
		}
#endif
		add(macs, from, PAGE);
	}
	return 0;
}

#else

static int store(void *state, u8 *data, u64 size, u64 at)
{
	(void)at;
	return read_all(((struct fill *)state)->peer, data, size);
}

static int take(void *state, u8 *data, u64 size, u64 at)
{
	(void)at;
	add(state, data, size);
	return 0;
}

#endif

int fill_store(struct fill *fill)
{
	return memory_each(fill->memory, fill->ranges, fill->count, store, fill);
}

int fill_answer(struct fill *fill, const u8 keys[64], u8 answer[32])
{
	struct macs macs = { .fill = fill };
	poly1305_start(&macs.first, keys);
	poly1305_start(&macs.second, keys + 32);
#ifdef CHEAT_DISK
	sys(8 /* lseek */, fill->disk, 0, 0, 0, 0, 0);
#endif
	if (memory_each(fill->memory, fill->ranges, fill->count, take, &macs))
		return -1;
	poly1305_end(&macs.first, answer);
	poly1305_end(&macs.second, answer + 16);
	return 0;
}
