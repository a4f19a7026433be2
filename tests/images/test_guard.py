"""Services that the chain does not approve are stopped: each way in, and what stops none."""

from __future__ import annotations

import asyncio
import errno
import threading
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
from docker.errors import APIError

from nodeclient.core import events as ev
from nodeclient.core.images import ImageKind, ImageRecord
from nodeclient.core.types import Address, BlockRef
from nodeclient.errors import ChainUnavailable
from nodeclient.images.errors import EngineError
from nodeclient.images.guard import Guard
from nodeclient.images.picture import Picture
from nodeclient.images.services import RunningService, ServiceEngine

NOW = 1_800_000_000
GOOD = ImageRecord(ImageKind.SERVICE, bytes(20), NOW - 10, NOW + 100, NOW - 5, revoked=False)
A, B = b"\xaa" * 32, b"\xbb" * 32


@dataclass
class Engine:
    """Containers that run until they are stopped."""

    services: list[RunningService]
    fails: bool = False

    def running(self) -> tuple[RunningService, ...]:
        if self.fails:
            raise EngineError("no engine; start it")
        return tuple(self.services)

    def stop(self, container: str) -> None:
        self.services = [each for each in self.services if each.container != container]


@dataclass
class World:
    """A guard between an engine and a chain."""

    records: dict[bytes, ImageRecord] = field(default_factory=lambda: {A: GOOD, B: GOOD})
    down: bool = False
    asked: list[bytes] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    height: int = 1

    def __post_init__(self) -> None:
        self.engine = Engine([RunningService("a", "c1", A), RunningService("b", "c2", B)])
        self.guard = Guard(
            self.engine, self.look, lambda s, why: self.stopped.append(f"{s.name}: {why}"),
            self.pictures.append,
        )  # fmt: skip

    async def look(self, image: bytes) -> ImageRecord | None:
        self.asked.append(image)
        if self.down:
            raise ChainUnavailable("no answer", "ask again")
        return self.records.get(image)

    def block(self, now: int = NOW) -> None:
        self.height += 1
        self.guard.on_event(ev.BlockSeen(BlockRef(self.height, bytes(32), now)))

    def event(self, kind: type[ev.ChainEvent], **fields: object) -> None:
        where = {"block": BlockRef(self.height, bytes(32), 0), "log_index": 0, "tx_hash": bytes(32)}
        self.guard.on_event(kind(**where, **fields))  # type: ignore[arg-type]

    @property
    def left(self) -> list[str]:
        return [each.name for each in self.engine.services]


@pytest.fixture
async def world() -> World:
    return World()


async def test_sweep__all_approved__runs_on_and_is_in_the_picture(world: World) -> None:
    world.block()
    await world.guard.sweep()
    assert world.left == ["a", "b"]
    assert world.pictures == [Picture(2, (("a", A), ("b", B)))]


async def test_sweep__revoked_event__stops_that_one_without_asking_the_chain(
    world: World,
) -> None:
    """The endpoint may lag behind the one that told the event: its answer would be yes."""
    world.block()
    await world.guard.sweep()
    world.asked.clear()
    world.event(ev.ImageRevoked, image=A)
    await world.guard.sweep()
    assert world.left == ["b"]
    assert world.stopped == ["a: it was revoked"]
    assert world.asked == []


async def test_sweep__revoked_before_its_container_came__stopped_though_the_endpoint_lags(
    world: World,
) -> None:
    world.event(ev.ImageRevoked, image=A)
    world.block()
    await world.guard.sweep()
    assert world.left == ["b"]


async def test_sweep__endpoint_lagged_at_the_start_and_no_event_comes__stopped_at_the_next_block(
    world: World,
) -> None:
    """Revoked while nothing watched: the event is never told."""
    world.block()
    await world.guard.sweep()
    world.records[A] = replace(GOOD, revoked=True)
    world.block()
    await world.guard.sweep()
    assert world.stopped == ["a: it was revoked"]


async def test_sweep__window_is_over_by_the_blocks_clock__stopped(world: World) -> None:
    world.records[A] = replace(GOOD, not_after=NOW + 5)
    world.block(NOW)
    await world.guard.sweep()
    assert world.left == ["a", "b"]
    world.block(NOW + 6)
    await world.guard.sweep()
    assert world.left == ["b"]
    assert "valid until" in world.stopped[0]


async def test_sweep__reorganised__asks_anew_and_stops_what_is_not_approved_any_more(
    world: World,
) -> None:
    world.block()
    await world.guard.sweep()
    del world.records[A]
    world.event(ev.ImageLoaded, node=Address(bytes(20)), image=A)
    await world.guard.sweep()
    assert world.left == ["a", "b"], "nothing was told that concerns it"
    world.guard.on_event(ev.ChainReorganised(1))
    await world.guard.sweep()
    assert world.left == ["b"]


async def test_sweep__started_past_the_node_and_never_approved__stopped(world: World) -> None:
    world.block()
    await world.guard.sweep()
    world.engine.services.append(RunningService("c", "c3", b"\xcc" * 32))
    world.block()
    await world.guard.sweep()
    assert world.stopped == ["c: nobody approved it"]


async def test_sweep__approved_for_functions_only__stopped(world: World) -> None:
    world.records[A] = replace(GOOD, kind=ImageKind.RUNTIME)
    world.block()
    await world.guard.sweep()
    assert world.stopped == ["a: it is approved as RUNTIME, not as SERVICE"]


async def test_sweep__chain_does_not_answer__sound_ones_run_on_and_revoked_ones_stop(
    world: World,
) -> None:
    world.down = True
    world.event(ev.ImageRevoked, image=B)
    world.block()
    with pytest.raises(ChainUnavailable):
        await world.guard.sweep()
    assert world.left == ["a"]
    assert world.pictures == [Picture(stops=1)], "what could not be checked is in no picture"


async def test_sweep__chain_never_answered_about_it__runs_for_two_blocks_and_no_longer(
    world: World,
) -> None:
    world.down = True
    for _ in range(2):
        world.block()
        for _retry in range(3):
            with pytest.raises(ChainUnavailable):
                await world.guard.sweep()
        assert world.left == ["a", "b"]
    world.block()
    await world.guard.sweep()
    assert world.left == []
    assert "never spoke" in world.stopped[0]


async def test_sweep__chain_answered_once_and_never_again__runs_until_its_window_ends(
    world: World,
) -> None:
    world.records[A] = replace(GOOD, not_after=NOW + 5)
    world.block()
    await world.guard.sweep()
    world.down = True
    for _ in range(5):
        world.block(NOW + 5)
        with pytest.raises(ChainUnavailable):
            await world.guard.sweep()
    assert world.left == ["a", "b"], "sound when last heard of, and its time is not over"
    world.block(NOW + 6)
    with pytest.raises(ChainUnavailable):
        await world.guard.sweep()
    assert world.left == ["b"]


async def test_sweep__reorganised_and_then_no_answer__what_was_sound_before_counts_no_more(
    world: World,
) -> None:
    world.block()
    await world.guard.sweep()
    world.down = True
    world.guard.on_event(ev.ChainReorganised(1))
    for _ in range(2):
        world.block()
        with pytest.raises(ChainUnavailable):
            await world.guard.sweep()
    world.block()
    await world.guard.sweep()
    assert world.left == []


async def test_sweep__several_of_one_image__all_are_stopped_at_the_same_time(world: World) -> None:
    """Each takes seconds to end; one after the other they would outlast two blocks."""
    together, stop = threading.Barrier(2), world.engine.stop

    def slow(container: str) -> None:
        together.wait(60)
        stop(container)

    world.engine.stop = slow  # type: ignore[method-assign]
    world.engine.services = [RunningService(name, name, A) for name in ("one", "two")]
    world.event(ev.ImageRevoked, image=A)
    world.block()
    await world.guard.sweep()
    assert world.left == []


async def test_sweep__chain_hangs_about_one_and_nothing_can_be_written__others_are_stopped(
    world: World,
) -> None:
    asked, stopped = asyncio.Event(), asyncio.Event()

    async def hang(_image: bytes) -> ImageRecord | None:
        asked.set()
        await stopped.wait()
        return GOOD

    def tell(service: RunningService, _why: str) -> None:
        if len(world.engine.services) == 1:
            stopped.set()
        raise OSError(errno.ENOSPC, "disk full", service.name)

    revoked = [RunningService(name, name, B) for name in ("b1", "b2")]
    world.engine.services = [RunningService("a", "c1", A), *revoked]
    guard = Guard(world.engine, hang, tell)
    where = {"block": BlockRef(2, bytes(32), NOW), "log_index": 0, "tx_hash": bytes(32)}
    guard.on_event(ev.ImageRevoked(**where, image=B))  # type: ignore[arg-type]
    guard.on_event(ev.BlockSeen(BlockRef(2, bytes(32), NOW)))
    async with asyncio.timeout(60):
        with pytest.raises(OSError, match="disk full"):
            await guard.sweep()
    assert asked.is_set()
    assert world.left == ["a"]


@dataclass
class Stubborn:
    """A container whose engine cannot change its limits, as on a kernel without some cgroup."""

    status: str = "running"
    removed: bool = False

    def update(self, **_: object) -> None:
        raise APIError("cannot update container")

    def stop(self, **_: object) -> None:
        self.status = "exited"

    def reload(self) -> None:
        pass

    def remove(self, **_: object) -> None:
        self.removed = True


def test_stop__restart_policy_cannot_be_taken_away__container_is_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped only, it would be back when the engine starts anew."""
    container = Stubborn()
    client = SimpleNamespace(
        containers=SimpleNamespace(get=lambda _: container), close=lambda: None
    )
    monkeypatch.setattr("docker.DockerClient", lambda **_: client)
    ServiceEngine("sealrun").stop("c1")
    assert container.removed


async def test_run__wakes_by_itself_and_outlives_an_engine_that_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeclient.images.guard.RETRY_SECONDS", 0.01)
    world.engine.fails = True
    worker = asyncio.create_task(world.guard.run())
    try:
        world.event(ev.ImageRevoked, image=A)
        world.block()
        await asyncio.sleep(0.05)
        world.engine.fails = False
        async with asyncio.timeout(60):
            while world.left != ["b"]:  # noqa: ASYNC110  (the guard has no event for tests)
                await asyncio.sleep(0.01)
    finally:
        worker.cancel()
