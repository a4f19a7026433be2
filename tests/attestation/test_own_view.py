"""A Node in front of its own Machine: its TPM proves its key as to a member, without a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.formats.evidence import PI_ONLY, TPM_QUOTED
from agent.formats.hashes import sha256
from nodeclient.core.evidence_policy import AppraisalPolicy, Endorsements
from nodeclient.core.types import Phase
from nodeclient.duties.endorsing import Endorser
from nodeclient.duties.monitoring import own_view
from nodeclient.duties.services import Settings
from nodeclient.duties.vouching import Voucher
from nodeclient.identity.enrolment import ENDORSEMENT
from nodeclient.store.database import Store
from tests.attestation.machine import TpmMachine
from tests.attestation.test_endorsing import COMMITMENT, registered, said
from tests.core.evidence_kit import make_kit


@dataclass
class Adapters:
    """Of `Services`, what a view of one's own changes or uses."""

    settings: Settings
    endorser: Endorser
    voucher: Voucher


async def nobody(*_: object) -> bytes:
    raise AssertionError("a peer was asked")


def adapters(folder: Path, machine: TpmMachine, makers: Path) -> Any:
    (folder / ENDORSEMENT).write_bytes(machine.endorsement().encode())
    desk: Any = SimpleNamespace(call=lambda _resume, method, body: machine.call(method, body))
    endorser = Endorser(nobody, Store(folder / "node.db", bytes(32)), makers)
    return Adapters(
        Settings("results", AppraisalPolicy()), endorser, Voucher(folder / ENDORSEMENT, desk)
    )


async def look(own: Any, key: bytes) -> Endorsements:
    evidence, action = said(TPM_QUOTED), SimpleNamespace(resume=b"")
    view = own_view(own, action, evidence)  # type: ignore[arg-type]
    return await view.endorser.endorse(COMMITMENT, registered(key), evidence, 0.0)


async def test_own_tpm__proves_its_key_once_and_asks_no_peer(
    machine: TpmMachine, makers: Path, tmp_path: Path
) -> None:
    own = adapters(tmp_path, machine, makers)
    for _ in range(2):
        assert (await look(own, sha256(machine.endorsement().ak))).ek_proven
    assert machine.calls == ["activate"]


async def test_other_tpm_in_its_place__not_believed(
    machine: TpmMachine, other: TpmMachine, makers: Path, tmp_path: Path
) -> None:
    """Somebody swapped the PC: the key that is registered lives elsewhere."""
    own = adapters(tmp_path, other, makers)
    endorsed = await look(own, sha256(machine.endorsement().ak))
    assert not endorsed.ek_proven
    assert endorsed.ek_fault


def test_policy__what_is_simulated_of_ones_own_is_known__nothing_else_changes() -> None:
    kit = make_kit(Phase.BEFORE)
    kit.claims["simulated"] = ["machine", "boot"]
    own = Adapters(Settings("results", AppraisalPolicy(least_answers=3)), *[Any] * 2)  # type: ignore[arg-type]
    own.endorser = Endorser(nobody, None, Path())  # type: ignore[arg-type]
    view = own_view(own, SimpleNamespace(resume=b""), kit.evidence())  # type: ignore[arg-type]
    assert view.settings.appraisal == AppraisalPolicy(
        frozenset({PI_ONLY, TPM_QUOTED}), frozenset({"machine", "boot", "root"})
    )
    assert own.settings.appraisal == AppraisalPolicy(), "the view of others stays as it was"
