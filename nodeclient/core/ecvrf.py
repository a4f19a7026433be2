"""ECVRF with try-and-increment and SHA-256 (RFC 9381), generic over the curve. Pure.

Suites: `P256_TAI` is the RFC's ECVRF-P256-SHA256-TAI (octet 0x01), kept because the RFC has test
vectors for it; `SECP256K1_TAI` is the same construction on secp256k1 with the private suite
octet 0xFE, since the RFC registers none for that curve. The network uses the latter, and
`contracts/modules/ecvrf.vy` verifies it.

The secret scalar and the nonce are multiplied only by `curves.secret_multiple` and
`curves.secret_to_public` (constant time, in OpenSSL). What Python itself computes with them is
`s = k + c·x mod n` and the HMACs of the nonce; CPython's integers do not promise constant time,
but there is one such product per proof and no loop over secret bits.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from nodeclient.core.curves import (
    P256,
    SECP256K1,
    Curve,
    Point,
    compress,
    secret_multiple,
    secret_to_public,
)

PROOF_BYTES: Final = 33 + 16 + 32
_ENCODE, _CHALLENGE, _HASH = b"\x01", b"\x02", b"\x03"
_BACK: Final = b"\x00"


class EcvrfError(ValueError):
    """A key or proof that ECVRF refuses; the message names the part."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A cipher suite of RFC 9381 §5.5 with cLen = 16, ptLen = 33, cofactor 1."""

    octet: bytes
    curve: Curve


P256_TAI: Final = Suite(b"\x01", P256)
SECP256K1_TAI: Final = Suite(b"\xfe", SECP256K1)


@dataclass(frozen=True, slots=True)
class Proof:
    """A decoded proof string pi."""

    gamma: Point
    c: int
    s: int

    def encode(self) -> bytes:
        """pi_string of 81 bytes: Gamma (33), c (16), s (32)."""
        return compress(self.gamma) + self.c.to_bytes(16, "big") + self.s.to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class Encoded:
    """H of try-and-increment and the hashes that were rejected before it, as integers."""

    point: Point
    rejected: tuple[int, ...]


def decode_key(suite: Suite, public: bytes) -> Point:
    """string_to_point for a 33-byte compressed key.

    Raises:
        EcvrfError: no point of the curve. The order is prime and infinity has no compressed
            form, so this is also the key validation of RFC 9381 §5.4.5.
    """
    point = suite.curve.decompress(public[0], _integer(public[1:])) if len(public) == 33 else None
    if point is None:
        raise EcvrfError("ecvrf: key is no curve point; check the key in the registry")
    return point


def decode_proof(suite: Suite, proof: bytes) -> Proof:
    """ECVRF_decode_proof (RFC 9381 §5.4.4) of an 81-byte proof.

    Raises:
        EcvrfError: wrong length, Gamma off the curve, or s not below the order.
    """
    if len(proof) != PROOF_BYTES:
        raise EcvrfError(f"ecvrf: proof must be {PROOF_BYTES} bytes; ask for it again")
    gamma = suite.curve.decompress(proof[0], _integer(proof[1:33]))
    if gamma is None:
        raise EcvrfError("ecvrf: Gamma is no curve point; ask for the proof again")
    s = _integer(proof[49:])
    if s >= suite.curve.n:
        raise EcvrfError("ecvrf: s out of range; ask for the proof again")
    return Proof(gamma, _integer(proof[33:49]), s)


def encode_to_curve(suite: Suite, salt: bytes, alpha: bytes) -> Encoded:
    """ECVRF_encode_to_curve_try_and_increment (RFC 9381 §5.4.1.1).

    Args:
        salt: the compressed public key (33 bytes).
        alpha: the VRF input.

    Raises:
        EcvrfError: none of 256 counters gives a point (probability 2^-256).
    """
    rejected: list[int] = []
    for counter in range(256):
        digest = hashlib.sha256(
            suite.octet + _ENCODE + salt + alpha + bytes((counter,)) + _BACK
        ).digest()
        point = suite.curve.decompress(2, _integer(digest))
        if point is not None:
            return Encoded(point, tuple(rejected))
        rejected.append(_integer(digest))
    raise EcvrfError("ecvrf: no counter gives a point; use another alpha")


def public_key(suite: Suite, secret: bytes) -> bytes:
    """The compressed public key (33 bytes) of a 32-byte secret scalar.

    Raises:
        EcvrfError: the secret is not 32 bytes in [1, n).
    """
    return compress(secret_to_public(suite.curve, _secret(suite, secret)))


def prove(suite: Suite, secret: bytes, alpha: bytes) -> bytes:
    """ECVRF_prove (RFC 9381 §5.1): the 81-byte proof of the secret over `alpha`.

    Deterministic: the nonce is that of RFC 6979 over H (RFC 9381 §5.4.2.1).

    Raises:
        EcvrfError: the secret is not 32 bytes in [1, n).
    """
    curve, scalar = suite.curve, _secret(suite, secret)
    key = secret_to_public(curve, scalar)
    h = encode_to_curve(suite, compress(key), alpha).point
    gamma = secret_multiple(curve, scalar, h)
    nonce = _nonce(curve, secret, compress(h))
    u, v = secret_to_public(curve, nonce), secret_multiple(curve, nonce, h)
    c = challenge(suite, key, h, gamma, u, v)
    return Proof(gamma, c, (nonce + c * scalar) % curve.n).encode()


def verify(suite: Suite, public: bytes, alpha: bytes, proof: bytes) -> bytes:
    """ECVRF_verify (RFC 9381 §5.3): beta, the 32-byte VRF output.

    Raises:
        EcvrfError: malformed key or proof, or the proof does not hold.
    """
    curve, key, parsed = suite.curve, decode_key(suite, public), decode_proof(suite, proof)
    h = encode_to_curve(suite, public, alpha).point
    u = curve.combine((parsed.s, curve.generator), (-parsed.c, key))
    v = curve.combine((parsed.s, h), (-parsed.c, parsed.gamma))
    if u is None or v is None or challenge(suite, key, h, parsed.gamma, u, v) != parsed.c:
        raise EcvrfError("ecvrf: proof does not hold; check key and alpha")
    return _output(suite, parsed.gamma)


def proof_to_hash(suite: Suite, proof: bytes) -> bytes:
    """ECVRF_proof_to_hash (RFC 9381 §5.2): beta of a proof that is NOT verified here.

    Raises:
        EcvrfError: malformed proof.
    """
    return _output(suite, decode_proof(suite, proof).gamma)


def challenge(suite: Suite, *points: Point) -> int:
    """ECVRF_challenge_generation (RFC 9381 §5.4.3) over Y, H, Gamma, U, V: 128 bits."""
    joined = b"".join(map(compress, points))
    return _integer(hashlib.sha256(suite.octet + _CHALLENGE + joined + _BACK).digest()[:16])


def _output(suite: Suite, gamma: Point) -> bytes:
    return hashlib.sha256(suite.octet + _HASH + compress(gamma) + _BACK).digest()


def _integer(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _secret(suite: Suite, secret: bytes) -> int:
    if len(secret) != 32 or not 0 < _integer(secret) < suite.curve.n:
        raise EcvrfError("ecvrf: secret is no scalar of the curve; make a new VRF key")
    return _integer(secret)


def _nonce(curve: Curve, secret: bytes, message: bytes) -> int:
    """RFC 6979 §3.2 with HMAC-SHA-256; hash and order both have 256 bits."""
    digest = _integer(hashlib.sha256(message).digest()) % curve.n
    seed = secret + digest.to_bytes(32, "big")
    key, value = bytes(32), b"\x01" * 32
    for separator in (b"\x00", b"\x01"):
        key = hmac.digest(key, value + separator + seed, "sha256")
        value = hmac.digest(key, value, "sha256")
    while True:
        value = hmac.digest(key, value, "sha256")
        if 0 < _integer(value) < curve.n:
            return _integer(value)
        key = hmac.digest(key, value + b"\x00", "sha256")
        value = hmac.digest(key, value, "sha256")
