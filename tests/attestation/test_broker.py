"""An owner's node in front of a machine with a TPM: no key leaves before the TPM has proved its."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from agent.formats.evidence import TPM_QUOTED, Evidence
from agent.formats.measure import answer_ranges
from nodeclient.core import actions as do
from nodeclient.core.images import ImageKind
from nodeclient.core.policy import OwnerPolicy
from nodeclient.core.types import Phase, Verdict
from nodeclient.duties import broker
from nodeclient.machine.measure import agent_folder, measure_agent
from nodeclient.p2p.messages import EvidenceRequest, Question
from nodeclient.upkeep.bootimages import BootImages
from nodeclient.upkeep.reference import Reference
from tests.attestation.machine import TpmMachine
from tests.attestation.test_endorsing import NODE
from tests.attestation.test_member import Chip, Image, Member, booted, member, no_eraser  # noqa: F401
from tests.core.evidence_kit import (
    IMAGE,
    MARKET,
    OWNER,
    RUN,
    RUNTIME,
    SPEC,
    Kit,
    base_claims,
    make_quoted,
)
from tests.core.tpm_builder import Pc
from tests.node.test_bootimages import Approvals

POLICY = OwnerPolicy(vouch=frozenset({TPM_QUOTED}), simulated=frozenset({"root"}))


@dataclass
class Broker:
    """One owner's broker, in front of the Executor of ``member``."""

    before: Member
    policy: OwnerPolicy = POLICY

    def __post_init__(self) -> None:
        self.log: list[str] = []
        self.recorded = self.evidence(bytes(32), 1)

    def evidence(self, nonce: bytes, count: int) -> Evidence:
        """What the Machine says to a question in BEFORE."""
        kit: Kit = make_quoted(Phase.BEFORE)
        assert self.before.kit.pc is not None
        kit.pc = Pc(self.before.kit.pc.tpm)
        kit.nonce = nonce
        kit.claims["agent"] = {"digest": measure_agent()}
        kit.claims["ranges"] = answer_ranges(nonce, agent_folder())
        kit.claims["counters"] = base_claims(Phase.BEFORE, RUN)["counters"] | {"evidence": count}
        return kit.evidence()

    async def ask(self, _peer: bytes, method: str, message: object) -> bytes:
        self.log.append(method)
        if isinstance(message, EvidenceRequest):
            return self.recorded.encode()
        assert isinstance(message, Question)
        return self.evidence(message.nonce, 2).encode()

    async def query(self) -> tuple[str, ...]:
        """Every reason against releasing a key."""
        (self.before.folder / IMAGE.hex()).mkdir(exist_ok=True)
        images = BootImages(self.before.folder, lambda _folder, _image: Image(), no_eraser)
        verifier = self.before.verifier
        verifier.pi.asked = self.log

        async def node(_address: bytes) -> object:
            return await self.before._node(_address)

        async def record(_task: int, _phase: Phase) -> object:
            return SimpleNamespace(verdict=Verdict.AFFIRMING, evidence_root=self.recorded.root)

        async def reputation(_address: bytes) -> int:
            return 10_000

        approved = {IMAGE: ImageKind.BOOT, RUNTIME: ImageKind.RUNTIME}
        services: Any = SimpleNamespace(
            me=SimpleNamespace(
                address=OWNER, parameters=SimpleNamespace(chain_id=31337, market=MARKET)
            ),
            ask=self.ask,
            chain=SimpleNamespace(node=node, record=record, reputation=reputation),
            reference=Reference(Approvals(approved), self.before.folder, images),  # type: ignore[arg-type]
            endorser=verifier.endorser,
            policies=SimpleNamespace(load=lambda _cid: self.policy),
            settings=SimpleNamespace(appraisal=None),
            note_reason=lambda *_: None,
        )
        task: Any = SimpleNamespace(
            id=4, executor=NODE, commitment=self.before.kit.expected.commitment, committee_size=3
        )
        action = do.QueryMachine(
            commitment=task.commitment,
            task=task,
            spec=SPEC.encode(),
            evidence_root=self.recorded.root,
            at=1,
        )
        queried: Any = await broker.effects(services)[do.QueryMachine](action, lambda _event: None)
        return tuple(queried.reasons)


async def test_query__machine_proved_its_tpm__no_reason_against(
    member: Member,  # noqa: F811
) -> None:
    owner = Broker(member)
    assert await owner.query() == ()
    # The fresh Evidence comes last: what it says must not grow old while a TPM is waited for.
    assert owner.log == ["evidence", "endorsement", "activate", "question"]


async def test_query__relay__no_key_leaves(member: Member, other: TpmMachine) -> None:  # noqa: F811
    member.relay(other)
    told = "endorsement: the attestation key does not live in the TPM of the endorsement"
    assert await Broker(member).query() == (told,)


async def test_query__tpm_silent_at_first__is_asked_on_and_never_released_unproven(
    member: Member,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nodeclient.duties.endorsing.AGAIN_SECONDS", 0.0)
    member.verifier.pi.silent = 5
    owner = Broker(member)
    assert await owner.query() == ()
    assert owner.log.count("endorsement") == 6
    assert owner.log[-2:] == ["activate", "question"]


async def test_query__owner_permits_no_tpm__refused_although_the_committee_affirmed(
    member: Member,  # noqa: F811
) -> None:
    owner = Broker(member)
    owner.policy = replace(owner.policy, vouch=frozenset({"PI-ONLY"}))
    assert [text.partition(":")[0] for text in await owner.query()] == ["vouch-not-permitted"]
