"""A boot image on this Node, as a verifier uses it: checked whole, then asked for ranges.

Its ID is the hash of the manifest, and the manifest holds the hashes of the files, so nothing here
needs to be believed. What the manifest says of the files beyond that (programs, events, command
line, kernel map) is computed again: an image that states one thing and boots another was approved
by somebody who did not look.
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
)
from agent.formats.cbor import FormatError
from agent.formats.hashes import sha256
from agent.formats.netboot import ROOT_OPTION
from agent.formats.ranges import Answer, Area, answers
from nodeclient.images.boot.kernel import open_kernel
from nodeclient.images.boot.kernel_map import interval_bytes, kernel_map
from nodeclient.images.boot.pe import Pe
from nodeclient.images.boot.uki import measured_by_kernel, measured_programs, measured_sections
from nodeclient.images.errors import ImageError

_LINUX, _INITRAMFS, _COMMAND_LINE = ".linux", ".initrd", ".cmdline"


@dataclass(frozen=True, slots=True)
class BootFiles:
    """A sound image. ``text``: the joined bytes of the kernel's intervals."""

    manifest: BootManifest
    text: bytes
    root_path: Path

    def kernel(self, nonce: bytes) -> tuple[Answer, ...]:
        """(offset, length, sha256(nonce ‖ bytes)) of each range of the kernel's fixed part."""
        return answers(nonce, Area.KERNEL, len(self.text), lambda at, n: self.text[at : at + n])

    def root(self, nonce: bytes) -> tuple[Answer, ...]:
        """The same over the root file system. Raises OSError if it is gone meanwhile."""
        with self.root_path.open("rb") as source:

            def read(offset: int, length: int) -> bytes:
                source.seek(offset)
                return source.read(length)

            return answers(nonce, Area.ROOT, self.manifest.root_size, read)


def open_boot_files(folder: Path, image: bytes) -> BootFiles:
    """Check the image with this ID (32 bytes). Raises ImageError for anything that differs."""
    try:
        encoded = _read(folder / MANIFEST, MAX_MANIFEST)
        if sha256(encoded) != image:
            raise ImageError("its manifest is of another image; copy it again")
        manifest = BootManifest.decode(encoded)
        if not manifest.has_root:
            raise ImageError("it is an eraser, which runs no task; name a boot image")
        efi = _read(folder / EFI, manifest.efi_size)
        mapped = _read(folder / KERNEL_MAP, MAX_KERNEL_MAP)
        _same(EFI, sha256(efi), manifest.efi_sha256)
        _same(KERNEL_MAP, sha256(mapped), manifest.kernel_map_sha256)
        with (folder / ROOT).open("rb") as source:
            _same(ROOT, hashlib.file_digest(source, "sha256").digest(), manifest.root_sha256)
            if source.tell() != manifest.root_size:
                raise ImageError(f"{ROOT} has another size than its manifest says")
        return BootFiles(manifest, _check_statements(efi, mapped, manifest), folder / ROOT)
    except FormatError as error:
        raise ImageError(str(error)) from error
    except OSError as error:
        raise ImageError(f"{error.filename}: {error.strerror}; copy the image again") from error


def open_eraser(folder: Path, image: bytes) -> BootManifest:
    """The manifest of the eraser with this ID (32 bytes), checked against its file.

    Raises ImageError for anything that differs, and for an image that has a root.
    """
    try:
        encoded = _read(folder / MANIFEST, MAX_MANIFEST)
        if sha256(encoded) != image:
            raise ImageError("its manifest is of another image; copy it again")
        manifest = BootManifest.decode(encoded)
        if manifest.has_root:
            raise ImageError("it is no eraser; build one: sealrun image build eraser")
        efi = _read(folder / EFI, manifest.efi_size)
        _same(EFI, sha256(efi), manifest.efi_sha256)
        _check_measured(efi, manifest)
    except FormatError as error:
        raise ImageError(str(error)) from error
    except OSError as error:
        raise ImageError(f"{error.filename}: {error.strerror}; copy the image again") from error
    return manifest


def _check_statements(efi: bytes, mapped: bytes, manifest: BootManifest) -> bytes:
    """What the manifest says of `boot.efi` is what the file says itself; the kernel's mapped bytes.

    Raises ImageError.
    """
    linux = _check_measured(efi, manifest)
    root = f"{ROOT_OPTION}={manifest.root_sha256.hex()}"
    words = manifest.command_line.split()
    _agree("root file system", [root], [word for word in words if ROOT_OPTION in word])
    kernel = open_kernel(linux)
    known = kernel_map(kernel)
    _agree("kernel map", known.encode(), mapped)
    return b"".join(interval_bytes(kernel, each) for each in known.intervals)


def _check_measured(efi: bytes, manifest: BootManifest) -> bytes:
    """What TPM and firmware measure of `boot.efi` is as stated; its kernel. Raises ImageError."""
    content = {
        each.name: efi[each.offset : each.offset + each.virtual_size]
        for each in Pe.parse(efi).sections
    }
    missing = [name for name in (_LINUX, _INITRAMFS, _COMMAND_LINE) if name not in content]
    if missing:
        raise ImageError(f"{EFI} has no section {missing[0]}")
    linux, command_line = content[_LINUX], manifest.command_line
    _agree("command line", content[_COMMAND_LINE], command_line.encode() + b"\0")
    _agree("list of programs", measured_programs(efi, linux), manifest.pcr4)
    _agree("PCR 9", measured_by_kernel(command_line, content[_INITRAMFS]), manifest.pcr9)
    _agree("PCR 11", measured_sections(list(content.items())), manifest.pcr11)
    return linux


def _agree(what: str, computed: object, stated: object) -> None:
    if computed != stated:
        raise ImageError(f"its manifest states another {what} than {EFI} has; do not use it")


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as source:
        content = source.read(most + 1)
    if len(content) > most:
        raise ImageError(f"{path.name} is larger than it may be")
    return content


def _same(name: str, found: bytes, stated: bytes) -> None:
    if found != stated:
        raise ImageError(f"{name} is not what its manifest says; copy the image again")
