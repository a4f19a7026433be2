"""Which shared libraries a program needs: the root must hold them all.

Source: System V ABI, chapter 5 (program header, dynamic section).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from nodeclient.images.boot.tree import Node
from nodeclient.images.errors import ImageError

_LOAD, _DYNAMIC = 1, 2  # p_type
_NEEDED, _STRTAB = 1, 5  # d_tag


def check_libraries(tree: Mapping[str, Node]) -> None:
    """Raise ImageError if a program or library of the root needs a library that is not in it.

    Wheels bring libraries of their own beside them; their names are unique, so that a library is
    taken as found wherever it lies.
    """
    present = {path.rpartition("/")[2] for path in tree}
    for path, node in tree.items():
        for name in needed(node.content):
            if name not in present:
                raise ImageError(f"{path} needs {name}; add its package to contents.py")


def needed(data: bytes) -> list[str]:
    """Names of the libraries that a 64-bit ELF file needs; none for any other file."""
    if data[:6] != b"\x7fELF\x02\x01":
        return []
    try:
        (headers,) = struct.unpack_from("<Q", data, 0x20)
        size, count = struct.unpack_from("<HH", data, 0x36)
        segments = [
            struct.unpack_from("<I4xQQ8xQ", data, headers + size * index) for index in range(count)
        ]
        entries = [
            struct.unpack_from("<QQ", data, offset + at)
            for kind, offset, _, length in segments
            if kind == _DYNAMIC
            for at in range(0, length, 16)
        ]
        strings = next((value for tag, value in entries if tag == _STRTAB), 0)
        start = next(
            (
                strings - address + offset
                for kind, offset, address, length in segments
                if kind == _LOAD and address <= strings < address + length
            ),
            0,
        )
        return [_text(data, start + value) for tag, value in entries if tag == _NEEDED]
    except (struct.error, ValueError) as error:
        raise ImageError("a program of the root is no sound ELF file; refresh the lock") from error


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()
