"""The hashes of recent blocks: how far back must the Node go after a reorganisation?"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable

from nodeclient.core.types import BlockRef


class Trail:
    """At most `size` blocks in ascending order, not necessarily adjacent."""

    def __init__(self, size: int, known: Iterable[BlockRef] = ()) -> None:
        """`size` is at least 1; `known` may come in any order."""
        self._size = size
        self._refs: list[BlockRef] = []
        for ref in sorted(known, key=lambda one: one.number):
            self.add(ref)

    @property
    def last(self) -> BlockRef | None:
        """The newest block."""
        return self._refs[-1] if self._refs else None

    def add(self, ref: BlockRef) -> None:
        """Remember a block at or above the newest; the oldest is forgotten."""
        if self._refs and self._refs[-1].number == ref.number:
            self._refs[-1] = ref
            return
        self._refs.append(ref)
        del self._refs[: -self._size]

    def cut(self, number: int) -> None:
        """Forget every block above `number`."""
        del self._refs[bisect_right(self._refs, number, key=lambda one: one.number) :]

    async def newest(self, stands: Callable[[BlockRef], Awaitable[bool]]) -> BlockRef | None:
        """The newest block that still stands, by bisection: a block's ancestors stand with it."""
        low, high = 0, len(self._refs)
        while low < high:
            middle = (low + high) // 2
            if await stands(self._refs[middle]):
                low = middle + 1
            else:
                high = middle
        return self._refs[low - 1] if low else None
