"""What the tests of the boot image share: the kept image, and its opened parts."""

from __future__ import annotations

import subprocess
from pathlib import Path

from nodeclient.images.boot.keep import BuiltBoot, build_boot

BOOT_IMAGES = Path(__file__).parents[2] / ".build" / "images" / "boot"


def kept_image() -> BuiltBoot:
    """The product's image, built once and then kept."""
    return build_boot(BOOT_IMAGES, lambda _: None)


def unpacked(squashfs: Path, folder: Path) -> Path:
    """The files of a root, in a folder that does not exist yet."""
    command = ["unsquashfs", "-quiet", "-no-progress", "-dest", str(folder), str(squashfs)]
    subprocess.run(command, check=True, capture_output=True)
    return folder
