"""What a TPM root seals: a data key that only the TPM opens, and a ciphertext under it.

    version (1) ‖ PCR bitmap (3, bit n of byte n/8) ‖ size (2) ‖ TPM2B_PUBLIC ‖ size (2) ‖
    TPM2B_PRIVATE ‖ ChaCha20-Poly1305 ciphertext and tag (RFC 8439)

All before the ciphertext, and the label, are its associated data. A data key encrypts once, so the
nonce is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from agent.formats.cbor import FormatError
from agent.formats.quote import MAX_PUBLIC
from nodeclient.core.tpm.reader import Reader
from nodeclient.roots.tpm2.limits import MAX_PRIVATE

DATA_KEY = 32
_TAG = 16
_VERSION = 1
_DOMAIN = b"sealrun/tpm2-root/seal/v1:"
_NONCE = bytes(12)


@dataclass(frozen=True, slots=True)
class Sealed:
    """``public``, ``private``: the data key as the TPM gave it out, each with its length bytes."""

    pcrs: frozenset[int]
    public: bytes
    private: bytes
    ciphertext: bytes

    @classmethod
    def encrypt(
        cls,
        pcrs: frozenset[int],
        public: bytes,
        private: bytes,
        key: bytes,
        plain: bytes,
        label: str,
    ) -> Sealed:
        """Encrypt ``plain`` under the data key, which must never be used again."""
        head = cls(pcrs, public, private, b"")
        ciphertext = ChaCha20Poly1305(key).encrypt(_NONCE, plain, head._bound(label))
        return cls(pcrs, public, private, ciphertext)

    def decrypt(self, key: bytes, label: str) -> bytes:
        """Raises InvalidTag: another key, label or head, or bytes changed."""
        return ChaCha20Poly1305(key).decrypt(_NONCE, self.ciphertext, self._bound(label))

    def encode(self) -> bytes:
        """Bytes for `decode`."""
        return self._head() + self.ciphertext

    @classmethod
    def decode(cls, data: bytes) -> Sealed:
        """Parse. Raises FormatError."""
        reader = Reader(data, "big", "sealed bytes")
        reader.expect(1, _VERSION, "version")
        bitmap = int.from_bytes(reader.take(3), "little")
        public = reader.sized(2, MAX_PUBLIC)
        private = reader.sized(2, MAX_PRIVATE)
        ciphertext = data[reader.offset :]
        if len(ciphertext) < _TAG:
            raise FormatError("sealed bytes: end too early")
        pcrs = frozenset(number for number in range(24) if bitmap >> number & 1)
        return cls(pcrs, public, private, ciphertext)

    def _head(self) -> bytes:
        bitmap = sum(1 << number for number in self.pcrs).to_bytes(3, "little")
        parts = (len(part).to_bytes(2, "big") + part for part in (self.public, self.private))
        return bytes([_VERSION]) + bitmap + b"".join(parts)

    def _bound(self, label: str) -> bytes:
        return _DOMAIN + self._head() + label.encode()
