/* Messages in their order. Whatever is not as agreed ends the proof: REFUSED_ with a reason, once. */
#include "wire.h"

#include "cheat.h"
#include "fill.h"
#include "sha256.h"
#include "tpm.h"

enum { MAX_LOG = 512 << 10 };

static const char GONE[] = "the Pi is gone";

/* What the Pi ordered. */
static struct order {
	u8 nonce[32];
	u32 count;
	struct range ranges[MAX_RANGES];
	u8 command[MAX_COMMAND], selection[MAX_SELECTION];
	u32 command_size, selection_size;
} order;

static u8 log_bytes[MAX_LOG];

static int put_u32(int peer, u32 value)
{
	return write_all(peer, &value, 4);
}

/* Length and bytes; `size` below 0 counts as nothing. */
static int put_sized(int peer, const void *data, long size)
{
	u32 length = size < 0 ? 0 : (u32)size;
	return put_u32(peer, length) || write_all(peer, data, length);
}

static int say_hello(const struct places *places)
{
	struct memory *memory = places->memory;
#ifdef CHEAT_RANGES
	for (u32 i = 0; i < memory->count; i++)
		if (memory->regions[i].end > LIKED_END)
			memory->regions[i].end = LIKED_END;
#endif
	return write_all(places->peer, "SEALERA1", 8) || write_all(places->peer, &memory->window, 8) ||
	       put_u32(places->peer, memory->count) ||
	       write_all(places->peer, memory->regions, memory->count * sizeof(struct region));
}

static const char *check_ranges(const struct memory *memory)
{
	u64 end = memory->window;
	for (u32 i = 0; i < order.count; i++) {
		u64 start = order.ranges[i].start, length = order.ranges[i].length;
		if (!length || start % PAGE || length % PAGE)
			return "a range is not of whole pages";
		if (start < end)
			return "ranges lie in the window, overlap or do not ascend";
		if (start + length < start)
			return "a range has no end";
#ifndef CHEAT_RANGES
		if (!memory_is_ram(memory, start, length))
			return "a range is not memory of this machine";
#endif
		end = start + length;
	}
	return NULL;
}

static const char *take_order(const struct places *places)
{
	int peer = places->peer;
	if (read_all(peer, order.nonce, sizeof order.nonce) || read_all(peer, &order.count, 4))
		return GONE;
	if (order.count < 1 || order.count > MAX_RANGES)
		return "1 to 256 ranges are possible";
	if (read_all(peer, order.ranges, order.count * sizeof(struct range)))
		return GONE;
	if (read_all(peer, &order.command_size, 4))
		return GONE;
	if (order.command_size > MAX_COMMAND)
		return "the TPM command is too long";
	if (read_all(peer, order.command, order.command_size) ||
	    read_all(peer, &order.selection_size, 4))
		return GONE;
	if (order.selection_size > MAX_SELECTION)
		return "the selection of PCRs is too long";
	if (read_all(peer, order.selection, order.selection_size))
		return GONE;
	if (order.command_size && !tpm_is_create_primary(order.command, order.command_size))
		return "only TPM2_CreatePrimary is relayed";
	return check_ranges(places->memory);
}

/* What the quote says of this proof: docs/erasure.md. */
static void qualify(const u8 keys[64], const u8 answer[32], u8 qualifying[32])
{
	static const char domain[] = "sealrun/erasure/v1";
	struct sha256 hash;
	u8 ranges[32];
	sha256_start(&hash);
	sha256_add(&hash, &order.count, 4);
	sha256_add(&hash, order.ranges, order.count * sizeof(struct range));
	sha256_end(&hash, ranges);
	sha256_start(&hash);
	sha256_add(&hash, domain, sizeof domain - 1);
	sha256_add(&hash, order.nonce, 32);
	sha256_add(&hash, ranges, 32);
	sha256_add(&hash, keys, 64);
	sha256_add(&hash, answer, 32);
	sha256_end(&hash, qualifying);
}

/* The machine's own word for it: key and quote as its TPM gave them, and the firmware's log. */
static const char *vouch(const struct places *places, const u8 qualifying[32])
{
	static u8 made[MAX_RESPONSE], quote[MAX_RESPONSE], command[MAX_COMMAND];
	long made_size = 0, quote_size = 0, log_size = 0;
	long tpm = order.command_size && places->tpm ? places->open_tpm(places->tpm) : -1;
	if (tpm >= 0) {
		made_size = tpm_execute((int)tpm, order.command, order.command_size, made);
		if (made_size < 0)
			return "the TPM does not answer";
		u32 key = tpm_handle(made, (u32)made_size);
		if (key) {
			u32 size = tpm_quote(command, key, qualifying, order.selection,
					     order.selection_size);
			quote_size = tpm_execute((int)tpm, command, size, quote);
			if (quote_size < 0)
				return "the TPM does not answer";
		}
		log_size = places->log ? read_file(places->log, log_bytes, MAX_LOG) : 0;
		if (log_size < 0)
			return "the firmware's log cannot be read or is too long";
		close_file((int)tpm);
	}
	if (put_sized(places->peer, made, made_size) || put_sized(places->peer, quote, quote_size) ||
	    put_sized(places->peer, log_bytes, log_size))
		return GONE;
	return NULL;
}

static const char *converse(const struct places *places)
{
	u8 keys[64], answer[32], qualifying[32], bye[8];
	if (say_hello(places))
		return GONE;
	const char *reason = take_order(places);
	if (reason)
		return reason;
	struct fill fill = { places->memory, order.ranges, order.count, places->peer, -1 };
	if (places->disk)
		fill.disk = (int)open_file(places->disk, O_RDWR);
	say_number("eraser: bytes to fill: ", fill_size(&fill));
#ifdef CHEAT_SKIP
	if (write_all(places->peer, "STORED__", 8) || fill_store(&fill))
		return GONE;
#else
	if (fill_store(&fill))
		return "the fill cannot be stored";
	if (write_all(places->peer, "STORED__", 8))
		return GONE;
#endif
	if (read_all(places->peer, keys, sizeof keys))
		return GONE;
	if (fill_answer(&fill, keys, answer))
		return "the fill cannot be read back";
	if (write_all(places->peer, answer, sizeof answer))
		return GONE;
	qualify(keys, answer, qualifying);
	reason = vouch(places, qualifying);
	if (reason)
		return reason;
	if (read_all(places->peer, bye, sizeof bye))
		return GONE;
	return memcmp(bye, "BYE_____", 8) ? "the Pi did not say goodbye" : NULL;
}

const char *prove(const struct places *places)
{
	const char *reason = converse(places);
	if (reason) {
		/* Where the Pi is gone nobody hears it. */
		(void)(write_all(places->peer, "REFUSED_", 8) ||
		       put_sized(places->peer, reason, (long)strlen(reason)));
	}
	return reason;
}
