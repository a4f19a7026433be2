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


def affordable_rate(rate: float, questions: int, seconds: float) -> float:
    """``rate``, or less where so many questions would not last for a run of ``seconds``.

    Half of them is the mean: the number is Poisson distributed, and who has none left is declined
    for the rest of the run.
    """
    return min(rate, questions / (2 * seconds))
