"""The firmware's event log: what it says went into each PCR, replayed to the values of the PCRs.

Nothing in the log is believed by itself: it counts once the replayed values are the quoted ones.
Only digests are kept. The type of an event and the text beside it are measured nowhere: whoever
hands out the log can write there what it likes, a program's hash under the name of an action too.
Sources: TCG PC Client Platform Firmware Profile 1.06, §10.2.1 (TCG_PCR_EVENT), §10.2.2
(TCG_PCR_EVENT2), §10.4.5 (Spec ID Event03, StartupLocality); algorithms: TCG Algorithm Registry.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from agent.formats.hashes import sha256
from agent.formats.quote import MAX_EVENT_LOG
from nodeclient.core.tpm.reader import Reader, TpmError

MAX_EVENTS = 4096  # a PC logs 40 to 200
PCRS = 24
ALG_SHA256 = 0x000B
_SIZES = {0x0004: 20, ALG_SHA256: 32, 0x000C: 48, 0x000D: 64, 0x0012: 32}
_SIZES |= {0x0027: 32, 0x0028: 48, 0x0029: 64}  # SHA-1, SHA-2, SM3, SHA-3
_SPEC_ID, _LOCALITY = b"Spec ID Event03\0", b"StartupLocality\0"
_LOCALITIES = (0, 3, 4)
_NO_ACTION = 0x3  # the one type that says something about extending: not extended
_RESETTABLE = range(17, 23)  # PCRs that a power-on sets to ones (PC Client TPM Profile, §4.6)


@dataclass(frozen=True, slots=True)
class Event:
    """One measurement: ``digest`` (SHA-256 bank, 32 bytes) was extended into ``pcr``."""

    pcr: int
    digest: bytes


@dataclass(frozen=True)
class EventLog:
    """All events in their order; ``locality`` is what PCR 0 starts from."""

    events: tuple[Event, ...]
    locality: int = 0

    def of(self, pcr: int) -> tuple[bytes, ...]:
        """Digests of what was measured into one PCR, in order."""
        return tuple(event.digest for event in self.events if event.pcr == pcr)

    @cached_property
    def values(self) -> Mapping[int, bytes]:
        """PCR number → value (32 bytes) of the SHA-256 bank after all events."""
        values = {n: (b"\xff" if n in _RESETTABLE else b"\0") * 32 for n in range(PCRS)}
        values[0] = self.locality.to_bytes(32, "big")
        for event in self.events:
            values[event.pcr] = sha256(values[event.pcr] + event.digest)
        return MappingProxyType(values)


def parse_event_log(data: bytes) -> EventLog:
    """Parse a whole crypto-agile log, as the kernel hands it out: not one byte may be left over.

    Raises TpmError: no SHA-256 bank, a length that lies, more than MAX_EVENTS, a PCR that is none.
    """
    if len(data) > MAX_EVENT_LOG:
        raise TpmError(f"event log: {len(data)} bytes exceed {MAX_EVENT_LOG}")
    reader = Reader(data, "little", "event log")
    reader.expect(4, 0, "PCR of the first event")
    reader.expect(4, _NO_ACTION, "type of the first event")
    if any(reader.take(20)):
        raise TpmError("event log: the first event has a digest")
    bank, size = _find_bank(_parse_banks(reader.sized(4, 1024)))
    return _parse_events(data[reader.offset :], bank, size)


def _parse_banks(spec: bytes) -> tuple[tuple[int, int], ...]:
    """(algorithm, digest size) of each bank, from the TCG_EfiSpecIdEvent."""
    reader = Reader(spec, "little", "event log header")
    if reader.take(16) != _SPEC_ID:
        raise TpmError("event log: not crypto-agile (Spec ID Event03); use a TPM 2.0")
    reader.take(8)  # platform class, versions, size of a UINTN: no influence on the layout
    count = reader.integer(4)
    if not 1 <= count <= len(_SIZES):
        raise TpmError(f"event log: {count} hash algorithms")
    banks = tuple((reader.integer(2), reader.integer(2)) for _ in range(count))
    reader.sized(1, 255)  # vendor information
    reader.end()
    if len(dict(banks)) != count or any(_SIZES.get(alg) != size for alg, size in banks):
        raise TpmError("event log: hash algorithms that are unknown, twice or of a wrong size")
    return banks


def _find_bank(banks: tuple[tuple[int, int], ...]) -> tuple[Mapping[int, int], int]:
    if ALG_SHA256 not in dict(banks):
        raise TpmError("event log: no SHA-256 bank; enable it in the firmware's settings")
    return dict(banks), sum(2 + size for _, size in banks)


def _parse_events(data: bytes, banks: Mapping[int, int], size: int) -> EventLog:
    """TCG_PCR_EVENT2 after another. Written flat: this loop is most of what an appraisal costs."""
    events: list[Event] = []
    locality: int | None = None
    offset, end, count = 0, len(data), 0
    while offset < end:
        count += 1
        body = offset + 12 + size
        if count > MAX_EVENTS:
            raise TpmError(f"event log: more than {MAX_EVENTS} events")
        if body + 4 > end:
            raise TpmError("event log: ends inside an event; fetch it again")
        pcr, kind, digests = struct.unpack_from("<III", data, offset)
        digest = _pick_digest(data, offset + 12, banks, digests)
        length = int.from_bytes(data[body : body + 4], "little")
        offset = body + 4 + length
        if offset > end:
            raise TpmError("event log: an event is longer than the log; fetch it again")
        if kind == _NO_ACTION:
            if data.startswith(_LOCALITY, body + 4, offset):
                if locality is not None or any(event.pcr == 0 for event in events):
                    raise TpmError("event log: the startup locality comes too late or twice")
                locality = _parse_locality(data[body + 4 : offset])
            continue
        if pcr >= PCRS:
            raise TpmError(f"event log: there is no PCR {pcr}")
        events.append(Event(pcr, digest))
    return EventLog(tuple(events), locality or 0)


def _pick_digest(data: bytes, offset: int, banks: Mapping[int, int], count: int) -> bytes:
    """The SHA-256 one; each bank of the header must be there, once."""
    if count != len(banks):
        raise TpmError(f"event log: an event with {count} digests for {len(banks)} banks")
    found: dict[int, bytes] = {}
    for _ in range(count):
        alg = int.from_bytes(data[offset : offset + 2], "little")
        if alg in found or alg not in banks:
            raise TpmError("event log: a digest of no bank, or two of one")
        found[alg] = data[offset + 2 : offset + 2 + banks[alg]]
        offset += 2 + banks[alg]
    return found[ALG_SHA256]


def _parse_locality(content: bytes) -> int:
    locality = content[len(_LOCALITY) :]
    if len(locality) != 1 or locality[0] not in _LOCALITIES:
        raise TpmError("event log: a startup locality that is none")
    return locality[0]
