/* The proof of erasure, the eraser's side: docs/erasure.md has the protocol and what it proves. */
#ifndef WIRE_H
#define WIRE_H

#include "memory.h"

/* Where the eraser finds its parts. tpm, log: paths; NULL where there is no TPM.
 * disk: only an attacker's eraser has one. */
struct places {
	int peer;
	struct memory *memory;
	int (*open_tpm)(const char *path);
	const char *tpm, *log, *disk;
};

/* One proof with the Pi at the other end of `peer`. NULL when it ended as it should, or why not;
 * the Pi has been told then. */
const char *prove(const struct places *places);

#endif
