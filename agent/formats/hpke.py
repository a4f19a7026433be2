"""HPKE base mode (RFC 9180): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305.

Suite ids 0x0020, 0x0001, 0x0003; single shot. Keys are raw X25519 bytes (RFC 7748), a sealed
message is enc (32 bytes) ‖ ciphertext ‖ tag (16 bytes).

`cryptography` has HPKE, but its public interface takes no `aad`; its primitives and RFC 9180,
§4-5, give the whole in forty lines that the RFC's own vectors check.
"""

from __future__ import annotations

import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from agent.formats.cbor import FormatError

_KEM_SUITE = b"KEM" + struct.pack(">H", 0x0020)
_SUITE = b"HPKE" + struct.pack(">HHH", 0x0020, 0x0001, 0x0003)
_MODE_BASE = b"\x00"
ENC, TAG = 32, 16
OVERHEAD = ENC + TAG  # bytes that sealing adds


class OpenError(FormatError):
    """A sealed message that this key, `info` and `aad` do not open."""


def generate() -> tuple[bytes, bytes]:
    """A fresh key pair: (private 32 bytes, public 32 bytes)."""
    key = X25519PrivateKey.generate()
    return key.private_bytes_raw(), key.public_key().public_bytes_raw()


def public_of(private: bytes) -> bytes:
    """The public key (32 bytes) of a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def seal(public: bytes, info: bytes, plaintext: bytes, aad: bytes = b"") -> bytes:
    """Seal to a public key: enc ‖ ciphertext. Raises FormatError for a key of low order."""
    return _seal_with(X25519PrivateKey.generate(), public, info, plaintext, aad)


def open(private: bytes, info: bytes, sealed: bytes, aad: bytes = b"") -> bytes:
    """Open enc ‖ ciphertext. Raises OpenError, without saying why, if anything is not as sealed."""
    if len(sealed) < OVERHEAD:
        raise OpenError("hpke: too short to be a sealed message; ask for it again")
    enc, ciphertext = sealed[:ENC], sealed[ENC:]
    try:
        own = X25519PrivateKey.from_private_bytes(private)
        shared = own.exchange(X25519PublicKey.from_public_bytes(enc))
        context = enc + own.public_key().public_bytes_raw()
        key, nonce = _schedule(_shared_secret(shared, context), info)
        return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, aad)
    except (InvalidTag, ValueError) as error:
        raise OpenError("hpke: does not open; it was sealed to another key or context") from error


def _seal_with(
    ephemeral: X25519PrivateKey, public: bytes, info: bytes, plaintext: bytes, aad: bytes
) -> bytes:
    """§6.1 SealBase with a given ephemeral key (tests only give one that is not fresh)."""
    enc = ephemeral.public_key().public_bytes_raw()
    try:
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:  # wrong size, or an all-zero secret (§7.1.4)
        raise FormatError("hpke: not a usable X25519 public key; ask for another") from error
    key, nonce = _schedule(_shared_secret(shared, enc + public), info)
    return enc + ChaCha20Poly1305(key).encrypt(nonce, plaintext, aad)


def _shared_secret(shared: bytes, context: bytes) -> bytes:
    """§4.1 ExtractAndExpand."""
    prk = _extract(b"", _KEM_SUITE, b"eae_prk", shared)
    return _expand(prk, _KEM_SUITE, b"shared_secret", context, 32)


def _schedule(secret: bytes, info: bytes) -> tuple[bytes, bytes]:
    """§5.1 KeySchedule in base mode: (key, nonce of sequence number 0)."""
    psk_id_hash = _extract(b"", _SUITE, b"psk_id_hash", b"")
    info_hash = _extract(b"", _SUITE, b"info_hash", info)
    context = _MODE_BASE + psk_id_hash + info_hash
    prk = _extract(secret, _SUITE, b"secret", b"")
    key = _expand(prk, _SUITE, b"key", context, 32)
    return key, _expand(prk, _SUITE, b"base_nonce", context, 12)


def _extract(salt: bytes, suite: bytes, label: bytes, ikm: bytes) -> bytes:
    """§4 LabeledExtract; an empty salt is HMAC's all-zero key (RFC 5869, §2.2)."""
    mac = hmac.HMAC(salt or bytes(32), hashes.SHA256())
    mac.update(b"HPKE-v1" + suite + label + ikm)
    return mac.finalize()


def _expand(prk: bytes, suite: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """§4 LabeledExpand."""
    labeled = struct.pack(">H", length) + b"HPKE-v1" + suite + label + info
    return HKDFExpand(hashes.SHA256(), length, labeled).derive(prk)
