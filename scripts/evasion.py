"""A million attacks between the questions of the real scheduler, against docs/evasion.md.

    make evasion                 # or: python -m scripts.evasion [--attacks N] [--json FILE]

The times come from ``nodeclient.attestation.schedule.moments``, the loop that members and Pi ask
by, and so from the operating system's generator; only the clock is simulated, because a million
attacks of seconds each would take weeks. Exits with 1 if a row is off by more than one percent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nodeclient.attestation.schedule import Clock, moments

PAUSE = 0.1  # seconds between two attacks of one who cannot see the questions
MOST_OFF = 0.01

Schedule = Callable[[float, Clock], AsyncIterator[float]]


class Attacker(StrEnum):
    """Who attacks at what moments."""

    BLIND = "every now and then"
    AFTER = "right after a question"  # as the operator of the Pi can, through which they pass


@dataclass
class Simulated:
    """A clock that is as late as somebody slept."""

    seconds: float = 0.0

    def now(self) -> float:
        """Seconds since the start."""
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Takes no time."""
        self.seconds += seconds


@dataclass(frozen=True, slots=True)
class Row:
    """Askers with their rates (per second), and attacks of ``window`` seconds, ``serial`` of which
    are one campaign: it is missed if each of them is."""

    rates: tuple[float, ...]
    window: float
    attacker: Attacker = Attacker.BLIND
    serial: int = 1

    @property
    def missed(self) -> float:
        """e^(-λ·w·n), λ the sum of all rates."""
        return math.exp(-sum(self.rates) * self.window * self.serial)


ROWS = (
    *(Row((0.5,), window, who) for window in (0.2, 1.0, 2.0, 4.0) for who in Attacker),
    *(Row((0.5, 0.5, 0.5), 1.0, who) for who in Attacker),
    *(Row((0.5, 0.5, 0.5, 0.2), 1.0, who) for who in Attacker),
    *(Row((0.1,), 2.0, who, serial=5) for who in Attacker),
)


async def missed_share(row: Row, attacks: int, schedule: Schedule = moments) -> float:
    """Which share of campaigns, of ``attacks`` in all, no question met."""
    askers = [schedule(rate, Simulated()) for rate in row.rates]
    due = [await anext(asker) for asker in askers]
    begin, missed, campaigns, met = 0.0, 0, 0, False
    for number in range(1, attacks - attacks % row.serial + 1):
        if row.attacker is Attacker.AFTER:
            begin = max(begin, min(due))  # the next question passes, and then
        end = begin + row.window
        for each, asker in enumerate(askers):
            while due[each] <= begin:
                due[each] = await anext(asker)
            while due[each] <= end:
                met = True
                due[each] = await anext(asker)
        if number % row.serial == 0:
            campaigns, missed, met = campaigns + 1, missed + (not met), False
        begin = end + (PAUSE if row.attacker is Attacker.BLIND else 0.0)
    return missed / campaigns


def table(rows: Sequence[tuple[Row, float]]) -> str:
    """For people, and for docs/evasion.md."""
    lines = [
        "| askers, questions per second | attacks of | in a row | when | missed | formula | off |",
        "|---|---|---|---|---|---|---|",
    ]
    for row, share in rows:
        rates = " + ".join(f"{rate:g}" for rate in row.rates)
        off = (share - row.missed) / row.missed
        lines.append(
            f"| {rates} | {row.window:g} s | {row.serial} | {row.attacker} | {share:.4%} | "
            f"{row.missed:.4%} | {off:+.2%} |"
        )
    return "\n".join(lines)


async def measure(attacks: int) -> list[tuple[Row, float]]:
    """All rows."""
    return [(row, await missed_share(row, attacks)) for row in ROWS]


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attacks", type=int, default=1_000_000, help="of each row")
    parser.add_argument("--json", type=Path, default=Path("var/evasion.json"))
    options = parser.parse_args()
    rows = asyncio.run(measure(options.attacks))
    print(table(rows))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    figures = [
        {
            "rates": row.rates,
            "window_seconds": row.window,
            "serial": row.serial,
            "attacker": row.attacker.value,
            "missed": share,
            "formula": row.missed,
        }
        for row, share in rows
    ]
    options.json.write_text(json.dumps({"attacks": options.attacks, "rows": figures}, indent=1))
    off = [row for row, share in rows if abs(share - row.missed) > MOST_OFF * row.missed]
    if off:
        print(f"off by more than {MOST_OFF:.0%}: {off}; look at the schedule", file=sys.stderr)
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
