"""Draws of the deployed bytecode against exact successive sampling, and against the quote.

A contract of the tests asks the deployed `NodeRegistry` again and again inside `eth_call`, with
another seed each time. The seeds are fixed, so that every run is the same. SEALRUN_DRAWS says how
many: `make odds` takes ten times as many as `make test`.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from math import exp
from typing import Any, Final

import pytest

from nodeclient.core.odds import at_least, split_finest
from tests.contracts.anvil import Chain
from tests.contracts.network import UNIT, Network
from tests.contracts.statistics import p_value, upper_gamma

pytestmark = pytest.mark.chain

DRAWS: Final = int(os.environ.get("SEALRUN_DRAWS", "100000"))
BATCH: Final = 500
CALL_GAS: Final = 30_000_000
LEVEL: Final = 0.01
TIERS: Final = {f"small {n}": 0 for n in range(5)} | {"middle": 1, "large": 2}
BAD: Final = 12


@pytest.fixture(scope="module")
def sampled(chain: Chain) -> tuple[Network, Any]:
    """Five nodes of one unit, one of two, one of four; and what samples their draws."""
    network = Network.deploy(chain)
    for label, tier in TIERS.items():
        network.join(label, UNIT << tier)
    return network, chain.deploy("tests/contracts/DrawSampler.vy")


def draws(
    sampled: tuple[Network, Any], seats: int, exclude: str, times: int = DRAWS
) -> Iterator[tuple[bytes, ...]]:
    """So many draws of the deployed registry, accounts as 20 bytes."""
    network, sampler = sampled
    size = 32 * seats
    for part in range(times // BATCH):
        seed = f"sealrun odds {seats} {part}".encode().ljust(32, b"\0")
        args = [network.registry.address, seed, seats, exclude, BATCH]
        call = {"to": sampler.address, "data": sampler.encode_abi("sample", args)}
        call["gas"] = hex(CALL_GAS)
        # Read by hand: the library's decoding would take most of the time.
        words = bytes.fromhex(network.chain.rpc("eth_call", [call, "latest"])[2:])[64:]
        assert len(words) == BATCH * size
        for at in range(0, len(words), size):
            yield tuple(words[seat + 12 : seat + 32] for seat in range(at, at + size, 32))


def raw(account: str) -> bytes:
    return bytes.fromhex(account[2:])


def orders(weights: dict[bytes, int], seats: int) -> dict[tuple[bytes, ...], float]:
    """The chance of every order of seats, by successive sampling."""
    chances = {}
    for order in itertools.permutations(weights, seats):
        chance, left = 1.0, sum(weights.values())
        for node in order:
            chance *= weights[node] / left
            left -= weights[node]
        chances[order] = chance
    return chances


def folded(chances: dict[tuple[bytes, ...], float], key: Any) -> dict[Any, float]:
    """The chances of what a key makes of an order."""
    sums: Counter[Any] = Counter()
    for order, chance in chances.items():
        sums[key(order)] += chance  # type: ignore[assignment]
    return dict(sums)


KEYS: Final = {
    "ordered seats": tuple,
    "ordered pairs": lambda order: order[:2],
    "committees": frozenset,
    "first seat": lambda order: order[0],
    "last seat": lambda order: order[-1],
}


def test_draw__deployed_bytecode__is_exact_successive_sampling(
    sampled: tuple[Network, Any],
) -> None:
    network, _ = sampled
    named = {keys: 1 << TIERS[label] for keys, label in zip(network.nodes, TIERS, strict=True)}
    executor = next(iter(named))
    weights = {raw(node): weight for node, weight in named.items() if node != executor}
    seen = Counter(draws(sampled, 3, executor))
    assert sum(seen.values()) == DRAWS
    expected = orders(weights, 3)
    for what, key in KEYS.items():
        counted: Counter[Any] = Counter()
        for order, count in seen.items():
            counted[key(order)] += count
        p = p_value(counted, folded(expected, key))
        print(f"{DRAWS:,} draws of 3, {what}: chi-square p = {p:.3f}")
        assert p > LEVEL, what


def test_draw__deployed_bytecode__gives_the_bad_the_seats_of_the_quote(
    sampled: tuple[Network, Any],
) -> None:
    """A quarter of the weight in nodes of one unit, as `task quote` assumes it."""
    network, _ = sampled
    snapshot = network.chain.rpc("evm_snapshot", [])
    known = dict(network.nodes)
    try:
        bad = {raw(network.join(f"bad {n}", UNIT).address) for n in range(BAD)}
        network.join("larger", UNIT << 3)
        network.join("largest", UNIT << 4)
        tiers = list(network.registry.functions.tiers().call())
        executor = next(iter(known))
        tiers[0] -= 1  # the executor, of one unit
        good = [tiers[0] - BAD, *tiers[1:]]
        seen = Counter(sum(node in bad for node in order) for order in draws(sampled, 7, executor))
    finally:
        network.chain.rpc("evm_revert", [snapshot])
        network.nodes = known
    assert split_finest(tiers, BAD) == good
    tail = [at_least(BAD, good, 7, wanted) for wanted in range(9)]
    chances = {wanted: tail[wanted] - tail[wanted + 1] for wanted in range(8)}
    p = p_value(seen, chances)
    print(f"{DRAWS:,} draws of 7, dishonest seats: chi-square p = {p:.3f}")
    assert p > LEVEL
    # As if a seat did not change what is left: the same test tells the two apart.
    share = BAD / (BAD + sum(n << c for c, n in enumerate(good)))
    flat = at_least_with_replacement(share)
    assert p_value(seen, flat) < 1e-6


def at_least_with_replacement(share: float) -> dict[int, float]:
    """Bad seats of seven if every seat were drawn from the whole network."""
    pairs = [(share, 1 - share)] * 7
    chances = {0: 1.0}
    for bad, good in pairs:
        chances = {
            n: chances.get(n, 0) * good + chances.get(n - 1, 0) * bad
            for n in range(len(chances) + 1)
        }
    return chances


def test_p_value__known_quantiles__are_met() -> None:
    # chi-square tables: 3.841 (1 df), 18.307 (10 df), 124.342 (100 df), each at 5 %
    for freedom, quantile in ((1, 3.8415), (10, 18.3070), (100, 124.3421)):
        assert upper_gamma(freedom / 2, quantile / 2) == pytest.approx(0.05, abs=1e-5)
    assert upper_gamma(1, 2.5) == pytest.approx(exp(-2.5))
    assert p_value({"a": 1}, {"b": 1.0}) == 0
