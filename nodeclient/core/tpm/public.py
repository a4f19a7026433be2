"""Public areas of a TPM's keys: the attestation key signs, the endorsement key has a certificate.

Sources: TPM 2.0 Library, Part 2: TPMT_PUBLIC (§12.2.4), TPMA_OBJECT (§8.3); Part 1: Names (§16);
TCG EK Credential Profile 2.x: templates L-1 (RSA 2048) and L-2 (ECC P-256).
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from agent.formats.hashes import sha256
from agent.formats.quote import MAX_PUBLIC
from nodeclient.core.tpm.attest import ALG_ECDSA, ALG_SHA256
from nodeclient.core.tpm.reader import Reader, TpmError

_RSA, _AES, _NULL, _ECC, _CFB = 0x0001, 0x0006, 0x0010, 0x0023, 0x0043
_P256 = 0x0003
_RSA_BITS, _AES_BITS, _EXPONENT = 2048, 128, 65537
_FIXED_TPM, _FIXED_PARENT, _SENSITIVE_DATA_ORIGIN = 1 << 1, 1 << 4, 1 << 5
_USER_WITH_AUTH, _ADMIN_WITH_POLICY, _NO_DA = 1 << 6, 1 << 7, 1 << 10
_RESTRICTED, _DECRYPT, _SIGN = 1 << 16, 1 << 17, 1 << 18
_BORN_INSIDE = _FIXED_TPM | _FIXED_PARENT | _SENSITIVE_DATA_ORIGIN  # and cannot leave
# Restricted: it signs what the TPM itself states, and never data that looks like it.
AK_ATTRIBUTES = _BORN_INSIDE | _USER_WITH_AUTH | _NO_DA | _RESTRICTED | _SIGN
# Not restricted: it signs ready digests, which the TPM has not seen the content of.
ROOT_ATTRIBUTES = _BORN_INSIDE | _USER_WITH_AUTH | _NO_DA | _SIGN
EK_ATTRIBUTES = _BORN_INSIDE | _ADMIN_WITH_POLICY | _RESTRICTED | _DECRYPT
# TPM2_PolicySecret(TPM_RH_ENDORSEMENT), PolicyA of the EK Credential Profile.
_EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")

EkKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class AttestationKey:
    """``point`` is X‖Y (64 bytes); ``digest`` is the hash in its Name, as the registry keeps it."""

    point: bytes
    digest: bytes

    @property
    def name(self) -> bytes:
        """Its Name: algorithm (2 bytes) ‖ digest (32 bytes)."""
        return ALG_SHA256.to_bytes(2, "big") + self.digest


def parse_attestation_key(public: bytes) -> AttestationKey:
    """Read a TPMT_PUBLIC. Raises TpmError unless it is a P-256 key that a TPM made, keeps, and
    signs only its own statements with."""
    return _signing_key(public, "attestation key", AK_ATTRIBUTES)


def parse_root_key(public: bytes) -> AttestationKey:
    """Read a TPMT_PUBLIC. Raises TpmError unless it is a P-256 key that a TPM made and keeps, for
    ECDSA over digests: what a Node's root key of class TPM2 must be."""
    return _signing_key(public, "root key", ROOT_ATTRIBUTES)


def _signing_key(public: bytes, what: str, attributes: int) -> AttestationKey:
    reader = _open(public, what)
    reader.expect(2, _ECC, "type")
    reader.expect(2, ALG_SHA256, "name algorithm")
    reader.expect(4, attributes, "attributes")
    reader.expect(2, 0, "size of the policy")
    reader.expect(2, _NULL, "symmetric algorithm")
    reader.expect(2, ALG_ECDSA, "scheme")
    reader.expect(2, ALG_SHA256, "hash")
    point = _point(reader)
    return AttestationKey(point, sha256(public))


def parse_endorsement_key(public: bytes) -> EkKey:
    """Read a TPMT_PUBLIC made from one of the two standard templates.

    Raises TpmError for any other: credential activation leans on what they say (restricted
    decryption, SHA-256, AES-128-CFB).
    """
    reader = _open(public, "endorsement key")
    kind = reader.integer(2)
    if kind not in (_RSA, _ECC):
        raise TpmError(f"endorsement key: type {kind:#x} is neither RSA nor ECC")
    reader.expect(2, ALG_SHA256, "name algorithm")
    reader.expect(4, EK_ATTRIBUTES, "attributes")
    if reader.sized(2, 32) != _EK_POLICY:
        raise TpmError("endorsement key: not the standard policy")
    reader.expect(2, _AES, "symmetric algorithm")
    reader.expect(2, _AES_BITS, "key bits")
    reader.expect(2, _CFB, "mode")
    reader.expect(2, _NULL, "scheme")
    if kind == _ECC:
        return _curve_key(_point(reader))
    reader.expect(2, _RSA_BITS, "key bits")
    if reader.integer(4) not in (0, _EXPONENT):  # 0 stands for the default
        raise TpmError("endorsement key: another exponent than 65537")
    modulus = reader.sized(2, _RSA_BITS // 8)
    reader.end()
    if len(modulus) != _RSA_BITS // 8:
        raise TpmError(f"endorsement key: a modulus of {len(modulus)} bytes")
    try:
        return rsa.RSAPublicNumbers(_EXPONENT, int.from_bytes(modulus, "big")).public_key()
    except ValueError as error:
        raise TpmError("endorsement key: no RSA key") from error


def _open(public: bytes, what: str) -> Reader:
    if len(public) > MAX_PUBLIC:
        raise TpmError(f"{what}: {len(public)} bytes exceed {MAX_PUBLIC}")
    return Reader(public, "big", what)


def _point(reader: Reader) -> bytes:
    """The rest of an ECC public area: curve, no key derivation, X and Y."""
    reader.expect(2, _P256, "curve")
    reader.expect(2, _NULL, "key derivation")
    point = b"".join(reader.sized(2, 32).rjust(32, b"\0") for _ in range(2))
    reader.end()
    _curve_key(point)
    return point


def _curve_key(point: bytes) -> ec.EllipticCurvePublicKey:
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + point)
    except ValueError as error:
        raise TpmError("key: not a point of P-256") from error
