"""A Portable Executable of two kilobytes, as small as EFI firmware would still load."""

from __future__ import annotations

import struct

_HEADER, _OPTIONAL = 0x80, 240


def small_pe() -> bytes:
    """One section `.text`, room for a dozen more in the headers."""
    data = bytearray(0x800)
    data[:2] = b"MZ"
    struct.pack_into("<I", data, 0x3C, _HEADER)
    data[_HEADER : _HEADER + 4] = b"PE\0\0"
    struct.pack_into("<HHIIIHH", data, _HEADER + 4, 0x8664, 1, 12345, 0, 0, _OPTIONAL, 0x22E)
    optional = _HEADER + 24
    struct.pack_into("<H", data, optional, 0x20B)
    struct.pack_into("<II", data, optional + 32, 512, 512)  # SectionAlignment, FileAlignment
    struct.pack_into("<II", data, optional + 56, 0x3000, 0x400)  # SizeOfImage, SizeOfHeaders
    struct.pack_into("<I", data, optional + 108, 16)  # NumberOfRvaAndSizes
    section = struct.pack("<8sIIII12xI", b".text", 0x400, 0x2000, 0x400, 0x400, 0x60000020)
    data[optional + _OPTIONAL : optional + _OPTIONAL + 40] = section
    data[0x400:] = bytes(range(256)) * 4
    return bytes(data)
