"""A Task from posting to its BEFORE record through orders, views and events of this adapter.

The contracts are the judge of every digest: they recompute what was signed and revert otherwise.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account

from agent.formats.hashes import keccak256
from agent.formats.taskspec import commit
from nodeclient.chain import market, registration, registry
from nodeclient.chain.errors import OrderReverted
from nodeclient.chain.journal import SqliteJournal
from nodeclient.chain.reader import Reader
from nodeclient.chain.watcher import Watcher, WatchSettings
from nodeclient.core import vrf_witness
from nodeclient.core.case import Case, fold
from nodeclient.core.digests import contact_digest, header_digest
from nodeclient.core.events import BlockSeen, ContactPublished, NodeRegistered, TaskEvent
from nodeclient.core.sortition import task_alpha
from nodeclient.core.types import (
    Ballot,
    Commitment,
    NodeStatus,
    Phase,
    RootClass,
    Statement,
    Task,
    TaskState,
    Verdict,
    quorum_of,
)
from nodeclient.ports import Order
from tests.chain.anvil_node import KEYS
from tests.chain.conftest import World
from tests.chain.people import UNIT, Person, member, newcomer, registration_file

pytestmark = pytest.mark.chain

NUMBER = 42
REQUESTER = Account.from_key(KEYS[1]).address
COMMITMENT = Commitment(commit(NUMBER.to_bytes(32, "big"), bytes.fromhex(REQUESTER[2:]), NUMBER))


async def view_of(world: World) -> Case:
    """What the events say of the task, folded by the rules."""
    case = Case(commitment=COMMITMENT)
    watcher = Watcher(world.rpc, world.deployment, WatchSettings(poll_seconds=0.05))
    async with asyncio.timeout(180):
        async for item in watcher.events(0):
            if isinstance(item, TaskEvent):
                case = fold(case, item)
            if isinstance(item, BlockSeen):
                return case
    raise AssertionError("the watcher ended")


async def task_of(world: World) -> Task:
    return (await view_of(world)).on_chain()


async def drawn(world: World, folder: Path) -> tuple[dict[bytes, Person], Task]:
    """Five Nodes, one posted task, claimed and drawn."""
    people = [await member(world, folder / str(n)) for n in range(5)]
    requester = world.sender(SqliteJournal(":memory:"))
    await requester.execute(replace(world.post(NUMBER), key="post"))
    reader = Reader(world.rpc, world.deployment)
    parameters = await reader.parameters()
    task = await task_of(world)
    world.node.mine(parameters.entropy_delay)
    header, prevrandao = await reader.block_header(parameters.entropy_block(task))
    leader = people[0]
    alpha = task_alpha(
        world.deployment.chain_id, parameters.market, task.id, leader.address, prevrandao
    )
    proof = vrf_witness.prove(leader.keys.vrf, alpha)
    await leader.sender.execute(market.claim("claim", task, header, proof))
    task = await task_of(world)
    assert task.executor == leader.address
    world.node.mine(parameters.draw_entropy_block(task) - world.node.height() + 1)
    header, _ = await reader.block_header(parameters.draw_entropy_block(task))
    await requester.execute(market.draw("draw", task, header))
    return {person.address: person for person in people}, await task_of(world)


def statement_of(world: World, executor: Person, task: Task) -> Statement:
    """A root-signed header for BEFORE."""
    evidence_root = keccak256(b"evidence")[:31] + b"\0"
    unsigned = Statement(1, keccak256(b"nonces"), evidence_root, keccak256(b"session"), 0, 0)
    digest = digest_of(world, task, unsigned)
    made = executor.root.sign(digest)
    return replace(unsigned, r=int.from_bytes(made[:32], "big"), s=int.from_bytes(made[32:], "big"))


def digest_of(world: World, task: Task, statement: Statement) -> bytes:
    return header_digest(
        world.deployment.chain_id,
        world.deployment["AttestationLedger"].address,
        task.id,
        task.commitment,
        task.executor,
        Phase.BEFORE,
        statement,
    )


async def test_path__posted_to_admitted__every_digest_is_the_contracts(
    world: World, tmp_path: Path
) -> None:
    people, task = await drawn(world, tmp_path)
    reader = Reader(world.rpc, world.deployment)
    assert await reader.task_state(task.id) == TaskState.DRAWN
    executor = people[task.executor]
    await executor.sender.execute(market.accept("accept", task))
    case = await view_of(world)
    task = case.on_chain()
    assert await reader.record(task.id, Phase.BEFORE) is None

    statement = statement_of(world, executor, task)
    header = digest_of(world, task, statement)
    voters = range(quorum_of(3))
    votes = [
        people[case.members[seat]].vote(world, task.id, Phase.BEFORE, header, Verdict.AFFIRMING)
        for seat in voters
    ]
    ballot = Ballot(
        votes[0].valid_until,
        sum(1 << seat for seat in voters),
        tuple((vote.r, vote.vs) for vote in votes),
    )
    order = market.record("admit", task, case.members, Phase.BEFORE, statement, ballot)
    await executor.sender.execute(order)

    assert await reader.task_state(task.id) == TaskState.ADMITTED
    record = await reader.record(task.id, Phase.BEFORE)
    assert record is not None
    assert (record.verdict, record.evidence_root, record.votes) == (
        Verdict.AFFIRMING,
        statement.evidence_root,
        2,
    )


async def test_path__statement_signed_for_another_task__refused_in_simulation(
    world: World, tmp_path: Path
) -> None:
    people, task = await drawn(world, tmp_path)
    executor = people[task.executor]
    await executor.sender.execute(market.accept("accept", task))
    case = await view_of(world)
    task = case.on_chain()
    statement = statement_of(world, executor, replace(task, commitment=Commitment(bytes(32))))
    header = digest_of(world, task, statement)
    votes = [
        people[case.members[seat]].vote(world, task.id, Phase.BEFORE, header, Verdict.AFFIRMING)
        for seat in range(2)
    ]
    ballot = Ballot(10**6, 0b11, tuple((vote.r, vote.vs) for vote in votes))
    with pytest.raises(OrderReverted, match="not signed by the node's root"):
        await executor.sender.execute(
            market.record("admit", task, case.members, Phase.BEFORE, statement, ballot)
        )


async def test_path__two_votes_of_one_member__proven_and_slashed(
    world: World, tmp_path: Path
) -> None:
    people, task = await drawn(world, tmp_path)
    case = await view_of(world)
    liar = people[case.members[0]]
    votes = [
        liar.vote(world, task.id, Phase.BEFORE, bytes(32), verdict)
        for verdict in (Verdict.AFFIRMING, Verdict.CONTRAINDICATED)
    ]
    args: list[object] = []
    for vote in votes:
        args.append(
            (vote.task, vote.phase, vote.attempt, vote.header, vote.verdict, vote.valid_until)
        )
        args.append((int.from_bytes(vote.r, "big"), int.from_bytes(vote.vs, "big")))
    order = Order("proof", "AttestationLedger", "prove_double_vote", tuple(args))
    await world.sender(SqliteJournal(":memory:")).execute(order)
    record = await Reader(world.rpc, world.deployment).node(liar.address)
    assert record is not None
    assert record.status == NodeStatus.BARRED


async def test_register__signed_by_its_root__node_record_and_events(
    world: World, tmp_path: Path
) -> None:
    person = await member(world, tmp_path, units=2)
    record = await Reader(world.rpc, world.deployment).node(person.address)
    assert record is not None
    assert record.id == 1
    assert record.status == NodeStatus.ACTIVE
    assert record.root_class == RootClass.SOFTWARE
    assert record.root_public == person.root.public_key()
    assert record.vrf_public == person.keys.vrf_public
    assert record.hardware_id == person.root.hardware_id()
    assert (record.deposit, record.tier, record.engaged) == (2 * UNIT, 1, False)
    items = []
    watcher = Watcher(world.rpc, world.deployment, WatchSettings(poll_seconds=0.05))
    async for item in watcher.events(0):
        if isinstance(item, BlockSeen):
            break
        items.append(item)
    registered = next(one for one in items if isinstance(one, NodeRegistered))
    published = next(one for one in items if isinstance(one, ContactPublished))
    assert (registered.node, registered.node_id) == (person.address, 1)
    assert keccak256(published.contact) == record.contact_digest


async def test_register__signature_of_another_account__refused(
    world: World, tmp_path: Path
) -> None:
    owner, thief = newcomer(world), newcomer(world)
    found = registration.load(registration_file(world, owner, tmp_path))
    with pytest.raises(OrderReverted, match="not signed by the root key"):
        await thief.sender.execute(registry.register("register", found, UNIT, join=True))


async def test_set_contact__signed_by_the_root__published(world: World, tmp_path: Path) -> None:
    person = await member(world, tmp_path)
    contact = b"another record"
    digest = contact_digest(
        world.deployment.chain_id,
        world.deployment["NodeRegistry"].address,
        person.address,
        contact,
    )
    made = person.root.sign(digest)
    signature = int.from_bytes(made[:32], "big"), int.from_bytes(made[32:], "big")
    await person.sender.execute(registry.set_contact("contact", contact, signature))
    record = await Reader(world.rpc, world.deployment).node(person.address)
    assert record is not None
    assert record.contact_digest == keccak256(contact)
