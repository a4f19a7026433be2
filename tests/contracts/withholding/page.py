"""The table of `docs/withholding.md`, as values: what the plays are measured against."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parents[3] / "docs" / "withholding.md"
_COLUMNS: Final = 11
_CLASS: Final = re.compile(r"^\| (\d) \| ([\d,]+) \| ([\d,]+) \|$", re.MULTILINE)
# A cell that names nothing: nobody holds that place, or nobody has to wait.
NOTHING: Final = "–"


@dataclass(frozen=True, slots=True)
class Row:
    """Cells of one row; see the table's head."""

    name: str
    silent: str
    ends: str
    blocks: str
    requester: str
    executor: str
    deposit: str
    reputation: str
    members: str
    their_reputation: str
    reporter: str


def rows() -> list[Row]:
    """The rows in order. A line of the table with a cell too many or too few raises TypeError."""
    table = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    wide = [line for line in cells if len(line) != 3]
    return [Row(*line) for line in wide if line[0] != "row"]


def longest() -> dict[int, tuple[int, int]]:
    """By class: blocks of the longest way out, on anvil and on mainnet."""
    numbers = _CLASS.findall(PAGE.read_text())
    return {int(c): (int(a.replace(",", "")), int(b.replace(",", ""))) for c, a, b in numbers}


def value(cell: str, names: Mapping[str, int]) -> Fraction:
    """A sum of products such as `E + k·M`, `−U/4` or `+1/4`.

    Raises:
        KeyError: a name that stands for nothing.
    """
    text = cell.replace("−", "-").replace(" ", "")
    terms = re.findall(r"([+-]?)([^+-]+)", text)
    return sum(
        (_term(body, names) * (-1 if sign == "-" else 1) for sign, body in terms), Fraction()
    )


def values(cell: str, names: Mapping[str, int]) -> list[Fraction]:
    """A list of them, by seat; nothing is an empty list."""
    return [] if cell == NOTHING else [value(part, names) for part in cell.split(",")]


def _term(text: str, names: Mapping[str, int]) -> Fraction:
    product, _, divisor = text.partition("/")
    result = Fraction(1, int(divisor or 1))
    for factor in product.split("·"):
        result *= int(factor) if factor.isdigit() else names[factor]
    return result
