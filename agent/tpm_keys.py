"""Templates of the Machine's keys: what makes them the same keys after every boot.

The attestation key's stands in `formats.tpm_command`. Endorsement keys: templates L-1 and L-2 of
the TCG EK Credential Profile 2.x, whose certificates makers put beside them. Structures: TPM 2.0
Library, Part 2, §11-§12.
"""

from __future__ import annotations

from agent.formats.tpm_command import (
    AK,
    ALG_NULL,
    BORN_INSIDE,
    ECC,
    ENDORSEMENT,
    P256,
    SELECTION,
    SHA256,
    sized,
    u16,
    u32,
)

__all__ = [
    "AK",
    "ALG_NULL",
    "CERTIFIED",
    "CHAIN",
    "EK_ECC",
    "EK_RSA",
    "ENDORSEMENT",
    "SELECTION",
    "SHA256",
]

_RSA, _AES, _CFB = 0x0001, 0x0006, 0x0043
_ADMIN_WITH_POLICY = 1 << 7  # TPMA_OBJECT, §8.3
_RESTRICTED, _DECRYPT = 1 << 16, 1 << 17
_EK = BORN_INSIDE | _ADMIN_WITH_POLICY | _RESTRICTED | _DECRYPT
# TPM2_PolicySecret(TPM_RH_ENDORSEMENT): PolicyA of the EK Credential Profile.
_EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
_AES_128_CFB = u16(_AES, 128, _CFB)

# TPMT_PUBLIC of the templates.
EK_ECC = b"".join(
    [
        *(u16(ECC, SHA256), u32(_EK), sized(_EK_POLICY)),
        *(_AES_128_CFB, u16(ALG_NULL), u16(P256), u16(ALG_NULL)),
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
