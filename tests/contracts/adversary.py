"""A model of the race and of the draw, and an adversary that pulls every lever in it.

One task is posted at block 0. The adversary holds part of the weight in some form (split, in pairs,
merged) and pulls one lever at a random block; once it can know a ticket or a committee's seed, it
pulls only if that helps. `Rules` are the defences of the contracts; each can be taken away, which
shows that the lever would gain something without it. All is drawn in bulk from a fixed seed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields
from functools import cache
from math import sqrt
from typing import Any, Final

import numpy as np

from tests.contracts.network import CLAIM_WINDOW, DELAY, LOOKAHEAD

STRIDE: Final = 2 * (LOOKAHEAD + 1)
SEED_BLOCK: Final = -(-(2 * DELAY + CLAIM_WINDOW) // STRIDE) * STRIDE  # of a posting at block 0
DRAWN_BY: Final = SEED_BLOCK + 4
SEATS: Final = 3
HONEST: Final = (1, 1, 1, 1, 2, 4)
FORMS: Final = ((1, 1, 1, 1, 1), (2, 2, 1), (4, 1))
KEYS: Final = 20  # that a grinding adversary tries once it knows alpha
OUTPUTS: Final = 40  # counters of try-and-increment
LOOKS: Final = 10  # blocks, callers or structures to choose among
Array = np.ndarray[Any, Any]

# What each lever does. Those of the draw's structure are refused while it stands still.
LEVERS: Final = {
    "none": "plays by the rules",
    "rotate": "another VRF key",
    "top_up": "a node of one unit more (merge)",
    "register": "one more node (split)",
    "pause": "one node leaves the draw",
    "withhold": "claims with any of its leading tickets, or with none",
    "outputs": "a later counter's VRF output",
    "header": "another block's header, another caller, another moment",
    "post": "posts many tasks and goes on with those that it leads",
}
MOVES: Final = ("top_up", "register", "pause")
TOUCHES: Final = (*MOVES, "rotate")


@dataclass(frozen=True)
class Rules:
    """The defences: what the contracts hold to."""

    fixed_before_posting: bool = True
    frozen_draw: bool = True
    one_header: bool = True
    one_output: bool = True
    drawn_after_race: bool = True
    every_task_counts: bool = True  # a posted task runs and is paid for, whoever leads it

    def may_claim(self, touched: Array) -> Array:
        """Whether a node that was touched at a block may claim for a posting at block 0."""
        return (touched < 0) | (not self.fixed_before_posting)

    def may_move(self, at: Array) -> Array:
        """Whether the draw's structure may change at a block (the task is led)."""
        frozen = (at >= SEED_BLOCK - LOOKAHEAD) & (at < DRAWN_BY)
        return ~frozen | (not self.frozen_draw)


DEFENCES: Final = tuple(field.name for field in fields(Rules))


@dataclass(frozen=True)
class Gain:
    """Seats won beyond the share, in standard deviations, and how many trials that was."""

    executor: float
    committee: float
    trials: int


@cache
def expected_seats(weights: tuple[int, ...], first: int, executor: int) -> tuple[float, float]:
    """Mean and variance of the seats that nodes from `first` on get, by successive sampling."""
    chances = [0.0] * (SEATS + 1)
    others = [n for n, weight in enumerate(weights) if weight and n != executor]
    total = sum(weights[n] for n in others)
    for order in itertools.permutations(others, SEATS):
        chance, left = 1.0, total
        for node in order:
            chance *= weights[node] / left
            left -= weights[node]
        chances[sum(node >= first for node in order)] += chance
    mean = sum(n * chance for n, chance in enumerate(chances))
    return mean, sum(n * n * chance for n, chance in enumerate(chances)) - mean**2


def play(lever: str, trials: int, seed: int, rules: Rules) -> Gain:
    """So many tasks with one lever, over all forms of the adversary's Deposit."""
    rng = np.random.default_rng(seed)
    sums = np.zeros(4)
    for form in FORMS:
        sums += _batch(lever, form, trials // len(FORMS), rng, rules)
    return Gain(
        float(sums[0] / sqrt(sums[1])),
        float(sums[2] / sqrt(sums[3])),
        trials // len(FORMS) * len(FORMS),
    )


def _batch(lever: str, form: tuple[int, ...], n: int, rng: Any, rules: Rules) -> Array:
    """Seats beyond the share and their variance: of executors, then of members."""
    first = len(HONEST)
    base = np.array([*HONEST, *form, 0])
    new, touched = len(base) - 1, first + len(form) - 1  # a place to register; a node of one unit
    changed = base.copy()
    if lever == "register":
        changed[new] = 1
    elif lever == "top_up":
        changed[touched] = 2
    elif lever == "pause":
        changed[touched] = 0
    at = rng.integers(-6, DRAWN_BY + 4, n)

    # The race.
    early = (at < 0)[:, None]
    weights = np.where(early, changed, base)
    clocks = rng.exponential(size=(n, len(base)))
    tickets = _divided(clocks, weights)
    share = weights[:, first:].sum(1) / weights.sum(1)
    tickets = _raced(lever, at, tickets, clocks, (first, touched, new), rng, rules)
    leader = tickets.argmin(1)
    leads = leader >= first
    counted = np.ones(n, bool)
    if lever == "post" and not rules.every_task_counts:
        counted = leads | (rng.random(n) < 0.1)
    won = (leads - share)[counted].sum()
    spread = (share * (1 - share))[counted].sum()

    # The draw.
    moved = rules.may_move(at) & (at < DRAWN_BY) & (lever in MOVES)
    late = at >= SEED_BLOCK - LOOKAHEAD
    weights = np.where(moved[:, None] & ~late[:, None], changed, base)
    seats = _drawn(weights, leader, first, rng)
    looks = np.zeros(n, bool)
    if lever in MOVES:
        looks |= moved & (at > SEED_BLOCK)  # the seed is known and the structure may move
    if lever == "header" and not rules.one_header:
        looks[:] = True
    if lever == "withhold" and not rules.drawn_after_race:
        looks |= leads
    for _ in range(LOOKS - 1):
        seats = np.where(looks, np.maximum(seats, _drawn(weights, leader, first, rng)), seats)
    means, variances = _expected(weights, leader, first)
    return np.array([won, spread, (seats - means).sum(), variances.sum()])


def _raced(
    lever: str,
    at: Array,
    tickets: Array,
    clocks: Array,
    places: tuple[int, int, int],
    rng: Any,
    rules: Rules,
) -> Array:
    """Tickets as they can be shown, after the lever was pulled."""
    first, touched, new = places
    n = len(at)
    losing = tickets[:, :first].min(1) < tickets[:, first:].min(1)
    knows = at > DELAY
    pulled = (at >= 0) & (~knows | losing) & (at <= DELAY + CLAIM_WINDOW)
    allowed = rules.may_claim(at)
    if lever in TOUCHES:
        place = new if lever == "register" else touched
        fresh = rng.exponential(size=(n, KEYS))
        ground = np.where(knows, fresh.min(1), fresh[:, 0])  # keys ground once alpha is known
        result = {
            "rotate": ground,
            "register": ground,
            "top_up": clocks[:, touched] / 2,
            "pause": np.full(n, np.inf),
        }[lever]
        shown = np.where(allowed, result, np.inf)
        tickets = tickets.copy()
        tickets[:, place] = np.where(pulled, shown, tickets[:, place])
    elif lever == "outputs" and not rules.one_output:
        tickets = tickets.copy()
        tickets[:, first] = np.minimum(tickets[:, first], rng.exponential(size=(n, OUTPUTS)).min(1))
    elif lever == "header" and not rules.one_header:
        for _ in range(LOOKS - 1):
            again = _divided(rng.exponential(size=tickets.shape), _weights_of(tickets, clocks))
            worse = tickets.argmin(1) < first
            tickets = np.where(worse[:, None], again, tickets)
    elif lever == "withhold":
        tickets = tickets.copy()
        silent = rng.random(tickets[:, first:].shape) < 0.25
        tickets[:, first:] = np.where(silent, np.inf, tickets[:, first:])
    return tickets


def _divided(clocks: Array, weights: Array) -> Array:
    """Exponential clocks at the rates of the weights; a weight of zero never rings."""
    with np.errstate(divide="ignore"):
        return np.where(weights > 0, clocks / np.maximum(weights, 1e-300), np.inf)


def _weights_of(tickets: Array, clocks: Array) -> Array:
    return np.where(np.isfinite(tickets), clocks / tickets, 0)


def _drawn(weights: Array, executor: Array, first: int, rng: Any) -> Array:
    """Seats of the adversary in one draw for each trial."""
    rings = _divided(rng.exponential(size=weights.shape), weights)
    rings[np.arange(len(rings)), executor] = np.inf
    members = np.argpartition(rings, SEATS, axis=1)[:, :SEATS]
    return (members >= first).sum(1)


def _expected(weights: Array, executor: Array, first: int) -> tuple[Array, Array]:
    """Mean and variance of these seats, exactly, trial by trial."""
    rows, which = np.unique(np.column_stack([weights, executor]), axis=0, return_inverse=True)
    known = [expected_seats(tuple(map(int, row[:-1])), first, int(row[-1])) for row in rows]
    table = np.array(known)[which.reshape(-1)]
    return table[:, 0], table[:, 1]
