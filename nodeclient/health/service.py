"""The picture, kept for those who ask: gathered at intervals and at most every few seconds, whoever
asks and how often, so that nobody can make this Node load its chain endpoint or its root of trust.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from nodeclient.core.health import Picture
from nodeclient.core.verdict import Bounds, Remark, judge
from nodeclient.health.gather import Gatherer

INTERVAL = 15.0  # seconds between two pictures that nobody asked for
SOON = 2.0  # seconds until the next one after an incident, however many there are
FRESH = 3.0  # seconds for which a picture serves everybody
PATIENCE = 0.5  # seconds that an asker waits for a newer picture than the last
OLD = 2 * INTERVAL  # seconds after which a picture serves nobody: whoever asks once an hour waits


@dataclass(frozen=True, slots=True)
class Reading:
    """A picture, and what is wrong with it."""

    picture: Picture
    remarks: tuple[Remark, ...]


class Health:
    """``clock``: seconds that never go back."""

    def __init__(
        self, gatherer: Gatherer, bounds: Bounds, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._gatherer, self._bounds, self._clock = gatherer, bounds, clock
        self._last: Reading | None = None
        self._at = 0.0
        self._gathering: asyncio.Task[Reading] | None = None
        self._hurry = asyncio.Event()

    async def read(self, fresh: float = FRESH) -> Reading:
        """A reading of the last ``fresh`` seconds; one of the last ``OLD`` if a new one takes too
        long: a chain endpoint that hangs must not make this Node's own status hang."""
        last = self._last
        if last is not None and self._clock() - self._at <= fresh:
            return last
        if self._gathering is None or self._gathering.done():
            self._gathering = asyncio.create_task(self._gather())
        if last is None or self._clock() - self._at > OLD:
            return await asyncio.shield(self._gathering)
        done, _ = await asyncio.wait({self._gathering}, timeout=PATIENCE)
        return self._gathering.result() if done else last

    async def watch(self, tell: Callable[[Reading], None]) -> None:
        """Gather at intervals, for ever, and tell of each."""
        while True:
            tell(await self.read(0.0))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), INTERVAL)
                await asyncio.sleep(SOON)
            self._hurry.clear()

    def hurry(self) -> None:
        """Something happened that may change the verdict."""
        self._hurry.set()

    async def _gather(self) -> Reading:
        picture = await self._gatherer.gather()
        self._last = Reading(picture, judge(picture, self._bounds))
        self._at = self._clock()
        return self._last

    async def stop(self) -> None:
        """End a gathering that is under way."""
        if self._gathering is not None:
            self._gathering.cancel()
            await asyncio.wait({self._gathering})
