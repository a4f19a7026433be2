"""Blocks of images: from the own store, or from whichever peer has them.

Blocks of peers are not kept: the tar that they make up is, and twice the space is not needed. Who
gave the last block is asked first for the next, who was silent last: a few that register and never
answer must not use up the time of every block.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent.formats.cbor import FormatError
from agent.formats.cid import check_block
from nodeclient.capsules.errors import BlockCorrupt, BlockMissing
from nodeclient.core.types import Address
from nodeclient.p2p.errors import PeerError, PeerSilent
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
        self._silent: set[Address] = set()

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
        peers = self._peers()
        self._silent.intersection_update(peers)
        for peer in sorted(peers, key=self._rank):
            if peer == self._own:
                continue
            try:
                block = await self._ask(peer, "block", BlockRequest(cid))
                self._silent.discard(peer)
                check_block(cid, block)
            except PeerSilent:
                self._silent.add(peer)
                continue
            except (PeerError, FormatError):
                continue
            self._last = peer
            return block
        raise BlockMissing(f"no peer has block {cid[:16]}…", "ask its publisher to come back")

    def _rank(self, peer: Address) -> int:
        return 2 if peer in self._silent else int(peer != self._last)
