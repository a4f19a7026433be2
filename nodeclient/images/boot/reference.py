"""A boot image on this Node, as a verifier uses it: checked whole, then asked for ranges.

Its ID is the hash of the manifest, and the manifest holds the hashes of the files, so nothing here
needs to be believed. What the manifest says of the files beyond that (the loader's digest, command
line, kernel map) is computed again: an approved image that states one thing and boots another would
otherwise pass, because a Machine that lies would agree with it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from agent.formats.bootimage import (
    EFI,
    KERNEL_MAP,
    MANIFEST,
    MAX_KERNEL_MAP,
    MAX_MANIFEST,
    ROOT,
    BootManifest,
    KernelMap,
)
from agent.formats.cbor import FormatError
from agent.formats.hashes import sha256
from agent.formats.netboot import ROOT_OPTION
from agent.formats.ranges import Area, Read, answer
from nodeclient.images.boot.kernel import Kernel, open_kernel
from nodeclient.images.boot.kernel_map import kernel_map
from nodeclient.images.boot.pe import Pe, authenticode
from nodeclient.images.errors import ImageError

Answers = tuple[tuple[int, int, bytes], ...]
_LINUX, _COMMAND_LINE = ".linux", ".cmdline"


@dataclass(frozen=True, slots=True)
class BootFiles:
    """A sound image. ``text``: the joined bytes of the kernel that its map names."""

    manifest: BootManifest
    text: bytes
    root_path: Path

    def kernel(self, nonce: bytes) -> Answers:
        """(offset, length, sha256(nonce ‖ bytes)) of each range of the kernel's fixed text."""
        return _answers(nonce, Area.KERNEL, len(self.text), lambda at, n: self.text[at : at + n])

    def root(self, nonce: bytes) -> Answers:
        """The same over the root file system. Raises OSError if it is gone meanwhile."""
        with self.root_path.open("rb") as source:

            def read(offset: int, length: int) -> bytes:
                source.seek(offset)
                return source.read(length)

            return _answers(nonce, Area.ROOT, self.manifest.root_size, read)


def open_boot_files(folder: Path, image: bytes) -> BootFiles:
    """Check the image with this ID (32 bytes). Raises ImageError for anything that differs."""
    try:
        encoded = _read(folder / MANIFEST, MAX_MANIFEST)
        if sha256(encoded) != image:
            raise ImageError("its manifest is of another image; copy it again")
        manifest = BootManifest.decode(encoded)
        efi = _read(folder / EFI, manifest.efi_size)
        mapped = _read(folder / KERNEL_MAP, MAX_KERNEL_MAP)
        _same(EFI, sha256(efi), manifest.efi_sha256)
        _same(KERNEL_MAP, sha256(mapped), manifest.kernel_map_sha256)
        with (folder / ROOT).open("rb") as source:
            _same(ROOT, hashlib.file_digest(source, "sha256").digest(), manifest.root_sha256)
            if source.tell() != manifest.root_size:
                raise ImageError(f"{ROOT} has another size than its manifest says")
        kernel = _check_statements(efi, mapped, manifest)
        return BootFiles(manifest, _joined(kernel, KernelMap.decode(mapped)), folder / ROOT)
    except FormatError as error:
        raise ImageError(str(error)) from error
    except OSError as error:
        raise ImageError(f"{error.filename}: {error.strerror}; copy the image again") from error


def _check_statements(efi: bytes, mapped: bytes, manifest: BootManifest) -> Kernel:
    """What the manifest says of `boot.efi` is what the file says itself."""
    sections = {each.name: each for each in Pe.parse(efi).sections}
    if _LINUX not in sections or _COMMAND_LINE not in sections:
        raise ImageError(f"{EFI} holds no kernel or no command line")
    found = {
        name: efi[each.offset : each.offset + each.virtual_size] for name, each in sections.items()
    }
    if found[_COMMAND_LINE].rstrip(b"\0") != manifest.command_line.encode():
        raise ImageError("the manifest's command line is not that of boot.efi")
    if f"{ROOT_OPTION}={manifest.root_sha256.hex()}" not in manifest.command_line.split():
        raise ImageError("the command line does not name the image's root file system")
    if manifest.pcr4[0] != authenticode(efi):
        raise ImageError("the manifest's first program is not boot.efi")
    kernel = open_kernel(found[_LINUX])
    if kernel_map(kernel).encode() != mapped:
        raise ImageError("the kernel map is not that of the kernel in boot.efi")
    return kernel


def _joined(kernel: Kernel, known: KernelMap) -> bytes:
    """The kernel's bytes in the map's intervals, one behind the other."""
    parts = []
    for offset, length in known.intervals:
        address = known.base + offset
        for each in kernel.sections.values():
            begin = address - each.address
            if each.address and begin >= 0 and begin + length <= each.size:
                parts.append(kernel.data[each.offset + begin : each.offset + begin + length])
                break
        else:
            raise ImageError("the kernel map reaches outside the kernel's sections")
    return b"".join(parts)


def _answers(nonce: bytes, area: Area, size: int, read: Read) -> Answers:
    found = []
    for offset, length, digest in answer(nonce, area, size, read):
        assert isinstance(offset, int)
        assert isinstance(length, int)
        assert isinstance(digest, bytes)
        found.append((offset, length, digest))
    return tuple(found)


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as source:
        content = source.read(most + 1)
    if len(content) > most:
        raise ImageError(f"{path.name} is larger than it may be")
    return content


def _same(name: str, found: bytes, stated: bytes) -> None:
    if found != stated:
        raise ImageError(f"{name} is not what its manifest says; copy the image again")
