"""An image tar by CID: block after block into a file that appears whole and checked, or never.

Memory is bounded by the few blocks on their way, the disk by the size that the list states; every
block is checked against its CID, and the finished tar against the image ID, before it has a name.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeVar

from agent.formats.cbor import FormatError
from agent.formats.cid import check_block
from agent.formats.image import ImageTarError, check_image_tar
from nodeclient.files import new_file
from nodeclient.images.errors import ImageError
from nodeclient.images.parts import BLOCK, ImageParts

GetBlock = Callable[[str], Awaitable[bytes]]
AHEAD = 4  # blocks asked for at one time: hides the way to a peer and costs 4 MiB
T = TypeVar("T")


async def fetch_parts(cid: str, get: GetBlock) -> ImageParts:
    """The list that `cid` names. Raises ImageError, and what `get` raises for a missing block."""
    try:
        block = await get(cid)
        check_block(cid, block)
        return ImageParts.decode(block)
    except FormatError as error:
        raise ImageError(f"{cid[:16]}… is no list of an image ({error}); ask for its CID") from None


async def fetch_tar(parts: ImageParts, get: GetBlock, target: Path) -> None:
    """Fetch the tar into `target`, which must not exist. Raises ImageError; what `get` raises.

    Durable on return. After an error or SIGKILL `target` is not there and its space is free.
    """

    def check(written: Path) -> None:
        try:
            found = check_image_tar(written)
        except ImageTarError as error:
            raise ImageError(f"the fetched tar is no image ({error})") from error
        if found != parts.image:
            raise ImageError(
                f"the fetched tar is image {found.hex()[:16]}…, not {parts.image.hex()[:16]}…; "
                "ask its publisher for another CID"
            )

    try:
        async with (
            _off_loop(new_file(target, check=check)) as stream,
            contextlib.aclosing(_blocks(parts, get)) as blocks,
        ):
            async for block in blocks:
                await asyncio.to_thread(stream.write, block)
    except OSError as error:
        raise ImageError(
            f"image {parts.image.hex()[:16]}… cannot be written ({error.strerror}); "
            "free some space or check the disk"
        ) from error


async def _blocks(parts: ImageParts, get: GetBlock) -> AsyncGenerator[bytes, None]:
    """The tar's blocks in order, each checked, `AHEAD` of them under way."""
    waiting: deque[asyncio.Task[bytes]] = deque()
    try:
        for index in range(len(parts.blocks) + AHEAD):
            if index < len(parts.blocks):
                waiting.append(asyncio.create_task(_block(parts, index, get)))
            if index >= AHEAD - 1 and waiting:
                yield await waiting.popleft()
    finally:
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _block(parts: ImageParts, index: int, get: GetBlock) -> bytes:
    cid = parts.blocks[index]
    block = await get(cid)
    try:
        check_block(cid, block)
    except FormatError as error:
        raise ImageError(str(error)) from None
    if len(block) != parts.length(index) or len(block) > BLOCK:
        raise ImageError(
            f"block {index} of the image has another length than its list says; "
            "ask its publisher for another CID"
        )
    return block


@asynccontextmanager
async def _off_loop(manager: AbstractContextManager[T]) -> AsyncIterator[T]:
    """A context manager whose own work (here fsync, and hashing it all) blocks no one else."""
    with contextlib.ExitStack() as stack:
        entered = await asyncio.to_thread(stack.enter_context, manager)
        yield entered
        await asyncio.to_thread(stack.pop_all().close)
