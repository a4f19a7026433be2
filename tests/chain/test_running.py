"""Images that run, against a real registry: loads reported, services stopped, peers found out."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from nodeclient.chain import deployment as deployments
from nodeclient.chain import images
from nodeclient.chain.images import ImageKind
from nodeclient.chain.journal import SqliteJournal
from nodeclient.chain.reader import Reader
from nodeclient.chain.watcher import Watcher, WatchSettings
from nodeclient.core import events as ev
from nodeclient.core.case import Me
from nodeclient.core.running import GRACE_BLOCKS, Mismatch
from nodeclient.core.types import Address
from nodeclient.images.build import BuiltImage
from nodeclient.images.guard import Guard
from nodeclient.images.picture import PICTURE, Picture, read_picture
from nodeclient.images.services import PROJECT, SERVICE, RunningService, ServiceEngine
from nodeclient.inbox import Inbox
from nodeclient.p2p.messages import RunningAnswer, pack
from nodeclient.runner import Runner
from nodeclient.store.database import Store
from nodeclient.upkeep.loads import LoadBook, Loads
from nodeclient.upkeep.running import OwnSet, RunningWatch
from tests.chain.conftest import World
from tests.chain.people import Person, member
from tests.machine.fixtures import engine, runtime

__all__ = ["engine", "runtime"]

pytestmark = [pytest.mark.chain, pytest.mark.machine]
YEAR = 365 * 86_400
IMAGE = b"\x5e" * 32


async def approve(world: World, image: bytes, kind: ImageKind) -> None:
    now = (await Reader(world.rpc, world.deployment).head()).timestamp
    order = images.approve(f"approve/{image.hex()}", image, kind, bytes(20), now, now + YEAR)
    await world.sender(SqliteJournal(":memory:"), 0).execute(order)


@pytest.mark.parametrize("kind", ImageKind)
async def test_is_approved__as_what_it_was_approved_for__and_nothing_else(
    world: World, kind: ImageKind
) -> None:
    reader = Reader(world.rpc, world.deployment)
    assert not any([await reader.is_approved(IMAGE, each) for each in ImageKind])
    await approve(world, IMAGE, kind)
    world.node.mine(1)
    assert [each for each in ImageKind if await reader.is_approved(IMAGE, each)] == [kind]
    await revoke(world, IMAGE)
    assert not await reader.is_approved(IMAGE, kind)


async def revoke(world: World, image: bytes) -> int:
    """The block that says so."""
    order = images.revoke(f"revoke/{image.hex()}", image)
    return (await world.sender(SqliteJournal(":memory:"), 0).execute(order)).block


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110  (another program's state: nothing to wait on)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def followed(
    world: World, store: Store, *listeners: Callable[[Any], None]
) -> AsyncIterator[Runner]:
    """A Node's runner on the chain, as the daemon has it."""
    chain = Reader(world.rpc, world.deployment)
    me = Me(Address(bytes(20)), frozenset(), await chain.parameters(), confirmations=1)

    def tell(event: Any) -> None:
        for each in listeners:
            each(event)

    runner = Runner(store, me, {}, tell)
    watcher = Watcher(world.rpc, world.deployment, WatchSettings(poll_seconds=0.05), store.blocks())
    follow = asyncio.create_task(runner.follow(watcher, world.deployment.deploy_block))
    try:
        yield runner
    finally:
        follow.cancel()
        await asyncio.gather(follow, return_exceptions=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "node.db", bytes(32))
    yield made
    made.close()


# ------------------------------------------------------------------------- services on the engine


@dataclass
class Services:
    """Containers of one project, from a real image."""

    engine: docker.DockerClient
    image: bytes
    project: str = field(default_factory=lambda: "test-" + secrets.token_hex(4))
    made: list[Container] = field(default_factory=list)

    def start(self, name: str, *, ours: bool = True) -> Container:
        labels = {SERVICE: name, **({PROJECT: self.project} if ours else {})}
        container: Container = self.engine.containers.run(
            "sha256:" + self.image.hex(),
            ["python3", "-c", "import time; time.sleep(3600)"],
            detach=True,
            network_mode="none",
            labels=labels,
            restart_policy={"Name": "unless-stopped"},
        )
        self.made.append(container)
        return container


@pytest.fixture
def services(engine: docker.DockerClient, runtime: BuiltImage) -> Iterator[Services]:
    made = Services(engine, runtime.image_id)
    yield made
    for each in made.made:
        each.remove(force=True)


def state(container: Container) -> str:
    container.reload()
    return str(container.status)


async def test_revoke__service_that_runs__stopped_before_the_next_two_blocks(
    world: World, services: Services, store: Store
) -> None:
    """No block is mined after the one that revokes: the service ends all the same."""
    await approve(world, services.image, ImageKind.SERVICE)
    ours, other = services.start("web"), services.start("else", ours=False)
    stopped: list[tuple[str, str]] = []
    pictures: list[Picture] = []
    chain = Reader(world.rpc, world.deployment)
    guard = Guard(
        ServiceEngine(services.project),
        chain.image,
        lambda service, why: stopped.append((service.name, why)),
        pictures.append,
    )
    worker = asyncio.create_task(guard.run())
    try:
        async with followed(world, store, guard.on_event):
            await until(lambda: bool(pictures))
            assert pictures[-1].services == (("web", services.image),)
            assert state(ours) == "running"
            block = await revoke(world, services.image)
            await until(lambda: bool(stopped))
            assert stopped == [("web", "it was revoked")]
            assert state(ours) == "exited"
            assert world.node.height() <= block + 2
            assert state(other) == "running", "what is not the node's is left alone"
            ours.reload()
            assert ours.attrs["HostConfig"]["RestartPolicy"]["Name"] == "no"
    finally:
        worker.cancel()


async def test_start__service_was_revoked_while_the_node_was_down__stopped(
    world: World, services: Services, store: Store
) -> None:
    await approve(world, services.image, ImageKind.SERVICE)
    ours = services.start("web")
    await revoke(world, services.image)
    world.node.mine(3)
    # The cursor of an earlier life lies behind the event, which is not told again.
    store.reach(await Reader(world.rpc, world.deployment).head())
    stopped: list[RunningService] = []
    chain = Reader(world.rpc, world.deployment)
    guard = Guard(ServiceEngine(services.project), chain.image, lambda s, _: stopped.append(s))
    worker = asyncio.create_task(guard.run())
    try:
        async with followed(world, store, guard.on_event):
            world.node.mine(1)
            await until(lambda: bool(stopped))
            assert state(ours) == "exited"
    finally:
        worker.cancel()


@dataclass
class Apart:
    """`sealrun node guard` as a process of its own."""

    folder: Path
    process: subprocess.Popen[str] | None = None

    def command(self) -> list[str]:
        return [sys.executable, "-m", "nodeclient.cli", "node", "guard", str(self.folder)]

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def end(self) -> tuple[int, str]:
        """(exit code, all that it said) after SIGTERM."""
        assert self.process is not None
        self.process.terminate()
        said, _ = self.process.communicate(timeout=60)
        return self.process.returncode, said


@pytest.fixture
def apart(world: World, services: Services, tmp_path: Path) -> Iterator[Apart]:
    folder = tmp_path / "apart"
    folder.mkdir()
    deployments.save(world.deployment, folder / "deployment.json")
    (folder / "config.toml").write_text(
        f'[chain]\nrpc = "{world.node.url}"\ndeployment = "deployment.json"\npoll_seconds = 0.1\n'
        '[node]\nendpoint = "127.0.0.1:7001"\n'
        f'[services]\nguard = "apart"\nproject = "{services.project}"\n'
    )
    made = Apart(folder)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


async def test_guard_apart__without_any_key__watches_stops_and_leaves_its_picture(
    world: World, services: Services, apart: Apart
) -> None:
    await approve(world, services.image, ImageKind.SERVICE)
    ours = services.start("web")
    apart.start()
    picture = apart.folder / PICTURE
    await until(lambda: read_picture(picture).services == (("web", services.image),))
    block = await revoke(world, services.image)
    await until(lambda: state(ours) == "exited")
    assert world.node.height() <= block + 2
    await until(lambda: read_picture(picture).services == ())
    code, said = await asyncio.to_thread(apart.end)
    assert code == 0
    assert "service web stopped: it was revoked" in said
    assert '"reason": "it was revoked"' in (apart.folder / "services.jsonl").read_text()


def test_guard_apart__where_the_daemon_watches__refuses_to_start(apart: Apart) -> None:
    config = apart.folder / "config.toml"
    config.write_text(config.read_text().replace('"apart"', '"daemon"'))
    done = subprocess.run(apart.command(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'set [services] guard = "apart"' in done.stderr


def test_engine__running__by_id_and_only_ours(services: Services) -> None:
    ours, other = services.start("web"), services.start("else", ours=False)
    engine = ServiceEngine(services.project)
    assert engine.running() == (RunningService("web", str(ours.id), services.image),)
    ours.pause()
    assert len(engine.running()) == 1, "a container that is paused still runs"
    engine.stop(str(ours.id))
    engine.stop(str(ours.id))
    assert engine.running() == ()
    assert state(other) == "running"


# -------------------------------------------------------------------------------- reported loads


async def test_loads__approved_image__reported_once_over_restarts(
    world: World, tmp_path: Path, store: Store
) -> None:
    await approve(world, IMAGE, ImageKind.BOOT)
    node = await member(world, tmp_path / "node")
    book = LoadBook()
    for _ in range(2):  # two lives of the daemon, which boots the same image in each
        loads = Loads(store, node.sender, book, node.address)
        loads.add(IMAGE, ImageKind.BOOT)
        worker = asyncio.create_task(loads.run())
        try:
            await until(lambda: store.loads(reported=False) == [])
        finally:
            worker.cancel()
    async with followed(world, store, book.on_event):
        await until(lambda: book.reported(node.address, IMAGE))
    assert len(await loads_on_chain(world)) == 1
    assert store.newest_load(ImageKind.BOOT) == IMAGE


async def test_loads__not_registered_yet__reported_when_it_is(
    world: World, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeclient.upkeep.loads.FIRST_RETRY", 0.05)
    monkeypatch.setattr("nodeclient.upkeep.loads.LAST_RETRY", 0.05)
    node = await member(world, tmp_path / "node")
    loads = Loads(store, node.sender, LoadBook(), node.address)
    loads.add(IMAGE, ImageKind.SERVICE)
    worker = asyncio.create_task(loads.run())
    try:
        await asyncio.sleep(0.3)
        assert store.loads(reported=False) == [IMAGE]
        assert await loads_on_chain(world) == [], "a report that the contract refuses is not sent"
        await approve(world, IMAGE, ImageKind.SERVICE)
        await until(lambda: store.loads(reported=False) == [])
    finally:
        worker.cancel()


async def test_loads__chain_forgets_the_report__it_stands_there_again(
    world: World, tmp_path: Path, store: Store
) -> None:
    await approve(world, IMAGE, ImageKind.BOOT)
    node, book = await member(world, tmp_path / "node"), LoadBook()
    loads = Loads(store, node.sender, book, node.address)
    told: list[ev.ImageLoaded] = []

    def listen(event: Any) -> None:
        if isinstance(event, ev.ImageLoaded):
            told.append(event)

    worker = asyncio.create_task(loads.run())
    try:
        async with followed(world, store, book.on_event, loads.on_event, listen) as runner:
            before = world.node.rpc("evm_snapshot")
            loads.add(IMAGE, ImageKind.BOOT)
            await until(lambda: len(told) == 1 and runner.head >= told[0].block.number)
            world.node.rpc("evm_revert", before)
            assert await loads_on_chain(world) == []
            world.node.mine(3)
            await until(lambda: len(told) == 2)
    finally:
        worker.cancel()
    assert len(await loads_on_chain(world)) == 1
    assert book.reported(node.address, IMAGE)


def test_loads__runtime_image__never_noted(store: Store) -> None:
    """Its load would tell which task runs where."""
    node = Address(bytes(20))
    with pytest.raises(ValueError, match="not reported"):
        Loads(store, SimpleNamespace(), LoadBook(), node).add(IMAGE, ImageKind.RUNTIME)  # type: ignore[arg-type]
    assert store.loads(reported=False) == []


async def loads_on_chain(world: World) -> list[ev.ImageLoaded]:
    found: list[ev.ImageLoaded] = []
    watcher = Watcher(world.rpc, world.deployment, WatchSettings(poll_seconds=0.05))
    async for item in watcher.events(0):
        if isinstance(item, ev.ImageLoaded):
            found.append(item)
        if isinstance(item, ev.BlockSeen):
            return found
    raise AssertionError("the watcher ended")


# ------------------------------------------------------------------------------------- peers


@dataclass
class Pair:
    """One node that asks and one that is asked, through its real inbox."""

    world: World
    asked: Person
    watch: RunningWatch
    book: LoadBook
    services: dict[str, bytes]
    found: list[Mismatch]
    stand: Any

    async def ask(self) -> tuple[Mismatch, ...]:
        """Ask now; the findings that stand."""
        head = await Reader(self.world.rpc, self.world.deployment).head()
        await self.watch.look(self.asked.address, head)
        return self.watch.standing.get(self.asked.address, ())

    async def report(self, image: bytes) -> None:
        await self.asked.sender.execute(images.report_load(f"load/{image.hex()}", image))
        for event in await loads_on_chain(self.world):
            self.book.on_event(event)


@pytest.fixture
async def pair(world: World, tmp_path: Path) -> Pair:
    asked = await member(world, tmp_path / "asked")
    chain = Reader(world.rpc, world.deployment)
    parameters = await chain.parameters()
    registry = Address(world.deployment["NodeRegistry"].address)
    services: dict[str, bytes] = {}
    own = OwnSet(
        asked.address,
        parameters,
        registry,
        asked.root,
        world.node.height,
        lambda: b"",
        lambda: Picture(1, tuple(services.items())),
    )
    stand: Any = SimpleNamespace(
        images=SimpleNamespace(own=own),
        directory=SimpleNamespace(is_pending=lambda _: False),
        note=lambda *_: None,
    )
    inbox = Inbox(stand, SimpleNamespace())  # type: ignore[arg-type]
    asker = Address(b"\x0a" * 20)

    async def ask(peer: Address, method: str, message: object) -> bytes:
        assert peer == asked.address
        return await inbox.handle(asker, method, pack(message))

    book, found = LoadBook(), []
    watch = RunningWatch(
        chain,
        parameters,
        registry,
        book,
        ask,
        lambda: (asked.address,),
        lambda _who, mismatch: found.append(mismatch),
        1.0,
    )
    return Pair(world, asked, watch, book, services, found, stand)


async def test_peer__runs_what_is_approved_and_reported__no_finding(pair: Pair) -> None:
    await approve(pair.world, IMAGE, ImageKind.SERVICE)
    pair.services["web"] = IMAGE
    await pair.report(IMAGE)
    await pair.ask()
    pair.world.node.mine(GRACE_BLOCKS)
    assert await pair.ask() == ()
    assert pair.watch.against(pair.asked.address) == ""
    assert pair.watch.counters == {"asked": 2, "unanswered": 0, "findings": 0}


async def test_peer__runs_on_with_a_revoked_image__found_after_the_grace_and_cleared_by_stopping(
    pair: Pair,
) -> None:
    await approve(pair.world, IMAGE, ImageKind.SERVICE)
    pair.services["web"] = IMAGE
    await pair.report(IMAGE)
    await revoke(pair.world, IMAGE)
    assert await pair.ask() == (), "it may be stopping it just now"
    pair.world.node.mine(GRACE_BLOCKS)
    [finding] = await pair.ask()
    assert finding.grave
    assert "revoked" in pair.watch.against(pair.asked.address)
    await pair.ask()
    assert pair.found == [finding], "told once"
    pair.services.clear()
    assert await pair.ask() == ()
    assert pair.watch.against(pair.asked.address) == ""


async def test_peer__never_reported_its_load__a_finding_that_keeps_no_task_from_it(
    pair: Pair,
) -> None:
    await approve(pair.world, IMAGE, ImageKind.SERVICE)
    pair.services["web"] = IMAGE
    await pair.ask()
    pair.world.node.mine(GRACE_BLOCKS)
    [finding] = await pair.ask()
    assert not finding.grave
    assert pair.watch.against(pair.asked.address) == ""


async def test_peer__statement_signed_by_another_root__a_finding(
    pair: Pair, tmp_path: Path
) -> None:
    other = await member(pair.world, tmp_path / "other")
    pair.stand.images.own = replace(pair.stand.images.own, root=other.root)
    await pair.ask()
    pair.world.node.mine(GRACE_BLOCKS)
    [finding] = await pair.ask()
    assert "not its own" in str(finding)


@pytest.mark.parametrize("lie", ["nonce", "node"])
async def test_peer__repeats_an_old_statement_or_shows_anothers__a_finding(
    pair: Pair, lie: str
) -> None:
    honest: OwnSet = pair.stand.images.own

    class Lying:
        """Signs as asked, but not what it is asked for."""

        async def signed(self, nonce: bytes) -> RunningAnswer:
            if lie == "nonce":
                return await honest.signed(b"\x0d" * 32)
            return await replace(honest, address=Address(b"\x0e" * 20)).signed(nonce)

    pair.stand.images.own = Lying()
    await pair.ask()
    pair.world.node.mine(GRACE_BLOCKS)
    [finding] = await pair.ask()
    assert "not its own" in str(finding)
