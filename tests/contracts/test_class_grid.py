"""The draw structure on titanoboa: exact odds, distinct picks, consistent after every change."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import boa
import pytest
from eth_utils import to_checksum_address

from tests.contracts.anvil import ROOT

NOBODY = "0x" + "00" * 20


def node(number: int) -> str:
    return to_checksum_address(f"0x{0xA0000 + number:040x}")


@pytest.fixture(scope="module")
def deployed() -> Any:
    return boa.load(str(ROOT / "contracts" / "mocks" / "ClassGridMock.vy"))


@pytest.fixture
def grid(deployed: Any) -> Iterator[Any]:
    with boa.env.anchor():
        yield deployed


def filled(grid: Any, tiers: list[int]) -> list[str]:
    nodes = [node(i) for i in range(len(tiers))]
    for who, tier in zip(nodes, tiers, strict=True):
        grid.add(who, tier)
    return nodes


def chi_squared(observed: Counter[str], expected: dict[str, float]) -> float:
    return sum((observed[who] - value) ** 2 / value for who, value in expected.items())


def test_draw__many_seeds__odds_are_the_weights(grid: Any) -> None:
    tiers = [0, 0, 0, 1, 1, 2, 3, 5]
    nodes = filled(grid, tiers)
    times = 1500
    first = Counter(
        who
        for part in range(times // 500)
        for who in grid.draws(part.to_bytes(32, "big"), 1, NOBODY, 500)
    )
    total = sum(1 << tier for tier in tiers)
    expected = {who: times * (1 << tier) / total for who, tier in zip(nodes, tiers, strict=True)}
    # 7 degrees of freedom: above 35 once in 100,000; the seeds are fixed
    assert chi_squared(first, expected) < 35


def test_draw__second_seat__odds_are_those_of_what_is_left(grid: Any) -> None:
    nodes = filled(grid, [0, 0, 1, 2])
    weights = dict(zip(nodes, (1, 1, 2, 4), strict=True))
    pairs: Counter[tuple[str, str]] = Counter()
    for part in range(4):
        flat = grid.draws((1000 + part).to_bytes(32, "big"), 2, NOBODY, 500)
        pairs.update(zip(flat[::2], flat[1::2], strict=True))
    assert all(a != b for a, b in pairs)
    chi = 0.0
    for a in nodes:
        for b in nodes:
            if a != b:
                share = weights[a] / 8 * weights[b] / (8 - weights[a])
                chi += (pairs[a, b] - 2000 * share) ** 2 / (2000 * share)
    assert chi < 40  # 11 degrees of freedom: once in 10,000


def test_draw__eleven_of_twelve_without_the_excluded__distinct(grid: Any) -> None:
    nodes = filled(grid, [0] * 10 + [9, 9])
    for seed in range(15):
        drawn = grid.draw(seed.to_bytes(32, "big"), 11, nodes[11])
        assert sorted(drawn) == sorted(nodes[:11])


def test_draw__one_node_holds_nearly_all__cheap_and_distinct(grid: Any) -> None:
    nodes = filled(grid, [9, 0, 0, 0])
    drawn = grid.draw(b"\x07" * 32, 3, nodes[0])
    assert sorted(drawn) == sorted(nodes[1:])


def test_draw__more_than_there_are__reverts(grid: Any) -> None:
    nodes = filled(grid, [0, 1, 2])
    with boa.reverts("grid: too few nodes"):
        grid.draw(b"\x01" * 32, 3, nodes[0])


def test_draw__excluded_is_not_in_the_draw__all_can_be_drawn(grid: Any) -> None:
    nodes = filled(grid, [0, 1, 2])
    assert sorted(grid.draw(b"\x01" * 32, 3, node(99))) == sorted(nodes)


def test_change__random_adds_and_removes__structure_stays_whole(grid: Any) -> None:
    rng = random.Random(5)
    members: dict[str, int] = {}
    for step in range(150):
        if members and rng.random() < 0.45:
            who = rng.choice(list(members))
            grid.remove(who)
            del members[who]
        else:
            who = node(1000 + step)
            members[who] = rng.choice([0, 0, 0, 1, 4, 9])
            grid.add(who, members[who])
        assert grid.total_weight() == sum(1 << tier for tier in members.values())
    assert grid.count() == len(members)
    assert all(grid.standing(who) == (True, tier) for who, tier in members.items())
    drawn: set[str] = set()
    for seed in range(60):
        drawn.update(grid.draw(seed.to_bytes(32, "big"), min(11, len(members)), NOBODY))
    assert drawn <= set(members)


def test_remove__unknown_node__reverts(grid: Any) -> None:
    with boa.reverts("grid: nobody at this place"):
        grid.remove(node(0))


def test_add__unknown_tier__reverts(grid: Any) -> None:
    with boa.reverts("grid: tier is full"):
        grid.add(node(0), 10)


def lanes(*sizes: int) -> int:
    """The first slot of a grid with so many nodes in each tier."""
    return sum((size << tier) << (25 * tier) for tier, size in enumerate(sizes))


def test_add__tier_with_all_its_seats_taken__reverts(grid: Any) -> None:
    boa.env.set_storage(grid.address, 0, lanes(16383, 0, 16384))
    grid.add(node(0), 0)
    assert grid.count() == 2 * 16384
    for tier in (0, 2):
        with boa.reverts("grid: tier is full"):
            grid.add(node(1), tier)
    grid.add(node(1), 1)


def test_add__total_of_24_bits__reverts(grid: Any) -> None:
    """Ten full tiers weigh less: a structure that got there by an error still ends here."""
    largest = 2**24 - 1
    tier_9 = 32000 << 9
    boa.env.set_storage(grid.address, 0, lanes(largest - 1 - tier_9, *[0] * 8, 32000))
    with boa.reverts("grid: draw is full"):
        grid.add(node(0), 1)
    boa.env.set_storage(grid.address, 0, lanes(largest - 7 - tier_9, *[0] * 8, 32000))
    with boa.reverts("grid: draw is full"):
        grid.add(node(0), 3)
    boa.env.set_storage(grid.address, 0, lanes(largest - 2 - tier_9, *[0] * 8, 32000))
    grid.add(node(0), 1)
    assert grid.total_weight() == largest
