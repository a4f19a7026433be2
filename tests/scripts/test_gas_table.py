"""docs/gas.md shows what was measured, and `make gas` notices what got dearer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scripts import gas_report, gas_table
from scripts.gas_table import GOALS, faults_of, limit_of, page_part, report_of, updated

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gas.md"


def report_at_the_limits() -> dict[str, int]:
    report = {goal.key: limit_of(goal) for goal in GOALS}
    return report | {f"{key}.max": gas + 1 for key, gas in report.items()}


def test_page__rendered_again__is_the_same() -> None:
    """No figure of the tables is made by hand: all follow from the report in the page."""
    page = PAGE.read_text()
    assert updated(page, report_of(page)) == page
    assert {goal.key for goal in GOALS} <= set(report_of(page))


def test_page__figure_changed_by_hand__noticed() -> None:
    page = "# Gas\n" + page_part(report_at_the_limits())
    assert updated(page, report_of(page)) == page
    table = page.index("| step |")
    forged = page[:table] + page[table:].replace("13,000", "12,000")
    assert forged != page
    assert updated(forged, report_of(forged)) == page


def test_page__without_its_part__refused() -> None:
    for read in (report_of, lambda page: updated(page, report_at_the_limits())):
        with pytest.raises(ValueError, match="lost its generated part; restore it from git"):
            read("# Gas\n")


@pytest.mark.parametrize("key", [goal.key for goal in GOALS])
def test_faults__median_above_its_limit__named(key: str) -> None:
    report = report_at_the_limits()
    assert list(faults_of(report)) == []
    report[key] += 1
    (fault,) = faults_of(report)
    assert fault.startswith(f"gas: {key} is ")


def test_limit__ceiling_beside_a_goal__holds_until_the_goal_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    goal = replace(GOALS[0], goal=100)
    monkeypatch.setattr(gas_table, "CEILINGS", {goal.key: 120})
    assert limit_of(goal) == 120
    monkeypatch.setattr(gas_table, "CEILINGS", {goal.key: 80})
    assert limit_of(goal) == 100


@pytest.mark.parametrize(("excess", "code"), [(0, 0), (1, 1)])
def test_main__a_limit_exceeded__exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, excess: int, code: int
) -> None:
    report = report_at_the_limits()
    report[GOALS[0].key] += excess
    page = tmp_path / "gas.md"
    page.write_text(PAGE.read_text())
    monkeypatch.setattr(gas_report, "measure", lambda: report)
    monkeypatch.setattr(gas_report, "PAGE", page)
    monkeypatch.setattr(gas_report, "REPORT", tmp_path / "var" / "gas.json")
    assert gas_report.main([]) == code
    assert report_of(page.read_text()) == report
