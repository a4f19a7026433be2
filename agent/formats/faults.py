"""A defect as a log may tell it: its type and its place, never its message.

Messages quote what they stumble over: names, paths and identifiers of a TaskSpec, which no log may
hold in clear.
"""

from __future__ import annotations

import traceback
from pathlib import Path

_FRAMES = 3


def place_of(error: BaseException) -> str:
    """Type, and the innermost places in the code, one line."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    places = ", ".join(f"{Path(each.filename).name}:{each.lineno}" for each in frames)
    return f"{type(error).__name__} at {places}"
