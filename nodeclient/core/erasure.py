"""Which memory a proof of secure erasure must cover, and what of it a proof does cover. Pure.

The ranges come from the memory map that the attested Agent stated of the very boot that ran the
task: a prover that names its own ranges leaves out what it wants to keep.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.formats.cbor import FormatError
from agent.formats.erasure import MAX_RANGES, PAGE, WINDOW, ErasureProof, Range
from nodeclient.core.claims import Region
from nodeclient.core.tpm.attest import Attested, parse_attest, verify_attest
from nodeclient.core.tpm.event_log import EventLog, parse_event_log
from nodeclient.core.tpm.public import AttestationKey, parse_attestation_key

RAM = "System RAM"  # the one type of /sys/firmware/memmap that Linux ever hands out


def plan_ranges(memory: tuple[Region, ...]) -> tuple[Range, ...]:
    """Whole pages of RAM above the window, ascending: what the eraser is told to fill.

    Of more than MAX_RANGES pieces the largest are taken; what is left out then counts as not
    covered. Empty where `memory` has no RAM above the window.
    """
    pieces: list[Range] = []
    for start, end in _ram(memory):
        first, last = -(-max(start, WINDOW) // PAGE) * PAGE, end // PAGE * PAGE
        if first < last:
            pieces.append((first, last - first))
    largest = sorted(pieces, key=lambda piece: piece[1], reverse=True)[:MAX_RANGES]
    return tuple(sorted(largest))


def uncovered(memory: tuple[Region, ...], ranges: tuple[Range, ...]) -> int:
    """Bytes of RAM in `memory` that lie in none of `ranges`, which are ascending and apart."""
    left = 0
    for start, end in _ram(memory):
        inside = (min(end, at + size) - max(start, at) for at, size in ranges)
        left += end - start - sum(max(0, part) for part in inside)
    return left


@dataclass(frozen=True, slots=True)
class Quoted:
    """What an eraser's TPM says of a proof. ``genuine``: the key that it names signed it;
    ``bound``: it is over this nonce, these ranges, keys and this answer."""

    attested: Attested
    key: AttestationKey
    log: EventLog
    genuine: bool
    bound: bool


def read_quoted(proof: ErasureProof) -> Quoted:
    """Read the quote of a proof. Raises FormatError if there is none, or a part does not parse."""
    if proof.quote is None:
        raise FormatError("erasure proof: no TPM quoted it; erase again")
    attested = parse_attest(proof.quote.attest)
    key = parse_attestation_key(proof.quote.ak)
    genuine = verify_attest(key.point, proof.quote.attest, proof.quote.signature)
    bound = attested.qualifying == proof.qualifying
    return Quoted(attested, key, parse_event_log(proof.event_log), genuine, bound)


def _ram(memory: tuple[Region, ...]) -> list[tuple[int, int]]:
    """(start, end) of RAM, ascending, with overlapping rows joined: none is counted twice."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted((r.start, r.end) for r in memory if r.kind == RAM):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
