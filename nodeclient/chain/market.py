"""`TaskMarket`: the life of Tasks, fees and refunds."""

from __future__ import annotations

from nodeclient.chain.errors import AbiMismatch
from nodeclient.chain.view import Contract
from nodeclient.core.types import (
    Address,
    Ballot,
    DeadlineClass,
    Parameters,
    Phase,
    Statement,
    Task,
    TaskId,
    TaskState,
)
from nodeclient.core.vrf_witness import OnChainProof
from nodeclient.ports import Order


class TaskMarket(Contract):
    """Views of `TaskMarket`. Amounts in wei, spans in blocks."""

    NAME = "TaskMarket"

    async def parameters(self, chain_id: int, ledger: Address) -> Parameters:
        """The constructor's immutables, with what a Node must know beside them."""
        (_, delay, claim, draw, lookahead, fee, classes) = await self.view("parameters")
        return Parameters(
            chain_id=chain_id,
            market=self.address,
            ledger=ledger,
            entropy_delay=delay,
            claim_window=claim,
            draw_window=draw,
            lookahead=lookahead,
            posting_fee=fee,
            classes=tuple(DeadlineClass(*terms) for terms in classes),
        )

    async def state(self, task: TaskId) -> TaskState | None:
        """Where a Task stands; None when there is none of that id."""
        found = int(await self.view("state", task))
        try:
            return TaskState(found) if found else None
        except ValueError as error:
            raise AbiMismatch(
                f"TaskMarket.state: {found} is no state", "check the deployment file"
            ) from error

    async def is_spent(self, requester: Address, number: int) -> bool:
        """Whether an account has posted a Task under a number."""
        return bool(await self.view("is_spent", requester, number))

    async def owed(self, who: Address) -> int:
        """What `withdraw` would pay to an account: refunds and a Node's credit, in wei."""
        return int(await self.view("owed", who))

    async def ticket_of(self, beta: bytes, node: Address, posted_at: int) -> int:
        """The Ticket of a VRF output as the market computes it; lower wins."""
        return int(await self.view("ticket_of", beta, node, posted_at))


def post(
    key: str,
    spec_hash: bytes,
    number: int,
    *,
    committee_size: int,
    class_id: int,
    executor_fee: int,
    member_fee: int,
    posting_fee: int,
) -> Order:
    """Post a Task under a number of the sender; its value is exactly what the contract asks for."""
    value = posting_fee + executor_fee + committee_size * member_fee
    args = (spec_hash, number, committee_size, class_id, executor_fee, member_fee)
    return Order(key, TaskMarket.NAME, "post", args, value)


def claim(key: str, task: Task, header: bytes, proof: OnChainProof) -> Order:
    """Claim with an ECVRF proof and block b+D's RLP header."""
    return Order(key, TaskMarket.NAME, "claim", (task, header, *proof.as_arguments()))


def draw(key: str, task: Task, header: bytes, accept: bool = False) -> Order:
    """Draw the Committee with the RLP header of its entropy block; a leader may accept with it."""
    return Order(key, TaskMarket.NAME, "draw", (task, header, accept))


def accept(key: str, task: Task) -> Order:
    """Say as Executor that the TaskSpec is here."""
    return Order(key, TaskMarket.NAME, "accept", (task,))


def record(
    key: str,
    task: Task,
    members: tuple[Address, ...],
    phase: Phase,
    statement: Statement,
    ballot: Ballot,
) -> Order:
    """`admit` with the BEFORE record, or `finish` with the AFTER record."""
    function = {Phase.BEFORE: "admit", Phase.AFTER: "finish"}[phase]
    return Order(key, TaskMarket.NAME, function, (task, members, statement, ballot))


def refuse(
    key: str,
    task: Task,
    members: tuple[Address, ...],
    phase: Phase,
    attempt: int,
    header: bytes,
    ballot: Ballot,
) -> Order:
    """Bring a quorum of contraindicating votes."""
    args = (task, members, phase, attempt, header, ballot)
    return Order(key, TaskMarket.NAME, "refuse", args)


def expire(key: str, task: Task) -> Order:
    """End a Task whose deadline is over."""
    return Order(key, TaskMarket.NAME, "expire", (task,))


def withdraw(key: str) -> Order:
    """Take out what the market owes to the sender."""
    return Order(key, TaskMarket.NAME, "withdraw", ())
