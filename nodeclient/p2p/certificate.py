"""The certificate a Node shows its peers: self-signed, timeless, naming the Node's address.

It carries no authority of its own: the registry's contact digest does. Its dates are the ones that
RFC 5280 4.1.2.5 reserves for "no defined expiration", because a Pi has no battery clock and because
what ends a certificate here is the registry (a new contact, an exit), never a calendar.
"""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from agent.formats.hashes import sha256
from nodeclient.p2p.errors import ContactInvalid

MAX_CERTIFICATE = 1024  # bytes; ours have about 300, and the record holds at most 2048
_UNREADABLE = (
    *(ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm),
    x509.InvalidVersion,  # no ValueError
)
TlsPrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
_BEGIN = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_END = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


def subject_of(node: bytes) -> x509.Name:
    """X.509 name of a node account (20 bytes): CN is 0x and 40 lower-case hex digits."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "0x" + node.hex())])


def build_certificate(key: TlsPrivateKey, node: bytes) -> bytes:
    """DER of the self-signed certificate of ``key`` (Ed25519 or P-256) for ``node``.

    With an Ed25519 key the bytes are a function of key and node; with P-256 the signature is
    randomised, so the certificate must be kept together with its key.
    """
    public = key.public_key()
    spki = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    # 19 bytes with the top bit clear: positive and within RFC 5280 4.1.2.2.
    serial = int.from_bytes(sha256(spki + node)[:19]) >> 1 or 1
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject_of(node))
        .issuer_name(subject_of(node))
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(_BEGIN)
        .not_valid_after(_END)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.DER)


def check_certificate(der: bytes, node: bytes) -> None:
    """Raise ContactInvalid unless ``der`` is a certificate that only ``node`` can mean.

    Self-signature: the publisher held the key. Subject: a copy of it under another address is
    void. ``ca=False``: it cannot vouch for further certificates in OpenSSL's trust store.
    """
    if len(der) > MAX_CERTIFICATE:
        raise ContactInvalid(
            f"contact: certificate exceeds {MAX_CERTIFICATE} bytes", "make it anew"
        )
    try:
        certificate = x509.load_der_x509_certificate(der)
        public = certificate.public_key()
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(certificate)
    except _UNREADABLE as error:
        raise ContactInvalid("contact: certificate does not verify", "make a new one") from error
    except (x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise ContactInvalid("contact: certificate has no CA:FALSE", "make a new one") from error
    supported = isinstance(public, ed25519.Ed25519PublicKey) or (
        isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1)
    )
    if not supported or constraints.ca:
        raise ContactInvalid(
            "contact: certificate must be a leaf with an Ed25519 or P-256 key", "make a new one"
        )
    if certificate.subject != subject_of(node):
        raise ContactInvalid("contact: certificate names another node", "make one for this address")
