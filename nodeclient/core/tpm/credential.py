"""Credential activation: a secret that only the TPM with *this* EK and *this* AK can read.

An EK certificate says that a key lives in a maker's TPM; nothing says so of an attestation key. The
verifier therefore encrypts a secret to the EK, bound to the AK's Name: TPM2_ActivateCredential
gives it back only where both keys are loaded in one TPM. An AK of another TPM cannot do it.

Sources: TPM 2.0 Library, Part 1: Credential Protection (§24), KDFa and KDFe (§11.4.10), RSA and ECC
secret sharing (annexes B.10.4 and C.6.4); Part 3: TPM2_MakeCredential. The random bytes are
arguments, so that this stays a function; only OAEP draws its own, inside the library.
"""

from __future__ import annotations

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from agent.formats.endorsement import Challenge
from agent.formats.p256 import ORDER, public_bytes
from agent.formats.shape import as_bytes
from nodeclient.core.tpm.public import EkKey

_LABEL = b"IDENTITY\0"
_ENTROPY = 48  # bytes: reduced to a scalar of P-256 without a bias that anybody could measure
_SEED, _SYMMETRIC, _MAC = 32, 16, 32


def make_credential(ek: EkKey, name: bytes, secret: bytes, entropy: bytes) -> Challenge:
    """What TPM2_ActivateCredential takes, to give ``secret`` back.

    ``name`` of the AK (34 bytes), ``secret`` (32 bytes), ``entropy`` 48 fresh random bytes, never
    used twice. Raises FormatError for other lengths.
    """
    as_bytes(name, 34, "name of the attestation key")
    as_bytes(secret, 32, "secret")
    as_bytes(entropy, _ENTROPY, "entropy")
    if isinstance(ek, rsa.RSAPublicKey):
        seed = entropy[:_SEED]
        shared = _encrypt_rsa(ek, seed)
    else:
        seed, shared = _share_ecc(ek, entropy)
    cipher = Cipher(algorithms.AES128(_kdfa(seed, b"STORAGE", name, _SYMMETRIC)), CFB(bytes(16)))
    encryptor = cipher.encryptor()
    identity = encryptor.update(_sized(secret)) + encryptor.finalize()
    mac = hmac.HMAC(_kdfa(seed, b"INTEGRITY", b"", _MAC), hashes.SHA256())
    mac.update(identity + name)
    return Challenge(_sized(_sized(mac.finalize()) + identity), _sized(shared))


def _encrypt_rsa(ek: rsa.RSAPublicKey, seed: bytes) -> bytes:
    mask = padding.MGF1(hashes.SHA256())
    return ek.encrypt(seed, padding.OAEP(mask, hashes.SHA256(), _LABEL))


def _share_ecc(ek: ec.EllipticCurvePublicKey, entropy: bytes) -> tuple[bytes, bytes]:
    """(seed, marshalled ephemeral point): one-pass Diffie-Hellman and KDFe."""
    scalar = int.from_bytes(entropy, "big") % (ORDER - 1) + 1
    ephemeral = ec.derive_private_key(scalar, ec.SECP256R1())
    ours, theirs = public_bytes(ephemeral.public_key()), public_bytes(ek)
    z = ephemeral.exchange(ec.ECDH(), ek)
    # KDFe is the one-step derivation of SP 800-56A with label ‖ PartyUInfo ‖ PartyVInfo.
    seed = ConcatKDFHash(hashes.SHA256(), _SEED, _LABEL + ours[:32] + theirs[:32]).derive(z)
    return seed, _sized(ours[:32]) + _sized(ours[32:])


def _kdfa(key: bytes, label: bytes, context: bytes, size: int) -> bytes:
    """KDFa: HMAC in the counter mode of SP 800-108."""
    return KBKDFHMAC(
        hashes.SHA256(), Mode.CounterMode, size, 4, 4, CounterLocation.BeforeFixed,
        label, context, None,
    ).derive(key)  # fmt: skip


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data
