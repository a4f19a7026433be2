"""What only grows: incidents and Tasks that ended, counted since the daemon started."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from nodeclient.core import events as ev
from nodeclient.core.case import Case
from nodeclient.core.health import TaskPart
from nodeclient.core.incidents import Kind
from nodeclient.core.types import Address
from nodeclient.health.state import open_tasks
from nodeclient.store.database import Store


class Tally:
    """``on_incident`` is told of each as well, on the event loop."""

    def __init__(self, account: Address) -> None:
        self._account = account
        self._ended: Counter[str] = Counter()
        self._incidents: Counter[str] = Counter()
        self.on_incident: Callable[[Kind, int], None] = lambda _kind, _count: None

    def incident(self, kind: Kind) -> None:
        """Count one."""
        self._incidents[kind.value] += 1
        self.on_incident(kind, self._incidents[kind.value])

    def committed(self, before: Case | None, after: Case, _event: ev.Event) -> None:
        """Count a Task that is over, if this Node had a part in it; the runner's ``on_commit``."""
        ended = after.over and (before is None or not before.over)
        if ended and after.state is not None and self._has_part(after):
            self._ended[after.state.name] += 1

    def _has_part(self, case: Case) -> bool:
        """Every posted Task makes a Case; those of others are not this Node's business."""
        drawn = case.task is not None and self._account in (case.task.executor, *case.members)
        return drawn or any((case.broker, case.requester, case.receiver))

    def incidents(self) -> tuple[tuple[str, int], ...]:
        """How many of each kind."""
        return tuple(sorted(self._incidents.items()))

    def tasks(self, store: Store) -> TaskPart:
        """How many Tasks are open, known and ended."""
        ended = tuple(sorted(self._ended.items()))
        return TaskPart(open_tasks(store), store.known(), ended)
