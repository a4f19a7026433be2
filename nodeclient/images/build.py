"""Build the RUNTIME image: what a function finds around itself, the same everywhere.

The same lock gives the same image ID on every host, so that the ID can be approved once and then be
checked by everybody who builds it for himself. Built images are kept under
``.build/images/<key>/``, the key being the hash of everything that goes into the image.
"""

import contextlib
import hashlib
import inspect
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nodeclient.images import bootstrap as bootstrap_module
from nodeclient.images import pack as pack_module
from nodeclient.images.bootstrap import bootstrap
from nodeclient.images.errors import ImageError
from nodeclient.images.lock import RUNTIME_LOCK, check_versions, read_lock
from nodeclient.images.pack import ImageConfig, write_image, write_layer
from nodeclient.images.verify import verify_image

Progress = Callable[[str], None]

KEPT = 2  # images of one name: this checkout's, and the one before or of another checkout
EPOCH = 1_735_689_600  # 2025-01-01T00:00:00Z; any constant will do
ENVIRONMENT = (
    "PATH=/usr/bin:/bin",
    "HOME=/tmp",
    "LANG=C.UTF-8",
    "PYTHONDONTWRITEBYTECODE=1",
    "PYTHONHASHSEED=0",  # a pure function: the same inputs give the same bytes
)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """A verified image tar: its ID (32 bytes, the config's SHA-256) and where it lies."""

    image_id: bytes
    path: Path


def build_runtime(folder: Path, progress: Progress, lock: Path = RUNTIME_LOCK) -> BuiltImage:
    """Return the runtime image for ``lock``, built into ``folder`` unless it lies there verified.

    Raises `ImageError` if packages cannot be had in exactly the locked versions.
    """
    target = folder / _key(lock) / "runtime.tar"
    return kept_or_built(target, progress, lambda work: build_into(work, lock))


def kept_or_built(
    target: Path, progress: Progress, build: Callable[[Path], BuiltImage]
) -> BuiltImage:
    """The image at `target`, which is named after what it is for; where none lies there whole, the
    one that `build` makes in an empty folder.

    Of the images of this name beside it, those that were used last are kept, `KEPT` in all: each
    change of the sources is another one of up to 170 MB. Raises ImageError.
    """
    name = target.stem
    if target.exists():
        try:
            image_id = verify_image(target)
            target.touch()
            return BuiltImage(image_id, target)
        except ImageError:
            progress(f"the kept {name} image is damaged; building it again")
            target.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    progress(f"building the {name} image")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="build-") as work:
        image = build(Path(work))
        image.path.rename(target)  # complete or not at all, also when two builds meet
    _drop_old(target)
    progress(f"{name} image sha256:{image.image_id.hex()}")
    return BuiltImage(image.image_id, target)


def _drop_old(newest: Path) -> None:
    """Remove what is kept beside `newest` under the same name, but for the last used."""

    def used(path: Path) -> float:
        try:
            return path.stat().st_mtime
        except OSError:  # another build removed it just now
            return 0.0

    others = set(newest.parent.parent.glob(f"*/{newest.name}")) - {newest}
    for old in sorted(others, key=used, reverse=True)[KEPT - 1 :]:
        with contextlib.suppress(OSError):  # a build goes on in its folder, or it is gone
            old.unlink()
            old.parent.rmdir()


def build_into(work: Path, lock: Path = RUNTIME_LOCK) -> BuiltImage:
    """Build the image for ``lock`` in the empty folder ``work``, without looking at kept ones."""
    locked = read_lock(lock)
    root, layer, target = work / "root.tar", work / "layer.tar", work / "image.tar"
    found = bootstrap([f"{name}={version}" for name, version in locked.items()], root, EPOCH)
    check_versions(found, locked)
    digest = write_layer(root, layer, EPOCH)
    image_id = write_image(layer, digest, target, ImageConfig(architecture(), EPOCH, ENVIRONMENT))
    if verify_image(target) != image_id:
        raise ImageError("the image just built does not verify; check this host's disk")
    return BuiltImage(image_id, target)


def architecture() -> str:
    """This host's, as the OCI spec names it. Raises `ImageError` for one without images."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise ImageError(f"no image for {machine}; use an x86-64 or 64-bit Arm host")
    return _ARCHITECTURES[machine]


def _key(lock: Path) -> str:
    """Hash what decides the image: lock, packer, bootstrap, settings, architecture."""
    digest = hashlib.sha256()
    for module in (pack_module, bootstrap_module):
        digest.update(inspect.getsource(module).encode())
    digest.update(lock.read_bytes())
    digest.update(repr((architecture(), EPOCH, ENVIRONMENT)).encode())
    return digest.hexdigest()[:24]
