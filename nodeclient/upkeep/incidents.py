"""Where incidents come in: written down, told to the operator, and put to the rules of the Task
that holds the Machine.

Producers call ``report`` from the event loop or from a thread of their own. The line in
``incidents.jsonl`` comes first: it needs no Task, and it is what a person looks at.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from nodeclient.core import actions as do
from nodeclient.core import events as ev
from nodeclient.core.case import Case
from nodeclient.core.incidents import Incident, Kind
from nodeclient.core.roles.execution import HOLDING
from nodeclient.core.types import Commitment
from nodeclient.machine.jsonlines import JsonLines
from nodeclient.store.database import Store

INCIDENTS = "incidents.jsonl"
MAX_BYTES = 1 << 20  # of the file, before it becomes incidents.jsonl.1
MAX_TEXT = 200  # characters

ABOUT_MACHINE = (
    *(do.BootMachine, do.PrepareTask, do.CollectNonces, do.TakeEvidence, do.CollectVotes),
    *(do.SubmitRecord, do.MonitorMachine, do.WatchMachine, do.CleanMachine),
)
Tell = Callable[[ev.OutcomeEvent], None]


class IncidentLog:
    """One line for each incident and each response, in the Machine's folder; a full disk keeps
    nobody from acting.
    """

    def __init__(self, folder: Path) -> None:
        self._lines = JsonLines(folder / INCIDENTS, MAX_BYTES)

    def add(self, **fields: object) -> None:
        """Append a line."""
        self._lines.write(fields)


class Incidents:
    """``tell`` puts an event to the rules, ``note`` tells the operator, ``count`` the numbers that
    are kept. Construct inside the event loop.
    """

    def __init__(
        self,
        lines: IncidentLog,
        store: Store,
        tell: Tell,
        note: Callable[[Commitment | None, str, str], None],
        count: Callable[[Kind], None],
    ) -> None:
        self._lines, self._store, self._tell, self._note = lines, store, tell, note
        self._count = count
        self._loop = asyncio.get_running_loop()

    def report(self, incident: Incident) -> None:
        """Take an incident; ``core.incidents.Report``, from any thread."""
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._take(incident)
        else:
            self._loop.call_soon_threadsafe(self._take, incident)

    def _take(self, incident: Incident) -> None:
        text = "".join(c if c.isprintable() else "?" for c in incident.text[:MAX_TEXT])
        holding = self._holding()
        tasks = [case.commitment.hex() for case in holding]
        self._lines.add(kind=incident.kind.value, text=text, tasks=tasks)
        self._count(incident.kind)
        self._note(
            holding[0].commitment if holding else None, f"incident: {incident.kind}", f": {text}"
        )
        for case in holding:
            self._tell(
                ev.IncidentNoticed(
                    commitment=case.commitment,
                    kind=incident.kind,
                    text=text,
                    at=int(time.time()),
                )
            )

    def _holding(self) -> list[Case]:
        """The Task that holds the Machine: the one with orders about it still to be done."""
        held = {each for kind in ABOUT_MACHINE for each in self._store.waiting_for(kind)}
        cases = [self._store.case(each) for each in sorted(held)]
        return [
            case
            for case in cases
            if case is not None and case.executor is not None and case.executor.state in HOLDING
        ]
