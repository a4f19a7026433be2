"""What a kernel said about a device while its Machine ran: one row of Evidence, and one call.

Agent → Pi: `event` (Event) → null, at once and in order; repeated until it was answered. The same
rows stand in the claim `events`, from the Agent's hello to the end of the boot: a device that came
and went between two questions is still told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.formats.shape import as_int, as_list, as_text

EVENT: Final = "event"  # the call
MAX_EVENTS: Final = 256  # of one boot; the last one then says that there were more
MAX_NAME: Final = 64  # characters of a subsystem, of a device's name
LOST: Final = "lost"  # in place of an action: the kernel had to drop some
CUT: Final = "cut"  # in place of an action: there were more than MAX_EVENTS
_MAX_MS = 1 << 62


@dataclass(frozen=True, slots=True)
class Event:
    """number: from 1, without a gap. ms: milliseconds since the Agent began to listen.

    action: the kernel's word (add, remove, change, bind …), LOST or CUT. name: the last part of the
    device's path in /sys. device: `usb:vvvv:pppp` or `pci:vvvv:pppp` of the device that it is or
    belongs to, as a TaskSpec would name it; empty if there is none.
    """

    number: int
    ms: int
    action: str
    subsystem: str
    name: str
    device: str

    def to_body(self) -> list[object]:
        """The call's body, and a row of the claim."""
        return [self.number, self.ms, self.action, self.subsystem, self.name, self.device]

    @classmethod
    def from_body(cls, obj: object) -> Event:
        """Parse. Raises FormatError."""
        number, ms, action, subsystem, name, device = as_list(obj, 6, 6, "event")
        return cls(
            as_int(number, 1, MAX_EVENTS, "event number"),
            as_int(ms, 0, _MAX_MS, "event time"),
            as_text(action, 1, 16, "action"),
            as_text(subsystem, 0, MAX_NAME, "subsystem"),
            as_text(name, 0, MAX_NAME, "device name"),
            as_text(device, 0, 13, "device"),
        )

    def __str__(self) -> str:
        belongs = f" ({self.device})" if self.device else ""
        return f"{self.action} {self.subsystem} {self.name}{belongs}".replace("  ", " ").strip()
