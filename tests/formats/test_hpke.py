"""HPKE: RFC 9180's own vectors for this suite, a second implementation, and what does not open."""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from agent.formats import hpke
from agent.formats.cbor import FormatError

# RFC 9180, appendix A.2.1: mode base, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305
INFO = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
SK_E = bytes.fromhex("f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600")
ENC = bytes.fromhex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a")
SK_R = bytes.fromhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb")
PK_R = bytes.fromhex("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a")
SHARED = bytes.fromhex("0bbe78490412b4bbea4812666f7916932b828bba79942424abb65244930d69a7")
KEY = bytes.fromhex("ad2744de8e17f4ebba575b3f5f5a8fa1f69c2a07f6e7500bc60ca6e3e3ec1c91")
BASE_NONCE = bytes.fromhex("5c4d98150661b848853b547f")
AAD = bytes.fromhex("436f756e742d30")
PLAIN = bytes.fromhex("4265617574792069732074727574682c20747275746820626561757479")
CIPHER = bytes.fromhex(
    "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"
)


def test_seal__rfc9180_a2_ephemeral_key__gives_the_published_bytes():
    ephemeral = X25519PrivateKey.from_private_bytes(SK_E)
    assert hpke._seal_with(ephemeral, PK_R, INFO, PLAIN, AAD) == ENC + CIPHER


def test_open__rfc9180_a2_ciphertext__gives_the_published_plaintext():
    assert hpke.open(SK_R, INFO, ENC + CIPHER, AAD) == PLAIN
    assert hpke.public_of(SK_R) == PK_R


def test_key_schedule__rfc9180_a2_intermediate_values__match():
    dh = X25519PrivateKey.from_private_bytes(SK_R).exchange(X25519PublicKey.from_public_bytes(ENC))
    assert hpke._shared_secret(dh, ENC + PK_R) == SHARED
    assert hpke._schedule(SHARED, INFO) == (KEY, BASE_NONCE)


def test_seal_and_open__cryptographys_own_hpke__agrees_in_both_directions():
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    private, public = hpke.generate()
    their_key = X25519PrivateKey.from_private_bytes(private)
    assert suite.decrypt(hpke.seal(public, b"i", b"text"), their_key, b"i") == b"text"
    theirs = suite.encrypt(b"text", X25519PublicKey.from_public_bytes(public), b"i")
    assert hpke.open(private, b"i", theirs) == b"text"


def test_seal__twice__differs_and_adds_the_stated_overhead():
    _, public = hpke.generate()
    first, second = (hpke.seal(public, b"", b"x") for _ in range(2))
    assert first != second
    assert len(first) == 1 + hpke.OVERHEAD


@pytest.mark.parametrize("change", ["key", "info", "aad", "enc", "tag", "short", "empty"])
def test_open__anything_changed__refused_alike(change):
    private, public = hpke.generate()
    sealed = hpke.seal(public, b"info", b"secret", b"aad")
    key, info, aad, message = private, b"info", b"aad", bytearray(sealed)
    if change == "key":
        key = hpke.generate()[0]
    elif change == "info":
        info = b"inf"
    elif change == "aad":
        aad = b""
    elif change == "enc":
        message[0] ^= 1
    elif change == "tag":
        message[-1] ^= 1
    else:
        del message[0 if change == "empty" else hpke.OVERHEAD - 1 :]
    assert hpke.open(private, b"info", sealed, b"aad") == b"secret"
    with pytest.raises(hpke.OpenError):
        hpke.open(key, info, bytes(message), aad)


@pytest.mark.parametrize("public", [bytes(32), (1).to_bytes(32, "little"), b"", bytes(31)])
def test_seal__key_of_low_order_or_wrong_size__refused(public):
    with pytest.raises(FormatError):
        hpke.seal(public, b"", b"x")


def test_open__encapsulated_key_of_low_order__refused():
    with pytest.raises(hpke.OpenError):
        hpke.open(hpke.generate()[0], b"", bytes(32 + 16))
