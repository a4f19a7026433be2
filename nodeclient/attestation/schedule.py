"""Times at which this Node asks: a Poisson process, from the operating system's generator.

The times are drawn one after the other and do not depend on the answers: a Machine that takes long
to answer one question does not delay the moments of the next ones, which are then put at once.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from nodeclient.core.schedule import wait_of

_RANDOM = secrets.SystemRandom()
_BEHIND = 4  # moments that are caught up with; after a night's sleep nobody asks thousands


class Clock(Protocol):
    """Seconds that only grow, and a way to wait for some of them."""

    def now(self) -> float: ...
    async def sleep(self, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class LoopClock:
    """The running event loop's."""

    def now(self) -> float:
        """Seconds since some moment."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def next_wait(rate: float) -> float:
    """Seconds until the next question at ``rate`` questions per second."""
    return wait_of(_RANDOM.random(), rate)


async def moments(rate: float, clock: Clock | None = None) -> AsyncIterator[float]:
    """The moments to ask at, for ever; each is given when it has come. ``rate`` per second."""
    keeper = clock or LoopClock()
    due = keeper.now()
    while True:
        due += next_wait(rate)
        now = keeper.now()
        if due > now:
            await keeper.sleep(due - now)
        elif now - due > _BEHIND / rate:
            due = now
        yield due
