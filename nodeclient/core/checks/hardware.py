"""Which devices the Machine has, and what came and went while it ran.

The inventory compares two moments, the kernel's events tell what was in between: who plugs a device
in and pulls it before the next question is still seen. A device that the TaskSpec names by vendor
and product may be there and may come and go; so may what belongs to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise

from agent.formats.events import CUT as EVENTS_CUT
from agent.formats.events import LOST
from nodeclient.core import claims
from nodeclient.core.checks.case import Case, Finding, not_checked
from nodeclient.core.claims import CUT
from nodeclient.core.reasons import Code, reason
from nodeclient.core.types import Phase

_NAMED = 8  # differences named one by one; a swapped machine would have hundreds
_OWNER = {"block": 4, "net": 3}  # field of a row that names the device it belongs to


def inventory(case: Case) -> Iterator[Finding]:
    """No device came or went since BEFORE, other than those that the task permits."""
    now, before = claims.inventory(case.evidence), case.expected.before
    for bus, rows in now.items():
        if (CUT,) in rows:
            yield reason(Code.INVENTORY, f"the list of {bus} devices was cut")
    if before is None and case.expected.phase is Phase.BEFORE:
        yield not_checked("inventory before the run (it is what later ones are compared with)")
        return
    if before is None:
        yield reason(Code.INVENTORY, "nothing of the BEFORE evidence to compare devices with")
        return
    for bus, rows in now.items():
        changed = set(rows) ^ set(before.inventory[bus])
        foreign = sorted((row for row in changed if not _permitted(case, bus, row)), key=repr)
        for row in islice(foreign, _NAMED):
            came = "appeared" if row in rows else "went"
            yield reason(Code.INVENTORY, f"{bus} device {row[0]} {came}")
        if len(foreign) > _NAMED:
            yield reason(Code.INVENTORY, f"{len(foreign)} {bus} devices changed")
        if len(rows) != len(set(rows)):
            yield reason(Code.INVENTORY, f"a {bus} device is listed twice")


def events(case: Case) -> Iterator[Finding]:
    """The kernel announced no device that the task does not permit, and no event is missing."""
    stated = claims.events(case.evidence)
    if stated is None:
        if case.material is not None:
            yield reason(Code.HOTPLUG, "a machine of its own states no kernel events")
        else:
            yield not_checked("kernel events (the machine shares its kernel with others)")
        return
    if [each.number for each in stated] != list(range(1, len(stated) + 1)):
        yield reason(Code.HOTPLUG, "kernel events are missing")
    if any(early.ms > late.ms for early, late in pairwise(stated)):
        yield reason(Code.HOTPLUG, "kernel events are not in the order of their times")
    permitted = case.expected.spec.devices
    foreign = []
    for each in stated:
        if each.action == LOST:
            yield reason(Code.HOTPLUG, "the kernel dropped events")
        elif each.action == EVENTS_CUT:
            yield reason(Code.HOTPLUG, "the list of kernel events was cut")
        elif each.device not in permitted:
            foreign.append(each)
    for each in foreign[:_NAMED]:
        yield reason(Code.HOTPLUG, f"{each}, {each.ms} ms after the agent began to listen")
    if len(foreign) > _NAMED:
        yield reason(Code.HOTPLUG, f"{len(foreign)} events of devices")


def _permitted(case: Case, bus: str, row: claims.Row) -> bool:
    """Whether the TaskSpec names this device, or the one it belongs to, by vendor and product."""
    if bus in _OWNER:
        place = _OWNER[bus]
        return len(row) > place and row[place] in case.expected.spec.devices
    if len(row) < 3:
        return False
    vendor, product = (str(field).removeprefix("0x").lower() for field in row[1:3])
    return f"{bus}:{vendor}:{product}" in case.expected.spec.devices
