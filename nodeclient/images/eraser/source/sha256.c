/* SHA-256 as FIPS 180-4 §6.2 writes it. It hashes a few kilobytes: plain, not fast. */
#include "sha256.h"

static const u32 K[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static u32 turn(u32 value, int bits)
{
	return value >> bits | value << (32 - bits);
}

static void compress(u32 h[8], const u8 *block)
{
	u32 w[64], v[8];
	for (int t = 0; t < 16; t++, block += 4)
		w[t] = (u32)block[0] << 24 | (u32)block[1] << 16 | (u32)block[2] << 8 | block[3];
	for (int t = 16; t < 64; t++) {
		u32 s0 = turn(w[t - 15], 7) ^ turn(w[t - 15], 18) ^ w[t - 15] >> 3;
		u32 s1 = turn(w[t - 2], 17) ^ turn(w[t - 2], 19) ^ w[t - 2] >> 10;
		w[t] = w[t - 16] + s0 + w[t - 7] + s1;
	}
	memcpy(v, h, sizeof v);
	for (int t = 0; t < 64; t++) {
		u32 s1 = turn(v[4], 6) ^ turn(v[4], 11) ^ turn(v[4], 25);
		u32 t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + K[t] + w[t];
		u32 s0 = turn(v[0], 2) ^ turn(v[0], 13) ^ turn(v[0], 22);
		u32 t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
		for (int i = 7; i > 0; i--)
			v[i] = v[i - 1];
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		h[i] += v[i];
}

void sha256_start(struct sha256 *hash)
{
	static const u32 begin[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
				      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
	memcpy(hash->h, begin, sizeof begin);
	hash->size = 0;
}

void sha256_add(struct sha256 *hash, const void *data, u64 size)
{
	const u8 *at = data;
	for (; size; size--) {
		hash->block[hash->size++ % 64] = *at++;
		if (hash->size % 64 == 0)
			compress(hash->h, hash->block);
	}
}

void sha256_end(struct sha256 *hash, u8 digest[32])
{
	u64 bits = hash->size * 8;
	u8 byte = 0x80;
	do {
		sha256_add(hash, &byte, 1);
		byte = 0;
	} while (hash->size % 64 != 56);
	for (int shift = 56; shift >= 0; shift -= 8) {
		byte = (u8)(bits >> shift);
		sha256_add(hash, &byte, 1);
	}
	for (int i = 0; i < 32; i++)
		digest[i] = (u8)(hash->h[i / 4] >> (24 - i % 4 * 8));
}
