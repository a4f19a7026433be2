"""A boot image on this Pi, opened and held against its manifest before a byte of it is served."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from agent.formats.bootimage import EFI, MANIFEST, MAX_MANIFEST, ROOT, BootManifest
from agent.formats.cbor import FormatError
from agent.formats.hashes import sha256
from nodeclient.errors import MachineError

_NEXT = "build it: sealrun image build boot"


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file that was measured through this descriptor; a new file at its path changes nothing."""

    descriptor: int
    size: int


@dataclass(frozen=True, slots=True)
class OpenImage:
    """What the firmware and the initramfs fetch. root: None for an image without one (eraser)."""

    efi: OpenFile
    root: OpenFile | None


def open_image(folder: Path, image: bytes) -> OpenImage:
    """Open the image with this ID (32 bytes). Raises MachineError unless every hash is right."""
    try:
        with (folder / MANIFEST).open("rb") as source:
            encoded = source.read(MAX_MANIFEST + 1)
        if sha256(encoded) != image:
            raise MachineError(f"{folder} is not boot image {image.hex()[:16]}…", _NEXT)
        manifest = BootManifest.decode(encoded)
        efi = _open(folder / EFI, manifest.efi_size, manifest.efi_sha256)
        if not manifest.has_root:
            return OpenImage(efi, None)
        return OpenImage(efi, _open(folder / ROOT, manifest.root_size, manifest.root_sha256))
    except OSError as error:
        raise MachineError(f"{folder}: {error.strerror}", _NEXT) from error
    except FormatError as error:
        raise MachineError(f"{folder}: {error}", _NEXT) from error


def check_image(folder: Path, image: bytes) -> None:
    """Whether `open_image` would succeed. Raises MachineError where it would."""
    opened = open_image(folder, image)
    for each in (opened.efi, opened.root):
        if each is not None:
            os.close(each.descriptor)


def _open(path: Path, size: int, digest: bytes) -> OpenFile:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(os.dup(descriptor), "rb") as source:
        right = os.fstat(descriptor).st_size == size
        if not right or hashlib.file_digest(source, "sha256").digest() != digest:
            os.close(descriptor)
            raise MachineError(f"{path} is not what its manifest says", _NEXT)
    return OpenFile(descriptor, size)
