"""The kernel's integrity measurement list: each file that its policy measured, in PCR 10.

The list is read after the quote was made, so the quote covers a prefix of it. Without a policy it
holds ``boot_aggregate`` alone: a hash over PCRs 0 to 9 at the moment the kernel started.
Sources: Linux ``Documentation/security/IMA-templates.rst``, ``ima_fs.c: ima_measurements_show``
(layout, little-endian on x86), ``ima_queue.c: ima_add_template_entry`` (what is extended: in the
SHA-256 bank the SHA-256 of the template data, whatever hash the list itself shows).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.formats.hashes import sha256
from agent.formats.quote import MAX_IMA
from nodeclient.core.tpm.reader import Reader, TpmError

PCR = 10
MAX_ENTRIES = 8192
BOOT_AGGREGATE = "boot_aggregate"
_TEMPLATES = {b"ima-ng": 2, b"ima-sig": 3}  # name → fields
_MAX_PATH = 4096
_VIOLATION = bytes(20)  # the file was open for writing while it was measured
_INVALID = b"\xff" * 32  # what the kernel extends for a violation


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: ``algorithm`` and ``digest`` of its content; ``extended`` went into PCR 10."""

    path: str
    algorithm: str
    digest: bytes
    extended: bytes

    @property
    def violated(self) -> bool:
        """Whether the kernel could not say what the file held."""
        return self.extended == _INVALID


def parse_ima(data: bytes) -> tuple[Entry, ...]:
    """Parse ``binary_runtime_measurements``. Raises TpmError; no bytes at all are no entries."""
    if len(data) > MAX_IMA:
        raise TpmError(f"IMA list: {len(data)} bytes exceed {MAX_IMA}")
    reader = Reader(data, "little", "IMA list")
    entries: list[Entry] = []
    while reader.left:
        if len(entries) == MAX_ENTRIES:
            raise TpmError(f"IMA list: more than {MAX_ENTRIES} entries")
        entries.append(_parse_entry(reader))
    return tuple(entries)


def replay(entries: Sequence[Entry], start: bytes) -> tuple[bytes, ...]:
    """Values of PCR 10 after 0, 1, … all entries; ``start`` is what the firmware left there."""
    values = [start]
    for entry in entries:
        values.append(sha256(values[-1] + entry.extended))
    return tuple(values)


def boot_aggregate(pcrs: Mapping[int, bytes]) -> bytes:
    """What the kernel writes first: SHA-256 over PCRs 0 to 9 of the SHA-256 bank."""
    return sha256(b"".join(pcrs[n] for n in range(PCR)))


def _parse_entry(reader: Reader) -> Entry:
    reader.expect(4, PCR, "PCR")
    shown = reader.take(20)
    template = reader.sized(4, 16)
    if template not in _TEMPLATES:
        raise TpmError("IMA list: another template than ima-ng or ima-sig")
    data = reader.sized(4, 2 * _MAX_PATH)
    if shown not in (_VIOLATION, hashlib.sha1(data, usedforsecurity=False).digest()):
        raise TpmError("IMA list: an entry does not match its own hash")
    fields = list(_parse_fields(data))
    if len(fields) != _TEMPLATES[template]:
        raise TpmError("IMA list: an entry with another number of fields than its template's")
    algorithm, colon, digest = fields[0].partition(b":\0")
    path, terminator, rest = fields[1].partition(b"\0")
    if not colon or len(digest) > 64 or not algorithm.isalnum() or not terminator or rest:
        raise TpmError("IMA list: an entry's digest or path is malformed")
    extended = _INVALID if shown == _VIOLATION else sha256(data)
    # A path is bytes to the kernel; foreign ones are shown escaped, never refused.
    return Entry(path.decode("utf-8", "backslashreplace"), algorithm.decode(), digest, extended)


def _parse_fields(data: bytes) -> Iterator[bytes]:
    reader = Reader(data, "little", "IMA entry")
    while reader.left:
        yield reader.sized(4, _MAX_PATH)
