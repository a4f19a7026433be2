"""Which transitions an honest Task takes, generated from the roles' transition tables.

Every row of a table falls into one class: it changes nothing (read off its handler's source), it
needs a failure (of a node, or of the chain, which is reorganised), it needs a race that an honest
run may or may not have, or it is on the path. A new row counts as on the path until it is classed.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from enum import Enum, auto
from typing import Any

from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.case import Role
from nodeclient.core.roles import broker, executor, member, receiver, requester
from nodeclient.core.roles.table import Handler, ignored
from nodeclient.core.task import TABLES

Row = tuple[Enum, type]


class Kind(Enum):
    """Class of a table row."""

    UNCHANGING = auto()
    FAILURE = auto()
    RACE = auto()
    PATH = auto()


# Told only when something went wrong: a refusal, a loss, a vote against, an end without results.
FAILURES = {
    ev.TransactionRejected,
    ev.ConsentRefused,
    ev.MachineLost,
    ev.IncidentNoticed,
    ev.IncidentHandled,
    ev.IncidentReported,
    ev.DissentSigned,
    ev.VoteReceived,  # members share only votes against
    ev.OutcomeDenied,
    ev.TaskFailed,
    ev.TaskExpired,
}
# States in which an honest chain tells something; a reorganised one may tell it again anywhere. The
# member's role begins with the draw.
HEARD: dict[tuple[Role, type], set[Enum]] = {
    (Role.EXECUTOR, ev.CommitteeDrawn): {executor.State.WATCHING, executor.State.LEADING},
    (Role.MEMBER, ev.CommitteeDrawn): set(),
    (Role.BROKER, ev.TaskAdmitted): {broker.State.POSTED},
    (Role.REQUESTER, ev.CommitteeDrawn): {requester.State.POSTED},
    # A Task settles only when its executor finished, hence after everybody's part in it is done.
    (Role.EXECUTOR, ev.TaskSettled): {executor.State.FINISHING},
    (Role.MEMBER, ev.TaskSettled): {member.State.QUESTIONING},
    (Role.BROKER, ev.TaskSettled): {broker.State.RELEASED},
    (Role.RECEIVER, ev.TaskSettled): {receiver.State.EXPECTING},
    (Role.REQUESTER, ev.TaskSettled): {requester.State.WAITING},
}
# States in which a new block means nothing but that a deadline may have passed.
WATCH_DEADLINES: set[Enum] = {
    *executor.SEATED,  # that a bar has doomed the Task
    *(broker.State.QUERYING, broker.State.SEALING),  # that its Executor is barred
    *member.State,
    requester.State.BRIEFING,
    requester.State.WAITING,
}
LATE = "only if the leader had no TaskSpec when it drew"
RACES: dict[Row, str] = {
    (executor.State.WATCHING, ev.TransactionRejected): "only if somebody claimed in between",
    (executor.State.LEADING, ev.TicketEvaluated): "a leader has evaluated its ticket before",
    (executor.State.LEADING, ev.TaskClaimed): "only if a higher ticket claimed first",
    (executor.State.WATCHING, ev.TaskVetted): "only if a reorganisation took the lead away",
    (executor.State.DRAWN, ev.BriefReceived): LATE,
    (executor.State.DRAWN, ev.TaskVetted): LATE,
    (executor.State.ACCEPTING, ev.TaskAccepted): LATE,
    (member.State.SEATED, ev.TaskAdmitted): "only if the TaskSpec never came",
    (member.State.CLOSED, ev.EvidenceAppraised): "only if the ballot was full before it had judged",
    (member.State.QUESTIONING, ev.QuestionDeclined): "only if it asked before or after the run",
    (member.State.QUESTIONING, ev.BeforeLearned): "only if the member was late for BEFORE",
    (member.State.QUESTIONING, ev.BriefReceived): "only if the member was late for BEFORE",
    (requester.State.CONSENTING, ev.TaskPosted): "only if its account posts by other means",
    (requester.State.REFUSED, ev.TaskPosted): "only if its account posts by other means",
    # A notice counts once the chain said SETTLED, and then the receiver has seen that itself.
    **{(state, ev.ResultAnnounced): "the chain told it before" for state in receiver.State},
}
# The TaskSpec reaches the leader before it draws, or the Executor after: one of each pair happens.
ONE_OF: tuple[tuple[Row, Row], ...] = (
    ((executor.State.LEADING, ev.BriefReceived), (executor.State.DRAWN, ev.BriefReceived)),
    ((executor.State.LEADING, ev.TaskVetted), (executor.State.DRAWN, ev.TaskVetted)),
)
RACES |= {early: "only if the leader had the TaskSpec before it drew" for early, _ in ONE_OF}
# Where a role begins: not in a table but in ``task.begin``.
BEGINS: dict[Role, tuple[type, ...]] = {
    Role.EXECUTOR: (ev.TaskPosted,),
    Role.MEMBER: (ev.CommitteeDrawn,),
    Role.BROKER: (ev.ConsentAsked, ev.TaskOrdered),  # of an input; of the requester's function
    Role.RECEIVER: (ev.ConsentAsked,),
    Role.REQUESTER: (ev.TaskOrdered,),
}
# The Machine is booted and proved twice; only the first boot is given the Task.
TWICE = {
    executor.State.BOOTING,
    executor.State.GATHERING,
    executor.State.PROVING,
    executor.State.POLLING,
}


# Orders that are never carried out to their end in an honest run.
UNPERFORMED: dict[type[do.Action], str] = {
    do.Reply: "no outbox row: it is lost with the daemon, and the peer asks again",
    do.AskDuring: "goes on until the task is over, and is cancelled then",
    do.LearnBefore: "only of a member that was late for BEFORE",
    do.SubmitAccept: "only if the leader had no TaskSpec when it drew",
    do.SubmitRefuse: "only after votes against",
    do.SubmitExcuse: "only of a member whose vote the AFTER record lacks",
    do.SubmitExpire: "only after a deadline",
    do.SubmitFailBarred: "only after a bar",
    do.ReportIncident: "only after an incident",
    do.RespondToIncident: "only after an incident",
    do.SignDissent: "only after a finding",
    do.ShareVote: "only of a vote against",
    do.WarnOwner: "only after a failure",
}


def performed() -> set[str]:
    """Names of all orders that an honest run carries out."""
    # By name: a dataclass with slots leaves the class that it was made from behind.
    every = {kind.__name__ for kind in do.Action.__subclasses__()}
    return every - {kind.__name__ for kind in UNPERFORMED}


def changes_nothing(handler: Handler) -> bool:
    """Whether every ``return`` of a handler gives the role back as it came."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(handler)))
    returned = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)]
    return all(
        isinstance(value, ast.Tuple)
        and isinstance(value.elts[0], ast.Name)
        and value.elts[0].id == "role"
        for value in returned
    )


def kind_of(role: Role, row: Row, handler: Handler) -> Kind:
    """The class of a row."""
    state, event = row
    if handler is ignored or changes_nothing(handler):
        return Kind.UNCHANGING
    if row in RACES:
        return Kind.RACE
    if event in FAILURES or (event is ev.BlockSeen and state in WATCH_DEADLINES):
        return Kind.FAILURE
    return Kind.PATH if state in HEARD.get((role, event), {state}) else Kind.FAILURE


def rows(role: Role, kind: Kind) -> set[tuple[Any, ...]]:
    """(role, state, event, phase) of every row of one class; phase only for the executor."""
    found: set[tuple[Any, ...]] = set()
    for row, handler in TABLES[role].items():
        if kind_of(role, row, handler) is not kind:
            continue
        for phase in phases(role, row[0]):
            found.add((role.value, row[0].name, row[1].__name__, phase))
    if kind is Kind.PATH:
        found |= {(role.value, None, event.__name__, None) for event in BEGINS[role]}
    return found


def hit_one_of_each(hit: set[tuple[Any, ...]]) -> bool:
    """Whether of every pair of rows that stand for each other one is among the given ones."""
    seen = {(state, event) for role, state, event, _ in hit if role == Role.EXECUTOR.value}
    return all(any((s.name, e.__name__) in seen for s, e in pair) for pair in ONE_OF)


def phases(role: Role, state: Enum) -> list[str | None]:
    """In which phases an honest executor passes a state."""
    if role is not Role.EXECUTOR:
        return [None]
    if state in TWICE:
        return ["BEFORE", "AFTER"]
    return ["AFTER" if state is executor.State.FINISHING else "BEFORE"]
