"""The Node's own keys: account, VRF, HPKE and TLS, in one file that only its root can open.

The root key itself is not among them: it stays in the root. `keys.sealed` is CBOR, sealed under one
label; in memory the secrets show in no repr.
"""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime
from pathlib import Path

from coincurve import PrivateKey
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.formats import cbor, hpke
from agent.formats.cbor import FormatError
from agent.formats.hashes import keccak256, sha256
from agent.formats.shape import as_bytes, as_int, as_map
from nodeclient.errors import SealrunError
from nodeclient.files import FileRefused, read_private, write_new
from nodeclient.memory import Secret
from nodeclient.ports import Root
from nodeclient.roots.base import RootError

KEYS_FILE = "keys.sealed"
_LABEL = "node-keys"
_VERSION = 1
_SECRET = ("account", "vrf", "hpke_private", "tls_key")
_MAX = 64 * 1024  # bytes
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141  # of secp256k1
# Peers pin the exact certificate through the chain, so its dates decide nothing; and a Pi boots
# without a clock. RFC 5280, §4.1.2.5: the end that means "no well-defined expiration".
_NOT_BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
_NOT_AFTER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


class KeysError(SealrunError):
    """The key bundle is missing, exists already or is not what it must be."""


class NodeKeys:
    """Secret keys: two secp256k1 scalars, a raw X25519 key (32 bytes each), TLS key as PKCS#8.

    They live on locked pages (`nodeclient.memory`) until ``wipe``. Each property gives a copy for
    one use: keep none. ``tls_certificate`` (DER, self-signed) is what peers pin.
    """

    def __init__(
        self,
        account: bytes,
        vrf: bytes,
        hpke_private: bytes,
        tls_key: bytes,
        tls_certificate: bytes,
    ) -> None:
        secrets = (account, vrf, hpke_private, tls_key)
        self._secrets = {name: Secret(key) for name, key in zip(_SECRET, secrets, strict=True)}
        self.tls_certificate = tls_certificate
        self.address = _address(account)
        """The Node's account, 20 bytes."""
        self.vrf_public = PrivateKey(vrf).public_key.format(compressed=True)
        """The VRF key's point, SEC 1 compressed, 33 bytes."""
        self.hpke_public = hpke.public_of(hpke_private)
        """Raw X25519 public key, 32 bytes."""

    @property
    def account(self) -> bytes:
        """The account's key. Raises Wiped, as all four."""
        return self._secrets["account"].reveal()

    @property
    def vrf(self) -> bytes:
        """The VRF key."""
        return self._secrets["vrf"].reveal()

    @property
    def hpke_private(self) -> bytes:
        """The key to which peers and Machines seal."""
        return self._secrets["hpke_private"].reveal()

    @property
    def tls_key(self) -> bytes:
        """The key of ``tls_certificate``."""
        return self._secrets["tls_key"].reveal()

    def wipe(self) -> None:
        """Overwrite all four. Harmless twice."""
        for secret in self._secrets.values():
            secret.wipe()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NodeKeys):
            return NotImplemented
        return self._secrets == other._secrets and self.tls_certificate == other.tls_certificate

    __hash__ = None  # type: ignore[assignment]  # a hash of secrets would speak of them

    def __repr__(self) -> str:
        return f"NodeKeys(0x{self.address.hex()})"

    @classmethod
    def generate(cls, root: Root) -> NodeKeys:
        """Fresh keys from the root's generator and the operating system's, mixed."""
        account = _scalar(root)
        key, certificate = _tls(_address(account))
        # X25519 takes any 32 bytes (RFC 7748, §5)
        return cls(account, _scalar(root), _random(root), key, certificate)

    @classmethod
    def create(cls, root: Root, folder: Path) -> NodeKeys:
        """Generate and store. Raises KeysError if the folder has keys already."""
        keys = cls.generate(root)
        try:
            write_new(folder / KEYS_FILE, root.seal(keys._encode(), _LABEL))
        except FileRefused as error:
            raise KeysError(f"keys: {error.message}", error.next_step) from error
        except OSError as error:
            raise KeysError(f"keys: {folder}: {error.strerror}", "check the folder") from error
        return keys

    @classmethod
    def load(cls, root: Root, folder: Path) -> NodeKeys:
        """Open the bundle. Raises KeysError: missing, readable by others, or another root's."""
        try:
            return cls._decode(root.unseal(read_private(folder / KEYS_FILE), _LABEL))
        except (FileRefused, RootError) as error:
            raise KeysError(f"keys: {error.message}", error.next_step) from error
        except FormatError as error:
            raise KeysError(f"keys: {error}", "restore the file from a backup") from error

    def load_into(self, context: ssl.SSLContext) -> None:
        """Give key and certificate to a TLS context. The ssl module reads files only: these live
        in memory (memfd), so the key in clear never meets a disk."""
        key = serialization.load_der_private_key(self.tls_key, None)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        pem += ssl.DER_cert_to_PEM_cert(self.tls_certificate).encode()
        handle = os.memfd_create("tls", os.MFD_CLOEXEC)
        try:
            os.write(handle, pem)
            context.load_cert_chain(f"/proc/self/fd/{handle}")
        finally:
            os.close(handle)

    def _encode(self) -> bytes:
        secrets = {name: secret.reveal() for name, secret in self._secrets.items()}
        bundle = {"version": _VERSION, **secrets, "tls_certificate": self.tls_certificate}
        return cbor.encode(bundle)

    @classmethod
    def _decode(cls, data: bytes) -> NodeKeys:
        names = [*_SECRET, "tls_certificate"]
        bundle = as_map(cbor.decode(data, _MAX), ["version", *names], "key bundle")
        as_int(bundle["version"], _VERSION, _VERSION, "key bundle version")
        secret = {name: as_bytes(bundle[name], 32, name) for name in names[:3]}
        tls = {name: as_bytes(bundle[name], 1, name, 8192) for name in names[3:]}
        return cls(**secret, **tls)


def _random(root: Root) -> bytes:
    """32 bytes that are good if either of the two generators is."""
    return sha256(root.random(32) + os.urandom(32))


def _scalar(root: Root) -> bytes:
    """A secp256k1 private key, uniform over 1..order-1."""
    while True:
        candidate = _random(root)
        if 0 < int.from_bytes(candidate, "big") < _ORDER:
            return candidate


def _address(account: bytes) -> bytes:
    """keccak256 of the uncompressed point without its 0x04, last 20 bytes (Yellow Paper, F)."""
    return keccak256(PrivateKey(account).public_key.format(compressed=False)[1:])[12:]


def _tls(address: bytes) -> tuple[bytes, bytes]:
    """A P-256 key (PKCS#8 DER) and its self-signed certificate (DER) for both sides of TLS."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "0x" + address.hex())])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private, certificate.public_bytes(serialization.Encoding.DER)
