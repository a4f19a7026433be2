"""What an event log says was booted, held against one image: of a Machine, or of its eraser.

Each gives what is wrong in words; whoever asks knows the code. Every PCR that an image decides must
hold exactly its events; an event too many is as wrong as one that differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from agent.formats.hashes import sha256
from nodeclient.core.tpm.event_log import EventLog

_DRIVERS, _LOADER, _KERNEL, _STUB = 2, 4, 9, 11
_UNUSED = {12: "a command line or credentials", 13: "system extensions", 14: "a shim's keys"}
_SEPARATED = range(8)  # Firmware Profile, §3.3.2: the firmware closes each before it boots
_SEPARATORS = frozenset(sha256(value * 4) for value in (b"\0", b"\xff"))  # others say: error
_ACTIONS = frozenset(  # Firmware Profile, §10.4.4: remarks on boot options, also those that failed
    sha256(text)
    for text in (
        b"Calling EFI Application from Boot Option",
        b"Returning from EFI Application from Boot Option",
        b"BOOT ATTEMPTS OMITTED",
    )
)
_NAMED = 8  # drivers named one by one


class Measurements(Protocol):
    """Digests of events (32 bytes) that a boot of one image leaves, in order."""

    @property
    def pcr4(self) -> tuple[bytes, ...]: ...
    @property
    def pcr9(self) -> tuple[bytes, ...]: ...
    @property
    def pcr11(self) -> tuple[bytes, ...]: ...


def programs(log: EventLog, known: Measurements) -> Iterator[str]:
    """PCR 4: the firmware was done, loaded the image's programs in their order, and no other."""
    found = [digest for digest in log.of(_LOADER) if digest not in _ACTIONS]
    if not found or found[0] not in _SEPARATORS or tuple(found[1:]) != known.pcr4:
        yield "PCR 4: not the programs of the boot image, or not they alone"


def parts(log: EventLog, known: Measurements) -> Iterator[str]:
    """PCR 11 and 9: what systemd-stub took out of the image, and what the kernel's stub got."""
    if log.of(_STUB) != known.pcr11:
        yield "PCR 11: not the parts of the boot image, or not they alone"
    if log.of(_KERNEL) != known.pcr9:
        yield "PCR 9: the kernel was given something else than the boot image's"


def additions(log: EventLog) -> Iterator[str]:
    """PCRs 12 to 14: nothing was added to the image."""
    for pcr, what in _UNUSED.items():
        if log.of(pcr):
            yield f"PCR {pcr}: {what} were added to the boot image"


def drivers(log: EventLog, approved: frozenset[bytes]) -> Iterator[str]:
    """PCR 2: no driver of a card or disk ran but approved ones: it could change what follows."""
    wrong = [digest for digest in log.of(_DRIVERS) if digest not in approved | _SEPARATORS]
    for digest in wrong[:_NAMED]:
        yield f"PCR 2: driver {digest.hex()} ran and is not approved"


def separators(log: EventLog) -> Iterator[str]:
    """The firmware closed each of its PCRs, once and without error, before it booted."""
    for pcr in _SEPARATED:
        if sum(digest in _SEPARATORS for digest in log.of(pcr)) != 1:
            yield f"PCR {pcr}: not closed once by the firmware"
