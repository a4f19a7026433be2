"""docs/invariants.md names tests and mutants that exist, and leaves no function out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from vyper.ast import nodes as ast  # type: ignore[import-untyped]
from vyper.ast import parse_to_ast

from scripts.mutation.report import named_tests
from scripts.mutation.sites import Mutant, contract_files, mutants_of

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (ROOT / "docs" / "invariants.md").read_text()
# Writes of a task's state: by the one function for it, and of the slot itself.
STATE_WRITES: Final = ("self._store(", "self.tasks[")


@pytest.fixture(scope="module")
def mutants() -> dict[str, Mutant]:
    return {one.name: one for file in contract_files(ROOT) for one in mutants_of(ROOT, file)}


def changing_functions(file: str) -> list[str]:
    """External functions that are neither view nor pure."""
    found = []
    for node in parse_to_ast((ROOT / file).read_text()).get_children(ast.FunctionDef):
        marks = {getattr(mark, "id", "") for mark in node.decorator_list}
        if "external" in marks and not marks & {"view", "pure"}:
            found.append(str(node.name))
    return found


def test_invariants__tests_named__exist() -> None:
    named = set(re.findall(r"`(tests/[^`]+)::([^`]+)`", PAGE))
    assert len(named) > 20
    missing = [one for one in named if f"def {one[1]}(" not in (ROOT / one[0]).read_text()]
    assert missing == []


def test_invariants__every_row__has_a_test_and_a_mutant() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| **")]
    assert len(rows) > 50
    assert sum(len(tests) > 0 for tests in named_tests().values()) == len(named_tests())
    bare = [row for row in rows if "::test_" not in row or not re.search(r":[a-z-]+#\d+`", row)]
    assert bare == []


def test_invariants__mutants_named__apply_to_the_sources(mutants: dict[str, Mutant]) -> None:
    missing = [name for name in named_tests() if name not in mutants]
    assert missing == []
    for name in named_tests():
        mutant = mutants[name]
        source = (ROOT / mutant.file).read_text()
        assert mutant.apply(source) != source


@pytest.mark.parametrize("file", ["AdmissionLedger", "AttestationLedger", "ImageRegistry",
                                  "NodeRegistry", "ReputationLedger", "TaskMarket"])  # fmt: skip
def test_invariants__every_function_that_changes_something__is_named(file: str) -> None:
    functions = changing_functions(f"contracts/{file}.vy")
    assert functions
    missing = [
        name
        for name in functions
        if f"`{file}.{name}`" not in PAGE and f"`{file}.{name}:" not in PAGE
    ]
    assert missing == []


def test_invariants__every_write_of_a_tasks_state__is_a_mutant_of_the_page(
    mutants: dict[str, Mutant],
) -> None:
    writes = [
        name
        for name, one in mutants.items()
        if one.file == "contracts/TaskMarket.vy"
        and one.operator == "removed-write"
        and one.before.startswith(STATE_WRITES)
        and "._store:" not in name
    ]
    assert len(writes) > 8
    assert [name for name in writes if name not in named_tests()] == []
