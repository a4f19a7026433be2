/* Memory by physical address, through /dev/mem. */
#include "memory.h"

enum { MMAP = 9, MUNMAP = 11 };
enum { PROT_READ_WRITE = 3, MAP_SHARED = 1 };
enum { FIRST = 0x1000, LOW_END = 0xa0000 }; /* page 0 holds vectors; behind: video and ROMs */

/* One piece: its page tables take 16 KiB of the window. */
#define PIECE (8ULL << 20)

static const char MAP[] = "/sys/firmware/memmap/";

/* The text of one attribute of entry `index`; -1 if it is not there. */
static long attribute(u32 index, const char *name, char *text, u64 most)
{
	char path[64];
	char digits[12];
	char *at = digits + sizeof digits - 1;
	u64 used = sizeof MAP - 1;
	*at = 0;
	do
		*--at = (char)('0' + index % 10);
	while (index /= 10);
	memcpy(path, MAP, used);
	memcpy(path + used, at, strlen(at));
	used += strlen(at);
	path[used++] = '/';
	memcpy(path + used, name, strlen(name) + 1);
	long size = read_file(path, text, most - 1);
	if (size >= 0)
		text[size] = 0;
	return size;
}

static u32 kind_of(const char *text)
{
	return begins(text, "System RAM") ? KIND_RAM
	       : begins(text, "Reserved") ? KIND_RESERVED
	       : begins(text, "ACPI Tables") ? KIND_ACPI
	       : begins(text, "ACPI Non-volatile") ? KIND_NVS
						   : KIND_OTHER;
}

int memory_firmware_map(struct memory *memory)
{
	char start[32], end[32], type[64];
	u32 index = 0;
	for (memory->count = 0; attribute(index, "start", start, sizeof start) > 0; index++) {
		if (memory->count == MAX_REGIONS || attribute(index, "end", end, sizeof end) <= 0 ||
		    attribute(index, "type", type, sizeof type) <= 0)
			return -1;
		struct region *region = &memory->regions[memory->count++];
		region->start = number(start);
		region->end = number(end) + 1;
		region->kind = kind_of(type);
	}
	return memory->count ? 0 : -1;
}

int memory_is_ram(const struct memory *memory, u64 start, u64 length)
{
	u64 end = start + length;
	/* Regions may touch: go on from the end of each one that holds `start`. */
	for (u32 tried = 0; tried < memory->count && start < end; tried++) {
		u64 before = start;
		for (u32 i = 0; i < memory->count; i++) {
			const struct region *region = &memory->regions[i];
			if (region->kind == KIND_RAM && region->start <= start && start < region->end)
				start = region->end;
		}
		if (start == before)
			return 0;
	}
	return start >= end;
}

static u8 *map(const struct memory *memory, u64 start, u64 length)
{
	long at = sys(MMAP, 0, (long)length, PROT_READ_WRITE, MAP_SHARED, memory->file, (long)start);
	return at < 0 && at > -PAGE ? NULL : (u8 *)at;
}

int memory_each(const struct memory *memory, const struct range *ranges, u32 count, visit *visit,
		void *state)
{
	u64 done = 0;
	for (u32 i = 0; i < count; i++) {
		for (u64 at = 0; at < ranges[i].length;) {
			u64 size = ranges[i].length - at < PIECE ? ranges[i].length - at : PIECE;
			u8 *data = map(memory, ranges[i].start + at, size);
			if (!data)
				return -1;
			int result = visit(state, data, size, done);
			sys(MUNMAP, (long)data, (long)size, 0, 0, 0, 0);
			if (result)
				return result;
			at += size;
			done += size;
		}
	}
	return 0;
}

int memory_wipe_low(const struct memory *memory)
{
	for (u32 i = 0; i < memory->count; i++) {
		u64 start = memory->regions[i].start, end = memory->regions[i].end;
		start = start < FIRST ? FIRST : (start + PAGE - 1) & ~(u64)(PAGE - 1);
		end = end > LOW_END ? LOW_END : end & ~(u64)(PAGE - 1);
		if (memory->regions[i].kind != KIND_RAM || start >= end)
			continue;
		u8 *data = map(memory, start, end - start);
		if (!data)
			return -1;
		memset(data, 0, end - start);
		sys(MUNMAP, (long)data, (long)(end - start), 0, 0, 0, 0);
	}
	return 0;
}
