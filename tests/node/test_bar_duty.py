"""A bar reaches the Cases that it concerns, over restarts and reorganisations, and no others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from nodeclient.chain.errors import OrderReverted
from nodeclient.chain.registry import NodeRegistry
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.case import Role
from nodeclient.core.roles import broker
from nodeclient.core.task import step
from nodeclient.core.types import Address, NodeStatus
from nodeclient.errors import ChainUnavailable
from nodeclient.ports import Order, Receipt
from nodeclient.runner import Runner
from nodeclient.store.database import Store
from nodeclient.upkeep.bars import BarBook, BarDuty
from nodeclient.upkeep.leaving import SPREAD, Leavers
from tests.core.test_roles import (
    ASKER,
    COMMITMENT,
    ME,
    OTHER,
    OWNER,
    THIRD,
    block,
    claimed,
    confirming,
    drawn,
    me,
    ordered,
    posted,
    queried,
)

FOURTH = Address(b"\x09" * 20)
MAKER, OTHER_MAKER = b"m" * 32, b"o" * 32
MEMBERS = (OTHER, THIRD, OWNER)


def where(number: int, index: int = 0) -> dict[str, Any]:
    return {"block": block(number), "log_index": index, "tx_hash": bytes(32)}


def made(node: Address, maker: bytes = MAKER, number: int = 1) -> ev.NodeAdmitted:
    return ev.NodeAdmitted(**where(number, node[0]), node=node, maker=maker)


def maker_barred(number: int, maker: bytes = MAKER) -> ev.MakerBarred:
    return ev.MakerBarred(**where(number), maker=maker)


def chip_barred(number: int, holder: Address) -> ev.HardwareBarred:
    return ev.HardwareBarred(**where(number), holder=holder)


def seen(number: int) -> ev.BlockSeen:
    return ev.BlockSeen(block(number))


# --- who is barred ------------------------------------------------------------------------------


def test_book__maker_and_chip__in_any_order_and_back() -> None:
    book = BarBook()
    facts = (made(FOURTH), maker_barred(20), made(OTHER, OTHER_MAKER), chip_barred(21, THIRD))
    for event in (*facts, *facts):
        assert book.on_event(event)
    assert book.nodes() == {FOURTH, THIRD}
    assert not book.on_event(ev.ChainReorganised(21))
    assert book.on_event(ev.ChainReorganised(20))
    assert book.nodes() == {FOURTH}
    book.on_event(made(OTHER, MAKER, number=22))
    assert book.is_barred(OTHER)
    book.on_event(ev.ChainReorganised(5))
    assert book.nodes() == frozenset()


# --- Cases --------------------------------------------------------------------------------------


@dataclass
class Node:
    """A runner whose orders are counted and never end, as a daemon puts it together."""

    store: Store
    roles: tuple[Role, ...]
    begun: list[do.Action] = field(default_factory=list)
    told: list[frozenset[Address]] = field(default_factory=list)

    def __post_init__(self) -> None:
        async def perform(action: do.Action, _emit: object) -> None:
            self.begun.append(action)
            await asyncio.Event().wait()

        def tell(event: ev.OutcomeEvent) -> None:
            self.runner.tell(event)

        duty = BarDuty(self.store, tell, lambda nodes, _block: self.told.append(nodes))
        effects = dict.fromkeys(do.Action.__subclasses__(), perform)
        who = me(ASKER, *self.roles)
        self.duty = duty
        self.runner = Runner(self.store, who, effects, duty.on_event, duty.committed)

    async def hear(self, *events: Any) -> list[str]:
        """What these bring about."""
        before = len(self.begun)
        for event in events:
            self.runner.on_chain(event)
        await asyncio.sleep(0)
        return [type(each).__name__ for each in self.begun[before:]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "node.db", bytes(32))


async def asked(store: Store) -> Node:
    """A requester whose Task FOURTH executes."""
    node = Node(store, (Role.REQUESTER,))
    asking = asyncio.create_task(
        node.runner.ask(lambda n: replace(ordered(ASKER), request=n), 10.0)
    )
    await asking
    node.runner.tell(ev.ConsentsGathered(commitment=COMMITMENT, consents=(b"c",)))
    place = replace(drawn(FOURTH, MEMBERS), log_index=3)
    await node.hear(made(FOURTH), posted(), replace(claimed(FOURTH), log_index=2), place, seen(26))
    return node


async def test_maker_barred__requester_ends_the_task_in_the_next_block(store: Store) -> None:
    node = await asked(store)
    assert node.told == [frozenset()]
    assert await node.hear(maker_barred(27), seen(27)) == []
    assert node.told == [frozenset(), {FOURTH}]
    assert await node.hear(seen(28)) == ["SubmitFailBarred"]
    assert await node.hear(seen(29), seen(40)) == []
    await node.runner.stop()


@pytest.mark.parametrize("sealing", [False, True])
async def test_maker_barred_while_an_owner_asks_or_seals__no_key_leaves(
    store: Store, sealing: bool
) -> None:
    """Blocks mean nothing else to an owner by then: its Case must be told all the same."""
    node = Node(store, (Role.BROKER,))
    case, _ = step(confirming(), seen(40), node.runner.me)
    if sealing:
        case, _ = step(case, queried(), node.runner.me)
    store.apply(case, ())
    await node.hear(made(case.on_chain().executor), maker_barred(41), seen(41), seen(42))
    sealed = ev.KeysSealed(commitment=COMMITMENT, keys=(("cid", b"k"),))
    node.runner.tell(sealed if sealing else queried())
    await asyncio.sleep(0)
    assert node.begun == []
    found = store.case(COMMITMENT)
    assert found is not None
    assert found.broker is not None
    assert found.broker.state is broker.State.REFUSED
    await node.runner.stop()


async def test_another_maker_barred__nothing_happens(store: Store) -> None:
    node = await asked(store)
    assert await node.hear(maker_barred(27, OTHER_MAKER), seen(27), seen(28)) == []
    await node.runner.stop()


async def test_killed_before_the_block_was_applied__told_by_the_history_of_the_next_life(
    store: Store,
) -> None:
    node = await asked(store)
    node.runner.on_chain(maker_barred(27))  # and no more: its block was never reached
    await node.runner.stop()
    again = Node(store, (Role.REQUESTER,))
    for event in (made(FOURTH), maker_barred(27)):
        again.duty.book.on_event(event)
    assert await again.hear(seen(30), seen(31)) == ["SubmitFailBarred"]
    await again.runner.stop()
    third = Node(store, (Role.REQUESTER,))
    third.runner.resume()  # the order outlives the kill, and is not given again
    await asyncio.sleep(0)
    assert [type(each).__name__ for each in third.begun].count("SubmitFailBarred") == 1
    await third.runner.stop()


async def test_drawn_after_the_bar__a_member_that_still_stood_in_the_draw__ends_the_task(
    store: Store,
) -> None:
    node = await asked(store)
    await node.hear(made(THIRD, OTHER_MAKER), maker_barred(27, OTHER_MAKER), seen(27))
    assert await node.hear(seen(28)) == ["SubmitFailBarred"]
    await node.runner.stop()


async def test_committee_drawn_later__case_is_told_with_that_block(store: Store) -> None:
    node = Node(store, (Role.MEMBER,))
    await node.hear(made(FOURTH), maker_barred(5), seen(6), posted(), claimed(FOURTH))
    seated = (ASKER, THIRD, OWNER)
    await node.hear(replace(drawn(FOURTH, seated), log_index=3), seen(26))
    case = store.case(COMMITMENT)
    assert case is not None
    assert (case.barred, case.barred_at) == ((FOURTH,), 26)
    assert await node.hear(seen(29)) == []
    assert await node.hear(seen(30)) == ["SubmitFailBarred"]
    await node.runner.stop()


async def test_reorganised__bar_is_gone__case_forgets_it(store: Store) -> None:
    node = await asked(store)
    await node.hear(chip_barred(27, OTHER), seen(27))
    assert await node.hear(ev.ChainReorganised(26), seen(27), seen(28)) == []
    case = store.case(COMMITMENT)
    assert case is not None
    assert case.barred == ()
    assert node.told[-1] == frozenset()
    await node.runner.stop()


# --- the draw -----------------------------------------------------------------------------------


@dataclass
class Registry:
    """Status and place of some Nodes; ``frozen``: the draw stands still."""

    status: dict[Address, NodeStatus]
    places: set[Address]
    frozen: bool = False
    away: bool = False
    synced: list[Address] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    any_synced: asyncio.Event = field(default_factory=asyncio.Event)

    async def node(self, address: Address) -> Any:
        if self.away:
            raise ChainUnavailable("no answer", "wait")
        status = self.status.get(address)
        return None if status is None else cast(Any, type("Record", (), {"status": status}))

    async def is_drawable(self, address: Address) -> bool:
        return address in self.places

    async def execute(self, order: Order) -> Receipt:
        (node,) = cast(tuple[Address], order.args)
        self.keys.append(order.key)
        if self.frozen:
            raise OrderReverted("NodeRegistry.sync", "registry: draw task 1 first")
        self.status[node] = NodeStatus.BARRED
        self.places.discard(node)
        self.synced.append(node)
        self.any_synced.set()
        return Receipt(order.key, bytes(32), 1, 1)

    def forget(self) -> None: ...


def leavers(registry: Registry, head: list[int], others: int = 3) -> Leavers:
    return Leavers(ME, cast(NodeRegistry, registry), registry, lambda: head[0], lambda: others)


async def test_leavers__itself_at_once__others_within_the_spread__done_ones_never() -> None:
    nodes = [Address(bytes([n]) * 20) for n in range(20, 30)]
    registry = Registry(
        {**dict.fromkeys([ME, *nodes], NodeStatus.ACTIVE), nodes[0]: NodeStatus.BARRED},
        {ME, *nodes[1:]},
    )
    head = [100]
    made_ = leavers(registry, head)
    made_.take(frozenset({*nodes, ME, OWNER}), 100)  # OWNER is no Node: nobody held that chip
    await made_.step()
    assert registry.synced == [ME]
    head[0] += SPREAD
    await made_.step()
    assert set(registry.synced) == {ME, *nodes[1:]}
    made_.take(frozenset({*nodes, ME, OWNER}), 120)
    head[0] += SPREAD
    await made_.step()
    assert len(registry.synced) == 10


async def test_leavers__draw_stands_still_or_chain_is_away__tried_again() -> None:
    registry = Registry({ME: NodeStatus.BARRED}, {ME}, frozen=True)
    head = [100]
    made_ = leavers(registry, head)
    made_.take(frozenset({ME}), 100)
    await made_.step()
    await made_.step()
    assert len(registry.keys) == 1  # not in every block
    head[0] += SPREAD
    registry.away = True
    await made_.step()
    registry.away = registry.frozen = False
    head[0] += SPREAD
    await made_.step()
    assert registry.synced == [ME]
    assert len(set(registry.keys)) == 1  # nothing was mined: the same order


async def test_leavers__many_nodes__about_one_of_them_looks_in_a_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Among thousands a sixteenth of all would pay for the same call."""
    monkeypatch.setattr("nodeclient.upkeep.leaving.random.randint", lambda _low, high: high)
    registry = Registry({OTHER: NodeStatus.BARRED}, {OTHER}, frozen=True)
    head = [100]
    made_ = leavers(registry, head, others=1000)
    made_.take(frozenset({OTHER}), 100)
    for block_, tries in ((1099, 0), (1100, 1), (2099, 1), (2100, 2)):
        head[0] = block_
        await made_.step()
        assert len(registry.keys) == tries


async def test_leavers__run__ends_what_is_due_and_waits_for_news() -> None:
    registry = Registry({ME: NodeStatus.ACTIVE}, {ME})
    made_ = leavers(registry, [100])
    running = asyncio.create_task(made_.run(0.001))
    await asyncio.sleep(0.01)
    made_.take(frozenset({ME}), 100)
    await asyncio.wait_for(registry.any_synced.wait(), 60)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_leavers__bar_undone_before_its_turn__nothing_is_sent() -> None:
    registry = Registry({OTHER: NodeStatus.ACTIVE}, {OTHER})
    head = [100]
    made_ = leavers(registry, head)
    made_.take(frozenset({OTHER}), 100)
    made_.take(frozenset(), 100)
    head[0] += SPREAD
    await made_.step()
    assert registry.synced == []


async def test_leavers__paused_node_of_a_barred_maker__synced_for_its_deposit() -> None:
    """It has no place to lose, but cannot withdraw before it is BARRED."""
    registry = Registry({ME: NodeStatus.PAUSED}, set())
    made_ = leavers(registry, [100])
    made_.take(frozenset({ME}), 100)
    await made_.step()
    assert registry.synced == [ME]
