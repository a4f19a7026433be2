"""A receiver: learns from the Committee which Capsule is its result, fetches and opens it.

::

    EXPECTING -> (TaskSettled) LEARNING -> FETCHING -> DONE
        \\-> (TaskFailed) CLOSED     \\-> (the run left no result) DONE, (nothing is for us) CLOSED
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.roles.table import Actions, build_table
from nodeclient.core.types import TaskState

if TYPE_CHECKING:
    from nodeclient.core.case import Case, Me


class State(StrEnum):
    """Where the receiver stands."""

    EXPECTING = "expecting"
    LEARNING = "learning"
    FETCHING = "fetching"
    DONE = "done"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Receiver:
    """Data of the role: how the run ended, what was received and where it lies."""

    state: State = State.EXPECTING
    name: str = ""
    cid: str = ""
    path: str = ""
    outcome: bytes = b""


Step = tuple[Receiver, Actions]


def on_announced(role: Receiver, event: ev.ResultAnnounced, case: Case, me: Me) -> Step:
    """Only the drawn Executor announces; what counts is the settled Task, not the word."""
    known = event.sender == case.on_chain().executor
    refusal = "" if known else "only the executor of the task announces results"
    reply = do.Reply(commitment=case.commitment, request=event.request, refusal=refusal)
    if not known or role.state is not State.EXPECTING or case.state is not TaskState.SETTLED:
        return role, (reply,)
    learning, orders = learn(role, case)
    return learning, (reply, *orders)


def on_settled(role: Receiver, event: ev.TaskSettled, case: Case, me: Me) -> Step:
    return learn(role, case)


def learn(role: Receiver, case: Case) -> Step:
    """The AFTER record is there: the result is what the Committee affirmed."""
    order = do.LearnOutcome(commitment=case.commitment, task=case.on_chain(), members=case.members)
    return replace(role, state=State.LEARNING), (order,)


def on_learned(role: Receiver, event: ev.OutcomeLearned, case: Case, me: Me) -> Step:
    """A run that ended before anything could be sealed leaves no result: say so, do not wait."""
    learned = replace(role, outcome=event.outcome, name=event.name, cid=event.cid)
    if not event.cid:
        return replace(learned, state=State.DONE), ()
    order = do.FetchResult(
        commitment=case.commitment,
        task=case.on_chain(),
        members=case.members,
        name=event.name,
        cid=event.cid,
        owner=event.owner,
    )
    return replace(learned, state=State.FETCHING), (order,)


def on_denied(role: Receiver, event: ev.OutcomeDenied, case: Case, me: Me) -> Step:
    """An Executor can announce a result to anybody; only the Committee knows for whom one is."""
    return replace(role, state=State.CLOSED), ()


def on_opened(role: Receiver, event: ev.ResultOpened, case: Case, me: Me) -> Step:
    return replace(role, state=State.DONE, path=event.path), ()


def on_failed(role: Receiver, event: ev.TaskFailed, case: Case, me: Me) -> Step:
    return replace(role, state=State.CLOSED), ()


TABLE = build_table(
    handled={
        (State.EXPECTING, ev.TaskSettled): on_settled,
        (State.LEARNING, ev.OutcomeLearned): on_learned,
        (State.LEARNING, ev.OutcomeDenied): on_denied,
        (State.FETCHING, ev.ResultOpened): on_opened,
    },
    everywhere={
        ev.ResultAnnounced: (tuple(State), on_announced),
        ev.TaskFailed: ((State.EXPECTING,), on_failed),
        ev.TaskExpired: ((State.EXPECTING,), on_failed),
    },
    ignoring={
        # What a reorganised chain tells again.
        ev.TaskSettled: tuple(s for s in State if s is not State.EXPECTING),
        ev.TaskFailed: tuple(s for s in State if s is not State.EXPECTING),
        ev.TaskExpired: tuple(s for s in State if s is not State.EXPECTING),
    },
)
