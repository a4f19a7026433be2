"""The chance that nobody asks during a misbehaviour, with the scheduler that the daemon uses.

The long run is `make evasion`. Bounds are five standard deviations of a fixed number of attacks:
one run in a million fails by chance.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import AsyncIterator

import pytest

from nodeclient.attestation.schedule import Clock, moments
from nodeclient.core.schedule import affordable_rate
from nodeclient.duties import monitoring, questioning
from scripts.evasion import ROWS, Attacker, Row, Schedule, Simulated, missed_share

ATTACKS = 20_000
DEVIATIONS = 5.0


def deviations(row: Row, share: float) -> float:
    """How many standard deviations a measured share lies from the formula."""
    p, campaigns = row.missed, ATTACKS // row.serial
    return abs(share - p) / math.sqrt(p * (1 - p) / campaigns)


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_real_schedule__misses_as_often_as_the_formula_says(row: Row) -> None:
    assert deviations(row, await missed_share(row, ATTACKS)) < DEVIATIONS


async def every_other_second(rate: float, clock: Clock) -> AsyncIterator[float]:
    """A schedule that a Pi can learn."""
    while True:
        await clock.sleep(1 / rate)
        yield clock.now()


async def after_a_rest(rate: float, clock: Clock) -> AsyncIterator[float]:
    """Exponential, but never soon after a question: the mean is right, and yet it tells."""
    async for _ in moments(2 * rate, clock):
        await clock.sleep(1 / (2 * rate))
        yield clock.now()


@pytest.mark.parametrize("schedule", [every_other_second, after_a_rest])
async def test_schedule_that_is_not_memoryless__is_told_apart(schedule: Schedule) -> None:
    row = Row((0.5,), 1.0, Attacker.AFTER)
    assert deviations(row, await missed_share(row, ATTACKS, schedule)) > 10 * DEVIATIONS


async def test_moments__asker_that_takes_long__does_not_shift_the_next_ones() -> None:
    """Else a Machine would thin the questions out by answering slowly."""
    clock, seen = Simulated(), []
    async for moment in moments(1.0, clock):
        seen.append(moment)
        clock.seconds = max(clock.seconds, moment) + 0.5  # every answer takes that long
        if len(seen) == 10_000:
            break
    assert math.isclose(seen[-1] / len(seen), 1.0, rel_tol=0.05)


async def test_moments__after_a_long_sleep__not_all_at_once() -> None:
    clock = Simulated()
    asking = moments(1.0, clock)
    await anext(asking)
    clock.seconds += 10_000.0
    burst = 0
    while await anext(asking) <= 10_000.0:
        burst += 1
    assert burst < 20


async def test_loop__waits_in_real_time() -> None:
    asking = moments(1_000.0)
    async with asyncio.timeout(30):
        times = [await anext(asking) for _ in range(20)]
    assert times == sorted(times)


@pytest.mark.parametrize("module", [questioning, monitoring])
def test_daemon__asks_by_this_very_loop(module: object) -> None:
    assert vars(module)["moments"] is moments
    assert "async for _ in moments(" in inspect.getsource(module)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rate", "questions", "seconds", "afforded"),
    [(0.5, 341, 60, 0.5), (0.5, 341, 3_600, 341 / 7_200), (5.0, 341, 60, 341 / 120)],
)
def test_affordable_rate__long_runs_are_asked_about_to_their_end(
    rate: float, questions: int, seconds: float, afforded: float
) -> None:
    assert affordable_rate(rate, questions, seconds) == afforded
