"""Chi-square without a statistics library."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from math import exp, lgamma, log
from typing import Final

SMALLEST: Final = 5.0  # expected count below which a cell joins the rest (Cochran)


def p_value(observed: Mapping[Hashable, int], chances: Mapping[Hashable, float]) -> float:
    """Pearson's test of counts against exact chances that add up to 1.

    Something observed that has no chance gives 0. Cells with less than five expected are one cell.
    """
    if any(count and not chances.get(cell) for cell, count in observed.items()):
        return 0.0
    total = sum(observed.values())
    assert abs(sum(chances.values()) - 1) < 1e-9, "the chances do not add up to 1"
    pairs = [(observed.get(cell, 0), total * chance) for cell, chance in chances.items()]
    cells = [pair for pair in pairs if pair[1] >= SMALLEST]
    rest = [pair for pair in pairs if pair[1] < SMALLEST]
    if rest:
        cells.append((sum(pair[0] for pair in rest), sum(pair[1] for pair in rest)))
    statistic = sum((seen - expected) ** 2 / expected for seen, expected in cells)
    return upper_gamma((len(cells) - 1) / 2, statistic / 2)


def upper_gamma(a: float, x: float) -> float:
    """The regularised upper incomplete gamma function (Numerical Recipes, section 6.2)."""
    if x <= 0:
        return 1.0
    front = exp(a * log(x) - x - lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        n = a
        while term > total * 1e-16:
            n += 1
            term *= x / n
            total += term
        return 1 - front * total
    b = x + 1 - a
    c = 1e300
    d = 1 / b
    h = d
    for i in range(1, 10_000):
        an = -i * (i - a)
        b += 2
        d = 1 / (an * d + b)
        c = b + an / c
        step = d * c
        h *= step
        if abs(step - 1) < 1e-15:
            break
    return front * h
