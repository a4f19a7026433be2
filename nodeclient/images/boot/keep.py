"""Boot images that were built: kept by their ID, found by their recipe, checked before use."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.formats.bootimage import (
    EFI,
    KERNEL_MAP,
    MANIFEST,
    MAX_MANIFEST,
    ROOT,
    BootManifest,
)
from agent.formats.cbor import FormatError
from nodeclient.images.boot.build import build_into
from nodeclient.images.boot.recipe import BootRecipe
from nodeclient.images.errors import ImageError

Progress = Callable[[str], None]

_RECIPES = "recipes"


@dataclass(frozen=True, slots=True)
class BuiltBoot:
    """A checked boot image and the folder that holds its files."""

    manifest: BootManifest
    path: Path

    @property
    def image_id(self) -> bytes:
        """What is approved on chain (32 bytes)."""
        return self.manifest.image_id


def build_boot(folder: Path, progress: Progress, recipe: BootRecipe | None = None) -> BuiltBoot:
    """The boot image of `recipe`, built into ``folder/<image id>/`` unless it lies there whole.

    Raises `ImageError` if packages cannot be had in exactly the locked versions.
    """
    recipe = recipe or BootRecipe()
    known = folder / _RECIPES / recipe.key()
    kept = kept_image(folder, known)
    if kept is not None:
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    progress("building the boot image; this takes a minute or more, once")
    with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as name:
        work, image = Path(name) / "work", Path(name) / "image"
        work.mkdir()
        image.mkdir(mode=0o755)
        manifest = build_into(work, image, recipe, progress)
        built = place(image, folder)
    known.parent.mkdir(exist_ok=True)
    known.write_text(manifest.image_id.hex() + "\n")
    progress(f"boot image {manifest.image_id.hex()}")
    return built


def place(image: Path, folder: Path) -> BuiltBoot:
    """Move the image folder `image` to its name in `folder`: complete or not at all."""
    manifest = check_files(image)
    target = folder / manifest.image_id.hex()
    if target.exists():  # the same bytes, or damaged ones
        shutil.rmtree(target)
    os.replace(image, target)
    return BuiltBoot(manifest, target)


def check_files(path: Path) -> BootManifest:
    """The manifest of the image at `path`, whose files all match it. Raises `ImageError`."""
    try:
        with (path / MANIFEST).open("rb") as source:
            manifest = BootManifest.decode(source.read(MAX_MANIFEST + 1))
        expected = {EFI: manifest.efi_sha256}
        if manifest.has_root:
            expected |= {ROOT: manifest.root_sha256, KERNEL_MAP: manifest.kernel_map_sha256}
        for name, digest in expected.items():
            with (path / name).open("rb") as source:
                if hashlib.file_digest(source, "sha256").digest() != digest:
                    raise ImageError(f"{name} is not what its manifest says; build it again")
    except FormatError as error:
        raise ImageError(f"{path.name}: {error}; build it again") from error
    except OSError as error:
        raise ImageError(f"{path.name}: {error.strerror}; build it again") from error
    return manifest


def kept_image(folder: Path, known: Path) -> BuiltBoot | None:
    """The image whose ID the file `known` holds, if it is in `folder` and still whole."""
    try:
        path = folder / known.read_text().strip()
        manifest = check_files(path)
    except (OSError, ImageError):
        return None
    return BuiltBoot(manifest, path) if manifest.image_id.hex() == path.name else None
