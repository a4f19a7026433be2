"""Bounds that keep one peer, or a crowd of strangers, from using up a Pi.

Amounts are chosen for a node process of at most 120 MB: asyncio reserves 256 KiB for every TLS
connection, and a body may have 4 MiB.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

MAX_BODY = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one server; seconds, counts and bytes as named."""

    max_body: int = MAX_BODY
    handshake_seconds: float = 5.0
    body_seconds: float = 30.0
    handler_seconds: float = 120.0
    idle_seconds: float = 30.0
    handshakes: int = 48
    handshakes_per_source: int = 32  # a whole test network lives on one address
    connections: int = 64
    connections_per_peer: int = 6
    requests: int = 24
    requests_per_peer: int = 6
    rate_per_second: float = 100.0  # a block fetch moves 1 MiB per request
    burst: int = 200
    body_budget: int = 8 * 1024 * 1024  # bytes of request bodies held at one time
    # Of all PENDING peers together, and of each: to register as one takes no Deposit.
    pending_connections: int = 8
    pending_requests: int = 6
    pending_each: int = 2
    pending_body: int = 1024  # what they may ask is short


class OverLimit(Exception):
    """The caller holds all that it may hold."""


class Slots:
    """At most ``each`` per key and ``total`` over all keys."""

    def __init__(self, total: int, each: int) -> None:
        self._total = total
        self._each = each
        self._held: Counter[object] = Counter()

    def __len__(self) -> int:
        return self._held.total()

    def take(self, key: object) -> None:
        """Hold one slot. Raises OverLimit."""
        if len(self) >= self._total or self._held[key] >= self._each:
            raise OverLimit
        self._held[key] += 1

    def give(self, key: object) -> None:
        """Return one slot."""
        self._held[key] -= 1
        if self._held[key] <= 0:
            del self._held[key]

    @contextmanager
    def hold(self, key: object) -> Iterator[None]:
        """Hold one slot for the length of a block. Raises OverLimit."""
        self.take(key)
        try:
            yield
        finally:
            self.give(key)


class RateLimiter:
    """A token bucket per key; ``clock`` gives seconds that never go back."""

    MAX_KEYS = 4096  # the longest idle key is forgotten first: it had a full bucket anyway

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._buckets: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def spend(self, key: bytes) -> None:
        """Spend one token of ``key``. Raises OverLimit when none is left."""
        now = self._clock()
        tokens, then = self._buckets.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        if tokens < 1.0:
            self._buckets[key] = (tokens, now)
            raise OverLimit
        self._buckets[key] = (tokens - 1.0, now)
        if len(self._buckets) > self.MAX_KEYS:
            self._buckets.popitem(last=False)


class ByteBudget:
    """Bytes that all requests together may hold; who finds it spent waits its turn."""

    def __init__(self, total: int) -> None:
        self._left = total
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def reserve(self, amount: int) -> AsyncIterator[None]:
        """Hold ``amount`` bytes for the length of a block."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._left >= amount)
            self._left -= amount
        try:
            yield
        finally:
            async with self._changed:
                self._left += amount
                self._changed.notify_all()
