"""What one peer can cost, and what it can learn: shares, bounds, sockets, silence."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.evidence import MAX_ITEMS, Evidence
from nodeclient.capsules.errors import BlockCorrupt
from nodeclient.control.server import listen_privately
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.roles import receiver
from nodeclient.core.task import step
from nodeclient.core.types import Address, Commitment
from nodeclient.errors import (
    BadInput,
    ChainUnavailable,
    MachineErased,
    MachineError,
    MachineRefused,
)
from nodeclient.inbox import refusal_of
from nodeclient.machine.desk import MachineDesk
from nodeclient.p2p import messages as msg
from nodeclient.p2p.errors import PeerBusy, PeerRefused
from nodeclient.p2p.quota import Quota
from nodeclient.ports import Session
from tests.core.test_reorganisation import LIFE, SETTLED
from tests.core.test_roles import COMMITMENT, consent_asked, owner, walk

TASK = Commitment(b"t" * 32)
MEMBER, FELLOW = Address(b"m" * 20), Address(b"f" * 20)


def ask(quota: Quota, asker: Address, during: bool = True, share: int = 3) -> None:
    with quota.hold(TASK, asker, during, share):
        pass


def test_quota__one_asker_uses_up_its_share__others_keep_theirs() -> None:
    quota = Quota()
    for _ in range(3):
        ask(quota, MEMBER)
    with pytest.raises(PeerRefused):
        ask(quota, MEMBER)
    ask(quota, FELLOW)
    ask(quota, MEMBER, during=False)


def test_quota__question_while_the_last_one_waits__is_put_off_and_costs_nothing() -> None:
    quota = Quota()
    with quota.hold(TASK, MEMBER, True, 2), pytest.raises(PeerBusy):
        ask(quota, MEMBER, share=2)
    ask(quota, MEMBER, share=2)


def test_quota__next_task__begins_anew() -> None:
    quota = Quota()
    ask(quota, MEMBER, share=1)
    with quota.hold(Commitment(b"u" * 32), MEMBER, True, 1):
        pass


def test_message__few_bytes_with_many_items__is_refused_before_it_is_decoded() -> None:
    body = cbor.encode({"cid": [1] * 1000})
    with pytest.raises(FormatError, match="items"):
        msg.unpack(msg.BlockRequest, body)


def test_evidence__claims_of_many_items__are_bounded_together() -> None:
    each = MAX_ITEMS // 4
    leaves = [os.urandom(16) + cbor.encode([f"n{i}", [1] * each]) for i in range(5)]
    few = Evidence(tuple(leaves[:3]), bytes(32), bytes(64)).encode()
    many = Evidence(tuple(leaves), bytes(32), bytes(64)).encode()
    assert len(Evidence.decode(few).leaves) == 3
    with pytest.raises(FormatError, match="items"):
        Evidence.decode(many)


def test_control_socket__is_private_from_its_bind_on(tmp_path: Path) -> None:
    former = os.umask(0)
    try:
        with listen_privately(tmp_path / "control.sock"):
            mode = stat.S_IMODE((tmp_path / "control.sock").stat().st_mode)
        after = os.umask(0)
    finally:
        os.umask(former)
    assert mode == 0o600
    assert after == 0


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (MachineError("the Machine went off (canary)", "x"), PeerRefused, "no machine runs"),
        (BlockCorrupt("store: canary is damaged", "x"), PeerRefused, "no such block here"),
        (BadInput("/canary: No such file", "x"), PeerBusy, "cannot answer that now"),
        (ChainUnavailable("canary", "x"), PeerBusy, "cannot answer that now"),
        (MachineRefused("wrong_phase", "the run has begun"), PeerRefused, "the run has begun"),
        (PeerRefused("ask the owner", "x"), PeerRefused, "ask the owner"),
    ],
)
def test_refusal__tells_a_peer_what_concerns_it_and_nothing_of_this_node(
    error: Exception, kind: type[Exception], told: str
) -> None:
    refusal = refusal_of(error)
    assert type(refusal) is kind
    assert told in str(refusal)
    assert "canary" not in str(refusal)


@dataclass
class OnePc:
    """A Machine that runs one boot at a time, and remembers which one was cut."""

    boots: int = 0
    cut: list[int] = field(default_factory=list)

    async def boot(self, boot_count: int) -> Session:
        self.boots = boot_count
        return Session(b"", b"", b"", bytes([boot_count]))

    async def resume(self, resume: bytes) -> Session:
        await asyncio.sleep(0)
        if resume[0] != self.boots:
            raise MachineError("went off", "boot it")
        return Session(b"", b"", b"", resume)

    async def call(self, method: str, body: object) -> object:
        return method, body

    async def erase(self, _resume: bytes, _memory: object, _quoted: bool) -> bytes:
        return b""

    async def power_off(self) -> None:
        self.cut.append(self.boots)


class OpenRoot:
    """Seals nothing: what a record holds is not the question here."""

    def seal(self, plain: bytes, label: str) -> bytes:
        return plain

    def unseal(self, sealed: bytes, label: str) -> bytes:
        return sealed


async def test_desk__end_of_one_task_while_the_next_one_boots__cuts_its_own_boot_only() -> None:
    machine = OnePc()
    desk = MachineDesk(machine, OpenRoot())  # type: ignore[arg-type]
    old = await desk.boot(1)
    await asyncio.gather(desk.power_off(old.resume), desk.boot(2), desk.power_off(old.resume))
    assert machine.cut == [1]


class LongErasure(OnePc):
    """Its eraser takes its time, and closes the cable when it is told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.closing, self.told = asyncio.Event(), asyncio.Event(), 0

    async def resume(self, resume: bytes) -> Session:
        if self.begun.is_set() and resume[0] == self.boots:
            raise MachineErased("being erased", "boot it")
        return await super().resume(resume)

    async def erase(self, _resume: bytes, _memory: object, _quoted: bool) -> bytes:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.told += 1
            await self.closing.wait()
        return b""


@pytest.mark.parametrize("cancelled", [False, True])
async def test_desk__task_ends_during_the_erasure__power_is_cut_without_waiting_for_it(
    cancelled: bool,
) -> None:
    """The daemon also stops the worker of a Task that is over, a moment before."""
    machine = LongErasure()
    desk = MachineDesk(machine, OpenRoot())  # type: ignore[arg-type]
    old = await desk.boot(1)
    erasing = asyncio.create_task(desk.erase(old.resume, (), False))
    await machine.begun.wait()
    if cancelled:
        erasing.cancel()
        await asyncio.sleep(0)
    cutting = [asyncio.create_task(desk.power_off(old.resume)) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert (machine.told, machine.cut) == (1, [])  # told once, and it closes the cable in peace
    machine.closing.set()
    async with asyncio.timeout(30):
        await asyncio.gather(*cutting)
    assert set(machine.cut) == {1}
    with pytest.raises(asyncio.CancelledError if cancelled else MachineError):
        await erasing
    await desk.boot(2)
    await desk.power_off(old.resume)
    assert set(machine.cut) == {1}


async def test_desk__another_boot_s_end_during_an_erasure__does_not_touch_it() -> None:
    machine = LongErasure()
    machine.closing.set()
    desk = MachineDesk(machine, OpenRoot())  # type: ignore[arg-type]
    old, new = await desk.boot(1), await desk.boot(2)
    erasing = asyncio.create_task(desk.erase(new.resume, (), False))
    await machine.begun.wait()
    cutting = asyncio.create_task(desk.power_off(old.resume))
    await asyncio.sleep(0.01)
    assert machine.told == 0
    erasing.cancel()
    await asyncio.gather(cutting, erasing, return_exceptions=True)
    assert machine.cut == []


def test_receiver__committee_has_nothing_for_it__stops_asking() -> None:
    case, actions = walk(owner(), consent_asked(), *LIFE, SETTLED)
    assert any(isinstance(action, do.LearnOutcome) for action in actions)
    case, actions = step(case, ev.OutcomeDenied(commitment=COMMITMENT), owner())
    assert actions == ()
    assert case.receiver is not None
    assert case.receiver.state is receiver.State.CLOSED


@pytest.mark.parametrize(
    "changed",
    [{"more": 1}, {"commitment": "c" * 32}, {"phase": True}, {"phase": "1"}, {"attempt": False}],
)
def test_unpack__more_fields_or_other_types__refused(changed: dict[str, object]) -> None:
    """A message has one encoding: pydantic would take each of these for the same message."""
    plain: dict[str, object] = {"commitment": b"c" * 32, "phase": 1, "attempt": 0}
    assert msg.unpack(msg.NonceRequest, cbor.encode(plain)) == msg.NonceRequest(b"c" * 32, 1, 0)
    with pytest.raises(FormatError, match="holds more, or other types"):
        msg.unpack(msg.NonceRequest, cbor.encode(plain | changed))
