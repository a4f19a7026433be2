"""What the Machine is and runs: image, Agent, programs."""

from __future__ import annotations

from collections.abc import Iterator

from nodeclient.core import claims
from nodeclient.core.checks.case import Case, Finding, not_checked
from nodeclient.core.reasons import Code, reason
from nodeclient.core.types import Phase

_RAM_KINDS = frozenset(
    {
        *("tmpfs", "ramfs", "devtmpfs", "overlay", "squashfs"),
        *("proc", "sysfs", "devpts", "cgroup2", "securityfs", "mqueue", "nsfs"),
    }
)
_NAMED = 8  # differences named one by one; a swapped machine would have hundreds


def boot_image(case: Case) -> Iterator[Finding]:
    """An approved image was booted, the same one throughout, with an approved command line."""
    boot, before = claims.boot(case.evidence), case.expected.before
    if boot.image not in case.reference.boot_images:
        yield reason(Code.BOOT_IMAGE, f"{boot.image.hex()} is not approved")
    if (
        before is not None
        and case.expected.phase is not Phase.BEFORE
        and boot.image != before.image
    ):
        yield reason(Code.BOOT_IMAGE, "another image than before the run")
    lines = case.reference.command_lines
    if lines is None and case.material is None:  # with a quote, ``measured.image`` looks at it
        yield not_checked("kernel command line (no reference values)")
    elif lines is not None and boot.command_line not in lines:
        yield reason(Code.COMMAND_LINE, "the kernel command line is not an approved one")


def agent(case: Case) -> Iterator[Finding]:
    """The Agent's own files are those of an approved release."""
    digest = claims.agent_digest(case.evidence)
    if digest not in case.reference.agents:
        yield reason(Code.AGENT, f"{digest.hex()} is no approved agent")


def ranges(case: Case) -> Iterator[Finding]:
    """At places that only the nonce chose, its files equal the asker's own copy."""
    known = tuple(tuple(entry) for entry in case.reference.ranges)
    if not known:
        yield reason(Code.RANGES, "no own copy of the agent to compare with")
    elif claims.rows(case.evidence, "ranges") != known:
        yield reason(Code.RANGES, "differ from the asker's own copy of the agent")
    if case.material is None:
        yield not_checked("kernel text and root file system (no TPM quote)")


def executables(case: Case) -> Iterator[Finding]:
    """Only programs of the boot image run; the function's own are its container's business."""
    rows = claims.rows(case.evidence, "executable")
    if case.reference.executables is None:
        yield not_checked("running programs (no reference values)")
        return
    wrong = [row for row in rows if len(row) < 2 or row[1] not in case.reference.executables]
    for row in wrong[:_NAMED]:
        yield reason(Code.EXECUTABLE, f"{row[0]} is not approved")


def modules(case: Case) -> Iterator[Finding]:
    """Only approved kernel modules are loaded."""
    rows = claims.rows(case.evidence, "modules")
    if case.reference.modules is None:
        yield not_checked("kernel modules (no reference values)")
        return
    for row in [row for row in rows if row[0] not in case.reference.modules][:_NAMED]:
        yield reason(Code.MODULES, f"{row[0]} is not approved")


def mounts(case: Case) -> Iterator[Finding]:
    """Only approved file systems are mounted; where a TPM vouches, nothing that is not in RAM."""
    rows = claims.rows(case.evidence, "mounts")
    if case.material is not None:
        devices = {f"/dev/{name}" for name in claims.scratch(case.evidence).devices}
        for row in [row for row in rows if not in_ram(row, devices)][:_NAMED]:
            yield reason(Code.MOUNTS, f"{row[0]} is not known to lie in RAM")
    if case.reference.mounts is None:
        yield not_checked("mounts (no reference values)")
        return
    for row in [row for row in rows if row[:2] not in case.reference.mounts][:_NAMED]:
        yield reason(Code.MOUNTS, f"{row[0]} is not approved")


def sockets(case: Case) -> Iterator[Finding]:
    """Only approved sockets listen."""
    rows = claims.rows(case.evidence, "sockets")
    if case.reference.sockets is None:
        yield not_checked("listening sockets (no reference values)")
        return
    for row in [row for row in rows if row not in case.reference.sockets][:_NAMED]:
        yield reason(Code.SOCKETS, f"{row[0]} {row[-1]} is not approved")


def in_ram(row: claims.Row, disks: set[str]) -> bool:
    """Whether this is a file system of the kernel's own, or the root, or one on the task's disks.

    The root (squashfs) is read from a file in RAM: that is the boot image's doing.
    """
    if len(row) < 3:
        return False
    return row[1] in _RAM_KINDS or (row[1] == "ext4" and row[2] in disks)
