"""Makers of TPMs that do not exist: authorities, EK certificates, and public areas to match."""

from __future__ import annotations

import datetime
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from agent.formats.p256 import public_bytes
from tests.core.tpm_builder import sized

EK_USAGE = x509.ObjectIdentifier("2.23.133.8.1")
POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
BEGIN, END = datetime.datetime(2001, 1, 1), datetime.datetime(2002, 1, 1)  # long over


@lru_cache
def rsa_key(bits: int = 2048, number: int = 0) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def ek_public(key: Any, attributes: int = 0x300B2, policy: bytes = POLICY) -> bytes:
    """TPMT_PUBLIC of an endorsement key after the standard templates."""
    kind = 0x1 if isinstance(key, rsa.RSAPublicKey) else 0x23
    head = struct.pack(">HHI", kind, 0xB, attributes) + sized(policy)
    head += struct.pack(">HHHH", 6, 128, 0x43, 0x10)
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return (
            head
            + struct.pack(">HI", key.key_size, 0)
            + sized(numbers.n.to_bytes(key.key_size // 8, "big"))
        )
    point = public_bytes(key)
    return head + struct.pack(">HH", 3, 0x10) + sized(point[:32]) + sized(point[32:])


@dataclass
class Authority:
    """A certificate that may sign others."""

    certificate: x509.Certificate
    key: Any

    @property
    def der(self) -> bytes:
        return der(self.certificate)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def certify(
    public: Any,
    subject: str,
    issuer: Authority | None,
    *extensions: x509.ExtensionType,
    key: Any = None,
    digest: Any = None,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(subject) if issuer is None else issuer.certificate.subject)
        .public_key(public)
        .serial_number(7)
        .not_valid_before(BEGIN)
        .not_valid_after(END)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key if issuer is None else issuer.key, digest or hashes.SHA256())


def authority(
    subject: str, issuer: Authority | None = None, *, ca: bool = True, length: int | None = None,
    key: Any = None, usage: x509.KeyUsage | None = None, digest: Any = None,
) -> Authority:  # fmt: skip
    key = key or ec.generate_private_key(ec.SECP384R1())
    extensions: list[x509.ExtensionType] = [x509.BasicConstraints(ca, length)]
    if usage is not None:
        extensions.append(usage)
    return Authority(
        certify(key.public_key(), subject, issuer, *extensions, key=key, digest=digest), key
    )


def key_usage(**given: bool) -> x509.KeyUsage:
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{each: given.get(each, False) for each in names})
