"""The Agent's own TPM commands against a real TPM, judged by the verifier's own parsers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.formats.endorsement import Challenge
from agent.formats.hashes import sha256
from agent.formats.quote import QUOTED_PCRS
from agent.tpm import Tpm, split_certificates
from agent.tpm_keys import EK_ECC, SHA256
from agent.tpm_wire import Device, TpmError, execute, password, sized, u16, u32
from nodeclient.core.tpm.attest import parse_attest, verify_attest
from nodeclient.core.tpm.credential import make_credential
from nodeclient.core.tpm.endorsement import EndorsementError, check_endorsement
from nodeclient.core.tpm.public import parse_attestation_key, parse_endorsement_key
from tests.agent.swtpm import SocketTransport, provision, running

QUALIFYING = bytes(range(32))
SECRET = bytes(range(32, 64))
_PCR_EXTEND = 0x182
CREATE_PRIMARY = 0x131  # TPM_CC


@pytest.fixture(scope="session")
def chips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of two TPMs, each of a maker of its own."""
    folders = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for folder in folders:
        provision(folder)
    return folders


@pytest.fixture
def wire(chips: tuple[Path, Path]) -> Iterator[SocketTransport]:
    with running(chips[0]) as transport:
        yield transport


def test_quote__this_nonce__signed_by_a_key_that_only_signs_quotes(wire: SocketTransport) -> None:
    quote = Tpm(wire).quote(QUALIFYING)
    key = parse_attestation_key(quote.ak)  # refuses any but a restricted P-256 signing key
    said = parse_attest(quote.attest)
    assert verify_attest(key.point, quote.attest, quote.signature)
    assert said.qualifying == QUALIFYING
    assert said.selection == ((SHA256, QUOTED_PCRS),)
    assert said.pcr_digest == sha256(bytes(32) * len(QUOTED_PCRS))
    forged = quote.attest.replace(QUALIFYING, QUALIFYING[::-1])
    assert not verify_attest(key.point, forged, quote.signature)


@pytest.mark.parametrize("pcr", QUOTED_PCRS)
def test_quote__a_pcr_extended__another_digest(wire: SocketTransport, pcr: int) -> None:
    event = sha256(b"something was loaded")
    execute(wire, _PCR_EXTEND, (pcr,), u32(1) + u16(SHA256) + event, authorise=(password(),))
    values = {each: bytes(32) for each in QUOTED_PCRS} | {pcr: sha256(bytes(32) + event)}
    said = parse_attest(Tpm(wire).quote(QUALIFYING).attest)
    assert said.pcr_digest == sha256(b"".join(values[each] for each in QUOTED_PCRS))


def test_tpm__power_cut_again_and_again__the_same_key_and_never_locked_out(
    chips: tuple[Path, Path],
) -> None:
    """Abrupt power cuts count as attacks on passwords; `noda` keeps the key out of that."""
    keys, resets = set(), []
    for _ in range(5):
        with running(chips[0]) as transport:
            quote = Tpm(transport).quote(QUALIFYING)
            keys.add(quote.ak)
            resets.append(parse_attest(quote.attest).clock.resets)
    assert len(keys) == 1
    assert resets == list(range(resets[0], resets[0] + 5))
    with running(chips[1]) as transport:
        assert Tpm(transport).quote(QUALIFYING).ak not in keys


def test_rest__then_power_is_cut__the_clock_goes_on_where_it_was(
    chips: tuple[Path, Path],
) -> None:
    """Verifiers refuse a clock that went back. Without `rest` this TPM's does: it starts over."""
    times = []
    for _ in range(3):
        with running(chips[0]) as transport:
            tpm = Tpm(transport)
            times.append(parse_attest(tpm.quote(QUALIFYING).attest).clock.time_ms)
            time.sleep(0.2)
            tpm.rest()
            times.append(parse_attest(tpm.quote(QUALIFYING).attest).clock.time_ms)
            tpm.rest()
    assert times == sorted(times)


def test_endorsement__certificate_in_the_tpm__is_of_its_ek_and_maker(
    wire: SocketTransport, chips: tuple[Path, Path]
) -> None:
    tpm = Tpm(wire)
    stated = tpm.endorsement()
    assert tpm.endorsement() == stated
    assert stated.ak == tpm.quote(QUALIFYING).ak
    check_endorsement(stated.certificates, stated.ek, [issuer(chips[0])])
    with pytest.raises(EndorsementError, match="not trusted"):
        check_endorsement(stated.certificates, stated.ek, [issuer(chips[1])])


def test_activate__sealed_to_this_ek_and_ak__gives_the_secret(wire: SocketTransport) -> None:
    """More often than a TPM has room for keys and sessions: each time all of them are flushed."""
    tpm = Tpm(wire)
    stated = tpm.endorsement()
    for _ in range(8):
        assert tpm.activate(challenge(stated.ek, stated.ak)) == SECRET
    assert parse_attest(tpm.quote(QUALIFYING).attest).qualifying == QUALIFYING


def test_activate__for_many_askers__no_key_is_made_again(wire: SocketTransport) -> None:
    """An RSA key takes a real TPM ten seconds: a committee that asks would outwait its patience."""
    counted = Counting(wire)
    tpm = Tpm(counted)
    stated = tpm.endorsement()
    made = counted.codes.count(CREATE_PRIMARY)
    for _ in range(3):
        tpm.activate(challenge(stated.ek, stated.ak))
    assert counted.codes.count(CREATE_PRIMARY) == made == 2


def test_activate__another_tpm_s_ak_or_ek__refused(chips: tuple[Path, Path]) -> None:
    with running(chips[1]) as transport:
        other = Tpm(transport).endorsement()
    with running(chips[0]) as transport:
        tpm = Tpm(transport)
        own = tpm.endorsement()
        for ek, ak in [(own.ek, other.ak), (other.ek, own.ak)] * 4:
            with pytest.raises(TpmError) as refusal:
                tpm.activate(challenge(ek, ak))
            assert refusal.value.code
        assert tpm.activate(challenge(own.ek, own.ak)) == SECRET


def test_endorsement__ecc_certificate_and_chain__preferred_and_read_whole(
    chips: tuple[Path, Path],
) -> None:
    """NV of another maker: an ECC certificate, longer than one read, and issuers in two indices."""
    with running(chips[1]) as transport:
        define(transport, 0x01C0000A, der(1500) + bytes(40))
        define(transport, 0x01C00100, der(700) + der(900)[:300])
        define(transport, 0x01C00101, der(900)[300:])
        tpm = Tpm(transport)
        stated = tpm.endorsement()
        assert stated.certificates == (der(1500), der(700), der(900))
        assert stated.ek[:10] == EK_ECC[:10]
        parse_endorsement_key(stated.ek)
        assert tpm.activate(challenge(stated.ek, stated.ak)) == SECRET


def test_endorsement__no_certificate__says_so(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with running(tmp_path) as transport:
        assert Tpm(transport).endorsement().certificates == ()


def test_close__handles_are_given_back(wire: SocketTransport) -> None:
    _, before = execute(wire, 0x17A, (), u32(1, 0x80000000, 8))
    tpm = Tpm(Counting(wire))
    tpm.endorsement()
    tpm.close()
    _, after = execute(wire, 0x17A, (), u32(1, 0x80000000, 8))
    assert before.rest() == after.rest()


def test_device__not_there__says_so(tmp_path: Path) -> None:
    with pytest.raises(TpmError, match="cannot be opened"):
        Device(tmp_path / "tpmrm0")


class Counting:
    """Notes the code of each command that passes; its connection stays open."""

    def __init__(self, inner: SocketTransport) -> None:
        self._inner = inner
        self.codes: list[int] = []

    def transmit(self, command: bytes) -> bytes:
        self.codes.append(int.from_bytes(command[6:10], "big"))
        return self._inner.transmit(command)

    def close(self) -> None:
        pass


class Scripted:
    """A TPM that answers whatever it is told to."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)

    def transmit(self, command: bytes) -> bytes:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def close(self) -> None:
        pass


def response(body: bytes = b"", *, tag: int = 0x8001, code: int = 0, size: int = 0) -> bytes:
    return u16(tag) + u32(size or 10 + len(body), code) + body


def test_execute__a_busy_tpm__is_asked_again() -> None:
    busy = response(code=0x922)
    _, reader = execute(Scripted(busy, busy, response(b"ok")), 0x17A)
    assert reader.rest() == b"ok"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "too short"),
        (response()[:9], "too short"),
        (response(size=9), "another length"),
        (response(size=11), "another length"),
        (response(b"more", size=12), "another length"),
        (response(tag=0x8002), "another command"),
        (response(code=0x922), "0x922"),
        (response(code=0x101), "0x101"),
    ],
)
def test_execute__no_response_of_a_tpm__typed_error(answer: bytes, why: str) -> None:
    with pytest.raises(TpmError, match=why):
        execute(Scripted(answer), 0x17A)


@pytest.mark.parametrize("body", [b"", u32(5) + b"four", u32(1 << 31)])
def test_execute__parameters_of_a_lying_length__typed_error(body: bytes) -> None:
    with pytest.raises(TpmError, match="too short"):
        execute(Scripted(response(body, tag=0x8002)), 0x158, (1,), authorise=(password(),))


def test_split_certificates__padding_and_lying_lengths__end_the_list() -> None:
    one, two = der(300), der(400)
    assert split_certificates(one + two + b"\xff" * 9) == [one, two]
    assert split_certificates(one + two[:-1]) == [one]
    assert split_certificates(b"\x30\x82\xff\xff" + bytes(70000)) == []
    assert split_certificates(b"\x30\x82\x00\x00") == []
    assert split_certificates(b"") == []


def challenge(ek: bytes, ak: bytes) -> Challenge:
    key, name = parse_endorsement_key(ek), parse_attestation_key(ak).name
    return make_credential(key, name, SECRET, secrets.token_bytes(48))


def issuer(chip: Path) -> bytes:
    pem = (chip / "maker" / "issuer.pem").read_bytes()
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def der(size: int) -> bytes:
    """A SEQUENCE of `size` bytes in all."""
    return b"\x30\x82" + u16(size - 4) + bytes(i % 251 for i in range(size - 4))


def define(transport: SocketTransport, index: int, content: bytes) -> None:
    """An NV index that anybody reads and the owner writes (Part 3, §31.3, §31.7)."""
    owner, attributes = 0x40000001, 1 << 1 | 1 << 17 | 1 << 18 | 1 << 25
    public = u32(index) + u16(SHA256) + u32(attributes) + sized(b"") + u16(len(content))
    execute(transport, 0x12A, (owner,), sized(b"") + sized(public), authorise=(password(),))
    for at in range(0, len(content), 512):
        block = sized(content[at : at + 512]) + u16(at)
        execute(transport, 0x137, (owner, index), block, authorise=(password(),))
