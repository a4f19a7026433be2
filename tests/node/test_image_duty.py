"""What the Verification module is told by the Machine's duties, and what members make of peers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.formats.cid import cid_of
from agent.formats.p256 import SigningKey
from nodeclient.capsules.errors import BlockMissing
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.images import ImageKind
from nodeclient.core.types import Address, BlockRef, Phase, Statement, Verdict
from nodeclient.duties.appraising import Appraiser
from nodeclient.duties.machine import effects, evidence_key
from nodeclient.images.picture import PICTURE, Picture, read_picture, write_picture
from nodeclient.inbox import SIGNING_ASKERS, SIGNINGS, Inbox
from nodeclient.p2p.errors import PeerBusy, PeerDeclined, PeerSilent
from nodeclient.p2p.messages import RunningAnswer, RunningRequest, pack, unpack
from nodeclient.ports import Session
from nodeclient.store.database import Store
from nodeclient.upkeep.imageblocks import ImageBlocks
from nodeclient.upkeep.imageduty import ImageDuty, kept, picture_of
from nodeclient.upkeep.loads import LoadBook, Loads
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
    config: Any = SimpleNamespace(guard=guard)
    assert bool(picture_of(config, tmp_path)().services) is (guard != "none")


def test_block_seen__service_that_the_guard_let_run__noted_once_as_loaded() -> None:
    loads, own = Noted(), SimpleNamespace(picture=lambda: Picture(7, (("web", WEB),)))
    parts: Any = {"verification": None, "watch": None, "guard": None}
    duty = ImageDuty(loads=loads, book=LoadBook(), own=own, **parts)  # type: ignore[arg-type]
    for number in (1, 2):
        duty.on_event(ev.BlockSeen(BlockRef(number, bytes(32), 0)))
    assert loads.noted == [(WEB, ImageKind.SERVICE)]


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

    parts: Any = {"verification": None, "book": LoadBook(), "own": None}
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
    loads = Loads(store, Sender())  # type: ignore[arg-type]
    loads.add(WEB, ImageKind.SERVICE)
    worker = asyncio.create_task(kept(loads.run))
    try:
        async with asyncio.timeout(60):
            await sent.wait()
    finally:
        worker.cancel()
        store.close()


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
        await inbox.handle(A, "running", body)
    others = [asyncio.create_task(inbox.handle(bytes([n]) * 20, "running", body)) for n in (7, 8)]
    await asyncio.sleep(0)
    going_on.set()
    answers = await asyncio.gather(first, *others)
    assert [unpack(RunningAnswer, each).statement for each in answers] == [b"statement"] * 3


async def test_running__few_peers_that_ask_all_the_time__another_waits_for_one_and_is_next() -> (
    None
):
    begun: asyncio.Queue[bytes] = asyncio.Queue()
    ends: dict[bytes, asyncio.Event] = {}

    async def signed(nonce: bytes) -> RunningAnswer:
        ends[nonce] = asyncio.Event()
        begun.put_nowait(nonce)
        await ends[nonce].wait()
        return RunningAnswer(nonce, bytes(64))

    services: Any = SimpleNamespace(
        images=SimpleNamespace(own=SimpleNamespace(signed=signed)),
        directory=SimpleNamespace(is_pending=lambda _: False),
        note=lambda *_: None,
    )
    inbox = Inbox(services, SimpleNamespace())  # type: ignore[arg-type]

    def ask(who: int, times: int = 1) -> asyncio.Task[bytes]:
        body = pack(RunningRequest(bytes([who, times]) * 16))
        return asyncio.create_task(inbox.handle(bytes([who]) * 20, "running", body))

    async with asyncio.timeout(60):
        busy = [ask(who) for who in range(1, SIGNINGS + 1)]
        first = [await begun.get() for _ in busy]
        honest = ask(99)
        await asyncio.sleep(0)
        ends[first[0]].set()
        await busy[0]
        busy[0] = ask(1, 2)  # at once again, and behind
        assert await begun.get() == bytes([99, 1]) * 16
        rest = [ask(who) for who in range(100, 100 + SIGNING_ASKERS - SIGNINGS - 1)]
        await asyncio.sleep(0)
        with pytest.raises(PeerBusy):  # every place is taken
            await ask(200)
        while not all(each.done() for each in (*busy, honest, *rest)):
            for each in ends.values():
                each.set()
            await asyncio.sleep(0)
        assert unpack(RunningAnswer, await honest).statement == bytes([99, 1]) * 16
        again = ask(200)  # and is free again
        ends[await begun_by(begun, 200)].set()
        assert await again


async def begun_by(begun: asyncio.Queue[bytes], who: int) -> bytes:
    """The nonce of somebody's question, once its turn has come."""
    while (nonce := await begun.get())[0] != who:
        pass
    return nonce
