"""A real TPM 2.0 (swtpm) on one side, the pure core on the other: each must understand the other.

The Agent's own code drives the TPM, so that what these tests show is what a Machine and a verifier
do with each other.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent import tpm_keys
from agent.formats.endorsement import Challenge
from agent.formats.quote import Quote
from agent.tpm import Tpm
from agent.tpm_wire import TpmError as Refused
from agent.tpm_wire import Transport, execute, password, u16, u32
from nodeclient.core.evidence_policy import Endorsements, remember
from nodeclient.core.tpm.attest import parse_attest
from nodeclient.core.tpm.credential import make_credential
from nodeclient.core.tpm.endorsement import EndorsementError, check_endorsement
from nodeclient.core.tpm.material import SELECTION
from nodeclient.core.tpm.public import parse_attestation_key, parse_endorsement_key
from nodeclient.core.types import Phase, RootClass
from tests.agent.swtpm import provision, running
from tests.core.evidence_kit import Kit, make_quoted
from tests.core.mutations import AFTER, BEFORE, C
from tests.core.tpm_builder import (
    NO_ACTION,
    Measurement,
    SoftTpm,
    honest_boot,
    ima_fields,
    sha,
)
from tests.core.tpm_mutations import pc_of

_PCR_EXTEND = 0x182


class EccTpm(Tpm):
    """As if its maker had certified the ECC key."""

    def _certificates(self) -> tuple[list[bytes], bytes]:
        return [], tpm_keys.EK_ECC


class RealTpm(SoftTpm):
    """In a test's PC, the TPM that quotes: its PCRs are what the TPM has, not what we say."""

    def __init__(self, tpm: Tpm) -> None:
        super().__init__()
        self._tpm = tpm

    def quote(self, values: dict[int, bytes], qualifying: bytes) -> Quote:
        return self._tpm.quote(qualifying)


class Told(SoftTpm):
    """What a TPM quoted in an earlier boot."""

    def __init__(self, quote: Quote) -> None:
        super().__init__()
        self._quote = quote

    def quote(self, _values: dict[int, bytes], _qualifying: bytes) -> Quote:
        return self._quote


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tpm")
    provision(path)
    return path


@pytest.fixture
def transport(folder: Path) -> Iterator[Transport]:
    with running(folder) as found:
        yield found


def makers(folder: Path) -> list[bytes]:
    """The DER certificates of the maker of this TPM: its root, and who signed the EK."""
    names = ("swtpm-localca-rootca-cert.pem", "issuer.pem")
    pems = [(folder / "maker" / name).read_bytes() for name in names]
    return [x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER) for pem in pems]


def challenge(tpm: Tpm, secret: bytes, *, name: bytes | None = None) -> Challenge:
    """A secret for the EK of ``tpm`` and its AK, or for the AK of ``name``."""
    shown = tpm.endorsement()
    key = parse_attestation_key(shown.ak)
    return make_credential(
        parse_endorsement_key(shown.ek), name or key.name, secret, os.urandom(48)
    )


def test_endorsement__of_a_real_tpm__certified_by_its_maker(
    folder: Path, transport: Transport
) -> None:
    shown = Tpm(transport).endorsement()
    root, issuer = makers(folder)
    check_endorsement(shown.certificates, shown.ek, [issuer])
    check_endorsement([*shown.certificates, issuer], shown.ek, [root])
    with pytest.raises(EndorsementError, match="not trusted"):
        check_endorsement([*shown.certificates, issuer], shown.ek, [])


@pytest.mark.parametrize("kind", [Tpm, EccTpm])
def test_credential__made_here__activated_by_the_tpm(kind: type[Tpm], transport: Transport) -> None:
    tpm, secret = kind(transport), os.urandom(32)
    assert tpm.activate(challenge(tpm, secret)) == secret


@pytest.mark.parametrize("kind", [Tpm, EccTpm])
def test_credential__for_the_key_of_another_tpm__refused(
    kind: type[Tpm], transport: Transport
) -> None:
    """The relay: an EK that is certified, and an attestation key that lives elsewhere."""
    tpm = kind(transport)
    other = parse_attestation_key(SoftTpm().public)
    with pytest.raises(Refused):
        tpm.activate(challenge(tpm, os.urandom(32), name=other.name))


def test_credential__for_the_ek_of_another_tpm__refused(
    transport: Transport, tmp_path: Path
) -> None:
    provision(tmp_path / "other")
    with running(tmp_path / "other") as elsewhere:
        strange = challenge(Tpm(elsewhere), os.urandom(32))
    with pytest.raises(Refused):
        Tpm(transport).activate(strange)


@pytest.mark.parametrize("part", ["blob", "secret"])
def test_credential__one_bit_changed_on_the_way__refused(part: str, transport: Transport) -> None:
    tpm = Tpm(transport)
    made = challenge(tpm, os.urandom(32))
    changed = getattr(made, part)
    changed = changed[:-1] + bytes([changed[-1] ^ 1])
    blob, secret = (changed, made.secret) if part == "blob" else (made.blob, changed)
    with pytest.raises(Refused):
        tpm.activate(Challenge(blob, secret))


def boot(transport: Transport, events: Sequence[Measurement]) -> Tpm:
    """Measure as firmware does, and start the Agent's side."""
    for event in events:
        if event.kind != NO_ACTION:
            digests = u32(1) + u16(0xB) + event.extended
            execute(transport, _PCR_EXTEND, (event.pcr,), digests, authorise=(password(),))
    return Tpm(transport)


def quoted_by(tpm: Tpm, kit: Kit) -> Kit:
    """The PC of ``kit`` with this TPM, which the registry knows."""
    pc_of(kit).tpm = RealTpm(tpm)
    key = parse_attestation_key(tpm.endorsement().ak)
    kit.endorsements = Endorsements(RootClass.TPM2, key.digest, ek_proven=True)
    return kit


def measure_ima(transport: Transport, kit: Kit) -> None:
    """The kernel's own entry."""
    digest = sha(ima_fields(*pc_of(kit).aggregate()))
    boot(transport, [Measurement(10, 0, b"", digest)])


def test_quote__of_a_real_tpm__affirmed_over_two_boots(folder: Path) -> None:
    kit = make_quoted(BEFORE)
    with running(folder) as transport:
        tpm = boot(transport, honest_boot())
        measure_ima(transport, kit)
        assert quoted_by(tpm, kit).appraise().reasons == ()
        before = remember(kit.evidence())
        during = quoted_by(tpm, make_quoted(Phase.DURING))
        during.expect(before=before)
        assert during.appraise().reasons == ()
    after = make_quoted(AFTER)
    after.expect(before=before)
    assert after.erasure is not None
    with running(folder) as transport:
        after.erasure.tpm = RealTpm(boot(transport, after.erasure.events))
        after.erasure.tpm = Told(after.erasure.quote())
    with running(folder) as transport:
        tpm = boot(transport, honest_boot())
        measure_ima(transport, after)
        assert quoted_by(tpm, after).appraise().reasons == ()


def test_quote__tpm_of_an_older_state__reset_count_goes_back(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "state", tmp_path / "older" / "state")
    kit = make_quoted(BEFORE)
    with running(folder) as transport:
        tpm = boot(transport, honest_boot())
        measure_ima(transport, kit)
        quoted_by(tpm, kit)
        before = remember(kit.evidence())
    after = make_quoted(AFTER)
    after.expect(before=before)
    with running(tmp_path / "older") as transport:
        tpm = boot(transport, honest_boot())
        measure_ima(transport, after)
        result = quoted_by(tpm, after).appraise()
    assert C.RESET in {each.code for each in result.reasons}


def test_quote__something_measured_after_the_boot__refused(folder: Path) -> None:
    """PCR 9 extended by hand in the running system: the log knows nothing of it."""
    kit = make_quoted(BEFORE)
    with running(folder) as transport:
        tpm = boot(transport, [*honest_boot(), Measurement(9, 0, b"late")])
        measure_ima(transport, kit)
        result = quoted_by(tpm, kit).appraise()
    assert {each.code for each in result.reasons} == {C.EVENT_LOG}


def test_quote__asked_for_by_the_agent__over_what_the_verifier_demands(
    transport: Transport,
) -> None:
    attested = parse_attest(Tpm(transport).quote(b"q" * 32).attest)
    assert attested.qualifying == b"q" * 32
    assert attested.selection == SELECTION
