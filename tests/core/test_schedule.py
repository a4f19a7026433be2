"""Question times: exponential, from a generator that nobody can guess."""

from __future__ import annotations

import math

import pytest

from nodeclient.attestation import schedule as drawn
from nodeclient.core.schedule import wait_of


@pytest.mark.parametrize("rate", [0.01, 1.0, 20.0])
def test_wait_of__even_spread_of_numbers__mean_and_median_of_the_exponential(rate: float) -> None:
    waits = sorted(wait_of((n + 0.5) / 10_000, rate) for n in range(10_000))
    assert math.isclose(sum(waits) / len(waits), 1 / rate, rel_tol=0.01)
    assert math.isclose(waits[5_000], math.log(2) / rate, rel_tol=0.01)


def test_wait_of__memoryless__what_was_waited_tells_nothing() -> None:
    waits = [wait_of((n + 0.5) / 10_000, 1.0) for n in range(10_000)]
    later = [wait - 1.0 for wait in waits if wait > 1.0]
    assert math.isclose(sum(later) / len(later), 1.0, rel_tol=0.01)


@pytest.mark.parametrize(("uniform", "rate"), [(1.0, 1.0), (-0.1, 1.0), (0.5, 0.0), (0.5, -1.0)])
def test_wait_of__out_of_range__refused(uniform: float, rate: float) -> None:
    with pytest.raises(ValueError, match="schedule"):
        wait_of(uniform, rate)


def test_next_wait__drawn_twice__differs_and_is_the_systems() -> None:
    assert drawn.next_wait(1.0) != drawn.next_wait(1.0)
    with pytest.raises(NotImplementedError):
        drawn._RANDOM.getstate()  # a generator with a state could be predicted
