"""The tables of docs/contracts.md say what the contracts are deployed with."""

from __future__ import annotations

import re

import pytest

from nodeclient.chain.presets import PRESETS
from tests.contracts.anvil import ROOT

_ROW = re.compile(r"^\| (`\w+`|class \d) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


@pytest.mark.parametrize(("column", "name"), [(1, "anvil"), (2, "mainnet")])
def test_contracts_page__parameters__are_those_of_the_presets(column: int, name: str) -> None:
    preset = PRESETS[name].to_json()
    classes = preset.pop("classes")
    expected = {f"`{key}`": str(value) for key, value in preset.items()}
    expected |= {f"class {i}": ", ".join(map(str, row)) for i, row in enumerate(classes)}
    page = (ROOT / "docs" / "contracts.md").read_text()
    assert {row[0]: row[column] for row in _ROW.findall(page)} == expected
