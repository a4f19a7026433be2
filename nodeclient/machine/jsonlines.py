"""A log of one JSON object a line, which others can fill as fast as they like: it stays bounded.

Two files at most: when one is full it becomes ``<name>.1`` in place of the one before.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

MAX_BYTES = 1 << 20
_log = logging.getLogger(__name__)


class JsonLines:
    """Appends to ``path``, which only the Node's user may read."""

    def __init__(self, path: Path, most: int = MAX_BYTES) -> None:
        self._path, self._most = path, most
        self._broken = False

    def write(self, fields: Mapping[str, object]) -> None:
        """Add a line, with the time (RFC 3339, UTC) before ``fields``. A disk that is full is told
        once in the daemon's log: what is logged here was dropped, counted and reported already."""
        line = json.dumps({"time": _now(), **fields}, ensure_ascii=True) + "\n"
        try:
            self._append(line.encode())
            self._broken = False
        except OSError as error:
            if not self._broken:
                _log.warning("%s cannot be written: %s", self._path.name, error.strerror)
            self._broken = True

    def _append(self, line: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._size() + len(line) > self._most:
            self._path.replace(one_before(self._path))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        handle = os.open(self._path, flags, 0o600)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0


def one_before(path: Path) -> Path:
    """Where the lines are that came before those in ``path``."""
    return path.with_name(path.name + ".1")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
