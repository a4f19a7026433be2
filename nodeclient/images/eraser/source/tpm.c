/* TPM 2.0 commands as bytes (TPM 2.0 Library, Part 1 §18, Part 3 §24.1 and §18.4). */
#include "tpm.h"

enum { HEADER = 10, SESSIONS = 0x8002, CREATE_PRIMARY = 0x131, QUOTE = 0x158 };
enum { ALG_NULL = 0x0010, CONTINUE_SESSION = 1 };
#define PASSWORD 0x40000009u /* TPM_RS_PW: here with an empty one */

static u32 big(const u8 *at, int bytes)
{
	u32 value = 0;
	for (int i = 0; i < bytes; i++)
		value = value << 8 | at[i];
	return value;
}

static u8 *put(u8 *at, u32 value, int bytes)
{
	for (int i = bytes; i > 0; i--, value >>= 8)
		at[i - 1] = (u8)value;
	return at + bytes;
}

int tpm_is_create_primary(const u8 *command, u32 size)
{
	return size >= HEADER && big(command, 2) == SESSIONS && big(command + 2, 4) == size &&
	       big(command + 6, 4) == CREATE_PRIMARY;
}

long tpm_execute(int file, const u8 *command, u32 size, u8 response[MAX_RESPONSE])
{
	if (write_all(file, command, size))
		return -1;
	/* The driver gives a response whole; a socket in its place may give it in parts. */
	long got = read_some(file, response, MAX_RESPONSE);
	if (got < HEADER)
		return -1;
	u32 whole = big(response + 2, 4);
	if (whole < (u32)got || whole > MAX_RESPONSE)
		return -1;
	return read_all(file, response + got, whole - (u32)got) ? -1 : (long)whole;
}

u32 tpm_handle(const u8 *response, u32 size)
{
	return size < HEADER + 4 || big(response + 6, 4) ? 0 : big(response + HEADER, 4);
}

u32 tpm_quote(u8 command[MAX_COMMAND], u32 key, const u8 qualifying[32], const u8 *selection,
	      u32 selection_size)
{
	u8 *at = put(command, SESSIONS, 2);
	at = put(at + 4, QUOTE, 4);
	at = put(at, key, 4);
	at = put(at, 9, 4); /* bytes of the one authorisation that follows */
	at = put(at, PASSWORD, 4);
	at = put(at, 0, 2);
	at = put(at, CONTINUE_SESSION, 1);
	at = put(at, 0, 2);
	at = put(at, 32, 2);
	memcpy(at, qualifying, 32);
	at = put(at + 32, ALG_NULL, 2); /* the key's own scheme */
	memcpy(at, selection, selection_size);
	at += selection_size;
	put(command + 2, (u32)(at - command), 4);
	return (u32)(at - command);
}
