"""The kernel's own symbol table, read from its file.

A distributed kernel carries no ELF symbols, but it keeps every name compressed for its own use.
The tables that boot code patches by are found by their names in it, not by guessing.

Source: Linux 6.1, scripts/kallsyms.c (order and compression) and kernel/kallsyms.c (addresses).
"""

from __future__ import annotations

import struct

from nodeclient.images.boot.kernel import Kernel
from nodeclient.images.boot.pe import align
from nodeclient.images.errors import ImageError

_TOKENS = 256
_DIGITS = b"".join(b"%d\0" % digit for digit in range(10))  # a character that occurs is its token
_GROUP = 256  # symbols between two markers
_MAX_NAME = 512  # KSYM_NAME_LEN
_MAX_SYMBOLS = 1 << 20
_MAX_TOKENS = 1 << 16  # bytes of all tokens: the index is 16 bits wide


def symbols(kernel: Kernel) -> dict[str, int]:
    """Address by name; of a name that occurs twice, the first. Raises ImageError."""
    data = kernel.content(".rodata")
    base = struct.pack("<Q", kernel.sections[".text"].address)
    try:
        tokens = _tokens(data)
        at = data.find(base)
        while at >= 0:
            (count,) = struct.unpack_from("<Q", data, at + 8)  # 32 bits, padded to 64
            if 0 < count <= _MAX_SYMBOLS and (names := _names(data, at + 16, count)):
                return _table(names, _addresses(data, at, count), tokens)
            at = data.find(base, at + 8)
    except (struct.error, IndexError) as error:
        raise ImageError("the kernel's symbols cannot be read; refresh the lock") from error
    raise ImageError("the kernel keeps no symbols; refresh the lock")


def _table(names: list[bytes], addresses: tuple[int, ...], tokens: list[bytes]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, address in zip(names, addresses, strict=True):
        text = b"".join(tokens[each] for each in name)[1:]  # the first character is the type
        found.setdefault(text.decode("ascii", "replace"), address)
    return found


def _tokens(data: bytes) -> list[bytes]:
    """What each byte of a compressed name stands for: the table that its index agrees with."""
    zero = data.find(_DIGITS)
    while zero >= 0:
        end = zero
        for _ in range(ord("0"), _TOKENS):
            end = data.find(b"\0", end, zero + _MAX_TOKENS) + 1 or len(data)
        index = struct.unpack_from(f"<{_TOKENS}H", data, align(end, 8))
        tokens = data[zero - index[ord("0")] : end].split(b"\0")[:-1]
        offsets = [0]
        for token in tokens:
            offsets.append(offsets[-1] + len(token) + 1)
        if len(tokens) == _TOKENS and tuple(offsets[:-1]) == index:
            return tokens
        zero = data.find(_DIGITS, zero + 1)
    raise ImageError("the kernel keeps no symbols; refresh the lock")


def _names(data: bytes, start: int, count: int) -> list[bytes] | None:
    """`count` compressed names at `start`, if the markers behind them agree; else None."""
    names: list[bytes] = []
    markers: list[int] = []
    at = start
    for number in range(count):
        if number % _GROUP == 0:
            markers.append(at - start)
        length, at = _length(data, at)
        if not 0 < length <= _MAX_NAME:
            return None
        names.append(data[at : at + length])
        at += length
    found = struct.unpack_from(f"<{len(markers)}I", data, align(at, 8))
    return names if found == tuple(markers) else None


def _length(data: bytes, at: int) -> tuple[int, int]:
    """(length of a name, offset behind it): one byte, or two if the first has its top bit."""
    length = data[at]
    if length & 0x80:
        return length & 0x7F | data[at + 1] << 7, at + 2
    return length, at + 1


def _addresses(data: bytes, base_at: int, count: int) -> tuple[int, ...]:
    """Addresses in the order of the names: relative to one base, or absolute (per CPU)."""
    (base,) = struct.unpack_from("<Q", data, base_at)
    offsets = struct.unpack_from(f"<{count}i", data, base_at - align(4 * count, 8))
    return tuple(offset if offset >= 0 else base - 1 - offset for offset in offsets)
