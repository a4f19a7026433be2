"""The kernel inside a bzImage: its ELF file and the relocations that KASLR applies.

Source: Linux, Documentation/x86/boot.rst (setup header), arch/x86/tools/relocs.c (relocation list).
"""

from __future__ import annotations

import lzma
import struct
from dataclasses import dataclass

from nodeclient.images.errors import ImageError

_MAGIC = 0x202  # offset of the protocol version, behind "HdrS"
_LEAST_VERSION = 0x208  # the first with payload offset and length
_SECTOR = 512
_MAX_VMLINUX = 256 << 20
_MAX_SECTIONS = 128
_NOBITS = 8  # sh_type of a section without bytes in the file
_MAX_RELOCATIONS = 1 << 21


@dataclass(frozen=True, slots=True)
class ElfSection:
    """A section of the kernel: virtual address, and where its `size` bytes lie in the file."""

    name: str
    address: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Kernel:
    """An uncompressed kernel. `relocations`: virtual addresses of the words that KASLR changes,
    each with its size in bytes."""

    data: bytes
    sections: dict[str, ElfSection]
    relocations: tuple[tuple[int, int], ...]

    def content(self, name: str) -> bytes:
        """Bytes of a section; none if there is no such section."""
        found = self.sections.get(name)
        return b"" if found is None else self.data[found.offset : found.offset + found.size]

    def at(self, address: int, size: int) -> bytes:
        """`size` bytes as linked at `address`. Raises IndexError if no one section holds them."""
        for each in self.sections.values():
            if each.address <= address and address + size <= each.address + each.size:
                start = each.offset + address - each.address
                return self.data[start : start + size]
        raise IndexError(f"nothing is linked at {address:#x}")


def open_kernel(image: bytes) -> Kernel:
    """Unpack a bzImage compressed with xz. Raises ImageError for anything else."""
    try:
        data = _unpack(image)
        sections, end = _sections(data)
        return Kernel(data, sections, tuple(_relocations(data, end)))
    except (struct.error, lzma.LZMAError, IndexError, ValueError) as error:
        raise ImageError("the kernel cannot be unpacked; refresh the lock") from error


def _unpack(image: bytes) -> bytes:
    setup = image[0x1F1] or 4  # boot.rst: 0 means 4
    magic, version = struct.unpack_from("<4sH", image, _MAGIC)
    if magic != b"HdrS" or version < _LEAST_VERSION:
        raise ImageError("no Linux kernel of this age; refresh the lock")
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup + 1) * _SECTOR + offset
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    data = unpacker.decompress(image[start : start + length], _MAX_VMLINUX)
    if not unpacker.eof:
        raise ImageError("the kernel is cut off or too large; refresh the lock")
    return data


def _sections(data: bytes) -> tuple[dict[str, ElfSection], int]:
    """Sections by name, and the end of the ELF file: its section table is its last part."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise ImageError("the kernel is no 64-bit ELF file; refresh the lock")
    (table,) = struct.unpack_from("<Q", data, 0x28)
    entry, count, names_at = struct.unpack_from("<HHH", data, 0x3A)
    if entry != 64 or not 0 < names_at < count <= _MAX_SECTIONS:
        raise ImageError("the kernel has no section table; refresh the lock")
    raw = [struct.unpack_from("<IIQQQQ", data, table + 64 * index) for index in range(count)]
    _, _, _, _, names, names_size = raw[names_at]
    text = data[names : names + names_size]
    sections: dict[str, ElfSection] = {}
    for name, kind, _, address, offset, size in raw:
        if kind == _NOBITS or not kind:
            continue
        if offset + size > len(data):
            raise ImageError("a section of the kernel lies outside its file; refresh the lock")
        label = text[name : text.index(b"\0", name)].decode("ascii")
        sections[label] = ElfSection(label, address, offset, size)
    return sections, table + 64 * count


def _relocations(data: bytes, end: int) -> list[tuple[int, int]]:
    """The list behind the ELF file, read from its end: 32-bit, negative 32-bit, 64-bit words.

    Each list ends (at its low end) with a zero; entries are 32-bit addresses to be sign-extended.
    """
    words = struct.unpack_from(f"<{(len(data) - end) // 4}I", data, end)
    if len(words) > _MAX_RELOCATIONS or words[:2] != (0, words[1]):
        raise ImageError("the kernel's relocations cannot be read; refresh the lock")
    found: list[tuple[int, int]] = []
    sizes = iter((8, 4, 4))  # from the low end: relocs64, relocs32neg, relocs32
    size = 0
    for word in words:
        if word == 0:
            size = next(sizes, 0)
            if not size:
                raise ImageError("the kernel's relocations cannot be read; refresh the lock")
        else:
            found.append((word | 0xFFFF_FFFF_0000_0000, size))
    return found
