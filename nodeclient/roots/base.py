"""What every root of trust answers, and how it fails. The protocol itself is a port.

Where a root fails, nothing was done: no key made, no file written, nothing signed. The text of an
error names the root and the fault, never a key or a secret.
"""

from __future__ import annotations

from nodeclient.errors import SealrunError
from nodeclient.ports import Root

__all__ = [
    "BREACH_FILE",
    "Root",
    "RootAbsent",
    "RootBusy",
    "RootError",
    "RootLocked",
    "RootQueued",
    "RootTampered",
    "UnsealError",
]

BREACH_FILE = "breach.json"  # in a root's folder: that it was opened, once; its operator lifts it


class RootError(SealrunError):
    """The root of trust is missing, locked or refuses."""


class RootAbsent(RootError):
    """No device, or none that answers any more: unplugged, or its driver is not loaded."""


class RootBusy(RootError):
    """The device did not take the command in the time that is waited for it."""


class RootQueued(RootBusy):
    """This Node's own commands took the device all the while: nothing is wrong with it."""


class RootLocked(RootError):
    """The device is there and works, but refuses its keys until somebody unlocks it."""


class RootTampered(RootError):
    """The device says that it was opened: its keys count as lost."""


class UnsealError(RootError):
    """Sealed bytes that this root, under this label and in this state, does not open."""
