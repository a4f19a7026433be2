/* SHA-256 (FIPS 180-4) of a few short pieces. */
#ifndef SHA256_H
#define SHA256_H

#include "sys.h"

struct sha256 {
	u32 h[8];
	u64 size;
	u8 block[64];
};

void sha256_start(struct sha256 *hash);
void sha256_add(struct sha256 *hash, const void *data, u64 size);
void sha256_end(struct sha256 *hash, u8 digest[32]);

#endif
