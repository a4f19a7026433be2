"""Another boot image around the same root: other kernel parameters, other files in the initramfs.

Seconds instead of minutes. The lab's attackers boot such images, and whoever looks for a fault
boots one with a serial console; each has an ID of its own, which nobody approved.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from agent.formats.bootimage import EFI, KERNEL_MAP, MANIFEST, ROOT
from agent.formats.hashes import sha256
from nodeclient.images.boot.keep import BuiltBoot, place
from nodeclient.images.boot.pe import Pe
from nodeclient.images.boot.recipe import EPOCH
from nodeclient.images.boot.tree import Node, cpio
from nodeclient.images.boot.uki import (
    SECTIONS,
    build_uki,
    measured_by_kernel,
    measured_programs,
    measured_sections,
)


def make_variant(
    base: BuiltBoot,
    folder: Path,
    options: tuple[str, ...] = (),
    initramfs: Mapping[str, Node] | None = None,
) -> BuiltBoot:
    """`base` with `options` behind its kernel parameters and `initramfs` over its initramfs.

    It is written into ``folder/<image id>/``. Raises `ImageError`.
    """
    efi = (base.path / EFI).read_bytes()
    pe = Pe.parse(efi)
    parts = {each.name: efi[each.offset : each.offset + each.virtual_size] for each in pe.sections}
    command_line = " ".join((base.manifest.command_line, *options))
    early = parts[".initrd"]
    if initramfs:  # the kernel unpacks one archive over the other; each begins on 4 bytes
        early += bytes(-len(early) % 4) + cpio(dict(initramfs), EPOCH)
    parts |= {".cmdline": command_line.encode() + b"\0", ".initrd": early}
    sections = tuple((name, parts[name]) for name in SECTIONS)
    stub = pe.without(efi, SECTIONS)
    changed = build_uki(stub, sections)
    manifest = replace(
        base.manifest,
        efi_sha256=sha256(changed),
        efi_size=len(changed),
        command_line=command_line,
        pcr4=measured_programs(changed, parts[".linux"]),
        pcr9=measured_by_kernel(command_line, early),
        pcr11=measured_sections(sections),
    )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as name:
        image = Path(name) / "image"
        image.mkdir()
        (image / EFI).write_bytes(changed)
        for same in (ROOT, KERNEL_MAP) if base.manifest.has_root else ():
            _share(base.path / same, image / same)
        (image / MANIFEST).write_bytes(manifest.encode())
        return place(image, folder)


def _share(source: Path, target: Path) -> None:
    """A hard link where that is possible: nobody writes into an image."""
    try:
        os.link(source, target)
    except OSError:
        target.write_bytes(source.read_bytes())
