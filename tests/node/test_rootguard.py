"""A root that goes while the node runs: out of the draw, keys forgotten, one line, nothing half."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from nodeclient.chain.errors import ChainUnavailable, OrderReverted
from nodeclient.chain.presets import PRESETS
from nodeclient.core.incidents import Incident, Kind
from nodeclient.core.roothealth import RootHealth
from nodeclient.core.types import Address, NodeStatus
from nodeclient.errors import MachineError, Reverted, RootLost
from nodeclient.ports import Order
from nodeclient.roots.base import RootAbsent, RootBusy, RootQueued
from nodeclient.upkeep import rootguard
from nodeclient.upkeep.rootguard import Hands, RootGuard

NODE = Address(b"\x11" * 20)
SOUND = RootHealth(True, False, "sound")
GONE = RootHealth(False, False, "no TPM answers")
OPENED = RootHealth(True, True, "perimeter breached on channel 0")
FROZEN = Reverted("registry: draw task 7 first")
MINED = OrderReverted("NodeRegistry.pause", "registry: draw task 7 first", b"\x07" * 32)
PAUSED_ALREADY = Reverted("registry: node not active")


@dataclass
class World:
    """A root, a chain and a daemon that write down, in order, what is done to them."""

    healths: list[RootHealth | Exception]
    answers: list[Exception | None] = field(default_factory=lambda: [None])
    status: NodeStatus = NodeStatus.ACTIVE
    stuck: bool = False  # the machine's power switch
    did: list[str] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    failing: str = ""  # what ends in an error that nobody foresaw
    hanging: str = ""  # what does not end, also when it is cancelled
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    tried: asyncio.Event = field(default_factory=asyncio.Event)

    # the root
    def health(self) -> RootHealth:
        self.did.append("look")
        found = self.healths.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()  # a device that hangs must not hold up the node
        self._do("close")

    def _do(self, what: str) -> None:
        self.did.append(what)
        if what == self.failing:
            raise OSError(28, "no space left on device")

    # the chain
    async def node(self, _: Address) -> Any:
        return SimpleNamespace(status=self.status)

    async def execute(self, order: Order) -> None:
        self.orders.append(order)
        self.did.append("pause")
        self.tried.set()
        if (answer := self.answers.pop(0)) is not None:
            raise answer

    # the daemon
    def report(self, incident: Incident) -> None:
        self.incidents.append(incident)
        if self.failing == "report":
            raise OSError(28, "no space left on device")

    async def stop(self) -> None:
        self._do("stop")
        await self._hang("stop")

    async def power_off(self) -> None:
        self._do("off")
        await self._hang("off")
        if self.stuck:
            raise MachineError("relay failed", "try it by hand")

    async def _hang(self, what: str) -> None:
        while what == self.hanging and not self.let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.let_go.wait()

    def guard(self) -> RootGuard:
        hands = Hands(
            self.stop,
            self.power_off,
            lambda: self.did.append("forget"),
            lambda: self.did.append("forget account"),
        )
        root: Any = self
        return RootGuard(root, NODE, root, root, hands, self.report, 0.0)

    async def live(self) -> RootLost:
        with pytest.raises(RootLost) as caught:
            await asyncio.wait_for(self.guard().watch(), 30)
        return caught.value


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootguard, "RETRY_SECONDS", 0.0)


async def test_lost__for_two_looks__paused_before_the_account_is_forgotten() -> None:
    world = World([SOUND, SOUND, GONE, GONE])
    lost = await world.live()
    assert world.did == [
        *["look"] * 4, "stop", "forget", "close", "pause", "forget account",
    ]  # fmt: skip
    (order,) = world.orders
    assert (order.contract, order.function, order.args) == ("NodeRegistry", "pause", ())
    assert [(each.kind, GONE.detail in each.text) for each in world.incidents] == [
        (Kind.ROOT, True)
    ]
    assert GONE.detail in str(lost)
    assert "out of the draw" in str(lost)
    assert "\n" not in str(lost)


async def test_lost__for_one_look__is_a_hiccup() -> None:
    world = World([GONE, SOUND, RootBusy("busy", "wait"), SOUND, GONE, GONE])
    await world.live()
    assert world.did.count("look") == 6


async def test_lost__own_commands_take_the_device__is_no_sign_of_loss() -> None:
    queued = RootQueued("busy with this node's own commands", "wait")
    world = World([queued, queued, queued, GONE, queued, SOUND, GONE, queued, GONE])
    await world.live()
    assert world.did.count("look") == 9


async def test_lost__root_raises_instead_of_answering__counts_as_lost() -> None:
    world = World([RootAbsent("gone", "plug in"), RootAbsent("gone", "plug in")])
    assert "gone" in str(await world.live())


async def test_lost__look_fails_as_nobody_foresaw__counts_as_lost_and_the_node_pauses() -> None:
    world = World([OSError(24, "too many open files")] * 2)
    assert "out of the draw" in str(await world.live())


@pytest.mark.parametrize("stuck", [False, True])
async def test_tampered__at_the_first_look__machine_off_first(stuck: bool) -> None:
    world = World([OPENED], stuck=stuck)
    lost = await world.live()
    assert world.did == ["look", "stop", "off", "forget", "close", "pause", "forget account"]
    assert "tampered" in str(lost)


@pytest.mark.parametrize("refusals", [[FROZEN] * 3, [ChainUnavailable("no answer", "wait")] * 3])
async def test_pause__draw_stands_still_or_chain_is_away__is_tried_again(
    refusals: list[Exception],
) -> None:
    world = World([OPENED], answers=[*refusals, None])
    assert "out of the draw" in str(await world.live())
    assert world.did.count("pause") == 4
    assert world.did[-1] == "forget account"
    assert len({order.key for order in world.orders}) == 1  # never sent twice


@pytest.mark.parametrize("failing", ["report", "stop", "off", "close"])
async def test_end__a_step_fails__keys_are_forgotten_and_the_node_pauses(failing: str) -> None:
    world = World([OPENED], failing=failing)
    assert "out of the draw" in str(await world.live())
    assert world.did == ["look", "stop", "off", "forget", "close", "pause", "forget account"]


@pytest.mark.parametrize("hanging", ["stop", "off"])
async def test_end__a_step_never_ends__keys_are_forgotten_and_the_node_pauses(
    hanging: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rootguard, "STOP_SECONDS", 0.01)
    monkeypatch.setattr(rootguard, "POWER_SECONDS", 0.01)
    world = World([OPENED], hanging=hanging)
    assert "out of the draw" in str(await world.live())
    assert world.did == ["look", "stop", "off", "forget", "close", "pause", "forget account"]
    world.let_go.set()


async def test_pause__order_cannot_be_journalled__is_tried_again() -> None:
    full = sqlite3.OperationalError("database or disk is full")
    world = World([OPENED], answers=[full, full, None])
    assert "out of the draw" in str(await world.live())
    assert world.did.count("pause") == 3


async def test_end__chain_cannot_be_followed_any_more__the_node_pauses_all_the_same() -> None:
    world = World([OPENED], answers=[*[FROZEN] * 50, None])

    async def follow() -> None:
        await world.tried.wait()
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(RootLost, match="out of the draw"):
        await asyncio.wait_for(world.guard().beside(asyncio.create_task(follow())), 30)
    assert world.did.count("pause") == 51


async def test_beside__following_fails_with_a_sound_root__is_what_ends_the_node() -> None:
    world = World([SOUND] * 1000)

    async def follow() -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(sqlite3.OperationalError):
        await asyncio.wait_for(world.guard().beside(asyncio.create_task(follow())), 30)
    assert world.orders == []


async def test_beside__cancelled__ends_both() -> None:
    world = World([SOUND] * 10**4)
    follow = asyncio.create_task(asyncio.Event().wait())
    both: Any = follow
    beside = asyncio.create_task(world.guard().beside(both))
    await asyncio.sleep(0.05)
    beside.cancel()
    with pytest.raises(asyncio.CancelledError):
        await beside
    assert follow.cancelled()
    assert world.did[-1] == "look"


@pytest.mark.parametrize("broken", [False, True])
async def test_start__opened_meanwhile__ends_also_where_nobody_can_be_told(broken: bool) -> None:
    world = World([])
    told: list[list[str]] = []

    @contextlib.asynccontextmanager
    async def telling() -> AsyncIterator[None]:
        if broken:
            raise OSError(98, "address already in use")
        try:
            yield
        finally:
            told.append(list(world.did))

    with pytest.raises(RootLost, match="out of the draw"):
        await world.guard().end_at_start(OPENED, telling())
    assert world.did == ["stop", "off", "forget", "close", "pause", "forget account"]
    assert told == ([] if broken else [world.did])


async def test_pause__mined_and_refused__is_another_order() -> None:
    """The journal answers for an order that was mined, again and again, as it was mined."""
    world = World([OPENED], answers=[MINED, FROZEN, MINED, None])
    assert "out of the draw" in str(await world.live())
    first, second, third, fourth = (order.key for order in world.orders)
    assert second == third
    assert len({first, second, fourth}) == 3


async def test_pause__never_taken__account_is_forgotten_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rootguard, "PAUSE_SECONDS", 0.0)
    world = World([OPENED], answers=[FROZEN] * 1000)
    lost = await world.live()
    assert "could not leave the draw" in str(lost)
    assert world.did[-1] == "forget account"


@pytest.mark.parametrize("status", [NodeStatus.PAUSED, NodeStatus.PENDING, NodeStatus.EXITING])
async def test_pause__node_that_is_not_in_the_draw__nothing_is_sent(status: NodeStatus) -> None:
    world = World([OPENED], status=status)
    assert "out of the draw" in str(await world.live())
    assert world.orders == []


async def test_pause__refused_as_it_was_paused_meanwhile__is_done() -> None:
    world = World([OPENED], answers=[PAUSED_ALREADY])
    assert "out of the draw" in str(await world.live())


async def test_end__cancelled_while_it_pauses__account_is_forgotten_all_the_same() -> None:
    world = World([OPENED], answers=[FROZEN] * 10**6)
    watching = asyncio.create_task(world.guard().watch())
    await asyncio.wait_for(world.tried.wait(), 30)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert world.did[-1] == "forget account"


def test_pause__is_tried_for_longer_than_a_draw_can_stand_still() -> None:
    mainnet = PRESETS["mainnet"]
    window = max(mainnet.draw_window, mainnet.admission_draw_window)
    assert 12 * (mainnet.lookahead + window) < rootguard.PAUSE_SECONDS
