/* Where Linux enters a program that has no C library: argc and argv lie on the stack. */
#ifndef START_H
#define START_H

#define ENTER(begin)                                   \
	__asm__(".global _start\n"                     \
		"_start: xor %ebp, %ebp\n"             \
		"mov (%rsp), %rdi\n"                   \
		"lea 8(%rsp), %rsi\n"                  \
		"and $-16, %rsp\n"                     \
		"call " #begin "\n")

#endif
