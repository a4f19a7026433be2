"""Whole responses of a TPM, as the eraser relays them: the key that it made, and its quote.

Sources: TPM 2.0 Library, Part 1 §18 (responses), Part 3 §24.1 (TPM2_CreatePrimary), §18.4
(TPM2_Quote). Nothing here is believed: the appraisal judges what is inside.
"""

from __future__ import annotations

from agent.formats.erasure import MAX_TPM_RESPONSE
from agent.formats.quote import MAX_ATTEST, MAX_PUBLIC, MAX_SIGNATURE, Quote
from agent.formats.tpm_command import HEADER, SESSIONS
from nodeclient.core.tpm.reader import Reader, TpmError

_SUCCESS = 0
_HANDLE = 4  # bytes


def parse_created(response: bytes) -> bytes:
    """The new key's TPMT_PUBLIC. Raises TpmError, also where the TPM refused."""
    reader = Reader(_parameters(response, "created key", _HANDLE), "big", "created key")
    return reader.sized(2, MAX_PUBLIC)  # what follows tells how it was made: its template does, too


def parse_quoted(response: bytes) -> tuple[bytes, bytes]:
    """(TPMS_ATTEST, TPMT_SIGNATURE). Raises TpmError, also where the TPM refused."""
    reader = Reader(_parameters(response, "quote", 0), "big", "quote")
    attest = reader.sized(2, MAX_ATTEST)
    if reader.left > MAX_SIGNATURE:
        raise TpmError(f"quote: a signature of {reader.left} bytes exceeds {MAX_SIGNATURE}")
    return attest, reader.take(reader.left)


def parse_relayed(created: bytes, quoted: bytes) -> Quote | None:
    """Both responses as one quote; None where both are empty: there is no TPM. Raises TpmError."""
    if not created and not quoted:
        return None
    public = parse_created(created)
    return Quote(*parse_quoted(quoted), public)


def _parameters(response: bytes, what: str, handle: int) -> bytes:
    """What stands between handle and sessions of a response under a password."""
    if len(response) > MAX_TPM_RESPONSE:
        raise TpmError(f"{what}: {len(response)} bytes exceed {MAX_TPM_RESPONSE}")
    reader = Reader(response, "big", what)
    tag, size, code = reader.integer(2), reader.integer(4), reader.integer(4)
    if size != len(response) or size < HEADER:
        raise TpmError(f"{what}: says another length than it has")
    if code != _SUCCESS:
        raise TpmError(f"{what}: the TPM refused with {code:#x}")
    if tag != SESSIONS:
        raise TpmError(f"{what}: answers a command without a session")
    reader.take(handle)
    return reader.sized(4, MAX_TPM_RESPONSE)
