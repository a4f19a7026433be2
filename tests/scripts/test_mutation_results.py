"""What `make mutate` keeps between runs, and what it says about sites that are not tried yet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scripts.mutation import results
from scripts.mutation.report import interval
from scripts.mutation.sites import ROOT, Mutant, mutants_of

FILE = "contracts/modules/ticket.vy"


@pytest.fixture(scope="module")
def mutants() -> list[Mutant]:
    return mutants_of(ROOT, FILE)


def test_load__what_was_saved__is_there_for_the_same_mutants_only(
    mutants: list[Mutant], tmp_path: Path
) -> None:
    path = tmp_path / "results.tsv"
    kept = {
        mutants[0].key: {"status": "killed", "slow": False, "by": "test::one[a b]", "file": FILE},
        mutants[1].key: {"status": "survived", "slow": True, "by": "", "file": FILE},
    }
    results.save(mutants, kept, path)
    assert results.load(mutants, path) == kept
    changed = [replace(mutants[0], key="of another source"), *mutants[1:]]
    assert results.load(changed, path) == {mutants[1].key: kept[mutants[1].key]}
    assert len(path.read_text().splitlines()) == 3


CODE = """# pragma version 0.4.3
LIMIT: constant(uint256) = 3


@external
@view
def first(a: uint256) -> uint256:
    return a - 1


@external
def second(a: uint256) -> uint256:
    return a - 2
"""


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("a - 2", "a - 4", {"first", "constants"}),
        ("@view", "@pure", {"second", "constants"}),
        ("= 3", "= 5", {"first", "second"}),
        ("\n\n\n@external\ndef", "\n\n@external\ndef", {"first", "second", "constants"}),
    ],
)
def test_key__one_function_changed__those_of_the_others_stay(
    tmp_path: Path, old: str, new: str, same: set[str]
) -> None:
    path = tmp_path / "a.vy"
    keys = []
    for text in (CODE, CODE.replace(old, new)):
        path.write_text(text)
        keys.append({one.key: one.name.split(".")[1] for one in mutants_of(tmp_path, "a.vy")})
    before, after = keys
    assert {name.split(":")[0] for key, name in before.items() if key in after} == same
    assert all(name.split(":")[0] in same for key, name in after.items() if key in before)


def test_load__nothing_saved__nothing(mutants: list[Mutant], tmp_path: Path) -> None:
    assert results.load(mutants, tmp_path / "results.tsv") == {}


def test_load__broken_line__is_an_error(mutants: list[Mutant], tmp_path: Path) -> None:
    path = tmp_path / "results.tsv"
    path.write_text("head\nhalf a li")
    with pytest.raises(ValueError, match="unpack"):
        results.load(mutants, path)


@pytest.mark.parametrize(
    ("killed", "counted", "low", "high"),
    # published values: Newcombe, Two-sided confidence intervals for the single proportion (1998)
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_interval__published_values(killed: int, counted: int, low: float, high: float) -> None:
    assert interval(killed, counted) == pytest.approx((low, high), abs=5e-5)
