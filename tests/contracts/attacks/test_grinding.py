"""Grinding the race: which block, which header, how many tasks, which key and Deposit"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import rlp  # type: ignore[import-untyped]
from web3 import Web3
from web3.logs import DISCARD

from tests.contracts.attacks.chance import (
    by_ticket,
    claim_with,
    forecast,
    raced,
    ticket_of,
    wins,
)
from tests.contracts.attacks.harness import Removal, attack
from tests.contracts.attacks.test_collusion import FEE, ONE_AT_A_TIME
from tests.contracts.network import (
    CLAIM_WINDOW,
    DELAY,
    DRAW_WINDOW,
    EXECUTOR_FEE,
    MEMBER_FEE,
    POSTING_FEE,
    UNIT,
    Network,
    Refused,
    Task,
)
from tests.contracts.signing import NodeKeys

DRAW_ENTROPY: Final = Removal(
    "draw-of-this-block",
    "`TaskMarket.draw` takes the randomness of one fixed block, not of the block it lands in",
    "TaskMarket.vy",
    "entropy.prevrandao_of(at, block_header))",
    "block.prevrandao)",
)
RACE_ENTROPY: Final = Removal(
    "race-of-any-block",
    "`TaskMarket.claim` asks for the randomness of one fixed block",
    "TaskMarket.vy",
    "entropy.prevrandao_of(task.posted_at + ENTROPY_DELAY, block_header)",
    "entropy.prevrandao_of(block.number - 1, block_header)",
)
HEADER_HASH: Final = Removal(
    "header-hash",
    "`entropy`: the header's keccak is the hash of that block",
    "modules/entropy.vy",
    'assert expected == keccak256(block_header), "entropy: not the header"',
    "pass",
    contract="TaskMarket",
)
TASK_HASH: Final = Removal(
    "task-hash",
    "`TaskMarket`: a Task in calldata hashes to what is stored",
    "TaskMarket.vy",
    "slot >> 40 == convert(keccak256(abi_encode(task)), uint256) >> 40",
    "slot >> 40 != 0",
)
CLAIMS_END: Final = Removal(
    "claims-end",
    "`TaskMarket.claim` is closed before the entropy of the draw exists",
    "TaskMarket.vy",
    'assert block.number < opens + CLAIM_WINDOW, "market: claims are closed"',
    "pass",
)
ALPHA_TASK: Final = Removal(
    "alpha-names-the-task",
    "`TaskMarket.claim` takes proofs over an alpha that names the task",
    "TaskMarket.vy",
    "            task.id,\n            msg.sender,",
    "            convert(1, uint256),\n            msg.sender,",
)
FIXED: Final = Removal(
    "fixed-before-posting",
    "`NodeRegistry.terms` wants key, tier and status fixed before the posting",
    "NodeRegistry.vy",
    'assert (packed >> 76) & (2**40 - 1) < posted_at, "registry: node changed after the posting"',
    "pass",
)
GAIN_LATER: Final = Removal(
    "gain-at-once",
    "`ReputationLedger.factor_at` takes the reputation at the posting or now, whichever is lower",
    "ReputationLedger.vy",
    "    return FACTOR_FLOOR + lowest",
    "    return FACTOR_FLOOR + self._mean_at(slot, block.number)",
)


def forged_words(network: Network, task: Task, keys: NodeKeys) -> bytes:
    """A randomness, made up, with which the node's ticket would win."""
    for number in itertools.count():
        word = number.to_bytes(32, "big")
        if wins(network, task, keys, word):
            return word
    raise AssertionError


def lead(network: Network, task: Task, keys: NodeKeys, header: bytes, word: bytes) -> None:
    """Claim with this header, and lead."""
    call = claim_with(network, task, keys, header, word)
    led = network.fold(task, network.send(keys.address, call))
    assert led.executor == keys.address
    assert led.ticket < task.ticket


# --- which block --------------------------------------------------------------------------------


@attack("grinder: taken back", DRAW_ENTROPY)
def test_draw__simulated_and_taken_back__no_other_committee(network: Network) -> None:
    """A contract draws, looks at the committee and reverts, block after block"""
    task = network.claim(network.post(k=5), network.free_node())
    network.mine_to(network.entropy_block(task))
    fixed = network.prevrandao(network.entropy_block(task))
    honest = forecast(network, task)
    wanted = next(one for one in network.nodes if one not in (*honest, task.executor))
    grinder = network.chain.deploy("tests/contracts/attacks/Grinder.vy")
    call = bytes.fromhex(network.draw_call(task)._encode_transaction_data()[2:])
    snapshot = network.chain.rpc("evm_snapshot", [])
    follows_the_block = network.draw(task).members != honest
    assert network.chain.rpc("evm_revert", [snapshot])
    attempt = grinder.functions.draw_if(
        network.market.address, call, network.registry.address, task.beta, 5, task.executor,
        bytes(32) if follows_the_block else fixed, wanted,
    )  # fmt: skip
    while True:
        try:
            receipt = network.send(network.outsider, attempt)
        except Refused:
            if network.block >= network.entropy_block(task) + DRAW_WINDOW:
                raise
        else:
            assert wanted in network.fold(task, receipt).members
            return


@attack("entropy: not the header", RACE_ENTROPY)
def test_claim__in_the_block_that_suits__refused(network: Network) -> None:
    """A node with a bad ticket waits for a block whose randomness gives it a better one"""
    task, keys = raced(network)
    for number in range(network.block, task.posted_at + DELAY + CLAIM_WINDOW):
        network.mine_to(number)
        word = network.prevrandao(number)
        if wins(network, task, keys, word):
            lead(network, task, keys, network.header_of(number), word)
            return
    raise AssertionError("no block of the window would have suited")


@attack("market: claims are closed", CLAIMS_END)
def test_claim__with_the_draw_known__refused(network: Network) -> None:
    """A node with the best ticket waits until it can see which committee its claim would draw"""
    task = network.post()
    network.open_claims(task)
    keys, *_, leader = by_ticket(network, task)
    led = network.claim(task, leader)
    call = network.claim_call(led, keys)
    network.mine_to(network.entropy_block(led))
    would_be = replace(led, executor=keys.address, beta=network.beta(led, keys))
    seen = forecast(network, would_be)
    claimed = network.fold(led, network.send(keys.address, call))
    assert network.draw(claimed).members == seen


# --- which header -------------------------------------------------------------------------------


@attack("entropy: not the header", HEADER_HASH)
def test_claim__forged_header__refused(network: Network) -> None:
    """The randomness inside the header is replaced by one that wins"""
    task, keys = raced(network)
    header = network.header_of(task.posted_at + DELAY)
    word = forged_words(network, task, keys)
    forged = header.replace(network.prevrandao(task.posted_at + DELAY), word)
    lead(network, task, keys, forged, word)


@attack("entropy: not the header", HEADER_HASH)
def test_claim__truncated_header__refused(network: Network) -> None:
    """The header ends behind the randomness, which is forged"""
    task, keys = raced(network)
    header = network.header_of(task.posted_at + DELAY)
    word = forged_words(network, task, keys)
    front, _, _ = header.partition(network.prevrandao(task.posted_at + DELAY))
    lead(network, task, keys, front + word, word)


@attack("entropy: not the header", HEADER_HASH)
def test_claim__re_encoded_header__refused(network: Network) -> None:
    """The header is encoded anew with a leading zero in a number, and a randomness that wins"""
    task, keys = raced(network)
    fields = rlp.decode(network.header_of(task.posted_at + DELAY))
    word = forged_words(network, task, keys)
    fields[8], fields[13] = b"\x00" + fields[8], word
    lead(network, task, keys, rlp.encode(fields), word)


@attack("entropy: not the header", HEADER_HASH)
def test_claim__header_of_another_block__refused(network: Network) -> None:
    """The header is that of another block, before or after, whose randomness wins"""
    task, keys = raced(network)
    network.mine_to(task.posted_at + DELAY + CLAIM_WINDOW - 2)
    for number in range(task.posted_at + DELAY + 1, network.block):
        word = network.prevrandao(number)
        if wins(network, task, keys, word):
            lead(network, task, keys, network.header_of(number), word)
            return
    raise AssertionError("no block would have suited")


@attack("market: not the task as it stands", TASK_HASH)
def test_claim__posting_dated_back__refused(network: Network) -> None:
    """The Task in calldata says that it was posted in another block, whose entropy suits better"""
    task, keys = raced(network)
    network.mine_to(task.posted_at + DELAY + 6)
    for number in range(task.posted_at + 1, network.block - DELAY):
        word = network.prevrandao(number + DELAY)
        if wins(network, task, keys, word):
            dated = replace(task, posted_at=number)
            lead(network, dated, keys, network.header_of(number + DELAY), word)
            return
    raise AssertionError("no block would have suited")


# --- how many tasks -----------------------------------------------------------------------------


@attack("market: value is not the posting fee and all fees", FEE)
def test_post__many_for_nothing__refused(network: Network) -> None:
    """A requester posts many tasks, keeps the one that its accomplice leads, and gets all back"""
    escrow = EXECUTOR_FEE + 3 * MEMBER_FEE
    for number in range(4):
        call = network.post_call((number + 1).to_bytes(32, "big"))
        network.send(network.requester, call, escrow)
    burned = network.market.functions.burned().call()
    assert network.balance(network.market.address) < burned + 4 * escrow
    assert burned == 4 * POSTING_FEE  # none of which was paid


def posted_together(network: Network) -> list[Task]:
    """Tasks 1 and 2, posted in one block, so that their races share the entropy."""
    calls = [network.post_call(bytes(Web3.keccak(text=label))) for label in ("first", "second")]
    value = POSTING_FEE + EXECUTOR_FEE + 3 * MEMBER_FEE
    options: Any = {"from": network.requester, "value": value, "gas": 1_000_000}
    network.chain.rpc("evm_setAutomine", [False])
    try:
        sent = [call.transact(options) for call in calls]
        network.chain.mine()
    finally:
        network.chain.rpc("evm_setAutomine", [True])
    tasks = []
    for one in sent:
        receipt = network.chain.w3.eth.wait_for_transaction_receipt(one)
        (posted,) = network.market.events.TaskPosted().process_receipt(receipt, DISCARD)
        args, number = posted["args"], receipt["blockNumber"]
        task = Task(
            args["task"], args["commitment"], network.requester, number, EXECUTOR_FEE, MEMBER_FEE,
            3, 0, step_at=number,
        )  # fmt: skip
        tasks.append(task)
    assert [task.id for task in tasks] == [1, 2]
    return tasks


@attack("ecvrf: U", ALPHA_TASK)
def test_claim__ticket_of_another_task__refused(network: Network) -> None:
    """Of two tasks posted in one block, a node shows for the second its ticket for the first"""
    while True:
        snapshot = network.chain.rpc("evm_snapshot", [])
        first, second = posted_together(network)
        network.open_claims(second)
        calls = {keys.address: network.claim_call(first, keys) for keys in network.nodes.values()}
        # One without a rejected counter, so that what refuses it does not depend on chance.
        fit = [node for node, call in calls.items() if not call.args[3]]
        if fit:
            break
        assert network.chain.rpc("evm_revert", [snapshot])
        network.chain.mine()
    proof = calls[fit[0]].args[1:]
    call = network.market.functions.claim(second.as_tuple(), *proof)
    led = network.fold(second, network.send(fit[0], call))
    assert led.beta == network.beta(first, network.nodes[fit[0]])


@attack("reputation: node is engaged", ONE_AT_A_TIME)
def test_claim__one_node_leads_them_all__refused(network: Network) -> None:
    """A node claims every task in sight; only one of them it could run"""
    tasks = [network.post(label) for label in ("first", "second", "third")]
    keys = network.free_node()
    led = [network.claim(task, keys) for task in tasks]
    assert {task.executor for task in led} == {keys.address}


# --- which key, which Deposit -------------------------------------------------------------------


def lead_with(network: Network, task: Task, keys: NodeKeys) -> None:
    """Claim with the node as it is now."""
    led = network.fold(task, network.send(keys.address, network.claim_call(task, keys)))
    assert led.executor == keys.address


def winning_secrets(network: Network, task: Task, keys: NodeKeys) -> Iterator[NodeKeys]:
    """The node with other VRF secrets, those that would win, as anybody can compute them.

    The ticket of a node that may not claim is unknown; outputs are compared instead.
    """
    for number in itertools.count():
        secret = number.to_bytes(1, "big") + keys.vrf[1:]
        other = replace(keys, vrf=secret)
        if int.from_bytes(network.beta(task, other), "big") > 2**256 - 2**253:
            yield other


@attack("registry: node changed after the posting", FIXED)
def test_claim__key_rotated_until_it_wins__refused(network: Network) -> None:
    """A node tries VRF keys off chain once the entropy is out, and rotates to the best one"""
    task, keys = raced(network)
    winner = next(winning_secrets(network, task, keys))
    network.send(keys.address, network.registry.functions.rotate_vrf(*winner.vrf_public))
    lead_with(network, task, winner)


@attack("registry: node changed after the posting", FIXED)
def test_claim__node_registered_with_a_winning_key__refused(network: Network) -> None:
    """A new node registers with a key that wins a race whose entropy is out"""
    task, _ = raced(network)
    late = next(winning_secrets(network, task, NodeKeys.derive("late")))
    network.fund(late.address)
    row, contact, signature = network.registration(late)
    call = network.registry.functions.register(row, contact, True, *signature)
    network.send(late.address, call, UNIT)
    lead_with(network, task, late)


@attack("registry: node changed after the posting", FIXED)
def test_claim__deposit_raised_until_it_wins__refused(network: Network) -> None:
    """A node that has lost raises its Deposit by tiers, which divides its ticket"""
    task, keys = raced(network)
    network.send(keys.address, network.registry.functions.top_up(), 600 * UNIT)
    lead_with(network, task, keys)


@attack("registry: node changed after the posting", FIXED)
def test_claim__paused_until_the_ticket_is_known__refused(network: Network) -> None:
    """A node stays out of reach of every duty and resumes for the races that it would win"""
    keys = network.free_node()
    network.send(keys.address, network.registry.functions.pause())
    task = network.post()
    network.open_claims(task)
    network.send(keys.address, network.registry.functions.resume())
    lead_with(network, task, keys)


@attack("its ticket is no better than before", GAIN_LATER)
def test_claim__reputation_gained_after_the_posting__gains_nothing(network: Network) -> None:
    """A task is settled just when its members' better reputation would win them another race"""
    settling = network.reach("admitted", k=7)
    task = network.post()
    network.open_claims(task)
    keys = network.nodes[settling.members[0]]
    beta = network.beta(task, keys)
    before = ticket_of(network, task, keys, beta)
    network.finish(settling)
    if ticket_of(network, task, keys, beta) >= before:
        raise Refused("its ticket is no better than before")
    assert network.claim(task, keys).ticket < before
