"""How often each asker may put a question to this Node's Machine.

The Agent answers one question after the other and only so many per Task. Without shares, one
member or owner could use up all answers, or keep the Agent from every other step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from nodeclient.core.types import Address, Commitment
from nodeclient.p2p.errors import PeerBusy, PeerRefused


class Quota:
    """For the one Task that the Machine runs; forgets the former Task with the next one."""

    def __init__(self) -> None:
        self._task: Commitment | None = None
        self._asked: Counter[tuple[Address, bool]] = Counter()
        self._waiting: set[Address] = set()

    @contextmanager
    def hold(self, task: Commitment, asker: Address, during: bool, share: int) -> Iterator[None]:
        """One question, while it is being answered. ``share``: how many each asker has.

        Raises PeerBusy (the last one is not answered yet), PeerRefused (all are used up).
        """
        if task != self._task:
            self._task, self._asked, self._waiting = task, Counter(), set()
        if asker in self._waiting:
            raise PeerBusy("the last question is not answered yet", "ask again later")
        if self._asked[asker, during] >= share:
            raise PeerRefused(f"{share} questions were put, and that is all", "wait for the end")
        self._asked[asker, during] += 1
        waiting = self._waiting
        waiting.add(asker)
        try:
            yield
        finally:
            waiting.discard(asker)
