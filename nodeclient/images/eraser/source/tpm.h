/* The two commands of a TPM 2.0 that the proof needs, and the firmware's log of what it measured. */
#ifndef TPM_H
#define TPM_H

#include "sys.h"

enum { MAX_COMMAND = 1024, MAX_RESPONSE = 4096, MAX_SELECTION = 64 };

/* Whether this is one whole TPM2_CreatePrimary: the only command that the eraser relays. */
int tpm_is_create_primary(const u8 *command, u32 size);
/* Give `command` to the TPM; the size of its response, or -1. */
long tpm_execute(int file, const u8 *command, u32 size, u8 response[MAX_RESPONSE]);
/* The object's handle in a response to CreatePrimary; 0 if the TPM refused. */
u32 tpm_handle(const u8 *response, u32 size);
/* Write TPM2_Quote with this key over `qualifying`; returns its size. */
u32 tpm_quote(u8 command[MAX_COMMAND], u32 key, const u8 qualifying[32], const u8 *selection,
	      u32 selection_size);

#endif
