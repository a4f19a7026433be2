"""What a member can say about when it was let ask, from nothing but its own clock.

An Executor may decline a question: no run has begun yet, or it is over. Both are honest, and both
are what a Pi would say that drops a member's questions. So a member remembers four moments of its
own clock: the last time it was declined before the first answer, its first and its last answer, and
the first time that it was declined after the last one. An honest run lies between the outer two, so
it cannot have taken longer than that; and who declined between two answers declined while it ran.

Moments are milliseconds of a clock that does not stop while a Node does (CLOCK_BOOTTIME).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from nodeclient.core.types import Address, quorum_of

DROPPED = "dropped: a question was declined between two that were answered"


@dataclass(frozen=True, slots=True)
class Watch:
    """The four moments. None: not yet."""

    floor: int | None = None
    first: int | None = None
    last: int | None = None
    ceiling: int | None = None

    def answered(self, at: int) -> tuple[Watch, tuple[str, ...]]:
        """An answer came in; and what that says about questions before it."""
        reasons = () if self.ceiling is None else (DROPPED,)
        first = at if self.first is None else self.first
        return replace(self, first=first, last=at, ceiling=None), reasons

    def declined(self, asked: int, told: int) -> Watch:
        """A question, put at ``asked``, was declined at ``told``."""
        if self.first is None:
            return replace(self, floor=asked)
        return self if self.ceiling is not None else replace(self, ceiling=told)

    @property
    def longest(self) -> int | None:
        """How many milliseconds a run can have taken at most, as far as the member was declined
        before and after it. None: nothing is known, or the clock began anew in between."""
        if self.floor is None or self.ceiling is None or self.ceiling < self.floor:
            return None
        return self.ceiling - self.floor


NOT_WATCHED = Watch()


class Heard(Enum):
    """How far the Committee has had its questions answered."""

    TOO_LITTLE = auto()
    ENOUGH = auto()
    ALL = auto()


def how_heard(
    members: Sequence[Address], answered: Sequence[Address], counted: int, least: int
) -> Heard:
    """Whether an honest Executor may end DURING. ``answered``: whom, once for each answer;
    ``counted``: answers that the Agent counts; ``least``: how many there must be.

    A member affirms only with an answer of its own, so a quorum of members must have one.
    """
    seated = {member for member in answered if member in members}
    if min(counted, len(answered)) < least or len(seated) < quorum_of(len(members)):
        return Heard.TOO_LITTLE
    return Heard.ALL if len(seated) == len(members) else Heard.ENOUGH
