"""A process that outlives this one, noted in a file so that a later life of us finds it again."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from nodeclient.machine.power import kill_process, started_at


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


class NotedProcess:
    """A program that outlives this process: started once, found and ended by any later life."""

    def __init__(self, path: Path) -> None:
        """`path`: where it is noted."""
        self._noted = PidFile(path)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        """Whether it lives, whoever started it."""
        if self._child is not None:
            self._child.poll()  # collects it, if it ended
        pid, started = self._noted.read()
        return pid > 0 and started_at(pid) == started

    def start(self, argv: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Start it, without input, its words into `log`, and note it. Raises OSError."""
        with log.open("wb") as words:
            child = self._child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,  # a PC does not go off when its Pi's daemon does
            )
        self._noted.note(child.pid)
        return child

    def end(self) -> None:
        """Kill it, whoever started it, and forget it. Raises MachineError."""
        pid, started = self._noted.read()
        if pid:
            kill_process(pid, started)
        if self._child is not None:
            self._child.wait(timeout=60)
            self._child = None
        self._noted.forget()
