"""Every attack stands in `docs/attacks.md`, with the defence that it would need removed."""

from __future__ import annotations

import re

import pytest

from tests.contracts.anvil import ROOT
from tests.contracts.attacks.harness import Removal
from tests.contracts.attacks.page import PAGE, attacks_of, modules, split, tables

REMOVALS = [known.removal for module in modules() for _, known in attacks_of(module)]


def test_page__tables__are_those_of_the_attacks() -> None:
    _, between, _ = split(PAGE.read_text())
    assert between.strip() == tables().strip(), "run: python -m tests.contracts.attacks.page"


@pytest.mark.parametrize(
    "removal", sorted(set(REMOVALS), key=lambda one: one.name), ids=lambda one: one.name
)
def test_removal__its_text__stands_once_in_the_source(removal: Removal) -> None:
    assert (ROOT / "contracts" / removal.file).read_text().count(removal.old) == 1
    assert removal.old != removal.new


def test_removals__names__are_unique() -> None:
    names = [removal.name for removal in set(REMOVALS)]
    assert sorted(names) == sorted(set(names))


def test_page__plain_tests_named__exist() -> None:
    before, _, after = split(PAGE.read_text())
    named = re.findall(r"`((?:attacks/)?test_\w+\.py)::(\w+)`", before + after)
    assert len(named) > 10
    for file, name in named:
        source = (ROOT / "tests" / "contracts" / file).read_text()
        assert f"def test_{name}(" in source, f"{file}: no test_{name}"
