"""What was found once and stands until the Node's operator lifts it: one file, whole or not there.

It is looked at whenever it matters, so that lifting it needs no restart; a file that cannot be read
stands, too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from nodeclient.files import replace_file, sync_folder

_MAX_FILE = 4096  # bytes


@dataclass(frozen=True, slots=True)
class Found:
    """What, and since when (seconds since 1970; 0: the file does not say)."""

    reason: str
    at: int


class Finding:
    """``path``: its file; there is none while nothing was found."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def standing(self) -> Found | None:
        """What was found, if anything. Raises nothing."""
        try:
            with self._path.open("rb") as file:
                raw = file.read(_MAX_FILE + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            return Found(f"{self._path.name} cannot be read ({error.strerror})", 0)
        try:
            body = json.loads(raw)
            return Found(str(body["reason"]), int(body["at"]))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return Found(f"{self._path.name} is damaged", 0)

    def impose(self, reason: str, at: int) -> None:
        """Write it down, durably; the first one stays. Raises OSError."""
        if self.standing() is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            body = {"reason": reason, "at": at}
            replace_file(self._path, json.dumps(body).encode() + b"\n")

    def lift(self) -> Found | None:
        """Remove it; what stood. Raises OSError."""
        standing = self.standing()
        if standing is not None:
            self._path.unlink(missing_ok=True)
            sync_folder(self._path.parent)
        return standing
