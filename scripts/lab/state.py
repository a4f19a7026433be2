"""What a lab leaves in a file while it is up, so that others join it and a crash is cleaned up."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from nodeclient.files import replace_file
from nodeclient.machine.power import started_at

FILE: Final = "state.json"
MAX_FILE: Final = 1 << 16
TAKEN: Final = "a lab is up, or one crashed; run: sealrun lab down"


class LabError(RuntimeError):
    """Something about the lab. One line that ends with the next step."""


@dataclass(frozen=True, slots=True)
class LabState:
    """``keeper``: process id and start (clock ticks since boot) of the process that holds the lab;
    together they name it, also after the id went to another. ``rpc``: empty until all is ready.
    """

    label: str
    namespaces: tuple[str, ...]
    keeper: tuple[int, int]
    rpc: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether the process that holds the lab lives."""
        pid, started = self.keeper
        return started_at(pid) == started

    def claim(self, folder: Path) -> None:
        """Write it where no lab is up. Raises `LabError` if one is, or left something behind."""
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise LabError(TAKEN) from None
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(self), file)

    def ready(self, folder: Path, rpc: str) -> LabState:
        """Note that everybody answers, and where the chain is."""
        done = replace(self, rpc=rpc)
        replace_file(folder / FILE, json.dumps(asdict(done)).encode())
        return done

    def drop(self, folder: Path) -> None:
        """Nothing of the lab is left."""
        (folder / FILE).unlink(missing_ok=True)


def load(folder: Path) -> LabState | None:
    """The lab of ``folder``; None if there is none. Raises `LabError` for a damaged file."""
    path = folder / FILE
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MAX_FILE))
        pid, started = map(int, found["keeper"])
        names = tuple(map(_name, found["namespaces"]))
        return LabState(str(found["label"]), names, (pid, started), str(found["rpc"]))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise LabError(f"{path} is damaged; delete it and what ip netns list shows") from error


def me() -> tuple[int, int]:
    """This process, as `LabState.keeper` names it."""
    return os.getpid(), started_at(os.getpid()) or 0


def _name(text: object) -> str:
    """A namespace's name; it becomes part of a path."""
    if not isinstance(text, str) or not text.startswith("sealrun-") or "/" in text:
        raise ValueError("no namespace of a lab")
    return text
