"""Sybil: one root behind two nodes, a barred root that comes back, one Machine behind two nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from tests.contracts.attacks.harness import Removal, attack
from tests.contracts.network import UNBONDING, UNIT, Network
from tests.contracts.signing import AFTER, NodeKeys

HARDWARE: Final = Removal(
    "hardware-once",
    "`NodeRegistry.register` takes a hardware id that no live or barred node has",
    "NodeRegistry.vy",
    """    assert (
        self.hardware[registration.hardware_id] == empty(address)
    ), "registry: hardware id already registered"
""",
    "",
)
ROOT_KEY: Final = Removal(
    "hardware-id-of-the-key",
    "`NodeRegistry.register` derives the hardware id of a SOFTWARE root from its key",
    "NodeRegistry.vy",
    """        assert registration.hardware_id == own, "registry: hardware id is not the root key's"
""",
    "",
)
BAR: Final = Removal(
    "barred-for-good",
    "`NodeRegistry.withdraw_deposit` keeps the hardware id of a barred node",
    "NodeRegistry.vy",
    "    if record.status == EXITING:\n        record.status = EXITED",
    "    if record.status != 0:\n        record.status = EXITED",
)
BAR_EXITING: Final = Removal(
    "exiting-barred-too",
    "`NodeRegistry.slash` bars a node that is exiting as any other",
    "NodeRegistry.vy",
    "    if record.deposit < UNIT and record.status != BARRED:",
    "    if record.deposit < UNIT and record.status != BARRED and record.status != EXITING:",
)
ONCE: Final = "registry: hardware id already registered"


def same_root(network: Network, keys: NodeKeys, label: str = "second account") -> NodeKeys:
    """Another account with the same root; its own VRF key."""
    other = replace(NodeKeys.derive(label), root=keys.root)
    network.fund(other.address)
    return other


def register(network: Network, keys: NodeKeys, hardware_id: bytes | None = None) -> None:
    """Register it; the root signs whatever hardware id is asked for."""
    row, contact, _ = network.registration(keys)
    if hardware_id is not None:
        row = (*row[:5], hardware_id, *row[6:])
    signature = network.sign_registration(keys, row, contact)
    call = network.registry.functions.register(row, contact, True, *signature)
    network.send(keys.address, call, UNIT)


def live(network: Network, keys: NodeKeys) -> bool:
    return bool(network.registry.functions.status(keys.address).call() == 2)


@attack(ONCE, HARDWARE)
def test_sybil__hardware_id_twice__one_node(network: Network) -> None:
    """One root registers a second node while its first is there."""
    first = network.free_node()
    second = same_root(network, first)
    register(network, second)
    assert live(network, first)
    assert live(network, second)


@attack("registry: hardware id is not the root key's", ROOT_KEY)
def test_sybil__root_key_under_another_hardware_id__one_node(network: Network) -> None:
    """One root registers a second node under a hardware id that it made up."""
    first = network.free_node()
    second = same_root(network, first)
    register(network, second, b"\x07" * 32)
    assert live(network, first)
    assert live(network, second)


@attack(ONCE, BAR)
def test_sybil__barred_root_under_a_new_account__stays_out(network: Network) -> None:
    """A root that a slash has barred comes back under another account, its name clean again."""
    task = network.reach("admitted")
    network.send(network.outsider, network.refuse_call(task, AFTER))
    keys = network.nodes[task.executor]
    comes_back(network, keys)


@attack(ONCE, BAR_EXITING)
def test_sybil__exit_before_the_slash__bars_as_well(network: Network) -> None:
    """A node starts its exit before it cheats, so that the exit frees its root after the slash."""
    task = network.reach("admitted")
    network.send(task.executor, network.registry.functions.exit())
    network.send(network.outsider, network.refuse_call(task, AFTER))
    comes_back(network, network.nodes[task.executor])


def comes_back(network: Network, keys: NodeKeys) -> None:
    """After the unbonding time, with what is left of the Deposit, under another account."""
    network.chain.mine(UNBONDING)
    network.send(keys.address, network.registry.functions.withdraw_deposit())
    other = same_root(network, keys)
    register(network, other)
    assert live(network, other)
    assert network.reputation.functions.reputation(other.address).call() == 1000


@pytest.mark.chain
def test_sybil__one_machine_behind_two_nodes__visible_but_not_refused(network: Network) -> None:
    """Nothing proves an attestation key at registration, so a contract that kept it to one node
    would let anybody squat it. Both registrations name it, for whoever appraises."""
    first, second = network.join("first"), network.join("second")
    node = network.registry.functions.node
    keys = [node(keys.address).call()[8] for keys in (first, second)]
    assert keys[0] == keys[1] != bytes(32)


@pytest.mark.chain
def test_sybil__deposit_split_over_nodes__weighs_the_same(network: Network) -> None:
    """Two nodes of one unit weigh what one of two weighs, in the draw and in the race."""
    weight = network.registry.functions.total_weight
    before = weight().call()
    network.join("whole", 4 * UNIT)
    whole = weight().call() - before
    for number in range(4):
        network.join(f"part {number}", UNIT)
    assert weight().call() - before - whole == whole
