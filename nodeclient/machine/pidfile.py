"""A process that outlives this one, noted in a file so that a later life of us finds it again."""

from __future__ import annotations

from pathlib import Path

from nodeclient.machine.power import started_at


class PidFile:
    """A file with the id of a process and when it began: the id alone may be another's by now."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def exists(self) -> bool:
        """Whether a process is noted, alive or not."""
        return self._path.exists()

    def note(self, pid: int) -> tuple[int, int]:
        """Note a process that was just started: its (pid, start)."""
        found = pid, started_at(pid) or 0
        self._path.write_text(f"{found[0]} {found[1]}\n")
        return found

    def read(self) -> tuple[int, int]:
        """(pid, start in clock ticks since boot) as noted; zeros if nothing is."""
        try:
            pid, started = self._path.read_text().split()
            return int(pid), int(started)
        except (OSError, ValueError):
            return 0, 0

    def forget(self) -> None:
        """Nothing is noted any more."""
        self._path.unlink(missing_ok=True)
