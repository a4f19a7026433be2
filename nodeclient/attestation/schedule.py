"""Times at which this Node asks: memoryless, from the operating system's generator."""

from __future__ import annotations

import secrets

from nodeclient.core.schedule import wait_of

_RANDOM = secrets.SystemRandom()


def next_wait(rate: float) -> float:
    """Seconds until the next question at ``rate`` questions per second."""
    return wait_of(_RANDOM.random(), rate)
