"""Misbehaving nodes: the real daemon with single effects replaced.

``python -m tests.e2e.rogues <folder>`` runs a node that is honest in every task but in those whose
executor fee names a misbehaviour (its last wei are a bit mask of ``Rogue``): everybody sees the
fee, so one network of such daemons serves many tests, beside each other and without a restart. What
a misbehaviour does stands in ``executor``, ``member``, ``requester`` and ``inbox``.
"""

from __future__ import annotations

from enum import IntFlag, auto

FEE = 10**16
"""Wei for an executor, without the bits that name a misbehaviour."""


class Rogue(IntFlag):
    """What goes wrong in a task. Seats count within its committee."""

    NOTHING = 0
    OTHER_FUNCTION = auto()
    OTHER_IMAGE = auto()
    OTHER_AGENT = auto()
    OLD_NONCE = auto()
    WITHHOLD_RESULT = auto()
    OTHER_SESSION = auto()
    HALT_LEADING = auto()
    HALT_DRAWN = auto()
    HALT_ACCEPTED = auto()
    HALT_ADMITTED = auto()
    SEAT_0_SAYS_YES = auto()
    SEAT_0_SAYS_NO = auto()
    SEAT_0_HALTS = auto()
    SEAT_1_HALTS = auto()
    NO_BRIEF = auto()
    NO_CONSENT = auto()

    @classmethod
    def of(cls, executor_fee: int) -> Rogue:
        """The misbehaviour that a fee names."""
        rest = executor_fee - FEE
        return cls(rest) if 0 <= rest < 1 << len(cls) else cls.NOTHING
