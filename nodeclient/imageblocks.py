"""Blocks of images: from the own store, or from whichever peer has them.

Blocks of peers are not kept: the tar that they make up is, and twice the space is not needed. Who
gave the last block is asked first for the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent.formats.cbor import FormatError
from agent.formats.cid import check_block
from nodeclient.capsules.errors import BlockCorrupt, BlockMissing
from nodeclient.core.types import Address
from nodeclient.p2p.errors import PeerError
from nodeclient.p2p.messages import BlockRequest
from nodeclient.ports import BlockStore

SECONDS = 120.0  # one block, all peers together
Ask = Callable[[Address, str, object], Awaitable[bytes]]


class ImageBlocks:
    """``get`` is the fetcher's; ``own``: never asked over the network."""

    def __init__(
        self, store: BlockStore, ask: Ask, peers: Callable[[], tuple[Address, ...]], own: Address
    ) -> None:
        self._store, self._ask, self._peers, self._own = store, ask, peers, own
        self._last: Address | None = None

    async def get(self, cid: str) -> bytes:
        """One block, checked against its CID. Raises BlockMissing, StoreError."""
        try:
            return await asyncio.to_thread(self._store.get, cid)
        except (BlockMissing, BlockCorrupt):
            pass
        try:
            async with asyncio.timeout(SECONDS):
                return await self._from_peers(cid)
        except TimeoutError:
            raise BlockMissing(f"no peer gave block {cid[:16]}… in time", "try again") from None

    async def _from_peers(self, cid: str) -> bytes:
        for peer in sorted(self._peers(), key=lambda each: each != self._last):
            if peer == self._own:
                continue
            try:
                block = await self._ask(peer, "block", BlockRequest(cid))
                check_block(cid, block)
            except (PeerError, FormatError):
                continue
            self._last = peer
            return block
        raise BlockMissing(f"no peer has block {cid[:16]}…", "ask its publisher to come back")
