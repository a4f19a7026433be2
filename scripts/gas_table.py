"""Goals and anchors of gas, and the page that shows a report beside them. Pure.

A report maps keys to gas: `<key>` is the median, `<key>.max` the highest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

Report = Mapping[str, int]
BEGIN: Final = "<!-- report: written by `make gas`, the tables below are rendered from it"
END: Final = "<!-- end of the report -->"
_PART: Final = re.compile(re.escape(BEGIN) + r"\n(?P<json>\{.*?\})\n-->\n.*?" + END, re.DOTALL)


@dataclass(frozen=True, slots=True)
class Goal:
    """What a step should cost at most, and the best that comparable systems do."""

    key: str
    what: str
    goal: int
    anchors: tuple[tuple[str, int], ...] = ()


GOALS: Final = (
    Goal(
        "ecvrf.execution",
        "ECVRF verification, execution",
        13_000,
        (("Chainlink, prague", 20_308), ("Chainlink, osaka", 23_007), ("Witnet", 112_007)),
    ),
    Goal(
        "draw.k3.n10000.execution",
        "draw of 3 from 10,000 nodes, execution",
        12_000,
        (("Keep pools", 63_286),),
    ),
    Goal(
        "draw.k7.n10000.execution",
        "draw of 7 from 10,000 nodes, execution",
        23_000,
        (("Keep pools, of 10", 174_598),),
    ),
    Goal(
        "deposit.change.n10000",
        "deposit change at 10,000 nodes, between tiers, execution",
        30_000,
        (("Kleros", 44_021), ("Keep", 60_692)),
    ),
    Goal("record.k7.total", "record with 7 votes and a root signature", 110_000),
    Goal(
        "task.k3.total",
        "whole task, committee of 3",
        300_000,
        (("Boundless, no jury", 356_000), ("iExec, 1 worker", 1_810_000)),
    ),
    Goal(
        "task.k7.total",
        "whole task, committee of 7",
        360_000,
        (("Boundless, no jury", 356_000), ("iExec, 5 workers", 3_410_000)),
    ),
)
# Where a goal does not hold yet: what must not be exceeded any more.
CEILINGS: Final[Mapping[str, int]] = {
    # 58,600 before admission: whether a round holds the draw is one cold slot and a call more
    "deposit.change.n10000": 61_400,
    "task.k3.total": 400_000,
    "task.k7.total": 492_000,
}


def limit_of(goal: Goal) -> int:
    """What the median may be at most: the goal, or the ceiling where the goal is not met yet."""
    return max(goal.goal, CEILINGS.get(goal.key, 0))


def faults_of(report: Report) -> Iterator[str]:
    """One line for each limit that a report exceeds."""
    for goal in GOALS:
        if report[goal.key] > limit_of(goal):
            yield (
                f"gas: {goal.key} is {report[goal.key]:,}, the limit {limit_of(goal):,}; find the "
                "step that grew with `python -m scripts.gas_report --profile`"
            )


def page_part(report: Report) -> str:
    """The generated part of docs/gas.md: the report itself and its tables."""
    body = json.dumps(report, indent=0, sort_keys=True)
    return f"{BEGIN}\n{body}\n-->\n{_goals(report)}\n{_all(report)}\n{END}"


def updated(page: str, report: Report) -> str:
    """The page with its generated part made anew.

    Raises:
        ValueError: the page has no such part.
    """
    if _PART.search(page) is None:
        raise ValueError("gas: docs/gas.md lost its generated part; restore it from git")
    return _PART.sub(lambda _: page_part(report), page)


def report_of(page: str) -> dict[str, int]:
    """The report that a page was made from.

    Raises:
        ValueError: the page has no such part.
    """
    found = _PART.search(page)
    if found is None:
        raise ValueError("gas: docs/gas.md lost its generated part; restore it from git")
    return {str(key): int(value) for key, value in json.loads(found["json"]).items()}


def _goals(report: Report) -> str:
    rows = [
        "",
        "| step | goal | median | highest | holds | anchors: gas, and how many times ours |",
    ]
    rows.append("|---|---|---|---|---|---|")
    for goal in GOALS:
        median = report[goal.key]
        holds = "yes" if median <= goal.goal else f"no, {median - goal.goal:,} above"
        anchors = "; ".join(f"{name} {gas:,} ({gas / median:.2f})" for name, gas in goal.anchors)
        rows.append(
            f"| {goal.what} (`{goal.key}`) | {goal.goal:,} | {median:,} | "
            f"{report[goal.key + '.max']:,} | {holds} | {anchors or '–'} |"
        )
    return "\n".join(rows) + "\n"


def _all(report: Report) -> str:
    rows = ["| key | median | highest |", "|---|---|---|"]
    rows += [
        f"| `{key}` | {report[key]:,} | {report[key + '.max']:,} |"
        for key in sorted(report)
        if not key.endswith(".max")
    ]
    return "\n".join(rows) + "\n"
