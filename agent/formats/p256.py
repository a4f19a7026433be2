"""ECDSA over P-256 on ready digests, in the shapes of the hardware roots and of the contracts.

Public keys are X‖Y (64 bytes), signatures r‖s (64 bytes) with s in the lower half: a signature has
one spelling, here as on chain. Source: FIPS 186-5, SEC 1.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from agent.formats.cbor import FormatError

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SHA256 = ec.ECDSA(Prehashed(hashes.SHA256()))


class SigningKey:
    """A P-256 private key held in memory: session keys and software roots."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        if not isinstance(key.curve, ec.SECP256R1):
            raise FormatError("p256: the key is on another curve; make a P-256 key")
        self._key = key
        self.public = public_bytes(key.public_key())

    @classmethod
    def generate(cls) -> SigningKey:
        """A fresh key from the operating system's generator."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    def sign(self, digest: bytes) -> bytes:
        """r‖s with low s over a 32-byte digest."""
        if len(digest) != 32:
            raise FormatError(f"p256: a digest has 32 bytes, not {len(digest)}")
        r, s = decode_dss_signature(self._key.sign(digest, _SHA256))
        return r.to_bytes(32, "big") + min(s, ORDER - s).to_bytes(32, "big")


def public_bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    """X‖Y of a public key, 64 bytes."""
    point = key.public_numbers()
    return point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")


def verify(public: bytes, digest: bytes, signature: bytes) -> bool:
    """Whether r‖s is the low-s signature by X‖Y over this 32-byte digest. Never raises."""
    if len(public) != 64 or len(digest) != 32 or len(signature) != 64:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if not (0 < r < ORDER and 0 < s <= ORDER // 2):
        return False
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + public)
        key.verify(encode_dss_signature(r, s), digest, _SHA256)
    except (InvalidSignature, ValueError):
        return False
    return True
