"""What a TPM, its maker and the firmware say, as a Machine's owner hands it out; and a Zymkey."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.formats.cbor import FormatError
from agent.formats.p256 import ORDER
from nodeclient.core.tpm.attest import parse_attest, verify_attest
from nodeclient.core.tpm.endorsement import believed_above, check_endorsement
from nodeclient.core.tpm.event_log import MAX_EVENTS, parse_event_log
from nodeclient.core.tpm.ima import MAX_ENTRIES, parse_ima
from nodeclient.core.tpm.public import (
    _EK_POLICY,
    EK_ATTRIBUTES,
    parse_attestation_key,
    parse_endorsement_key,
)
from nodeclient.core.zymkey import Binding, ZymkeyEndorsement, parse_zymkey
from tests.core import tpm_builder as pcs
from tests.fuzz.check import Target, only

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def numbers(key: ec.EllipticCurvePrivateKey) -> bytes:
    point = key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    return point[1:]


def ek_public(point: bytes) -> bytes:
    """TPMT_PUBLIC of the standard ECC endorsement key (TCG EK Credential Profile, template L-2)."""
    head = struct.pack(">HHI", 0x23, 0xB, EK_ATTRIBUTES) + pcs.sized(_EK_POLICY)
    head += struct.pack(">HHHHHH", 0x6, 128, 0x43, 0x10, 3, 0x10)
    return head + pcs.sized(point[:32]) + pcs.sized(point[32:])


def certify(
    key: ec.EllipticCurvePrivateKey, issuer: ec.EllipticCurvePrivateKey, authority: bool
) -> bytes:
    """A certificate as a TPM's maker gives: an authority's own, or an endorsement key's."""
    maker = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "maker")])
    mine = maker if authority else x509.Name([])
    built = (
        x509.CertificateBuilder()
        .subject_name(mine)
        .issuer_name(maker)
        .public_key(key.public_key())
        .serial_number(7 + authority)
        .not_valid_before(_BEGIN)
        .not_valid_after(_BEGIN + timedelta(days=9999))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .sign(issuer, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.DER)


def signed_part(der: bytes) -> bytes:
    """What a certificate says. OpenSSL takes an ECDSA signature with a few bytes behind its end."""
    return x509.load_der_x509_certificate(der).tbs_certificate_bytes


def few(most: int, data: bytes, value: object) -> bool:
    """No more entries than the bound, each of at least one byte."""
    return len(getattr(value, "events", value)) <= min(most, len(data))  # type: ignore[arg-type]


def zymkey_targets() -> Iterator[Target]:
    """What a Zymkey says about itself, as its Node passes it on."""
    said = ZymkeyEndorsement("00c1", "Zymkey 4i", "01.02", bytes(range(64)), None, (0, 1))
    bound = replace(said, binding=Binding(True, False), perimeter=())
    yield Target(
        "Zymkey's endorsement",
        (said.encode(), bound.encode()),
        parse_zymkey,
        (FormatError,),
        lambda data, value: isinstance(value, ZymkeyEndorsement) and value.encode() == data,
        ("nodeclient.core.zymkey:parse_zymkey",),
    )


def all_targets() -> Iterator[Target]:
    """Every parser of this kind."""
    tpm = pcs.SoftTpm()
    values = pcs.extend(pcs.honest_boot())
    quote = tpm.quote(values, b"\1" * 32)
    yield Target(
        "attest",
        (quote.attest,),
        parse_attest,
        (FormatError,),
        lambda data, value: len(data) <= 1024,
        ("nodeclient.core.tpm.attest:parse_attest",),
        codec="bytes",
    )

    def holds(attest: bytes, signature: bytes) -> bytes:
        if not verify_attest(tpm.key.public, attest, signature):
            raise FormatError("not signed")
        return signature

    other_s = quote.signature[:-32] + (
        ORDER - int.from_bytes(quote.signature[-32:], "big")
    ).to_bytes(32, "big")
    yield Target(
        "quote signature",
        (quote.signature, other_s),
        lambda data: holds(quote.attest, data),
        (FormatError,),
        lambda data, _: _same_numbers(data, quote.signature),
        ("nodeclient.core.tpm.attest:verify_attest",),
        codec="bytes",
    )
    yield Target(
        "attest, altered",
        (quote.attest,),
        lambda data: holds(data, quote.signature),
        (FormatError,),
        only((quote.attest,)),
        ("nodeclient.core.tpm.attest:verify_attest",),
        codec="bytes",
    )
    yield from zymkey_targets()
    yield Target(
        "event log",
        (
            pcs.encode_log(pcs.honest_boot()),
            pcs.encode_log(pcs.honest_boot(), (pcs.SHA1, pcs.SHA256, pcs.SHA384)),
        ),
        parse_event_log,
        (FormatError,),
        lambda data, value: few(MAX_EVENTS, data, value),
        ("nodeclient.core.tpm.event_log:parse_event_log",),
        codec="bytes",
    )
    yield Target(
        "IMA list",
        (pcs.encode_ima([("boot_aggregate", b"\1" * 32), ("/usr/bin/x", b"\2" * 32)]), b""),
        parse_ima,
        (FormatError,),
        lambda data, value: few(MAX_ENTRIES, data, value),
        ("nodeclient.core.tpm.ima:parse_ima",),
        codec="bytes",
    )
    yield Target(
        "attestation key",
        (tpm.public,),
        parse_attestation_key,
        (FormatError,),
        lambda data, value: value.digest == pcs.sha(data),  # type: ignore[attr-defined]
        ("nodeclient.core.tpm.public:parse_attestation_key",),
        codec="bytes",
    )
    key, maker = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    public, root = ek_public(numbers(key)), certify(maker, maker, True)
    leaf = certify(key, maker, False)
    yield Target(
        "endorsement key",
        (public,),
        parse_endorsement_key,
        (FormatError,),
        lambda data, value: isinstance(value, ec.EllipticCurvePublicKey),
        ("nodeclient.core.tpm.public:parse_endorsement_key",),
        codec="bytes",
    )
    yield Target(
        "EK certificate",
        (leaf, root),
        lambda data: check_endorsement((data,), public, (root,)),
        (FormatError,),
        lambda data, _: signed_part(data) == signed_part(leaf),
        ("nodeclient.core.tpm.endorsement:check_endorsement",),
        codec="bytes",
    )
    yield Target(
        "certificate carried over an EK's",
        (root,),
        lambda data: believed_above((leaf, data), (root,)),
        (FormatError,),
        lambda data, value: value == (root,),  # it is believed, whatever else is carried
        ("nodeclient.core.tpm.endorsement:believed_above",),
        codec="bytes",
    )
    yield Target(
        "EK public area beside its certificate",
        (public,),
        lambda data: check_endorsement((leaf,), data, (root,)),
        (FormatError,),
        only((public,)),
        ("nodeclient.core.tpm.endorsement:check_endorsement",),
        codec="bytes",
    )


def _same_numbers(one: bytes, other: bytes) -> bool:
    """ECDSA is malleable in one way: s and the order less s. A quote is not named by its bytes."""
    r, s = (int.from_bytes(other[6:38], "big"), int.from_bytes(other[40:72], "big"))
    return r.to_bytes(32, "big").lstrip(b"\0") in one and any(
        each.to_bytes(32, "big").lstrip(b"\0") in one for each in (s, ORDER - s)
    )
