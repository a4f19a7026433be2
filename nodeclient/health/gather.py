"""One picture of the Node, gathered from its adapters. Bounded: a part that does not answer in time
is missing in the picture, and the rest of it is there all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from nodeclient.core.health import (
    ChainPart,
    GuardPart,
    ImagePart,
    MachinePart,
    PeerPart,
    Picture,
    RegistryPart,
    RootPart,
    TaskPart,
    Use,
    standing_of,
)
from nodeclient.core.images import ImageRecord
from nodeclient.core.roothealth import RootHealth
from nodeclient.core.types import Address, BlockRef, NodeRecord, RootClass
from nodeclient.errors import SealrunError
from nodeclient.roots.base import RootError, RootQueued, RootTampered

ROOT_SECONDS = 3.0  # a device that is asked for longer is of no use to a task either
CHAIN_SECONDS = 5.0  # for all questions together, which are asked at once


class Chain(Protocol):
    """What the picture asks of the chain; any of it may raise ``ChainUnavailable``."""

    async def head(self) -> BlockRef: ...
    async def node(self, address: Address) -> NodeRecord | None: ...
    async def reputation(self, address: Address) -> int: ...
    async def unit(self) -> int:
        """The least Deposit of an ACTIVE Node, in wei."""

    async def image(self, image: bytes) -> ImageRecord | None: ...


@dataclass(frozen=True)
class Sources:
    """Where each part comes from. ``root`` may block, and is asked in a thread of its own;
    everything else answers at once. Without a daemon ``started_at``, ``peers`` and the like are
    None.
    """

    account: Address
    drawable: bool
    root_class: RootClass
    simulated: bool
    root: Callable[[], RootHealth]
    chain: Chain
    images: Callable[[], tuple[tuple[Use, bytes], ...]]
    applied: Callable[[], int | None]
    machine: Callable[[], MachinePart]
    guard: Callable[[], GuardPart | None]
    peers: Callable[[], PeerPart | None]
    tasks: Callable[[], TaskPart | None]
    started_at: int | None


class RootProbe:
    """Asks a root how it is. One that hangs is not asked again before it has come back: each
    question would hold a thread. The thread is not the event loop's, which would wait for it at
    its end, for ever."""

    def __init__(self, ask: Callable[[], RootHealth], seconds: float = ROOT_SECONDS) -> None:
        self._ask, self._seconds = ask, seconds
        self._asked: asyncio.Future[RootHealth] | None = None

    async def health(self) -> RootHealth:
        """Its answer, or that there is none. Never raises."""
        if self._asked is None:
            self._asked = in_thread(self._ask)
        await asyncio.wait({self._asked}, timeout=self._seconds)
        if not self._asked.done():
            return RootHealth(False, False, f"no answer in {self._seconds:g} s")
        asked, self._asked = self._asked, None
        error = asked.exception()
        if error is None:
            return asked.result()
        if isinstance(error, RootError):
            return unusable(error)
        # Only its kind: what an adapter that does not keep to its port says may hold anything.
        return RootHealth(False, False, f"{type(error).__name__} when asked how it is")


def in_thread(ask: Callable[[], RootHealth]) -> asyncio.Future[RootHealth]:
    """The answer of a call that may never return."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[RootHealth] = loop.create_future()

    def work() -> None:
        try:
            found = ask()
        except Exception as error:
            tell(answer.set_exception, error)
        else:
            tell(answer.set_result, found)

    def tell(take: Callable[[Any], None], what: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(take, what)

    threading.Thread(target=work, name="root-health", daemon=True).start()
    return answer


def unusable(error: RootError) -> RootHealth:
    """What a root's error says about it."""
    if isinstance(error, RootQueued):
        return RootHealth(True, False, "busy with this node's own commands")
    return RootHealth(False, isinstance(error, RootTampered), error.message)


class Gatherer:
    """``gather`` as often as wanted; ``clock`` gives seconds since 1970."""

    def __init__(self, sources: Sources, clock: Callable[[], float] = time.time) -> None:
        self._from, self._clock = sources, clock
        self._root = RootProbe(sources.root)

    async def gather(self) -> Picture:
        """The picture of this moment."""
        named = self._from.images()
        health, (chain, images) = await asyncio.gather(self._root.health(), self._ask_chain(named))
        sources = self._from
        return Picture(
            at=int(self._clock()),
            started_at=sources.started_at,
            account=sources.account,
            drawable=sources.drawable,
            root=RootPart(sources.root_class, sources.simulated, health),
            chain=chain,
            images=images,
            machine=sources.machine(),
            guard=sources.guard(),
            peers=sources.peers(),
            tasks=sources.tasks(),
        )

    async def _ask_chain(
        self, named: tuple[tuple[Use, bytes], ...]
    ) -> tuple[ChainPart | None, tuple[ImagePart, ...]]:
        unasked = tuple(ImagePart(use, image) for use, image in named)
        try:
            async with asyncio.timeout(CHAIN_SECONDS):
                head, registry, records = await asyncio.gather(
                    self._from.chain.head(), self._registry(), self._records(named)
                )
        except (SealrunError, TimeoutError):
            return None, unasked
        images = tuple(
            ImagePart(
                use, image, standing_of(use, found, head.timestamp), found.not_after if found else 0
            )
            for (use, image), found in zip(named, records, strict=True)
        )
        return ChainPart(head.number, head.timestamp, self._from.applied(), registry), images

    async def _registry(self) -> RegistryPart | None:
        chain, account = self._from.chain, self._from.account
        record, reputation, unit = await asyncio.gather(
            chain.node(account), chain.reputation(account), chain.unit()
        )
        if record is None:
            return None
        return RegistryPart(record.status, record.deposit, unit, reputation, record.engaged)

    async def _records(self, named: tuple[tuple[Use, bytes], ...]) -> list[ImageRecord | None]:
        return await asyncio.gather(*(self._from.chain.image(image) for _, image in named))
