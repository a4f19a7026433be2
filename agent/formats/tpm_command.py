"""Commands to a TPM 2.0 as bytes, and the key that every quote here is signed with.

Pi and Agent both need them: the Agent speaks to the TPM itself, the Pi hands the eraser the command
that makes the very same attestation key. Sources: TPM 2.0 Library, Part 1 §18 (commands), Part 2
§11-§12 (templates), Part 3 §24.1 (TPM2_CreatePrimary).

A primary key is derived from the TPM's own seed and its template, so nothing is stored anywhere.
Attestation key: restricted, so that it signs what the TPM itself states and nothing that merely
looks like it; `noda`, because the power of a Machine is often cut and a lockout must not stop it.
"""

from __future__ import annotations

from agent.formats.quote import QUOTED_PCRS

ENDORSEMENT = 0x4000000B  # TPM_RH_ENDORSEMENT, the hierarchy
ALG_NULL, SHA256, ECDSA, ECC, P256 = 0x0010, 0x000B, 0x0018, 0x0023, 0x0003  # TPM_ALG, TPM_ECC
CREATE_PRIMARY = 0x131  # TPM_CC, Part 2 §6.5.2
NO_SESSIONS, SESSIONS = 0x8001, 0x8002  # TPM_ST
HEADER = 10  # bytes of tag, size and code
_PASSWORD = 0x40000009  # TPM_RS_PW
_CONTINUE_SESSION = 1
_FIXED_TPM, _FIXED_PARENT, _SENSITIVE_DATA_ORIGIN = 1 << 1, 1 << 4, 1 << 5  # TPMA_OBJECT, §8.3
_USER_WITH_AUTH, _NO_DA = 1 << 6, 1 << 10
_RESTRICTED, _SIGN = 1 << 16, 1 << 18
BORN_INSIDE = _FIXED_TPM | _FIXED_PARENT | _SENSITIVE_DATA_ORIGIN
_AK = BORN_INSIDE | _USER_WITH_AUTH | _NO_DA | _RESTRICTED | _SIGN


def sized(content: bytes) -> bytes:
    """A TPM2B."""
    return len(content).to_bytes(2, "big") + content


def u16(*values: int) -> bytes:
    """UINT16, big-endian, one after the other."""
    return b"".join(value.to_bytes(2, "big") for value in values)


def u32(*values: int) -> bytes:
    """UINT32, big-endian, one after the other."""
    return b"".join(value.to_bytes(4, "big") for value in values)


def password(session: int = _PASSWORD) -> bytes:
    """Authorisation by the empty password, or by a policy session whose policy is met."""
    return u32(session) + sized(b"") + bytes([_CONTINUE_SESSION]) + sized(b"")


def command(
    code: int, handles: tuple[int, ...], parameters: bytes, authorise: tuple[bytes, ...]
) -> bytes:
    """One whole command; `authorise` has one `password(…)` per handle that needs it."""
    area = b"".join(authorise)
    body = u32(*handles) + (u32(len(area)) + area if authorise else b"") + parameters
    return u16(SESSIONS if authorise else NO_SESSIONS) + u32(HEADER + len(body), code) + body


# TPMT_PUBLIC of the attestation key's template.
AK = b"".join(
    [
        *(u16(ECC, SHA256), u32(_AK), sized(b"")),
        *(u16(ALG_NULL), u16(ECDSA, SHA256), u16(P256), u16(ALG_NULL)),
        *(sized(b""), sized(b"")),
    ]
)


def primary_parameters(template: bytes) -> bytes:
    """Parameters of TPM2_CreatePrimary: no secret of ours, no data, no PCRs."""
    return sized(sized(b"") + sized(b"")) + sized(template) + sized(b"") + u32(0)


def create_attestation_key() -> bytes:
    """The whole command that makes the attestation key in the endorsement hierarchy."""
    return command(CREATE_PRIMARY, (ENDORSEMENT,), primary_parameters(AK), (password(),))


def _selection() -> bytes:
    """TPML_PCR_SELECTION of QUOTED_PCRS in the SHA-256 bank: a bit each, three bytes."""
    bits = sum(1 << pcr for pcr in QUOTED_PCRS)
    return u32(1) + u16(SHA256) + bytes([3]) + bits.to_bytes(3, "little")


SELECTION = _selection()
