"""Gathering: only what does not answer is missing, and asking too often costs nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from nodeclient.core.health import ChainPart, GuardPart, Picture, Standing, Use
from nodeclient.core.roothealth import RootHealth
from nodeclient.core.types import NodeStatus
from nodeclient.core.verdict import Bounds, Fault
from nodeclient.errors import ChainUnavailable
from nodeclient.health import gather, service, wiring
from nodeclient.health.gather import Gatherer, RootProbe
from nodeclient.health.service import Health, Reading
from nodeclient.roots.base import RootAbsent, RootError, RootTampered
from tests.health.kit import BOOT, NOW, PICTURE, RECORD, RUNTIME, SOUND, FakeChain, sources


async def picture(chain: FakeChain, **changes: object) -> Picture:
    return await Gatherer(sources(chain, **changes), lambda: float(NOW)).gather()


async def test_gather__everything_answers__is_in_the_picture() -> None:
    found = await picture(FakeChain())
    assert found.chain is not None
    assert found.chain.registry is not None
    assert (found.chain.head, found.chain.applied) == (1_000, 1_000)
    assert found.chain.registry.status is NodeStatus.ACTIVE
    assert [(i.use, i.standing) for i in found.images] == [(Use.BOOT, Standing.APPROVED)]
    assert found.root.health == SOUND
    assert found.at == NOW


async def test_gather__image_nobody_approved__is_unknown() -> None:
    found = await picture(FakeChain(), images=lambda: ((Use.RUNTIME, RUNTIME), (Use.BOOT, BOOT)))
    assert [i.standing for i in found.images] == [Standing.UNKNOWN, Standing.APPROVED]


async def test_gather__account_never_registered__no_record() -> None:
    found = await picture(FakeChain(record=None))
    assert found.chain == ChainPart(1_000, NOW - 3, 1_000, None)


async def test_gather__chain_refuses__only_its_parts_are_missing() -> None:
    async def refuse() -> None:
        raise ChainUnavailable("no answer", "check it")

    found = await picture(FakeChain(before=refuse))
    assert found.chain is None
    assert [i.standing for i in found.images] == [None]
    assert (found.root.health, found.peers) == (SOUND, PICTURE.peers)


async def test_gather__chain_takes_its_time__guard_is_read_after_the_head() -> None:
    """Else a guard that is up to date would look as if it were behind by what was mined since."""
    seen = [GuardPart(1)]

    async def slow() -> None:
        await asyncio.sleep(0)
        seen.append(GuardPart(1_000))

    found = await picture(FakeChain(before=slow), guard=lambda: seen[-1])
    assert found.guard == GuardPart(1_000)


async def test_gather__chain_hangs__given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "CHAIN_SECONDS", 0.05)
    found = await picture(FakeChain(before=asyncio.Event().wait))
    assert found.chain is None
    assert found.root.health == SOUND


async def test_probe__root_raises__is_unusable_and_its_words_stay_inside() -> None:
    def broken() -> RootHealth:
        raise RuntimeError("the secret is 12345")

    health = await RootProbe(broken).health()
    assert (health.usable, health.tampered) == (False, False)
    assert "12345" not in health.detail


async def test_probe__root_is_gone_or_opened__its_own_word_counts() -> None:
    async def told(error: RootError) -> RootHealth:
        def ask() -> RootHealth:
            raise error

        return await RootProbe(ask).health()

    assert await told(RootAbsent("gone", "look")) == RootHealth(False, False, "gone")
    assert await told(RootTampered("open", "look")) == RootHealth(False, True, "open")


@dataclass
class HungRoot:
    """A device that does not answer before it is let go."""

    go_on: threading.Event = field(default_factory=threading.Event)
    asked: int = 0
    answered: int = 0

    def health(self) -> RootHealth:
        self.asked += 1
        self.go_on.wait(60)
        self.answered += 1
        return SOUND


@pytest.fixture
def hung() -> Iterator[HungRoot]:
    root = HungRoot()
    yield root
    root.go_on.set()


async def test_probe__root_hangs__unusable_and_asked_once_until_it_answers(hung: HungRoot) -> None:
    probe = RootProbe(hung.health, 0.02)
    for _ in range(5):
        assert not (await probe.health()).usable
    assert hung.asked == 1, "each question to a device that hangs would hold a thread"
    hung.go_on.set()
    while not (health := await probe.health()).usable:
        pass
    assert health == SOUND


def test_probe__root_hangs__the_event_loop_ends_all_the_same(hung: HungRoot) -> None:
    health = asyncio.run(RootProbe(hung.health, 0.02).health())
    assert not health.usable
    assert hung.answered == 0, "the loop waited for the device"


# ------------------------------------------------------------------------------------ the reading


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_read__many_at_once_and_soon_after__one_gathering(clock: Clock) -> None:
    chain = FakeChain()
    health = Health(Gatherer(sources(chain)), Bounds(), clock)
    await asyncio.gather(*(health.read() for _ in range(20)))
    once = chain.asked
    clock.now = service.FRESH
    await health.read()
    assert chain.asked == once, "whoever scrapes must not load the chain's endpoint"
    clock.now = service.FRESH + 0.1
    await health.read()
    assert chain.asked == 2 * once


async def test_read__new_one_takes_long__the_last_one_is_served(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PATIENCE", 0.02)
    chain, held = FakeChain(), asyncio.Event()
    health = Health(Gatherer(sources(chain)), Bounds(), clock)
    first = await health.read()
    chain.before, chain.record = held.wait, replace(RECORD, status=NodeStatus.PAUSED)
    clock.now = service.OLD
    assert await health.read() is first
    held.set()
    assert await asyncio.shield(health._gathering) is not first  # type: ignore[arg-type]
    later = await health.read()
    assert Fault.NOT_ACTIVE in {remark.code for remark in later.remarks}
    await health.stop()


async def test_read__last_one_is_old_and_the_new_one_takes_long__waited_for(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watchdog that asks once an hour would be told of the hour before."""
    monkeypatch.setattr(service, "PATIENCE", 0.0)
    chain, held = FakeChain(), asyncio.Event()
    health = Health(Gatherer(sources(chain)), Bounds(), clock)
    await health.read()
    chain.before, chain.record = held.wait, replace(RECORD, status=NodeStatus.PAUSED)
    clock.now = service.OLD + 1.0
    asked = asyncio.create_task(health.read())
    asyncio.get_running_loop().call_later(0.05, held.set)
    remarks = (await asyncio.wait_for(asked, 60)).remarks
    assert Fault.NOT_ACTIVE in {remark.code for remark in remarks}
    await health.stop()


async def test_watch__incident__next_picture_comes_soon(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "INTERVAL", 3600.0)
    monkeypatch.setattr(service, "SOON", 0.0)
    health = Health(Gatherer(sources(FakeChain())), Bounds(), clock)
    told: asyncio.Queue[Reading] = asyncio.Queue()
    watching = asyncio.create_task(health.watch(told.put_nowait))
    for _ in range(3):
        await asyncio.wait_for(told.get(), 60)
        clock.now += 1.0
        health.hurry()
    watching.cancel()


async def test_part__fails_unforeseen__begins_again_and_its_words_stay_inside(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wiring, "AGAIN_SECONDS", 0.0)
    broken, on = [True], asyncio.Event()

    def images() -> tuple[tuple[Use, bytes], ...]:
        if broken and broken.pop():
            raise ZeroDivisionError("the secret is 12345")
        return ()

    health = Health(Gatherer(sources(FakeChain(), images=images)), Bounds())
    watching = asyncio.create_task(wiring.keep_going(lambda: health.watch(lambda _: on.set())))
    await asyncio.wait_for(on.wait(), 60)
    watching.cancel()
    assert "12345" not in caplog.text
    assert "a part failed, going on" in caplog.text
