"""Image tars of a few kilobytes, made by the real packer."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from nodeclient.images.pack import ImageConfig, write_image, write_layer

EPOCH = 1_735_689_600


def small_root(path: Path, files: dict[str, bytes], mode: int = 0o644, mtime: int = 5) -> Path:
    """A root tar as mmdebstrap would give it."""
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            item = tarfile.TarInfo("./" + name)
            item.size, item.mode, item.mtime, item.uid = len(content), mode, mtime, 1000
            tar.addfile(item, io.BytesIO(content))
    return path


def small_image(
    folder: Path, content: bytes, name: str = "usr/share/note", mode: int = 0o644
) -> tuple[bytes, Path]:
    """(image ID, tar) of an image that holds one file with `content`."""
    root = small_root(folder / "root.tar", {name: content}, mode)
    layer, target = folder / "layer.tar", folder / "image.tar"
    digest = write_layer(root, layer, EPOCH)
    image_id = write_image(layer, digest, target, ImageConfig("amd64", EPOCH, ("PATH=/usr/bin",)))
    return image_id, target
