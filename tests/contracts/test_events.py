"""Every event, with all that it says: explorers and nodes know what happened from nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from web3 import Web3
from web3.logs import DISCARD
from web3.types import TxReceipt

from tests.contracts.network import (
    EXECUTOR_FEE,
    MEMBER_FEE,
    NOBODY,
    POSTING_FEE,
    UNBONDING,
    UNIT,
    Network,
)
from tests.contracts.signing import (
    AFTER,
    BEFORE,
    CONTRAINDICATED,
    DURING,
    Header,
    NodeKeys,
    Vote,
)

pytestmark = pytest.mark.chain  # starts anvil
EVIDENCE_ROOT = Header(0, b"", "", 0).evidence_root
ACTIVE, PAUSED, EXITING, EXITED, BARRED = 2, 3, 4, 5, 6
Said = tuple[Any, ...]


def said(network: Network, receipt: TxReceipt) -> list[Said]:
    """Name and arguments of all events of a transaction, in their order."""
    found = []
    for contract in (network.registry, network.reputation, network.market):
        for event in contract.events:
            found += [
                (log["logIndex"], log["event"], *log["args"].values())
                for log in event().process_receipt(receipt, DISCARD)
                if log["address"] == contract.address
            ]
    assert len(found) == len(receipt["logs"])
    return [entry[1:] for entry in sorted(found)]


# --- nodes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("join", [True, False])
def test_register__says_who_with_which_keys_deposit_and_status(
    network: Network, join: bool
) -> None:
    keys = NodeKeys.derive("newcomer")
    network.fund(keys.address)
    row, contact, signature = network.registration(keys, b"where it is")
    call = network.registry.functions.register(row, contact, join, *signature)
    me, id = keys.address, len(network.nodes) + 1
    assert said(network, network.send(me, call, 5 * UNIT)) == [
        ("NodeRegistered", me, id, 1, keys.hardware_id, 5 * UNIT),
        ("ContactPublished", me, b"where it is"),
        ("VrfKeyChanged", me, *keys.vrf_public),
        ("DepositChanged", me, 5 * UNIT, 2),
        ("StatusChanged", me, ACTIVE if join else PAUSED),
    ]


def test_node__each_change_of_its_own__is_said(network: Network) -> None:
    keys = list(network.nodes.values())[6]
    me, functions = keys.address, network.registry.functions
    other = NodeKeys.derive("other keys").vrf_public
    moved = functions.set_contact(b"moved", *network.sign_contact(keys, b"moved"))
    steps: list[tuple[Any, int, list[Said]]] = [
        (moved, 0, [("ContactPublished", me, b"moved")]),
        (functions.rotate_vrf(*other), 0, [("VrfKeyChanged", me, *other)]),
        (functions.top_up(), 2 * UNIT, [("DepositChanged", me, 4 * UNIT + UNIT // 2, 2)]),
        (functions.pause(), 0, [("StatusChanged", me, PAUSED)]),
        (functions.resume(), 0, [("StatusChanged", me, ACTIVE)]),
        (functions.exit(), 0, [("StatusChanged", me, EXITING)]),
    ]
    for call, value, expected in steps:
        assert said(network, network.send(me, call, value)) == expected
    network.chain.mine(UNBONDING)
    assert said(network, network.send(me, functions.withdraw_deposit())) == [
        ("StatusChanged", me, EXITED),
        ("DepositChanged", me, 0, 0),
    ]


def test_equivocation__says_the_slash_and_the_loss(network: Network) -> None:
    keys = list(network.nodes.values())[3]
    me = keys.address
    assert said(network, network.equivocate(keys)) == [
        ("ReputationChanged", me, 77, 1000, 135, 8),
        ("StatusChanged", me, BARRED),
        ("Slashed", me, UNIT + UNIT // 2, "EQUIVOCATION"),
        ("DepositChanged", me, 0, 0),
    ]


# --- tasks ------------------------------------------------------------------------------------


def test_task__from_posting_to_payment__each_step_is_said(network: Network) -> None:
    requester = network.requester
    call = network.post_call(b"\x01" * 32, k=4, class_id=2)
    receipt = network.send(requester, call, POSTING_FEE + EXECUTOR_FEE + 4 * MEMBER_FEE)
    ((_, task, who, commitment, *terms),) = said(network, receipt)
    assert (who, commitment != bytes(32), terms) == (
        requester, True, [EXECUTOR_FEE, MEMBER_FEE, 4, 2]
    )  # fmt: skip
    assert network.market.functions.state(task).call() == 1


def test_task__claim_draw_accept_admit_finish_withdraw__each_is_said(network: Network) -> None:
    posted = network.post(k=3)
    id, keys = posted.id, network.free_node()
    me = keys.address
    network.open_claims(posted)
    receipt = network.send(me, network.claim_call(posted, keys))
    led = network.fold(posted, receipt)
    assert led.ticket > 0
    assert led.beta == network.beta(posted, keys)
    assert said(network, receipt) == [("TaskClaimed", id, me, led.ticket, led.beta)]

    network.mine_to(network.entropy_block(led))
    receipt = network.send(network.outsider, network.draw_call(led))
    drawn = network.fold(led, receipt)
    assert said(network, receipt) == [
        ("CommitteeDrawn", id, me, list(drawn.members), False, *keys.root_public)
    ]

    receipt = network.send(me, network.market.functions.accept(drawn.as_tuple()))
    accepted = network.fold(drawn, receipt)
    assert said(network, receipt) == [("TaskAccepted", id)]

    header = network.digest(network.header(accepted, BEFORE))
    receipt = network.send(me, network.record_call(accepted, BEFORE))
    admitted = network.fold(accepted, receipt)
    assert said(network, receipt) == [("TaskAdmitted", id, EVIDENCE_ROOT, header, 0b111)]

    header = network.digest(network.header(admitted, AFTER))
    receipt = network.send(me, network.record_call(admitted, AFTER, (0, 2)))
    first, second, third = admitted.members
    assert said(network, receipt) == [
        ("ReputationChanged", me, id, 1000, 1818, 1),
        ("ReputationChanged", first, id, 1000, 1219, 2),
        ("ReputationChanged", second, id, 1000, 975, 3),
        ("ReputationChanged", third, id, 1000, 1219, 2),
        ("TaskSettled", id, EVIDENCE_ROOT, header, 0b101),
    ]

    receipt = network.send(me, network.market.functions.withdraw())
    assert said(network, receipt) == [("Withdrawn", me, EXECUTOR_FEE)]


def test_draw__leader_accepts_with_it__is_said(network: Network) -> None:
    led = network.reach("claimed")
    network.mine_to(network.entropy_block(led))
    receipt = network.send(led.executor, network.draw_call(led, accept=True))
    ((name, *_, accepted, _, _),) = said(network, receipt)
    assert (name, accepted) == ("CommitteeDrawn", True)


@pytest.mark.parametrize(
    ("state", "phase", "after"),
    [("drawn", BEFORE, None), ("accepted", BEFORE, 714), ("admitted", DURING, 714)],
)
def test_refuse__says_votes_cause_and_what_it_costs(
    network: Network, state: str, phase: int, after: int | None
) -> None:
    task = network.reach(state)
    call = network.refuse_call(task, phase, (1, 2), header=b"\x05" * 32)
    expected: list[Said] = [
        ("TaskRefused", task.id, phase, b"\x05" * 32, 0b110),
        ("TaskFailed", task.id, 6),
    ]
    if after is not None:
        expected += [("ReputationChanged", task.executor, task.id, 1000, after, 6)]
    if state == "admitted":
        expected += [
            ("StatusChanged", task.executor, BARRED),
            ("Slashed", task.executor, UNIT, "REFUSED"),
            ("DepositChanged", task.executor, UNIT // 2, 0),
        ]
    assert said(network, network.send(network.outsider, call)) == expected


@pytest.mark.parametrize(
    ("state", "cause", "after"), [("drawn", 4, 952), ("accepted", 5, 909), ("admitted", 7, 555)]
)
def test_expire__executor_silent__says_cause_and_what_it_costs(
    network: Network, state: str, cause: int, after: int
) -> None:
    task = network.reach(state, class_id=1)
    network.mine_to(task.step_at + 10)
    expected: list[Said] = [
        ("TaskFailed", task.id, cause),
        ("ReputationChanged", task.executor, task.id, 1000, after, cause),
    ]
    if state == "admitted":
        expected += [
            ("Slashed", task.executor, UNIT // 4, "NOT_FINISHED"),
            ("DepositChanged", task.executor, UNIT + UNIT // 4, 0),
        ]
    receipt = network.send(network.outsider, network.expire_call(task))
    assert said(network, receipt) == expected


@pytest.mark.parametrize("led", [False, True])
def test_expire__posted__is_said(network: Network, led: bool) -> None:
    task = network.reach("claimed" if led else "posted")
    network.mine_to(network.entropy_block(task) + 20)
    expected: list[Said] = [("TaskExpired", task.id)]
    if led:
        expected += [("ReputationChanged", task.executor, task.id, 1000, 975, 9)]
    receipt = network.send(network.outsider, network.expire_call(task))
    assert said(network, receipt) == expected


def test_excuse__says_what_the_member_gets_back(network: Network) -> None:
    task = network.reach("accepted")
    task = network.finish(network.admit(task), seats=(0, 1))
    member = task.members[2]
    low = network.reputation.functions.reputation(member).call()
    vote = Vote(task.id, AFTER, b"\x03" * 32, verdict=CONTRAINDICATED)
    signature = network.sign_vote(vote, network.nodes[member])
    call = network.attestation.functions.excuse(list(task.members), 2, vote.as_tuple(), signature)
    receipt = network.send(network.outsider, call)
    ((name, who, about, before, after, cause),) = said(network, receipt)
    assert (name, who, about, cause) == ("ReputationChanged", member, task.id, 10)
    assert before == low < after <= 1000
    assert Web3.to_checksum_address(who) != NOBODY
