"""The one door into the rules: ``step(case, event, me) -> (case, actions)``.

An event is first folded into the chain's view, then told to every role that this Node has in the
Task, in a fixed order. Roles begin here too: Executor with ``TaskPosted``, member with
``CommitteeDrawn``, broker with a consent, requester with an order, receiver with a consent or an
announcement. Each role's own story, with its picture, stands in ``roles/``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.formats.taskspec import TaskSpec
from nodeclient.core import events as ev
from nodeclient.core.actions import Action, Reply
from nodeclient.core.case import Case, Me, Role, fold
from nodeclient.core.roles import broker, executor, member, receiver, requester
from nodeclient.core.roles.table import Table, ignored, look_up
from nodeclient.core.types import ZERO_HASH, BlockRef

TABLES: dict[Role, Table] = {
    Role.EXECUTOR: executor.TABLE,
    Role.MEMBER: member.TABLE,
    Role.BROKER: broker.TABLE,
    Role.RECEIVER: receiver.TABLE,
    Role.REQUESTER: requester.TABLE,
}
BLOCK = ev.BlockSeen(BlockRef(0, ZERO_HASH))


def step(case: Case, event: ev.Event, me: Me) -> tuple[Case, tuple[Action, ...]]:
    """Apply one event to one Case.

    Raises:
        UnexpectedEvent: no table names the pair; the caller keeps the Case as it was.
    """
    if isinstance(event, ev.TaskEvent):
        case = fold(case, event)
    if isinstance(event, ev.NodesBarred):
        case = replace(case, barred=event.nodes, barred_at=event.at)
    before = case
    case, actions = begin(case, event, me)
    for role, table in TABLES.items():
        data = getattr(before, role.value)
        if data is None:
            continue
        handler = look_up(table, data.state, event)
        if handler is None:
            continue
        changed, ordered = handler(data, event, case, me)
        case = replace(case, **{role.value: changed})
        actions += ordered
    if isinstance(event, ev.PeerEvent) and not actions:
        actions = (refuse(case, event),)
    return case, actions


def begin(case: Case, event: ev.Event, me: Me) -> tuple[Case, tuple[Action, ...]]:
    """Take up the roles that start with this event."""
    started: dict[str, Any] = {}
    actions: tuple[Action, ...] = ()
    match event:
        case ev.TaskPosted() if Role.EXECUTOR in me.roles and case.executor is None:
            started["executor"] = executor.Executor()
        case ev.CommitteeDrawn() if me.address in event.members and case.member is None:
            if Role.MEMBER in me.roles:
                started["member"] = member.Member()
        case ev.ConsentAsked() if Role.BROKER in me.roles and case.broker is None:
            consenting, actions = broker.on_consent_asked(event, case, me)
            started["broker"] = consenting
            if consenting is not None and receives(event.spec, me):
                started["receiver"] = case.receiver or receiver.Receiver()
        case ev.TaskOrdered() if Role.REQUESTER in me.roles and case.requester is None:
            ordering, actions = requester.on_ordered(event, case, me)
            started["requester"] = ordering
            cids = broker.owned_cids(TaskSpec.decode(event.spec), me.address)
            if cids and case.broker is None:
                started["broker"] = broker.Broker(spec=event.spec, cids=cids)
            if receives(event.spec, me):
                started["receiver"] = case.receiver or receiver.Receiver()
        case ev.ResultAnnounced() if Role.RECEIVER in me.roles and case.receiver is None:
            if case.task is not None and event.sender == case.task.executor:
                fresh = receiver.Receiver()
                taken, actions = receiver.on_announced(fresh, event, case, me)
                started["receiver"] = taken
    return replace(case, **started), actions


def wakes(case: Case) -> bool:
    """True when the next block can mean something to a role of this Case.

    Every posted Task makes a Case, so this bounds what a block costs by the Tasks that this Node
    still has a part in.
    """
    roles = ((table, getattr(case, role.value)) for role, table in TABLES.items())
    handlers = (look_up(table, data.state, BLOCK) for table, data in roles if data is not None)
    return any(handler not in (None, ignored) for handler in handlers)


def receives(spec: bytes, me: Me) -> bool:
    """True when this Node is one of the TaskSpec's receivers and takes the role."""
    named = any(item.node == me.address for item in TaskSpec.decode(spec).receivers)
    return named and Role.RECEIVER in me.roles


def refuse(case: Case, event: ev.PeerEvent) -> Reply:
    """The answer to a peer whose question no role of this Node may answer."""
    refusal = f"{type(event).__name__}: this node has no such role in the task"
    return Reply(commitment=case.commitment, request=event.request, refusal=refusal)
