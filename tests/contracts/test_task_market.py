"""The market on anvil: posting, the race, the draw, silence at each step, money."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from web3 import Web3
from web3.exceptions import ContractLogicError
from web3.logs import DISCARD

from agent.formats.taskspec import commit
from tests.contracts.network import (
    CLAIM_WINDOW,
    CLASSES,
    DELAY,
    DRAW_WINDOW,
    EXECUTOR_FEE,
    LOOKAHEAD,
    MEMBER_FEE,
    NOBODY,
    POSTING_FEE,
    UNIT,
    Network,
    Task,
)
from tests.contracts.signing import AFTER, BEFORE, DURING

pytestmark = pytest.mark.chain  # starts anvil
VALUE = POSTING_FEE + EXECUTOR_FEE + 3 * MEMBER_FEE
POSTED, DRAWN, ACCEPTED, ADMITTED, SETTLED, FAILED, EXPIRED = range(1, 8)
NO_ADMIT = 5


def failures(network: Network, receipt: Any) -> list[int]:
    events = network.market.events.TaskFailed().process_receipt(receipt, DISCARD)
    return [event["args"]["cause"] for event in events]


# --- post -------------------------------------------------------------------------------------


def posted_commitment(network: Network, receipt: Any) -> bytes:
    (event,) = network.market.events.TaskPosted().process_receipt(receipt, DISCARD)
    return bytes(event["args"]["commitment"])


@pytest.mark.parametrize("number", [1024, 1279, 1280, 2**256 - 1])
def test_post__same_number_twice__reverts_whatever_is_posted(network: Network, number: int) -> None:
    call = network.post_call(b"\x01" * 32, number=number)
    receipt = network.send(network.requester, call, VALUE)
    expected = commit(b"\x01" * 32, bytes.fromhex(network.requester[2:]), number)
    assert posted_commitment(network, receipt) == expected
    for other in (call, network.post_call(b"\x02" * 32, number=number)):
        assert network.reason(network.requester, other, VALUE) == "market: number already used"


def test_post__other_numbers_of_the_same_slot__are_free(network: Network) -> None:
    numbers = [1024 + each for each in (0, 1, 2, 254, 255, 256, 257)]
    is_spent = network.market.functions.is_spent
    for count, number in enumerate(numbers):
        spent = [is_spent(network.requester, each).call() for each in numbers]
        assert spent == [place < count for place in range(len(numbers))]
        call = network.post_call(b"\x01" * 32, number=number)
        network.send(network.requester, call, VALUE)
    assert not any(is_spent(network.outsider, each).call() for each in numbers)


def test_post__seen_and_posted_first_by_somebody_else__stays_the_requesters(
    network: Network,
) -> None:
    """Who copies a posting that is not mined yet gets a task that no TaskSpec opens."""
    call = network.post_call(b"\x01" * 32, number=1024)
    copied = posted_commitment(network, network.send(network.outsider, call, VALUE))
    own = posted_commitment(network, network.send(network.requester, call, VALUE))
    assert own == commit(b"\x01" * 32, bytes.fromhex(network.requester[2:]), 1024) != copied


def test_post__number_of_an_expired_task__still_used(network: Network) -> None:
    task = network.post()
    number = next(network.numbers) - 1
    network.mine_to(task.posted_at + DELAY + CLAIM_WINDOW)
    network.send(network.outsider, network.expire_call(task))
    call = network.post_call(b"\x01" * 32, number=number)
    assert network.reason(network.requester, call, VALUE) == "market: number already used"


@pytest.mark.parametrize("wrong", [-1, 1, -POSTING_FEE])
def test_post__wrong_value__reverts(network: Network, wrong: int) -> None:
    reason = network.reason(network.requester, network.post_call(b"\x01" * 32), VALUE + wrong)
    assert reason == "market: value is not the posting fee and all fees"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((2, 0, 0, 0), "market: committee size out of range"),
        ((12, 0, 0, 0), "market: committee size out of range"),
        ((3, 4, 0, 0), "market: unknown class"),
        ((3, 0, 2**96, 0), "market: fee too large"),
        ((3, 0, 0, 2**96), "market: fee too large"),
    ],
)
def test_post__bad_input__reverts(
    network: Network, arguments: tuple[Any, ...], reason: str
) -> None:
    call = network.market.functions.post(b"\x01" * 32, 0, *arguments)
    assert network.reason(network.requester, call, POSTING_FEE) == reason


# --- claim ------------------------------------------------------------------------------------


def test_claim__race_of_three__lowest_ticket_leads_and_others_are_free(network: Network) -> None:
    task = network.post()
    network.open_claims(task)
    nodes = list(network.nodes.values())[:3]
    ticket_of = network.market.functions.ticket_of
    tickets = {
        keys.address: ticket_of(network.beta(task, keys), keys.address, task.posted_at).call()
        for keys in nodes
    }
    best, middle, worst = sorted(nodes, key=lambda keys: tickets[keys.address])
    task = network.claim(task, middle)
    assert task.ticket == tickets[middle.address]
    assert network.reputation.functions.engaged(middle.address).call()
    late = network.reason(worst.address, network.claim_call(task, worst))
    assert late == "market: ticket not below the leader's"
    task = network.claim(task, best)
    assert (task.executor, task.ticket) == (best.address, tickets[best.address])
    engaged = network.reputation.functions.engaged
    assert [engaged(keys.address).call() for keys in (best, middle)] == [True, False]


def test_claim__too_early__reverts(network: Network) -> None:
    task = network.post()
    keys = next(iter(network.nodes.values()))
    network.open_claims(task)
    call = network.claim_call(task, keys)
    network.chain.rpc("anvil_rollback", [1])
    assert network.reason(keys.address, call) == "market: claims not open yet"


def test_claim__last_block_of_the_window__then_closed(network: Network) -> None:
    task = network.post()
    keys, other = list(network.nodes.values())[:2]
    network.mine_to(task.posted_at + DELAY + CLAIM_WINDOW - 1)
    task = network.claim(task, keys)
    assert task.step_at == task.posted_at + DELAY + CLAIM_WINDOW
    assert network.reason(other.address, network.claim_call(task, other)) == (
        "market: claims are closed"
    )


def test_claim__header_of_another_block__reverts(network: Network) -> None:
    task = network.post()
    network.open_claims(task)
    network.chain.mine(1)
    keys = next(iter(network.nodes.values()))
    right = network.claim_call(task, keys)
    wrong = network.market.functions.claim(
        task.as_tuple(), network.header_of(task.posted_at + DELAY + 1), *right.args[2:]
    )
    assert network.reason(keys.address, wrong).startswith("entropy: ")


def test_claim__proof_of_another_key__reverts(network: Network) -> None:
    task = network.post()
    network.open_claims(task)
    keys, other = list(network.nodes.values())[:2]
    assert network.reason(keys.address, network.claim_call(task, other)).startswith("ecvrf: ")


def test_claim__copied_proof_under_a_copied_key__reverts(network: Network) -> None:
    """A VRF key is registered unproved: a rich node could name a poor one's and front-run it."""
    thief, victim = list(network.nodes.values())[7], next(iter(network.nodes.values()))
    network.send(thief.address, network.registry.functions.rotate_vrf(*victim.vrf_public))
    task = network.post()
    network.open_claims(task)
    call = network.claim_call(task, victim)
    assert network.reason(thief.address, call).startswith("ecvrf: ")
    network.send(victim.address, call)


def test_claim__proof_for_another_task__reverts(network: Network) -> None:
    first, second = network.post("first"), network.post("second")
    network.open_claims(second)
    keys = next(iter(network.nodes.values()))
    proof, roots = network.claim_call(first, keys).args[2:]
    call = network.market.functions.claim(
        second.as_tuple(), network.header_of(second.posted_at + DELAY), proof, roots
    )
    assert network.reason(keys.address, call).startswith("ecvrf: ")


def test_claim__key_rotated_after_posting__reverts(network: Network) -> None:
    task = network.post()
    keys, other = list(network.nodes.values())[:2]
    rotate = network.registry.functions.rotate_vrf(*other.vrf_public)
    network.send(keys.address, rotate)
    network.open_claims(task)
    reason = network.reason(keys.address, network.claim_call(task, replace(keys, vrf=other.vrf)))
    assert reason == "registry: node changed after the posting"


def test_claim__higher_tier_after_posting__reverts(network: Network) -> None:
    task = network.post()
    keys = next(iter(network.nodes.values()))
    network.send(keys.address, network.registry.functions.top_up(), UNIT)
    network.open_claims(task)
    reason = network.reason(keys.address, network.claim_call(task, keys))
    assert reason == "registry: node changed after the posting"


def test_claim__top_up_inside_the_tier__allowed(network: Network) -> None:
    task = network.post()
    keys = next(iter(network.nodes.values()))
    network.send(keys.address, network.registry.functions.top_up(), 1)
    assert network.claim(task, keys).executor == keys.address


def test_claim__second_task_while_engaged__reverts(network: Network) -> None:
    first, second = network.post("first"), network.post("second")
    keys = next(iter(network.nodes.values()))
    network.claim(first, keys)
    network.open_claims(second)
    reason = network.reason(keys.address, network.claim_call(second, keys))
    assert reason == "reputation: node is engaged"
    weight = network.registry.functions.claim_weight(keys.address, second.posted_at)
    assert network.reason(keys.address, weight) == "registry: node is engaged"


def test_claim__outsider_or_paused__reverts(network: Network) -> None:
    paused = network.join("paused", UNIT, join=False)
    task = network.post()
    network.open_claims(task)
    call = network.claim_call(task, paused)
    assert network.reason(paused.address, call) == "registry: node not active"
    assert network.reason(network.outsider, call) == "registry: node not active"


@pytest.mark.parametrize("name", ["commitment", "posted_at", "executor_fee", "requester", "id"])
def test_claim__forged_task__reverts(network: Network, name: str) -> None:
    task = network.post()
    network.open_claims(task)
    keys = next(iter(network.nodes.values()))
    call = network.claim_call(task, keys)
    values: dict[str, Any] = {
        "commitment": b"\x09" * 32,
        "posted_at": task.posted_at - 1,
        "executor_fee": task.executor_fee * 100,
        "requester": network.outsider,
        "id": task.id + 1,
    }
    forged = replace(task, **{name: values[name]})
    call = network.market.functions.claim(forged.as_tuple(), *call.args[1:])
    assert network.reason(keys.address, call) == "market: not the task as it stands"


# --- draw -------------------------------------------------------------------------------------


def test_draw__members__distinct_and_without_the_executor(network: Network) -> None:
    task = network.reach("drawn", k=7)
    assert len(set(task.members)) == 7
    assert task.executor not in task.members
    assert network.state(task) == DRAWN


def test_draw__root_key_in_the_task__is_the_one_that_the_executor_registered(
    network: Network,
) -> None:
    task = network.reach("drawn")
    assert (task.root_x, task.root_y) == network.nodes[task.executor].root_public


def test_draw__leader_accepts_with_it__one_transaction_and_the_next_deadline(
    network: Network,
) -> None:
    task = network.draw_accepting(network.reach("claimed", class_id=1))
    assert network.state(task) == ACCEPTED
    accept = network.market.functions.accept(task.as_tuple())
    assert network.reason(task.executor, accept) == "market: wrong state"
    network.mine_to(task.step_at + 9)  # ten blocks to admit, from the draw on
    expire = network.expire_call(task)
    assert network.reason(network.outsider, expire) == "market: deadline not over"
    assert failures(network, network.send(network.outsider, expire)) == [NO_ADMIT]


def test_draw__leader_accepts_with_it__goes_on_to_settle(network: Network) -> None:
    task = network.draw_accepting(network.reach("claimed"))
    assert network.state(network.finish(network.admit(task))) == SETTLED


def test_draw__somebody_else_accepts_with_it__reverts(network: Network) -> None:
    """Who has promised nothing could otherwise be made to answer for a task it never saw."""
    task = network.reach("claimed")
    network.mine_to(network.entropy_block(task))
    call = network.draw_call(task, accept=True)
    assert network.reason(network.requester, call) == "market: only the executor"


def test_draw__before_the_entropy_or_after_the_window__reverts(network: Network) -> None:
    task = network.reach("claimed")
    at = network.entropy_block(task)
    network.mine_to(at - 1)
    early = network.market.functions.draw(task.as_tuple(), network.header_of(at - 1), False)
    assert network.reason(network.outsider, early) == "market: draw not open yet"
    network.mine_to(at + DRAW_WINDOW)
    late = network.draw_call(task)
    assert network.reason(network.outsider, late) == "market: draw is closed"


def test_draw__last_block_of_the_window__drawn(network: Network) -> None:
    task = network.reach("claimed")
    network.mine_to(network.entropy_block(task) + DRAW_WINDOW - 1)
    drawn = network.draw(task)
    assert network.state(drawn) == DRAWN
    assert drawn.step_at == network.entropy_block(task) + DRAW_WINDOW


def test_draw__nobody_leads__reverts(network: Network) -> None:
    task = network.post()
    network.mine_to(network.entropy_block(task))
    assert network.reason(network.outsider, network.draw_call(task)) == "market: nobody leads"


def test_draw__header_of_another_block__reverts(network: Network) -> None:
    task = network.reach("claimed")
    network.mine_to(network.entropy_block(task) + 1)
    header = network.header_of(network.entropy_block(task) + 1)
    call = network.market.functions.draw(task.as_tuple(), header, False)
    assert network.reason(network.outsider, call).startswith("entropy: ")


def test_draw__forged_or_drawn_task__reverts(network: Network) -> None:
    """A second draw would seat another committee; a forged leader would choose it."""
    task = network.reach("claimed")
    network.mine_to(network.entropy_block(task))
    forged = replace(task, beta=b"\x07" * 32)
    assert network.reason(network.outsider, network.draw_call(forged)) == (
        "market: not the task as it stands"
    )
    drawn = network.draw(task)
    assert network.reason(network.outsider, network.draw_call(drawn)) == "market: wrong state"


# --- the freeze -------------------------------------------------------------------------------


def structure_changes(network: Network) -> list[tuple[str, Any, int]]:
    first, second = list(network.nodes)[1:3]
    functions = network.registry.functions
    return [
        (first, functions.pause(), 0),
        (first, functions.exit(), 0),
        (second, functions.top_up(), UNIT),
    ]


def test_freeze__undrawn_task__structure_changes_revert_until_drawn(network: Network) -> None:
    task = network.reach("claimed")
    network.mine_to(network.entropy_block(task) - 2)
    network.chain.mine(1)  # lookahead is one block
    expected = f"registry: draw task {task.id} first"
    for sender, call, value in structure_changes(network):
        assert network.reason(sender, call, value) == expected
    assert network.registry.functions.frozen_by().call() == task.id
    network.draw(task)
    assert network.registry.functions.frozen_by().call() == 0
    for sender, call, value in structure_changes(network)[1:]:
        network.send(sender, call, value)


def test_freeze__change_inside_the_tier_and_passive_node__allowed(network: Network) -> None:
    task = network.reach("claimed")
    network.mine_to(network.entropy_block(task))
    network.send(next(iter(network.nodes)), network.registry.functions.top_up(), 1)
    network.join("passive", 0, join=False)
    assert network.registry.functions.frozen_by().call() == task.id


def test_freeze__leaderless_task__never_blocks(network: Network) -> None:
    task = network.post()
    for number in range(task.posted_at, network.entropy_block(task) + 3, 3):
        network.mine_to(number)
        assert network.registry.functions.frozen_by().call() == 0
    network.send(list(network.nodes)[1], network.registry.functions.pause())


def test_freeze__window_over__blocks_no_more(network: Network) -> None:
    task = network.reach("claimed")
    network.mine_to(network.entropy_block(task) + DRAW_WINDOW)
    assert network.market.functions.undrawn().call() == task.id
    network.chain.mine(1)
    assert network.market.functions.undrawn().call() == 0


def test_freeze__many_tasks__first_undrawn_is_found_behind_others(network: Network) -> None:
    for number in range(6):
        network.post(f"leaderless {number}")
    network.mine_to(network.block + DELAY + CLAIM_WINDOW + 1)
    task = network.reach("claimed")
    network.mine_to(network.entropy_block(task))
    assert network.market.functions.undrawn().call() == task.id
    network.send(network.outsider, network.market.functions.advance())
    assert network.market.functions.undrawn().call() == task.id


def test_freeze__task_in_every_block__deposits_can_leave_in_between(network: Network) -> None:
    """Each freeze would begin before the last one ends, and nobody could ever exit or join."""
    tasks = [network.post(f"task {number}") for number in range(6)]
    network.open_claims(tasks[-1])
    nodes = list(network.nodes.values())
    tasks = [network.claim(task, keys) for task, keys in zip(tasks, nodes, strict=False)]
    frozen_by = network.registry.functions.frozen_by
    network.mine_to(network.entropy_block(tasks[0]))
    free = []
    while tasks:
        assert frozen_by().call() == tasks[0].id
        due = [task for task in tasks if network.entropy_block(task) <= network.block]
        tasks = tasks[len(due) :]
        network.send_together([(network.outsider, network.draw_call(task), 0) for task in due])
        free.append(frozen_by().call() == 0)
        if len(free) == 1:
            network.send(nodes[0].address, network.registry.functions.exit())
        if tasks:
            network.mine_to(network.entropy_block(tasks[0]))
    assert len(free) > 1
    assert all(free)


def test_freeze__fewer_nodes_than_seats__ends_with_the_task(network: Network) -> None:
    """A task that cannot be drawn must not hold all Deposits for the whole window."""
    task = network.reach("claimed", k=8)  # of eight nodes one leads
    leader = task.executor
    before = network.reputation.functions.reputation(leader).call()
    network.mine_to(network.entropy_block(task) - 1)
    expire = network.expire_call(task)
    assert network.reason(network.outsider, expire) == "market: deadline not over"
    assert network.reason(network.outsider, network.draw_call(task)) == "grid: too few nodes"
    network.send(network.outsider, expire)
    assert network.registry.functions.frozen_by().call() == 0
    assert network.owed(network.requester) == task.escrow
    # nobody's fault
    assert network.reputation.functions.reputation(leader).call() == before


def test_can_draw__leader_counted_only_while_it_stands_in_the_draw(network: Network) -> None:
    can_draw = network.registry.functions.can_draw
    inside, outside = next(iter(network.nodes)), network.outsider
    assert [can_draw(k, inside).call() for k in (7, 8)] == [True, False]
    assert [can_draw(k, outside).call() for k in (8, 9)] == [True, False]


# --- silence at each step -----------------------------------------------------------------------


def test_expire__nobody_claims__refunded(network: Network) -> None:
    task = network.post()
    network.mine_to(task.posted_at + DELAY + CLAIM_WINDOW - 1)
    assert network.reason(network.outsider, network.expire_call(task)) == (
        "market: deadline not over"
    )
    network.send(network.outsider, network.expire_call(task))
    assert network.state(task) == EXPIRED
    assert network.owed(network.requester) == task.escrow


def test_expire__nobody_draws__refunded_and_leader_loses_a_little(network: Network) -> None:
    task = network.reach("claimed")
    before = network.reputation.functions.reputation(task.executor).call()
    network.mine_to(network.entropy_block(task) + DRAW_WINDOW - 1)
    assert network.reason(network.outsider, network.expire_call(task)) == (
        "market: deadline not over"
    )
    network.send(network.outsider, network.expire_call(task))
    assert network.state(task) == EXPIRED
    assert network.owed(network.requester) == task.escrow
    assert network.reputation.functions.reputation(task.executor).call() < before
    assert not network.reputation.functions.engaged(task.executor).call()


@pytest.mark.parametrize(
    ("state", "step", "cause", "slashed"),
    [
        ("drawn", 0, 4, 0),
        ("accepted", 1, 5, 0),
        ("admitted", 2, 7, UNIT // 4),
    ],
)
def test_expire__executor_silent__failed_refunded_and_slashed_by_cause(
    network: Network, state: str, step: int, cause: int, slashed: int
) -> None:
    task = network.reach(state, class_id=1)
    deposit = network.registry.functions.deposit(task.executor).call()
    before = network.reputation.functions.reputation(task.executor).call()
    network.mine_to(task.step_at + 9)
    call = network.expire_call(task)
    assert network.reason(network.outsider, call) == "market: deadline not over"
    receipt = network.send(network.outsider, call)
    assert failures(network, receipt) == [cause]
    assert network.owed(network.requester) == task.escrow
    assert network.owed(network.outsider) == slashed * 5 // 100
    assert network.registry.functions.deposit(task.executor).call() == deposit - slashed
    assert network.reputation.functions.reputation(task.executor).call() < before
    assert not network.reputation.functions.engaged(task.executor).call()
    assert network.reason(network.outsider, call) == "market: task is over"


def test_expire__settled__is_over(network: Network) -> None:
    task = network.reach("settled")
    network.chain.mine(100)
    assert network.reason(network.outsider, network.expire_call(task)) == "market: task is over"


@pytest.mark.parametrize(("state", "number"), [("drawn", 0), ("accepted", 1), ("admitted", 2)])
def test_step__after_its_deadline__reverts(network: Network, state: str, number: int) -> None:
    task = network.reach(state, class_id=1)
    calls = (
        lambda: network.market.functions.accept(task.as_tuple()),
        lambda: network.record_call(task, BEFORE),
        lambda: network.record_call(task, AFTER),
    )
    network.mine_to(task.step_at + 10)
    assert network.reason(task.executor, calls[number]()) == "market: deadline is over"


@pytest.mark.parametrize(("state", "number"), [("drawn", 0), ("accepted", 1), ("admitted", 2)])
def test_step__in_the_last_block_of_its_deadline__counts(
    network: Network, state: str, number: int
) -> None:
    task = network.reach(state, class_id=1)
    network.mine_to(task.step_at + 9)
    stepped = (network.accept, network.admit, network.finish)[number](task)
    assert stepped.step_at == task.step_at + 10


def test_member__one_of_three_offline__settles_and_fee_returns(network: Network) -> None:
    task = network.reach("accepted")
    task = network.finish(network.admit(task, seats=(0, 2)), seats=(0, 2))
    assert network.state(task) == SETTLED
    paid = [network.owed(member) for member in task.members]
    assert paid == [MEMBER_FEE, 0, MEMBER_FEE]
    assert network.owed(network.requester) == MEMBER_FEE
    scores = [network.reputation.functions.reputation(member).call() for member in task.members]
    assert scores[1] < 1000 < scores[0]


def test_member__silent_for_one_wei__it_returns(network: Network) -> None:
    network.member_fee = 1
    try:
        task = network.reach("admitted")
        network.finish(task, seats=(0, 2))
    finally:
        network.member_fee = MEMBER_FEE
    assert network.owed(network.requester) == 1


def test_member__two_of_three_offline__refunded_after_the_deadline(network: Network) -> None:
    task = network.reach("accepted", class_id=1)
    assert network.reason(task.executor, network.record_call(task, BEFORE, (1,))) == (
        "attestation: no quorum"
    )
    network.mine_to(task.step_at + 10)
    network.send(network.outsider, network.expire_call(task))
    assert network.owed(network.requester) == task.escrow
    assert network.registry.functions.deposit(task.executor).call() % UNIT == UNIT // 2


# --- who may call what, and when -----------------------------------------------------------------


def test_accept_admit_finish__not_the_executor__reverts(network: Network) -> None:
    task = network.reach("drawn")
    only = "market: only the executor"
    assert network.reason(task.members[0], network.market.functions.accept(task.as_tuple())) == only
    task = network.accept(task)
    assert network.reason(network.requester, network.record_call(task, BEFORE)) == only
    task = network.admit(task)
    assert network.reason(network.requester, network.record_call(task, AFTER)) == only


def test_step__out_of_order__reverts(network: Network) -> None:
    task = network.reach("drawn")
    assert network.reason(task.executor, network.record_call(task, BEFORE)) == "market: wrong state"
    task = network.accept(task)
    assert network.reason(task.executor, network.record_call(task, AFTER)) == "market: wrong state"
    stale = replace(task, step_at=task.step_at - 1)
    assert network.reason(task.executor, network.record_call(stale, BEFORE)) == (
        "market: not the task as it stands"
    )


def test_reward__anyone_but_the_registry__reverts(network: Network) -> None:
    call = network.market.functions.reward(network.outsider)
    assert network.reason(network.outsider, call, 1) == "market: only the registry"


# --- refuse ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "phase", "slashed", "loses"),
    [
        ("drawn", BEFORE, 0, False),
        ("accepted", BEFORE, 0, True),
        ("admitted", DURING, UNIT, True),
        ("admitted", AFTER, UNIT, True),
    ],
)
def test_refuse__quorum__failed_and_refunded(
    network: Network, state: str, phase: int, slashed: int, loses: bool
) -> None:
    task = network.reach(state)
    deposit = network.registry.functions.deposit(task.executor).call()
    before = network.reputation.functions.reputation(task.executor).call()
    receipt = network.send(network.outsider, network.refuse_call(task, phase, (0, 1)))
    assert failures(network, receipt) == [6]
    assert network.state(task) == FAILED
    assert network.owed(network.requester) == task.escrow
    assert [network.owed(member) for member in task.members] == [0, 0, 0]
    assert network.registry.functions.deposit(task.executor).call() == deposit - slashed
    after = network.reputation.functions.reputation(task.executor).call()
    assert (after < before) == loses
    record = network.attestation.functions.record(task.id, phase).call()
    assert record == [96, bytes(32), 2]
    assert not network.reputation.functions.engaged(task.executor).call()


def test_refuse__no_quorum_or_wrong_phase__reverts(network: Network) -> None:
    task = network.reach("accepted")
    assert network.reason(network.outsider, network.refuse_call(task, BEFORE, (0,))) == (
        "attestation: no quorum"
    )
    wrong = "market: phase does not fit the state"
    assert network.reason(network.outsider, network.refuse_call(task, AFTER)) == wrong
    task = network.admit(task)
    assert network.reason(network.outsider, network.refuse_call(task, BEFORE)) == wrong


def test_refuse__affirming_votes__reverts(network: Network) -> None:
    task = network.reach("accepted")
    call = network.refuse_call(task, BEFORE, verdict=2)
    assert network.reason(network.outsider, call) == "votes: signer does not hold the seat"


def test_refuse__another_committee__reverts(network: Network) -> None:
    task = network.reach("accepted")
    others = [node for node in network.nodes if node not in (*task.members, task.executor)]
    call = network.refuse_call(replace(task, members=tuple(others[:3])), BEFORE)
    assert network.reason(network.outsider, call) == "market: not the committee"


def test_refuse__posted__reverts(network: Network) -> None:
    task = network.reach("claimed")
    drawn = replace(task, members=tuple(list(network.nodes)[1:4]))
    assert network.reason(network.outsider, network.refuse_call(drawn, BEFORE)) == (
        "market: no committee can refuse now"
    )


# --- what is kept and read -----------------------------------------------------------------------


def test_finish__largest_committee__record_holds_all_votes_beside_the_root(
    network: Network,
) -> None:
    for number in range(4):
        network.join(f"more {number}")
    task = network.reach("accepted", k=11)
    for phase, step in ((BEFORE, network.admit), (AFTER, network.finish)):
        task = step(task)
        record = network.attestation.functions.record(task.id, phase).call()
        assert record == [2, b"\x22" * 31 + b"\x00", 11]
    assert network.state(task) == SETTLED
    assert [network.owed(member) for member in task.members] == [MEMBER_FEE] * 11


@pytest.mark.parametrize("phase", [0, 4, 255])
def test_packed_record__phase_that_does_not_exist__reverts(network: Network, phase: int) -> None:
    with pytest.raises(ContractLogicError, match="market: unknown phase"):
        network.market.functions.packed_record(1, phase).call()


def test_packed_record__other_tasks_and_phases__nothing(network: Network) -> None:
    first = network.reach("settled")
    second = network.reach("accepted")
    network.send(network.outsider, network.refuse_call(second, BEFORE, (0, 2)))
    packed = network.market.functions.packed_record
    kept = {(id, phase): packed(id, phase).call() for id in range(4) for phase in (1, 2, 3)}
    root = int.from_bytes(b"\x22" * 31 + b"\x00")
    expected = {(first.id, BEFORE): root | 3, (first.id, AFTER): root | 3, (second.id, BEFORE): 130}
    assert {key: word for key, word in kept.items() if word} == expected


def test_parameters__what_it_was_created_with(network: Network) -> None:
    functions = network.market.functions
    race = (DELAY, CLAIM_WINDOW, DRAW_WINDOW, LOOKAHEAD)
    assert functions.parameters().call() == (UNIT, *race, POSTING_FEE, CLASSES)
    assert [functions.class_of(each).call() for each in range(4)] == [tuple(s) for s in CLASSES]
    neighbours = [functions.registry, functions.reputation, functions.attestation]
    assert [one().call() for one in neighbours] == [
        network.registry.address, network.reputation.address, network.attestation.address
    ]  # fmt: skip


@pytest.mark.parametrize("class_id", range(4))
def test_deadline__each_class_and_step__its_own(network: Network, class_id: int) -> None:
    for number, state in enumerate(("drawn", "accepted", "admitted")):
        task = network.reach(state, class_id=class_id)
        network.mine_to(task.step_at + CLASSES[class_id][number] - 1)
        expire = network.expire_call(task)
        assert network.reason(network.outsider, expire) == "market: deadline not over"
        network.send(network.outsider, expire)


@pytest.mark.parametrize(("k", "quorum"), [(3, 2), (4, 3), (5, 4), (6, 4), (7, 5)])
def test_quorum__two_thirds__one_vote_less_is_none(network: Network, k: int, quorum: int) -> None:
    task = network.reach("accepted", k=k)
    few = network.record_call(task, BEFORE, range(quorum - 1))
    assert network.reason(task.executor, few) == "attestation: no quorum"
    network.admit(task, range(quorum))


@pytest.mark.parametrize(
    ("k", "class_id", "fees"), [(3, 0, (2**96 - 1, 0)), (11, 3, (0, 2**96 - 1)), (3, 3, (0, 0))]
)
def test_post__largest_and_smallest_that_it_takes__refunded_in_full(
    network: Network, k: int, class_id: int, fees: tuple[int, int]
) -> None:
    network.chain.rpc("anvil_setBalance", [network.requester, hex(2**101)])
    network.executor_fee, network.member_fee = fees
    try:
        task = network.post(k=k, class_id=class_id)
        network.mine_to(task.posted_at + DELAY + CLAIM_WINDOW)
        network.send(network.outsider, network.expire_call(task))
        assert network.owed(network.requester) == fees[0] + k * fees[1]
    finally:
        network.executor_fee, network.member_fee = EXECUTOR_FEE, MEMBER_FEE


# --- money -------------------------------------------------------------------------------------


def check_sums(network: Network, escrow: int, accounts: list[str]) -> None:
    """Deposits + escrow + owed + burned == balances."""
    owed = sum(network.owed(account) for account in accounts)
    burned = network.market.functions.burned().call()
    assert network.balance(network.market.address) == escrow + owed + burned
    deposits = sum(network.registry.functions.deposit(node).call() for node in network.nodes)
    assert network.balance(network.registry.address) == deposits


def test_money__settled_slashed_and_running_tasks__sums_hold(network: Network) -> None:
    accounts = [*network.nodes, network.requester, network.outsider]
    burned_before = network.balance(NOBODY)
    settled = network.reach("settled")
    check_sums(network, 0, accounts)
    slashed = network.reach("admitted")
    check_sums(network, slashed.escrow, accounts)
    network.send(network.outsider, network.refuse_call(slashed, AFTER))
    running = network.reach("accepted")
    check_sums(network, running.escrow, accounts)
    burned = network.balance(NOBODY) - burned_before
    # the zero address is also anvil's coinbase: tips come on top
    assert UNIT * 95 // 100 <= burned < UNIT * 96 // 100
    for account in (settled.members[0], network.requester, network.outsider):
        network.send(account, network.market.functions.withdraw())
        assert network.owed(account) == 0
    check_sums(network, running.escrow, accounts)


def test_withdraw__credit__is_paid_once(network: Network) -> None:
    task = network.reach("settled")
    before = network.balance(task.executor)
    receipt = network.send(task.executor, network.market.functions.withdraw())
    gas = receipt["gasUsed"] * receipt["effectiveGasPrice"]
    assert network.balance(task.executor) == before + EXECUTOR_FEE - gas
    assert network.reason(task.executor, network.market.functions.withdraw()) == (
        "market: nothing owed"
    )


def test_withdraw__reentering_account__gets_its_due_once(network: Network) -> None:
    attacker = network.chain.deploy("tests/contracts/Reentrant.vy", network.market.address)
    spec_hash = bytes(Web3.keccak(text="reentrant"))
    network.send(
        network.outsider,
        attacker.functions.post(spec_hash, 9, 3, 0, EXECUTOR_FEE, MEMBER_FEE),
        VALUE,
    )
    network.send(network.requester, network.post_call(b"\x05" * 32), VALUE)  # others' money
    number = network.block - 1
    task = Task(
        id=_last_id(network) - 1,
        commitment=commit(spec_hash, bytes.fromhex(attacker.address[2:]), 9),
        requester=attacker.address,
        posted_at=number,
        executor_fee=EXECUTOR_FEE,
        member_fee=MEMBER_FEE,
        committee_size=3,
        class_id=0,
        step_at=number,
    )
    network.mine_to(number + DELAY + CLAIM_WINDOW)
    network.send(network.outsider, network.expire_call(task))
    network.send(network.outsider, attacker.functions.attack())
    assert attacker.functions.tries().call() == 1
    assert network.balance(attacker.address) == task.escrow


def _last_id(network: Network) -> int:
    ids = 1
    while network.market.functions.state(ids).call():
        ids += 1
    return ids - 1
