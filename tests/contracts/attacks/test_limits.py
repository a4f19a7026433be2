"""Limits: floods of tasks that should freeze Deposits, or make a call too dear to be made."""

from __future__ import annotations

from typing import Final

import pytest
from web3.exceptions import ContractLogicError

from tests.contracts.attacks.flood import flood
from tests.contracts.attacks.harness import Removal, attack
from tests.contracts.network import (
    CLAIM_WINDOW,
    DELAY,
    DRAW_WINDOW,
    LOOKAHEAD,
    POSTING_FEE,
    Network,
    Refused,
    Task,
)

COMMON_BLOCKS: Final = Removal(
    "common-draw-blocks",
    "`TaskMarket` draws in common blocks: a freeze takes at most half of all blocks",
    "TaskMarket.vy",
    "    return unsafe_sub(before, before % STRIDE)",
    "    return first",
)
TOO_FEW: Final = Removal(
    "expire-too-few",
    "`TaskMarket.expire` ends a task that cannot be drawn as soon as it freezes the draw",
    "TaskMarket.vy",
    "        possible = staticcall REGISTRY.can_draw(task.committee_size, leader)",
    "        possible = True",
)
ADVANCE: Final = Removal(
    "advance",
    "`TaskMarket.advance` lets anybody move the freeze's pointer over tasks that are over",
    "TaskMarket.vy",
    "    self.counters = ((counters >> 128) << 128) | (head << 64) | last\n",
    "",
)


def frozen(network: Network) -> bool:
    return bool(network.registry.functions.frozen_by().call() != 0)


def draw_if_due(network: Network, task: Task) -> bool:
    """Whether anybody could draw the task in the next block; it is drawn then."""
    own = task.posted_at + 2 * DELAY + CLAIM_WINDOW
    for number in sorted({own, network.entropy_block(task)}):
        if number > network.block:
            continue
        call = network.market.functions.draw(task.as_tuple(), network.header_of(number), False)
        try:
            call.call({"from": network.outsider}, block_identifier="pending")
        except ContractLogicError:
            continue
        network.send(network.outsider, call)
        return True
    return False


@attack("free between two draws", COMMON_BLOCKS)
def test_limits__a_led_task_in_every_block__deposits_move_in_between(network: Network) -> None:
    """A task in every block: each freeze begins before the last one ends, and no Deposit moves."""
    tasks = [network.post(f"task {number}") for number in range(6)]
    network.open_claims(tasks[-1])
    nodes = list(network.nodes.values())
    tasks = [network.claim(task, keys) for task, keys in zip(tasks, nodes, strict=False)]
    network.mine_to(tasks[0].posted_at + 2 * DELAY + CLAIM_WINDOW - LOOKAHEAD)
    while tasks:
        # the defenders draw whatever can be drawn, at once
        while tasks and draw_if_due(network, tasks[0]):
            tasks = tasks[1:]
        if tasks and not frozen(network):
            raise Refused("free between two draws")
        network.chain.mine(1)


@attack("over with its entropy", TOO_FEW)
def test_limits__committee_larger_than_the_network__freezes_two_blocks(network: Network) -> None:
    """One posting that cannot be drawn freezes all Deposits for the whole draw window."""
    task = network.reach("claimed", k=len(network.nodes))
    network.mine_to(network.entropy_block(task))
    assert frozen(network)
    try:
        network.send(network.outsider, network.expire_call(task))
    except Refused:
        network.mine_to(network.entropy_block(task) + DRAW_WINDOW)
        assert frozen(network)
        return
    assert not frozen(network)
    raise Refused("over with its entropy")


@attack("one call frees the Deposits", ADVANCE)
def test_limits__more_leaderless_tasks_than_one_look__one_call_frees(network: Network) -> None:
    """More tasks without a leader than `undrawn` looks at: it must deny, for ever."""
    gas = sum(receipt["gasUsed"] for receipt in flood(network, 257))
    network.chain.mine(DELAY + CLAIM_WINDOW + 1)
    assert frozen(network)
    keys = network.free_node()
    denied = network.reason(keys.address, network.registry.functions.exit())
    assert denied.startswith("registry: draw task ")
    advance = network.send(network.outsider, network.market.functions.advance())
    if not frozen(network):
        network.send(keys.address, network.registry.functions.exit())
        # the flooder pays fifteen times as much and more, and a posting fee for each task
        assert advance["gasUsed"] * 15 < gas
        raise Refused("one call frees the Deposits")


@pytest.mark.chain
def test_limits__queue_of_open_tasks__freezes_nothing_before_its_time(network: Network) -> None:
    """Tasks whose claims are open are many in a busy market; Deposits move all the same."""
    before = network.market.functions.burned().call()
    flood(network, 300)
    assert network.market.functions.burned().call() - before == 300 * POSTING_FEE
    assert not frozen(network)
    network.send(network.free_node().address, network.registry.functions.exit())
