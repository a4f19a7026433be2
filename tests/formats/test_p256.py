"""P-256: one spelling per signature, and an RFC 6979 vector that others made."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.formats import p256
from agent.formats.cbor import FormatError
from agent.formats.hashes import sha256

DIGEST = sha256(b"sample")
# RFC 6979, A.2.5: key, and the signature of "sample" with SHA-256 (its s is high)
PUBLIC = bytes.fromhex(
    "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
)
R = bytes.fromhex("efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716")
S = int("f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8", 16)
LOW_S = (p256.ORDER - S).to_bytes(32, "big")


def test_verify__rfc6979_signature_with_low_s__holds():
    assert p256.verify(PUBLIC, DIGEST, R + LOW_S)


def test_verify__same_signature_with_high_s__refused():
    assert not p256.verify(PUBLIC, DIGEST, R + S.to_bytes(32, "big"))


def test_sign__many_times__always_low_s_and_verifies():
    key = p256.SigningKey.generate()
    for _ in range(20):
        signature = key.sign(DIGEST)
        assert int.from_bytes(signature[32:], "big") <= p256.ORDER // 2
        assert p256.verify(key.public, DIGEST, signature)
        assert not p256.verify(key.public, sha256(b"other"), signature)


@pytest.mark.parametrize(
    ("public", "digest", "signature"),
    [
        (PUBLIC[:-1], DIGEST, R + LOW_S),
        (bytes(64), DIGEST, R + LOW_S),
        (PUBLIC[:-1] + b"\x00", DIGEST, R + LOW_S),
        (PUBLIC, DIGEST[:-1], R + LOW_S),
        (PUBLIC, DIGEST, R + LOW_S[:-1]),
        (PUBLIC, DIGEST, bytes(32) + LOW_S),
        (PUBLIC, DIGEST, R + bytes(32)),
        (PUBLIC, DIGEST, b"\xff" * 32 + LOW_S),
    ],
)
def test_verify__malformed_argument__is_a_plain_no(public, digest, signature):
    assert not p256.verify(public, digest, signature)


def test_signing_key__other_curve_or_digest_size__refused():
    with pytest.raises(FormatError):
        p256.SigningKey(ec.generate_private_key(ec.SECP256K1()))
    with pytest.raises(FormatError):
        p256.SigningKey.generate().sign(b"short")
