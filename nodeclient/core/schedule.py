"""When to ask: a Poisson process, so that the time since the last question tells nothing. Pure."""

from __future__ import annotations

import math


def wait_of(uniform: float, rate: float) -> float:
    """Exponential waiting time in seconds from a uniform number in [0, 1) and questions a second.

    Raises:
        ValueError: a number outside [0, 1), or a rate that is not positive.
    """
    if not 0.0 <= uniform < 1.0 or rate <= 0.0:
        raise ValueError("schedule: a uniform number in [0, 1) and a positive rate are needed")
    return -math.log1p(-uniform) / rate
