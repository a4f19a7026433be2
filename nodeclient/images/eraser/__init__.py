"""The eraser: a boot image that takes a fill into all memory and answers for every byte of it."""
