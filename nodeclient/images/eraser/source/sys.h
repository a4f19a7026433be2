/* What the eraser needs of Linux on x86-64, without a C library: every page of its window counts.
 *
 * Functions return what the system call returned: a negative errno on failure.
 */
#ifndef SYS_H
#define SYS_H

#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

enum { O_RDONLY = 0, O_RDWR = 2 };

long sys(long number, long a, long b, long c, long d, long e, long f);

long open_file(const char *path, int flags);
long close_file(int file);
long read_some(int file, void *data, u64 size);
/* All `size` bytes, or -1: a peer that is gone, or an error. */
int read_all(int file, void *data, u64 size);
int write_all(int file, const void *data, u64 size);
/* Up to `most` bytes of a file; -1 if it cannot be opened or is longer. */
long read_file(const char *path, void *data, u64 most);
void sleep_ms(long ms);
_Noreturn void leave(int status);

void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *left, const void *right, size_t size);
size_t strlen(const char *text);
int begins(const char *text, const char *with);
/* A number, decimal or with 0x; stops at the first character that is no digit. */
u64 number(const char *text);
/* Lines for the console or the caller of the host's program. */
void say(const char *text);
void say_number(const char *text, u64 value);

#endif
