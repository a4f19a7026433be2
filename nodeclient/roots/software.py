"""A root of trust in software: for the `embedded` profile and tests, and named as simulated.

The key is an encrypted PKCS#8 file; the passphrase comes from a file of its own, both 0600, so that
it stands in no argument list and no environment. It protects a copied disk and a stray backup, not
a machine that somebody controls: a deployment refuses this class unless it says otherwise.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent.formats import cbor
from agent.formats.hashes import keccak256
from agent.formats.p256 import SigningKey
from nodeclient.core.roothealth import RootHealth
from nodeclient.core.types import RootClass
from nodeclient.files import FileRefused, read_private, write_new
from nodeclient.memory import Secret
from nodeclient.roots.base import RootError, UnsealError

KEY_FILE = "root.pem"
MIN_PASSPHRASE = 16  # bytes; PKCS#8's key derivation is too quick to stretch a short one
_SALT, _TAG = 32, 16
_SEAL = b"sealrun/software-root/seal/v1:"


class SoftwareRoot:
    """Implements `nodeclient.ports.Root` on a P-256 key in a file."""

    class_id = int(RootClass.SOFTWARE)
    simulated = True

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key: SigningKey | None = SigningKey(key)
        self._public = self._key.public
        self._secret = Secret(key.private_numbers().private_value.to_bytes(32, "big"))

    @classmethod
    def create(cls, folder: Path, passphrase_file: Path) -> SoftwareRoot:
        """Make the root key in `folder`, and the passphrase file too if it is not there yet.

        Raises RootError: a root exists already, or the passphrase is unfit. Nothing is replaced.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not passphrase_file.exists():
                write_new(passphrase_file, secrets.token_hex(32).encode() + b"\n")
            key = ec.generate_private_key(ec.SECP256R1())
            encrypted = key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(_passphrase(passphrase_file)),
            )
            write_new(folder / KEY_FILE, encrypted)
        except FileRefused as error:
            raise RootError(f"root: {error.message}", error.next_step) from error
        except OSError as error:
            raise RootError(f"root: {folder}: {error.strerror}", "check the folder") from error
        return cls(key)

    @classmethod
    def load(cls, folder: Path, passphrase_file: Path) -> SoftwareRoot:
        """Open the root key in `folder`. Raises RootError: missing, readable by others, wrong."""
        try:
            encrypted = read_private(folder / KEY_FILE)
            passphrase = _passphrase(passphrase_file)
        except FileRefused as error:
            raise RootError(f"root: {error.message}", error.next_step) from error
        try:
            key = serialization.load_pem_private_key(encrypted, passphrase)
        except (ValueError, TypeError) as error:
            raise RootError(
                f"root: {folder / KEY_FILE} does not open", "check the passphrase file"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise RootError(f"root: {folder / KEY_FILE} is no P-256 key", "restore the right file")
        return cls(key)

    def public_key(self) -> bytes:
        """X‖Y, 64 bytes."""
        return self._public

    def hardware_id(self) -> bytes:
        """32 bytes, one per key: there is no hardware to name."""
        return keccak256(b"sealrun/software-root/v1" + self._public)

    def sign(self, digest: bytes) -> bytes:
        """r‖s with low s over a 32-byte digest."""
        if self._key is None:
            raise _closed()
        return self._key.sign(digest)

    def random(self, size: int) -> bytes:
        """Bytes from the operating system's generator."""
        if self._key is None:
            raise _closed()
        return os.urandom(size)

    def seal(self, plain: bytes, label: str) -> bytes:
        """salt ‖ ciphertext. A key of its own for each call and label: no nonce can ever repeat."""
        salt = os.urandom(_SALT)
        return salt + self._cipher(salt, label).encrypt(bytes(12), plain, None)

    def unseal(self, sealed: bytes, label: str) -> bytes:
        """Open what `seal` made under the same label. Raises UnsealError."""
        salt, ciphertext = sealed[:_SALT], sealed[_SALT:]
        try:
            if len(ciphertext) < _TAG:
                raise InvalidTag
            return self._cipher(salt, label).decrypt(bytes(12), ciphertext, None)
        except InvalidTag as error:
            raise UnsealError(
                f"root: sealed bytes for {label!r} do not open", "restore them from a backup"
            ) from error

    def health(self) -> RootHealth:
        """As long as it is open: nothing can be pulled out, and nothing watches over it."""
        return RootHealth(self._key is not None, False, "software, simulated")

    def endorsement(self) -> bytes:
        """An empty map: nobody vouches for a file."""
        return cbor.encode({})

    def close(self) -> None:
        """Forget the key. OpenSSL clears its own copy when the object goes."""
        self._key = None
        self._secret.wipe()

    def _cipher(self, salt: bytes, label: str) -> ChaCha20Poly1305:
        if self._key is None:
            raise _closed()
        info = _SEAL + label.encode()
        key = HKDF(hashes.SHA256(), 32, salt, info).derive(self._secret.reveal())
        return ChaCha20Poly1305(key)


def _closed() -> RootError:
    return RootError("root: it was closed", "start the node again")


def _passphrase(path: Path) -> bytes:
    passphrase = read_private(path).strip()
    if len(passphrase) < MIN_PASSPHRASE:
        raise FileRefused(
            f"{path}: shorter than {MIN_PASSPHRASE} bytes", "write a longer passphrase"
        )
    return passphrase
