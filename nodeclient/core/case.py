"""What a Node knows about one Task: the chain's view, folded from events, and its own roles in it.

A Case is created by the first fact about a commitment (an order, a consent, ``TaskPosted``), so it
is keyed by the commitment; the task id comes with ``TaskPosted``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from eth_abi.abi import encode

from agent.formats.hashes import keccak256
from nodeclient.core import responses
from nodeclient.core.events import (
    CommitteeDrawn,
    TaskAccepted,
    TaskAdmitted,
    TaskClaimed,
    TaskEvent,
    TaskExpired,
    TaskFailed,
    TaskPosted,
    TaskSettled,
)
from nodeclient.core.roles.broker import NOTHING_SEALED, Broker
from nodeclient.core.roles.broker import State as BrokerState
from nodeclient.core.roles.executor import Executor
from nodeclient.core.roles.member import Member
from nodeclient.core.roles.receiver import Receiver
from nodeclient.core.roles.requester import Requester
from nodeclient.core.roles.requester import State as RequesterState
from nodeclient.core.roles.table import UnexpectedEvent
from nodeclient.core.types import ZERO_HASH, Address, Commitment, Parameters, Task, TaskState


class Role(StrEnum):
    """What a Node can be in a Task. Configuration says which of them it takes."""

    EXECUTOR = "executor"
    MEMBER = "member"
    BROKER = "broker"
    RECEIVER = "receiver"
    REQUESTER = "requester"


@dataclass(frozen=True, slots=True)
class Me:
    """The Node itself, as far as the rules care.

    ``confirmations`` in blocks before a key is released; ``boot_limit`` attempts per phase;
    ``expire_grace`` blocks that a member leaves to the requester before it calls ``expire``;
    ``responses``: what this Node does about incidents on its own Machine.
    """

    address: Address
    roles: frozenset[Role]
    parameters: Parameters
    confirmations: int = 2
    boot_limit: int = 3
    expire_grace: int = 3
    responses: responses.Table = field(default_factory=lambda: responses.DEFAULTS)


@dataclass(frozen=True, slots=True)
class Case:
    """Everything about one commitment. Roles that the Node does not have are None.

    ``barred``: those of its Nodes that a vote barred, as was known in block ``barred_at``.
    """

    commitment: Commitment
    task: Task | None = None
    state: TaskState | None = None
    members: tuple[Address, ...] = ()
    before_root: bytes = b""
    after_root: bytes = b""
    cause: int = 0
    barred: tuple[Address, ...] = ()
    barred_at: int = 0
    executor: Executor | None = None
    member: Member | None = None
    broker: Broker | None = None
    receiver: Receiver | None = None
    requester: Requester | None = None

    def on_chain(self) -> Task:
        """The Task; raises when it is not posted yet (a defect of a table)."""
        if self.task is None:
            raise ValueError("the task is not on chain yet")
        return self.task

    @property
    def over(self) -> bool:
        """True when the chain has closed the Task."""
        return self.state is not None and self.state.over


def fold(case: Case, event: TaskEvent) -> Case:
    """Apply a market event to the chain's view. Pure; telling an event twice changes nothing."""
    at = event.block.number
    if isinstance(event, TaskPosted):
        task = Task(
            id=event.task,
            commitment=event.commitment,
            requester=event.requester,
            posted_at=at,
            executor_fee=event.executor_fee,
            member_fee=event.member_fee,
            committee_size=event.committee_size,
            class_id=event.class_id,
            step_at=at,
        )
        return replace(case, task=task, state=TaskState.POSTED)
    task = case.on_chain()
    match event:
        case TaskClaimed():
            moved = replace(
                task, executor=event.leader, ticket=event.ticket, beta=event.beta, step_at=at
            )
            return replace(case, task=moved)
        case CommitteeDrawn():
            return replace(
                case,
                task=replace(
                    task,
                    committee=committee_hash(event.members),
                    ticket=0,
                    beta=ZERO_HASH,
                    root_x=event.root_x,
                    root_y=event.root_y,
                    step_at=at,
                ),
                members=event.members,
                state=TaskState.ACCEPTED if event.accepted else TaskState.DRAWN,
            )
        case TaskAccepted():
            return replace(case, task=replace(task, step_at=at), state=TaskState.ACCEPTED)
        case TaskAdmitted():
            return replace(
                case,
                task=replace(task, step_at=at),
                state=TaskState.ADMITTED,
                before_root=event.evidence_root,
            )
        case TaskSettled():
            return replace(case, state=TaskState.SETTLED, after_root=event.evidence_root)
        case TaskFailed():
            return replace(case, state=TaskState.FAILED, cause=event.cause)
        case TaskExpired():
            return replace(case, state=TaskState.EXPIRED)
        case _:
            raise UnexpectedEvent(case.state, event)


def unposted(case: Case) -> Case:
    """What is left of a Case whose posting a reorganisation took off the chain.

    Executor and member begin with facts of the chain, so they end with them; a consent or an order
    waits for the posting again. A broker whose keys left stays where it is: there is no second key.
    """
    broker, requester = case.broker, case.requester
    if broker is not None and broker.state in NOTHING_SEALED:
        broker = replace(broker, state=BrokerState.CONSENTED)
    if requester is not None:
        requester = replace(requester, state=RequesterState.POSTING)
    return Case(case.commitment, broker=broker, requester=requester, receiver=case.receiver)


def committee_hash(members: tuple[Address, ...]) -> bytes:
    """keccak256 of the ABI encoding of ``address[]``, as ``TaskMarket`` keeps the Committee."""
    return keccak256(encode(["address[]"], [list(members)]))
