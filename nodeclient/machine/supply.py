"""What an Agent may ask of its Pi: blocks of Capsules, and the runtime image, block by block."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.formats.cid import check_block
from agent.formats.messages import IMAGE_BLOCK, REFUSED
from agent.formats.rpc import RpcError
from agent.formats.shape import as_bytes, as_int, as_list, as_text
from nodeclient.core.incidents import Incident, Kind, Report
from nodeclient.machine.incidents import log_only
from nodeclient.ports import BlockGetter, BlockPutter

ImageFinder = Callable[[bytes], Awaitable[Path | None]]


@dataclass(frozen=True, slots=True)
class Supply:
    """`find_image` gives the verified tar of a runtime image ID, or None. A `get_block` that has
    not got the block raises `RpcError("missing", …)`. `connections`: the `host:port` strings of the
    task that runs now; `devices`: what it permits, as long as it holds the Machine. `report` hears
    of connections that the Agent refused.
    """

    get_block: BlockGetter
    put_block: BlockPutter
    find_image: ImageFinder
    connections: Callable[[], Sequence[str]] = tuple
    report: Report = log_only
    devices: Callable[[], Sequence[str]] = tuple

    async def serve(self, method: str, body: object) -> object:
        """Handler of the channel. Raises RpcError and FormatError, which are the answer."""
        if method == "get_block":
            return await self.get_block(as_text(body, 1, 128, "cid"))
        if method == "put_block":
            cid, block = as_list(body, 2, 2, "put_block")
            name = as_text(cid, 1, 128, "cid")
            content = as_bytes(block, 0, "block", IMAGE_BLOCK)
            check_block(name, content)
            await self.put_block(name, content)
            return None
        if method == "image_block":
            image, index = as_list(body, 2, 2, "image_block")
            path = await self.find_image(as_bytes(image, 32, "image"))
            number = as_int(index, 0, 1 << 20, "index")
            return b"" if path is None else await asyncio.to_thread(_read_block, path, number)
        if method == REFUSED:
            count = as_int(body, 1, 1 << 32, "refused")
            self.report(Incident(Kind.PROXY, f"{count} connections refused in the machine"))
            return None
        raise RpcError("unknown_method", f"the Pi has no {method}")


def _read_block(path: Path, index: int) -> bytes:
    with path.open("rb") as source:
        source.seek(index * IMAGE_BLOCK)
        return source.read(IMAGE_BLOCK)
