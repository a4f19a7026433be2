"""Services that a guard apart has stopped, told in the daemon once each, over restarts of both.

The guard counts them in the picture that it leaves in the node's folder. The service that it stops
may be the container of this very daemon: then the next daemon to start tells.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from nodeclient.core.incidents import Incident, Kind, Report
from nodeclient.files import replace_file
from nodeclient.images.picture import Picture

TOLD = "services.told"
MOST = 32  # told one by one, of as many as happened since the last look


class StopBook:
    """``folder`` keeps how many were told; ``picture`` gives the guard's newest."""

    def __init__(self, folder: Path, picture: Callable[[], Picture], report: Report) -> None:
        self._path, self._picture, self._report = folder / TOLD, picture, report
        self._told = _read(self._path)

    def look(self) -> None:
        """Tell of what was stopped since the last look."""
        picture = self._picture()
        stops = picture.stops
        if stops == self._told or picture == Picture():  # none is there: nothing is said by that
            return
        # Fewer than were told: the guard lost its picture and counts from the beginning.
        new = stops - self._told if stops > self._told else stops
        self._told = stops
        with contextlib.suppress(OSError):  # a full disk tells twice rather than not at all
            replace_file(self._path, str(stops).encode())
        for _ in range(min(new, MOST)):
            self._report(Incident(Kind.SERVICE, "the guard stopped a service: see services.jsonl"))


def _read(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return int(file.read(20))
    except (OSError, ValueError):
        return 0
