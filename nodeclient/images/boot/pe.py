"""Portable Executable files: as much as measuring and extending an EFI application needs.

Source: Microsoft, "PE Format", and "Windows Authenticode Portable Executable Signature Format",
which EFI firmware follows when it measures an application (UEFI 2.10 §32.5.3).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection
from dataclasses import dataclass

from nodeclient.images.errors import ImageError

_PE32_PLUS = 0x20B
_MAX_SECTIONS = 96  # as the Windows loader has it
_OPTIONAL = 24  # the optional header's offset from the signature "PE\0\0"
_CHECKSUM, _CERTIFICATES = 64, 144  # offsets in the optional header of PE32+


@dataclass(frozen=True, slots=True)
class Section:
    """One section: its name, sizes and places in memory and file, in bytes."""

    name: str
    virtual_size: int
    address: int
    raw_size: int
    offset: int


@dataclass(frozen=True, slots=True)
class Pe:
    """Headers of a PE32+ file. `header`: offset of the signature."""

    header: int
    section_table: int
    file_alignment: int
    size_of_headers: int
    certificates: int
    sections: tuple[Section, ...]

    @classmethod
    def parse(cls, data: bytes) -> Pe:
        """Raises ImageError for anything but a PE32+ file whose sections lie in it."""
        try:
            return cls._parse(data)
        except (struct.error, UnicodeDecodeError) as error:
            raise ImageError("no EFI application: its headers are cut off") from error

    @classmethod
    def _parse(cls, data: bytes) -> Pe:
        (header,) = struct.unpack_from("<I", data, 0x3C)
        count, optional_size = struct.unpack_from("<H12xH", data, header + 6)
        optional = header + _OPTIONAL
        (magic,) = struct.unpack_from("<H", data, optional)
        signed = data[:2] == b"MZ" and data[header : header + 4] == b"PE\0\0"
        if not signed or magic != _PE32_PLUS or count > _MAX_SECTIONS:
            raise ImageError("no EFI application of 64 bits; refresh the lock")
        _, alignment = struct.unpack_from("<II", data, optional + 32)
        (headers,) = struct.unpack_from("<I", data, optional + 60)
        _, certificates = struct.unpack_from("<II", data, optional + _CERTIFICATES)
        table = optional + optional_size
        sections = tuple(_section(data, table + 40 * index) for index in range(count))
        fits = headers <= len(data) and certificates <= len(data) and 0 < alignment <= 1 << 16
        if not fits or any(each.offset + each.raw_size > len(data) for each in sections):
            raise ImageError("no EFI application: a section lies outside the file")
        return cls(header, table, alignment, headers, certificates, sections)

    @property
    def end_of_sections(self) -> int:
        """Offset of the first byte behind the last section."""
        return max(each.offset + each.raw_size for each in self.sections)

    def without(self, data: bytes, names: Collection[str]) -> bytes:
        """The file without these sections, which are its last ones. Raises ImageError."""
        kept = [each for each in self.sections if each.name not in names]
        if not kept or [*kept] != [*self.sections[: len(kept)]]:
            raise ImageError("the sections to leave out are not the last ones; build it again")
        image = bytearray(data[: max(each.offset + each.raw_size for each in kept)])
        table = slice(
            self.section_table + 40 * len(kept), self.section_table + 40 * len(self.sections)
        )
        image[table] = bytes(table.stop - table.start)
        self.set_sections(image, len(kept), 0)
        return bytes(image)

    def set_sections(self, image: bytearray, count: int, size: int) -> None:
        """Write the new number of sections and size in memory into the headers of `image`."""
        optional = self.header + _OPTIONAL
        struct.pack_into("<H", image, self.header + 6, count)
        struct.pack_into("<I", image, optional + 56, size)
        struct.pack_into("<I", image, self.header + 8, 0)  # TimeDateStamp
        struct.pack_into("<I", image, optional + _CHECKSUM, 0)  # which no firmware checks
        struct.pack_into("<II", image, optional + _CERTIFICATES, 0, 0)


def authenticode(data: bytes) -> bytes:
    """SHA-256 (32 bytes) that firmware measures in PCR 4 for this application.

    Everything but checksum, certificate entry and certificates. Raises ImageError.
    """
    pe = Pe.parse(data)
    optional = pe.header + _OPTIONAL
    checksum, entry = optional + _CHECKSUM, optional + _CERTIFICATES
    digest = hashlib.sha256(data[:checksum])
    digest.update(data[checksum + 4 : entry])
    digest.update(data[entry + 8 : pe.size_of_headers])
    hashed = pe.size_of_headers
    for each in sorted(pe.sections, key=lambda section: section.offset):
        if each.raw_size:
            digest.update(data[each.offset : each.offset + each.raw_size])
            hashed += each.raw_size
    digest.update(data[hashed : len(data) - pe.certificates])
    return digest.digest()


def align(value: int, step: int) -> int:
    """`value` rounded up to a multiple of `step`."""
    return -(-value // step) * step


def _section(data: bytes, at: int) -> Section:
    size, address, raw_size, offset = struct.unpack_from("<IIII", data, at + 8)
    name = data[at : at + 8].rstrip(b"\0").decode("ascii")
    return Section(name, size, address, raw_size, offset)
