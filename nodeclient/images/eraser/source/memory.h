/* Memory by physical address: what the firmware says there is, and a view that walks through it. */
#ifndef MEMORY_H
#define MEMORY_H

#include "sys.h"

enum { MAX_REGIONS = 256, MAX_RANGES = 256, PAGE = 4096 };
enum { KIND_OTHER = 0, KIND_RAM = 1, KIND_RESERVED = 2, KIND_ACPI = 3, KIND_NVS = 4 };

/* As hello carries it; `end` is exclusive. */
struct region {
	u64 start, end;
	u32 kind;
} __attribute__((packed));

/* As the order carries it. */
struct range {
	u64 start, length;
} __attribute__((packed));

struct memory {
	int file; /* /dev/mem, or a file in its place */
	u64 window; /* bytes of low memory that the eraser itself lives in */
	u32 count;
	struct region regions[MAX_REGIONS];
};

/* Called for each mapped piece, in order; `at`: how many bytes of the ranges lie before it. */
typedef int visit(void *state, u8 *data, u64 size, u64 at);

/* The firmware's map as Linux keeps it, which `mem=` leaves alone. -1 if it cannot be read. */
int memory_firmware_map(struct memory *memory);
/* Whether all of [start, start + length) is RAM of the map. */
int memory_is_ram(const struct memory *memory, u64 start, u64 length);
/* Walk through the ranges; -1 if a piece cannot be mapped or a visit returns other than 0. */
int memory_each(const struct memory *memory, const struct range *ranges, u32 count, visit *visit,
		void *state);
/* Overwrite what the firmware left in the eraser's own window: the first MiB, which Linux does not
 * use. Linux itself has cleared the rest of its free memory (init_on_free). */
int memory_wipe_low(const struct memory *memory);

#endif
