"""The structures of TPM, firmware and kernel: read whole and exactly, or refused."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from agent.formats.p256 import ORDER, SigningKey
from agent.formats.quote import MAX_EVENT_LOG, MAX_IMA, QUOTED_PCRS
from nodeclient.core.tpm import ima
from nodeclient.core.tpm.attest import parse_attest, verify_attest
from nodeclient.core.tpm.event_log import MAX_EVENTS, parse_event_log
from nodeclient.core.tpm.public import parse_attestation_key
from nodeclient.core.tpm.reader import TpmError
from tests.core import tpm_builder as pcs
from tests.core.tpm_builder import (
    SHA1,
    SHA256,
    SHA384,
    Measurement,
    SoftTpm,
    ak_public,
    encode_entry,
    encode_event,
    encode_header,
    encode_ima,
    encode_log,
    extend,
    honest_boot,
    ima_fields,
    sized,
)

TPM = SoftTpm(SigningKey.generate())
QUOTE = TPM.quote(extend(honest_boot()), b"q" * 32)
LOG = encode_log(honest_boot())
EVENT = Measurement(0, pcs.S_CRTM, b"1.0\0")
FILES = [("boot_aggregate", bytes(32)), ("/bin/ö", b"\x01" * 32)]


def test_attest__of_a_tpm__every_field_read() -> None:
    attested = parse_attest(QUOTE.attest)
    assert attested.qualifying == b"q" * 32
    assert (attested.clock.time_ms, attested.clock.resets, attested.clock.restarts) == (5000, 7, 0)
    assert attested.clock.safe
    assert attested.selection == ((SHA256, QUOTED_PCRS),)
    values = extend(honest_boot())
    assert attested.pcr_digest == pcs.sha(b"".join(values[pcr] for pcr in QUOTED_PCRS))


def test_attest__every_byte_cut_off__refused() -> None:
    for length in range(len(QUOTE.attest)):
        with pytest.raises(TpmError):
            parse_attest(QUOTE.attest[:length])
    with pytest.raises(TpmError, match="after its end"):
        parse_attest(QUOTE.attest + b"\0")
    with pytest.raises(TpmError, match="exceed"):
        parse_attest(QUOTE.attest + bytes(1024))


def test_attest__absurd_counts_and_sizes__refused_before_they_are_followed() -> None:
    many = [(SHA256, QUOTED_PCRS)] * 9
    with pytest.raises(TpmError, match="9 PCR banks"):
        parse_attest(SoftTpm(TPM.key, selection=many).quote(extend([]), b"").attest)
    with pytest.raises(TpmError, match="exceeds 128"):
        parse_attest(TPM.quote(extend([]), bytes(129)).attest)


def test_signature__any_bit_changed__not_genuine() -> None:
    point = TPM.key.public
    assert verify_attest(point, QUOTE.attest, QUOTE.signature)
    for position in range(len(QUOTE.signature)):
        changed = bytearray(QUOTE.signature)
        changed[position] ^= 1
        try:
            assert not verify_attest(point, QUOTE.attest, bytes(changed))
        except TpmError:
            continue
    for position in range(len(QUOTE.attest)):
        attest = bytearray(QUOTE.attest)
        attest[position] ^= 1
        assert not verify_attest(point, bytes(attest), QUOTE.signature)


@pytest.mark.parametrize("number", [0, ORDER, (1 << 256) - 1])
def test_signature__numbers_out_of_range__not_genuine(number: int) -> None:
    out = number.to_bytes(32, "big")
    good = QUOTE.signature[6:38]
    for r, s in ((out, good), (good, out)):
        signature = struct.pack(">HH", 0x18, SHA256) + sized(r) + sized(s)
        assert not verify_attest(TPM.key.public, QUOTE.attest, signature)


def test_attestation_key__of_a_tpm__point_and_name() -> None:
    key = parse_attestation_key(TPM.public)
    assert key.point == TPM.key.public
    assert key.name == b"\x00\x0b" + pcs.sha(TPM.public)


@pytest.mark.parametrize(
    "public",
    [
        ak_public(TPM.key.public, curve=4),
        TPM.public + b"\0",
        TPM.public[:-1],
        b"\x00\x01" + TPM.public[2:],
        TPM.public[:2] + b"\x00\x0c" + TPM.public[4:],
        TPM.public + bytes(1024),
        b"",
    ],
)
def test_attestation_key__another_kind_of_key__refused(public: bytes) -> None:
    with pytest.raises(TpmError):
        parse_attestation_key(public)


def test_event_log__replayed__the_values_that_a_tpm_has() -> None:
    for banks in ((SHA256,), (SHA1, SHA256), (SHA256, SHA384, SHA1)):
        log = parse_event_log(encode_log(honest_boot(), banks))
        assert dict(log.values) | dict.fromkeys(range(17, 23), bytes(32)) == extend(honest_boot())
    assert log.of(4)[-2:] == (pcs.UKI, pcs.INNER)


def test_event_log__no_action__is_not_extended() -> None:
    silent = Measurement(99, pcs.NO_ACTION, b"vendor")
    assert parse_event_log(encode_log([silent, EVENT])).events == (
        parse_event_log(encode_log([EVENT])).events
    )


def test_event_log__startup_locality__where_pcr_0_starts() -> None:
    started = Measurement(0, pcs.NO_ACTION, b"StartupLocality\0\x03")
    log = parse_event_log(encode_log([started, EVENT]))
    assert log.values[0] == pcs.sha(b"\x03".rjust(32, b"\0") + EVENT.extended)
    wrong = Measurement(0, pcs.NO_ACTION, b"StartupLocality\0\x05")
    for events in ([EVENT, started], [started, started], [wrong]):
        with pytest.raises(TpmError, match="locality"):
            parse_event_log(encode_log(events))


def test_event_log__every_byte_cut_off__refused_or_a_shorter_log() -> None:
    ends, whole = set(), b""
    for event in honest_boot():
        whole += encode_event(event)
        ends.add(len(encode_header()) + len(whole))
    ends.add(len(encode_header()))
    for length in range(len(LOG) + 1):
        if length in ends:
            parse_event_log(LOG[:length])
            continue
        with pytest.raises(TpmError):
            parse_event_log(LOG[:length])


def _header(spec: bytes) -> bytes:
    return struct.pack("<II20xI", 0, pcs.NO_ACTION, len(spec)) + spec


_SPEC = encode_header()[32:]
BROKEN_LOGS: dict[str, tuple[Callable[[], bytes], str]] = {
    "oversized": (lambda: LOG + bytes(MAX_EVENT_LOG), "exceed"),
    "too many events": (lambda: LOG + encode_event(EVENT) * MAX_EVENTS, "more than"),
    "legacy": (lambda: encode_header(signature=b"Spec ID Event02"), "not crypto-agile"),
    "no SHA-256 bank": (lambda: encode_header((SHA1,)), "no SHA-256 bank"),
    "no banks": (lambda: _header(_SPEC[:24] + bytes(4) + b"\0"), "0 hash algorithms"),
    "a million banks": (
        lambda: _header(_SPEC[:24] + struct.pack("<I", 10**6) + _SPEC[28:]), "1000000 hash",
    ),
    "a bank twice": (lambda: encode_header((SHA256, SHA256)), "twice"),
    "a bank of a wrong size": (
        lambda: _header(_SPEC[:30] + struct.pack("<H", 5000) + _SPEC[32:]), "wrong size",
    ),
    "unknown bank": (lambda: _header(_SPEC[:28] + b"\x99\x00" + _SPEC[30:]), "unknown"),
    "header with a rest": (lambda: _header(_SPEC + b"\0"), "after its end"),
    "header with a digest": (lambda: b"".join((LOG[:8], b"\x01", LOG[9:])), "has a digest"),
    "first event of another type": (lambda: LOG[:4] + b"\x04" + LOG[5:], "type of the first"),
    "first event of another PCR": (lambda: b"\x01" + LOG[1:], "PCR of the first"),
    "PCR 24": (lambda: encode_log([Measurement(24, pcs.IPL, b"")]), "no PCR 24"),
    "PCR -1": (lambda: encode_log([Measurement(0xFFFFFFFF, pcs.IPL, b"")]), "no PCR"),
    "a digest missing": (
        lambda: encode_header() + encode_event(EVENT, (SHA256,)) + bytes(22), "1 digests",
    ),
    "a digest too many": (
        lambda: encode_header() + encode_event(EVENT, (SHA1, SHA256, SHA384)), "3 digests",
    ),
    "two digests of one bank": (
        lambda: encode_header((SHA256, SHA384)) + encode_event(EVENT, (SHA256, SHA256)) + bytes(16),
        "two of one",
    ),
    "length beyond the end": (
        lambda: LOG + encode_event(EVENT)[:-8] + struct.pack("<I", 0xFFFFFFFF) + EVENT.data,
        "longer than the log",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN_LOGS)
def test_event_log__broken__refused_for_that_reason(what: str) -> None:
    build, text = BROKEN_LOGS[what]
    with pytest.raises(TpmError, match=text):
        parse_event_log(build())


def test_ima__list_of_the_kernel__entries_and_values() -> None:
    entries = ima.parse_ima(encode_ima(FILES))
    assert [entry.path for entry in entries] == ["boot_aggregate", "/bin/ö"]
    assert [entry.digest for entry in entries] == [digest for _, digest in FILES]
    values = ima.replay(entries, bytes(32))
    first = pcs.sha(bytes(32) + pcs.sha(ima_fields(*FILES[0])))
    assert values[:2] == (bytes(32), first)
    assert ima.parse_ima(b"") == ()


def test_ima__violation__extended_as_the_kernel_does() -> None:
    data = ima_fields("/open", bytes(32))
    (entry,) = ima.parse_ima(encode_entry(data, shown=bytes(20)))
    assert entry.violated
    assert ima.replay([entry], bytes(32))[1] == pcs.sha(bytes(32) + b"\xff" * 32)


def test_ima__signature_template_and_strange_path__read() -> None:
    digest = b"sha256:\0" + bytes(32)
    parts = (digest, b"/bin/\xff\0", b"\x03signature")
    data = b"".join(struct.pack("<I", len(part)) + part for part in parts)
    (entry,) = ima.parse_ima(encode_entry(data, b"ima-sig"))
    assert entry.path == "/bin/\\xff"


_DATA = ima_fields("/bin/sh", bytes(32))
BROKEN_LISTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "oversized": (lambda: bytes(MAX_IMA + 1), "exceed"),
    "too many": (lambda: encode_ima([("", b"")]) * (ima.MAX_ENTRIES + 1), "more than"),
    "another PCR": (lambda: b"\x0b" + encode_entry(_DATA)[1:], "PCR is 0xb"),
    "another template": (lambda: encode_entry(_DATA, b"ima"), "another template"),
    "long template name": (lambda: encode_entry(_DATA, b"x" * 17), "exceeds 16"),
    "hash that lies": (lambda: encode_entry(_DATA, shown=b"\x01" * 20), "its own hash"),
    "a field too many": (lambda: encode_entry(_DATA + bytes(4)), "number of fields"),
    "a field missing": (lambda: encode_entry(_DATA[:44]), "number of fields"),
    "field longer than the entry": (lambda: encode_entry(_DATA[:-1]), "ends inside"),
    "entry longer than the list": (lambda: encode_entry(_DATA)[:-1], "ends inside"),
    "data of a gigabyte": (
        lambda: encode_entry(_DATA)[:34] + struct.pack("<I", 1 << 30), "exceeds 8192",
    ),
    "path without end": (
        lambda: encode_entry(_DATA[:-1].replace(b"\x08\0\0\0/bin", b"\x07\0\0\0/bin")), "malformed",
    ),
    "digest without name": (
        lambda: encode_entry(ima_fields("/bin/sh", bytes(32), b"")), "malformed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN_LISTS)
def test_ima__broken__refused_for_that_reason(what: str) -> None:
    build, text = BROKEN_LISTS[what]
    with pytest.raises(TpmError, match=text):
        ima.parse_ima(build())
