"""The Verification module's door: an image comes in by CID, or stays out with the reason.

It runs outside of any container, so that nothing it lets in can change its mind. The order matters:
the chain is asked before anything is fetched, so that nobody fills a disk with what may never run,
and once more when the image is whole, because minutes may lie between. The ID is checked over every
byte before the file has a name; an engine sees only such files, and is asked for the ID, never for
a tag.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from nodeclient.core.images import ImageKind, ImageRecord, fault
from nodeclient.images.engine import DEFAULT_SOCKET
from nodeclient.images.errors import ImageError, ImageRefused
from nodeclient.images.fetch import GetBlock, fetch_parts, fetch_tar
from nodeclient.images.load import load_image
from nodeclient.images.verify import verify_image

# What the chain says of an image just now, and what time the chain has (seconds since 1970).
Look = Callable[[bytes], Awaitable[tuple[ImageRecord | None, int]]]
BY_CID = (ImageKind.SERVICE, ImageKind.RUNTIME)


@dataclass(frozen=True, slots=True)
class Brought:
    """An image that is here, checked and approved. `loaded`: the engine has it."""

    image: bytes
    kind: ImageKind
    path: Path
    loaded: bool

    def shown(self) -> dict[str, object]:
        """For JSON."""
        return {
            "image": "0x" + self.image.hex(),
            "kind": self.kind.name,
            "path": str(self.path),
            "loaded": self.loaded,
        }


class Verification:
    """`images`: folder of runtime images; services' lie in `images/services`. `socket`: the engine
    that service images are loaded into; a runtime image is loaded by the Machine that needs it.
    """

    def __init__(
        self, look: Look, get: GetBlock, images: Path, socket: Path = DEFAULT_SOCKET
    ) -> None:
        self._look, self._get = look, get
        self._images, self._socket = images, socket
        self._lock = asyncio.Lock()

    async def bring(self, cid: str) -> Brought:
        """Fetch, check, and load for services. Harmless twice. Raises ImageRefused with the reason
        where the chain is against it, ImageError, EngineError, and what `get` raises.
        """
        async with self._lock:  # one at a time: each is large
            parts = await fetch_parts(cid, self._get)
            kind = await self._approved(parts.image)
            path = self._path(parts.image, kind)
            if not await asyncio.to_thread(_is_whole, path, parts.image):
                await fetch_tar(parts, self._get, path)
            await self._approved(parts.image)
            if kind is ImageKind.SERVICE:
                await asyncio.to_thread(load_image, path, self._socket)
            return Brought(parts.image, kind, path, loaded=kind is ImageKind.SERVICE)

    async def _approved(self, image: bytes) -> ImageKind:
        record, now = await self._look(image)
        kind = ImageKind.SERVICE if record is None else record.kind
        reason = fault(record, kind, now)
        if not reason and kind not in BY_CID:
            reason = "boot images are built: sealrun image build boot"
        if reason:
            raise ImageRefused(f"image {image.hex()} is refused ({reason}); take an approved one")
        return kind

    def _path(self, image: bytes, kind: ImageKind) -> Path:
        folder = self._images / "services" if kind is ImageKind.SERVICE else self._images
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ImageError(
                f"{folder} cannot be made ({error.strerror}); free some space or check the disk"
            ) from error
        return folder / f"{image.hex()}.tar"


def _is_whole(path: Path, image: bytes) -> bool:
    """Whether the image lies there already. What is damaged is removed: it is fetched again."""
    if not path.exists():
        return False
    try:
        if verify_image(path) == image:
            return True
    except ImageError:
        pass
    path.unlink(missing_ok=True)
    return False
