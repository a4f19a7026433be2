"""A PC with a TPM and no eraser: a Task would be lost at its end, so none begins."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nodeclient.config.node import erases
from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.images import ImageKind
from nodeclient.core.types import Phase
from nodeclient.duties import candidacy, machine
from nodeclient.duties.candidacy import NO_ERASER
from nodeclient.identity.registration import NO_MACHINE_KEY
from nodeclient.store.database import Store
from tests.core.evidence_kit import make_kit, make_quoted
from tests.core.test_roles import COMMITMENT, ME, SPEC, me, posted, walk
from tests.node.test_machine_config import NETBOOT, QEMU, load

KEY = b"\x5a" * 32
RESUME = b"resume"


class Asked(Exception):
    """The chain was asked for the weight of a ticket: the Node is a candidate."""


def node(folder: Path, key: bytes | None, can_erase: bool) -> Any:
    async def weight(*_: object) -> int:
        raise Asked

    async def approved(_image: bytes, kind: ImageKind) -> bool:
        return kind is ImageKind.RUNTIME

    async def record(_address: bytes) -> object:
        return None if key is None else SimpleNamespace(attestation_key=key)

    notes: list[str] = []
    return SimpleNamespace(
        me=me(ME),
        chain=SimpleNamespace(claim_weight=weight, is_approved=approved, node=record),
        reference=SimpleNamespace(image_path=lambda _image: folder),
        notes=notes,
        note=lambda _commitment, what, private="": notes.append(what + private),
        ban=SimpleNamespace(standing=lambda: None),
        settings=SimpleNamespace(erases=can_erase),
        store=Store(Path(":memory:"), bytes(32)),
        root=SimpleNamespace(sign=lambda _digest: bytes(64)),
    )


@pytest.mark.parametrize(
    ("key", "can_erase", "lost"),
    [
        (KEY, False, True),
        (KEY, True, False),
        (NO_MACHINE_KEY, False, False),
        (None, False, False),
    ],
)
async def test_candidacy__tpm_registered_and_no_eraser__no_ticket_and_no_task(
    tmp_path: Path, key: bytes | None, can_erase: bool, lost: bool
) -> None:
    services = node(tmp_path, key, can_erase)
    effects = candidacy.effects(services)
    case, _ = walk(me(), posted())
    evaluate = do.EvaluateTicket(commitment=COMMITMENT, task=case.on_chain())
    vet = do.VetTask(commitment=COMMITMENT, spec=SPEC)
    vetted: Any = await effects[do.VetTask](vet, lambda _event: None)
    assert vetted.reasons == ((NO_ERASER,) if lost else ())
    if not lost:
        with pytest.raises(Asked):
            await effects[do.EvaluateTicket](evaluate, lambda _event: None)
        return
    ticket: Any = await effects[do.EvaluateTicket](evaluate, lambda _event: None)
    assert ticket.claim_at is None
    assert services.notes == [f"not accepted: {NO_ERASER}", f"no candidate: {NO_ERASER}"]


@pytest.mark.parametrize(
    ("quoted", "phase", "can_erase", "lost"),
    [
        (True, Phase.BEFORE, False, True),
        (True, Phase.BEFORE, True, False),
        (True, Phase.AFTER, False, False),  # too late to help
        (False, Phase.BEFORE, False, False),
    ],
)
async def test_take_evidence__a_tpm_vouches_and_no_eraser__lost_before_any_record(
    tmp_path: Path, quoted: bool, phase: Phase, can_erase: bool, lost: bool
) -> None:
    """Whatever the registry says: members judge by what vouched."""
    evidence = (make_quoted if quoted else make_kit)(phase).evidence()
    services = node(tmp_path, None, can_erase)

    async def call(_resume: bytes, _method: str, _body: object) -> bytes:
        return evidence.encode()

    services.machine = SimpleNamespace(call=call)
    case, _ = walk(me(), posted())
    order = do.TakeEvidence(
        commitment=COMMITMENT,
        task=case.on_chain(),
        phase=phase,
        attempt=1,
        nonces=((ME, bytes(32)),),
        resume=RESUME,
        session_hash=bytes(32),
    )
    outcome: Any = await machine.effects(services)[do.TakeEvidence](order, lambda _event: None)
    kept = services.store.blob(machine.evidence_key(evidence.root))
    if lost:
        assert outcome == ev.MachineLost(commitment=COMMITMENT, reason=NO_ERASER, resume=RESUME)
        assert kept is None
    else:
        assert isinstance(outcome, ev.EvidenceTaken)
        assert kept == evidence.encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        (NETBOOT + QEMU, False),
        (NETBOOT + f'eraser = "{"cd" * 32}"\n' + QEMU, True),
    ],
)
def test_erases__only_a_pc_without_an_eraser_does_not(
    tmp_path: Path, text: str, expected: bool
) -> None:
    assert erases(load(tmp_path, text).machine) is expected
