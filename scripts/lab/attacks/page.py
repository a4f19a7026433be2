"""Writes the table of `docs/lab-attacks.md`. Usage: python -m scripts.lab.attacks.page"""

from __future__ import annotations

from typing import Final

from scripts.embedded.chain import ROOT
from scripts.lab.attacks.table import ATTACKS

PAGE: Final = ROOT / "docs" / "lab-attacks.md"
BEGIN, END = "<!-- attacks -->\n", "<!-- /attacks -->\n"


def table() -> str:
    """One row for each attack."""
    rows = ["| name | on | what is done | refused for exactly |", "|---|---|---|---|"]
    for one in ATTACKS:
        reasons = "<br>".join(f"`{text}`" for text in one.expected)
        rows.append(f"| `{one.name}` | {one.stage.value} | {one.what} | {reasons} |")
    return "\n".join(rows) + "\n"


def split(text: str) -> tuple[str, str, str]:
    """(before, table, after)."""
    before, _, rest = text.partition(BEGIN)
    between, _, after = rest.partition(END)
    return before, between, after


if __name__ == "__main__":
    head, _, tail = split(PAGE.read_text())
    PAGE.write_text(head + BEGIN + table() + END + tail)
