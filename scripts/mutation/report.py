"""Writes docs/mutation.md from the results and the reasons of docs/mutation-survivors.toml.

A reason is kept by the mutant's name and with the change it is about, so that a reason cannot go
over to another mutant unnoticed when a function changes.
"""

from __future__ import annotations

import math
import re
import sys
import tomllib
from collections import defaultdict
from functools import cache
from typing import Final

from scripts.mutation.sites import OPERATORS, ROOT, Mutant
from scripts.mutation.trial import (
    BROKEN,
    EQUIVALENT,
    KILLED,
    SLOW,
    SURVIVED,
    UNCOMPILABLE,
    Result,
)

PAGE: Final = ROOT / "docs" / "mutation.md"
REASONS: Final = ROOT / "docs" / "mutation-survivors.toml"
INVARIANTS: Final = ROOT / "docs" / "invariants.md"
_ROW: Final = re.compile(r"^\| \*\*(?P<name>[^*]+)\*\* \|.*\|$", re.MULTILINE)
_CODE: Final = re.compile(r"`([^`]+)`")


def named_tests() -> dict[str, list[str]]:
    """The mutants of docs/invariants.md, each with the tests that must kill it."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in _ROW.finditer(INVARIANTS.read_text()):
        cells = [cell.strip() for cell in row[0].strip("|").split("|")]
        tests = [one for one in _CODE.findall(cells[-2]) if "::" in one]
        for mutant in _CODE.findall(cells[-1]):
            found[mutant] += tests
    return dict(found)


def reason_of(mutant: Mutant, reasons: dict[str, dict[str, str]]) -> str | None:
    """Why a survivor survives; None if nobody has said so of exactly this change."""
    entry = reasons.get(mutant.name)
    if entry is None or (entry["before"], entry["after"]) != (mutant.before, mutant.after):
        return None
    return entry["reason"]


def is_open(mutant: Mutant, results: dict[str, Result]) -> bool:
    """Whether a mutant survives so far without a reason, or without the slow tests."""
    result = results.get(mutant.key, {"status": ""})
    silent = reason_of(mutant, _reasons()) is None
    return result["status"] == SURVIVED and (silent or not result["slow"])


def write(everything: list[Mutant], results: dict[str, Result], complete: bool) -> int:
    """Write the page; 1 if a survivor has no reason or something is not tried that should be."""
    reasons = _reasons()
    tried = [(one, results[one.key]) for one in everything if one.key in results]
    survivors = [one for one, result in tried if result["status"] == SURVIVED]
    silent = [one for one in survivors if reason_of(one, reasons) is None]
    broken = [one.name for one, result in tried if result["status"] == BROKEN]
    lines = _head(everything, tried)
    lines += _table(everything, tried)
    lines += ["", f"## Survivors ({len(survivors)})", ""]
    lines += ["| mutant | line | change | why it survives |", "|---|---|---|---|"]
    for one in survivors:
        change = f"`{_short(one.before)}` → `{_short(one.after)}`"
        reason = reason_of(one, reasons) or "**no reason given yet**"
        lines.append(f"| `{one.name}` | {one.line} | {change} | {reason} |")
    PAGE.write_text("\n".join(lines) + "\n")
    for one in silent:
        print(
            f"mutation: {one.name} survives without a reason; test it, or say why in {REASONS.name}"
        )
    if broken:
        print(f"mutation: the tool failed on {broken}", file=sys.stderr)
    missing = len(everything) - len(tried)
    if missing and complete:
        print(f"mutation: {missing} of {len(everything)} mutants are not tried yet; run it again")
    return 1 if silent or broken or (missing and complete) else 0


@cache
def _reasons() -> dict[str, dict[str, str]]:
    return tomllib.loads(REASONS.read_text()) if REASONS.exists() else {}


def _short(text: str) -> str:
    flat = " ".join(text.split()).replace("|", "\\|")
    return flat if len(flat) <= 70 else flat[:67] + "…"


def _score(results: list[Result]) -> tuple[int, int]:
    killed = sum(result["status"] in (KILLED, SLOW) for result in results)
    return killed, killed + sum(result["status"] == SURVIVED for result in results)


def interval(killed: int, counted: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, from a random sample: lower and upper bound, 0..1.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference (1927).
    """
    z = 1.959964
    share, spread = killed / counted, z * z / counted
    middle = share + spread / 2
    half = math.sqrt(spread * (share * (1 - share) + spread / 4))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


def _head(everything: list[Mutant], tried: list[tuple[Mutant, Result]]) -> list[str]:
    killed, counted = _score([result for _, result in tried])
    share = f"{100 * killed / counted:.1f} %" if counted else "nothing"
    return [
        "# Mutation tests",
        "",
        "`make mutate` changes every place of the contracts at which a fixed operator",
        "([which](../scripts/mutation/sites.py)) can change it, one place at a time, and runs the",
        "contract tests on a [chain in process](../tests/contracts/inprocess.py) until one fails.",
        "A mutant that no test notices survives. Mutants with the bytecode of the original are",
        "equivalent and count neither way; nor do those that do not compile.",
        "",
        f"{len(tried)} of {len(everything)} sites tried, **{share} of {counted} killed**.",
        *_rest(everything, tried, killed, counted),
        "",
        "Every result stands in [mutation-results.tsv](mutation-results.tsv) with the test that",
        "kills; who starts `make mutate` goes on there. A mutant meets the tests that",
        "[execute its statement](../scripts/mutation/reach.py); the stateful properties, as slow",
        "as all others together, meet what survives those (`--survivors`).",
        "",
    ]


def _rest(
    everything: list[Mutant], tried: list[tuple[Mutant, Result]], killed: int, counted: int
) -> list[str]:
    """What the score says of all sites while some are not tried."""
    found = []
    if counted and len(tried) < len(everything):
        low, high = interval(killed, counted)
        found += [
            "Sites are tried in random order: were those tried so far a fair sample, the score of",
            f"all would lie between {100 * low:.1f} % and {100 * high:.1f} % (95 % confidence).",
            "They are none: tests were written for survivors among them, so the others do worse.",
        ]
    unfinished = sum(r["status"] == SURVIVED and not r["slow"] for _, r in tried)
    if unfinished:
        found += [f"Of the survivors {unfinished} have not met the slow tests yet."]
    return found


def _table(everything: list[Mutant], tried: list[tuple[Mutant, Result]]) -> list[str]:
    lines = [
        "| file | sites | tried | killed | survived | equivalent | do not compile | score |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: list[tuple[str, set[str]]] = [
        *((file, {file}) for file in sorted({one.file for one in everything})),
        *((operator, {operator}) for operator in OPERATORS),
    ]
    for label, names in groups:
        sites = sum(bool({one.file, one.operator} & names) for one in everything)
        results = [result for one, result in tried if {one.file, one.operator} & names]
        killed, counted = _score(results)
        kinds = [sum(r["status"] == kind for r in results) for kind in (EQUIVALENT, UNCOMPILABLE)]
        score = f"{100 * killed / counted:.1f} %" if counted else "–"
        row = [label, sites, len(results), killed, counted - killed, *kinds, score]
        lines.append("| " + " | ".join(str(cell) for cell in row) + " |")
    return lines
