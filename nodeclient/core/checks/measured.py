"""What was booted, as the quoted PCRs show it: the approved image, whole, and nothing beside it.

The event log counts as far as it replays to the quote (``quote.replayed``). Each PCR that the boot
image decides must hold exactly its events; an event too many is as wrong as one that differs.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.formats.ranges import Answer
from nodeclient.core import claims
from nodeclient.core.checks import booted
from nodeclient.core.checks.case import Case, Finding, not_checked
from nodeclient.core.evidence_policy import BootReference
from nodeclient.core.reasons import Code, reason
from nodeclient.core.tpm.event_log import EventLog
from nodeclient.core.tpm.facts import FIRMWARE_PCRS, firmware_digest


def image(case: Case) -> Iterator[Finding]:
    """The asker has its own copy of the boot image that the Evidence names, and the Agent and the
    command line that are stated are that image's."""
    if case.material is None:
        return
    known, said = case.reference.boot, claims.boot(case.evidence)
    if known is None or known.image != said.image:
        yield reason(Code.BOOT_IMAGE, "no own copy of the boot image to hold the quote against")
        return
    if said.command_line != known.command_line:
        yield reason(Code.COMMAND_LINE, "the kernel command line is not the boot image's")
    if claims.agent_digest(case.evidence) != known.agent:
        yield reason(Code.AGENT, "not the agent of the boot image")


def loader(case: Case) -> Iterator[Finding]:
    """PCR 4: the firmware was done, loaded the image's programs in their order, and no other."""
    log, known = _given(case)
    if log is not None and known is not None:
        yield from _refused(booted.programs(log, known))


def stub(case: Case) -> Iterator[Finding]:
    """Kernel, initramfs and command line are the image's: as systemd-stub took them out of it (PCR
    11), and as the kernel's own stub got them (PCR 9)."""
    log, known = _given(case)
    if log is not None and known is not None:
        yield from _refused(booted.parts(log, known))


def unused(case: Case) -> Iterator[Finding]:
    """PCRs 12 to 14: nothing was added to the image."""
    log, _ = _given(case)
    if log is not None:
        yield from _refused(booted.additions(log))


def drivers(case: Case) -> Iterator[Finding]:
    """PCR 2: no driver of a card or disk ran but approved ones: it could change what follows."""
    log, _ = _given(case)
    if log is not None:
        yield from _refused(booted.drivers(log, case.reference.drivers))


def separators(case: Case) -> Iterator[Finding]:
    """The firmware closed each of its PCRs, once and without error, before it booted."""
    log, _ = _given(case)
    if log is not None:
        yield from _refused(booted.separators(log))


def firmware(case: Case) -> Iterator[Finding]:
    """The firmware is an approved one, where the asker knows any."""
    log, _ = _given(case)
    if log is None:
        return
    approved, shown = case.reference.firmware, firmware_digest(log)
    if approved is None:
        pcrs = ", ".join(map(str, FIRMWARE_PCRS))
        yield not_checked(f"firmware {shown.hex()} (PCRs {pcrs}: no reference values)")
    elif shown not in approved:
        yield reason(Code.PCR, f"firmware {shown.hex()} is not approved")
    yield not_checked("settings of the firmware, boot order, partitions (PCRs 1, 5, 6)")


def kernel(case: Case) -> Iterator[Finding]:
    """At places that only the nonce chose, the running kernel equals its file."""
    if case.material is not None and case.reference.boot is not None:
        yield from _ranges(case, "kernel", case.reference.boot.kernel, Code.KERNEL)


def root(case: Case) -> Iterator[Finding]:
    """At places that only the nonce chose, the root file system equals its file."""
    if case.material is not None and case.reference.boot is not None:
        yield from _ranges(case, "root", case.reference.boot.root, Code.ROOT_IMAGE)


def _ranges(case: Case, claim: str, known: tuple[Answer, ...], code: Code) -> Iterator[Finding]:
    if not known:
        yield reason(code, "no own copy to compare ranges with")
    elif claims.rows(case.evidence, claim) != known:
        yield reason(code, "ranges differ from the asker's own copy of the boot image")


def _refused(faults: Iterator[str]) -> Iterator[Finding]:
    return (reason(Code.PCR, fault) for fault in faults)


def _given(case: Case) -> tuple[EventLog | None, BootReference | None]:
    """The event log, if one is stated and parses, and what the image must have left in it."""
    material = case.material
    return (None if material is None else material.log), case.reference.boot
