"""Services whose image the chain does not approve are stopped, within two blocks.

Four things can make an image that runs unfit, and each has its own way in: it was revoked (the
chain's event), its time is over (the clock of the newest block), the chain went back on what it had
said (a reorganisation: all is asked anew), or it was started past this Node (every block the engine
is asked what runs). After a restart nothing is remembered, so everything is asked for.

Where it cannot tell: a chain that does not answer stops nothing that was sound, else a broken line
to one RPC endpoint would take the Node down. What was sound is judged on by the last answer, the
revocations that the blocks tell, and their clock. An image of which there never was an answer is
stopped once it was asked for in vain at more than `UNKNOWN_BLOCKS` blocks. Where no blocks come, or
no engine answers, nothing can be judged or stopped: the picture stays behind the head, and that is
a fault of the Node's health.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from nodeclient.core import events as ev
from nodeclient.core.images import ImageKind, ImageRecord, fault
from nodeclient.errors import ChainUnavailable
from nodeclient.images.errors import EngineError
from nodeclient.images.picture import Picture
from nodeclient.images.services import RunningService

log = logging.getLogger(__name__)
UNKNOWN_BLOCKS = 2  # what the chain does not speak about runs no longer than what it revoked
RETRY_SECONDS = 1.0  # after the engine or the chain did not answer
Seen = ev.ChainEvent | ev.BlockSeen | ev.ChainReorganised


class Engine(Protocol):
    """What runs, and how to end it; see ``images.services``. Both may raise EngineError."""

    def running(self) -> tuple[RunningService, ...]: ...
    def stop(self, container: str) -> None: ...


class Guard:
    """`look` asks the chain for an image's entry (may raise ChainUnavailable). `stopped` is told of
    each service that was stopped and why, `swept` of every picture. `stops`: how many an earlier
    life stopped.
    """

    def __init__(
        self,
        engine: Engine,
        look: Callable[[bytes], Awaitable[ImageRecord | None]],
        stopped: Callable[[RunningService, str], None],
        swept: Callable[[Picture], None] = lambda _: None,
        stops: int = 0,
    ) -> None:
        self._engine, self._look = engine, look
        self._stopped, self._swept = stopped, swept
        self._picture = Picture(stops=stops)
        self._records: dict[bytes, ImageRecord | None] = {}  # the last answers
        self._asked: set[bytes] = set()  # answered for since the newest block
        self._missed: dict[bytes, set[int]] = {}  # blocks at which nobody answered
        self._revoked: set[bytes] = set()
        self._block, self._now = 0, 0
        self._due = asyncio.Event()
        self._troubled = False

    def on_event(self, event: Seen) -> None:
        """One item of the chain's watcher."""
        match event:
            case ev.ImageRevoked():
                # Kept beside the entries: an endpoint that lags would still deny it if asked.
                self._revoked.add(event.image)
            case ev.ChainReorganised():
                for kept in (self._records, self._asked, self._missed, self._revoked):
                    kept.clear()
            case ev.BlockSeen():
                self._block, self._now = event.block.number, event.block.timestamp
                # Asked anew: an endpoint that lagged when it was asked, just after a start say,
                # would be believed for ever. It costs one view call for each image that runs.
                self._asked.clear()
            case _:
                return
        if self._block:
            self._due.set()

    async def run(self) -> None:
        """Sweep whenever something happened. Ends only by cancellation."""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self.sweep()
                self._troubled = False
            except (ChainUnavailable, EngineError) as error:
                if not self._troubled:  # once per outage
                    log.warning("services are not watched: %s", error)
                self._troubled = True
                await asyncio.sleep(RETRY_SECONDS)
                self._due.set()

    async def sweep(self) -> Picture:
        """Hold all that runs against the chain once. Raises ChainUnavailable, EngineError, after
        everything was tried."""
        block, now = self._block, self._now
        services = await asyncio.to_thread(self._engine.running)
        # Side by side: one image may run in several, each takes seconds to end, and neither a chain
        # that is slow about one nor a journal that cannot be written may keep another running.
        found = await asyncio.gather(
            *(self._hold(each, now) for each in services), return_exceptions=True
        )
        for each in found:
            if isinstance(each, BaseException):
                raise each
        sound = zip(services, found, strict=True)
        running = tuple((s.name, s.image) for s, reason in sound if not reason)
        self._show(replace(self._picture, block=block, services=running))
        return self._picture

    def _show(self, picture: Picture) -> None:
        self._picture = picture
        self._swept(picture)

    async def _hold(self, service: RunningService, now: int) -> str:
        """Stop one service if its image is unfit; the reason, or none."""
        reason = await self._fault(service.image, now)
        if reason:
            await asyncio.to_thread(self._engine.stop, service.container)
            # Also where the rest cannot be judged: whoever reads pictures shall hear of it.
            left = tuple(each for each in self._picture.services if each[1] != service.image)
            self._show(replace(self._picture, services=left, stops=self._picture.stops + 1))
            self._stopped(service, reason)
        return reason

    async def _fault(self, image: bytes, now: int) -> str:
        if image in self._revoked:
            return "it was revoked"
        if image not in self._asked:
            try:
                self._records[image] = await self._look(image)
            except ChainUnavailable:
                reason = self._unanswered(image, now)
                if not reason:
                    raise
                return reason
            self._asked.add(image)
            self._missed.pop(image, None)
        return fault(self._records[image], ImageKind.SERVICE, now)

    def _unanswered(self, image: bytes, now: int) -> str:
        """The fault of an image of which the chain says nothing now; empty: wait."""
        if image in self._records:
            return fault(self._records[image], ImageKind.SERVICE, now)
        missed = self._missed.setdefault(image, set())
        missed.add(self._block)
        return "the chain never spoke about it" if len(missed) > UNKNOWN_BLOCKS else ""
