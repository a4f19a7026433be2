"""Front-running: a copied ticket, record, `expire`, withdrawal, registration."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from nodeclient.core import vrf_witness
from tests.contracts.attacks.harness import Removal, attack
from tests.contracts.network import NOBODY, UNIT, Network, Refused, Task
from tests.contracts.signing import AFTER, NodeKeys

OWN_ALPHA: Final = Removal(
    "alpha-names-the-node",
    "`TaskMarket.claim` takes proofs over an alpha that names the caller",
    "TaskMarket.vy",
    "            msg.sender,\n            entropy.prevrandao_of(",
    "            empty(address),\n            entropy.prevrandao_of(",
)
OWN_COMMITMENT: Final = Removal(
    "commitment-names-the-requester",
    "`TaskMarket.post` hashes the caller into the commitment",
    "TaskMarket.vy",
    "abi_encode(COMMITMENT_DOMAIN, spec_hash, msg.sender, number)",
    "abi_encode(COMMITMENT_DOMAIN, spec_hash, empty(address), number)",
)
EXECUTOR_ONLY: Final = Removal(
    "records-by-the-executor",
    "`TaskMarket.admit` and `finish` are the executor's to call",
    "TaskMarket.vy",
    """    assert msg.sender == task.executor, "market: only the executor"
    self._check_deadline(task, state)
    assert keccak256""",
    "    self._check_deadline(task, state)\n    assert keccak256",
)
LEADER_ACCEPTS: Final = Removal(
    "accept-by-the-leader",
    "`TaskMarket.draw` lets the leader alone accept",
    "TaskMarket.vy",
    'assert not accept or msg.sender == task.executor, "market: only the executor"',
    "pass",
)
AFTER_DEADLINE: Final = Removal(
    "expire-after-the-deadline",
    "`TaskMarket.expire` works only in a block in which the step itself is refused",
    "TaskMarket.vy",
    "block.number > max(self._deadline(task, state)",
    "block.number >= max(self._deadline(task, state)",
)
COLLECT: Final = Removal(
    "credit-by-the-market",
    "`ReputationLedger.collect` takes a credit only while the market pays it to its owner",
    "ReputationLedger.vy",
    """    assert msg.sender == MARKET, "reputation: only the market"
    slot: uint256 = self.slots[node]
    if slot >> CREDIT_AT != 0:""",
    "    slot: uint256 = self.slots[node]\n    if slot >> CREDIT_AT != 0:",
)
POSSESSION: Final = Removal(
    "registration-signed",
    "`NodeRegistry.register` needs the root's signature, which names the account",
    "NodeRegistry.vy",
    """    assert p256.verify(
        signed, r, s, registration.root_x, registration.root_y
    ), "registry: not signed by the root key"
""",
    "",
)


@attack("ecvrf", OWN_ALPHA)
def test_front_running__copied_ticket_under_a_copied_key__is_worth_nothing(
    network: Network,
) -> None:
    """A rich node registers a poor one's VRF key and shows its proof, seen before it is mined."""
    thief, victim = network.join("thief", 8 * UNIT), network.free_node()
    network.send(thief.address, network.registry.functions.rotate_vrf(*victim.vrf_public))
    task = network.post()
    network.open_claims(task)
    refused = ""
    # what the victim shows: a proof over its own alpha, or over everybody's if nobody stands in it
    for node in (victim.address, NOBODY):
        proof = vrf_witness.prove(victim.vrf, network.alpha(task, node)).as_arguments()
        header = network.header_of(task.posted_at + 2)
        copied = network.market.functions.claim(task.as_tuple(), header, *proof)
        try:
            led = network.fold(task, network.send(thief.address, copied))
        except Refused as refusal:
            refused = str(refusal).partition(":")[0]
            continue
        own = network.market.functions.claim(led.as_tuple(), header, *proof)
        assert network.reason(victim.address, own) == "market: ticket not below the leader's"
        return
    raise Refused(refused)


@attack("another commitment", OWN_COMMITMENT)
def test_front_running__copied_posting__is_another_task(network: Network) -> None:
    """Somebody posts a requester's commitment first: the consents fit its terms."""
    number = next(network.numbers)
    thief = replace(network, requester=network.outsider, numbers=iter([number]))
    victim = replace(network, numbers=iter([number]))
    stolen, own = thief.post("one spec"), victim.post("one spec")
    posted = [posted_commitment(network, task) for task in (stolen, own)]
    if posted[0] != posted[1]:
        raise Refused("another commitment")


def posted_commitment(network: Network, task: Task) -> bytes:
    """The commitment of a task as its event says it."""
    filtered = {"task": task.id}
    found = network.market.events.TaskPosted().get_logs(
        from_block=task.posted_at, to_block=task.posted_at, argument_filters=filtered
    )
    return bytes(found[0]["args"]["commitment"])


@attack("market: only the executor", EXECUTOR_ONLY)
def test_front_running__copied_record_with_fewer_votes__not_taken(network: Network) -> None:
    """Somebody sends the executor's `finish` first, without the vote of a member it dislikes."""
    task = network.reach("admitted")
    network.send(network.outsider, network.record_call(task, AFTER, (0, 1)))
    assert network.owed(task.members[2]) == 0


@attack("market: only the executor", LEADER_ACCEPTS)
def test_front_running__draw_that_accepts_for_the_leader__not_taken(network: Network) -> None:
    """A requester that sends no TaskSpec accepts in the executor's name, which costs it double."""
    task = network.reach("claimed", class_id=1)
    network.mine_to(network.entropy_block(task))
    accepted = network.draw_call(task, accept=True)
    drawn = network.fold(task, network.send(network.requester, accepted))
    network.mine_to(drawn.step_at + 10)
    network.send(network.outsider, network.expire_call(drawn))
    _, bad, _ = network.reputation.functions.history(task.executor).call()
    assert bad == 65536  # a whole task, not half of one


@attack("market: deadline not over", AFTER_DEADLINE)
def test_front_running__expire_before_the_last_finish__too_early(network: Network) -> None:
    """A reporter ends a task in the last block of its deadline, before the executor's `finish`."""
    task = network.reach("admitted", class_id=1)
    network.mine_to(task.step_at + 9)
    finish = network.record_call(task, AFTER)
    network.send(network.outsider, network.expire_call(task))
    assert network.reason(task.executor, finish) == "market: task is over"


@attack("reputation: only the market", COLLECT)
def test_front_running__another_takes_a_nodes_credit__not_its_to_take(network: Network) -> None:
    """Somebody collects a node's fees before it withdraws them."""
    task = network.reach("settled")
    assert network.owed(task.executor) > 0
    network.send(network.outsider, network.reputation.functions.collect(task.executor))
    withdraw = network.market.functions.withdraw()
    assert network.reason(task.executor, withdraw) == "market: nothing owed"


@attack("registry: not signed by the root key", POSSESSION)
def test_front_running__copied_registration__takes_no_hardware_id(network: Network) -> None:
    """Somebody sends a newcomer's `register` first, and so takes its hardware id."""
    keys = NodeKeys.derive("newcomer")
    network.fund(keys.address)
    row, contact, signature = network.registration(keys)
    register = network.registry.functions.register(row, contact, True, *signature)
    network.send(network.outsider, register, UNIT)
    reason = network.reason(keys.address, register, UNIT)
    assert reason == "registry: hardware id already registered"


@pytest.mark.chain
def test_front_running__copied_expire_or_refuse__costs_the_reporter_its_part_alone(
    network: Network,
) -> None:
    """Whoever copies a report is paid for it; everybody else gets what they would have."""
    task = network.reach("admitted")
    original = network.refuse_call(task, AFTER)
    thief = network.nodes[next(n for n in network.nodes if n != task.executor)]
    network.send(thief.address, original)
    assert network.reason(network.outsider, original) == "market: task is over"
    assert network.owed(thief.address) == UNIT * 5 // 100
    assert network.owed(network.outsider) == 0
    assert network.owed(network.requester) == task.escrow


@pytest.mark.chain
def test_front_running__copied_withdrawal__pays_the_copier_its_own(network: Network) -> None:
    """`withdraw` and `withdraw_deposit` name nobody: they pay the caller what is the caller's."""
    task = network.reach("settled")
    network.send(task.executor, network.registry.functions.exit())
    network.chain.mine(400)
    for call in (
        network.market.functions.withdraw(),
        network.registry.functions.withdraw_deposit(),
    ):
        assert network.reason(network.outsider, call).endswith(("nothing owed", "not exiting"))
    assert network.owed(task.executor) == task.executor_fee
    before = network.balance(network.registry.address)
    network.send(task.executor, network.registry.functions.withdraw_deposit())
    assert network.balance(network.registry.address) < before


@pytest.mark.chain
def test_front_running__draw_by_somebody_else__gives_the_same_committee(network: Network) -> None:
    """Who draws first decides nothing, and takes nothing from the leader."""
    task = network.reach("claimed")
    network.mine_to(network.entropy_block(task))
    snapshot = network.chain.rpc("evm_snapshot", [])
    drawn = network.fold(task, network.send(network.outsider, network.draw_call(task)))
    accepting = network.draw_call(task, accept=True)
    assert network.reason(task.executor, accepting) == "market: not the task as it stands"
    assert network.state(network.finish(network.admit(network.accept(drawn)))) == 5
    network.chain.rpc("evm_revert", [snapshot])
    network.chain.mine(3)
    own = network.draw_accepting(task)
    assert replace(own, step_at=0) == replace(drawn, step_at=0)
