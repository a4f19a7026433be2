"""What the Machine's kernel said about devices, as its Pi hears it: kept, and reported at once.

Each event is one JSON line in a file of bounded size, and an incident, unless the task permits the
device. The Agent repeats a call whose answer it did not get, also to a daemon that has started
again in between: every event is written once and reported at least once, and one that is left out
is an incident.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

from agent.formats.cbor import FormatError
from agent.formats.events import CUT, LOST, MAX_EVENTS, Event
from agent.formats.messages import Prepare
from agent.formats.taskspec import TaskSpec
from nodeclient.core.incidents import Incident, Kind, Report
from nodeclient.machine.jsonlines import JsonLines, one_before

EVENTS: Final = "events.jsonl"
MAX_FILE: Final = 1 << 20  # bytes; twice that with the file before


class EventJournal:
    """`path`: the file, in a folder that exists by the first event. Constructing reads nothing."""

    def __init__(self, path: Path, report: Report) -> None:
        self._path, self._report = path, report
        self._lines = JsonLines(path, MAX_FILE)
        self._boot = ""
        self._last = 0
        self._permitted: frozenset[str] = frozenset()

    def take(self, boot: bytes, event: Event, devices: Collection[str] = ()) -> None:
        """Keep and report an event of the boot with this signing key. Repeatable.

        ``devices``: those of the task that holds the Machine. The fresh boot after the run is given
        no task, and what the task permits may come and go there, too.
        """
        self._turn_to(boot)
        if event.number <= self._last:
            return
        if event.number > self._last + 1:
            self._tell(f"{event.number - self._last - 1} kernel events were not told")
        known = event.device in self._permitted or event.device in devices
        permitted = known and event.action not in (CUT, LOST)
        if not permitted:  # before it is kept: who is killed in between hears of it again
            self._tell(f"kernel event {event.number}: {_said(event)}")
        self._lines.write(
            {
                "boot": self._boot,
                "number": event.number,
                "ms": event.ms,
                "action": event.action,
                "subsystem": event.subsystem,
                "name": event.name,
                "device": event.device,
                "permitted": permitted,
            }
        )
        self._last = event.number

    def permit(self, boot: bytes, order: object) -> None:
        """The Agent of this boot took the task of `prepare`'s body: its devices may come and go."""
        try:
            devices = TaskSpec.decode(Prepare.from_body(order).spec).devices
        except FormatError:  # the Agent refuses it as well
            return
        self._turn_to(boot)
        # Not into the file, where a task's words would stand in clear: a daemon that starts anew
        # learns them from its store (`devices` of `take`).
        self._permitted = frozenset(devices)

    def _turn_to(self, boot: bytes) -> None:
        label = boot.hex()[:32]
        if label == self._boot:
            return
        self._boot, self._last, self._permitted = label, 0, frozenset()
        for line in _lines(self._path):
            if line.get("boot") != label:
                continue
            if isinstance(number := line.get("number"), int):
                self._last = max(self._last, min(number, MAX_EVENTS))

    def _tell(self, text: str) -> None:
        self._report(Incident(Kind.HARDWARE, text))


def _said(event: Event) -> str:
    if event.action == LOST:
        return "the kernel dropped events"
    if event.action == CUT:
        return f"more than {MAX_EVENTS} of them; the rest is not told"
    return str(event)


def _lines(path: Path) -> Sequence[dict[str, Any]]:
    """Lines of the file and the one before it; one that was cut by a crash is left out."""
    found: list[dict[str, Any]] = []
    for file in (one_before(path), path):
        try:
            with file.open() as journal:
                text = journal.read(MAX_FILE)
        except (OSError, ValueError):
            continue
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                found.append(entry)
    return found
