"""How the cable between Agent and Pi is secured: the handshake that both ends must agree on.

TLS 1.3 with a certificate per boot on either side. The Agent pins the Pi's certificate, whose
digest came with the boot parameters. The Pi cannot know the Agent's before: the Agent sends it in
clear as a preamble, the Pi makes it the one trust anchor of this connection's handshake (so TLS
itself proves possession of its key), and `hello` then shows by HMAC that its sender has the boot
secret. This protects the cable and proves nothing to an owner: the session key does that.
"""

from __future__ import annotations

import hmac
import os
import ssl
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.formats.hashes import sha256

HELLO = "hello"
BEAT = "beat"
MAX_CERTIFICATE = 2048  # bytes of DER; ours have about 400
PREAMBLE = 2  # bytes that give the certificate's length, big-endian
_VALID = timedelta(days=30)  # longer than the longest task; a boot's certificate dies with it


def new_certificate(name: str) -> tuple[bytes, bytes]:
    """A fresh self-signed P-256 certificate and its key: (DER, PKCS#8 DER, unencrypted)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # a diskless PC's clock may be behind
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.DER),
        key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def tls_context(
    *, server: bool, certificate: bytes, key: bytes, peer: bytes | None, alpn: str = ""
) -> ssl.SSLContext:
    """TLS 1.3 only; `peer` (DER) is the single certificate that is accepted from the other side.

    alpn: what the connection is for, where it is not the channel; a server names what it knows.

    The Agent knows its peer by digest alone: it gives None and compares after the handshake.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # there are no names on this cable, only pinned certificates
    if server:
        context.num_tickets = 0  # no resumption: each connection proves its keys anew
    if peer is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=peer)
        context.verify_mode = ssl.CERT_REQUIRED
    if alpn:
        context.set_alpn_protocols([alpn])
    _load_chain(context, certificate, key)
    return context


def _load_chain(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Python's ssl loads keys from files only: an anonymous one in memory has no name to find."""
    private = serialization.load_der_private_key(key, None)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem += x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM)
    handle = os.memfd_create("sealrun", os.MFD_CLOEXEC)
    try:
        os.write(handle, pem)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


def hello_mac(
    boot_secret: bytes, agent_certificate: bytes, pi_certificate: bytes, session_keys: bytes
) -> bytes:
    """HMAC-SHA256 that binds boot secret, both certificates (DER) and the session's public keys."""
    message = b"sealrun/hello/v1" + sha256(agent_certificate) + sha256(pi_certificate)
    return hmac.digest(boot_secret, message + sha256(session_keys), "sha256")


def same(one: bytes, other: bytes) -> bool:
    """Compare secrets in constant time."""
    return hmac.compare_digest(one, other)
