/* The fill: from the peer into memory, and from memory into the answer. */
#ifndef FILL_H
#define FILL_H

#include "memory.h"

struct fill {
	const struct memory *memory;
	const struct range *ranges;
	u32 count;
	int peer;
	int disk; /* an attacker's only */
};

u64 fill_size(const struct fill *fill);
/* Store all of it as it comes; -1 if the peer is gone or memory cannot be reached. */
int fill_store(struct fill *fill);
/* Poly1305 of what memory holds, under two one-time keys: 32 bytes. */
int fill_answer(struct fill *fill, const u8 keys[64], u8 answer[32]);

#endif
