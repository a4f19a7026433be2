"""The boot image that the lab's PC gets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.formats.bootimage import MANIFEST, BootManifest
from scripts.embedded.network import Say


@dataclass(frozen=True, slots=True)
class BootImage:
    image_id: bytes
    folder: Path


def build_boot(folder: Path, say: Say) -> BootImage:
    for each in sorted(folder.iterdir()):
        if len(each.name) == 64:
            manifest = BootManifest.decode((each / MANIFEST).read_bytes())
            return BootImage(manifest.image_id, each)
    raise RuntimeError("none")
