"""Which EK certificates are believed: those of a trusted maker, for exactly this key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from agent.formats.cbor import FormatError
from nodeclient.core.tpm.endorsement import EndorsementError, check_endorsement
from nodeclient.core.tpm.public import parse_endorsement_key
from nodeclient.core.tpm.reader import TpmError
from tests.core.ek_builder import (
    EK_USAGE,
    Authority,
    authority,
    certify,
    der,
    ek_public,
    key_usage,
    rsa_key,
)

ROOT = authority("root")
MAKER = authority("maker", ROOT, length=0)
EK = rsa_key().public_key()
ECC_EK = ec.generate_private_key(ec.SECP256R1()).public_key()


def leaf(issuer: Authority = MAKER, public: Any = EK, *extensions: x509.ExtensionType) -> bytes:
    return der(certify(public, "tpm", issuer, *extensions))


def test_endorsement__chain_to_a_trusted_root__gives_the_key() -> None:
    assert check_endorsement([leaf(), MAKER.der], ek_public(EK), [ROOT.der]) == EK
    assert check_endorsement([leaf(public=ECC_EK), MAKER.der], ek_public(ECC_EK), [ROOT.der])


def test_endorsement__trusted_intermediate_or_the_certificate_itself__enough() -> None:
    check_endorsement([leaf()], ek_public(EK), [MAKER.der])
    check_endorsement([leaf(), MAKER.der], ek_public(EK), [MAKER.der])
    certificate = leaf()
    check_endorsement([certificate], ek_public(EK), [certificate])


def test_endorsement__root_sent_along__accepted_only_if_trusted() -> None:
    chain = [leaf(), MAKER.der, ROOT.der]
    check_endorsement(chain, ek_public(EK), [ROOT.der])
    with pytest.raises(EndorsementError, match="not trusted"):
        check_endorsement(chain, ek_public(EK), [authority("root").der])


def test_endorsement__as_the_profile_wants__accepted() -> None:
    usages = x509.ExtendedKeyUsage([EK_USAGE])
    certificate = leaf(
        MAKER, EK, x509.BasicConstraints(False, None), usages, key_usage(key_encipherment=True)
    )
    check_endorsement([certificate, MAKER.der], ek_public(EK), [ROOT.der])


def test_endorsement__no_roots__nobody_is_trusted() -> None:
    with pytest.raises(EndorsementError, match="not trusted"):
        check_endorsement([leaf(), MAKER.der], ek_public(EK), [])


def weak() -> Authority:
    return authority("weak", key=rsa_key(1024))


def signs_no_certificates() -> Authority:
    return authority("maker", ROOT, usage=key_usage(crl_sign=True))


BROKEN: dict[str, tuple[Callable[[], list[bytes]], Callable[[], list[bytes]], str]] = {
    "no certificate": (lambda: [], lambda: [ROOT.der], "1 to 8"),
    "too many": (lambda: [leaf()] * 9, lambda: [ROOT.der], "1 to 8"),
    "too many roots": (lambda: [leaf()], lambda: [ROOT.der] * 257, "257 roots"),
    "of another key": (
        lambda: [leaf(public=rsa_key(2048, 1).public_key()), MAKER.der],
        lambda: [ROOT.der],
        "another endorsement key",
    ),
    "maker left out": (lambda: [leaf()], lambda: [ROOT.der], "not trusted"),
    "maker's namesake": (
        lambda: [leaf(authority("maker", ROOT)), MAKER.der], lambda: [ROOT.der], "by the next one",
    ),
    "signed by one that is no authority": (
        lambda: [leaf(end := authority("end", ROOT, ca=False)), end.der],
        lambda: [ROOT.der],
        "by the next one",
    ),
    "trusted one is no authority": (
        lambda: [leaf(NO_AUTHORITY)], lambda: [NO_AUTHORITY.der], "not trusted",
    ),
    "longer than the maker may": (
        lambda: [leaf(below := authority("below", MAKER)), below.der, MAKER.der],
        lambda: [ROOT.der],
        "by the next one",
    ),
    "maker that may not sign": (
        lambda: [leaf(SIGNS_NOTHING), SIGNS_NOTHING.der], lambda: [ROOT.der], "by the next one",
    ),
    "short maker's key": (lambda: [leaf(WEAK)], lambda: [WEAK.der], "not trusted"),
    "for web servers": (
        lambda: [
            leaf(MAKER, EK, x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH])),
            MAKER.der,
        ],
        lambda: [ROOT.der],
        "not one for endorsement keys",
    ),
    "for signing": (
        lambda: [leaf(MAKER, EK, key_usage(digital_signature=True)), MAKER.der],
        lambda: [ROOT.der],
        "does not permit encryption",
    ),
    "an authority's own": (
        lambda: [leaf(MAKER, EK, x509.BasicConstraints(True, None)), MAKER.der],
        lambda: [ROOT.der],
        "that of an authority",
    ),
    "no certificate at all": (lambda: [b"\x30\x00"], lambda: [ROOT.der], "does not parse"),
    "oversized": (lambda: [leaf() + bytes(4096)], lambda: [ROOT.der], "exceeds"),
}  # fmt: skip
NO_AUTHORITY = authority("end", ca=False)
SIGNS_NOTHING = signs_no_certificates()
WEAK = weak()


@pytest.mark.parametrize("what", BROKEN)
def test_endorsement__broken__refused_for_that_reason(what: str) -> None:
    chain, roots, text = BROKEN[what]
    with pytest.raises(EndorsementError, match=text):
        check_endorsement(chain(), ek_public(EK), roots())


def test_endorsement__weak_hash__not_believed() -> None:
    """SHA-224 stands for all that are not on the list: the library signs with nothing weaker."""
    certificate = der(certify(EK, "tpm", MAKER, digest=hashes.SHA224()))
    with pytest.raises(EndorsementError, match="by the next one"):
        check_endorsement([certificate, MAKER.der], ek_public(EK), [ROOT.der])


@pytest.mark.parametrize(
    "public",
    [
        ek_public(EK, attributes=0x300B0),  # can be moved out
        ek_public(EK, attributes=0x200B2),  # not restricted: it decrypts anything for anybody
        ek_public(EK, attributes=0x700B2),  # signs as well
        ek_public(EK, policy=bytes(32)),
        ek_public(EK)[:-1],
        ek_public(EK) + b"\0",
        b"\x00\x08" + ek_public(EK)[2:],
        ek_public(rsa_key(1024).public_key()),
        ek_public(EK)[:-256] + bytes(256),
        ek_public(ECC_EK)[:-32] + bytes(32),
        b"",
    ],
)
def test_endorsement_key__not_after_the_templates__refused(public: bytes) -> None:
    with pytest.raises(TpmError):
        parse_endorsement_key(public)


def test_endorsement_error__is_a_format_error() -> None:
    assert issubclass(EndorsementError, FormatError)
