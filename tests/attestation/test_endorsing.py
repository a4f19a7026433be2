"""A verifier lets the TPM of an executor prove its key, keeps the proof, and believes nothing else.

The TPMs are real (swtpm); the attacks act on what they are asked or on what travels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.formats.endorsement import Endorsement
from agent.formats.evidence import Evidence
from agent.formats.hashes import sha256
from nodeclient.core.appraisal import appraise
from nodeclient.core.evidence_policy import Endorsements
from nodeclient.core.reasons import Code
from nodeclient.core.types import Address, NodeRecord, NodeStatus, Phase, RootClass
from nodeclient.duties.endorsing import PROOF_SECONDS, Endorser
from nodeclient.duties.vouching import Voucher
from nodeclient.identity.enrolment import ENDORSEMENT
from nodeclient.p2p.errors import PeerRefused, PeerSilent
from nodeclient.p2p.messages import ActivationRequest, EndorsementRequest, pack, unpack
from nodeclient.store.database import Store
from tests.attestation.machine import TpmMachine
from tests.core.evidence_kit import make_kit

NODE = Address(b"\x03" * 20)
COMMITMENT = b"\x0c" * 32
KEY = bytes(32)
NOT_THERE = "the attestation key does not live in the TPM of the endorsement"


@dataclass
class Pi:
    """An Executor's Pi: its Voucher over a Machine, and what it does to what it carries."""

    folder: Path
    machine: TpmMachine
    asked: list[str] = field(default_factory=list)
    silent: int = 0
    forge: Callable[[str, bytes], bytes] = lambda _method, answer: answer

    def __post_init__(self) -> None:
        self.tell(self.machine.endorsement())
        desk = SimpleNamespace(call=lambda _resume, method, body: self.machine.call(method, body))
        self._voucher = Voucher(self.folder / ENDORSEMENT, desk)  # type: ignore[arg-type]

    def tell(self, endorsement: Endorsement) -> None:
        """Put another endorsement where peers are told of it."""
        (self.folder / ENDORSEMENT).write_bytes(endorsement.encode())

    async def ask(self, peer: Address, method: str, message: object) -> bytes:
        """What a peer's request comes to."""
        assert peer == NODE
        self.asked.append(method)
        if self.silent:
            self.silent -= 1
            raise PeerSilent("peer gave no answer", "try again later")
        if method == "endorsement":
            unpack(EndorsementRequest, pack(message))
            return self.forge(method, await self._voucher.endorsement())
        request = unpack(ActivationRequest, pack(message))
        return self.forge(method, await self._voucher.activate(b"", request))


@dataclass
class Verifier:
    """A member or a broker."""

    store_path: Path
    pi: Pi
    makers: Path
    now: float = 1_000_000.0

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Another daemon over the same database."""
        self.store = Store(self.store_path, KEY)
        self.endorser = Endorser(self.pi.ask, self.store, self.makers, lambda: self.now)

    async def look(
        self, key: bytes, vouch: str = "TPM-QUOTED", patience: float = 0.0
    ) -> Endorsements:
        record = registered(key)
        return await self.endorser.endorse(COMMITMENT, record, said(vouch), patience)


def registered(key: bytes) -> NodeRecord:
    """What the registry says of the Executor."""
    return NodeRecord(
        id=1,
        address=NODE,
        status=NodeStatus.ACTIVE,
        root_class=RootClass.SOFTWARE,
        root_public=bytes(64),
        vrf_public=bytes(33),
        hardware_id=bytes(32),
        attestation_key=key,
        contact_digest=bytes(32),
        deposit=0,
        tier=0,
        engaged=True,
        fixed_at=0,
    )


def said(vouch: str) -> Evidence:
    kit = make_kit(Phase.BEFORE)
    kit.claims["vouch"] = vouch
    return kit.evidence()


@pytest.fixture
def pi(machine: TpmMachine, tmp_path: Path) -> Pi:
    return Pi(tmp_path, machine)


@pytest.fixture
def verifier(pi: Pi, makers: Path, tmp_path: Path) -> Verifier:
    return Verifier(tmp_path / "node.db", pi, makers)


@pytest.fixture
def key(machine: TpmMachine) -> bytes:
    return sha256(machine.endorsement().ak)


async def test_endorse__tpm_of_a_believed_maker__is_proven(verifier: Verifier, key: bytes) -> None:
    found = await verifier.look(key)
    assert found == Endorsements(RootClass.SOFTWARE, key, ek_proven=True)
    assert verifier.pi.asked == ["endorsement", "activate"]


async def test_endorse__proven_once__is_kept_over_a_restart(verifier: Verifier, key: bytes) -> None:
    await verifier.look(key)
    verifier.restart()
    verifier.now += PROOF_SECONDS - 1
    assert (await verifier.look(key)).ek_proven
    assert verifier.pi.asked.count("activate") == 1


@pytest.mark.parametrize("later", [PROOF_SECONDS, -1.0])
async def test_endorse__proof_too_old_or_of_the_future__is_asked_for_again(
    verifier: Verifier, key: bytes, later: float
) -> None:
    await verifier.look(key)
    verifier.now += later
    assert (await verifier.look(key)).ek_proven
    assert verifier.pi.asked.count("activate") == 2


async def test_endorse__maker_no_longer_believed__ends_the_proof_at_once(
    verifier: Verifier, key: bytes
) -> None:
    await verifier.look(key)
    (verifier.makers / "maker.pem").unlink()
    found = await verifier.look(key)
    assert not found.ek_proven
    assert found.ek_fault == "the EK's maker is not trusted; add its root to trust it"


async def test_endorse__maker_unknown__is_refused_before_its_tpm_is_asked(
    verifier: Verifier, other: TpmMachine
) -> None:
    verifier.pi.machine = other
    verifier.pi.tell(other.endorsement())
    found = await verifier.look(sha256(other.endorsement().ak))
    assert found.ek_fault == "the EK's maker is not trusted; add its root to trust it"
    assert verifier.pi.asked == ["endorsement"]


@pytest.mark.parametrize("whom", ["the endorsed TPM", "the quoting TPM"])
async def test_endorse__key_of_another_tpm__no_tpm_opens_the_secret(
    verifier: Verifier, machine: TpmMachine, other: TpmMachine, whom: str
) -> None:
    """The relay: a good chip's certificate beside the key of a TPM that quotes whatever it likes.
    The registry holds that key, so only the activation stands in the way."""
    mine, theirs = machine.endorsement(), other.endorsement()
    verifier.pi.tell(Endorsement(mine.certificates, mine.ek, theirs.ak))
    verifier.pi.machine = machine if whom == "the endorsed TPM" else other
    found = await verifier.look(sha256(theirs.ak))
    assert verifier.pi.machine.calls == ["activate"]
    assert (found.ek_proven, found.ek_fault) == (False, NOT_THERE)
    assert verifier.store.proof(NODE, sha256(theirs.ak)) is None


@pytest.mark.parametrize("answer", [b"", bytes(31), bytes(32), bytes(33)])
async def test_endorse__secret_made_up_by_the_pi__is_refused(
    verifier: Verifier, key: bytes, answer: bytes
) -> None:
    verifier.pi.forge = lambda method, said: answer if method == "activate" else said
    assert (await verifier.look(key)).ek_fault == NOT_THERE


async def test_endorse__answer_of_an_earlier_question__is_refused(
    verifier: Verifier, key: bytes
) -> None:
    heard: list[bytes] = []

    def replay(method: str, answer: bytes) -> bytes:
        if method == "activate":
            heard.append(answer)
            return heard[0]
        return answer

    verifier.pi.forge = replay
    assert (await verifier.look(key)).ek_proven
    verifier.now += PROOF_SECONDS
    assert (await verifier.look(key)).ek_fault == NOT_THERE


async def test_endorse__another_key_than_the_registered_one__is_refused(
    verifier: Verifier,
) -> None:
    found = await verifier.look(b"\x0b" * 32)
    assert found.ek_fault == "the attestation key is not the registered one"


async def test_endorse__node_registered_another_machine__earlier_proof_does_not_count(
    verifier: Verifier, key: bytes, other: TpmMachine
) -> None:
    await verifier.look(key)
    (verifier.makers / "second.pem").write_bytes(other.issuer.read_bytes())
    verifier.pi.machine = other
    found = await verifier.look(sha256(other.endorsement().ak))
    assert found.ek_fault == "the attestation key is not the registered one"  # the old file is told
    verifier.pi.tell(other.endorsement())
    assert (await verifier.look(sha256(other.endorsement().ak))).ek_proven


@pytest.mark.parametrize("cut", [0, 1, -1])
async def test_endorse__endorsement_out_of_shape__is_a_reason_and_no_crash(
    verifier: Verifier, key: bytes, cut: int
) -> None:
    verifier.pi.forge = lambda _method, answer: answer[:cut]
    found = await verifier.look(key)
    assert not found.ek_proven
    assert found.ek_fault


async def test_endorse__machine_silent_for_longer_than_the_patience__is_a_reason(
    verifier: Verifier, key: bytes
) -> None:
    verifier.pi.silent = 10**6
    found = await verifier.look(key)
    assert found.ek_fault == "the machine does not prove its TPM: peer gave no answer"


async def test_endorse__broker_without_hurry__asks_until_it_answers(
    verifier: Verifier, key: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeclient.duties.endorsing.AGAIN_SECONDS", 0.0)
    verifier.pi.silent = 3
    assert (await verifier.look(key, patience=math.inf)).ek_proven


async def test_endorse__machine_off__is_not_proven(
    verifier: Verifier, key: bytes, machine: TpmMachine
) -> None:
    await machine.power_off()

    def refuse(*_: Any) -> bytes:
        raise PeerRefused("no machine runs this task here", "ask while it runs")

    verifier.pi.forge = refuse
    found = await verifier.look(key)
    assert found.ek_fault == "the machine does not prove its TPM: no machine runs this task here"


async def test_endorse__evidence_of_the_pi_alone__asks_nothing(
    verifier: Verifier, key: bytes
) -> None:
    found = await verifier.look(key, vouch="PI-ONLY")
    assert not found.ek_proven
    assert verifier.pi.asked == []


async def test_endorse__no_key_in_the_registry__asks_nothing(verifier: Verifier) -> None:
    found = await verifier.look(bytes(32))
    assert found.ek_fault == "the registry holds no attestation key of this node"
    assert verifier.pi.asked == []


async def test_endorse__makers_unreadable__believes_nobody(verifier: Verifier, key: bytes) -> None:
    await verifier.look(key)
    (verifier.makers / "torn.pem").write_bytes(b"no certificate")
    found = await verifier.look(key)
    assert "torn.pem" in found.ek_fault


@pytest.mark.parametrize("proven", [True, False])
async def test_appraise__quoted_without_the_proof__has_reason_endorsement(
    verifier: Verifier, key: bytes, proven: bool
) -> None:
    """The proof is a check of its own, whatever else is wrong with the Evidence: here the quote."""
    if not proven:
        (verifier.makers / "maker.pem").unlink()
    kit = make_kit(Phase.BEFORE)
    nothing = {"attest": b"\0", "signature": b"\0", "ak": b"\0"}
    kit.claims |= {"vouch": "TPM-QUOTED", "quote": nothing, "event_log": b"", "ima": b""}
    endorsements = await verifier.look(key)
    policy = replace(kit.policy, vouch=frozenset({"TPM-QUOTED"}))
    result = appraise(kit.evidence(), kit.expected, kit.reference, endorsements, policy)
    codes = {each.code for each in result.reasons}
    assert (Code.ENDORSEMENT in codes) is not proven
