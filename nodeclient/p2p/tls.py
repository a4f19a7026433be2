"""TLS 1.3 only, both sides with certificates, each tied to one Node.

Server: OpenSSL trusts exactly the certificates in ``TrustFolder`` and finds them by subject when
a client shows one, so memory does not grow with the network. An unknown certificate fails the
handshake. Session tickets are off, since a resumed session would skip that check.

Client: one context per contact that trusts that one certificate and nothing else, so the endpoint
of A can never be answered by B although both are known.

Both sides compare the exact DER bytes besides (``peer_certificate``).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from nodeclient.p2p.certificate import TlsPrivateKey, build_certificate, subject_of
from nodeclient.p2p.contact import Contact
from nodeclient.p2p.errors import ContactInvalid


@dataclass(frozen=True, slots=True, repr=False)  # repr would show the key
class TlsIdentity:
    """A Node's TLS key and its certificate (DER)."""

    key: TlsPrivateKey
    certificate: bytes

    @classmethod
    def from_der(cls, key: bytes, certificate: bytes) -> TlsIdentity:
        """Identity out of the key bundle: PKCS#8 DER without password, and certificate DER.

        Raises ContactInvalid for a key of another kind than certificates here may have.
        """
        private = serialization.load_der_private_key(key, None)
        if not isinstance(private, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
            raise ContactInvalid("tls: key is neither Ed25519 nor P-256", "make the keys anew")
        return cls(private, certificate)

    @classmethod
    def create(cls, key: TlsPrivateKey, node: bytes) -> TlsIdentity:
        """Identity of ``node`` (20 bytes) with a fresh certificate for ``key``."""
        return cls(key, build_certificate(key, node))


class TrustFolder:
    """The peers' certificates as OpenSSL's hashed directory (public data, one file each).

    Give it an empty folder of its own: files are named by the subject's hash. ``version`` grows
    with every change; a context of an older version may have cached a certificate since removed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = 0
        self._twins: dict[str, list[bytes]] = {}  # subject hash -> nodes, by file number

    def clear(self) -> None:
        """Remove what an earlier process left: trust comes from the chain, not from disk."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            if re.fullmatch(r"[0-9a-f]{8}\.[0-9]+", path.name):
                path.unlink()
        self._twins.clear()
        self.version += 1

    def change(self, node: bytes, before: bytes | None, after: bytes | None) -> None:
        """Listener for ``Directory.subscribe``."""
        self.version += 1
        if before is not None:
            self._remove(node)
        if after is not None:
            self._add(node, after)

    def _add(self, node: bytes, certificate: bytes) -> None:
        twins = self._twins.setdefault(subject_hash(node), [])
        twins.append(node)
        self._path(node, len(twins) - 1).write_text(ssl.DER_cert_to_PEM_cert(certificate))

    def _remove(self, node: bytes) -> None:
        # OpenSSL stops looking at the first missing number: the last twin takes the free one.
        twins = self._twins[subject_hash(node)]
        place, last = twins.index(node), len(twins) - 1
        self._path(node, last).replace(self._path(node, place))
        twins[place] = twins[last]
        twins.pop()
        if place == last:
            self._path(node, place).unlink()
        if not twins:
            del self._twins[subject_hash(node)]

    def _path(self, node: bytes, number: int) -> Path:
        return self.folder / f"{subject_hash(node)}.{number}"


def subject_hash(node: bytes) -> str:
    """OpenSSL's X509_NAME_hash of our subject: SHA-1 of the canonical name, first 4 bytes LE.

    The canonical form is the name's content without its outer SEQUENCE, lower-case UTF8String:
    cryptography writes just that for our names. An index, not a security property.
    """
    name = subject_of(node).public_bytes()
    digest = hashlib.sha1(name[2:], usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


def server_context(identity: TlsIdentity, trusted: Path) -> ssl.SSLContext:
    """Context that accepts only clients whose certificate lies in the folder ``trusted``."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, identity)
    context.load_verify_locations(capath=str(trusted))
    context.num_tickets = 0
    return context


def client_context(identity: TlsIdentity, contact: Contact) -> ssl.SSLContext:
    """Context that accepts only the server whose certificate stands in ``contact``."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, identity)
    context.load_verify_locations(cadata=contact.certificate)
    return context


def peer_certificate(transport: asyncio.BaseTransport | None) -> bytes | None:
    """DER certificate that the other side proved to hold in the handshake."""
    link = transport.get_extra_info("ssl_object") if transport is not None else None
    return link.getpeercert(binary_form=True) if link is not None else None


def _context(side: int, identity: TlsIdentity) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.check_hostname = False  # the pin names the peer; endpoints are mere addresses
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
    _load_key(context, identity)
    return context


def _load_key(context: ssl.SSLContext, identity: TlsIdentity) -> None:
    """Hand key and certificate to OpenSSL, which takes only paths, without touching a disk."""
    pem = (
        identity.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + ssl.DER_cert_to_PEM_cert(identity.certificate).encode()
    )
    handle = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(handle, pem)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
