"""Collusion: requester and executor together farm reputation, or rob those who trust them."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from typing import Final

import pytest

from nodeclient.chain.presets import PRESETS
from tests.contracts.anvil import ROOT
from tests.contracts.attacks.harness import Removal, attack
from tests.contracts.network import CLAIM_WINDOW, DELAY, POSTING_FEE, UNIT, Network, Refused
from tests.contracts.signing import AFTER

FEE: Final = Removal(
    "posting-fee",
    "`TaskMarket.post` takes a posting fee, which nobody ever gets back",
    "TaskMarket.vy",
    "        msg.value == POSTING_FEE + executor_fee + committee_size * member_fee",
    "        msg.value == executor_fee + committee_size * member_fee",
)
ONE_AT_A_TIME: Final = Removal(
    "one-task-at-a-time",
    "`ReputationLedger.engage` binds a node to one task at a time",
    "ReputationLedger.vy",
    'assert slot & ENGAGED == 0, "reputation: node is engaged"',
    "pass",
)
STRANGERS: Final = Removal(
    "executor-excluded",
    "`NodeRegistry.draw` never seats the executor in its own committee",
    "NodeRegistry.vy",
    "    return class_grid.draw(seed, k, exclude)",
    "    return class_grid.draw(seed, k, empty(address))",
)
BURNED: Final = Removal(
    "slash-burned",
    "`NodeRegistry.slash` burns nineteen twentieths, whoever reports",
    "NodeRegistry.vy",
    "REWARD_BPS: constant(uint256) = 500",
    "REWARD_BPS: constant(uint256) = 10000",
)
_PRICE: Final = re.compile(r"^\| (\d+) \| ([\d.]+) % \| ([\d.]+) \| ([\d,]+) \|$", re.MULTILINE)


def burned(network: Network) -> int:
    return int(network.market.functions.burned().call())


@attack("market: value is not the posting fee and all fees", FEE)
def test_collusion__task_without_any_fee__still_burns_the_posting_fee(network: Network) -> None:
    """A requester and an executor farm reputation with tasks that pay nobody."""
    free = replace(network, executor_fee=0, member_fee=0, posting_fee=0)
    before = burned(network), free.balance(network.market.address)
    task = free.reach("settled")
    assert network.reputation.functions.reputation(task.executor).call() > 1000
    # nothing came in: with the count of `burned` alone the sums are wrong besides
    assert network.balance(network.market.address) == before[1]


@attack("reputation: node is engaged", ONE_AT_A_TIME)
def test_collusion__two_tasks_at_once__one_node_leads_one(network: Network) -> None:
    """A requester and an executor farm twice as fast, with two tasks in the same blocks."""
    first, second = network.post("first"), network.post("second")
    keys = network.free_node()
    tasks = [network.claim(task, keys) for task in (first, second)]
    drawn = [network.draw(task) for task in tasks]
    for task in drawn:
        network.finish(network.admit(network.accept(task)))
    good, _, _ = network.reputation.functions.history(keys.address).call()
    assert good > 65536  # of one settled task


@attack("grid: too few nodes", STRANGERS)
def test_collusion__executor_in_its_own_committee__never_drawn(network: Network) -> None:
    """An executor sits in the committee that judges it."""
    task = network.reach("drawn", k=len(network.nodes))
    assert task.executor in task.members


@attack("nineteen twentieths are burned", BURNED)
def test_collusion__executor_reports_itself__its_deposit_is_gone(network: Network) -> None:
    """An executor takes the inputs, gives nothing, and gets its slash back as its own reporter."""
    task = network.reach("admitted")
    network.mine_to(task.step_at + 60)
    lost = network.registry.functions.deposit(task.executor).call()
    network.send(task.executor, network.expire_call(task))
    lost -= network.registry.functions.deposit(task.executor).call()
    assert lost == UNIT // 4
    if network.owed(task.executor) * 20 == lost:
        raise Refused("nineteen twentieths are burned")
    assert network.owed(task.executor) == lost


@pytest.mark.chain
def test_collusion__requester_and_a_whole_committee__gain_nothing_by_a_refusal(
    network: Network,
) -> None:
    """Who captures a committee can burn an executor's Deposit, but none of it comes to them."""
    task = network.reach("admitted")
    network.send(network.requester, network.refuse_call(task, AFTER))
    assert network.owed(network.requester) == task.escrow + UNIT * 5 // 100
    assert [network.owed(member) for member in task.members] == [0, 0, 0]


@pytest.mark.chain
def test_collusion__one_farmed_task__costs_what_the_page_says(network: Network) -> None:
    """With no fees at all: the posting fee, gas, and the blocks of a whole race for each task."""
    farm = replace(network, executor_fee=0, member_fee=0)
    keys = network.free_node()
    before, held = burned(network), network.balance(network.market.address)
    for number in range(1, 4):
        start = network.block
        task = farm.claim(farm.post(f"farm {number}"), keys)
        farm.finish(farm.admit(farm.accept(farm.draw(task))))
        assert network.block - start > 2 * DELAY + CLAIM_WINDOW
        expected = Fraction(10_000 * (1 + number), 10 + number)
        # evidence fades a little between two tasks
        got = network.reputation.functions.reputation(keys.address).call()
        assert expected - 10 < got <= expected
    assert burned(network) - before == 3 * POSTING_FEE
    assert network.balance(network.market.address) - held == 3 * POSTING_FEE


def test_collusion__price_of_reputation__is_what_the_parameters_give() -> None:
    """The table of `docs/attacks.md`: prior 1 in 10, a posting fee and a race for each task."""
    preset = PRESETS["mainnet"]
    race = 2 * preset.entropy_delay + preset.claim_window + 1
    rows = _PRICE.findall((ROOT / "docs" / "attacks.md").read_text())
    assert len(rows) == 4
    for tasks, reputation, ether, blocks in rows:
        number = int(tasks)
        assert Fraction(reputation) == round(Fraction(100 * (1 + number), 10 + number), 1)
        assert Fraction(ether) * 10**18 == number * preset.posting_fee
        assert int(blocks.replace(",", "")) == number * race
