"""A file in the shape of /proc/kcore, around kernel bytes of the test's choice."""

from __future__ import annotations

import struct
from pathlib import Path

TEXT = 0xFFFFFFFF80000000
SEGMENT = struct.Struct("<IIQQQQQQ")


def core_file(path: Path, kernel: bytes, *, slide: int = 0, extra: int = 0) -> Path:
    """Notes, `extra` pieces of RAM, and the kernel image at TEXT + 16 MiB + `slide`."""
    data_at = 64 + (2 + extra) * SEGMENT.size
    rows = [SEGMENT.pack(4, 0, data_at, 0, 0, 0, 0, 0)]
    rows += [
        SEGMENT.pack(1, 7, data_at, 0xFFFF888000000000 + i, 0, 16, 16, 4096) for i in range(extra)
    ]
    size = len(kernel)
    rows.append(SEGMENT.pack(1, 7, data_at, TEXT + (16 << 20) + slide, 0, size, size, 4096))
    path.write_bytes(header(len(rows)) + b"".join(rows) + kernel)
    return path


def header(count: int, *, magic: bytes = b"\x7fELF", width: int = 2) -> bytes:
    """Elf64_Ehdr of a core file with `count` program headers behind it."""
    fields = (4, 62, 1, 0, 64, 0, 0, 64, SEGMENT.size, count, 0, 0, 0)
    return struct.pack("<4sBB10xHHIQQQIHHHHHH", magic, width, 1, *fields)
