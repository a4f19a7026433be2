"""Records, votes and equivocation on anvil: what counts, and every replay that must not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from web3.contract.contract import ContractFunction
from web3.exceptions import ContractLogicError
from web3.logs import DISCARD

from tests.contracts.network import SPAN, UNIT, Ballot, Network, Task
from tests.contracts.signing import (
    AFFIRMING,
    AFTER,
    BEFORE,
    CONTRAINDICATED,
    DURING,
    P256_N,
    SECP256K1_N,
    NodeKeys,
    Vote,
)

pytestmark = pytest.mark.chain  # starts anvil


def admit_call(
    network: Network,
    task: Task,
    ballot: Callable[[Vote], Ballot] | None = None,
    vote: dict[str, Any] | None = None,
    statement: tuple[Any, ...] | None = None,
) -> ContractFunction:
    """The call `admit` with one thing changed."""
    header = network.header(task, BEFORE)
    right = Vote(task.id, BEFORE, network.digest(header))
    signed = replace(right, **(vote or {}))
    votes = ballot(signed) if ballot else network.ballot(task, signed)
    return network.market.functions.admit(
        task.as_tuple(),
        list(task.members),
        statement or header.statement(network.sign_header(header)),
        # what the vote does not carry to the contract is what the contract fills in itself
        votes,
    )


def admit_reason(network: Network, task: Task, **changed: Any) -> str:
    return network.reason(task.executor, admit_call(network, task, **changed))


@pytest.fixture
def task(network: Network) -> Task:
    return network.reach("accepted")


# --- records ------------------------------------------------------------------------------------


def test_record__before_and_after__one_view_call_each(network: Network) -> None:
    task = network.reach("accepted")
    record = network.attestation.functions.record
    root = network.header(task, BEFORE).evidence_root
    assert record(task.id, BEFORE).call() == [0, bytes(32), 0]
    task = network.admit(task, seats=(0, 1))
    assert record(task.id, BEFORE).call() == [AFFIRMING, root, 2]
    assert record(task.id, AFTER).call() == [0, bytes(32), 0]
    network.finish(task)
    assert record(task.id, BEFORE).call() == [AFFIRMING, root, 2]
    assert record(task.id, AFTER).call() == [AFFIRMING, root, 3]


@pytest.mark.parametrize("phase", [0, 4, 5])
def test_record__phase_that_does_not_exist__reverts(network: Network, phase: int) -> None:
    """Phase 5 of task n lies where phase 1 of task n + 1 does."""
    task = network.reach("admitted")
    with pytest.raises(ContractLogicError, match="market: unknown phase"):
        network.attestation.functions.record(task.id - 1, phase).call()


def test_record__event__names_header_and_voters(network: Network, task: Task) -> None:
    receipt = network.send(task.executor, network.record_call(task, BEFORE, (0, 2)))
    (event,) = network.market.events.TaskAdmitted().process_receipt(receipt, DISCARD)
    header = network.digest(network.header(task, BEFORE))
    assert (event["args"]["header"], event["args"]["voters"]) == (header, 0b101)


def test_admit__evidence_root_of_32_bytes__reverts(network: Network, task: Task) -> None:
    call = network.record_call(task, BEFORE, evidence_root=b"\x22" * 32)
    assert network.reason(task.executor, call) == "attestation: evidence root has 31 bytes"


# --- the header's root signature --------------------------------------------------------------


def test_admit__header_signed_by_another_root__reverts(network: Network, task: Task) -> None:
    header = network.header(task, BEFORE)
    other = network.nodes[task.members[0]]
    forged = header.statement(network.sign_header(header, other))
    assert admit_reason(network, task, statement=forged) == (
        "attestation: not signed by the node's root"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task", 999),
        ("phase", AFTER),
        ("attempt", 2),
        ("commitment", b"\x07" * 32),
        ("node", "0x" + "77" * 20),
        ("nonce_root", bytes(32)),
        ("session_key_hash", bytes(32)),
    ],
)
def test_admit__header_signature_replayed__reverts(
    network: Network, task: Task, name: str, value: Any
) -> None:
    header = network.header(task, BEFORE)
    keys = network.nodes[task.executor]
    signature = network.sign_header(replace(header, **{name: value}), keys)
    assert admit_reason(network, task, statement=header.statement(signature)) == (
        "attestation: not signed by the node's root"
    )


def test_admit__header_signature_with_high_s__reverts(network: Network, task: Task) -> None:
    header = network.header(task, BEFORE)
    r, s = network.sign_header(header)
    assert admit_reason(network, task, statement=header.statement((r, P256_N - s))) == (
        "attestation: not signed by the node's root"
    )


# --- votes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [{"task": 999}, {"phase": AFTER}, {"attempt": 2}, {"header": b"\x05" * 32}],
    ids=lambda changed: next(iter(changed)),
)
def test_admit__vote_for_something_else__reverts(
    network: Network, task: Task, changed: dict[str, Any]
) -> None:
    assert admit_reason(network, task, vote=changed) == "votes: signer does not hold the seat"


def test_admit__vote_for_another_ledger_or_chain__reverts(network: Network, task: Task) -> None:
    chain_id = network.chain.w3.eth.chain_id

    def elsewhere(ledger: str, chain: int) -> Callable[[Vote], Ballot]:
        def ballot(vote: Vote) -> Ballot:
            keys = [network.nodes[member] for member in task.members]
            signed = [vote.sign(chain, ledger, one.account) for one in keys]
            return vote.valid_until, 0b111, signed

        return ballot

    for other in (
        elsewhere(network.market.address, chain_id),
        elsewhere(network.attestation.address, chain_id + 1),
    ):
        reason = admit_reason(network, task, ballot=other)
        assert reason == "votes: signer does not hold the seat"


def test_admit__votes_out_of_date__reverts(network: Network, task: Task) -> None:
    soon = network.block + 1
    call = admit_call(network, task, vote={"valid_until": soon})
    network.chain.mine(1)
    assert network.reason(task.executor, call) == "attestation: votes are out of date"
    fresh = admit_call(network, task, vote={"valid_until": network.block + 1})
    network.send(task.executor, fresh)


def test_admit__contraindicating_votes__reverts(network: Network, task: Task) -> None:
    reason = admit_reason(network, task, vote={"verdict": CONTRAINDICATED})
    assert reason == "votes: signer does not hold the seat"


def votes_of(network: Network, task: Task, vote: Vote, seats: list[NodeKeys], bits: int) -> Ballot:
    signed = [network.sign_vote(vote, keys) for keys in seats]
    return vote.valid_until, bits, signed


def test_admit__one_member_on_two_seats__reverts(network: Network, task: Task) -> None:
    keys = network.nodes[task.members[0]]
    reason = admit_reason(
        network, task, ballot=lambda vote: votes_of(network, task, vote, [keys, keys], 0b011)
    )
    assert reason == "votes: signer does not hold the seat"


def test_admit__more_signatures_than_seats__reverts(network: Network, task: Task) -> None:
    keys = network.nodes[task.members[0]]
    reason = admit_reason(
        network, task, ballot=lambda vote: votes_of(network, task, vote, [keys, keys], 0b001)
    )
    assert reason == "votes: more signatures than seats"


def test_admit__seat_without_signature__reverts(network: Network, task: Task) -> None:
    keys = network.nodes[task.members[0]]
    reason = admit_reason(
        network, task, ballot=lambda vote: votes_of(network, task, vote, [keys], 0b011)
    )
    assert reason == "votes: signature missing"


def test_admit__seat_that_does_not_exist__reverts(network: Network, task: Task) -> None:
    keys = [network.nodes[member] for member in task.members]
    reason = admit_reason(
        network, task, ballot=lambda vote: votes_of(network, task, vote, keys, 0b1011)
    )
    assert reason == "votes: no such seat"


def test_admit__outsider_votes__reverts(network: Network, task: Task) -> None:
    members = [network.nodes[member] for member in task.members[:2]]
    outsider = NodeKeys.derive("outsider")
    reason = admit_reason(
        network,
        task,
        ballot=lambda vote: votes_of(network, task, vote, [*members, outsider], 0b111),
    )
    assert reason == "votes: signer does not hold the seat"


def test_admit__malleable_or_empty_vote__reverts(network: Network, task: Task) -> None:
    def flipped(vote: Vote) -> Ballot:
        until, bits, signed = network.ballot(task, vote)
        r, vs = signed[0]
        parity, s = vs >> 255, vs & (2**255 - 1)
        high = SECP256K1_N - s
        if high >= 2**255:  # does not fit EIP-2098 at all: take the lowest value that does
            high = 2**255 - 1
        return until, bits, [(r, high | (1 - parity) << 255), *signed[1:]]

    def zeroed(vote: Vote) -> Ballot:
        until, bits, signed = network.ballot(task, vote)
        return until, bits, [(0, 0), *signed[1:]]

    assert admit_reason(network, task, ballot=flipped) == "votes: malleable signature"
    assert admit_reason(network, task, ballot=zeroed) == "votes: no signature"


def test_admit__vote_with_s_of_half_the_order__is_the_last_that_is_read(
    network: Network, task: Task
) -> None:
    half = SECP256K1_N // 2

    def with_s(s: int) -> Callable[[Vote], Ballot]:
        def ballot(vote: Vote) -> Ballot:
            until, bits, signed = network.ballot(task, vote)
            return until, bits, [(signed[0][0], s), *signed[1:]]

        return ballot

    # of somebody unknown, but not malleable
    last = admit_reason(network, task, ballot=with_s(half))
    assert last == "votes: signer does not hold the seat"
    assert admit_reason(network, task, ballot=with_s(half + 1)) == "votes: malleable signature"


def test_admit__another_committee__reverts(network: Network, task: Task) -> None:
    others = [node for node in network.nodes if node not in (*task.members, task.executor)]
    call = network.record_call(replace(task, members=tuple(others[:3])), BEFORE)
    assert network.reason(task.executor, call) == "market: not the committee"


def test_finish__votes_of_the_before_record__revert(network: Network, task: Task) -> None:
    header = network.header(task, BEFORE)
    vote = Vote(task.id, BEFORE, network.digest(header))
    task = network.admit(task)
    after = network.header(task, AFTER)
    call = network.market.functions.finish(
        task.as_tuple(),
        list(task.members),
        after.statement(network.sign_header(after)),
        network.ballot(task, vote),
    )
    assert network.reason(task.executor, call) == "votes: signer does not hold the seat"


# --- equivocation -------------------------------------------------------------------------------


def double_vote(
    network: Network, keys: NodeKeys, a: Vote, b: Vote, other: NodeKeys | None = None
) -> ContractFunction:
    return network.attestation.functions.prove_double_vote(
        a.as_tuple(),
        network.sign_vote(a, keys),
        b.as_tuple(),
        network.sign_vote(b, other or keys),
    )


@pytest.mark.parametrize(
    "second",
    [{"verdict": CONTRAINDICATED}, {"header": b"\x02" * 32}],
    ids=["verdict", "header"],
)
def test_prove_double_vote__differing__whole_deposit_slashed(
    network: Network, second: dict[str, Any]
) -> None:
    keys = network.free_node()
    vote = Vote(1, BEFORE, b"\x01" * 32)
    deposit = network.registry.functions.deposit(keys.address).call()
    call = double_vote(network, keys, vote, replace(vote, **second))
    network.send(network.outsider, call)
    assert network.registry.functions.deposit(keys.address).call() == 0
    assert network.registry.functions.status(keys.address).call() == 6
    assert network.owed(network.outsider) == deposit * 5 // 100
    assert network.reputation.functions.reputation(keys.address).call() < 150
    assert network.reason(network.outsider, call) == "attestation: already proven"


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({"valid_until": 7}, "attestation: votes agree"),
        ({"attempt": 2, "verdict": 96}, "attestation: votes about different things"),
        ({"phase": AFTER, "verdict": 96}, "attestation: votes about different things"),
        ({"task": 2, "verdict": 96}, "attestation: votes about different things"),
    ],
)
def test_prove_double_vote__no_contradiction__reverts(
    network: Network, second: dict[str, Any], reason: str
) -> None:
    vote = Vote(1, BEFORE, b"\x01" * 32)
    call = double_vote(network, network.free_node(), vote, replace(vote, **second))
    assert network.reason(network.outsider, call) == reason


def test_prove_double_vote__two_nodes_or_no_node__reverts(network: Network) -> None:
    keys, other = list(network.nodes.values())[:2]
    vote = Vote(1, BEFORE, b"\x01" * 32)
    against = replace(vote, verdict=CONTRAINDICATED)
    call = double_vote(network, keys, vote, against, other)
    assert network.reason(network.outsider, call) == "attestation: votes of different nodes"
    stranger = double_vote(network, NodeKeys.derive("stranger"), vote, against)
    assert network.reason(network.outsider, stranger) == "attestation: not a node"


def test_prove_double_header__differing__whole_deposit_slashed(network: Network) -> None:
    task = network.reach("admitted")
    first = network.header(task, BEFORE)
    second = replace(first, evidence_root=b"\x09" * 31 + b"\x00")
    wholes = [one.whole(network.sign_header(one)) for one in (first, second)]
    call = network.attestation.functions.prove_double_header(*wholes)
    network.send(network.outsider, call)
    assert network.registry.functions.deposit(task.executor).call() == 0
    assert network.owed(network.outsider) == (UNIT + UNIT // 2) * 5 // 100
    assert network.reason(network.outsider, call) == "attestation: already proven"


def test_prove__double_header_and_double_vote__are_two_faults(network: Network) -> None:
    """Who has been proven one of them must not have the other for nothing."""
    task = network.reach("accepted")
    keys = network.nodes[task.executor]
    first = network.header(task, BEFORE)
    wholes = [
        one.whole(network.sign_header(one)) for one in (first, replace(first, nonce_root=bytes(32)))
    ]
    vote = Vote(task.id, BEFORE, b"\x01" * 32)
    votes = double_vote(network, keys, vote, replace(vote, verdict=CONTRAINDICATED))
    network.send(network.outsider, network.attestation.functions.prove_double_header(*wholes))
    once = network.reputation.functions.history(keys.address).call()[1]
    network.send(network.outsider, votes)
    assert network.reputation.functions.history(keys.address).call()[1] > once


def test_prove_double_header__no_contradiction__reverts(network: Network) -> None:
    task = network.reach("accepted")
    first = network.header(task, BEFORE)
    again = first.whole(network.sign_header(first))
    prove = network.attestation.functions.prove_double_header
    assert network.reason(network.outsider, prove(again, again)) == "attestation: headers agree"
    changes: tuple[dict[str, Any], ...] = (
        {"attempt": 2},
        {"phase": AFTER},
        {"task": task.id + 1},
        {"commitment": b"\x06" * 32},  # the id's task before a reorganisation
    )
    for changed in changes:
        other = replace(first, **changed)
        whole = other.whole(network.sign_header(other))
        assert network.reason(network.outsider, prove(again, whole)) == (
            "attestation: headers about different things"
        )


def test_prove_double_header__second_not_signed_by_the_node__reverts(network: Network) -> None:
    task = network.reach("accepted")
    first = network.header(task, BEFORE)
    second = replace(first, nonce_root=bytes(32))
    stranger = NodeKeys.derive("stranger")
    call = network.attestation.functions.prove_double_header(
        first.whole(network.sign_header(first)),
        second.whole(network.sign_header(second, stranger)),
    )
    assert network.reason(network.outsider, call) == "attestation: not signed by the node's root"


# --- silence and dissent ------------------------------------------------------------------------

VOTES_ON_THE_RUN: dict[str, dict[str, Any]] = {
    "dissent from AFTER": {"verdict": CONTRAINDICATED},
    "dissent from DURING": {"phase": DURING, "verdict": CONTRAINDICATED, "header": bytes(32)},
    "an affirming vote that was left out": {},
    "a vote on an earlier attempt": {"attempt": 7},
}


def left_out(network: Network, seat: int = 1) -> tuple[Task, Vote, NodeKeys]:
    """A task settled without one member's vote, what the others signed, and that member."""
    task = network.reach("admitted")
    settled = network.finish(task, [one for one in range(3) if one != seat])
    vote = Vote(task.id, AFTER, network.digest(network.header(task, AFTER)))
    return settled, vote, network.nodes[task.members[seat]]


def excuse_call(
    network: Network, task: Task, vote: Vote, keys: NodeKeys, seat: int = 1
) -> ContractFunction:
    return network.attestation.functions.excuse(
        list(task.members), seat, vote.as_tuple(), network.sign_vote(vote, keys)
    )


@pytest.mark.parametrize("said", VOTES_ON_THE_RUN.values(), ids=VOTES_ON_THE_RUN)
def test_excuse__any_vote_of_the_member__takes_the_loss_back_once(
    network: Network, said: dict[str, Any]
) -> None:
    reputation = network.reputation.functions
    task, vote, keys = left_out(network)
    member = task.members[1]
    silent = reputation.reputation(member).call()
    credit = reputation.credit(member).call()
    good, bad, _ = reputation.history(member).call()
    call = excuse_call(network, task, replace(vote, **said), keys)
    receipt = network.send(network.outsider, call)
    (change,) = network.reputation.events.ReputationChanged().process_receipt(receipt, DISCARD)
    assert (change["args"]["node"], change["args"]["cause"]) == (member, 10)
    assert reputation.reputation(member).call() == change["args"]["after"] > silent
    assert reputation.history(member).call()[:2] == [good, 0] != [good, bad]
    assert reputation.credit(member).call() == credit
    assert network.reason(network.outsider, call) == "reputation: seat was not silent"


def test_excuse__member_that_voted__has_nothing_to_take_back(network: Network) -> None:
    task, vote, _ = left_out(network)
    voter = network.nodes[task.members[0]]
    call = excuse_call(network, task, vote, voter, seat=0)
    assert network.reason(network.outsider, call) == "reputation: seat was not silent"
    everybody = network.reach("settled")
    vote = replace(vote, task=everybody.id)
    call = excuse_call(network, everybody, vote, network.nodes[everybody.members[1]])
    assert network.reason(network.outsider, call) == "reputation: seat was not silent"


def test_excuse__vote_on_before_or_another_task__proves_nothing(network: Network) -> None:
    task, vote, keys = left_out(network)
    before = excuse_call(network, task, replace(vote, phase=BEFORE), keys)
    assert network.reason(network.outsider, before) == "attestation: not a vote on the run"
    other = excuse_call(network, task, replace(vote, task=task.id + 1), keys)
    assert network.reason(network.outsider, other) == "reputation: seat was not silent"


def test_excuse__vote_of_somebody_else__reverts(network: Network) -> None:
    task, vote, _ = left_out(network)
    other = network.nodes[task.members[0]]
    call = excuse_call(network, task, vote, other)
    assert network.reason(network.outsider, call) == "attestation: signer does not hold the seat"
    call = excuse_call(network, task, vote, other, seat=3)
    assert network.reason(network.outsider, call) == "attestation: no such seat"


def test_excuse__committee_made_up__reverts(network: Network) -> None:
    """Else any node could have its reputation raised for a task that it had no seat in."""
    task, vote, _ = left_out(network)
    stranger = network.nodes[task.executor]
    made_up = replace(task, members=(task.members[0], task.executor, task.members[2]))
    call = excuse_call(network, made_up, vote, stranger)
    assert network.reason(network.outsider, call) == "reputation: not the committee"


def test_excuse__after_the_window__reverts(network: Network) -> None:
    task, vote, keys = left_out(network)
    at = task.step_at
    call = excuse_call(network, task, vote, keys)
    network.mine_to(at + SPAN)
    assert network.reason(network.outsider, call) == "reputation: too late to excuse"


def test_excuse__last_block_of_the_window__counts(network: Network) -> None:
    task, vote, keys = left_out(network)
    network.mine_to(task.step_at + SPAN - 1)
    network.send(network.outsider, excuse_call(network, task, vote, keys))
