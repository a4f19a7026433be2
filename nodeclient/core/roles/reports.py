"""What an Executor tells of its own Machine, as a member keeps it (docs/adr/0025).

A report is no Evidence: it costs the Executor no vote. One that says "I gave this boot up" only
means that this boot is affirmed no more, and after the record there is no other boot to affirm.
"""

from __future__ import annotations

from dataclasses import dataclass

from nodeclient.core import events as ev
from nodeclient.core.incidents import Kind
from nodeclient.core.types import Phase

MAX_REPORTS = 32  # bounds what an Executor can make a member remember


@dataclass(frozen=True, slots=True)
class Reported:
    """One report. ``ended``: the boot of ``phase`` and ``attempt`` was given up."""

    phase: Phase
    attempt: int
    kind: Kind
    text: str
    ended: bool

    def __str__(self) -> str:
        done = ", and gave the boot up" if self.ended else ""
        return f"reported: {self.phase.name} {self.attempt}: {self.kind}: {self.text}{done}"


def keep(reported: tuple[Reported, ...], event: ev.IncidentReported) -> tuple[Reported, ...]:
    """With the new one, once. Those that end a boot always find room: there are few boots."""
    new = Reported(event.phase, event.attempt, event.kind, event.text, event.ended)
    if new in reported or (new.ended and is_blocked(reported, new.phase, new.attempt)):
        return reported
    full = sum(not each.ended for each in reported) >= MAX_REPORTS
    return reported if full and not new.ended else (*reported, new)


def is_blocked(reported: tuple[Reported, ...], phase: Phase, attempt: int) -> bool:
    """Whether the Evidence of a (phase, attempt) is affirmed no more.

    A boot that was given up is never affirmed; a fresh one may be. After the record the run has but
    one boot, and AFTER speaks of it.
    """
    return any(
        each.ended
        and (
            (each.phase, each.attempt) == (phase, attempt)
            or (each.phase is Phase.DURING and phase is not Phase.BEFORE)
        )
        for each in reported
    )
