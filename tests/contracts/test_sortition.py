"""The committee that Python expects is the one that `class_grid.vy` draws."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boa
import pytest
from eth_utils import to_checksum_address

from nodeclient.core import sortition
from tests.contracts.anvil import ROOT

NOBODY = "0x" + "00" * 20


def seed_of(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(4, "big")).digest()


def filled(grid: Any, sizes: list[int]) -> dict[int, str]:
    """Fills each class; gives the account behind each code."""
    accounts = {}
    for tier, size in enumerate(sizes):
        for position in range(size):
            code = tier << sortition.POSITION_BITS | position
            accounts[code] = to_checksum_address(f"0x{0xA0000 + code:040x}")
            grid.add(accounts[code], tier)
    return accounts


@pytest.fixture
def grid() -> Iterator[Any]:
    with boa.env.anchor():
        yield boa.load(str(ROOT / "contracts/mocks/ClassGridMock.vy"))


@pytest.mark.parametrize(
    "sizes",
    [
        [12],  # redraws in nearly every seat
        [0, 0, 0, 0, 12],
        [9, 4, 0, 2, 0, 0, 0, 0, 0, 1],  # one node with nearly all the weight
        [3, 3, 3, 3, 3, 3, 3, 3, 3, 3],
    ],
)
def test_draw_codes__any_seed__names_the_nodes_that_the_contract_draws(
    grid: Any, sizes: list[int]
) -> None:
    accounts = filled(grid, sizes)
    excluded = max(accounts)
    for number in range(8):
        seed = seed_of(number)
        for seats, code in ((3, None), (11, None), (3, excluded), (11, excluded)):
            expected = sortition.draw_codes(seed, seats, sizes, code)
            drawn = grid.draw(seed, seats, NOBODY if code is None else accounts[code])
            assert [str(who) for who in drawn] == [accounts[code] for code in expected]


@pytest.mark.parametrize("redraws", [0, 1])
def test_draw_codes__no_free_position_hit__both_walk_on_to_the_next(
    redraws: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 256 redraws nobody will ever see the walk: here there are none, or one."""
    for name in ("modules/class_grid.vy", "mocks/ClassGridMock.vy"):
        (tmp_path / name).parent.mkdir()
        source = (ROOT / "contracts" / name).read_text()
        constant = "REDRAWS: constant(uint256) = "
        changed = source.replace(f"{constant}256", f"{constant}{redraws}")
        assert (changed != source) == (name == "modules/class_grid.vy")
        (tmp_path / name).write_text(changed)
    monkeypatch.setattr(sortition, "REDRAWS", redraws)
    sizes = [0, 0, 12]
    with boa.env.anchor():
        grid = boa.load(str(tmp_path / "mocks/ClassGridMock.vy"))
        accounts = filled(grid, sizes)
        for number in range(8):
            expected = sortition.draw_codes(seed_of(number), 11, sizes, max(accounts))
            drawn = grid.draw(seed_of(number), 11, accounts[max(accounts)])
            assert [str(who) for who in drawn] == [accounts[code] for code in expected]
