"""What a Requester risks with a Committee of k: exact odds under an assumed share of dishonesty.

THE DRAW (`contracts/modules/class_grid.vy`) is successive sampling: each pick falls on a Node with
its weight over the weight that is left. That is the order of arrival of independent exponential
clocks, one a Node, whose rates are the weights (Efraimidis and Spirakis 2006). With B bad units of
rate 1, at least m of the first k picks are bad exactly if the m-th bad clock rings before the
(k - m + 1)-th good one:

    P = integral over t of  f(t) * P(at most k - m good clocks have rung by t)
    f(t) = B! / ((m-1)! (B-m)!) * (1 - e^-t)^(m-1) * e^(-(B-m+1) t)
    good clocks of tier c that have rung by t: binomial(n_c, 1 - e^(-2^c t))

THE WORST CASE IS COMPUTED. Which Nodes are bad is unknown, so the weight assumed bad is split into
Nodes of one unit, and the good keep the largest Nodes. Neither can be outdone: a Node of weight w
is a clock that rings with the first of w unit clocks, so by splitting, bad Nodes only gain picks
and never lose one, and good Nodes lose by being merged. docs/odds.md has the argument in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, comb, exp, expm1, log

from nodeclient.core.types import quorum_of

STEP = 1 / 16
"""Step of the quadrature: halving it changes no probability by 1e-11 of itself."""
NEGLIGIBLE = 800.0
"""e^-800 is no floating-point number any more: there the integral ends."""
FIRST = -4.5
"""Where it begins: t = e^(x - e^-x) is below 1e-40 there."""
BEST_FACTOR = Fraction(3)
"""A Ticket's weight is multiplied by 5,000 to 15,000: reputation counts for at most three."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Shares of the weight in the draw, each 0 to 1, together at most 1.

    ``lazy`` members affirm without looking: bad for capture, good against stalling. ``offline``
    ones neither claim nor vote. ``edge``: the factor that reputation gives to dishonest candidates
    over that of the others, 1 to 3 (only the Executor's race knows reputation).
    """

    dishonest: Fraction
    lazy: Fraction = Fraction(0)
    offline: Fraction = Fraction(0)
    edge: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        """Raises ValueError."""
        shares = (self.dishonest, self.lazy, self.offline)
        if min(shares) < 0 or sum(shares) > 1:
            raise ValueError("odds: shares are 0 to 1, and together at most 1; correct them")
        if not 1 <= self.edge <= BEST_FACTOR:
            raise ValueError("odds: the edge of reputation is 1 to 3; correct it")


TYPICAL = Assumptions(dishonest=Fraction(1, 5), lazy=Fraction(1, 10), offline=Fraction(1, 20))
"""What a quote assumes if nobody says otherwise: no measurement, a starting point."""


@dataclass(frozen=True, slots=True)
class Odds:
    """Chances, 0 to 1.

    ``executor_dishonest``: the race is won by a dishonest Node. ``committee_captured``: a quorum of
    the Committee is dishonest or lazy. ``task_captured``: both, so that a false record could be
    paid. ``committee_stalls``: too many are dishonest or offline for a quorum. ``task_stalls``:
    that, or a dishonest Executor, who can stop at any time.
    """

    executor_dishonest: float
    committee_captured: float
    task_captured: float
    committee_stalls: float
    task_stalls: float


def weight_of(tiers: Sequence[int]) -> int:
    """Weight of so many Nodes of each tier, in units: a Node of tier c weighs 2^c."""
    return sum(count << tier for tier, count in enumerate(tiers))


def odds_of(tiers: Sequence[int], seats: int, assumed: Assumptions) -> Odds:
    """The odds of a Task with a Committee of ``seats`` in a network.

    Args:
        tiers: drawable Nodes of each tier, as `NodeRegistry.tiers` answers.

    Raises:
        ValueError: fewer Nodes than seats and an Executor, or nobody who could claim.
    """
    if sum(tiers) <= seats:
        raise ValueError(f"odds: {sum(tiers)} nodes give no committee of {seats}; wait for more")
    total = weight_of(tiers)
    dishonest = ceil(assumed.dishonest * total)
    claimants = total - min(ceil(assumed.offline * total), total - dishonest)
    race = assumed.edge * dishonest + claimants - dishonest
    if race == 0:
        raise ValueError("odds: nobody is left who could claim; lower the share that is offline")
    executor = float(assumed.edge * dishonest / race)

    quorum = quorum_of(seats)
    gullible = ceil((assumed.dishonest + assumed.lazy) * total)
    lazy = float(min(gullible - dishonest, claimants - dishonest) / race)
    captured_by, captured_despite = _given_executor(tiers, gullible, seats, quorum)
    silent = ceil((assumed.dishonest + assumed.offline) * total)
    stalled_by, stalled_despite = _given_executor(tiers, silent, seats, seats - quorum + 1)
    return Odds(
        executor_dishonest=executor,
        committee_captured=_mix(executor + lazy, captured_by, captured_despite),
        task_captured=executor * captured_by,
        committee_stalls=_mix(executor, stalled_by, stalled_despite),
        task_stalls=_mix(executor, 1.0, stalled_despite),
    )


def split_finest(tiers: Sequence[int], bad: int) -> list[int]:
    """The good Nodes by tier when ``bad`` units of weight are bad: the largest stay good.

    The Node at the border keeps what is not bad, in as few Nodes as powers of two allow.
    """
    room = weight_of(tiers) - bad
    good = [0] * len(tiers)
    for tier in reversed(range(len(tiers))):
        good[tier] += min(tiers[tier], room >> tier)
        room -= good[tier] << tier
        if good[tier] < tiers[tier]:
            for part in range(tier):
                good[part] += room >> part & 1
            break
    return good


def at_least(bad: int, good: Sequence[int], seats: int, wanted: int) -> float:
    """The chance that at least ``wanted`` of ``seats`` picks are bad (formula above).

    Args:
        bad: bad Nodes of one unit.
        good: good Nodes of each tier.

    Raises:
        ValueError: fewer Nodes than seats.
    """
    if bad + sum(good) < seats:
        raise ValueError("odds: fewer nodes than seats; choose a smaller committee")
    if wanted <= 0:
        return 1.0
    if bad < wanted:
        return 0.0
    spare = seats - wanted
    if sum(good) <= spare:
        return 1.0
    scale = bad + weight_of(good)
    last = bad - wanted + 1  # bad clocks that have not rung when the wanted-th is about to
    ways = log(comb(bad, wanted)) + log(wanted)
    end = log(NEGLIGIBLE * scale / last) + 1
    terms = []
    for index in range(int((end - FIRST) / STEP)):
        x = FIRST + index * STEP
        inner = exp(-x)
        t = exp(x - inner) / scale
        if last * t > NEGLIGIBLE:
            break
        rung = -expm1(-t)
        density = exp(ways + (wanted - 1) * log(rung) - last * t)
        terms.append(density * _at_most(good, spare, t) * t * (1 + inner))
    return min(1.0, STEP * sum(terms))


def _at_most(good: Sequence[int], most: int, t: float) -> float:
    """The chance that at most ``most`` good clocks have rung by time ``t``."""
    chances = [1.0] + [0.0] * most
    for tier, count in enumerate(good):
        if not count:
            continue
        rate = (1 << tier) * t
        rung = -expm1(-rate)
        one = [
            comb(count, hits) * rung**hits * exp(-rate * (count - hits))
            for hits in range(min(count, most) + 1)
        ]
        chances = [
            sum(one[i] * chances[n - i] for i in range(min(n, len(one) - 1) + 1))
            for n in range(most + 1)
        ]
    return sum(chances)


def _given_executor(tiers: Sequence[int], bad: int, seats: int, wanted: int) -> tuple[float, float]:
    """Chances that ``wanted`` seats are bad: when a bad Node executes, and when a good one does.

    Whoever executes is not in the draw.
    """
    good = split_finest(tiers, bad)
    weight = weight_of(good)
    by_bad = at_least(bad - 1, good, seats, wanted) if bad else 0.0
    by_good = 0.0
    for tier, count in enumerate(good):
        if count:
            others = [n - (i == tier) for i, n in enumerate(good)]
            by_good += (count << tier) / weight * at_least(bad, others, seats, wanted)
    return by_bad, by_good


def _mix(share: float, one: float, other: float) -> float:
    return share * one + max(0.0, 1.0 - share) * other
