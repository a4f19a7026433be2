"""What the Verification module is told by the Machine's duties, and what members make of peers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.formats.cid import cid_of
from agent.formats.p256 import SigningKey
from nodeclient.capsules.errors import BlockMissing
from nodeclient.chain.errors import OrderReverted
from nodeclient.config.node import ServicesConfig
from nodeclient.control.server import Control
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.health import GuardPart
from nodeclient.core.images import ImageKind
from nodeclient.core.incidents import Incident, Kind
from nodeclient.core.types import Address, BlockRef, Phase, Statement, Verdict
from nodeclient.duties.appraising import Appraiser
from nodeclient.duties.machine import effects, evidence_key
from nodeclient.errors import BadInput
from nodeclient.health.holdings import guard_part, guard_picture
from nodeclient.images.picture import PICTURE, Picture, read_picture, write_picture
from nodeclient.images.services import RunningService
from nodeclient.inbox import Inbox
from nodeclient.p2p.errors import PeerBusy, PeerDeclined, PeerSilent
from nodeclient.p2p.messages import RunningAnswer, RunningRequest, pack, unpack
from nodeclient.ports import Session
from nodeclient.store.database import Store
from nodeclient.upkeep.imageblocks import ImageBlocks
from nodeclient.upkeep.imageduty import ImageDuty, choose_images, kept, make_guard, tell_stopped
from nodeclient.upkeep.loads import LoadBook, Loads
from nodeclient.upkeep.stops import StopBook
from tests.core.erasure_kit import ERASER, honest_erasure
from tests.core.evidence_kit import make_kit
from tests.core.test_roles import me

BOOT, WEB = b"\xb0" * 32, b"\xeb" * 32
EVIDENCE = make_kit(Phase.BEFORE).evidence()


@dataclass
class Noted:
    """Remembers what was noted as loaded."""

    noted: list[tuple[bytes, ImageKind]] = field(default_factory=list)

    def add(self, image: bytes, kind: ImageKind) -> None:
        self.noted.append((image, kind))

    def on_event(self, _event: object) -> None:
        pass

    def knows(self, image: bytes) -> bool:
        return any(image == each for each, _ in self.noted)


@dataclass
class Desk:
    """A Machine that boots, and can be erased."""

    proof: bytes = b""

    async def boot(self, _count: int) -> Session:
        return Session(b"h", b"s", BOOT, b"r")

    async def call(self, *_: object) -> bytes:
        return b"transcript"

    async def erase(self, *_: object) -> bytes:
        return self.proof

    async def power_off(self, *_: object) -> None:
        pass


def services_of(desk: Desk, loads: Noted) -> Any:
    store = Store(Path(":memory:"), bytes(32))
    store.put_blob(evidence_key(EVIDENCE.root), EVIDENCE.encode())
    return SimpleNamespace(
        me=me(Address(b"\x01" * 20)),
        machine=desk,
        store=store,
        note=lambda *_: None,
        images=SimpleNamespace(loads=loads),
    )


async def test_boot__its_image__noted_as_loaded() -> None:
    loads = Noted()
    order = do.BootMachine(commitment=b"\x0c" * 32, phase=Phase.BEFORE, attempt=0)
    await effects(services_of(Desk(), loads))[do.BootMachine](order, lambda _: None)
    assert loads.noted == [(BOOT, ImageKind.BOOT)]


@pytest.mark.parametrize("erased", [True, False])
async def test_clean__the_eraser_that_was_booted__noted_as_loaded(erased: bool) -> None:
    loads = Noted()
    proof = honest_erasure(SigningKey.generate(), 1).encode() if erased else b""
    order = do.CleanMachine(commitment=b"\x0c" * 32, resume=b"r", before=EVIDENCE.root)
    await effects(services_of(Desk(proof), loads))[do.CleanMachine](order, lambda _: None)
    assert loads.noted == ([(ERASER.image, ImageKind.BOOT)] if erased else [])


# ------------------------------------------------------------------------------ members' votes


@pytest.mark.parametrize("phase", [Phase.BEFORE, Phase.AFTER])
async def test_appraise__executor_runs_what_is_revoked__refused_before_and_only_then(
    phase: Phase,
) -> None:
    reasons = await reasons_of(phase, "eb…, SERVICE, it was revoked")
    assert ("running" in " ".join(reasons)) is (phase is Phase.BEFORE)


async def test_appraise__nothing_known_of_the_executor__judged_by_its_evidence() -> None:
    assert "running" not in " ".join(await reasons_of(Phase.BEFORE, ""))


async def reasons_of(phase: Phase, against: str) -> tuple[str, ...]:
    """Evidence whose header nobody signed is refused for that; what is said before it counts."""

    async def no_node(_address: bytes) -> None:
        return None

    services: Any = SimpleNamespace(
        me=me(Address(b"\x01" * 20)),
        images=SimpleNamespace(watch=SimpleNamespace(against=lambda _node: against)),
        chain=SimpleNamespace(node=no_node),
        keys=SimpleNamespace(account=b"\x01" * 32),
        note=lambda *_: None,
        note_reason=lambda *_: None,
    )
    task: Any = SimpleNamespace(
        id=1, commitment=b"\x0c" * 32, executor=Address(b"\x02" * 20), class_id=0, step_at=1
    )
    order: Any = SimpleNamespace(
        commitment=b"\x0c" * 32,
        task=task,
        phase=phase,
        findings=(),
        statement=Statement(0, bytes(32), bytes(32), bytes(32), 1, 1),
        evidence=b"",
    )
    outcome = await Appraiser(services).appraise(order, lambda _: None)
    assert isinstance(outcome, ev.EvidenceAppraised)
    assert outcome.vote.verdict is Verdict.CONTRAINDICATED
    return outcome.reasons


# ----------------------------------------------------------------------------------- pictures


def test_picture__written_and_read__the_same(tmp_path: Path) -> None:
    picture = Picture(7, (("web", WEB),))
    write_picture(tmp_path / PICTURE, picture)
    assert read_picture(tmp_path / PICTURE) == picture


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"block": "x", "services": [["a", 1]]}'])
def test_picture__absent_or_damaged__nothing_is_said_to_run(tmp_path: Path, text: str) -> None:
    assert read_picture(tmp_path / PICTURE) == Picture()
    (tmp_path / PICTURE).write_text(text)
    assert read_picture(tmp_path / PICTURE) == Picture()


@pytest.mark.parametrize("guard", ["none", "daemon", "apart"])
def test_picture__of_an_earlier_configuration__not_read_where_nothing_watches(
    tmp_path: Path, guard: str
) -> None:
    write_picture(tmp_path / PICTURE, Picture(7, (("web", WEB),)))
    config: Any = SimpleNamespace(services=SimpleNamespace(guard=guard), folder=tmp_path)
    assert bool(guard_picture(config).services) is (guard != "none")
    assert guard_part(config, Picture(7)) == (None if guard == "none" else GuardPart(7))


def test_block_seen__service_that_the_guard_let_run__noted_once_as_loaded() -> None:
    loads, own = Noted(), SimpleNamespace(picture=lambda: Picture(7, (("web", WEB),)))
    parts: Any = {"verification": None, "watch": None, "guard": None, "stops": None}
    duty = ImageDuty(loads=loads, book=LoadBook(), own=own, **parts)  # type: ignore[arg-type]
    for number in (1, 2):
        duty.on_event(ev.BlockSeen(BlockRef(number, bytes(32), 0)))
    assert loads.noted == [(WEB, ImageKind.SERVICE)]


# ----------------------------------------------------------------------------------- the door


class Asked:
    """A request of the control interface."""

    async def json(self) -> dict[str, str]:
        return {"cid": "bafk"}


@pytest.mark.parametrize("guard", ["none", "daemon", "apart"])
async def test_bring__daemon_may_be_in_a_container__it_lets_nothing_in(
    tmp_path: Path, guard: str
) -> None:
    config: Any = SimpleNamespace(
        services=ServicesConfig(guard=guard),  # type: ignore[arg-type]
        folder=tmp_path,
        path=lambda path: tmp_path / path,
        machine=SimpleNamespace(images=Path("images")),
        node=SimpleNamespace(ask_running_seconds=300.0),
    )
    rest: Any = dict.fromkeys(
        ("chain", "root", "registry", "store", "blocks", "sender", "ask", "peers"), None
    )
    nothing: Any = dict.fromkeys(("head", "boot", "lines", "report", "note"), None)
    who = me(Address(b"" * 20))
    duty = choose_images(
        config, me=who, **{**rest, "chain": SimpleNamespace(image=None)}, **nothing
    )
    assert (duty.verification is None) is (guard == "apart")
    assert (duty.guard is None) is (guard != "daemon")
    if duty.verification is None:
        control = Control(SimpleNamespace(images=duty), None, None, tmp_path)  # type: ignore[arg-type]
        with pytest.raises(BadInput, match="on the host itself: sealrun image fetch"):
            await control._bring(Asked())  # type: ignore[arg-type]


# --------------------------------------------------------------------------- services stopped


def test_stopped__by_the_daemons_own_guard__is_an_incident_of_its_own_kind() -> None:
    told: list[Incident] = []
    tell_stopped(told.append)(RunningService("web", "c1", WEB), "it was revoked")
    assert [each.kind for each in told] == [Kind.SERVICE]
    assert told[0].text == f"service web stopped, image {WEB.hex()}: it was revoked"


def test_stops__by_a_guard_apart__each_told_once_over_restarts_and_lost_pictures(
    tmp_path: Path,
) -> None:
    told: list[Incident] = []
    pictures = [Picture()]

    def told_now() -> int:
        """How many the next look tells, by a daemon that has just started."""
        told.clear()
        StopBook(tmp_path, lambda: pictures[-1], told.append).look()
        return len(told)

    assert told_now() == 0
    pictures.append(Picture(5, stops=2))
    assert [told_now(), told_now()] == [2, 0]
    assert told == []
    pictures.append(Picture())
    assert told_now() == 0, "a picture that cannot be read says nothing"
    pictures.append(Picture(6, stops=3))
    assert told_now() == 1
    assert {each.kind for each in told} == {Kind.SERVICE}
    pictures.append(Picture(7, stops=1))
    assert told_now() == 1, "the guard counts anew"


async def test_guard__starts_anew__goes_on_counting_what_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the daemon would take what is stopped next for what it has told already."""

    class Engine:
        def __init__(self, *_: object) -> None:
            self.services = (RunningService("web", "c1", WEB),)

        def running(self) -> tuple[RunningService, ...]:
            return self.services

        def stop(self, _container: str) -> None:
            self.services = ()

    async def nobody_approved(_image: bytes) -> None:
        return None

    monkeypatch.setattr("nodeclient.upkeep.imageduty.ServiceEngine", Engine)
    write_picture(tmp_path / PICTURE, Picture(6, stops=2))
    config = ServicesConfig(guard="apart")
    guard = make_guard(config, tmp_path, nobody_approved, lambda *_: None)
    guard.on_event(ev.BlockSeen(BlockRef(7, bytes(32), 0)))
    await guard.sweep()
    assert read_picture(tmp_path / PICTURE) == Picture(7, (), stops=3)


def test_block_seen__guard_is_apart__what_it_stopped_is_looked_for(tmp_path: Path) -> None:
    told: list[Incident] = []
    picture = Picture(7, stops=1)
    own = SimpleNamespace(picture=lambda: picture)
    stops = StopBook(tmp_path, lambda: picture, told.append)
    parts: Any = {"verification": None, "watch": None, "guard": None}
    duty = ImageDuty(loads=Noted(), book=LoadBook(), own=own, stops=stops, **parts)  # type: ignore[arg-type]
    duty.on_event(ev.BlockSeen(BlockRef(7, bytes(32), 0)))
    assert len(told) == 1


# ------------------------------------------------------------------------------------- blocks


@dataclass
class Peers:
    """Who has which block, and who was asked."""

    blocks: dict[Address, bytes | Exception]
    asked: list[Address] = field(default_factory=list)

    async def ask(self, peer: Address, method: str, _message: object) -> bytes:
        assert method == "block"
        self.asked.append(peer)
        found = self.blocks[peer]
        if isinstance(found, Exception):
            raise found
        return found


class Empty:
    """A store without blocks."""

    def get(self, cid: str) -> bytes:
        raise BlockMissing(f"{cid} is not here", "fetch it")


A, B, C, OWN = (Address(bytes([n]) * 20) for n in range(1, 5))


def blocks_of(peers: Peers) -> ImageBlocks:
    return ImageBlocks(Empty(), peers.ask, lambda: (*peers.blocks, OWN), OWN)  # type: ignore[arg-type]


async def test_blocks__first_peers_have_not_or_lie__the_one_that_has_is_asked_first_next() -> None:
    block = b"a block"
    peers = Peers({A: PeerSilent("gone", "later"), B: b"a lie", C: block})
    blocks = blocks_of(peers)
    assert await blocks.get(cid_of(block)) == block
    assert await blocks.get(cid_of(block)) == block
    assert peers.asked == [A, B, C, C]


async def test_blocks__silent_peers_used_up_the_time__they_are_asked_last_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else every try would end where the first one did, with the peer that has it never asked."""
    block, gone = b"a block", PeerSilent("gone", "later")
    peers = Peers({A: gone, B: gone, C: block})
    blocks, ask = blocks_of(peers), peers.ask

    async def out_of_time(peer: Address, method: str, message: object) -> bytes:
        if peer == C:
            raise TimeoutError
        return await ask(peer, method, message)

    monkeypatch.setattr(blocks, "_ask", out_of_time)
    with pytest.raises(BlockMissing, match="in time"):
        await blocks.get(cid_of(block))
    monkeypatch.setattr(blocks, "_ask", ask)
    assert await blocks.get(cid_of(block)) == block
    assert peers.asked == [A, B, C]


async def test_blocks__nobody_has_it__says_so_and_never_asks_itself() -> None:
    peers = Peers({A: PeerDeclined("no such block", "ask another")})
    with pytest.raises(BlockMissing, match="no peer has"):
        await blocks_of(peers).get(cid_of(b"x"))
    assert peers.asked == [A]


# ----------------------------------------------------------------------------------- workers


async def test_run__one_part_fails_unexpectedly__it_begins_again_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nodeclient.upkeep.imageduty.AGAIN_SECONDS", 0.0)
    begun: list[str] = []
    again = asyncio.Event()

    async def broken() -> None:
        begun.append("broken")
        if begun.count("broken") == 3:
            again.set()
            await asyncio.Event().wait()
        raise RuntimeError("a fault")

    async def sound() -> None:
        begun.append("sound")
        await asyncio.Event().wait()

    parts: Any = {"verification": None, "book": LoadBook(), "own": None, "stops": None}
    duty = ImageDuty(
        loads=SimpleNamespace(run=sound),  # type: ignore[arg-type]
        watch=SimpleNamespace(run=broken),  # type: ignore[arg-type]
        guard=SimpleNamespace(run=sound),  # type: ignore[arg-type]
        **parts,
    )
    worker = asyncio.create_task(duty.run())
    try:
        async with asyncio.timeout(60):
            await again.wait()
        assert begun.count("sound") == 2
        assert not worker.done()
    finally:
        worker.cancel()


async def test_loads__reporting_fails_unexpectedly__reported_when_it_begins_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing new needs to be loaded for that."""
    monkeypatch.setattr("nodeclient.upkeep.imageduty.AGAIN_SECONDS", 0.0)
    faults, sent = [RuntimeError("a fault")], asyncio.Event()

    class Sender:
        async def execute(self, _order: object) -> None:
            if faults:
                raise faults.pop()
            sent.set()

    store = Store(Path(":memory:"), bytes(32))
    loads = Loads(store, Sender(), LoadBook(), OWN)  # type: ignore[arg-type]
    loads.add(WEB, ImageKind.SERVICE)
    worker = asyncio.create_task(kept(loads.run))
    try:
        async with asyncio.timeout(60):
            await sent.wait()
    finally:
        worker.cancel()
        store.close()


@dataclass
class Chain:
    """The reports that stand, as a sender and a watcher see them."""

    loads: Loads
    book: LoadBook
    sent: list[str] = field(default_factory=list)
    height: int = 10
    fails: list[Exception] = field(default_factory=list)

    async def execute(self, order: Any) -> None:
        self.sent.append(order.key)
        if self.fails:
            raise self.fails.pop()

    def tell(self, *events: Any) -> None:
        for event in events:
            self.book.on_event(event)
            self.loads.on_event(event)

    def loaded(self, block: int) -> ev.ImageLoaded:
        where = {"block": BlockRef(block, bytes(32), 0), "log_index": 0, "tx_hash": bytes(32)}
        return ev.ImageLoaded(**where, node=OWN, image=WEB)  # type: ignore[arg-type]

    def block(self) -> ev.BlockSeen:
        self.height += 1
        return ev.BlockSeen(BlockRef(self.height, bytes(32), 0))


@pytest.fixture
async def reporting(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Chain]:
    """A Node that reported the load of one image, in block 10."""
    monkeypatch.setattr("nodeclient.upkeep.loads.FIRST_RETRY", 0.0)
    store, book = Store(Path(":memory:"), bytes(32)), LoadBook()
    chain = Chain(None, book)  # type: ignore[arg-type]
    chain.loads = Loads(store, chain, book, OWN)  # type: ignore[arg-type]
    chain.loads.add(WEB, ImageKind.SERVICE)
    worker = asyncio.create_task(chain.loads.run())
    await sent(chain, 1)
    chain.tell(chain.loaded(10), chain.block())
    yield chain
    worker.cancel()
    store.close()


async def sent(chain: Chain, count: int) -> None:
    async with asyncio.timeout(60):
        while len(chain.sent) < count:  # noqa: ASYNC110  (nothing to wait on)
            await asyncio.sleep(0)
    for _ in range(20):  # what would be sent beyond that
        await asyncio.sleep(0)
    assert len(chain.sent) == count


async def test_loads__undone_by_a_reorganisation__sent_again_by_the_same_key(
    reporting: Chain,
) -> None:
    reporting.tell(ev.ChainReorganised(9), reporting.block())
    await sent(reporting, 2)
    assert len(set(reporting.sent)) == 1
    assert not reporting.book.reported(OWN, WEB), "peers hold it against the chain as it is"


async def test_loads__reorganised_and_told_again__not_sent_again(reporting: Chain) -> None:
    reporting.tell(ev.ChainReorganised(10), reporting.block())
    reporting.tell(ev.ChainReorganised(9), reporting.loaded(11), reporting.block())
    reporting.tell(*(reporting.block() for _ in range(5)))
    await sent(reporting, 1)
    assert reporting.book.reported(OWN, WEB)


async def test_loads__undone_while_no_daemon_ran__sent_again_at_the_first_block() -> None:
    store, book = Store(Path(":memory:"), bytes(32)), LoadBook()
    store.add_load(WEB, ImageKind.SERVICE)
    store.load_reported(WEB)
    chain = Chain(None, book)  # type: ignore[arg-type]
    chain.loads = Loads(store, chain, book, OWN)  # type: ignore[arg-type]
    worker = asyncio.create_task(chain.loads.run())
    try:
        await sent(chain, 0)
        chain.tell(chain.block())
        await sent(chain, 1)
    finally:
        worker.cancel()
        store.close()


async def test_loads__mined_and_failed__tried_anew_under_another_key(reporting: Chain) -> None:
    """The first key's receipt says for ever that it failed."""
    why = "images: image not approved"
    reporting.fails = [OrderReverted("", why, bytes(32)), OrderReverted("", why, None)]
    reporting.tell(ev.ChainReorganised(9), reporting.block())
    await sent(reporting, 4)
    first, refused, failed, anew = reporting.sent
    assert first == refused == failed != anew


async def test_running__asked_again_before_the_last_answer__busy_and_others_are_answered() -> None:
    going_on = asyncio.Event()

    async def signed(nonce: bytes) -> RunningAnswer:
        await going_on.wait()
        return RunningAnswer(b"statement", bytes(64))

    services: Any = SimpleNamespace(
        images=SimpleNamespace(own=SimpleNamespace(signed=signed)),
        directory=SimpleNamespace(is_pending=lambda _: False),
        note=lambda *_: None,
    )
    inbox = Inbox(services, SimpleNamespace())  # type: ignore[arg-type]
    body = pack(RunningRequest(b"\x01" * 32))
    first = asyncio.create_task(inbox.handle(A, "running", body))
    await asyncio.sleep(0)
    with pytest.raises(PeerBusy):
        await asyncio.wait_for(inbox.handle(A, "running", body), 60)
    others = [asyncio.create_task(inbox.handle(bytes([n]) * 20, "running", body)) for n in (7, 8)]
    await asyncio.sleep(0)
    going_on.set()
    answers = await asyncio.gather(first, *others)
    assert [unpack(RunningAnswer, each).statement for each in answers] == [b"statement"] * 3
