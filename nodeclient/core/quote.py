"""A quote: the odds of a Task in a network as it stands, with what to beware of. Pure.

Formulas are in `nodeclient.core.odds`; this says them in numbers, words and warnings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from nodeclient.core.odds import TYPICAL, Assumptions, Odds, odds_of, weight_of
from nodeclient.core.types import quorum_of

_MEANINGS = {
    "executor_dishonest": "executor is dishonest",
    "committee_captured": "committee is captured",
    "task_captured": "both: a false result is paid",
    "committee_stalls": "committee reaches no quorum",
    "task_stalls": "task stalls: that, or the executor stops",
}


@dataclass(frozen=True, slots=True)
class Quote:
    """The odds of a Committee of ``seats`` among ``tiers`` (Nodes by tier); None: none is drawn."""

    seats: int
    tiers: tuple[int, ...]
    assumed: Assumptions
    odds: Odds | None
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values: chances and shares 0 to 1, weight in units."""
        assumed = {name: float(value) for name, value in asdict(self.assumed).items()}
        return {
            "committee": self.seats,
            "quorum": quorum_of(self.seats),
            "network": {
                "nodes": sum(self.tiers),
                "weight": weight_of(self.tiers),
                "tiers": list(self.tiers),
            },
            "assumed": assumed,
            "odds": None if self.odds is None else asdict(self.odds),
            "warnings": list(self.warnings),
        }

    def to_text(self) -> dict[str, Any]:
        """The same for people, by name."""
        network = f"{sum(self.tiers):,} nodes, weight {weight_of(self.tiers):,}"
        committee = f"{self.seats}, of which {quorum_of(self.seats)} decide"
        shown: dict[str, Any] = {"committee": committee, "network": network}
        shown["assumed"] = ", ".join(
            [
                f"{percent(self.assumed.dishonest)} of the weight dishonest",
                f"{percent(self.assumed.lazy)} lazy",
                f"{percent(self.assumed.offline)} offline",
            ]
        )
        if self.odds is not None:
            shown |= chances(self.odds)
        if self.warnings:
            shown["beware"] = list(self.warnings)
        return shown

    def line(self) -> str:
        """One line for who is about to post, by the same words."""
        if self.odds is None:
            return f"odds: none; {self.warnings[0]}"
        false, stalls = in_words(self.odds.task_captured), in_words(self.odds.task_stalls)
        return (
            f"odds if {percent(self.assumed.dishonest)} of the weight is dishonest, "
            f"{percent(self.assumed.lazy)} lazy and {percent(self.assumed.offline)} offline: "
            f"a false result {false}, a stall {stalls}; others: sealrun task quote"
        )


def quote(tiers: Sequence[int], seats: int, assumed: Assumptions = TYPICAL) -> Quote:
    """The quote of a Committee of ``seats`` in a network, as `NodeRegistry.tiers` answers it.

    Raises ValueError where the assumptions leave nobody who could claim.
    """
    enough = sum(tiers) > seats
    odds = odds_of(tiers, seats, assumed) if enough else None
    return Quote(seats, tuple(tiers), assumed, odds, _warnings(tiers, seats, assumed))


def chances(odds: Odds) -> Mapping[str, str]:
    """Each chance in words, by its meaning."""
    return {_MEANINGS[name]: in_words(value) for name, value in asdict(odds).items()}


def in_words(chance: float) -> str:
    """A chance as a person reads it: "4.63 % (1 in 22)"."""
    if chance <= 0:
        return "0 %"
    shown = f"{100 * chance:.3g} %"
    return shown if chance > 0.5 else f"{shown} (1 in {round(1 / chance):,})"


def percent(share: Fraction) -> str:
    """A share as a percentage of at most four digits."""
    return f"{float(100 * share):.4g} %"


def _warnings(tiers: Sequence[int], seats: int, assumed: Assumptions) -> tuple[str, ...]:
    nodes, weight = sum(tiers), weight_of(tiers)
    if nodes <= seats:
        return (
            f"only {nodes} nodes can be drawn and {seats + 1} are needed: "
            "the task would expire and its fees come back; choose a smaller committee or wait",
        )
    found = []
    if assumed.dishonest + assumed.lazy >= Fraction(2, 3):
        found.append("two thirds are assumed dishonest or lazy: no committee protects against that")
    if assumed.dishonest + assumed.offline >= Fraction(1, 3):
        found.append("a third is assumed dishonest or offline: larger committees only stall more")
    largest = Fraction(1 << max(tier for tier, count in enumerate(tiers) if count), weight)
    if largest > assumed.dishonest:
        found.append(
            f"one node alone has {percent(largest)} of the weight, "
            f"more than the {percent(assumed.dishonest)} assumed dishonest"
        )
    return tuple(found)
