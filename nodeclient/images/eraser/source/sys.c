/* System calls and the few functions of a C library that the compiler and we need. */
#include "sys.h"

enum { READ = 0, WRITE = 1, OPEN = 2, CLOSE = 3, NANOSLEEP = 35, EXIT_GROUP = 231 };
enum { EINTR_ = 4 };

long sys(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

long open_file(const char *path, int flags)
{
	return sys(OPEN, (long)path, flags, 0, 0, 0, 0);
}

long close_file(int file)
{
	return sys(CLOSE, file, 0, 0, 0, 0, 0);
}

long read_some(int file, void *data, u64 size)
{
	long got;
	do
		got = sys(READ, file, (long)data, (long)size, 0, 0, 0);
	while (got == -EINTR_);
	return got;
}

int read_all(int file, void *data, u64 size)
{
	u8 *at = data;
	while (size) {
		long got = read_some(file, at, size);
		if (got <= 0)
			return -1;
		at += got;
		size -= (u64)got;
	}
	return 0;
}

int write_all(int file, const void *data, u64 size)
{
	const u8 *at = data;
	while (size) {
		long done = sys(WRITE, file, (long)at, (long)size, 0, 0, 0);
		if (done == -EINTR_)
			continue;
		if (done <= 0)
			return -1;
		at += done;
		size -= (u64)done;
	}
	return 0;
}

long read_file(const char *path, void *data, u64 most)
{
	u8 *at = data, beyond;
	u64 size = 0;
	long got, file = open_file(path, O_RDONLY);
	if (file < 0)
		return -1;
	while (size < most && (got = read_some((int)file, at + size, most - size)) > 0)
		size += (u64)got;
	got = size == most ? read_some((int)file, &beyond, 1) : 0;
	close_file((int)file);
	return got ? -1 : (long)size;
}

void sleep_ms(long ms)
{
	long time[2] = { ms / 1000, ms % 1000 * 1000000 };
	sys(NANOSLEEP, (long)time, 0, 0, 0, 0, 0);
}

_Noreturn void leave(int status)
{
	for (;;)
		sys(EXIT_GROUP, status, 0, 0, 0, 0, 0);
}

void *memcpy(void *to, const void *from, size_t size)
{
	void *begin = to;
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
	return begin;
}

void *memset(void *to, int value, size_t size)
{
	void *begin = to;
	__asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
	return begin;
}

int memcmp(const void *left, const void *right, size_t size)
{
	const u8 *a = left, *b = right;
	for (; size; size--, a++, b++)
		if (*a != *b)
			return *a < *b ? -1 : 1;
	return 0;
}

size_t strlen(const char *text)
{
	const char *end = text;
	/* volatile: gcc would see strlen in this loop and call it. */
	while (*(const volatile char *)end)
		end++;
	return (size_t)(end - text);
}

int begins(const char *text, const char *with)
{
	while (*with)
		if (*text++ != *with++)
			return 0;
	return 1;
}

u64 number(const char *text)
{
	u64 value = 0, base = 10;
	if (begins(text, "0x")) {
		base = 16;
		text += 2;
	}
	for (;; text++) {
		u8 c = (u8)*text;
		u64 digit = c >= '0' && c <= '9' ? (u64)(c - '0')
			    : c >= 'a' && c <= 'f' ? (u64)(c - 'a' + 10)
						   : base;
		if (digit >= base)
			return value;
		value = value * base + digit;
	}
}

void say(const char *text)
{
	(void)write_all(1, text, strlen(text));
}

void say_number(const char *text, u64 value)
{
	char digits[24];
	char *at = digits + sizeof digits;
	*--at = 0;
	*--at = '\n';
	do
		*--at = (char)('0' + value % 10);
	while (value /= 10);
	say(text);
	say(at);
}
