"""Templates of the Machine's keys: what makes them the same keys after every boot.

A primary key is derived from the TPM's own seed and its template, so nothing is stored anywhere.
Attestation key: restricted, so that it signs what the TPM itself states and nothing that merely
looks like it; `noda`, because the power of a Machine is often cut and a lockout must not stop it.
Endorsement keys: templates L-1 and L-2 of the TCG EK Credential Profile 2.x, whose certificates
makers put beside them. Structures: TPM 2.0 Library, Part 2, §11-§12.
"""

from __future__ import annotations

from agent.formats.quote import QUOTED_PCRS
from agent.tpm_wire import sized, u16, u32

ENDORSEMENT = 0x4000000B  # TPM_RH_ENDORSEMENT, the hierarchy
ALG_NULL = 0x0010
SHA256 = 0x000B
_RSA, _AES, _ECDSA, _ECC, _CFB = 0x0001, 0x0006, 0x0018, 0x0023, 0x0043
_P256 = 0x0003
_FIXED_TPM, _FIXED_PARENT, _SENSITIVE_DATA_ORIGIN = 1 << 1, 1 << 4, 1 << 5  # TPMA_OBJECT, §8.3
_USER_WITH_AUTH, _ADMIN_WITH_POLICY, _NO_DA = 1 << 6, 1 << 7, 1 << 10
_RESTRICTED, _DECRYPT, _SIGN = 1 << 16, 1 << 17, 1 << 18
_BORN_INSIDE = _FIXED_TPM | _FIXED_PARENT | _SENSITIVE_DATA_ORIGIN
_AK = _BORN_INSIDE | _USER_WITH_AUTH | _NO_DA | _RESTRICTED | _SIGN
_EK = _BORN_INSIDE | _ADMIN_WITH_POLICY | _RESTRICTED | _DECRYPT
# TPM2_PolicySecret(TPM_RH_ENDORSEMENT): PolicyA of the EK Credential Profile.
_EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
_AES_128_CFB = u16(_AES, 128, _CFB)

# TPMT_PUBLIC of the templates.
AK = b"".join(
    [
        *(u16(_ECC, SHA256), u32(_AK), sized(b"")),
        *(u16(ALG_NULL), u16(_ECDSA, SHA256), u16(_P256), u16(ALG_NULL)),
        *(sized(b""), sized(b"")),
    ]
)
EK_ECC = b"".join(
    [
        *(u16(_ECC, SHA256), u32(_EK), sized(_EK_POLICY)),
        *(_AES_128_CFB, u16(ALG_NULL), u16(_P256), u16(ALG_NULL)),
        *(sized(bytes(32)), sized(bytes(32))),
    ]
)
EK_RSA = b"".join(
    [
        *(u16(_RSA, SHA256), u32(_EK), sized(_EK_POLICY)),
        *(_AES_128_CFB, u16(ALG_NULL), u16(2048), u32(0)),
        sized(bytes(256)),
    ]
)

# Where a TPM keeps certificates (EK Credential Profile §2.2.1.4-5): of L-2, of L-1, of issuers.
# The smaller key first: it takes a real TPM half a second where the other takes some ten.
CERTIFIED = ((0x01C0000A, EK_ECC), (0x01C00002, EK_RSA))
CHAIN = range(0x01C00100, 0x01C00200)


def _selection() -> bytes:
    """TPML_PCR_SELECTION of QUOTED_PCRS in the SHA-256 bank: a bit each, three bytes."""
    bits = sum(1 << pcr for pcr in QUOTED_PCRS)
    return u32(1) + u16(SHA256) + bytes([3]) + bits.to_bytes(3, "little")


SELECTION = _selection()
