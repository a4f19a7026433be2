"""What this Node's operator decided about motions that people judge: one small file for each.

`<node>/decisions/bar_maker-<hex>` holds `yes` or `no`. A file that says anything else decides
nothing.
"""

from __future__ import annotations

import time
from pathlib import Path

from nodeclient.core.admission import Motion, MotionKind
from nodeclient.core.types import Verdict
from nodeclient.files import replace_file, sync_folder
from nodeclient.store.database import Store

FOLDER = "decisions"
WORDS = {"yes": Verdict.AFFIRMING, "no": Verdict.CONTRAINDICATED}
MAX_FILE = 8  # bytes
MAX_SAID = 256  # motions of which the operator is told once


def decision_path(folder: Path, kind: MotionKind, subject: bytes) -> Path:
    """Where the decision about a subject lies; ``folder``: the Node's."""
    return folder / FOLDER / f"{kind.name.lower()}-{subject.hex()}"


def load_decision(folder: Path, kind: MotionKind, subject: bytes) -> Verdict | None:
    """What was decided; None: nothing, or nothing that can be read."""
    try:
        with decision_path(folder, kind, subject).open("rb") as file:
            return WORDS.get(file.read(MAX_FILE).decode().strip())
    except (OSError, ValueError):
        return None


def save_decision(folder: Path, kind: MotionKind, subject: bytes, verdict: Verdict) -> None:
    """Durable before it returns, whole or not at all. Raises OSError."""
    path = decision_path(folder, kind, subject)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder)
    word = next(word for word, meant in WORDS.items() if meant is verdict)
    replace_file(path, f"{word}\n".encode())


class Decisions:
    """The daemon's side; files are read anew for every question."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder, self._store = folder, store
        self._said: set[Motion] = set()

    def decide(self, motion: Motion) -> Verdict | None:
        """The vote on a motion; None: no vote."""
        decided = load_decision(self._folder, motion.kind, motion.subject)
        if decided is None and motion not in self._said and len(self._said) < MAX_SAID:
            self._said.add(motion)
            subject = f"{motion.kind.name} 0x{motion.subject.hex()}"
            text = f"motion {motion.id} ({subject}) waits: sealrun node motion decide"
            self._store.note(time.time(), None, text)
        return decided
