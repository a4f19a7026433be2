"""Odds against exact rational arithmetic, against every other way to be bad, and in words."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from functools import cache
from math import comb

import pytest

from nodeclient.core.odds import (
    Assumptions,
    at_least,
    odds_of,
    split_finest,
    weight_of,
)
from nodeclient.core.quote import in_words, quote
from nodeclient.core.types import quorum_of

Nodes = tuple[tuple[int, bool], ...]
"""(weight, bad) of each Node, sorted."""


@cache
def exact(nodes: Nodes, seats: int, wanted: int) -> Fraction:
    """Successive sampling pick by pick: the chance of at least `wanted` bad among `seats`."""
    if wanted <= 0:
        return Fraction(1)
    if seats == 0:
        return Fraction(0)
    total = sum(weight for weight, _ in nodes)
    return sum(
        (
            Fraction(weight, total)
            * exact(nodes[:place] + nodes[place + 1 :], seats - 1, wanted - bad)
            for place, (weight, bad) in enumerate(nodes)
        ),
        Fraction(0),
    )


def nodes_of(bad: int, good: list[int]) -> Nodes:
    kept = [(1 << tier, False) for tier, count in enumerate(good) for _ in range(count)]
    return tuple(sorted([(1, True)] * bad + kept))


@pytest.mark.parametrize(
    ("bad", "good", "seats"),
    [(3, [2, 1, 1], 3), (5, [1, 0, 2, 0, 1], 5), (2, [0, 0, 0, 3], 4), (4, [3], 3), (1, [0, 5], 3)],
)
def test_at_least__small_networks__is_the_exact_fraction(
    bad: int, good: list[int], seats: int
) -> None:
    for wanted in range(seats + 2):
        expected = float(exact(nodes_of(bad, good), seats, wanted))
        assert at_least(bad, good, seats, wanted) == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("seats", [3, 7, 11])
@pytest.mark.parametrize(("bad", "good"), [(40, 60), (3_000, 7_000), (12, 9), (16_000, 300)])
def test_at_least__all_of_one_unit__is_hypergeometric(seats: int, bad: int, good: int) -> None:
    quorum = quorum_of(seats)
    ways = sum(comb(bad, m) * comb(good, seats - m) for m in range(quorum, seats + 1))
    expected = ways / comb(bad + good, seats)
    assert at_least(bad, [good], seats, quorum) == pytest.approx(expected, rel=1e-11)


def test_at_least__largest_network__chances_fall_and_sum_up() -> None:
    good = [16_384, 8_000, 4_000, 2_000, 1_000, 500, 250, 120, 60, 30]
    bad = 60_000
    tail = [at_least(bad, good, 11, wanted) for wanted in range(13)]
    assert tail[0] == 1.0
    assert tail[12] == 0.0
    assert all(0 < below < above for above, below in itertools.pairwise(tail[:12]))
    # E[bad seats] = sum of the tail; near k times the share in so large a network
    assert sum(tail[1:]) == pytest.approx(11 * bad / (bad + weight_of(good)), rel=1e-2)


def test_at_least__fewer_nodes_than_seats__is_refused() -> None:
    with pytest.raises(ValueError, match="fewer nodes than seats"):
        at_least(1, [1], 3, 2)


@pytest.mark.parametrize(
    "pool", [(1, 1, 1, 2, 4), (1, 2, 2, 4), (1, 1, 1, 1, 8), (2, 2, 2, 4, 4), (1, 1, 2, 2, 2)]
)
def test_split_finest__no_choice_of_bad_nodes__is_worse(pool: tuple[int, ...]) -> None:
    """Whichever Nodes are bad, as they stand: the quote for their weight is no lower."""
    tiers = [sum(1 for weight in pool if weight == 1 << tier) for tier in range(4)]
    compared = 0
    for chosen in itertools.product((False, True), repeat=len(pool)):
        bad = sum(weight for weight, is_bad in zip(pool, chosen, strict=True) if is_bad)
        nodes = tuple(sorted(zip(pool, chosen, strict=True)))
        for wanted in (1, 2, 3):
            real = float(exact(nodes, 3, wanted))
            assert at_least(bad, split_finest(tiers, bad), 3, wanted) >= real - 1e-12
            compared += 0 < real < 1
    assert compared > 10


def test_split_finest__every_share__keeps_the_weight_and_the_largest() -> None:
    tiers = [3, 2, 0, 2, 1]
    for bad in range(weight_of(tiers) + 1):
        good = split_finest(tiers, bad)
        assert weight_of(good) + bad == weight_of(tiers)
    assert split_finest(tiers, 7) == [0, 0, 0, 2, 1]
    assert split_finest(tiers, 10) == [1, 0, 1, 1, 1]  # 3 of a node of 8 are bad: 4 and 1 stay


def test_odds_of__all_of_one_unit__by_hand() -> None:
    """Ten Nodes of one unit, two dishonest, one lazy, one offline; a Committee of three."""
    share = Fraction(1, 10)
    odds = odds_of([10], 3, Assumptions(2 * share, share, share))
    assert odds.executor_dishonest == pytest.approx(2 / 9)  # the offline one does not claim

    def quorum(bad: int) -> float:  # two or three bad of three seats among the other nine
        return (comb(bad, 2) * (9 - bad) + comb(bad, 3)) / comb(9, 3)

    assert odds.committee_captured == pytest.approx(3 / 9 * quorum(2) + 6 / 9 * quorum(3))
    assert odds.task_captured == pytest.approx(2 / 9 * quorum(2))
    stalls = 2 / 9 * quorum(2) + 7 / 9 * quorum(3)  # here two silent ones are enough as well
    assert odds.committee_stalls == pytest.approx(stalls)
    assert odds.task_stalls == pytest.approx(2 / 9 + 7 / 9 * quorum(3))


def test_odds_of__edge_of_reputation__moves_the_race_alone() -> None:
    plain = odds_of([20, 4], 5, Assumptions(Fraction(1, 4)))
    edged = odds_of([20, 4], 5, Assumptions(Fraction(1, 4), edge=Fraction(3)))
    assert plain.executor_dishonest == pytest.approx(0.25)
    assert edged.executor_dishonest == pytest.approx(0.5)
    ratio = edged.task_captured / plain.task_captured
    assert ratio == pytest.approx(2)


@pytest.mark.parametrize("seats", range(3, 12))
def test_odds_of__nobody_dishonest__nothing_happens(seats: int) -> None:
    odds = odds_of([30], seats, Assumptions(Fraction(0)))
    assert (odds.executor_dishonest, odds.task_captured, odds.task_stalls) == (0, 0, 0)


@pytest.mark.parametrize("seats", range(3, 12))
def test_odds_of__everybody_dishonest__all_happens(seats: int) -> None:
    odds = odds_of([30, 1], seats, Assumptions(Fraction(1)))
    assert odds.task_captured == pytest.approx(1)
    assert odds.task_stalls == pytest.approx(1)


def test_odds_of__more_bad_of_any_kind__no_chance_falls() -> None:
    tiers = [9, 5, 3, 1]
    shares = [Fraction(n, 20) for n in range(7)]
    for seats in (3, 5, 7):
        for name in ("dishonest", "lazy", "offline"):
            seen = None
            for share in shares:
                base = {"dishonest": Fraction(1, 10), "lazy": Fraction(0), "offline": Fraction(0)}
                odds = odds_of(tiers, seats, Assumptions(**{**base, name: share}))
                now = (odds.executor_dishonest, odds.task_captured, odds.task_stalls)
                assert seen is None or all(a <= b + 1e-12 for a, b in zip(seen, now, strict=True))
                seen = now


@pytest.mark.parametrize(
    "wrong",
    [
        {"dishonest": Fraction(-1, 10)},
        {"dishonest": Fraction(11, 10)},
        {"dishonest": Fraction(1, 2), "lazy": Fraction(1, 2), "offline": Fraction(1, 10)},
        {"dishonest": Fraction(1, 2), "edge": Fraction(4)},
    ],
)
def test_assumptions__out_of_range__are_refused(wrong: dict[str, Fraction]) -> None:
    with pytest.raises(ValueError, match="odds: "):
        Assumptions(**wrong)


def test_odds_of__all_offline__is_refused() -> None:
    with pytest.raises(ValueError, match="nobody is left"):
        odds_of([10], 3, Assumptions(Fraction(0), offline=Fraction(1)))


def test_quote__sound_network__no_warning_and_plain_json() -> None:
    made = quote([40, 10], 7)
    assert made.warnings == ()
    assert made.odds is not None
    plain = json.loads(json.dumps(made.to_json()))
    assert plain["network"] == {"nodes": 50, "weight": 60, "tiers": [40, 10]}
    assert plain["quorum"] == 5
    assert plain["odds"]["task_captured"] == made.odds.task_captured
    assert in_words(made.odds.task_captured) in made.line()
    assert in_words(made.odds.task_stalls) in made.line()


@pytest.mark.parametrize(
    ("tiers", "seats", "assumed", "said"),
    [
        ([7], 7, Assumptions(Fraction(1, 5)), "8 are needed"),
        ([20], 3, Assumptions(Fraction(1, 3)), "a third is assumed dishonest or offline"),
        ([20], 3, Assumptions(Fraction(1, 3), lazy=Fraction(1, 3)), "two thirds are assumed"),
        ([5, 0, 0, 1], 3, Assumptions(Fraction(1, 5)), "one node alone has 61.54 %"),
    ],
)
def test_quote__something_to_beware_of__is_said(
    tiers: list[int], seats: int, assumed: Assumptions, said: str
) -> None:
    made = quote(tiers, seats, assumed)
    assert said in " ".join(made.warnings)
    assert (made.odds is None) == (sum(tiers) <= seats)


@pytest.mark.parametrize(
    ("chance", "words"),
    [
        (0.0, "0 %"),
        (0.0463, "4.63 % (1 in 22)"),
        (1e-7, "1e-05 % (1 in 10,000,000)"),
        (0.9, "90 %"),
    ],
)
def test_in_words__chance__is_readable(chance: float, words: str) -> None:
    assert in_words(chance) == words
