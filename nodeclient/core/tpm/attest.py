"""A quote: what the TPM attests to, and its signature.

Sources: TPM 2.0 Library, Part 2: TPMS_ATTEST (§10.12.12), TPMS_QUOTE_INFO (§10.12.4),
TPMS_CLOCK_INFO (§10.11.1), TPML_PCR_SELECTION (§10.9.7), TPMT_SIGNATURE (§11.3.4).
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.formats import p256
from agent.formats.hashes import sha256
from agent.formats.quote import MAX_ATTEST, MAX_SIGNATURE
from nodeclient.core.tpm.reader import Reader, TpmError

ALG_SHA256, ALG_ECDSA = 0x000B, 0x0018
_GENERATED = 0xFF544347  # TPM_GENERATED_VALUE: a TPM's restricted key signs nothing else with it
_ST_QUOTE = 0x8018
_MAX_BANKS, _MAX_BITMAP = 8, 4  # a TPM has few banks; PC Client: 24 PCRs, 3 bytes
_MAX_2B = 128  # names have 34 bytes, qualifying data at most 64
_NO, _YES = 0, 1


@dataclass(frozen=True, slots=True)
class Clock:
    """``time_ms`` since the TPM was made, over all power cycles; ``resets`` counts power-ons,
    ``restarts`` resumptions since the last. ``safe`` is no if ``time_ms`` may be behind what was
    told before an abrupt power loss."""

    time_ms: int
    resets: int
    restarts: int
    safe: bool


@dataclass(frozen=True, slots=True)
class Attested:
    """One quote. ``selection``: (hash algorithm, PCR numbers) of each bank; ``pcr_digest`` is the
    hash over the selected PCRs' values in their order."""

    qualifying: bytes
    clock: Clock
    firmware_version: int
    selection: tuple[tuple[int, tuple[int, ...]], ...]
    pcr_digest: bytes


def parse_attest(data: bytes) -> Attested:
    """Parse a TPMS_ATTEST of a quote. Raises TpmError, also for one that no TPM made."""
    if len(data) > MAX_ATTEST:
        raise TpmError(f"attest: {len(data)} bytes exceed {MAX_ATTEST}")
    reader = Reader(data, "big", "attest")
    reader.expect(4, _GENERATED, "magic")
    reader.expect(2, _ST_QUOTE, "type")
    reader.sized(2, _MAX_2B)  # the signer's qualified name: the public key itself is checked
    qualifying = reader.sized(2, _MAX_2B)
    clock = Clock(reader.integer(8), reader.integer(4), reader.integer(4), _yes_no(reader))
    version = reader.integer(8)
    count = reader.integer(4)
    if count > _MAX_BANKS:
        raise TpmError(f"attest: {count} PCR banks exceed {_MAX_BANKS}")
    selection = tuple((reader.integer(2), _bitmap(reader)) for _ in range(count))
    digest = reader.sized(2, _MAX_2B)
    reader.end()
    return Attested(qualifying, clock, version, selection, digest)


def verify_attest(point: bytes, attest: bytes, signature: bytes) -> bool:
    """Whether ``signature`` (TPMT_SIGNATURE) is by the key X‖Y (64 bytes) over ``attest``.

    Raises TpmError for anything but ECDSA with SHA-256 over P-256.
    """
    if len(signature) > MAX_SIGNATURE:
        raise TpmError(f"signature: {len(signature)} bytes exceed {MAX_SIGNATURE}")
    reader = Reader(signature, "big", "signature")
    reader.expect(2, ALG_ECDSA, "scheme")
    reader.expect(2, ALG_SHA256, "hash")
    r, s = (int.from_bytes(reader.sized(2, 32), "big") for _ in range(2))
    reader.end()
    # A TPM does not care which of the two s it gives; ours have one spelling, the lower.
    low = min(s, p256.ORDER - s) if s < p256.ORDER else s
    rs = r.to_bytes(32, "big") + low.to_bytes(32, "big")
    return p256.verify(point, sha256(attest), rs)


def _yes_no(reader: Reader) -> bool:
    value = reader.integer(1)
    if value not in (_NO, _YES):
        raise TpmError("attest: a flag is neither yes nor no")
    return value == _YES


def _bitmap(reader: Reader) -> tuple[int, ...]:
    octets = reader.sized(1, _MAX_BITMAP)
    return tuple(i for i in range(8 * len(octets)) if octets[i // 8] >> (i % 8) & 1)
