"""A banned Machine is not booted: one file in the Node's folder, which only its operator removes.

It is looked at whenever it matters, so that lifting it needs no restart; a file that cannot be read
bans, too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from nodeclient.errors import MachineError
from nodeclient.files import replace_file, sync_folder

BANNED = "banned.json"
PARDON = "look at the machine, then lift it: sealrun node pardon"
_MAX_FILE = 4096  # bytes


@dataclass(frozen=True, slots=True)
class Banned:
    """Why, and since when (seconds since 1970)."""

    reason: str
    at: int


class Ban:
    """``folder``: the Machine's, inside the Node's."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / BANNED

    def standing(self) -> Banned | None:
        """The ban, if there is one."""
        try:
            with self._path.open("rb") as file:
                raw = file.read(_MAX_FILE + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            return Banned(f"{self._path.name} cannot be read ({error.strerror})", 0)
        try:
            body = json.loads(raw)
            return Banned(str(body["reason"]), int(body["at"]))
        except (ValueError, TypeError, KeyError):
            return Banned(f"{self._path.name} is damaged", 0)

    def impose(self, reason: str, at: int) -> None:
        """Ban; the first reason stays. Raises OSError."""
        if self.standing() is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            body = {"reason": reason, "at": at}
            replace_file(self._path, json.dumps(body).encode() + b"\n")

    def lift(self) -> Banned | None:
        """Remove the ban, which is returned. Raises OSError."""
        standing = self.standing()
        if standing is not None:
            self._path.unlink(missing_ok=True)
            sync_folder(self._path.parent)
        return standing

    def check(self) -> None:
        """Raises MachineError while the Machine is banned."""
        standing = self.standing()
        if standing is not None:
            raise MachineError(f"the machine is banned ({standing.reason})", PARDON)
