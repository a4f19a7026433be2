"""What a Pi notices of its own Machine, or of itself: one word for the kind, one line for people.

An incident is no verdict: the Pi acts on it by its operator's table, and the Committee hears of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What happened."""

    STRAY = "stray"  # a frame for somebody whom the Machine may not reach
    PROXY = "proxy"  # a connection that the task does not define
    HARDWARE = "hardware"  # a device came or went
    SILENCE = "silence"  # no answer in time
    ROOT = "root"  # the Pi's own root of trust is gone, or was opened
    SERVICE = "service"  # one of the Pi's own was stopped: the chain does not approve its image
    APPRAISAL = "appraisal"  # the Pi's own appraisal found a reason


@dataclass(frozen=True, slots=True)
class Incident:
    """One of them. ``text`` is printable, on one line, and holds nothing of a task."""

    kind: Kind
    text: str


Report = Callable[[Incident], None]
