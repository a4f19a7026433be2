"""Which peers give a sign of life: each is asked now and then over the pinned TLS connection that
Tasks use, so that an answer proves more than an open port. A peer that declines has answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from nodeclient.core.health import PeerPart
from nodeclient.core.types import Address
from nodeclient.p2p.errors import PeerBusy, PeerDeclined, PeerError

ALIVE = "alive"  # the method; its body and its answer are empty
ROUND_SECONDS = 60.0
ROUND_PEERS = 32  # of many peers so many a round: a thousand are asked within half an hour
AT_ONCE = 4
Ask = Callable[[Address], Awaitable[object]]


class Reach:
    """``peers``: who is known now, this Node left out; ``ask`` raises PeerError."""

    def __init__(self, peers: Callable[[], Iterable[bytes]], ask: Ask) -> None:
        self._peers, self._ask = peers, ask
        self._answered: dict[Address, bool] = {}
        self._after = b""

    def part(self, findings: int = 0) -> PeerPart:
        """What is known of those that are peers now."""
        known = set(map(Address, self._peers()))
        asked = [answered for peer, answered in self._answered.items() if peer in known]
        return PeerPart(len(known), len(asked), sum(asked), findings)

    async def watch(self) -> None:
        """Round after round, for ever."""
        while True:
            await self.round()
            await asyncio.sleep(ROUND_SECONDS)

    async def round(self) -> None:
        """Ask the next ones."""
        known = sorted(map(Address, self._peers()))
        self._answered = {peer: a for peer, a in self._answered.items() if peer in set(known)}
        following = [peer for peer in known if peer > self._after]
        chosen = (following + [peer for peer in known if peer <= self._after])[:ROUND_PEERS]
        self._after = chosen[-1] if chosen else b""
        slots = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as asking:
            for peer in chosen:
                asking.create_task(self._ask_one(peer, slots))

    async def _ask_one(self, peer: Address, slots: asyncio.Semaphore) -> None:
        async with slots:
            try:
                await self._ask(peer)
                self._answered[peer] = True
            except (PeerDeclined, PeerBusy):
                self._answered[peer] = True
            except PeerError:
                self._answered[peer] = False
