/* The eraser on a developer's host: a file in place of memory, for the tests.
 *
 * eraser-host memory=FILE port=N window=BYTES size=BYTES [tpm=SOCKET] [log=FILE] [disk=FILE]
 * eraser-host mac=HEX | sha256=1    of standard input: Poly1305 under a key of 32 bytes, SHA-256
 */
#include "poly1305.h"
#include "sha256.h"
#include "socket.h"
#include "start.h"
#include "tpm.h"
#include "wire.h"

enum { LOOPBACK = 0x7f000001 };

static struct memory memory;

static int open_tpm(const char *path)
{
	return (int)dial_path(path);
}

static const char *option(int count, char **words, const char *name)
{
	for (int i = 1; i < count; i++)
		if (begins(words[i], name))
			return words[i] + strlen(name);
	return NULL;
}

static void show(const u8 *data, u64 size)
{
	char text[3] = { 0 };
	for (; size; size--, data++) {
		text[0] = "0123456789abcdef"[*data >> 4];
		text[1] = "0123456789abcdef"[*data & 15];
		say(text);
	}
	say("\n");
}

/* In pieces of odd sizes, so that the state between them is tested, too. */
static int digest(const char *key)
{
	struct poly1305 mac;
	struct sha256 hash;
	u8 secret[32] = { 0 }, data[37], result[32];
	long got;
	for (int i = 0; key && i < 32; i++) {
		char byte[5] = { '0', 'x', key[2 * i], key[2 * i + 1], 0 };
		secret[i] = (u8)number(byte);
	}
	poly1305_start(&mac, secret);
	sha256_start(&hash);
	while ((got = read_some(0, data, sizeof data)) > 0) {
		poly1305_add(&mac, data, (u64)got);
		sha256_add(&hash, data, (u64)got);
	}
	if (key)
		poly1305_end(&mac, result);
	else
		sha256_end(&hash, result);
	show(result, key ? 16 : 32);
	return got < 0;
}

static int prove_to(int count, char **words, const char *file)
{
	const char *port = option(count, words, "port="), *size = option(count, words, "size=");
	const char *window = option(count, words, "window=");
	struct places places = { .memory = &memory, .open_tpm = open_tpm,
				 .tpm = option(count, words, "tpm="),
				 .log = option(count, words, "log="),
				 .disk = option(count, words, "disk=") };
	if (!port || !size || !window) {
		say("eraser-host: port=, size= and window= are needed\n");
		return 2;
	}
	memory.file = (int)open_file(file, O_RDWR);
	memory.window = number(window);
	memory.count = 1;
	memory.regions[0] = (struct region){ 0, number(size), KIND_RAM };
	long peer = dial(LOOPBACK, (u16)number(port));
	if (memory.file < 0 || peer < 0) {
		say("eraser-host: the file or the port cannot be opened\n");
		return 2;
	}
	places.peer = (int)peer;
	const char *reason = prove(&places);
	say(reason ? reason : "proved");
	say("\n");
	return reason ? 1 : 0;
}

_Noreturn void begin(int count, char **words);

_Noreturn void begin(int count, char **words)
{
	const char *file = option(count, words, "memory="), *key = option(count, words, "mac=");
	leave(file ? prove_to(count, words, file) : digest(key));
}

ENTER(begin);
