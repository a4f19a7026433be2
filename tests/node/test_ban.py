"""A banned Machine: not booted, not offered, until its operator says so."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nodeclient.core import actions as do
from nodeclient.core.images import ImageKind
from nodeclient.duties import candidacy, transactions
from nodeclient.errors import MachineError
from nodeclient.machine.ban import BANNED, Ban
from nodeclient.machine.desk import MachineDesk
from nodeclient.ports import Session
from tests.core.test_roles import COMMITMENT, ME, SPEC, me, posted, walk


@dataclass
class Off:
    """A Machine that counts its boots."""

    boots: list[int] = field(default_factory=list)

    async def boot(self, boot_count: int) -> Session:
        self.boots.append(boot_count)
        return Session(b"h" * 32, b"s" * 64, b"i" * 32, b"resume")


ROOT: Any = SimpleNamespace(seal=lambda plain, _label: plain, unseal=lambda sealed, _label: sealed)


async def test_banned__not_booted_by_any_daemon__until_pardoned(tmp_path: Path) -> None:
    machine = Off()
    Ban(tmp_path).impose("stray: udp", 1_000)
    Ban(tmp_path).impose("another reason", 2_000)
    desk = MachineDesk(machine, ROOT, Ban(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(MachineError, match=r"banned \(stray: udp\); .* sealrun node pardon"):
        await desk.boot(1)
    assert machine.boots == []
    lifted = Ban(tmp_path).lift()
    assert lifted is not None
    assert (lifted.reason, lifted.at) == ("stray: udp", 1_000)
    await desk.boot(2)
    assert machine.boots == [2]
    assert Ban(tmp_path).lift() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"reason": "x"}', b"\xff", b"1" * 9_999])
def test_damaged_file__bans(tmp_path: Path, content: bytes) -> None:
    (tmp_path / BANNED).write_bytes(content)
    standing = Ban(tmp_path).standing()
    assert standing is not None
    assert "damaged" in standing.reason


def test_file__nobody_else_reads_or_writes_it(tmp_path: Path) -> None:
    Ban(tmp_path / "machine").impose("x", 1)
    assert os.stat(tmp_path / "machine" / BANNED).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", [None, *ImageKind])
async def test_candidacy__runtime_image__counts_only_if_approved_as_one(
    tmp_path: Path, kind: ImageKind | None
) -> None:
    async def approved(_image: bytes, wanted: ImageKind) -> bool:
        return wanted is kind

    services: Any = SimpleNamespace(
        me=me(ME),
        chain=SimpleNamespace(is_approved=approved),
        reference=SimpleNamespace(image_path=lambda _image: tmp_path),
        note=lambda *_: None,
        ban=Ban(tmp_path),
        settings=SimpleNamespace(erases=True),
    )
    vet = do.VetTask(commitment=COMMITMENT, spec=SPEC)
    vetted: Any = await candidacy.effects(services)[do.VetTask](vet, lambda _event: None)
    why = () if kind is ImageKind.RUNTIME else ("the runtime image is not approved as one",)
    assert vetted.reasons == why


async def test_candidacy__banned__no_ticket_no_task_no_claim(tmp_path: Path) -> None:
    ban = Ban(tmp_path)
    ban.impose("hardware: usb", 1)
    case, _ = walk(me(), posted())
    task = case.on_chain()

    async def weight(*_: object) -> int:
        raise AssertionError("asked the chain for a ticket")

    async def approved(_image: bytes, kind: ImageKind) -> bool:
        return kind is ImageKind.RUNTIME

    services: Any = SimpleNamespace(
        me=me(ME),
        chain=SimpleNamespace(claim_weight=weight, is_approved=approved),
        reference=SimpleNamespace(image_path=lambda _image: tmp_path),
        note=lambda *_: None,
        ban=ban,
        settings=SimpleNamespace(erases=True),
    )
    effects = candidacy.effects(services)
    evaluate = do.EvaluateTicket(commitment=COMMITMENT, task=task)
    ticket: Any = await effects[do.EvaluateTicket](evaluate, lambda _event: None)
    assert ticket.claim_at is None
    vet = do.VetTask(commitment=COMMITMENT, spec=SPEC)
    vetted: Any = await effects[do.VetTask](vet, lambda _event: None)
    assert vetted.reasons == ("the machine of this node is banned",)
    claim = do.SubmitClaim(commitment=COMMITMENT, task=task, at=14)
    with pytest.raises(MachineError, match="banned"):
        await transactions.effects(services)[do.SubmitClaim](claim, lambda _event: None)
    ban.lift()
    vetted = await effects[do.VetTask](vet, lambda _event: None)
    assert vetted.reasons == ()
