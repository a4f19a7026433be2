"""The unified kernel image: systemd's EFI stub with command line, initramfs and kernel in it.

One PE file that firmware loads, and therefore measures, as a whole. Written section by section
here: objcopy would leave a time stamp and a checksum in the headers (Microsoft, PE Format).
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.formats.hashes import sha256
from nodeclient.images.boot.pe import Pe, align, authenticode
from nodeclient.images.errors import ImageError

SECTIONS = (".osrel", ".cmdline", ".initrd", ".linux")  # in the order of the file
_MEASURED = (".linux", ".osrel", ".cmdline", ".initrd")  # in the stub's
_PAGE = 4096  # a section begins a page of its own, as in every UKI that ukify makes
_READ_DATA = 0x4000_0040  # IMAGE_SCN_MEM_READ | IMAGE_SCN_CNT_INITIALIZED_DATA
_HEADER = 40  # bytes of a section header


def build_uki(stub: bytes, sections: Sequence[tuple[str, bytes]]) -> bytes:
    """The PE file `stub` with `sections` (name, content) behind its own. Raises ImageError."""
    pe = Pe.parse(stub)
    table = pe.section_table + _HEADER * len(pe.sections)
    if table + _HEADER * len(sections) > pe.size_of_headers:
        raise ImageError("the EFI stub has no room for more sections; refresh the lock")
    image = bytearray(stub[: pe.end_of_sections])
    image += bytes(-len(image) % pe.file_alignment)
    address = align(max(each.address + each.virtual_size for each in pe.sections), _PAGE)
    for name, content in sections:
        raw = content + bytes(-len(content) % pe.file_alignment)
        header = b"".join(
            value.to_bytes(4, "little")
            for value in (len(content), address, len(raw), len(image), 0, 0, 0, _READ_DATA)
        )
        image[table : table + _HEADER] = name.encode().ljust(8, b"\0") + header
        image += raw
        table += _HEADER
        address = align(address + len(content), _PAGE)
    pe.set_sections(image, len(pe.sections) + len(sections), address)
    return bytes(image)


def measured_sections(sections: Sequence[tuple[str, bytes]]) -> tuple[bytes, ...]:
    """Digests (32 bytes each) of what systemd-stub measures in PCR 11, in its order.

    Of each section its name with the NUL, then its content (systemd 252, stub.c and
    fundamental/tpm-pcr.c: the order of `unified_sections`).
    """
    content = dict(sections)
    measured = [name for name in _MEASURED if name in content]
    return tuple(
        sha256(part) for name in measured for part in (name.encode() + b"\0", content[name])
    )


def measured_programs(efi: bytes, kernel: bytes) -> tuple[bytes, bytes]:
    """Digests (32 bytes each) of what firmware measures in PCR 4: the UKI, and then the kernel,
    which systemd-stub 252 has the firmware load as a program of its own. Raises ImageError."""
    return authenticode(efi), authenticode(kernel)


def measured_by_kernel(command_line: str, initramfs: bytes) -> tuple[bytes, bytes]:
    """Digests (32 bytes each) of what Linux' EFI stub measures in PCR 9, in its order.

    The command line as systemd-stub hands it over (UTF-16 with its NUL), then the initramfs
    (Linux 6.1, drivers/firmware/efi/libstub/efi-stub-helper.c).
    """
    return sha256((command_line + "\0").encode("utf-16-le")), sha256(initramfs)
