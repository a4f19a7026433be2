"""`sealrun node enrol`: a machine's TPM proves its key before anybody pays for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.formats.endorsement import Challenge, Endorsement
from agent.formats.hashes import sha256
from nodeclient.attestation.makers import load_certificates, load_makers
from nodeclient.chain import deployment as deployments
from nodeclient.chain import registration as registrations
from nodeclient.errors import MachineError, MachineRefused
from nodeclient.identity.enrolment import (
    ENDORSEMENT,
    AlreadyRegistered,
    EnrolmentFailed,
    enrol_machine,
    keep,
)
from nodeclient.identity.folder import NodeFolder, open_folder
from nodeclient.ports import Session
from tests.attestation.machine import TpmMachine
from tests.cli.conftest import deployment, node, sealrun  # noqa: F401 (fixtures)

OURS = Endorsement((b"\x30\x82",), b"\x01" * 8, b"\x02" * 8)


@dataclass
class Stranger:
    """What stands where the Machine should: a port that answers in its own way."""

    answer: Callable[[str], object]
    on: bool = False

    async def boot(self, boot_count: int) -> Session:
        self.on = True
        return Session(b"", b"", b"", b"")

    async def resume(self, resume: bytes) -> Session:
        return Session(b"", b"", b"", resume)

    async def call(self, method: str, body: object) -> object:
        return self.answer(method)

    async def erase(self, _resume: bytes, _memory: object, _quoted: bool) -> bytes:
        return b""

    async def power_off(self) -> None:
        self.on = False


async def test_enrol__tpm_of_a_believed_maker__gives_its_endorsement_and_is_off_again(
    own_pc: TpmMachine, makers: Path
) -> None:
    endorsement = await enrol_machine(own_pc, 7, (), load_makers(makers))
    assert own_pc.boots[-1] == 7
    assert own_pc.tpm is None
    await own_pc.boot(8)
    try:
        assert own_pc.endorsement() == endorsement  # the same keys after every boot
    finally:
        await own_pc.power_off()


async def test_enrol__only_the_root_is_believed__needs_the_chain(own_pc: TpmMachine) -> None:
    believed = load_certificates(own_pc.root)
    with pytest.raises(EnrolmentFailed, match=r"not trusted.*; put the TPM maker's root"):
        await enrol_machine(own_pc, 1, (), believed)
    issuers = load_certificates(own_pc.issuer)
    endorsement = await enrol_machine(own_pc, 1, issuers, believed)
    assert endorsement.certificates[-1:] == issuers


async def test_enrol__nobody_is_believed__refuses(own_pc: TpmMachine) -> None:
    with pytest.raises(EnrolmentFailed, match="maker is not trusted"):
        await enrol_machine(own_pc, 1, (), ())
    assert own_pc.tpm is None


async def test_enrol__machine_without_a_tpm__says_so() -> None:
    def no_tpm(_method: str) -> object:
        raise MachineRefused("no_tpm", "this machine has no TPM")

    stranger = Stranger(no_tpm)
    with pytest.raises(EnrolmentFailed, match=r"has no TPM; enrol a machine with a TPM 2\.0"):
        await enrol_machine(stranger, 1, (), ())
    assert not stranger.on


async def test_enrol__key_of_another_tpm__is_refused(
    machine: TpmMachine, other: TpmMachine, makers: Path
) -> None:
    """Somebody on the cable shows a good chip's certificate and a key of his own."""
    mine, theirs = machine.endorsement(), other.endorsement()
    mixed = Endorsement(mine.certificates, mine.ek, theirs.ak)
    stranger = Stranger(lambda method: mixed.to_body() if method == "endorsement" else bytes(32))
    with pytest.raises(EnrolmentFailed, match="does not live in the TPM of the endorsement"):
        await enrol_machine(stranger, 1, (), load_makers(makers))


@pytest.mark.parametrize("body", [None, {}, {"certificates": [], "ek": b"", "ak": b""}, b"\xff"])
async def test_enrol__nonsense_instead_of_an_endorsement__is_one_clear_error(body: object) -> None:
    stranger = Stranger(lambda _method: body)
    with pytest.raises(EnrolmentFailed):
        await enrol_machine(stranger, 1, (), ())
    assert not stranger.on


async def test_enrol__machine_does_not_boot__is_switched_off() -> None:
    class Dead(Stranger):
        async def boot(self, boot_count: int) -> Session:
            self.on = True
            raise MachineError("the Machine is not heard", "cut its power and boot it again")

    dead = Dead(lambda _method: None)
    with pytest.raises(MachineError, match="not heard"):
        await enrol_machine(dead, 1, (), ())
    assert not dead.on


@pytest.fixture
def opened(node: Path) -> NodeFolder:  # noqa: F811
    return open_folder(node)


def files(opened: NodeFolder) -> dict[str, bytes]:
    folder = opened.config.folder
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def put(opened: NodeFolder, registered: bytes | None) -> bytes:
    deployed = deployments.load(opened.config.path(opened.config.chain.deployment))
    return keep(opened, deployed, OURS, registered)


def test_keep__not_registered_yet__registration_names_the_key_and_is_signed(
    opened: NodeFolder,
) -> None:
    before = registrations.load(opened.config.folder / "registration.json")
    key = put(opened, None)
    after = registrations.load(opened.config.folder / "registration.json")  # checks the signature
    assert key == after.keys.attestation_key == sha256(OURS.ak)
    assert before.keys.attestation_key == bytes(32)
    assert (after.account, after.registry) == (before.account, before.registry)
    assert Endorsement.decode((opened.config.folder / ENDORSEMENT).read_bytes()) == OURS


def test_keep__signature_of_the_former_registration__is_void_for_the_new_key(
    opened: NodeFolder,
) -> None:
    path = opened.config.folder / "registration.json"
    former = json.loads(path.read_text())
    put(opened, None)
    now = json.loads(path.read_text())
    path.write_text(json.dumps({**now, "r": former["r"], "s": former["s"]}))
    with pytest.raises(registrations.RegistrationInvalid, match="not signed"):
        registrations.load(path)


def test_keep__registered_with_this_key__renews_the_endorsement_only(opened: NodeFolder) -> None:
    before = files(opened)
    put(opened, sha256(OURS.ak))
    assert files(opened) == {**before, ENDORSEMENT: OURS.encode()}


@pytest.mark.parametrize("registered", [bytes(32), b"\x01" * 32])
def test_keep__registered_with_another_machine_or_none__refuses_and_writes_nothing(
    opened: NodeFolder, registered: bytes
) -> None:
    before = files(opened)
    with pytest.raises(AlreadyRegistered, match="; ape run exit_node"):
        put(opened, registered)
    assert files(opened) == before


async def test_challenge__sealed_for_the_other_tpm__is_refused_by_this_one(
    machine: TpmMachine, other: TpmMachine, makers: Path
) -> None:
    """What the defence leans on: swtpm itself says no, not a line of ours."""
    from nodeclient.attestation.activation import check, new_activation

    endorsement = machine.endorsement()
    keys = check(endorsement, sha256(endorsement.ak), load_makers(makers))
    challenge = new_activation(*keys).challenge
    body = Challenge(challenge.blob, challenge.secret).to_body()
    assert isinstance(await machine.call("activate", body), bytes)
    with pytest.raises(MachineRefused) as refused:
        await other.call("activate", body)
    assert refused.value.code == "tpm"
