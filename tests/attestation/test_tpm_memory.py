"""Across tasks: a TPM whose reset count or clock went back since its last task is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nodeclient.core.evidence_policy import Endorsements
from nodeclient.core.reasons import Code
from nodeclient.core.types import NodeRecord, Phase, RootClass
from nodeclient.duties.endorsing import Endorser
from nodeclient.p2p.errors import PeerSilent
from nodeclient.store.database import Store
from tests.attestation.test_endorsing import KEY, registered
from tests.core import tpm_builder as pcs
from tests.core.evidence_kit import Kit, make_quoted
from tests.core.tpm_mutations import pc_of, tpm

BEFORE, _, AFTER = Phase


async def silent(*_: object) -> bytes:
    raise PeerSilent("peer gave no answer", "try again later")


def record_of(kit: Kit) -> NodeRecord:
    return registered(pcs.sha(pc_of(kit).tpm.public))


@pytest.fixture
def endorser(tmp_path: Path) -> Endorser:
    return Endorser(silent, Store(tmp_path / "store.sqlite", KEY), tmp_path)


async def endorsements(endorser: Endorser, kit: Kit) -> Endorsements:
    """With the proof of the key taken as given: it has tests of its own."""
    found = await endorser.endorse(b"\x0c" * 32, record_of(kit), kit.evidence(), 0)
    return replace(found, ek_proven=True, root_class=RootClass.TPM2)


async def codes(endorser: Endorser, kit: Kit) -> set[Code]:
    kit.endorsements = await endorsements(endorser, kit)
    return {each.code for each in kit.appraise().reasons}


async def test_tpm__state_put_back_between_two_tasks__refused(endorser: Endorser) -> None:
    first, second, older = make_quoted(AFTER), make_quoted(BEFORE), make_quoted(BEFORE)
    assert await codes(endorser, older) == set()
    endorser.affirmed(record_of(first), first.evidence())
    tpm(resets=9, time_ms=9000)(second)
    assert await codes(endorser, second) == set()
    assert await codes(endorser, older) == {Code.RESET}


async def test_tpm__ends_judged_out_of_order__the_later_one_is_kept(endorser: Endorser) -> None:
    later, earlier = make_quoted(AFTER), make_quoted(AFTER)
    tpm(resets=20)(later)
    for kit in (later, earlier):
        endorser.affirmed(record_of(kit), kit.evidence())
    found = await endorsements(endorser, make_quoted(BEFORE))
    assert found.last is not None
    assert found.last.resets == 20


async def test_tpm__another_key__nothing_remembered(endorser: Endorser) -> None:
    kit, other = make_quoted(AFTER), make_quoted(BEFORE)
    endorser.affirmed(record_of(kit), kit.evidence())
    tpm(key=pcs.SigningKey.generate())(other)
    assert (await endorsements(endorser, other)).last is None
