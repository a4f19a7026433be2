"""Brings the runtime image to the engine: from the Pi if need be, and only after a check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agent.engine import Engine, EngineFailed
from agent.formats.image import ImageTarError, check_image_tar
from agent.formats.messages import IMAGE_BLOCK

MAX_IMAGE = 8 << 30  # bytes; the work folder's own size bounds it further
FetchBlock = Callable[[bytes, int], bytes]


class ImageRefused(Exception):
    """The runtime image that the task names cannot be had."""


def bring_image(engine: Engine, image_id: bytes, fetch: FetchBlock, spool: Path) -> bool:
    """Make sure that the engine holds exactly `image_id`; True if this call brought it.

    `fetch(image_id, index)` gives the tar's blocks, empty behind the last. Raises ImageRefused.
    """
    if engine.has_image(image_id):
        return False
    try:
        _spool(image_id, fetch, spool)
        found = check_image_tar(spool)
        if found != image_id:
            raise ImageRefused("the Pi sent another image than the task names; build it again")
        engine.load(spool)
    except ImageTarError as error:
        raise ImageRefused(str(error)) from error
    except EngineFailed as error:
        raise ImageRefused(f"{error}; look at the engine's log") from error
    finally:
        spool.unlink(missing_ok=True)
    if not engine.has_image(image_id):
        raise ImageRefused("the engine took the image under another ID; use its classic store")
    return True


def _spool(image_id: bytes, fetch: FetchBlock, spool: Path) -> None:
    size = index = 0
    with spool.open("wb") as sink:
        while block := fetch(image_id, index):
            size, index = size + len(block), index + 1
            if len(block) > IMAGE_BLOCK or size > MAX_IMAGE:
                raise ImageRefused("the image is larger than a Machine takes; build a smaller one")
            sink.write(block)
    if not size:
        raise ImageRefused("neither engine nor Pi has the runtime image; build and approve it")
