"""The running kernel's own bytes, read where it runs, for questions that a nonce chooses.

`/proc/kcore` shows the kernel's memory as an ELF core file (proc(5)). One of its segments is the
kernel image from `_text` on, wherever KASLR put it. Only what the boot image's map names is read:
the parts that are the same in every running Machine as in the file.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from agent.formats.bootimage import KernelMap
from agent.formats.ranges import RANGE, Area, Intervals, answer

KCORE = Path("/proc/kcore")
# Where x86-64 may put its image; modules lie above (Documentation/arch/x86/x86_64/mm.rst).
_LOWEST, _HIGHEST = 0xFFFFFFFF80000000, 0xFFFFFFFFC0000000
_HEADER = struct.Struct("<4sBB10xHHIQQQIHHHHHH")  # Elf64_Ehdr
_SEGMENT = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
_ELF64, _LITTLE, _LOAD = 2, 1, 1
_MAX_SEGMENTS = 1024  # one per piece of RAM, and a few
_SPAN = 16 * RANGE  # bytes read at once, holes included: a read costs more than a page


class KernelUnreadable(Exception):
    """The kernel does not show its memory, or not where its map says."""


class KernelMemory:
    """Answers for the kernel that runs, by `kernel_map` of the image it was booted from."""

    def __init__(self, kernel_map: KernelMap, core: Path = KCORE) -> None:
        self._core, self._intervals = core, Intervals(kernel_map.intervals)
        self._handle = _open(core)
        self._text, length = _find_text(self._handle)
        if kernel_map.intervals[-1][0] + kernel_map.intervals[-1][1] > length:
            raise KernelUnreadable("the kernel is smaller than its map; build the image again")

    def answer(self, nonce: bytes) -> list[list[object]]:
        """[offset, length, sha256(nonce ‖ bytes)]; offsets in the joined bytes of the map."""
        return answer(nonce, Area.KERNEL, self._intervals.size, self._joined)

    def close(self) -> None:
        """Close the core file."""
        os.close(self._handle)

    def _joined(self, offset: int, length: int) -> bytes:
        pieces = self._intervals.pieces(offset, length)
        begin, end = pieces[0][0], sum(pieces[-1])
        if end - begin > _SPAN:
            return b"".join(self._read(at, size) for at, size in pieces)
        span = self._read(begin, end - begin)
        return b"".join(span[at - begin : at - begin + size] for at, size in pieces)

    def _read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` behind `_text`. Raises KernelUnreadable."""
        data = b""
        while len(data) < length:
            try:
                part = os.pread(self._handle, length - len(data), self._text + offset + len(data))
            except OSError as error:
                raise KernelUnreadable(f"kernel memory: {error.strerror}; boot again") from error
            if not part:
                raise KernelUnreadable("kernel memory ends early; boot again")
            data += part
        return data


def _open(core: Path) -> int:
    try:
        return os.open(core, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelUnreadable(f"{core} cannot be opened ({error.strerror}); boot again") from error


def _find_text(handle: int) -> tuple[int, int]:
    """(offset in the core file, bytes) of the kernel image. Raises KernelUnreadable."""
    head = os.pread(handle, _HEADER.size, 0)
    if len(head) != _HEADER.size:
        raise KernelUnreadable("the core file has no header; boot again")
    magic, width, order, *fields = _HEADER.unpack(head)
    table, size, count = fields[4], fields[8], fields[9]
    if (magic, width, order, size) != (b"\x7fELF", _ELF64, _LITTLE, _SEGMENT.size):
        raise KernelUnreadable("the core file is not of a 64-bit kernel; build another image")
    if count > _MAX_SEGMENTS:
        raise KernelUnreadable(f"the core file has {count} segments; more than any Machine")
    rows = os.pread(handle, count * size, table)
    found = [
        (offset, length)
        for kind, _, offset, address, _, length, _, _ in _SEGMENT.iter_unpack(
            rows[: len(rows) // size * size]
        )
        if kind == _LOAD and _LOWEST <= address < _HIGHEST
    ]
    if len(found) != 1:
        raise KernelUnreadable("the core file does not show one kernel image; boot again")
    return found[0]
