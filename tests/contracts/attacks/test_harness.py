"""The harness itself: a copy in which nothing is removed defends as the deployed contracts do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contracts.attacks.harness import Removal, remove, without
from tests.contracts.network import Network
from tests.contracts.signing import BEFORE

# Takes nothing out of anything.
NOTHING = Removal("nothing", "", "TaskMarket.vy", "@title", "@title")


@pytest.mark.chain
def test_remove__nothing_removed__a_task_settles_and_a_thief_is_refused(network: Network) -> None:
    for contract in ("TaskMarket", "NodeRegistry", "AttestationLedger", "ReputationLedger"):
        remove(network, replace(NOTHING, file=f"{contract}.vy"))
    task = network.reach("accepted")
    thief = network.record_call(replace(task, members=task.members[::-1]), BEFORE)
    assert network.reason(task.executor, thief) == "market: not the committee"
    task = network.finish(network.admit(task))
    assert network.state(task) == 5
    assert network.market.functions.parameters().call()[0] == 10**18


def test_without__text_that_stands_twice_or_nowhere__fails() -> None:
    for old, count in (("assert", "[0-9]+"), ("no such text", "0")):
        with pytest.raises(AssertionError, match=f"its text stands {count} times"):
            without(replace(NOTHING, old=old))


def test_without__state_that_moves__fails() -> None:
    old = "refunds: HashMap[address, uint256]\n"
    moved = replace(NOTHING, old=old, new=f"more: uint256\n{old}")
    with pytest.raises(AssertionError, match="moves the contract's state"):
        without(moved)
