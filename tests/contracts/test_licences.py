"""A contract that compiles AGPL code in says so, and no other one does."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.contracts.anvil import ROOT

CONTRACTS = ROOT / "contracts"
_IMPORT = re.compile(r"^from (\.*)([\w.]*) import (\w+)", re.MULTILINE)
_LICENCE = re.compile(r"^@license (\S+)$", re.MULTILINE)


@cache
def compiles_snekmate(source: Path) -> bool:
    """Whether code of snekmate (AGPL-3.0-only) is compiled into a source, by its imports."""
    for dots, package, name in _IMPORT.findall(source.read_text()):
        if not dots:
            if package.startswith("snekmate"):
                return True
            continue
        folder = source.parents[len(dots) - 1].joinpath(*package.split(".")) if package else None
        module = (folder or source.parents[len(dots) - 1]) / f"{name}.vy"
        # An interface brings declarations only.
        if module.is_file() and compiles_snekmate(module):
            return True
    return False


@pytest.mark.parametrize("source", sorted(CONTRACTS.rglob("*.vy*")), ids=lambda path: path.name)
def test_licence__as_its_imports_demand(source: Path) -> None:
    expected = "AGPL-3.0-only" if compiles_snekmate(source) else "Apache-2.0"
    assert _LICENCE.findall(source.read_text()) == [expected]


def test_licence__both_texts_are_here() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    text = (ROOT / "LICENSES" / "AGPL-3.0-only.txt").read_text()
    assert "GNU AFFERO GENERAL PUBLIC LICENSE" in text
    assert compiles_snekmate(CONTRACTS / "TaskMarket.vy")
    assert not compiles_snekmate(CONTRACTS / "ImageRegistry.vy")
