"""Moving the draw: Deposits, registrations, pauses and slashes once the committee can be known"""

from __future__ import annotations

from typing import Final

from tests.contracts.attacks.chance import forecast
from tests.contracts.attacks.harness import Removal, attack
from tests.contracts.network import UNIT, Network, Refused, Task
from tests.contracts.signing import BEFORE, CONTRAINDICATED, Vote

FREEZE: Final = Removal(
    "frozen-draw",
    "`NodeRegistry`: the draw stands still while a committee could be known and is not drawn",
    "NodeRegistry.vy",
    "    if task != 0:\n        raw_revert(",
    "    if task == max_value(uint256):\n        raw_revert(",
)
SLASH_WAITS: Final = Removal(
    "slash-moves-the-draw",
    "`NodeRegistry.slash` leaves the place in the draw while it stands still",
    "NodeRegistry.vy",
    "    if self._frozen_by() == 0 and not self._is_held():\n        self._replace(node, record)",
    "    self._vacate(record.place)\n    outside: Record = record\n    outside.place = 0\n"
    "    self._store(node, outside)",
)
LOOKAHEAD: Final = Removal(
    "freeze-without-lookahead",
    "`TaskMarket.undrawn` freezes `lookahead` blocks before the entropy exists",
    "TaskMarket.vy",
    "    if block.number + LOOKAHEAD < self._seed_block(posted_at):",
    "    if block.number <= self._seed_block(posted_at):",
)
STANDS_STILL: Final = "registry: draw task 1 first"


def known(network: Network, k: int = 5) -> Task:
    """A led task whose committee anybody can compute and nobody has drawn."""
    task = network.claim(network.post(k=k), network.free_node())
    network.mine_to(network.entropy_block(task))
    return task


def unwanted(network: Network, task: Task) -> str:
    """A member that would be drawn."""
    return forecast(network, task)[0]


def passed_over(network: Network, task: Task) -> str:
    """A node that would not be drawn."""
    seated = (*forecast(network, task), task.executor)
    return next(node for node in network.nodes if node not in seated)


@attack(STANDS_STILL, FREEZE)
def test_draw__member_pauses__stays_drawn(network: Network) -> None:
    """A node that would sit in the committee pauses, so that another one is drawn"""
    task = known(network)
    member = unwanted(network, task)
    network.send(member, network.registry.functions.pause())
    assert member not in network.draw(task).members


@attack(STANDS_STILL, FREEZE)
def test_draw__member_exits__stays_drawn(network: Network) -> None:
    """A node that would sit in the committee exits, so that another one is drawn"""
    task = known(network)
    member = unwanted(network, task)
    network.send(member, network.registry.functions.exit())
    assert member not in network.draw(task).members


@attack(STANDS_STILL, FREEZE)
def test_draw__deposit_raised__no_seat_gained(network: Network) -> None:
    """A node that would not be drawn raises its Deposit until it is"""
    task = known(network)
    node = passed_over(network, task)
    network.send(node, network.registry.functions.top_up(), 600 * UNIT)
    assert node in network.draw(task).members


@attack(STANDS_STILL, FREEZE)
def test_draw__node_registered__no_seat_gained(network: Network) -> None:
    """An accomplice registers with a Deposit that all but surely seats it"""
    task = known(network)
    keys = network.join("accomplice", 600 * UNIT)
    assert keys.address in network.draw(task).members


@attack(STANDS_STILL, FREEZE)
def test_draw__paused_node_resumes__no_seat_gained(network: Network) -> None:
    """A large node waits paused and comes in for the committees that it wants to sit in"""
    keys = network.join("reserve", 600 * UNIT, join=False)
    task = known(network)
    network.send(keys.address, network.registry.functions.resume())
    assert keys.address in network.draw(task).members


@attack(STANDS_STILL, LOOKAHEAD)
def test_draw__entropy_foreseen_by_a_proposer__no_seat_gained(network: Network) -> None:
    """Who can foresee the entropy of the next block changes the draw just before it exists"""
    task = network.claim(network.post(k=5), network.free_node())
    network.mine_to(network.entropy_block(task) - 1)
    # The proposer's knowledge: the block comes as foreseen, with the change inside it or not.
    node = list(network.nodes)[-1]
    network.send(node, network.registry.functions.pause())
    assert network.block == network.entropy_block(task)
    assert node not in network.draw(task).members


@attack("the committee is drawn as it stood", SLASH_WAITS)
def test_draw__member_has_itself_slashed__stays_drawn(network: Network) -> None:
    """A node that would sit in the committee proves a double vote of its own to leave the draw"""
    task = known(network)
    member = unwanted(network, task)
    votes = [Vote(9, BEFORE, bytes(32)), Vote(9, BEFORE, bytes(32), verdict=CONTRAINDICATED)]
    keys = network.nodes[member]
    proof = [part for vote in votes for part in (vote.as_tuple(), network.sign_vote(vote, keys))]
    network.send(network.outsider, network.attestation.functions.prove_double_vote(*proof))
    if member in network.draw(task).members:
        raise Refused("the committee is drawn as it stood")
