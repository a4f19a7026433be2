"""Another function with other files, from paths given on the command line alone."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from scripts import demo
from scripts.embedded.chain import ROOT
from scripts.embedded.job import order
from tests.e2e import quick
from tests.e2e.conftest import Driver

TEXTS = (ROOT / "README.md", ROOT / "LICENSE")


def test_word_frequency__paths_on_the_command_line__right_table_for_both(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--function", str(ROOT / "examples" / "word-frequency" / "function")]
    for text in TEXTS:
        words += ["--input", str(text)]
    monkeypatch.setattr(sys, "argv", ["demo.py", *words, "--argument", "7"])
    wanted = demo.arguments()
    asked = quick.request(driver, wanted.function, wanted.input, arguments=wanted.argument)
    task = order(driver.requester, asked)
    owners = (driver.b, driver.c)
    driver.until(task, "SETTLED")
    tables = [read(driver.results(task, owner) / "words.tsv") for owner in owners]
    assert tables[0] == tables[1]
    assert len(tables[0]) == 7
    assert tables[0] == most_common(7)


def read(file: Path) -> list[tuple[int, str]]:
    """The table as (count, word)."""
    rows = (line.split("\t") for line in file.read_text().splitlines())
    return [(int(count), word) for count, word in rows]


def most_common(number: int) -> list[tuple[int, str]]:
    """The same, counted here in another way: letter by letter."""
    counts: Counter[str] = Counter()
    for text in TEXTS:
        spread = "".join(c if c.isalpha() or c in "'’" else " " for c in text.read_text())
        # An apostrophe belongs to a word only between letters.
        spread = re.sub(r"(?<![^\W\d_])['’]|['’](?![^\W\d_])", " ", spread)
        counts.update(word.casefold() for word in spread.split())
    return sorted(((n, word) for word, n in counts.items()), key=lambda row: (-row[0], row[1]))[
        :number
    ]
