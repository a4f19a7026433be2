/* Poly1305 with limbs of 44, 44 and 42 bits: h = (h + block) * r mod 2^130 - 5 for each block.
 *
 * Sums of three products of 45 by 47 bits stay far below 2^128; carries bring each limb back.
 */
#include "poly1305.h"

typedef unsigned __int128 u128;

#define LIMB 0xfffffffffffULL /* 44 bits */
#define LAST 0x3ffffffffffULL /* 42 bits */

static u64 word(const u8 *at)
{
	u64 value;
	__builtin_memcpy(&value, at, 8); /* x86 is little-endian, as the format is */
	return value;
}

void poly1305_start(struct poly1305 *mac, const u8 key[32])
{
	u64 low = word(key), high = word(key + 8);
	/* The clamp of §2.5.1, by limbs. */
	mac->r[0] = low & 0xffc0fffffffULL;
	mac->r[1] = (low >> 44 | high << 20) & 0xfffffc0ffffULL;
	mac->r[2] = high >> 24 & 0x00ffffffc0fULL;
	/* 2^132 = 4 * 2^130 = 20 mod p: what leaves the third limb comes back times 5 * 4. */
	mac->s[0] = mac->r[1] * 20;
	mac->s[1] = mac->r[2] * 20;
	mac->h[0] = mac->h[1] = mac->h[2] = 0;
	mac->pad[0] = word(key + 16);
	mac->pad[1] = word(key + 24);
	mac->held = 0;
}

/* `top`: the bit behind a whole block (2^128), or 0 where the padding brought its own. */
static void blocks(struct poly1305 *mac, const u8 *data, u64 count, u64 top)
{
	u64 r0 = mac->r[0], r1 = mac->r[1], r2 = mac->r[2], s1 = mac->s[0], s2 = mac->s[1];
	u64 h0 = mac->h[0], h1 = mac->h[1], h2 = mac->h[2];
	for (; count; count--, data += 16) {
		u64 low = word(data), high = word(data + 8);
		h0 += low & LIMB;
		h1 += (low >> 44 | high << 20) & LIMB;
		h2 += high >> 24 | top;
		u128 d0 = (u128)h0 * r0 + (u128)h1 * s2 + (u128)h2 * s1;
		u128 d1 = (u128)h0 * r1 + (u128)h1 * r0 + (u128)h2 * s2;
		u128 d2 = (u128)h0 * r2 + (u128)h1 * r1 + (u128)h2 * r0;
		d1 += (u64)(d0 >> 44);
		d2 += (u64)(d1 >> 44);
		h0 = ((u64)d0 & LIMB) + (u64)(d2 >> 42) * 5;
		h1 = ((u64)d1 & LIMB) + (h0 >> 44);
		h0 &= LIMB;
		h2 = (u64)d2 & LAST;
	}
	mac->h[0] = h0;
	mac->h[1] = h1;
	mac->h[2] = h2;
}

void poly1305_add(struct poly1305 *mac, const u8 *data, u64 size)
{
	while (size && mac->held) {
		mac->block[mac->held++] = *data++;
		size--;
		if (mac->held == 16) {
			blocks(mac, mac->block, 1, 1ULL << 40);
			mac->held = 0;
		}
	}
	blocks(mac, data, size / 16, 1ULL << 40);
	for (data += size - size % 16, size %= 16; size; size--)
		mac->block[mac->held++] = *data++;
}

void poly1305_end(struct poly1305 *mac, u8 tag[16])
{
	if (mac->held) {
		mac->block[mac->held++] = 1;
		while (mac->held < 16)
			mac->block[mac->held++] = 0;
		blocks(mac, mac->block, 1, 0);
	}
	u64 h0 = mac->h[0], h1 = mac->h[1], h2 = mac->h[2];
	/* Twice around: a carry may run through all limbs and come back. */
	for (int round = 0; round < 2; round++) {
		h1 += h0 >> 44;
		h0 &= LIMB;
		h2 += h1 >> 44;
		h1 &= LIMB;
		h0 += (h2 >> 42) * 5;
		h2 &= LAST;
	}
	h1 += h0 >> 44;
	h0 &= LIMB;
	/* h - p, taken where h >= p: then h + 5 has a carry out of 130 bits. */
	u64 g0 = h0 + 5, g1 = h1 + (g0 >> 44), g2 = h2 + (g1 >> 44);
	if (g2 >> 42) {
		h0 = g0 & LIMB;
		h1 = g1 & LIMB;
		h2 = g2 & LAST;
	}
	u128 sum = (u128)(h0 | h1 << 44) + mac->pad[0];
	u64 low = (u64)sum;
	u64 high = (h1 >> 20 | h2 << 24) + mac->pad[1] + (u64)(sum >> 64);
	__builtin_memcpy(tag, &low, 8);
	__builtin_memcpy(tag + 8, &high, 8);
}
