"""What a bar by vote does to a Task: when it can be ended, who does it, and whom nobody serves.

The market lets anybody end such a Task. The requester does it at once, it wants its fees back; then
the members by seat, then the Executor, each some blocks after the one before: one call is enough,
and one that comes too late is refused in simulation, which costs nothing. Near the deadline the
Executor waits for nobody: a requester gains by an expiry, and nothing by this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodeclient.core import actions as do
from nodeclient.core.types import TaskState, quorum_of

if TYPE_CHECKING:
    from nodeclient.core.case import Case, Me

ORDERS = ("expire", "fail_barred")  # what ends a Task that cannot go on
PAUSE = 5  # blocks until one that was refused is tried again
RESERVE = 20  # blocks before the deadline in which an Executor waits for nobody


def executor_barred(case: Case) -> bool:
    """Whether a vote barred the leader or Executor."""
    return case.task is not None and case.task.executor in case.barred


def is_doomed(case: Case) -> bool:
    """Whether ``TaskMarket.fail_barred`` ends the Task: its Executor is barred, or one member
    before the BEFORE record, or after it so many that no quorum is left."""
    if case.task is None or case.over:
        return False
    if executor_barred(case):
        return True
    if not case.members:
        return False
    able = sum(member not in case.barred for member in case.members)
    size = case.task.committee_size
    return able < (quorum_of(size) if case.state is TaskState.ADMITTED else size)


def is_due(case: Case, me: Me, number: int, place: int) -> bool:
    """Whether it is this Node's turn in block ``number``; ``place`` many go before it."""
    patience = me.expire_grace + place if place else 0
    return is_doomed(case) and number >= case.barred_at + patience


def is_pressing(case: Case, me: Me, number: int) -> bool:
    """Whether the Executor must end the Task now: past the deadline anybody can have it expired,
    which slashes an Executor for judges that it lost."""
    if case.state is None or not is_doomed(case):
        return False
    return number > me.parameters.deadline(case.on_chain(), case.state) - RESERVE


def ending(case: Case, me: Me, number: int, place: int, tried: int) -> do.Action | None:
    """What ends the Task in block ``number``, if anything does now; ``tried``: when that was tried
    last, 0: never.

    A doomed Task is not expired, which could slash an Executor for judges that it lost; unless the
    market, which may know better, refused to end it so.
    """
    if case.state is None or case.over:
        return None
    deadline = me.parameters.deadline(case.on_chain(), case.state)
    late = number > deadline + (me.expire_grace if place else 0)
    if is_doomed(case) and not (late and tried):
        return fail_barred(case, number) if is_due(case, me, number, place) else None
    if late:
        return do.SubmitExpire(commitment=case.commitment, task=case.on_chain(), at=number)
    return None


def fail_barred(case: Case, number: int) -> do.SubmitFailBarred:
    """The order that ends the Task."""
    return do.SubmitFailBarred(
        commitment=case.commitment, task=case.on_chain(), members=case.members, at=number
    )
