"""The drill: a maker is barred by votes while a task runs on its hardware, and nobody lifts a hand.

Real contracts and transactions; rules, store, watcher and sender as in a daemon. The Machine and
the network between nodes are left out: requests between nodes go through their bytes. The Zymkeys
are software keys that answer in their format.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec

from agent.formats.taskspec import TaskSpec, commitment_of
from nodeclient.chain import admission, market, registry
from nodeclient.chain.journal import SqliteJournal
from nodeclient.chain.sender import Sender
from nodeclient.chain.watcher import Watcher, WatchSettings
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core import vrf_witness
from nodeclient.core.admission import MAKER_ZYMBIT, MotionKind, MotionState
from nodeclient.core.case import Case, Me, Role
from nodeclient.core.sortition import task_alpha
from nodeclient.core.types import Commitment, NodeStatus, TaskState, Verdict
from nodeclient.duties import transactions
from nodeclient.duties.motions import Motions
from nodeclient.duties.proposing import Proposer
from nodeclient.duties.services import Services
from nodeclient.p2p.errors import PeerRefused
from nodeclient.runner import Runner
from nodeclient.store.database import Store
from nodeclient.upkeep.bars import BarDuty
from nodeclient.upkeep.leaving import Leavers
from tests.chain.anvil_node import KEYS
from tests.chain.conftest import FAST, World
from tests.chain.people import UNIT, Person, member
from tests.chain.test_admission import CardRoot, Town
from tests.core.test_roles import SPEC as SOME_SPEC

pytestmark = pytest.mark.chain  # starts anvil
BARRED_CAUSE = 11
FEES = (10, 5, 3)  # executor, member, how many members


def card() -> CardRoot:
    return CardRoot(ec.generate_private_key(ec.SECP256R1()))


@dataclass
class Household:
    """One account's daemon, as far as bars concern it."""

    town: Town
    me: Me
    sender: Sender
    store: Store
    cases: asyncio.Queue[Case] = field(default_factory=asyncio.Queue)
    workers: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Follow the chain from the beginning."""
        town, reader = self.town, self.town.reader

        async def idle(_action: do.Action, _emit: object) -> None:
            await asyncio.Event().wait()

        async def agreed(action: do.GatherConsents, _emit: object) -> ev.ConsentsGathered:
            return ev.ConsentsGathered(commitment=action.commitment, consents=())

        services = SimpleNamespace(
            me=self.me, sender=self.sender, chain=reader, note=lambda *_args: None
        )
        effects: dict[Any, Any] = dict.fromkeys(do.Action.__subclasses__(), idle)
        effects |= transactions.effects(cast(Services, services))
        effects[do.GatherConsents] = agreed
        leavers = Leavers(
            self.me.address, reader.registry, self.sender, lambda: self.runner.head, lambda: 6
        )
        bars = BarDuty(self.store, lambda event: self.runner.tell(event), leavers.take)

        def committed(before: Case | None, after: Case, event: ev.Event) -> None:
            bars.committed(before, after, event)
            self.cases.put_nowait(after)

        self.runner = Runner(self.store, self.me, effects, bars.on_event, committed)
        watcher = Watcher(town.world.rpc, town.world.deployment, WatchSettings(poll_seconds=0.05))
        start = asyncio.get_running_loop().create_task
        self.workers = [start(self.runner.follow(watcher, 0)), start(leavers.run(0.05))]

    async def reach(self, state: TaskState) -> Case:
        """Wait for the chain to show it."""
        async with asyncio.timeout(240):
            while (case := await self.cases.get()).state is not state:
                pass
        return case

    async def stop(self) -> None:
        """As a kill would, but that nothing runs on."""
        for worker in self.workers:
            worker.cancel()
        await asyncio.gather(*self.workers, return_exceptions=True)
        await self.runner.stop()


@dataclass
class Drill:
    """Four software nodes, two of the maker that will be barred, and a requester."""

    town: Town
    cards: list[Person]
    requester: Household
    neighbour: Household
    spec: bytes

    async def post(self) -> Case:
        """The requester's daemon posts; the first card leads, draws and accepts."""
        who, node, reader = self.requester, self.town.world.node, self.town.reader
        await who.runner.ask(
            lambda number: ev.TaskOrdered(
                sender=who.me.address,
                request=number,
                commitment=Commitment(commitment_of(self.spec)),
                spec=self.spec,
                committee_size=FEES[2],
                class_id=0,
                executor_fee=FEES[0],
                member_fee=FEES[1],
            ),
            30.0,
        )
        task = (await who.reach(TaskState.POSTED)).on_chain()
        terms, leader = who.me.parameters, self.cards[0]
        node.mine(terms.entropy_delay)
        header, prevrandao = await reader.block_header(terms.entropy_block(task))
        alpha = task_alpha(terms.chain_id, terms.market, task.id, leader.address, prevrandao)
        proof = vrf_witness.prove(leader.keys.vrf, alpha)
        await leader.sender.execute(market.claim("claim", task, header, proof))
        case = await who.reach(TaskState.POSTED)
        while case.on_chain().executor != leader.address:
            case = await who.reach(TaskState.POSTED)
        node.mine(terms.draw_entropy_block(task) - node.height() + 1)
        header, _ = await reader.block_header(terms.draw_entropy_block(task))
        order = market.draw("draw", case.on_chain(), header, accept=True)
        await leader.sender.execute(order)
        return await who.reach(TaskState.ACCEPTED)

    async def decided(self, proposer: Proposer, steps: int = 8) -> None:
        """Let the proposer's daemon work, and time pass."""
        for _ in range(steps):
            if not await proposer.step():
                break
            self.town.world.node.mine(3)


def proposer_of(town: Town, person: Person) -> Proposer:
    """What a daemon of this node moves."""
    admitter = town.admitters[person.address]
    motions = Motions(
        admitter, chain=town.reader, sender=person.sender, ask=town.ask_as(person.address)
    )
    return Proposer(admitter, motions, town.reader, 0.01)


@pytest_asyncio.fixture
async def town(world: World, tmp_path: Path) -> AsyncIterator[Town]:
    makers = tmp_path / "makers"
    makers.mkdir()
    people = [await member(world, tmp_path / f"member {i}") for i in range(4)]
    made = Town(world, makers, people, {}, [])
    for person in people:
        made.admitter(person)
    yield made


@pytest_asyncio.fixture
async def drill(town: Town, tmp_path: Path) -> AsyncIterator[Drill]:
    world = town.world
    deployer = world.sender(SqliteJournal(":memory:"), 0)
    cards = []
    for name in ("first card", "second card"):
        person = await town.newcomer(card(), tmp_path / name)
        town.admitter(person)
        await deployer.execute(admission.admit_bootstrap(name, person.address, MAKER_ZYMBIT))
        cards.append(person)
    parameters = await town.reader.parameters()

    def household(name: str, sender: Sender | None, *roles: Role) -> Household:
        store = Store(tmp_path / f"{name}.db", bytes(32))
        sender = sender or Sender(world.rpc, world.deployment, store, KEYS[1], FAST)
        return Household(town, Me(sender.address, frozenset(roles), parameters), sender, store)

    requester = household("requester", None, Role.REQUESTER)
    neighbour = household("neighbour", town.members[0].sender, Role.MEMBER)
    spec = replace(TaskSpec.decode(SOME_SPEC), requester=requester.me.address, inputs=()).encode()
    for each in (requester, neighbour):
        each.start()
    yield Drill(town, cards, requester, neighbour, spec)
    for each in (requester, neighbour):
        await each.stop()
        each.store.close()


async def test_drill__maker_barred_by_votes__task_refunded_nodes_out_nobody_loses(
    drill: Drill,
) -> None:
    town, world = drill.town, drill.town.world
    reader, node = town.reader, town.world.node
    everybody = [*town.members, *drill.cards]
    reputation = [await reader.reputation(one.address) for one in everybody]
    task = (await drill.post()).on_chain()
    assert task.executor == drill.cards[0].address

    for person in town.members:
        town.decisions[person.address, MotionKind.BAR_MAKER, MAKER_ZYMBIT] = Verdict.AFFIRMING
    proposer = proposer_of(town, town.members[1])
    motion = await proposer.propose(MotionKind.BAR_MAKER, MAKER_ZYMBIT, b"\x07" * 32)
    await drill.decided(proposer)
    assert await town.ledger.state(motion.id) is MotionState.CARRIED

    # From here on nothing is done but that blocks come.
    blocks = asyncio.create_task(passing(world))
    ended = await drill.requester.reach(TaskState.FAILED)
    assert ended.cause == BARRED_CAUSE
    await asyncio.wait_for(barred_on_chain(town, drill.cards), 240)
    blocks.cancel()

    assert await reader.task_state(task.id) is TaskState.FAILED
    refund = FEES[0] + FEES[1] * FEES[2]
    assert await reader.market.owed(drill.requester.me.address) == refund
    for person, before in zip(everybody, reputation, strict=True):
        record = await reader.node(person.address)
        assert record is not None
        assert (record.deposit, record.engaged) == (UNIT, False)
        assert await reader.reputation(person.address) == before
        assert (record.status is NodeStatus.BARRED) == (person in drill.cards)
        assert await reader.registry.is_drawable(person.address) != (person in drill.cards)
    node.mine(await reader.registry.unbonding() + 1)
    for person in drill.cards:
        await person.sender.execute(registry.withdraw_deposit("out"))
        record = await reader.node(person.address)
        assert record is not None
        assert record.deposit == 0


async def passing(world: World) -> None:
    """Blocks come, slowly."""
    while True:
        world.node.mine(1)
        await asyncio.sleep(0.3)


async def barred_on_chain(town: Town, people: list[Person]) -> None:
    """Until the registry has told it of each."""
    missing = {person.address for person in people}
    watcher = Watcher(town.world.rpc, town.world.deployment, WatchSettings(poll_seconds=0.05))
    async for item in watcher.events(0):
        if isinstance(item, ev.StatusChanged) and item.status is NodeStatus.BARRED:
            missing.discard(item.node)
        if not missing:
            return


async def test_drill__requester_is_gone__a_member_ends_the_task(
    drill: Drill, tmp_path: Path
) -> None:
    town = drill.town
    case = await drill.post()
    await drill.requester.stop()
    for person in town.members:
        town.decisions[person.address, MotionKind.BAR, chip_of(drill)] = Verdict.AFFIRMING
    proposer = proposer_of(town, town.members[2])
    motion = await proposer.propose(MotionKind.BAR, chip_of(drill), bytes(32))
    assert motion == await proposer.propose(MotionKind.BAR, chip_of(drill), bytes(32))  # one fee
    await drill.decided(proposer)
    assert await town.ledger.state(motion.id) is MotionState.CARRIED

    seated = next(one for one in town.members if one.address in case.members)
    store = Store(tmp_path / "seated.db", bytes(32))
    me = replace(drill.requester.me, address=seated.address, roles=frozenset({Role.MEMBER}))
    household = Household(town, me, seated.sender, store)
    household.start()  # it was off while all this happened
    blocks = asyncio.create_task(passing(town.world))
    ended = await household.reach(TaskState.FAILED)
    blocks.cancel()
    await household.stop()
    store.close()
    assert ended.cause == BARRED_CAUSE
    refund = FEES[0] + FEES[1] * FEES[2]
    assert await town.reader.market.owed(drill.requester.me.address) == refund


def chip_of(drill: Drill) -> bytes:
    """Hardware id of the Executor."""
    return drill.cards[0].root.hardware_id()


async def test_motion__operators_have_not_decided__no_vote_then_as_they_decide(
    town: Town,
) -> None:
    chip = b"\x05" * 32
    mover, judge = town.members[0], town.members[1]
    proposer = proposer_of(town, mover)
    motion = await proposer.propose(MotionKind.BAR, chip, bytes(32))
    town.world.node.mine(8)
    assert await proposer.step()  # draws
    with pytest.raises(PeerRefused, match="has not decided"):
        await town.admitters[judge.address].vote(mover.address, motion.id)
    with pytest.raises(PeerRefused, match="no open motion of yours"):
        await town.admitters[judge.address].vote(town.members[2].address, motion.id)
    for person in town.members:  # two against two decide nothing
        said = Verdict.CONTRAINDICATED if person in town.members[:2] else Verdict.AFFIRMING
        town.decisions[person.address, MotionKind.BAR, chip] = said
    assert await proposer.step()
    assert await town.ledger.state(motion.id) is MotionState.OPEN
    for person in town.members[:3]:
        town.decisions[person.address, MotionKind.BAR, chip] = Verdict.CONTRAINDICATED
    assert await proposer.step()
    assert await town.ledger.state(motion.id) is MotionState.REJECTED
    assert not await proposer.step()
    again = await proposer.propose(MotionKind.BAR, chip, bytes(32))
    assert again.id == motion.id + 1


async def test_motion__holder_of_the_chip_has_a_seat__is_not_asked(town: Town) -> None:
    """Its vote would void the ballot."""
    holder = town.members[3]
    chip = holder.root.hardware_id()
    for person in town.members[:3]:
        town.decisions[person.address, MotionKind.BAR, chip] = Verdict.AFFIRMING
    town.decisions[holder.address, MotionKind.BAR, chip] = Verdict.CONTRAINDICATED
    proposer = proposer_of(town, town.members[0])
    motion = await proposer.propose(MotionKind.BAR, chip, bytes(32))
    terms = await town.ledger.parameters()
    seats = tuple(person.address for person in town.members)
    assert await town.ledger.accused(motion, seats) == {holder.address}
    assert terms.seats(motion, seats) == seats
    for _ in range(8):
        if not await proposer.step():
            break
        town.world.node.mine(3)
    assert await town.ledger.state(motion.id) is MotionState.CARRIED
    assert ("motion_vote", holder.address) not in town.asked
