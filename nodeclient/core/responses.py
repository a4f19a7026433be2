"""What a Pi does about an incident on its own Machine: its operator's table, read by pure code.

For each kind the table says from which occurrence within one Task on which responses are due. The
row with the largest number that was reached counts; below the first row nothing is done. What is
not written there is decided towards stopping: a Machine that cannot be started again is switched
off, and one that is banned is not started again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from nodeclient.core.incidents import Kind


class Response(StrEnum):
    """What may be done. In the order in which it is done."""

    REPORT = "report"  # to the Committee
    BAN = "ban"  # the Machine is not booted again before its operator says so
    STOP = "stop"  # the Agent ends the container and erases
    REBOOT = "reboot"  # a fresh boot takes up the Task again, where no key was released
    POWER_OFF = "power-off"


Rows = tuple[tuple[int, tuple[Response, ...]], ...]
Table = Mapping[Kind, Rows]

_REPORT, _BAN, _STOP, _REBOOT, _OFF = Response
DEFAULTS: Table = {
    # Firmware and switches send a frame by mistake; who sends three means it.
    Kind.STRAY: ((1, (_REPORT,)), (3, (_REPORT, _BAN, _STOP, _OFF))),
    # The function may have asked for what its TaskSpec does not define, and whoever owns a name may
    # point it anywhere: nothing was let through, and to give the Task up would let a requester burn
    # the Deposit of any Executor with a function that dials.
    Kind.PROXY: ((1, (_REPORT,)),),
    Kind.HARDWARE: ((1, (_REPORT, _STOP, _OFF)),),
    Kind.SILENCE: ((1, (_REPORT, _REBOOT)),),
    Kind.APPRAISAL: ((1, (_REPORT, _BAN, _OFF)),),
    Kind.SERVICE: (),  # it says nothing of the Machine, and is over when it is told
    Kind.ROOT: (),  # without its root a Node takes no part in rules any more: it stops (rootguard)
}
ENDING = frozenset({Response.BAN, Response.STOP, Response.POWER_OFF})


def decide(table: Table, kind: Kind, count: int, may_reboot: bool) -> tuple[Response, ...]:
    """What is due at the ``count``-th incident of a kind (from 1), in order, each once.

    ``may_reboot``: a fresh boot could take up the Task. Where none can, the power goes instead.
    """
    due: set[Response] = set()
    for start, responses in sorted(table.get(kind, ())):
        if count >= start:
            due = set(responses)
    if Response.REBOOT in due and (due & ENDING or not may_reboot):
        due = due - {Response.REBOOT} | {Response.POWER_OFF}
    return tuple(response for response in Response if response in due)


def ends(responses: tuple[Response, ...]) -> bool:
    """Whether the Task on this Machine is given up by them."""
    return bool(ENDING.intersection(responses))


def override(table: Table, changes: Table) -> Table:
    """The table with the rows of whole kinds replaced."""
    return {**table, **changes}
