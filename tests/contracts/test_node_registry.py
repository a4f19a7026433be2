"""Registration, statuses, unbonding and slashing on anvil."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from web3 import Web3
from web3.contract import Contract
from web3.exceptions import ContractLogicError
from web3.logs import DISCARD

from tests.contracts.network import (
    NOBODY,
    UNBONDING,
    UNIT,
    Network,
)
from tests.contracts.signing import AFTER, NodeKeys

pytestmark = pytest.mark.chain  # starts anvil
ACTIVE, PAUSED, EXITING, EXITED, BARRED = 2, 3, 4, 5, 6
SECP256K1_P = 2**256 - 2**32 - 977


def newcomer(network: Network, label: str = "newcomer") -> NodeKeys:
    keys = NodeKeys.derive(label)
    network.fund(keys.address)
    return keys


def register_reason(
    network: Network, keys: NodeKeys, changed: dict[int, Any], value: int = UNIT, join: bool = True
) -> str:
    row, contact, _ = network.registration(keys)
    row = tuple(changed.get(index, item) for index, item in enumerate(row))
    signature = network.sign_registration(keys, row, contact)
    call = network.registry.functions.register(row, contact, join, *signature)
    return network.reason(keys.address, call, value)


def node_of(network: Network, account: str) -> dict[str, Any]:
    names = (
        "id", "status", "root_class", "root_x", "root_y", "vrf_x", "vrf_prefix", "hardware_id",
        "attestation_key", "contact_digest", "deposit", "tier", "engaged", "fixed_at", "exit_at",
    )  # fmt: skip
    return dict(zip(names, network.registry.functions.node(account).call(), strict=True))


# --- registration -------------------------------------------------------------------------------


def test_register__join__active_in_the_draw_and_readable(network: Network) -> None:
    weight = network.registry.functions.total_weight().call()
    keys = network.join("newcomer", 5 * UNIT)
    node = node_of(network, keys.address)
    assert (node["status"], node["tier"], node["deposit"]) == (ACTIVE, 2, 5 * UNIT)
    assert (node["root_x"], node["root_y"]) == keys.root_public
    assert (node["vrf_x"], node["vrf_prefix"]) == keys.vrf_public
    assert node["contact_digest"] == bytes(Web3.keccak(b"contact"))
    assert network.registry.functions.node_at(node["id"]).call() == keys.address
    assert network.registry.functions.total_weight().call() == weight + 4


def test_register__opens_the_reputation(network: Network) -> None:
    """Else the first task would pay for the slot."""
    keys = network.join("newcomer")
    history = network.reputation.functions.history(keys.address).call()
    assert history == [0, 0, network.block]


def test_register__without_joining__paused_and_never_drawn(network: Network) -> None:
    drawable = network.registry.functions.drawable().call()
    keys = network.join("passive", 0, join=False)
    assert node_of(network, keys.address)["status"] == PAUSED
    assert network.registry.functions.drawable().call() == drawable
    resume = network.registry.functions.resume()
    assert network.reason(keys.address, resume) == "registry: deposit below one unit"


@pytest.mark.parametrize(
    ("changed", "value", "reason"),
    [
        ({2: 2}, UNIT, "registry: hardware id is not the root key's"),
        ({2: 0}, UNIT, "registry: unknown root class"),
        ({2: 4}, UNIT, "registry: unknown root class"),
        ({3: 0}, UNIT, "registry: VRF key out of range"),
        ({4: 4}, UNIT, "registry: VRF key prefix"),
        ({5: bytes(32)}, UNIT, "registry: hardware id is empty"),
        ({}, UNIT - 1, "registry: deposit below one unit"),
        ({0: 1}, UNIT, "registry: not signed by the root key"),
        ({5: b"\x01" * 32}, UNIT, "registry: hardware id is not the root key's"),
    ],
)
def test_register__bad_input__reverts(
    network: Network, changed: dict[int, Any], value: int, reason: str
) -> None:
    assert register_reason(network, newcomer(network), changed, value) == reason


def test_register__software_root_where_not_allowed__reverts(network: Network) -> None:
    strict = lonely(network, allow_software=False)
    row, contact, _ = network.registration(newcomer(network))
    call = strict.functions.register(row, contact, True, 1, 1)
    assert network.reason(NodeKeys.derive("newcomer").address, call, UNIT) == (
        "registry: software roots not allowed"
    )


def lonely(network: Network, allow_software: bool = True, market: str = NOBODY) -> Contract:
    """A registry whose neighbours are an address without code, unless a market is named."""
    verifier = network.registry.functions.verifier().call()
    return network.chain.deploy(
        "contracts/NodeRegistry.vy",
        *(UNIT, UNBONDING, allow_software, verifier),
        *(network.reputation.address, network.attestation.address, market),
        network.admission.address,
    )


def test_register__market_not_deployed_yet__takes_no_deposit(network: Network) -> None:
    """The deployer could still create any contract there, which then may slash."""
    alone = lonely(network, market=NodeKeys.derive("nobody yet").address)
    keys = newcomer(network)
    row, contact, _ = network.registration(keys)
    signature = replace(network, registry=alone).sign_registration(keys, row, contact)
    call = alone.functions.register(row, contact, True, *signature)
    assert network.reason(keys.address, call, UNIT) == "registry: market not deployed yet"


def test_register__signature_of_another_account_or_contact__reverts(network: Network) -> None:
    keys = newcomer(network)
    row, contact, signature = network.registration(keys)
    register = network.registry.functions.register
    stolen = register(row, contact, True, *signature)
    expected = "registry: not signed by the root key"
    assert network.reason(network.outsider, stolen, UNIT) == expected
    assert (
        network.reason(keys.address, register(row, b"another", True, *signature), UNIT) == expected
    )


def test_contact__empty__reverts(network: Network) -> None:
    keys, functions = newcomer(network), network.registry.functions
    row, contact, signature = network.registration(keys, b"")
    register = functions.register(row, contact, True, *signature)
    assert network.reason(keys.address, register, UNIT) == "registry: contact is empty"
    node = network.free_node()
    publish = functions.set_contact(b"", *network.sign_contact(node, b""))
    assert network.reason(node.address, publish) == "registry: contact is empty"


def test_register__twice_or_same_hardware__reverts(network: Network) -> None:
    keys = network.join("newcomer")
    assert register_reason(network, keys, {5: b"\x01" * 32}) == (
        "registry: account already registered"
    )
    hardware = node_of(network, keys.address)["hardware_id"]
    other = newcomer(network, "other")
    assert register_reason(network, other, {5: hardware}) == (
        "registry: hardware id already registered"
    )


def test_set_contact__root_signed__published(network: Network) -> None:
    keys = network.free_node()
    set_contact = network.registry.functions.set_contact
    call = set_contact(b"moved", *network.sign_contact(keys, b"moved"))
    receipt = network.send(keys.address, call)
    published = network.registry.events.ContactPublished().process_receipt(receipt, DISCARD)
    assert published[0]["args"]["contact"] == b"moved"
    assert node_of(network, keys.address)["contact_digest"] == bytes(Web3.keccak(b"moved"))
    forged = set_contact(b"elsewhere", *network.sign_contact(keys, b"moved"))
    assert network.reason(keys.address, forged) == "registry: not signed by the root key"
    assert network.reason(network.outsider, call) == "registry: unknown node"


# --- statuses and unbonding ---------------------------------------------------------------------


def test_pause_resume__leaves_and_enters_the_draw(network: Network) -> None:
    keys = network.free_node()
    functions = network.registry.functions
    drawable = functions.drawable().call()
    network.send(keys.address, functions.pause())
    assert functions.drawable().call() == drawable - 1
    assert network.reason(keys.address, functions.pause()) == "registry: node not active"
    receipt = network.send(keys.address, functions.resume())
    assert functions.drawable().call() == drawable
    assert node_of(network, keys.address)["fixed_at"] == receipt["blockNumber"]
    assert network.reason(keys.address, functions.resume()) == "registry: node not paused"


def test_resume__exactly_one_unit__active_again(network: Network) -> None:
    keys = network.join("one unit", UNIT)
    functions = network.registry.functions
    network.send(keys.address, functions.pause())
    network.send(keys.address, functions.resume())
    assert functions.status(keys.address).call() == ACTIVE


def test_pause__first_and_last_of_a_tier__none_of_them_is_drawn(network: Network) -> None:
    """The last node fills the place of the first, and leaves from there."""
    functions = network.registry.functions
    # the only nodes of their tier, with nearly all the weight: each draw seats who is in it
    first, other, last = (network.join(f"heavy {n}", UNIT << 8).address for n in range(3))
    for leaver in (first, last):
        network.send(leaver, functions.pause())
    drawn = set(functions.draw(b"\x07" * 32, 5, NOBODY).call())
    assert other in drawn
    assert not drawn & {first, last}


def test_exit__unbonding__deposit_leaves_only_after_it(network: Network) -> None:
    keys = network.free_node()
    functions = network.registry.functions
    assert network.reason(keys.address, functions.withdraw_deposit()) == (
        "registry: node not exiting"
    )
    receipt = network.send(keys.address, functions.exit())
    exit_at = receipt["blockNumber"] + UNBONDING
    assert node_of(network, keys.address)["exit_at"] == exit_at
    assert network.reason(keys.address, functions.top_up(), 1) == "registry: node is exiting"
    assert network.reason(keys.address, functions.exit()) == "registry: node is exiting"
    network.mine_to(exit_at - 2)
    assert network.reason(keys.address, functions.withdraw_deposit()) == (
        "registry: still unbonding"
    )
    before = network.balance(keys.address)
    network.send(keys.address, functions.withdraw_deposit())
    assert network.balance(keys.address) > before + UNIT
    assert node_of(network, keys.address)["status"] == EXITED
    assert network.reason(keys.address, functions.withdraw_deposit()) == (
        "registry: node not exiting"
    )


def test_exit__hardware_id__free_again_after_the_exit_only(network: Network) -> None:
    keys = network.free_node()
    functions = network.registry.functions
    hardware = node_of(network, keys.address)["hardware_id"]
    network.send(keys.address, functions.exit())
    other = replace(newcomer(network), root=keys.root)  # the same hardware, another account
    assert register_reason(network, other, {}) == "registry: hardware id already registered"
    network.chain.mine(UNBONDING)
    network.send(keys.address, functions.withdraw_deposit())
    row, contact, _ = network.registration(other)
    assert row[5] == hardware
    signature = network.sign_registration(other, row, contact)
    network.send(other.address, functions.register(row, contact, True, *signature), UNIT)
    assert node_of(network, other.address)["status"] == ACTIVE


def test_exit__executor_of_a_running_task__still_slashed(network: Network) -> None:
    task = network.reach("admitted", class_id=1)
    network.send(task.executor, network.registry.functions.exit())
    network.mine_to(task.step_at + 10)
    network.send(network.outsider, network.expire_call(task))
    node = node_of(network, task.executor)
    assert (node["status"], node["deposit"]) == (EXITING, UNIT + UNIT // 4)


def test_withdraw_deposit__engaged__reverts(network: Network) -> None:
    task = network.reach("claimed")
    network.send(task.executor, network.registry.functions.exit())
    network.chain.mine(UNBONDING)
    assert network.reason(task.executor, network.registry.functions.withdraw_deposit()) == (
        "registry: node is engaged"
    )
    network.send(network.outsider, network.expire_call(task))
    network.send(task.executor, network.registry.functions.withdraw_deposit())


# --- slashing -----------------------------------------------------------------------------------


def test_slash__below_one_unit__barred_and_hardware_never_again(network: Network) -> None:
    task = network.reach("admitted")
    drawable = network.registry.functions.drawable().call()
    network.send(network.outsider, network.refuse_call(task, AFTER))
    node = node_of(network, task.executor)
    assert (node["status"], node["deposit"]) == (BARRED, UNIT // 2)
    assert network.registry.functions.drawable().call() == drawable - 1
    for call in (network.registry.functions.resume(), network.registry.functions.exit()):
        assert network.reason(task.executor, call) == "registry: node is barred"
    network.chain.mine(UNBONDING)
    network.send(task.executor, network.registry.functions.withdraw_deposit())
    assert node_of(network, task.executor)["status"] == BARRED
    other = replace(newcomer(network), root=network.nodes[task.executor].root)
    assert register_reason(network, other, {}) == "registry: hardware id already registered"
    again = network.nodes[task.executor]
    assert register_reason(network, again, {5: b"\x08" * 32}) == (
        "registry: account already registered"
    )


def test_slash__while_the_draw_stands_still__goes_through_and_sync_follows(
    network: Network,
) -> None:
    task = network.reach("claimed")
    network.mine_to(network.entropy_block(task))
    victim = network.nodes[list(network.nodes)[3]]
    drawable = network.registry.functions.drawable().call()
    network.equivocate(victim)
    assert node_of(network, victim.address)["status"] == BARRED
    assert network.registry.functions.drawable().call() == drawable
    sync = network.registry.functions.sync(victim.address)
    assert network.reason(network.outsider, sync) == f"registry: draw task {task.id} first"
    network.draw(task)
    network.send(network.outsider, sync)
    assert network.registry.functions.drawable().call() == drawable - 1


def test_withdraw_deposit__barred_and_never_synced__leaves_the_draw(network: Network) -> None:
    """A slash while the draw stands still leaves the place; nobody may stand there for nothing."""
    other = network.reach("admitted")
    frozen = network.reach("claimed")
    network.mine_to(network.entropy_block(frozen))
    network.send(network.outsider, network.refuse_call(other, AFTER))
    weight = network.registry.functions.total_weight().call()
    network.chain.mine(UNBONDING)
    assert node_of(network, other.executor)["deposit"] == UNIT // 2
    network.send(other.executor, network.registry.functions.withdraw_deposit())
    assert network.registry.functions.total_weight().call() == weight - 1


@pytest.mark.parametrize("lower", [0, 1])
def test_slash__lower_tier_full__goes_through_and_leaves_the_draw(
    network: Network, lower: int
) -> None:
    """Else whoever fills a tier could keep tasks from failing, and refunds from being paid."""
    victim = list(network.nodes.values())[6 + lower]
    one = 1 << 26 * lower  # a node of the lower tier, in its lane of 25 bits
    task = network.claim(network.post(), victim)
    task = network.admit(network.accept(network.draw(task)))
    registry, lanes = network.registry.address, 0  # the first slot
    before = int.from_bytes(network.chain.w3.eth.get_storage_at(registry, lanes))
    there = network.registry.functions.tiers().call()[lower]
    full = before + (16384 - there) * one
    network.chain.rpc("anvil_setStorageAt", [registry, hex(lanes), f"0x{full:064x}"])
    weight = network.registry.functions.total_weight().call()
    network.send(network.outsider, network.refuse_call(task, AFTER))
    node = node_of(network, victim.address)
    left = (1 << lower + 1) * UNIT - UNIT // 2
    assert (node["status"], node["tier"], node["deposit"]) == (ACTIVE, lower, left)
    assert network.registry.functions.total_weight().call() == weight - (2 << lower)
    sync = network.registry.functions.sync(victim.address)
    assert network.reason(network.outsider, sync) == "grid: tier is full"
    room = int.from_bytes(network.chain.w3.eth.get_storage_at(registry, lanes)) - one
    network.chain.rpc("anvil_setStorageAt", [registry, hex(lanes), f"0x{room:064x}"])
    network.send(network.outsider, sync)
    assert network.registry.functions.total_weight().call() == weight - (2 << lower)


def test_slash__outsider__reverts(network: Network) -> None:
    keys = network.free_node()
    call = network.registry.functions.slash(keys.address, UNIT, network.outsider, "theft")
    assert network.reason(network.outsider, call) == "registry: only market and ledger"


def test_slash__lower_tier_with_room__stays_in_the_draw_with_less_weight(network: Network) -> None:
    victim = list(network.nodes.values())[7]
    task = network.claim(network.post(), victim)
    task = network.admit(network.accept(network.draw(task)))
    functions = network.registry.functions
    assert functions.tiers().call() == [6, 1, 1, *[0] * 7]
    receipt = network.send(network.outsider, network.refuse_call(task, AFTER))
    node = node_of(network, victim.address)
    assert (node["status"], node["tier"], node["deposit"]) == (ACTIVE, 1, 3 * UNIT + UNIT // 2)
    assert node["fixed_at"] == receipt["blockNumber"]
    assert functions.tiers().call() == [6, 2, 0, *[0] * 7]
    assert functions.total_weight().call() == 10


def test_slash__inside_the_tier__changes_neither_place_nor_date(network: Network) -> None:
    """A date would keep a node from tasks that are posted already."""
    task = network.reach("admitted", class_id=1)
    before = node_of(network, task.executor)
    network.mine_to(task.step_at + 10)
    network.send(network.outsider, network.expire_call(task))
    after = node_of(network, task.executor)
    assert after == before | {"deposit": before["deposit"] - UNIT // 4, "engaged": False}


def test_slash__exactly_one_unit_left__not_barred(network: Network) -> None:
    keys = network.join("two units", 2 * UNIT)
    task = network.claim(network.post(), keys)
    task = network.admit(network.accept(network.draw(task)))
    network.send(network.outsider, network.refuse_call(task, AFTER))
    node = node_of(network, keys.address)
    assert (node["status"], node["deposit"]) == (ACTIVE, UNIT)


def test_slash__barred__unbonds_as_after_an_exit(network: Network) -> None:
    task = network.reach("admitted")
    receipt = network.send(network.outsider, network.refuse_call(task, AFTER))
    exit_at = node_of(network, task.executor)["exit_at"]
    assert exit_at == receipt["blockNumber"] + UNBONDING
    withdraw = network.registry.functions.withdraw_deposit()
    network.mine_to(exit_at - 2)
    assert network.reason(task.executor, withdraw) == "registry: still unbonding"
    network.send(task.executor, withdraw)
    node = node_of(network, task.executor)
    assert (node["deposit"], node["tier"], node["status"]) == (0, 0, BARRED)
    assert network.reason(task.executor, withdraw) == "registry: nothing to withdraw"


def test_slash__barred_while_exiting__keeps_the_date_of_the_exit(network: Network) -> None:
    task = network.reach("admitted")
    receipt = network.send(task.executor, network.registry.functions.exit())
    network.send(network.outsider, network.refuse_call(task, AFTER))
    node = node_of(network, task.executor)
    assert (node["status"], node["exit_at"]) == (BARRED, receipt["blockNumber"] + UNBONDING)


def test_slash__exited_node__nothing_to_take_and_nothing_said(network: Network) -> None:
    keys = network.free_node()
    network.send(keys.address, network.registry.functions.exit())
    network.chain.mine(UNBONDING)
    network.send(keys.address, network.registry.functions.withdraw_deposit())
    receipt = network.equivocate(keys)
    assert network.registry.events.Slashed().process_receipt(receipt, DISCARD) == ()
    assert node_of(network, keys.address)["status"] == EXITED


def test_slash__deposit_of_one_wei__is_burned(network: Network) -> None:
    """Its twentieth is nothing; the rest must not stay with the registry."""
    keys = network.join("poor", 1, join=False)
    before = network.balance(network.registry.address)
    network.equivocate(keys)
    assert node_of(network, keys.address)["deposit"] == 0
    assert network.balance(network.registry.address) == before - 1


def test_slash__account_that_is_no_node__stays_unknown(network: Network) -> None:
    """Else who calls could bar an account before it has ever registered."""
    network.fund(network.market.address)
    functions = network.registry.functions
    call = functions.slash(network.outsider, UNIT, network.requester, "theft")
    assert call.call({"from": network.market.address}) == 0
    assert network.send(network.market.address, call)["logs"] == []
    assert functions.status(network.outsider).call() == 0


def test_sync__unknown_node__reverts(network: Network) -> None:
    call = network.registry.functions.sync(network.outsider)
    assert network.reason(network.outsider, call) == "registry: unknown node"


# --- bounds and views ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ((0, 2), "registry: VRF key out of range"),
        ((SECP256K1_P, 2), "registry: VRF key out of range"),
        ((1, 1), "registry: VRF key prefix"),
        ((1, 4), "registry: VRF key prefix"),
    ],
)
def test_rotate_vrf__no_key__reverts(network: Network, key: tuple[int, int], reason: str) -> None:
    keys = network.free_node()
    call = network.registry.functions.rotate_vrf(*key)
    assert network.reason(keys.address, call) == reason


@pytest.mark.parametrize("key", [(1, 2), (SECP256K1_P - 1, 3)])
def test_rotate_vrf__first_and_last_key__kept_with_the_date(
    network: Network, key: tuple[int, int]
) -> None:
    keys = network.free_node()
    before = node_of(network, keys.address)
    receipt = network.send(keys.address, network.registry.functions.rotate_vrf(*key))
    assert node_of(network, keys.address) == before | {
        "vrf_x": key[0], "vrf_prefix": key[1], "fixed_at": receipt["blockNumber"]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("units", "tier"), [(1, 0), (2, 1), (4, 2), (511, 8), (512, 9), (1023, 9), (1024, 9)]
)
def test_register__units__tier_is_their_logarithm_up_to_nine(
    network: Network, units: int, tier: int
) -> None:
    keys = network.join("rich", units * UNIT)
    assert node_of(network, keys.address)["tier"] == tier
    terms = network.registry.functions.terms(keys.address, network.block + 1).call()
    assert terms == (*keys.vrf_public, 1 << tier)
    weight = network.registry.functions.claim_weight(keys.address, network.block + 1)
    assert weight.call() == 1 << tier


def test_top_up__deposit_of_101_bits__reverts(network: Network) -> None:
    keys = network.free_node()
    network.chain.rpc("anvil_setBalance", [keys.address, hex(2**101)])
    top_up = network.registry.functions.top_up()
    room = 2**100 - node_of(network, keys.address)["deposit"]
    assert network.reason(keys.address, top_up, room) == "registry: deposit too large"
    network.send(keys.address, top_up, room - 1)
    assert node_of(network, keys.address)["deposit"] == 2**100 - 1
    assert network.reason(keys.address, top_up) == "registry: no value"


def test_node__all_that_is_stored__is_read_back(network: Network) -> None:
    keys = network.join("newcomer", 3 * UNIT)
    (x, y), (vrf_x, vrf_prefix) = keys.root_public, keys.vrf_public
    expected = {
        "id": 9, "status": ACTIVE, "root_class": 1, "root_x": x, "root_y": y, "vrf_x": vrf_x,
        "vrf_prefix": vrf_prefix, "hardware_id": keys.hardware_id,
        "attestation_key": b"\x44" * 32, "contact_digest": bytes(Web3.keccak(b"contact")),
        "deposit": 3 * UNIT, "tier": 1, "engaged": False, "fixed_at": network.block, "exit_at": 0,
    }  # fmt: skip
    assert node_of(network, keys.address) == expected
    functions = network.registry.functions
    assert functions.node_id(keys.address).call() == 9
    assert functions.root_key(keys.address).call() == [x, y]
    receipt = network.send(keys.address, functions.exit())
    at = receipt["blockNumber"]
    expected |= {"status": EXITING, "fixed_at": at, "exit_at": at + UNBONDING}
    assert node_of(network, keys.address) == expected


def test_parameters__what_it_was_created_with(network: Network) -> None:
    functions = network.registry.functions
    read = [functions.unit, functions.unbonding, functions.allow_software, functions.market]
    assert [one().call() for one in read] == [UNIT, UNBONDING, True, network.market.address]
    neighbours = [functions.attestation().call(), functions.reputation().call()]
    assert neighbours == [network.attestation.address, network.reputation.address]


def test_register__again_after_the_exit__a_new_id_for_the_same_account(network: Network) -> None:
    keys = network.free_node()
    functions = network.registry.functions
    network.send(keys.address, functions.exit())
    network.chain.mine(UNBONDING)
    network.send(keys.address, functions.withdraw_deposit())
    network.fund(keys.address)
    row, contact, signature = network.registration(keys)
    call = functions.register(row, contact, True, *signature)
    network.send(keys.address, call, UNIT)
    assert node_of(network, keys.address)["id"] == 9
    assert [functions.node_at(id).call() for id in (1, 9)] == [keys.address] * 2


RECORDS = 1 + 163840  # the slot of `records`, behind the lanes of the draw and its seats
FIELDS = {
    "status": (0, 4), "root_class": (4, 4), "tier": (8, 4), "vrf_prefix": (12, 3), "joins": (15, 1),
    "place": (16, 20), "id": (36, 32), "maker": (68, 7), "by_vote": (75, 1),
    "fixed_at": (76, 40), "exit_at": (116, 40),
    "deposit": (156, 100),
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_node__one_field_full__no_other_sees_it(network: Network, name: str) -> None:
    """Fields lie bit beside bit; small values would never touch their neighbours."""
    account = NodeKeys.derive("nobody").address
    shift, bits = FIELDS[name]
    put(network, account, (2**bits - 1) << shift)
    node = node_of(network, account)
    expected = {field: 2**bits - 1 if field == name else 0 for field in FIELDS}
    assert {field: node[field] for field in FIELDS if field in node} == {
        field: value for field, value in expected.items() if field in node
    }
    functions = network.registry.functions
    assert functions.node_id(account).call() == expected["id"]
    assert functions.deposit(account).call() == expected["deposit"]
    assert functions.status(account).call() == expected["status"]
    assert functions.barred_by_vote(account).call() == (name == "by_vote")


def put(network: Network, account: str, word: int) -> None:
    """Write a record."""
    slot = int.from_bytes(Web3.keccak(RECORDS.to_bytes(32) + int(account, 16).to_bytes(32)))
    value = f"0x{word:064x}"
    network.chain.rpc("anvil_setStorageAt", [network.registry.address, f"0x{slot:064x}", value])


@pytest.mark.parametrize(("fixed_at", "allowed"), [(4, True), (5, False), (2**40 - 1, False)])
def test_terms__neighbours_full__read_the_fields_alone(
    network: Network, fixed_at: int, allowed: bool
) -> None:
    """A claim for a task posted in block 5, by a record that is full but for what counts."""
    account = NodeKeys.derive("nobody").address
    full = 2**256 - 1
    for name, value in {"status": ACTIVE, "tier": 9, "vrf_prefix": 2, "fixed_at": fixed_at}.items():
        shift, bits = FIELDS[name]
        full = full & ~((2**bits - 1) << shift) | value << shift
    put(network, account, full)
    terms = network.registry.functions.terms(account, 5)
    weight = network.registry.functions.claim_weight(account, 5)
    if allowed:
        assert (terms.call(), weight.call()) == ((0, 2, 512), 512)
    else:
        for call in (terms, weight):
            with pytest.raises(ContractLogicError, match="registry: node changed after"):
                call.call()


def test_slash__inside_a_full_tier__stays_in_the_draw(network: Network) -> None:
    """That a tier is full says nothing about who stands in it already."""
    task = network.reach("admitted", class_id=1)
    registry = network.registry.address
    before = int.from_bytes(network.chain.w3.eth.get_storage_at(registry, 0))
    full = before - before % 2**25 + 16384
    network.chain.rpc("anvil_setStorageAt", [registry, f"0x{0:064x}", f"0x{full:064x}"])
    weight = network.registry.functions.total_weight().call()
    network.mine_to(task.step_at + 10)
    network.send(network.outsider, network.expire_call(task))
    assert network.registry.functions.total_weight().call() == weight
