"""A member judges TPM-QUOTED Evidence: real TPMs quote, the member proves, compares and decides.

Only kernel and root ranges are made up; what boots in QEMU is judged in tests/lab.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.formats.bootimage import BootManifest
from agent.formats.endorsement import Endorsement
from agent.formats.evidence import PI_ONLY, TPM_QUOTED, Evidence
from agent.formats.hashes import sha256
from agent.formats.measure import answer_ranges
from agent.formats.quote import Quote
from agent.formats.ranges import Answer
from nodeclient.core.evidence_policy import AppraisalPolicy
from nodeclient.core.images import ImageKind
from nodeclient.core.reasons import Code
from nodeclient.core.types import Phase, Verdict
from nodeclient.duties.appraising import Appraiser
from nodeclient.identity.registration import NO_MACHINE_KEY
from nodeclient.images.errors import ImageError
from nodeclient.machine.measure import agent_folder, measure_agent
from nodeclient.upkeep.bootimages import BootImages
from nodeclient.upkeep.reference import Reference
from tests.attestation.machine import TpmMachine
from tests.attestation.test_endorsing import NODE, Pi, Verifier, registered
from tests.core.evidence_kit import IMAGE, KERNEL, ROOT, RUNTIME, SPEC, Kit, make_quoted
from tests.core.tpm_builder import (
    APPLICATION,
    INITRD,
    INNER,
    OPTIONS,
    STUB,
    UKI,
    Measurement,
    Pc,
    SoftTpm,
    ima_fields,
)
from tests.node.test_bootimages import Approvals, manifest

BOTH = AppraisalPolicy(vouch=frozenset({PI_ONLY, TPM_QUOTED}), simulated=frozenset({"root"}))


def no_eraser(_folder: Path, _image: bytes) -> BootManifest:
    """Nothing here is asked about memory."""
    raise ImageError("there is none")


@dataclass
class Chip(SoftTpm):
    """The builder's TPM, but a real one quotes."""

    machine: TpmMachine | None = None

    def quote(self, values: dict[int, bytes], qualifying: bytes) -> Quote:
        assert self.machine is not None
        assert self.machine.tpm is not None
        return self.machine.tpm.quote(qualifying)


@dataclass
class Image:
    """The boot image that the kit's PC boots."""

    manifest = replace(
        manifest(measure_agent()),
        command_line="quiet",
        pcr4=(UKI, INNER),
        pcr9=(OPTIONS, INITRD),
        pcr11=STUB,
    )

    def kernel(self, nonce: bytes) -> tuple[Answer, ...]:
        return KERNEL

    def root(self, nonce: bytes) -> tuple[Answer, ...]:
        return ROOT


@dataclass
class Member:
    """A committee member in front of one Executor."""

    verifier: Verifier
    machine: TpmMachine
    folder: Path
    key: bytes
    policy: AppraisalPolicy = BOTH
    approved: dict[bytes, ImageKind] = field(
        default_factory=lambda: {IMAGE: ImageKind.BOOT, RUNTIME: ImageKind.RUNTIME}
    )
    copy: bool = True

    def __post_init__(self) -> None:
        self.kit: Kit = make_quoted(Phase.BEFORE)
        self.kit.pc = Pc(Chip(machine=self.machine))
        self.kit.claims["agent"] = {"digest": measure_agent()}

    async def judge(self, change: Callable[[Evidence], Evidence] = lambda e: e) -> set[Code]:
        """Codes of the reasons against; an affirmed Evidence has none."""
        self.kit.claims["ranges"] = answer_ranges(self.kit.nonce, agent_folder())
        evidence = change(self.kit.evidence())
        if self.copy:
            (self.folder / IMAGE.hex()).mkdir(exist_ok=True)
        images = BootImages(self.folder, lambda _folder, _image: Image(), no_eraser)
        services: Any = SimpleNamespace(
            me=None,
            chain=SimpleNamespace(node=self._node),
            reference=Reference(Approvals(self.approved), self.folder, images),  # type: ignore[arg-type]
            endorser=self.verifier.endorser,
            settings=SimpleNamespace(silence_seconds=0.0, appraisal=self.policy),
        )
        task: Any = SimpleNamespace(executor=NODE, commitment=b"\x0c" * 32)
        stated = replace(_statement(self.kit), evidence_root=evidence.root)
        expected = replace(self.kit.expected, statement=stated)
        result = await Appraiser(services).judge(task, SPEC.encode(), evidence, expected)
        assert (result.verdict is Verdict.AFFIRMING) is (not result.reasons)
        return {each.code for each in result.reasons}

    def relay(self, other: TpmMachine) -> None:
        """The Pi registers the key of ``other``, lets it quote, and shows its own endorsement."""
        assert self.kit.pc is not None
        other.measure(booted(self.kit.pc))
        mine, theirs = self.machine.endorsement(), other.endorsement()
        self.verifier.pi.tell(Endorsement(mine.certificates, mine.ek, theirs.ak))
        self.kit.pc.tpm = Chip(machine=other)
        self.key = sha256(theirs.ak)

    async def _node(self, _address: bytes) -> object:
        return registered(self.key)


def _statement(kit: Kit) -> Any:
    kit.appraise()
    return kit.expected.statement


@pytest.fixture
def member(machine: TpmMachine, makers: Path, tmp_path: Path) -> Member:
    key = sha256(machine.endorsement().ak)
    member = Member(
        Verifier(tmp_path / "node.db", Pi(tmp_path, machine), makers), machine, tmp_path, key
    )
    assert member.kit.pc is not None
    machine.measure(booted(member.kit.pc))
    return member


def booted(pc: Pc) -> list[Measurement]:
    """All that is measured: the boot's events and the kernel's own entry in PCR 10."""
    path, digest = pc.aggregate()
    return [*pc.events, Measurement(10, 0, ima_fields(path, digest))]


async def test_judge__booted_the_approved_image_and_proved_its_tpm__affirms(
    member: Member,
) -> None:
    assert await member.judge() == set()
    assert member.verifier.pi.asked == ["endorsement", "activate"]
    assert await member.judge() == set()  # kept: the TPM is not asked again
    assert member.verifier.pi.asked == ["endorsement", "activate"]


async def test_judge__relay_through_an_endorsed_tpm__refused(
    member: Member, other: TpmMachine
) -> None:
    """The Pi registered the key of a TPM of its own, which it extended as it liked, and shows the
    certificate of a good chip. Quote, PCRs and log are perfect; the activation is not."""
    member.relay(other)
    assert await member.judge() == {Code.ENDORSEMENT}


async def test_judge__tpm_of_an_unknown_maker__refused(member: Member, other: TpmMachine) -> None:
    assert member.kit.pc is not None
    other.measure(booted(member.kit.pc))
    member.verifier.pi.machine = other
    member.verifier.pi.tell(other.endorsement())
    member.kit.pc.tpm = Chip(machine=other)
    member.key = sha256(other.endorsement().ak)
    assert await member.judge() == {Code.ENDORSEMENT}


async def test_judge__quoted_by_another_key_than_the_registered__refused(
    member: Member, other: TpmMachine
) -> None:
    assert member.kit.pc is not None
    other.measure(booted(member.kit.pc))
    member.kit.pc.tpm = Chip(machine=other)
    assert await member.judge() == {Code.ATTESTATION_KEY}


async def test_judge__machine_silent_when_its_tpm_is_asked__refused(member: Member) -> None:
    member.verifier.pi.silent = 10**6
    assert await member.judge() == {Code.ENDORSEMENT}


async def test_judge__image_revoked__refused(member: Member) -> None:
    del member.approved[IMAGE]
    assert await member.judge() == {Code.BOOT_IMAGE}


async def test_judge__image_that_this_member_has_no_copy_of__is_a_reason_and_no_crash(
    member: Member,
) -> None:
    member.copy = False
    assert Code.BOOT_IMAGE in await member.judge()


async def test_judge__another_program_was_booted__refused(member: Member) -> None:
    assert member.kit.pc is not None
    more = Measurement(4, APPLICATION, b"\x03path", b"\x66" * 32)
    member.kit.pc.events.append(more)
    member.machine.measure([more])
    assert Code.PCR in await member.judge()


@pytest.mark.parametrize(
    ("accepted", "tpm", "reasons"),
    [
        ({PI_ONLY, TPM_QUOTED}, False, set()),
        ({TPM_QUOTED}, False, {Code.VOUCH_NOT_PERMITTED}),
        ({PI_ONLY, TPM_QUOTED}, True, {Code.ATTESTATION_KEY}),
    ],
)
async def test_judge__evidence_of_the_pi_alone__the_policy_decides_and_no_tpm_is_asked(
    member: Member, accepted: set[str], tpm: bool, reasons: set[Code]
) -> None:
    member.kit.pc = None
    member.key = member.key if tpm else NO_MACHINE_KEY
    member.kit.claims["vouch"] = PI_ONLY
    for name in ("quote", "event_log", "ima"):
        member.kit.claims.pop(name, None)
    member.policy = replace(BOTH, vouch=frozenset(accepted))
    assert await member.judge() == reasons
    assert member.verifier.pi.asked == []
