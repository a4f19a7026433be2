/* Poly1305 (RFC 8439 §2.5) of a stream, in constant memory. */
#ifndef POLY1305_H
#define POLY1305_H

#include "sys.h"

/* Limbs of 44, 44 and 42 bits; `held` bytes of an unfinished block. */
struct poly1305 {
	u64 r[3], s[2], h[3];
	u64 pad[2];
	u8 block[16];
	u64 held;
};

void poly1305_start(struct poly1305 *mac, const u8 key[32]);
void poly1305_add(struct poly1305 *mac, const u8 *data, u64 size);
/* The one-time tag; `mac` is used up. */
void poly1305_end(struct poly1305 *mac, u8 tag[16]);

#endif
